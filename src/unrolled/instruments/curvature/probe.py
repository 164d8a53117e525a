# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnnecessaryIsInstance=false
"""`Probe`: account for the steps of an optimizer during training, now and then, without disturbing it.

    probe = Probe(model, optimizer, loss_fn)
    ...
        with probe.step(batch):
            loss.backward()
            optimizer.step()
    ...
    probe.records

Every `every`-th step is probed. What the block does to the parameters is Z = W_before - W_after: clipping, scaling,
weight decay, momentum and rounding included. Gradients are computed afresh at W_before, as optimizers overwrite
`p.grad`, scalers scale it and clipping clips it. Outside those steps the block costs a remainder and a comparison.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unrolled.core import Trajectory, require
from unrolled.core.seeds import RngState
from unrolled.instruments.curvature.assemble import Plan, assemble, check_choices
from unrolled.instruments.curvature.batches import leading
from unrolled.instruments.curvature.decay import Decay, coefficients, unwrapped_optimizer
from unrolled.instruments.curvature.groups import Groups, Scope, in_scope, partition, trainable
from unrolled.instruments.curvature.measure import Step, Sums, measure, warn
from unrolled.instruments.curvature.objective import LossFn, Objective
from unrolled.instruments.curvature.reading import SCALARS, StepReading
from unrolled.instruments.curvature.scene import Scenes
from unrolled.instruments.curvature.sink import as_sink, numbers
from unrolled.instruments.curvature.state import displaced, preserved
from unrolled.instruments.curvature.step import checked_model


class Probe:
    """Account for every `every`-th optimizer step of a training run.

    Cost: p / every of the training time for a probe of p gradient steps; `fraction` scales p. Measured on a GPT on one
    CPU core, p = 4 in all (the jet, L(W), L(W-Z), and a gradient for z_decay), so 0.8 % at the defaults; 4 to 5 by
    double backward; 12 with `split="signs"`, 2.4 %; with `split="exact"` it grows with the number of groups (12 for
    six, 18 for fourteen). Extra memory: copies of W, Z and one gradient, and with the jet a few activations; double
    backward holds about four times the activations of a gradient step, so give it `fraction=0.25` where memory is tight.

    Args:
        model: the module that trains. DistributedDataParallel: sums are added over its processes, and all of them get
            the same record. `torch.compile`: the module inside is probed, eagerly.
        optimizer: any `torch.optim.Optimizer`, or a sequence of them.
        loss_fn: `loss_fn(model, batch)` giving a scalar or `(summed loss, count)`. It is called with the module inside
            the wrappers, under the autocast that the step's own forward pass ran under.
        every: steps between probes; step 0 is probed.
        fraction: share of the batch that is probed: whole micro-batches, or the first rows of one.
        split: None, `"exact"` or `"signs"`, as in `decompose`.
        groups: as in `decompose`.
        scope: as in `decompose`; `actual` is then the change that the part of Z in scope makes.
        method: as in `decompose`.
        draws: as in `decompose`.
        rows: whether values per group are needed (they rule out the jet).
        seed: of the signs.
        sink: where records go as they are made: a list, `f(step, numbers)`, a TensorBoard writer, or a W&B or trackio
            run. On rank 0 only.
        decay: `f(optimizer, group) -> c` with z_decay = c W, for optimizers that `curvature.decay` does not know.
        process_group: whose processes the batch is spread over; that of a DistributedDataParallel wrapper when None.

    Attributes:
        records: the `StepReading`s so far.
        steps: blocks completed so far.

    Raises:
        ValueError: choices that make no sense, overlapping groups, or an empty scope.
        TypeError: no module, optimizer or sink.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 3.0)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
        >>> loss_fn = lambda model, x: (model(x).square().sum(), len(x))
        >>> probe = Probe(model, optimizer, loss_fn, every=2)
        >>> for _ in range(3):
        ...     batch = torch.ones(4, 1)
        ...     total, count = loss_fn(model, batch)
        ...     optimizer.zero_grad()
        ...     with probe.step(batch):
        ...         (total / count).backward()
        ...         optimizer.step()
        >>> [(r.step, r.gain, r.penalty, r.actual) for r in probe.records]    # w: 3, 1.5, .75; G = 2w, Z = w/2
        [(0, 9.0, 2.25, 6.75), (2, 0.5625, 0.140625, 0.421875)]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        loss_fn: LossFn,
        every: int = 500,
        fraction: float = 1.0,
        split: str | None = None,
        *,
        groups: Groups | None = None,
        scope: Scope = "all",
        method: str = "auto",
        draws: int | None = 4,
        rows: bool = False,
        seed: int = 0,
        sink: Any = None,
        decay: Decay | None = None,
        process_group: Any = None,
    ) -> None:
        check_choices(method, split, draws)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every={every!r}; expected the number of steps between probes, >= 1")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction}; expected a share of the batch, 0 < fraction <= 1")
        if not callable(loss_fn):
            raise TypeError(f"loss_fn is called as loss_fn(model, batch), got {type(loss_fn).__name__}")
        self.model = checked_model(model)
        several = optimizer if isinstance(optimizer, Sequence) else [optimizer]
        self.optimizers = [unwrapped_optimizer(one) for one in several]
        for one in self.optimizers:
            if not isinstance(one, torch.optim.Optimizer):
                raise TypeError(
                    f"optimizer is a torch.optim.Optimizer or a list of them, got {type(one).__name__}"
                )
        partition(
            self.model, in_scope(self.model, scope), groups
        )  # complain now rather than at the first probe
        self.loss_fn, self.every, self.fraction, self.split = loss_fn, every, fraction, split
        self.groups, self.scope, self.method, self.draws = groups, scope, method, draws
        self.rows, self.seed, self.decay = rows, seed, decay
        self.sink = None if sink is None else as_sink(sink)
        self.records: list[StepReading] = []
        self.steps = 0
        self._attempts = 0
        self._resolved: tuple[str, bool] | None = None
        self._process_group = process_group or _group_of(model)
        self._idle = _Idle(self)
        self._scenes = Scenes(model)
        self._arm()

    @property
    def due(self) -> bool:
        """Whether the coming step is to be probed."""
        return self.steps % self.every == 0

    def forward_begins(self) -> None:
        """Note the random state and autocast of a forward pass that is about to run.

        The probe notes them itself when the model is called; this is for loops that call something else.
        """
        if self.due:
            self._scenes.note()

    def step(self, batch: Any = None) -> "_Idle | _Probed":
        """A context manager for one optimizer step: backward, clipping, scaling and `optimizer.step()` go inside.

        The forward pass may be inside or before it.

        Args:
            batch: what `loss_fn` takes. A list is a list of micro-batches (gradient accumulation); None is for
                `loss_fn(model)`. A list of tensors that the model saw in one call, as data loaders make, is one batch.
        """
        return _Probed(self, batch) if self.due else self._idle

    def trajectory(self) -> Trajectory:
        """The records over steps, for other instruments.

        Raises:
            ValueError: there are none yet.
        """
        if not self.records:
            raise ValueError("no step has been probed yet")
        scalars = [{**dict.fromkeys(SCALARS, float("nan")), **r.scalars()} for r in self.records]
        columns = {
            name: torch.tensor([float(s[name]) for s in scalars], dtype=torch.float64) for name in SCALARS
        }
        return Trajectory.from_records(torch.tensor([r.step or 0 for r in self.records]), columns)

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` with one row per record.

        Raises:
            ImportError: pandas is not installed (extra `report`).
        """
        pandas = require("pandas", extra="report")
        text = ("method", "status", "reason")
        return pandas.DataFrame(
            [
                {"step": r.step, **r.scalars(), **{name: getattr(r, name) for name in text}}
                for r in self.records
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """Steps and records, in plain numbers, strings and tensors."""
        return {"steps": self.steps, "records": [record.state_dict() for record in self.records]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.steps = int(state["steps"])
        self.records = [StepReading.from_state_dict(record) for record in state["records"]]
        self._arm()

    def _arm(self) -> None:
        """Watch the forward passes of the coming step if it is to be probed."""
        self._scenes.clear()
        if self.due:
            self._scenes.watch()

    def _advance(self) -> None:
        self.steps += 1
        self._arm()

    def _keep(self, reading: StepReading) -> None:
        self.records.append(reading)
        main = self._process_group is None or dist.get_rank(self._process_group) == 0
        if self.sink is not None and main:
            self.sink(reading.step or 0, numbers(reading))


class _Idle:
    """A step that is not probed."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def __enter__(self) -> "_Idle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._probe.steps += 1
            if self._probe.steps % self._probe.every == 0:
                self._probe._arm()


class _Probed:
    """A step that is probed. `batch` may be set up to the end of the block."""

    def __init__(self, probe: Probe, batch: Any) -> None:
        self.batch = batch
        self._probe = probe
        self._hooks: list[Any] = []
        self._coefficients: dict[int, float] = {}
        self._unknown: set[str] = set()
        self._stepped = False

    def __enter__(self) -> "_Probed":
        probe = self._probe
        self._params = trainable(probe.model)
        self._before = [p.detach().clone() for p in self._params.values()]
        self._rng = RngState.capture()
        for optimizer in probe.optimizers:
            self._about_to_step(
                optimizer
            )  # again at the step itself, unless it has begun (Lightning's closures)
            self._hooks.append(optimizer.register_step_pre_hook(self._about_to_step))
            self._hooks.append(optimizer.register_step_post_hook(self._has_stepped))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        probe = self._probe
        try:
            if kind is None:
                probe._keep(self._read())
        finally:
            del self._before, self._params
            if kind is None:
                probe._advance()
            else:
                probe._arm()  # training ends, or tries this step again

    def _about_to_step(self, optimizer: Any, *_: Any) -> None:
        found, unknown = coefficients([optimizer], self._probe.decay)
        self._coefficients |= found
        self._unknown |= unknown

    def _has_stepped(self, *_: Any) -> None:
        self._stepped = True

    def _read(self) -> StepReading:
        """Probe; a failure of the very first probe is raised, later ones become records."""
        probe = self._probe
        first = probe._attempts == 0
        probe._attempts += 1
        failure: Exception | None = None
        reading: StepReading | None = None
        try:
            reading = self._measure()
        except Exception as error:
            failure = error
        if reading is not None:
            return reading
        assert failure is not None
        if first:
            raise failure
        reason = f"{type(failure).__name__}: {failure}"
        warn(f"the curvature probe failed at step {probe.steps} and training goes on: {reason}")
        return StepReading(
            status="failed", reason=reason, step=probe.steps, flagged=True, method=probe.method
        )

    def _measure(self) -> StepReading:
        probe = self._probe
        account: _Account | None = None
        sums: Sums | None = None
        failure: Exception | None = None
        try:
            account = self._account()
            sums = self._sums(account)
        except Exception as error:
            failure = error
        sums = _agree(sums, failure, probe._process_group, self._before[0].device)
        assert account is not None
        if sums.method != "jet":
            probe._resolved = (sums.method, sums.math_attention)
        reading = assemble(
            sums,
            account.step,
            account.plan,
            account.labels,
            account.before,
            scope=probe.scope,
            notes=(*account.notes, *self._decay_notes()),
            number=probe.steps,
        )
        if reading.status == "undefined" and not reading.norm:
            why = (
                "the step changed nothing"
                if self._stepped
                else "optimizer.step() was not called (a gradient scaler that finds an overflow skips it)"
            )
            reading.reason = f"the update is zero: {why}"
        return reading

    def _account(self) -> "_Account":
        """What there is to measure: Z and W in scope, groups, vectors and batches."""
        probe = self._probe
        wanted = set(in_scope(probe.model, probe.scope))
        chosen = [(name, p, w) for (name, p), w in zip(self._params.items(), self._before) if name in wanted]
        labels, blocks = partition(probe.model, [name for name, _, _ in chosen], probe.groups)
        method = probe._resolved[0] if probe._resolved else probe.method
        plan = Plan.make(
            probe.split,
            len(labels),
            draws=probe.draws,
            seed=probe.seed + probe.steps,
            totals=method == "jet" or (method == "auto" and not probe.rows),
        )
        step = Step(
            update=[_difference(w, p.detach()) for _, p, w in chosen],
            after=[p.detach() for _, p, _ in chosen],
            blocks=blocks,
            n_groups=len(labels),
            signs=plan.signs,
            whole=plan.whole,
            decay=[self._coefficients.get(id(p), 0.0) for _, p, _ in chosen],
        )
        batches, rng, notes = self._batches()
        params = {name: p for name, p, _ in chosen}
        return _Account(step, plan, labels, params, [w for _, _, w in chosen], batches, rng, tuple(notes))

    def _sums(self, account: "_Account") -> Sums:
        """Measure at W_before, under the circumstances of the step's own forward pass."""
        probe = self._probe
        method, math_attention = probe._resolved or (probe.method, False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(preserved(probe.model))
            stack.enter_context(displaced(list(self._params.values()), self._before))
            for context in probe._scenes.autocast():
                stack.enter_context(context)
            objective = Objective(
                probe.model,
                probe.loss_fn,
                account.params,
                account.batches,
                account.rng,
                probe._scenes.buffers,
            )
            return measure(objective, account.step, method, rows=probe.rows, math_attention=math_attention)

    def _decay_notes(self) -> list[str]:
        if not self._unknown:
            return []
        return [
            f"whether the weight decay of {', '.join(sorted(self._unknown))} is decoupled is not known: counted in "
            "z_opt (pass decay= to Probe)"
        ]

    def _batches(self) -> tuple[list[Any] | None, list[RngState | None], list[str]]:
        """Micro-batches to probe on, and the random state each began with in the step itself."""
        probe, calls = self._probe, self._probe._scenes.rng
        if self.batch is None:
            return None, [calls[0] if calls else self._rng], []
        micro: list[Any] = self.batch if isinstance(self.batch, list) else [self.batch]
        if not micro:
            raise ValueError(
                "probe.step was given an empty list; expected a batch or a list of micro-batches"
            )
        if len(micro) > 1 and len(calls) == 1 and all(isinstance(part, Tensor) for part in micro):
            micro = [self.batch]
        whole = len(micro)
        chosen = micro if probe.fraction == 1 else leading(micro, probe.fraction)
        if calls and len(calls) % whole == 0:
            return chosen, [*calls[:: len(calls) // whole][: len(chosen)]], []
        notes = (
            [
                f"the model was called {len(calls)} times for {whole} batches: dropout masks are not those of the step"
            ]
            if calls
            else []
        )
        return chosen, [self._rng, *([None] * (len(chosen) - 1))], notes


@dataclass(frozen=True)
class _Account:
    """What is measured in one probe."""

    step: Step
    plan: Plan
    labels: tuple[str, ...]
    params: dict[str, nn.Parameter]
    before: list[Tensor]
    batches: list[Any] | None
    rng: list[RngState | None]
    notes: tuple[str, ...]


def _difference(before: Tensor, after: Tensor) -> Tensor:
    """W_before - W_after, in float32 at least: 16-bit parameters differ by a few units in the last place."""
    wide = torch.promote_types(before.dtype, torch.float32)
    return before.to(wide) - after.to(wide)


def world() -> Any:
    """The group of all processes, or None in a single one: for trainers that hand over the module without its wrapper."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def _group_of(model: Any) -> Any:
    """The process group of a DistributedDataParallel wrapper, through torch.compile."""
    while isinstance(getattr(model, "_orig_mod", None), nn.Module):
        model = model._orig_mod
    return model.process_group if isinstance(model, nn.parallel.DistributedDataParallel) else None


def _agree(sums: Sums | None, failure: Exception | None, group: Any, device: torch.device) -> Sums:
    """Add sums over processes; if one of them failed, all fail alike rather than wait for it for ever.

    Raises:
        Exception: what went wrong here.
        RuntimeError: what went wrong in another process.
    """
    if group is not None:
        packed = torch.zeros(0, dtype=torch.float64) if sums is None else sums.pack()
        size = float(len(packed))
        flag = torch.tensor([float(failure is not None), size, -size], dtype=torch.float64, device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=group)
        failed, largest, smallest = flag.tolist()
        if failed and failure is None:
            failure = RuntimeError("the probe failed in another process; see its log")
        elif largest != -smallest and failure is None:
            failure = RuntimeError("processes chose different methods; name one with method=")
        if failure is None and sums is not None:
            packed = packed.to(device)
            dist.all_reduce(packed, group=group)
            return sums.unpack(packed.cpu())
    if failure is not None:
        raise failure
    assert sums is not None
    return sums
