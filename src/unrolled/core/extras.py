"""Optional dependencies: imported where they are needed, with an error that names the extra."""

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: its import name, e.g. `"matplotlib.pyplot"`.
        extra: the extra of `unrolled` that installs it.

    Raises:
        ImportError: the module is not installed; the message names the command that installs it.

    Example:
        >>> require("math", extra="report").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        raise ImportError(
            f"this needs {root!r} ({error}); install it with: pip install 'unrolled[{extra}]'"
        ) from error
