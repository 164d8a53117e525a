"""Citations: the papers that studies answer to, and the methods they use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from unrolled.runs.config import nearest


@dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
        title: its title.
        arxiv: its number there, e.g. `"2606.04662"`; empty if it has none.
        bibtex: one BibTeX entry; made from authors, title and year where a study gives none.
        authors: their names, with commas between.
        year: of publication.
    """

    title: str = ""
    arxiv: str = ""
    bibtex: str = ""
    authors: str = ""
    year: str = ""

    @property
    def url(self) -> str:
        """Its page; empty without an arXiv number."""
        return f"https://arxiv.org/abs/{self.arxiv}" if re.fullmatch(r"[\w./-]+", self.arxiv) else ""


def paper(source: Any) -> Paper:
    """The paper of a study: its `PAPER`, a mapping or an object with `title`, `arxiv`, `bibtex`,
    `authors` and `year`.

    Args:
        source: `PAPER`, or None for a study without a paper.

    Example:
        >>> paper({"title": "On X", "arXiv": "2606.04662"}).url
        'https://arxiv.org/abs/2606.04662'
    """
    if source is None:
        return Paper()
    pairs = source if isinstance(source, Mapping) else {name: getattr(source, name) for name in dir(source)}
    lower = {str(name).lower(): str(value) for name, value in pairs.items() if isinstance(value, str | int)}
    found = Paper(
        title=lower.get("title", ""),
        arxiv=re.sub(r"^arxiv:", "", lower.get("arxiv", ""), flags=re.IGNORECASE),
        bibtex=lower.get("bibtex", "").strip(),
        authors=lower.get("authors", ""),
        year=lower.get("year", ""),
    )
    return found if found.bibtex else replace(found, bibtex=_entry(found))


def _entry(found: Paper) -> str:
    """A BibTeX entry from authors, title and year; empty when one of them is missing."""
    names = [name.strip() for name in found.authors.split(",") if name.strip()]
    if not (names and found.title and found.year):
        return ""
    first = re.sub(r"\W", "", found.title.split()[0])
    surname = re.sub(r"\W", "", names[0].split()[-1])
    key = f"{surname}{found.year}{first}".lower()
    fields = {"author": " and ".join(names), "title": f"{{{found.title}}}", "year": found.year}
    if found.arxiv:
        fields |= {"eprint": found.arxiv, "archivePrefix": "arXiv"}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{key},\n{lines}\n}}"


def bibtex(*sources: Any) -> str:
    """BibTeX of methods and papers, each once, in the order given.

    Args:
        sources: names of methods (the keys of `METHODS`), or the `PAPER` of a study. Nothing gives every method.

    Raises:
        ValueError: an unknown method (the nearest is suggested), or a paper without BibTeX.

    Example:
        >>> print(bibtex("polar_express").splitlines()[0])
        @misc{amsel2025polar,
        >>> bibtex("moun")
        Traceback (most recent call last):
        ValueError: no method 'moun'; did you mean 'muon'? There are muon, ...
    """
    entries: list[str] = []
    for source in sources or METHODS:
        if isinstance(source, str):
            if source not in METHODS:
                raise ValueError(
                    f"no method {source!r}{nearest(source, METHODS)} There are {', '.join(METHODS)}"
                )
            entries.append(METHODS[source])
            continue
        found = paper(source)
        if not found.bibtex:
            raise ValueError(
                f"the paper {found.title or source!r} has no BibTeX: give its PAPER authors and a year, or a `bibtex`"
            )
        entries.append(found.bibtex)
    return "\n\n".join(dict.fromkeys(entries))


METHODS: dict[str, str] = {
    "muon": """@misc{jordan2024muon,
  author = {Jordan, Keller and Jin, Yuchen and Boza, Vlado and You, Jiacheng and Cesista, Franz and Newhouse, Laker
            and Bernstein, Jeremy},
  title = {Muon: An optimizer for hidden layers in neural networks},
  year = {2024},
  url = {https://kellerjordan.github.io/posts/muon/}
}""",
    "polar_express": """@misc{amsel2025polar,
  author = {Amsel, Noah and Persson, David and Musco, Christopher and Gower, Robert M.},
  title = {The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon Algorithm},
  year = {2025},
  eprint = {2505.16932},
  archivePrefix = {arXiv}
}""",
    "match_rms": """@misc{liu2025muon,
  author = {Liu, Jingyuan and others},
  title = {Muon is Scalable for {LLM} Training},
  year = {2025},
  eprint = {2502.16982},
  archivePrefix = {arXiv}
}""",
    "adam": """@inproceedings{kingma2015adam,
  author = {Kingma, Diederik P. and Ba, Jimmy},
  title = {Adam: A Method for Stochastic Optimization},
  booktitle = {International Conference on Learning Representations},
  year = {2015},
  eprint = {1412.6980},
  archivePrefix = {arXiv}
}""",
    "adamw": """@inproceedings{loshchilov2019decoupled,
  author = {Loshchilov, Ilya and Hutter, Frank},
  title = {Decoupled Weight Decay Regularization},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
  eprint = {1711.05101},
  archivePrefix = {arXiv}
}""",
    "directional_sharpness": """@misc{pan2023toward,
  author = {Pan, Yan and Li, Yuanzhi},
  title = {Toward Understanding Why Adam Converges Faster Than {SGD} for Transformers},
  year = {2023},
  eprint = {2306.00204},
  archivePrefix = {arXiv}
}""",
    "kinase": """@misc{oreilly2026neocortex,
  author = {O'Reilly, Randall C.},
  title = {This is how the Neocortex Learns},
  year = {2026},
  eprint = {2606.08720},
  archivePrefix = {arXiv}
}""",
    "axon": """@misc{axon2026,
  author = {{The emer project}},
  title = {Axon: Spiking Neural Models of the Neocortex, in {Go}},
  year = {2026},
  note = {commit 774c01e1}
}""",
    "centered_nudging": """@article{laborieux2021scaling,
  author = {Laborieux, Axel and others},
  title = {Scaling Equilibrium Propagation to Deep {ConvNets} by Drastically Reducing Its Gradient Estimator Bias},
  journal = {Frontiers in Neuroscience},
  volume = {15},
  year = {2021},
  doi = {10.3389/fnins.2021.633674}
}""",
    "layered_chl": """@article{xie2003equivalence,
  author = {Xie, Xiaohui and Seung, H. Sebastian},
  title = {Equivalence of Backpropagation and Contrastive {Hebbian} Learning in a Layered Network},
  journal = {Neural Computation},
  volume = {15},
  number = {2},
  pages = {441--454},
  year = {2003}
}""",
    "kolen_pollack": """@inproceedings{kolen1994backpropagation,
  author = {Kolen, John F. and Pollack, Jordan B.},
  title = {Backpropagation without Weight Transport},
  booktitle = {IEEE International Conference on Neural Networks},
  year = {1994}
}""",
    "feedback_alignment": """@article{lillicrap2016random,
  author = {Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.},
  title = {Random Synaptic Feedback Weights Support Error Backpropagation for Deep Learning},
  journal = {Nature Communications},
  volume = {7},
  year = {2016}
}""",
    "hessian_vector_product": """@article{pearlmutter1994fast,
  author = {Pearlmutter, Barak A.},
  title = {Fast Exact Multiplication by the {Hessian}},
  journal = {Neural Computation},
  volume = {6},
  number = {1},
  pages = {147--160},
  year = {1994}
}""",
    "ppo": """@misc{schulman2017proximal,
  author = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg},
  title = {Proximal Policy Optimization Algorithms},
  year = {2017},
  eprint = {1707.06347},
  archivePrefix = {arXiv}
}""",
    "gae": """@inproceedings{schulman2016high,
  author = {Schulman, John and Moritz, Philipp and Levine, Sergey and Jordan, Michael and Abbeel, Pieter},
  title = {High-Dimensional Continuous Control Using Generalized Advantage Estimation},
  booktitle = {International Conference on Learning Representations},
  year = {2016}
}""",
    "arpack": """@book{lehoucq1998arpack,
  author = {Lehoucq, Richard B. and Sorensen, Danny C. and Yang, Chao},
  title = {{ARPACK} Users' Guide: Solution of Large-Scale Eigenvalue Problems with Implicitly Restarted {Arnoldi}
           Methods},
  publisher = {SIAM},
  year = {1998}
}""",
}
"""Methods that the package uses: name -> BibTeX."""
