"""Importers: one file per format, and `load`, which tells them apart."""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("cascade", "inspect", "messages", "table"),
    names={"load": "_load", "letter": "answers"},
)
