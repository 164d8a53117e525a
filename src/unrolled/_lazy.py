"""Lazy public names for packages (PEP 562): a module loads when its name is first read."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(
    package: str, *, submodules: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Build `__getattr__`, `__dir__` and `__all__` for a package.

    Args:
        package: the package's `__name__`.
        submodules: public sub-modules, `package.<submodule>`.
        names: public name -> sub-module that defines it. A sub-package may define it lazily too.

    Returns:
        The three module attributes, in that order.
    """
    names = dict(names or {})
    public = sorted({*submodules, *names})

    def __getattr__(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name in names:
            return getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(public)}")

    def __dir__() -> list[str]:
        return public

    return __getattr__, __dir__, public
