"""Train a model by gradient: one plain loop.

    for each step:   micro-batches -> summed losses -> gradient of their mean -> clip -> optimizer.step()

The gradient is that of (sum of losses) / (sum of counts) over all micro-batches and all processes: exact for
batches of unequal token counts, in one process or under DDP.
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.core import Stop, Trajectory
from unrolled.core.seeds import RngState
from unrolled.training import checkpoint as checkpoints
from unrolled.training import parallel

Loss = Callable[[Any, Any], "tuple[Tensor, Any] | Tensor"]
Batches = Callable[[int], Any] | Iterable[Any]


HISTORY = ("loss", "lr", "grad_norm", "count", "rate")


@dataclass
class Fit:
    """What `fit` did.

    W_k are the parameters after k updates: `history["loss"][k]` is the loss of W_k on the batch of step k, and an
    evaluation at step k is of W_k too.

    Attributes:
        step: updates made, those before a resume included.
        stop: why it ended: `"steps"`, `"nonfinite"`, `"exhausted"` (no more batches), `"halted"` or the word of
            `until`.
        history: `loss` (mean over counted items), `lr` (first group), `grad_norm` (before clipping), `count`
            (items, i.e. tokens, over all processes) and `rate` (items per second), one number per step.
        evaluations: what `evaluate` returned, with its `step`.
        resumed: the step this call went on from; 0 for a fresh start.
    """

    step: int = 0
    stop: Stop = field(default_factory=lambda: Stop("steps", 0))
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in HISTORY})
    evaluations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    resumed: int = 0

    def trajectory(self) -> Trajectory:
        """The history as a `Trajectory` over steps, for instruments to read."""
        records = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.history.items()}
        return Trajectory.from_records(torch.arange(len(self.history["loss"])), records, stop=self.stop)


def fit(
    model: nn.Module,
    batches: Batches,
    loss_fn: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    schedule: Callable[[int], float] | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    amp: torch.dtype | None = None,
    probe: Any = None,
    evaluate: tuple[int, Callable[[nn.Module], Any]] | None = None,
    until: Callable[[Fit], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    resume: bool = True,
    generators: Sequence[torch.Generator] = (),
    progress: Callable[[int, int], None] | None = None,
    log: Callable[..., None] | None = None,
) -> Fit:
    """Train until `steps` updates have been made, in all.

    Args:
        model: a module, plain or wrapped by `parallel.ddp`, `parallel.fsdp` or torch.compile. Its training mode is
            left as it is.
        batches: a function of the micro-batch index (step * accumulate + j), from which a resumed run goes on
            exactly; or an iterable, started again when it ends if it can be, and wound forward on resume by drawing
            and dropping what had been used. An iterable's order must not hang on the global random state: give
            a `DataLoader` its own generator, seeded alike.
        loss_fn: `(model, batch) -> (summed loss, count)`, or a scalar mean loss (count 1).
        optimizer: any; its learning rates are what `schedule` multiplies, and are put back at the end.
        steps: updates in all, those before a resume included.
        schedule: step -> factor of the learning rate; see `schedules`.
        accumulate: micro-batches per step.
        clip: largest gradient norm over all parameters of the optimizer.
        amp: `torch.bfloat16` runs the loss under autocast.
        probe: anything with `step(micro_batches)` -> context manager, such as `curvature.Probe`; entered around
            backward, clipping and `optimizer.step()`. Its `state_dict`, if it has one, is checkpointed.
        evaluate: `(every, fn)`: `fn(model) -> number or dict of numbers`, called at steps 0, every, 2 every, ... and at
            the end, in eval mode, without gradients, and without a trace in the random numbers. Every process calls it.
        until: called with the `Fit` so far before each step; truthy ends the run there, a string is its reason.
        checkpoint: folder for checkpoints; None for none. Processes share it, rank 0 writes.
        checkpoint_every: steps between checkpoints; a tenth of `steps` when None. The end is always saved.
        keep: how many checkpoints stay.
        resume: go on from the folder's newest checkpoint, if there is one.
        generators: explicit generators that loss or batches draw from, to be checkpointed.
        progress: `callback(step, steps)`, on rank 0.
        log: `log(step=, loss=, lr=, grad_norm=, count=, rate=)` each step and `log(step=, <evaluation>=)`, on rank 0.

    Returns:
        A `Fit`. A loss or gradient that is not finite is no exception: `stop` says where, no update is made with it,
        and the last checkpoint stays the newest.

    Raises:
        TypeError, ValueError: arguments or a loss that make no sense; a checkpoint of another model; or `resume=False`
            with a folder that holds checkpoints.
        OSError: a checkpoint could not be written; older ones are unchanged.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> square = lambda model, batch: (model(batch).square().sum(), len(batch))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.25)
        >>> result = fit(model, lambda step: torch.ones(4, 1), square, sgd, steps=3)
        >>> losses = result.history["loss"]  # W_{k+1} = W_k - 0.25 * 2 W_k = W_k / 2
        >>> [round(losses[k + 1] / losses[k], 6) for k in range(2)], result.stop.reason
        ([0.25, 0.25], 'steps')
    """
    _check(model, optimizer, steps, accumulate, clip, amp, evaluate, checkpoint_every)
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    main = parallel.rank() == 0
    done, position = Fit(), 0
    if checkpoint is not None and (newest := _newest(checkpoint, resume, model)) is not None:
        saved = _load(newest)
        checkpoints.restore(saved, model, optimizer, generators=generators, source=newest)
        done, position, rates = _recall(saved["fit"], probe)
    draw = _source(batches, position)
    every = checkpoint_every or max(1, steps // 10)

    def write() -> None:
        if checkpoint is not None:
            tree = checkpoints.snapshot(model, optimizer, generators=generators)
            if main:
                tree["fit"] = _record(done, position, rates, probe)
                checkpoints.save_step(checkpoint, done.step, tree, keep=keep)
            parallel.wait(model)

    try:
        while True:
            step, last = done.step, done.step >= steps
            if evaluate and (step % evaluate[0] == 0 or last) and not _evaluated(done):
                done.evaluations.append({"step": step, **_evaluate(model, evaluate[1])})
                if log and main:
                    log(**done.evaluations[-1])
            word = "steps" if last else until(done) if until else None
            if word:
                done.stop = Stop(word if isinstance(word, str) else "halted", step)
                break
            began = time.perf_counter()
            try:
                micro = [draw(position + j) for j in range(accumulate)]
            except StopIteration:
                done.stop = Stop("exhausted", step, "batches", _EXHAUSTED)
                break
            if schedule:
                _set_rates(optimizer, rates, schedule(step))
            optimizer.zero_grad(set_to_none=True)
            try:
                with probe.step(micro) if probe is not None else nullcontext():
                    loss, norm, count = _gradient(model, micro, loss_fn, parameters, amp, clip)
                    if not (math.isfinite(loss) and math.isfinite(norm)):
                        raise _NotFinite  # leaves the probe without a record: there is no step to account for
                    optimizer.step()
            except _NotFinite:
                done.stop = _nonfinite(step, loss, count, model)
                break
            position += accumulate
            done.step += 1
            numbers = {
                "loss": loss,
                "lr": float(optimizer.param_groups[0]["lr"]),
                "grad_norm": norm,
                "count": count,
                "rate": count / (time.perf_counter() - began),
            }
            for name, value in numbers.items():
                done.history[name].append(value)
            if log and main:
                log(step=step, **numbers)
            if progress and main:
                progress(done.step, steps)
            if done.step % every == 0 and done.step < steps:
                write()
        if done.stop.ok and done.step > done.resumed:
            write()
    finally:
        if schedule:
            _set_rates(optimizer, rates, 1.0)
    return done


class _NotFinite(Exception):
    """A loss or a gradient is not finite."""


_EXHAUSTED = "pass a function of the step index, or an iterable that can be started again"


def validation(
    loss_fn: Loss, batches: Callable[[int], Any], count: int
) -> Callable[[nn.Module], dict[str, float]]:
    """An `evaluate` function: the mean loss over `batches(0) ... batches(count - 1)`, as `val_loss`.

    Example:
        >>> mean = validation(lambda model, batch: (model(batch).sum(), len(batch)), torch.arange(4.0).view(2, 2).__getitem__, 2)
        >>> mean(nn.Identity())
        {'val_loss': 1.5}
    """
    if count < 1:
        raise ValueError(f"validation needs at least one batch, got count={count}")

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        summed, counted = 0.0, 0.0
        for index in range(count):
            one, n = _loss(loss_fn, model, batches(index))
            summed, counted = summed + float(one), counted + float(n)
        return {"val_loss": summed / counted if counted else math.nan}

    return evaluate


def _gradient(
    model: nn.Module,
    micro: list[Any],
    loss_fn: Loss,
    parameters: list[Tensor],
    amp: torch.dtype | None,
    clip: float | None,
) -> tuple[float, float, float]:
    """Leave the gradient of the global mean loss, clipped, in `.grad`; return mean loss, its norm, global count."""
    device = parameters[0].device
    precise = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.zeros(2, dtype=precise, device=device)
    for j, batch in enumerate(micro):
        with parallel.without_sync(model) if j + 1 < len(micro) else nullcontext():
            with torch.autocast(device.type, amp) if amp else nullcontext():
                summed, count = _loss(loss_fn, model, batch)
            if not summed.requires_grad:
                raise ValueError(
                    "the loss does not depend on any trainable parameter: is it computed under no_grad?"
                )
            summed.backward()
        sums[0] += summed.detach()
        sums[1] += count
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = _norm(gradients)
    # The only wait for the device in a step.
    total, count, norm = torch.cat([parallel.total(sums, model), norm.to(sums).view(1)]).tolist()
    if not count:
        return math.nan, math.nan, 0.0
    # DDP and FSDP have averaged over processes what is to be divided by the count of all.
    scale = parallel.replicas(model) / count
    norm *= scale
    if math.isfinite(total) and math.isfinite(norm):
        torch._foreach_mul_(gradients, scale * min(1.0, clip / (norm + 1e-6)) if clip else scale)
    return total / count, norm, count


def _norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, in at least float32."""
    if not gradients:
        raise ValueError("no parameter of the optimizer got a gradient: the loss depends on others only")
    half = any(g.dtype in (torch.bfloat16, torch.float16) for g in gradients)
    norms = torch._foreach_norm(gradients, 2, torch.float32 if half else None)
    norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _loss(loss_fn: Loss, model: Any, batch: Any) -> tuple[Tensor, Any]:
    """Summed loss and count, whichever form the loss function has."""
    made = loss_fn(model, batch)
    summed, count = made if isinstance(made, tuple | list) and len(made) == 2 else (made, 1)
    if not isinstance(summed, Tensor) or summed.numel() != 1 or summed.is_complex():
        shown = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise TypeError(f"loss_fn returns (summed loss, count) or a scalar mean loss, got {shown}")
    return summed.view(()), count


def _evaluated(done: Fit) -> bool:
    return bool(done.evaluations) and done.evaluations[-1]["step"] == done.step


def _evaluate(model: nn.Module, fn: Callable[[nn.Module], Any]) -> dict[str, Any]:
    """Call `fn` on the plain model in eval mode; modes and random numbers are put back."""
    plain, streams = parallel.unwrap(model), RngState.capture()
    modes = [(module, module.training) for module in plain.modules()]
    plain.eval()
    try:
        with torch.no_grad():
            value = fn(plain)
    finally:
        for module, mode in modes:
            module.training = mode
        streams.restore()
    if isinstance(value, dict):
        return {str(name): v.item() if isinstance(v, Tensor) else v for name, v in value.items()}
    return {"value": float(value)}


def _nonfinite(step: int, loss: float, count: float, model: nn.Module) -> Stop:
    made = "no update was made with it, the parameters are those before this step; "
    if not count:
        return Stop("nonfinite", step, "loss", made + "the batch counts no item: are all targets left out?")
    cure = "lower the learning rate, warm up, clip gradients (clip=1.0), or look at this step's batch"
    if not math.isfinite(loss):
        return Stop("nonfinite", step, "loss", made + cure)
    named = parallel.unwrap(model).named_parameters()
    bad = (n for n, p in named if p.grad is not None and not bool(p.grad.isfinite().all()))
    return Stop("nonfinite", step, f"gradient of {next(bad, 'the model (its norm overflows)')}", made + cure)


def _set_rates(optimizer: torch.optim.Optimizer, rates: list[float], factor: float) -> None:
    for group, rate in zip(optimizer.param_groups, rates):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor


def _source(batches: Batches, position: int) -> Callable[[int], Any]:
    """A function of the micro-batch index; an iterable is wound forward to `position`."""
    if callable(batches):
        return batches
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a function of the step index or an iterable, got {type(batches).__name__}"
        )
    stream = _cycle(batches)
    if position:
        # Drawing may use the global generators, which stand where the checkpoint left them.
        streams = RngState.capture()
        for drawn in range(position):
            if next(stream, _END) is _END:
                raise ValueError(
                    f"batches ended after {drawn}, before the {position} already used: pass the same ones"
                )
        streams.restore()
    return lambda _: next(stream)


_END = object()


def _cycle(batches: Iterable[Any]) -> Iterator[Any]:
    while True:
        drawn = False
        for batch in batches:
            drawn = True
            yield batch
        if not drawn or iter(batches) is batches:
            return


def _newest(folder: str | os.PathLike[str], resume: bool, model: nn.Module) -> Path | None:
    """The checkpoint to go on from, the same for every process."""
    newest = checkpoints.latest(folder)
    seen = parallel.gather(newest and newest.name, model)
    if len(set(seen)) > 1:
        raise ValueError(
            f"processes see different checkpoints in {folder} ({seen}): it must be a shared folder"
        )
    if newest is not None and not resume:
        raise ValueError(
            f"{folder} holds {newest.name}, and resume=False starts from nothing: choose another folder, delete that "
            f"one, or let resume be True"
        )
    return newest


def _record(done: Fit, position: int, rates: list[float], probe: Any) -> dict[str, Any]:
    return {
        "step": done.step,
        "position": position,
        "rates": rates,
        "history": {name: torch.tensor(v, dtype=torch.float64) for name, v in done.history.items()},
        "evaluations": done.evaluations,
        "probe": probe.state_dict() if hasattr(probe, "state_dict") else None,
    }


def _load(source: Path) -> dict[str, Any]:
    saved = checkpoints.load(source)
    if "fit" not in saved:
        raise ValueError(
            f"{source} was not written by fit: restore it with checkpoint.restore, or choose another folder"
        )
    return saved


def _recall(kept: dict[str, Any], probe: Any) -> tuple[Fit, int, list[float]]:
    history = {name: values.tolist() for name, values in kept["history"].items()}
    if kept["probe"] is not None and hasattr(probe, "load_state_dict"):
        probe.load_state_dict(kept["probe"])
    done = Fit(kept["step"], Stop("steps", kept["step"]), history, kept["evaluations"], kept["step"])
    return done, kept["position"], kept["rates"]


def _check(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    accumulate: int,
    clip: float | None,
    amp: torch.dtype | None,
    evaluate: tuple[int, Any] | None,
    checkpoint_every: int | None,
) -> None:
    for name, value in {
        "steps": steps,
        "accumulate": accumulate,
        "checkpoint_every": checkpoint_every,
    }.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is a number of at least 1, got {value!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is the largest gradient norm, above 0, got {clip}; None does not clip")
    if amp not in (None, torch.bfloat16):
        raise ValueError(f"amp is torch.bfloat16 or None, got {amp}: float16 would need loss scaling")
    if evaluate is not None and not (len(evaluate) == 2 and evaluate[0] >= 1 and callable(evaluate[1])):
        raise ValueError(f"evaluate is (every, function of the model) with every >= 1, got {evaluate!r}")
    trained = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    if not trained:
        raise ValueError(
            "the optimizer holds no trainable parameter: does every one have requires_grad=False?"
        )
    if trained.isdisjoint(id(p) for p in model.parameters()):
        raise ValueError(
            "the optimizer holds none of the model's parameters: build it from this model, after any .to(device) "
            "that replaces them and after parallel.fsdp"
        )
    if parallel.world_size() > 1 and parallel.replicas(model) == 1:
        warnings.warn(
            f"{parallel.world_size()} processes run, but this model is not shared between them, so each trains its own: "
            f"wrap it with parallel.ddp(model, world)",
            stacklevel=3,
        )
