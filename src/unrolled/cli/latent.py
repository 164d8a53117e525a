"""`unrolled latent methods`: the survey's taxonomy with what is here."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from unrolled.cli._console import flow, out

HELP = """Reasoning in continuous latent space.

  methods        the survey's taxonomy (2604.02029): which methods are here, and where each stands

example:
  unrolled latent methods"""

METHODS = """The methods that are here, by where the survey (The Latent Space, 2604.02029, section 4) puts them: where the latent
lives (architecture), what it is (representation), what is done with it (computation), and when it is learned
(optimization). Methods that the survey names and that are not here are listed below the table.

example:
  unrolled latent methods"""

ABSENT = {
    "looped or recurrent depth": "Huginn, Ouro, LoopFormer, PHD, PonderLM2 (looped.LT2 is a backbone with loops)",
    "auxiliary model": "SoftCoT, HCoT, SemCoT, CTRLS, LaViT",
    "external priors": "KaVa, LaSER, 3DThinker, SkiLa, Mull-Tokens",
    "learnable": "MARCOS, UniCog, LatentGuard, KVCA, Interlat, MCOUT",
    "hybrid traces": "Token Assorted, Latent-SFT, EBM-CoT, iCLP",
    "adaptive": "TaH, LWS, SpiralFormer, AdaPonderLM, System-1.5, FR-Ponder",
    "interleaved modality": "Mirage, LVR, VisMem, Monet, SkiLa",
    "pre-training": "CoCoMix, LARES, LAPA, LoopRPT",
    "inference": "LTPO, LatentSeek, LatentEvolve, nabla-Reasoner",
}
"""Families of the survey, and methods of each that are not here."""


def main(argv: Sequence[str]) -> int:
    """Run `unrolled latent`."""
    words = [*argv]
    if not words or words[0] in ("-h", "--help"):
        out().print(Text("usage: unrolled latent methods\n", style="bold"))
        print(flow(HELP))
        return 0
    if words[0] != "methods":
        raise ValueError(f"latent has no {words[0]!r}; it has: methods")
    if "-h" in words or "--help" in words:
        out().print(Text("usage: unrolled latent methods\n", style="bold"))
        print(flow(METHODS))
        return 0
    from unrolled.latent import methods

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("method", "architecture", "representation", "computation", "optimization", "paper"):
        table.add_column(name, no_wrap=name in ("method", "paper"), overflow="fold")
    for name in methods.names():
        method = methods.load(name)
        cell = method.cell
        table.add_row(
            name, cell.architecture, cell.representation, cell.computation, cell.optimization, method.paper
        )
    table.add_row(
        "superposition",
        "backbone",
        "internal: hidden state",
        "expanded: width",
        "none: weights are written down",
        "2505.12514",
    )
    out().print(table)
    out().print()
    out().print(Text("not here", style="bold"))
    for family, named in ABSENT.items():
        out().print(Text(f"  {family}: {named}"))
    return 0
