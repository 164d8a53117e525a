"""What every parameter class does with bad numbers: names the field, the value, and what was expected."""

import dataclasses
import math
from typing import Any


def validate(params: Any) -> None:
    """Refuse numbers that no cell can have; every parameter class calls it from `__post_init__`.

    A field called `tau` or ending in `_tau` is a time constant of at least one step. All numbers are finite, and those
    that are amounts (neither a voltage, a slope nor an offset) are not negative.

    Raises:
        ValueError: the first field that fails.
    """
    signed = getattr(type(params), "SIGNED", ())
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        name = f"{type(params).__name__}.{field.name}={value}"
        if not math.isfinite(value):
            raise ValueError(f"{name} is not finite")
        if (field.name == "tau" or field.name.endswith("_tau")) and value < 1:
            raise ValueError(f"{name}: a time constant is a number of steps (ms, or trials) and at least 1")
        if value < 0 and field.name not in signed:
            raise ValueError(f"{name}: expected 0 or more")
