"""Methods, one file each, named as in the literature. A file holds one `Method`; `load` finds it by the file's name.

>>> load("coconut").paper
'2412.06769'
"""

import importlib
import pkgutil

from unrolled.latent.protocol import Method


def names() -> list[str]:
    """All methods that are here.

    Example:
        >>> "coconut" in names()
        True
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> type[Method]:
    """The method of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in names():
        raise ValueError(
            f"there is no method {name!r}; there are {', '.join(names())}, or pass a Method of your own"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    [found] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    return found
