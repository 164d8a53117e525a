"""A second-order Taylor forward pass: loss, gain <G,Z> and <Z,HZ> together, without a graph.

Along W(e) = W - e Z the loss is L(e) = L - e <G,Z> + e^2/2 <Z,HZ> + O(e^3) (curvature fact sheet 2606.04662,
sections 1 and 8). One pass carries the coefficients of 1, e and e^2 of every intermediate through the model, operator
by operator, so a user's module needs no code of its own. A linear layer costs 5 matrix products, where differentiating
twice costs 9, and nothing outlives the next layer: there is no graph to keep.

What a coefficient means is in `jet_rules.tensor`, what each operator does with it in the files beside it.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from unrolled.instruments.curvature.jet_rules.dispatch import Pass
from unrolled.instruments.curvature.jet_rules.internals import below_autograd, uncompiled
from unrolled.instruments.curvature.jet_rules.tensor import Jet, JetUnsupported

__all__ = ["JetResult", "JetUnsupported", "jet"]


@dataclass(frozen=True)
class JetResult:
    """What the loss does along an update, to second order, at the parameters as they are.

    Attributes:
        loss: L(W).
        gain: <G,Z>, the first-order decrease.
        quad: <Z,HZ>.
        count: what the sums over the batches were divided by.
        sums: the first three before that division; with a count of 0 they are all there is, and the means are NaN.
    """

    loss: float
    gain: float
    quad: float
    count: float
    sums: tuple[float, float, float]

    @property
    def penalty(self) -> float:
        """1/2 <Z,HZ>."""
        return self.quad / 2

    @property
    def predicted(self) -> float:
        """<G,Z> - 1/2 <Z,HZ>, the second-order forecast of L(W) - L(W - Z)."""
        return self.gain - self.penalty


class _Call(nn.Module):
    """loss_fn as a module that contains the model, so that `functional_call` can put jets into it."""

    def __init__(self, model: nn.Module, loss_fn: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, *batch: Any) -> Any:
        return self.loss_fn(self.model, *batch)


def jet(
    model: nn.Module,
    loss_fn: Callable[..., Any],
    update: Mapping[str, Tensor],
    batches: Iterable[Any] | None = None,
) -> JetResult:
    """L, <G,Z> and <Z,HZ> in one forward pass per batch.

    Follows autograd in what counts as constant: `detach`, `no_grad`, `item`, indices. The model runs in the mode it is
    in, on jets in place of the parameters named in `update` and on copies of its buffers; it is left as it was. Random
    numbers are drawn from torch's generators exactly as one plain forward per batch draws them, and the generators
    are left where that leaves them: restore them outside. Coefficients have the parameters' precision; the losses of
    batches are added in float64.

    Args:
        model: any module.
        loss_fn: `loss_fn(model) -> loss`, or with batches `loss_fn(model, batch)`; a scalar, or (summed loss, count).
        update: parameter name -> Z of that parameter's shape, W -> W - Z; parameters not named stay put. A tied
            parameter is named once, by any of its names.
        batches: what to sum over, losses and counts apart; None calls `loss_fn(model)` once.

    Returns:
        L, <G,Z>, <Z,HZ> of the mean loss, the count, and the sums.

    Raises:
        JetUnsupported: an operator without a rule, named; or parameters used where the pass cannot see them.
        KeyError: a name that is no parameter.
        TypeError: the model is wrapped for data parallelism.
        ValueError: a Z of the wrong shape, a tied parameter named twice, no batch, a loss that is not a scalar, or a
            count that depends on the parameters.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> cubic = lambda model: model.weight.pow(3).sum()  # L = w^3 = 8, G = 3 w^2 = 12, H = 6 w = 12
        >>> made = jet(model, cubic, {"weight": torch.full((1, 1), 0.5)})
        >>> made.loss, made.gain, made.quad
        (8.0, 6.0, 3.0)
    """
    wrappers: Any = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    if isinstance(model, wrappers):
        raise TypeError(
            "the model is wrapped for data parallelism; pass model.module: its hooks must stay out"
        )
    originals, values = _jets(model, update)
    values |= {f"model.{name}": buffer.clone() for name, buffer in model.named_buffers(remove_duplicate=True)}
    call = _Call(model, loss_fn)
    sums, count, seen = [0.0, 0.0, 0.0], 0.0, False
    for batch in [()] if batches is None else ((batch,) for batch in batches):
        # grad mode is on to show where the model turns it off; with autograd kept out, nothing is recorded
        with _tidied(model), torch.enable_grad(), uncompiled(), below_autograd(), Pass(originals):
            loss, n = _read(torch.func.functional_call(call, values, batch, strict=False))
        sums = [a + b for a, b in zip(sums, loss)]
        count, seen = count + n, True
    if not seen:
        raise ValueError("batches is empty: there is no loss to expand; pass at least one batch")
    value, first, second = sums
    totals = value, -first, 2 * second
    loss, gain, quad = (x / count if count else math.nan for x in totals)
    return JetResult(loss, gain, quad, count, totals)


@contextlib.contextmanager
def _tidied(model: nn.Module) -> Generator[None]:
    """Take back what a forward leaves in attributes (`self.cache = x`) and in autocast's cache of weights."""
    kept = [(vars(m), {k: v for k, v in vars(m).items() if isinstance(v, Tensor)}) for m in model.modules()]
    try:
        yield
    except RuntimeError as error:
        if "differentiated Tensor" in str(error) or "does not require grad" in str(error):
            raise JetUnsupported(
                "torch.autograd", "loss_fn differentiates, and a pass keeps no graph; use torch.func"
            ) from error
        raise
    finally:
        for attributes, before in kept:
            for name in [k for k, v in attributes.items() if isinstance(v, Jet)]:
                attributes.pop(name)
                attributes.update({name: before[name]} if name in before else {})
        torch.clear_autocast_cache()


def _jets(model: nn.Module, update: Mapping[str, Tensor]) -> tuple[dict[int, str], dict[str, Tensor]]:
    """Perturbed parameters by id, and a jet W - e Z for each of their names."""
    named = dict(model.named_parameters(remove_duplicate=False))
    originals: dict[int, str] = {}
    made: dict[int, Jet] = {}
    for name, z in update.items():
        if name not in named:
            raise KeyError(
                f"the update names {name!r}, which is no parameter of the model; it has {list(named)[:8]}"
            )
        parameter = named[name]
        if z.shape != parameter.shape:
            raise ValueError(
                f"the update of {name!r} has shape {tuple(z.shape)}, the parameter {tuple(parameter.shape)}"
            )
        if id(parameter) in originals:
            raise ValueError(
                f"{name!r} and {originals[id(parameter)]!r} are one tied parameter: name it once in the update"
            )
        originals[id(parameter)] = name
        with torch.no_grad():
            made[id(parameter)] = Jet(torch.stack([parameter.detach(), -z.detach().to(parameter)]))
        vars(made[id(parameter)])["_is_param"] = True  # isinstance(weight, nn.Parameter) holds
    return originals, {f"model.{name}": made[id(p)] for name, p in named.items() if id(p) in made}


def _read(out: Any) -> tuple[list[float], float]:
    """Coefficients of the loss, and the count."""
    loss, count = cast("tuple[Any, Any]", out) if isinstance(out, tuple) else (out, 1)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn returns a scalar tensor, or (summed loss, count); got {got}")
    if loss.grad_fn is not None:
        raise JetUnsupported(
            loss.grad_fn.name(), "the loss has its own graph, from a custom autograd.Function"
        )
    if isinstance(count, Jet) and count.terms > 1:
        raise ValueError(
            "the count that loss_fn returns depends on the parameters; return how many were summed"
        )
    number = float(count.stack[0] if isinstance(count, Jet) else count)
    terms = loss.stack if isinstance(loss, Jet) else loss.unsqueeze(0)
    values = [float(x) for x in terms.reshape(len(terms))]
    return values + [0.0] * (3 - len(values)), number
