# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryIsInstance=false
"""What an instrument reads from a trajectory: one tensor with time first, checked before anything is computed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory

Of = str | Callable[[Any], Any] | None
"""What to read: a record by name, a function of what was recorded at one time, or the only record there is."""


def series(trajectory: Trajectory, of: Of, *, instrument: str, least: int = 1) -> tuple[str, Tensor]:
    """The name and `[n, ...]` values that `of` selects, outside any graph.

    Args:
        trajectory: where to read.
        of: a record name; a function, called with what was recorded at each time (the tensor when there is one
            record, else a dict name -> tensor); None reads the only record.
        instrument: who asks, for the messages.
        least: how many records it needs.

    Raises:
        TypeError: no trajectory, or a value that is no tensor.
        KeyError: no such record.
        ValueError: several records and no `of`, too few records, or values that change shape.
    """
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"{instrument} reads a Trajectory, got {type(trajectory).__name__}: make one with rollout(...) or "
            "Trajectory.from_records(t, {...})"
        )
    if len(trajectory) < least:
        raise ValueError(f"{instrument} needs at least {least} records, got {len(trajectory)}")
    if callable(of):
        return getattr(of, "__name__", "value"), _apply(trajectory, of)
    if of is None:
        if len(trajectory.records) != 1:
            names = ", ".join(map(repr, trajectory.records)) or "none"
            raise ValueError(f"{instrument} reads one record and there are {names}: say which with of=")
        of = next(iter(trajectory.records))
    if not isinstance(of, str):
        raise TypeError(f"of= is a record name or a function, got {type(of).__name__}: {of!r}")
    return of, trajectory[of].detach()


def _apply(trajectory: Trajectory, of: Callable[[Any], Any]) -> Tensor:
    """Call `of` at each time and stack what it returns."""
    made: list[Tensor] = []
    single = next(iter(trajectory.records)) if len(trajectory.records) == 1 else None
    with torch.no_grad():
        for i, t in enumerate(trajectory.t.tolist()):
            here = {name: values[i].detach() for name, values in trajectory.records.items()}
            value = of(here if single is None else here[single])
            if not isinstance(value, Tensor | int | float | complex):
                raise TypeError(f"of= returned a {type(value).__name__} at t = {t}; expected a tensor")
            made.append(torch.as_tensor(value))
            if made[-1].shape != made[0].shape:
                raise ValueError(
                    f"of= changed shape from {tuple(made[0].shape)} to {tuple(made[-1].shape)} at t = {t}: read "
                    "something whose shape is constant"
                )
    return torch.stack(made)


def floats(values: Tensor, name: str, *, instrument: str) -> Tensor:
    """Values as float64 vectors `[n, numel]`; a complex number counts as two real ones.

    Raises:
        TypeError: integers or booleans.
        ValueError: nothing to read: a tensor without entries.
    """
    if not (values.is_floating_point() or values.is_complex()):
        raise TypeError(
            f"{instrument} needs floating-point values and {name!r} is {str(values.dtype).removeprefix('torch.')}: "
            "read something else with of=, or convert it with of=lambda x: x.double()"
        )
    if values[0].numel() == 0:
        raise ValueError(f"{name!r} has no entries: its shape is {tuple(values.shape)}")
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values.reshape(len(values), -1).double()


def first_bad(values: Tensor) -> int | None:
    """Index along time of the first entry that is NaN or infinite."""
    if not (values.is_floating_point() or values.is_complex()):
        return None
    bad = ~torch.isfinite(values).reshape(len(values), -1).all(dim=1)
    return int(bad.nonzero()[0]) if bool(bad.any()) else None
