"""How well the local rule's change points down the loss, layer by layer. A measuring device: it uses autograd."""

import copy
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.rate.backprop import backprop
from unrolled.cortex.rate.learn import changes, losses
from unrolled.cortex.rate.net import Net
from unrolled.cortex.rate.settle import NotSettling, settle
from unrolled.instruments.reading import Reading

EXACT = 1e-12
"""Largest change per sweep of the state, and relative change of the adjoint, at which both count as settled."""


def align(net: Net, batch: tuple[Tensor, Tensor], **options: Any) -> Reading:
    """Cosine between what a rule would change and the descent of the mean loss, for each layer's weights.

    Two gradients: that of the settled network, dC/dw at its free fixed point by implicit differentiation (adjoint
    lambda = J^T lambda + dC/dy of one sweep, iterated until it stands), and that of the same weights as a feed-forward
    network, by backprop. Both in float64, whatever the network's dtype.

    Args:
        net: the network; unchanged.
        batch: images and labels.
        options: of `changes`, whose defaults they keep: rule, beta, sweeps, nudged, ...

    Returns:
        Along layers from below: `cosine` (with the gradient of the settled network), `ratio` (norm of the change over
        that of the gradient: 1 when the size is right too), `feedforward` (cosine with backprop's). Numbers: `total`
        and `total_feedforward`, the cosines over all weights at once. A layer whose change or gradient is 0 has NaN.

    Raises:
        NotSettling: the network has no fixed point to differentiate at.
        ValueError: as `changes`.

    Example:
        >>> net = Net(20, [30, 10], activation="logistic", output="logistic", cost="squared", gain=1.0, rng=0)
        >>> g = torch.Generator().manual_seed(0)
        >>> batch = torch.rand(8, 20, generator=g), (torch.rand(8, 10, generator=g) < 0.5).float()
        >>> reading = align(net, batch, beta=0.1, sweeps=50, nudged=50, tol=1e-6)
        >>> bool((reading["cosine"] > 0.9999).all())
        True
    """
    images, labels = batch
    step = changes(net, images, labels, **options)
    twin = copy.deepcopy(net).to(dtype=torch.float64)
    for path in twin.paths:
        path.matmul = None
    exact = gradient(twin, images, labels)
    flat = backprop(twin, images, labels).changes
    made = {name: value.double() for name, value in step.changes.items()}
    weights = [f"{name}.weight" for name in net.names]
    values: dict[str, Any] = {
        "cosine": torch.tensor([cosine(made[name], -exact[name]) for name in weights]),
        "ratio": torch.stack([made[name].norm() / exact[name].norm() for name in weights]).cpu(),
        "feedforward": torch.tensor([cosine(made[name], flat[name]) for name in weights]),
        "total": cosine(_row(made, weights), -_row(exact, weights)),
        "total_feedforward": cosine(_row(made, weights), _row(flat, weights)),
    }
    return Reading(
        "alignment",
        values,
        "cosine of a rule's change with the descent of the mean loss at the free fixed point, per layer",
        "1",
        ("layer", torch.arange(1, len(weights) + 1)),
        method="implicit differentiation in float64",
        notes=(f"layers from below: {', '.join(net.names)}",),
    )


def gradient(net: Net, images: Tensor, labels: Tensor, sweeps: int = 2000) -> dict[str, Tensor]:
    """Gradient of the mean loss at the free fixed point, by implicit differentiation, for weights and biases by name.

    Raises:
        NotSettling: the state or the adjoint does not come to rest.
    """
    x, target = net.batch(images, labels)
    state = settle(net, x, sweeps=sweeps, tol=EXACT).state(net)
    names = [name for name in net.tensors() if not name.endswith("back")]
    twin = copy.deepcopy(net)
    with torch.enable_grad():
        for path in twin.paths:
            path.put(lambda name, value: value.detach().clone().requires_grad_(name != "back"))
        wanted = [twin.tensors()[name] for name in names]
        ys = [state[name].detach().clone().requires_grad_() for name in net.names]
        after = twin.step({**state, **dict(zip(net.names, ys))}, x)
        moved = [after[name] for name in net.names]
        below = moved[-2] if len(moved) > 1 else x
        last = twin.paths[-1].drive(below, None)
        loss = losses(twin, last, target).mean()
        pull = _grad(loss, ys, None)
        direct = _grad(loss, wanted, None)
        adjoint = pull
        for made in range(sweeps + 1):
            again = [p + g for p, g in zip(pull, _grad(moved, ys, adjoint))]
            apart = max(float((a - b).abs().max()) for a, b in zip(again, adjoint))
            size = max(float(a.abs().max()) for a in again)
            adjoint = again
            if apart <= EXACT * size:
                break
            if made == sweeps or not size < 1e30:
                raise NotSettling(net.names[-1], apart / size, made, net.gain)
        found = [d + g for d, g in zip(direct, _grad(moved, wanted, adjoint))]
    return dict(zip(names, found))


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors; NaN if either is 0.

    Example:
        >>> round(cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])), 4)
        0.7071
    """
    size = a.norm() * b.norm()
    return float((a * b).sum() / size) if float(size) > 0 else float("nan")


def _grad(of: Any, wrt: list[Tensor], weights: "list[Tensor] | None") -> list[Tensor]:
    found = torch.autograd.grad(of, wrt, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wrt, found)]


def _row(tensors: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([tensors[name].flatten() for name in names])
