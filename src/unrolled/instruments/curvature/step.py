# pyright: reportUnnecessaryIsInstance=false
"""`decompose`: split the loss change of one step W -> W - Z into gain, penalty and remainder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.instruments.curvature.assemble import Plan, assemble, check_choices
from unrolled.instruments.curvature.groups import Groups, Scope, is_sharded, partition, trainable, unwrapped
from unrolled.instruments.curvature.measure import Step, measure
from unrolled.instruments.curvature.objective import LossFn, Objective
from unrolled.instruments.curvature.reading import StepReading
from unrolled.instruments.curvature.state import preserved
from unrolled.instruments.curvature.update import resolve, rounding_note


def decompose(
    model: nn.Module,
    loss_fn: LossFn,
    update: Mapping[str, Tensor],
    *,
    batches: Sequence[Any] | None = None,
    method: str = "auto",
    split: str | None = None,
    groups: Groups | None = None,
    scope: Scope = "all",
    draws: int | None = 4,
    seed: int | torch.Generator = 0,
    eps: float | None = None,
    rows: bool | None = None,
) -> StepReading:
    """Account for the loss change of a step: L(W) - L(W-Z) = <G,Z> - 1/2 <Z,HZ> + O(|Z|^3).

    Curvature fact sheet 2606.04662, section 1. The model is as it was afterwards, bit for bit: parameters and
    their storage, gradients, buffers, training mode, random generators. All evaluations see the same dropout masks.

    Args:
        model: the module, at W. Wrappers (`torch.compile`, DistributedDataParallel) are looked through.
        loss_fn: `loss_fn(model)`, or `loss_fn(model, batch)` with `batches`. Returns a scalar, or
            `(summed loss, count)`: then sums and counts are added over batches before the one is divided by the
            other, so a short last batch weighs what it should. Must contain the autocast it is to run under.
        update: parameter name -> Z, with W -> W - Z: Z points downhill and includes the learning rate.
        batches: micro-batches. Peak memory is that of one.
        method: `"double_backward"`, `"forward_over_reverse"`, `"jet"` (a second-order Taylor pass: no graph,
            totals only), `"finite_difference"` (central), `"one_sided"`; or `"auto"`: the jet where totals are
            enough, else double backward; it falls back, with a warning, where those cannot work.
        split: within- and cross-layer curvature: `"exact"` (one product per group), `"signs"` (unbiased, `draws`
            products, with a standard error), or None.
        groups: label -> regular expression over parameter names, or `f(name) -> label`; by numbered block when None.
        scope: which parameters the step moves: `"all"`, `"matrix"` (hidden matrices), a regular expression, or
            `f(name, parameter) -> bool`. The others stay at W, in `actual` too.
        draws: number of sign vectors; None takes a complete set, which makes `"signs"` exact.
        seed: of the signs.
        eps: step of the finite differences, a multiple of Z; by dtype when None.
        rows: whether `"auto"` must find values per group. By default only if `split` is given.

    Returns:
        The reading.

    Raises:
        KeyError: `update` names something that is not a parameter.
        ValueError: an update that is empty, not finite, of the wrong shape or moves a frozen parameter; a loss that
            is not one finite number; overlapping groups.
        NotImplementedError: `method="jet"` meets an operator it has no rule for; or parameters are sharded.
        RuntimeError: the method named cannot differentiate this model twice (`NotTwiceDifferentiable`).

    Example:
        >>> model = nn.Linear(2, 1, bias=False).double()
        >>> _ = nn.init.ones_(model.weight)
        >>> curve = torch.tensor([[2.0, 1.0], [1.0, 4.0]]).double()
        >>> loss = lambda m: 0.5 * (m.weight @ curve @ m.weight.T).squeeze()     # G = (3, 5), H = curve
        >>> z = {"weight": torch.tensor([[1.0, 0.5]]).double()}
        >>> reading = decompose(model, loss, z, method="double_backward")
        >>> reading.gain, reading.penalty, reading.predicted, reading.actual, reading["nds"]
        (5.5, 2.0, 3.5, 3.5, 3.2)
    """
    check_choices(method, split, draws)
    inner = checked_model(model)
    if batches is not None and not len(batches):
        raise ValueError("batches is empty; pass the micro-batches, or None with loss_fn(model)")
    chosen = resolve(inner, update, scope)
    params = {name: p for name, p in trainable(inner).items() if name in chosen}
    z = [chosen[name] for name in params]
    labels, blocks = partition(inner, list(params), groups)
    after = [moved(p, v) for p, v in zip(params.values(), z)]
    rows = split is not None if rows is None else rows
    totals = method == "jet" or (method == "auto" and not rows)
    plan = Plan.make(split, len(labels), draws=draws, seed=seed, totals=totals)
    step = Step(z, after, blocks, len(labels), plan.signs, plan.whole)
    with preserved(inner):
        sums = measure(Objective(inner, loss_fn, params, batches), step, method, eps=eps, rows=rows)
    if not math.isfinite(sums.before):
        raise ValueError(
            f"the loss at W is {sums.before}; a step can only be accounted for where the loss is finite (look for the "
            "batch or the layer that overflows)"
        )
    notes = rounding_note(list(params.values()), z, after)
    return assemble(sums, step, plan, labels, list(params.values()), scope=scope, notes=notes)


def checked_model(model: nn.Module) -> nn.Module:
    """The module inside its wrappers, if it can be probed at all.

    Raises:
        TypeError: not a module.
        NotImplementedError: sharded parameters.
        RuntimeError: inside inference mode.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, got {type(model).__name__}")
    if torch.is_inference_mode_enabled():
        raise RuntimeError("curvature needs gradients: call it outside torch.inference_mode()")
    inner = unwrapped(model)
    if is_sharded(inner):
        raise NotImplementedError(
            "parameters are sharded (DTensor): curvature reads whole parameters; use an unsharded copy of the model"
        )
    return inner


def moved(p: Tensor, z: Tensor) -> Tensor:
    """W - Z in the parameter's own format, rounded once."""
    wide = torch.promote_types(p.dtype, torch.float32)
    return torch.sub(p.detach().to(wide), z.to(p.device)).to(p.dtype)
