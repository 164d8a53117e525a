"""Why a rollout ended, and rules that end it early."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.core import tree


@dataclass(frozen=True)
class Stop:
    """Why and where a rollout ended. Failure is data.

    Attributes:
        reason: `"steps"` (all were taken), `"settled"`, `"halted"`, `"nonfinite"`, or a rule's own word.
        step: how many steps had been taken.
        where: the leaf, layer, agent or species concerned; empty when none is.
        hint: what to try; empty when nothing went wrong.
    """

    reason: str
    step: int
    where: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        """False when the rollout ended in a failure."""
        return self.reason != "nonfinite"

    def __str__(self) -> str:
        parts = [f"{self.reason} at step {self.step}", self.where and f"in {self.where}", self.hint]
        return ": ".join(filter(None, [" ".join(filter(None, parts[:2])), parts[2]]))


class Settled:
    """Stop when the state no longer moves: max |x_{t+1} - x_t| <= tol for `patience` steps in a row.

    A rule is stateful; `rollout` calls `reset()` first.

    Args:
        tol: in the units of the state.
        of: what to watch: a path or a function of the state; every floating-point leaf when None.
        patience: steps in a row.

    Raises:
        ValueError: `tol` is negative or `patience` below 1.
    """

    def __init__(
        self, tol: float, of: "str | Callable[[Any], Tensor] | None" = None, *, patience: int = 1
    ) -> None:
        if not tol >= 0:
            raise ValueError(f"tol is a non-negative number in the units of the state, got {tol}")
        if patience < 1:
            raise ValueError(f"patience counts steps in a row and is at least 1, got {patience}")
        self.tol, self.of, self.patience = tol, of, patience
        self._quiet = 0

    def reset(self) -> None:
        """Forget the steps counted so far."""
        self._quiet = 0

    def __call__(self, before: Any, after: Any, step: int) -> Stop | None:
        """Compare two states in a row."""
        if self.of is None:
            pairs = [
                (b, a)
                for (_, b), (_, a) in zip(tree.leaves(before), tree.leaves(after))
                if a.is_floating_point() or a.is_complex()
            ]
        else:
            read = tree.reader(self.of, after)
            pairs = [(read(before), read(after))]
        if not pairs:
            raise ValueError("the state has no floating-point tensor to watch; say what to read with of=")
        with torch.no_grad():
            moves = [(a - b).abs().max() for b, a in pairs if a.numel()]
            quiet = all(bool(move <= self.tol) for move in moves)
        self._quiet = self._quiet + 1 if quiet else 0
        return Stop("settled", step) if self._quiet >= self.patience else None


class Halted:
    """Stop when a function of the state says so.

    Args:
        fn: state -> bool (or a one-element tensor).
    """

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, before: Any, after: Any, step: int) -> Stop | None:
        """Ask the function."""
        return Stop("halted", step) if bool(self.fn(after)) else None
