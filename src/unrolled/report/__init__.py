"""Reports: claims in the terminal, one self-contained HTML file per run, the claims page of the documentation.

>>> from unrolled import report
>>> print(report.bibtex("adam").splitlines()[0])
@inproceedings{kingma2015adam,
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("citations", "claims_page", "figures", "html", "section", "terminal", "text"),
    names={
        "bibtex": "citations",
        "print_claims": "terminal",
        "write": "html",
        "write_many": "html",
    },
)
