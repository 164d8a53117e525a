"""`rollout`: iterate a system and keep what was asked for."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from unrolled.core import tree
from unrolled.core.seeds import generator
from unrolled.core.stop import Stop
from unrolled.core.system import System
from unrolled.core.trajectory import Trajectory

Record = Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]] | Sequence[str] | None
Kept = list[tuple[int, dict[str, Tensor]]]
Advance = Callable[[Any, range], tuple[Any, Kept]]


def rollout(
    system: System,
    input: Any = None,
    steps: int = 1,
    *,
    state: Any = None,
    record: Record = None,
    every: int = 1,
    until: Callable[[Any, Any, int], Stop | None] | None = None,
    grad: str | int = "none",
    max_bytes: int = 2**30,
    rng: torch.Generator | int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Iterate x_{t+1} = step(x_t, u_t) from `init` and record on the way.

    Args:
        system: anything that follows the `System` protocol.
        input: a list is one input per step; a function is called with the step index; anything else, a
            module included, is constant. `init` receives the input of step 0.
        steps: how many steps at most.
        state: where to start; by default `system.init(input of step 0)`.
        record: what to keep at t = 0 and at every multiple of `every`. None keeps every tensor of the state under
            its path (a lone tensor is named `"state"`); a function of the state is named `"value"`, or by its keys
            when it returns a dict; a dict of functions names them; a list of names picks the system's `readouts`
            or leaves. `{}` keeps nothing.
        every: steps between records.
        until: a stop rule, called as `until(before, after, step)` and answering with a `Stop` or None: `Settled`,
            `Halted`, or your own.
        grad: `"none"`; `"full"` keeps the whole graph; `"checkpoint"` recomputes about sqrt(steps) steps at a time;
            an int k keeps the graph of the last k steps (truncated back-propagation).
        max_bytes: refuse to record more than this.
        rng: a generator or a seed, handed to `init` and `step`.
        progress: called as `progress(step, steps)`.

    Returns:
        The trajectory. A NaN that was not in the initial state ends it with `stop.reason == "nonfinite"`, the step
        and the leaf, and a `RuntimeWarning`; the records up to there are kept.

    Raises:
        ValueError: arguments that make no sense together, or a recording beyond `max_bytes`.
        TypeError: `system` has no `init` or `step`, or a record is no tensor.

    Example:
        >>> class Decay:
        ...     def init(self, input, *, rng=None):
        ...         return torch.ones(1, dtype=torch.float64)
        ...     def step(self, state, input, *, rng=None):
        ...         return 0.9 * state + input
        >>> path = rollout(Decay(), input=0.0, steps=10, every=5)
        >>> [round(x, 4) for x in path["state"].flatten().tolist()], path.t.tolist()
        ([1.0, 0.5905, 0.3487], [0, 5, 10])
    """
    _check_arguments(system, input, steps, every, until, grad)
    rng, input_at = generator(rng), input_function(input)
    keeps_graph = grad != "none" and torch.is_grad_enabled()
    first_with_graph = 1 if isinstance(grad, str) else steps - grad + 1
    with torch.set_grad_enabled(keeps_graph and first_with_graph == 1):
        if state is None:
            state = system.init(None if isinstance(input, list) and not steps else input_at(0), rng=rng)
        elif getattr(system, "donates", False):
            state = tree.clone(state)
        read = _reader(system, state, record)
        recorder = _Recorder(max_bytes)
        recorder.add(0, read(state))
        recorder.refuse_early(1 + steps // every, known=until is None)
    advance, length = _advance(system, input_at, read, record, every, until, grad, steps, rng)
    reset = getattr(until, "reset", None)
    if reset is not None:
        reset()
    missing = _nan_leaves(state)
    stop = Stop("steps", steps)

    for start in range(0, steps, length):
        segment = range(start + 1, min(start + length, steps) + 1)
        if segment[0] == first_with_graph > 1:
            state = tree.detach(state)
        before = tree.clone(state) if until is not None and getattr(system, "donates", False) else state
        rng_before = None if rng is None else rng.get_state()
        with torch.set_grad_enabled(keeps_graph and segment[0] >= first_with_graph):
            state, kept = advance(state, segment)
        for step, values in kept:
            recorder.add(step, values)
        if progress is not None:
            progress(segment[-1], steps)
        if _nan_leaves(state) - missing:
            stop, state = _locate(system, before, state, input_at, segment, missing, rng, rng_before)
            warnings.warn(f"{type(system).__name__}: {stop}", RuntimeWarning, stacklevel=2)
            recorder.drop_after(stop.step)
            if recorder.kept[-1][0] != stop.step:
                recorder.add(stop.step, read(state))
            break
        ended = until(before, state, segment[-1]) if until is not None else None
        if ended is not None:
            stop = ended
            break
    t, records = recorder.finish()
    return Trajectory(t, records, state, stop, {"system": type(system).__name__, "every": every})


def input_function(input: Any) -> Callable[[int], Any]:
    """Step index -> input, from a list (one per step), a function, or a constant (a module is one)."""
    if isinstance(input, list):
        return input.__getitem__
    if callable(input) and not isinstance(input, torch.nn.Module):
        return input
    return lambda step: input


def _advance(system: System, input_at: Any, read: Any, record: Any, every: int, until: Any, grad: Any, steps: int,
             rng: Any) -> tuple[Advance, int]:  # fmt: skip
    """How to take a segment of steps, and how long a segment is: by stepping, recomputed, or fused."""

    def by_stepping(state: Any, segment: range, rng: Any = rng) -> tuple[Any, Kept]:
        kept: Kept = []
        for step in segment:
            state = system.step(state, input_at(step - 1), rng=rng)
            if step % every == 0:
                kept.append((step, read(state)))
        return state, kept

    def recomputed(state: Any, segment: range) -> tuple[Any, Kept]:
        body = _Replayed(by_stepping, rng)
        return cast(Any, checkpoint(body, state, segment, use_reentrant=False))

    def fused(state: Any, segment: range) -> tuple[Any, Kept]:
        inputs = [input_at(step - 1) for step in segment]
        if by_itself:
            state, series = run(state, inputs, len(segment), rng=rng, record=list(record))
            return state, [(step, {n: v[i] for n, v in series.items()}) for i, step in enumerate(segment)]
        state = run(state, inputs, len(segment), rng=rng)
        if record == {}:
            return state, [(step, {}) for step in segment if step % every == 0]
        return state, [(segment[-1], read(state))] if segment[-1] % every == 0 else []

    run: Any = getattr(system, "run", None) if grad == "none" and until is None else None
    by_itself = (
        every == 1 and tree.is_a(record, list | tuple) and set(record) <= set(getattr(system, "readouts", {}))
    )
    if run is not None:
        return fused, max(1, steps if by_itself or record == {} else every)
    if grad == "checkpoint":
        return recomputed, 1 if until is not None else max(1, math.isqrt(steps))
    return by_stepping, 1


class _Replayed:
    """Gives the recomputation the random numbers of the first pass, and leaves the generator as it found it."""

    def __init__(self, body: Any, rng: torch.Generator | None) -> None:
        self.body, self.rng, self.first = body, rng, True
        self.start = None if rng is None else rng.get_state()

    def __call__(self, state: Any, segment: range) -> Any:
        rng, now = self.rng, None
        if rng is not None and self.start is not None and not self.first:
            now = rng.get_state()
            rng.set_state(self.start)
        self.first = False
        try:
            return self.body(state, segment, rng)
        finally:
            if rng is not None and now is not None:
                rng.set_state(now)


class _Recorder:
    """Collects records within a byte limit."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.kept = max_bytes, Kept()
        self.bytes = 0

    def add(self, step: int, values: dict[str, Tensor]) -> None:
        for name, first in (self.kept[0][1] if self.kept else {}).items():
            if first.shape != values[name].shape:
                raise ValueError(
                    f"record {name!r} changed shape from {tuple(first.shape)} to {tuple(values[name].shape)} at step "
                    f"{step}: record a function of the state whose shape is constant"
                )
        self.kept.append((step, values))
        self.bytes += tree.nbytes(values)
        self._refuse(self.bytes, len(self.kept))

    def refuse_early(self, records: int, *, known: bool) -> None:
        """Before the first step rather than after the last, when the number of steps is known."""
        if known:
            self._refuse(self.bytes * records, records)

    def _refuse(self, total: int, records: int) -> None:
        if total > self.max_bytes:
            raise ValueError(
                f"{records} records take {total:,} bytes, more than max_bytes={self.max_bytes:,}: record a function of "
                "the state (record=...), record less often (every=...), or raise max_bytes"
            )

    def drop_after(self, step: int) -> None:
        self.kept = [entry for entry in self.kept if entry[0] <= step]

    def finish(self) -> tuple[Tensor, dict[str, Tensor]]:
        names = list(self.kept[0][1])
        records = {name: torch.stack([values[name] for _, values in self.kept]) for name in names}
        return torch.tensor([step for step, _ in self.kept]), records


def _reader(system: System, state: Any, record: Any) -> Callable[[Any], dict[str, Tensor]]:
    """A function state -> named tensors, own copies where the state may be overwritten or is larger than the record."""
    if record is None:
        record = [path or "state" for path, _ in tree.leaves(state)]
    if isinstance(record, str):
        record = [record]
    if tree.is_a(record, Sequence):
        readouts = getattr(system, "readouts", {})
        record = {name: readouts[name] if name in readouts else tree.reader(name, state) for name in record}
    copies = getattr(system, "donates", False) or callable(getattr(system, "run", None))

    def keep(name: str, value: Any) -> Tensor:
        if isinstance(value, bool | int | float):
            return torch.tensor(value)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"record {name!r} is a {type(value).__name__}; a record is a tensor, a number, or a dict of them"
            )
        if not torch.is_grad_enabled():
            value = value.detach()  # the state one starts from may require a gradient that nobody asked for
        partial_view = value.untyped_storage().nbytes() > value.numel() * value.element_size()
        return value.clone() if not value.requires_grad and (copies or partial_view) else value

    def read(state: Any) -> dict[str, Tensor]:
        if tree.is_a(record, Mapping):
            return {name: keep(name, fn(state)) for name, fn in record.items()}
        value = record(state)
        return {n: keep(n, v) for n, v in (value if tree.is_a(value, Mapping) else {"value": value}).items()}

    return read


def _nan_leaves(state: Any) -> set[str]:
    """Paths of leaves with a NaN. A sum is one cheap pass; only a NaN sum (NaN, or inf - inf) is looked at again."""
    with torch.no_grad():
        floats = [(p, x) for p, x in tree.leaves(state) if x.is_floating_point() or x.is_complex()]
        return {path or "state" for path, x in floats if x.sum().isnan() and x.isnan().any()}


def _locate(system: System, before: Any, after: Any, input_at: Any, segment: range, missing: set[str], rng: Any,
            rng_before: Any) -> tuple[Stop, Any]:  # fmt: skip
    """Name the step and leaf of the first new NaN, and that state, stepping once more through a longer segment."""
    hint = "look at it one step earlier; try a smaller step size or float64"
    step, state = segment[-1], after
    if len(segment) > 1 and not getattr(system, "donates", False):
        now = None if rng is None else rng.get_state()
        if rng is not None:
            rng.set_state(rng_before)
        with torch.no_grad():
            state = before
            for step in segment:
                state = system.step(state, input_at(step - 1), rng=rng)
                if _nan_leaves(state) - missing:
                    break
        if rng is not None:
            rng.set_state(now)
    found = _nan_leaves(state) - missing
    if not found:  # stepping disagrees with the system's own run: report what the run left
        step, state, found = segment[-1], after, _nan_leaves(after) - missing
    return Stop("nonfinite", step, min(found), f"NaN appeared; {hint}"), state


def _check_arguments(system: Any, input: Any, steps: Any, every: Any, until: Any, grad: Any) -> None:
    for method in ("init", "step"):
        if not callable(getattr(system, method, None)):
            raise TypeError(
                f"{type(system).__name__} is no System: it has no {method}(); see unrolled.System"
            )
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps is a non-negative int, got {steps!r}")
    if not isinstance(every, int) or every < 1:
        raise ValueError(f"every is an int of at least 1, got {every!r}")
    if tree.is_a(input, list) and len(input) != steps:
        raise ValueError(
            f"a list is one input per step: got {len(input)} inputs for {steps} steps "
            "(pass a tuple or a tensor for one constant input)"
        )
    if grad not in ("none", "full", "checkpoint") and (isinstance(grad, bool) or not isinstance(grad, int)):
        raise ValueError(f'grad is "none", "full", "checkpoint" or an int (the last k steps), got {grad!r}')
    if isinstance(grad, int) and not 0 <= grad <= steps:
        raise ValueError(f"grad={grad} asks for the graph of more steps than the {steps} there are")
    if isinstance(grad, int) and until is not None:
        raise ValueError("grad=k must know the last step, which until= does not tell; use full or checkpoint")
    if grad != "none" and getattr(system, "donates", False):
        raise ValueError(f'{type(system).__name__} overwrites its state (donates = True): use grad="none"')
