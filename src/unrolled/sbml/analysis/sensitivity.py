"""Sensitivities: how much each parameter decides, by automatic differentiation, held to finite differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.instruments.reading import COLORS, Reading, axes

STEP = 1e-4
"""Relative step of the central differences."""


class Sensitivities(Reading):
    """Sensitivities of some outputs to some parameters."""

    def plot(self, ax: Any = None) -> Any:
        """Elasticities, one row a parameter, those that matter most on top; one colour an output."""
        ax = axes(ax)
        value, outputs, names = self["elasticity"], self["outputs"], self["parameters"]
        size = value.abs().nan_to_num().amax(1)
        order = size.argsort(descending=True)[:16].flip(0)
        height = 0.8 / max(1, len(outputs))
        for k, name in enumerate(outputs):
            at = torch.arange(len(order)) + (k - (len(outputs) - 1) / 2) * height
            ax.barh(at, value[order, k], height, color=COLORS[k % len(COLORS)], label=name)
        ax.set_yticks(range(len(order)), [names[i] for i in order.tolist()])
        ax.axvline(0, color="#1c1e21", lw=0.8)
        ax.set(xlabel="d ln y / d ln p", title=f"sensitivities at t = {self['t']:g}")
        if len(outputs) > 1:
            ax.legend(frameon=False)
        return ax


def sensitivities(
    model: Any,
    t_end: float,
    *,
    of: str | Sequence[str] | None = None,
    parameters: Sequence[str] | None = None,
    at: Mapping[str, float] | None = None,
    x0: Tensor | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    **options: Any,
) -> Sensitivities:
    """Derivatives of species at a time with respect to parameters.

    The gradient goes back through the solver. Beside it stand central differences, dy/dp = (y(p + h) - y(p - h)) / 2h with
    h = 1e-4 p, all of them one batch of 2 P simulations; the two disagree where an event moves, where the solver's
    tolerance is too loose, or where y has a kink. The disagreement is part of the result.

    The step size follows the solution, not its derivatives: from a state at rest the steps are long, and the gradient is good
    to about 1e-5 only, whatever the tolerance.

    Args:
        model: the network.
        t_end: when the species are read.
        of: which species (or rules) are read; all species when None.
        parameters: with respect to which; all of the model's that are not zero when None.
        at: values of parameters other than the model's.
        x0: initial state; the model's when None.
        rtol: of the solver, tighter than its usual one, because differences are taken.
        atol: likewise.
        options: of `model.simulate`.

    Returns:
        One row per parameter, one column per output: `gradient` dy/dp, `elasticity` (p / y) dy/dp (NaN where y = 0),
        `difference` (the finite one). Numbers: `disagreement`, max |gradient - difference| relative to the largest
        elasticity-scaled entry of that output; `t`, `outputs`, `parameters`.

    Raises:
        KeyError: no such parameter or species.

    Example:
        S(1) = exp(-k), so d ln S / d ln k = -k:

        >>> from unrolled.sbml import Model
        >>> model = Model.from_equations(species={"S": 1.0}, parameters={"k": 0.5}, rates={"S": "-k * S"})
        >>> found = sensitivities(model, t_end=1)
        >>> round(found["elasticity"].item(), 6), found["disagreement"] < 1e-5
        (-0.5, True)
    """
    outputs = [of] if isinstance(of, str) else list(of or model.species)
    values = {**dict(model.parameters), **dict(at or {})}
    names = [n for n, value in values.items() if value != 0] if parameters is None else list(parameters)
    unknown = [name for name in names if name not in values]
    if unknown:
        raise KeyError(
            f"no parameter {', '.join(map(repr, unknown))}; there are {', '.join(model.parameters)}"
        )
    point = torch.tensor([float(values[name]) for name in names], dtype=torch.float64)
    rest = {name: value for name, value in (at or {}).items() if name not in names}

    def simulate(p: Tensor) -> Tensor:
        """Outputs at the end, `[B, outputs]`, for parameters `[B, P]`."""
        given = {**rest, **{name: p[:, i] for i, name in enumerate(names)}}
        start = None if x0 is None else x0.expand(len(p), -1)
        run = model.simulate(t_end, 2, x0=start, parameters=given, rtol=rtol, atol=atol, **options)
        return torch.stack([run.value(name)[-1].expand(len(p)) for name in outputs], -1)

    leaf = point.clone()[None].requires_grad_(True)
    y = simulate(leaf)
    rows = []
    for k in range(len(outputs)):
        if not y.requires_grad:
            rows.append(torch.zeros_like(point))
            continue
        (slope,) = torch.autograd.grad(y[0, k], leaf, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(point) if slope is None else slope[0])
    gradient = torch.stack(rows, 1)
    h = STEP * point.abs().clamp(min=1e-12)
    with torch.no_grad():
        ends = simulate(torch.cat([point + torch.diag(h), point - torch.diag(h)]))
    difference = (ends[: len(names)] - ends[len(names) :]) / (2 * h[:, None])
    y = y.detach()[0]
    scaled, other = (part * point[:, None] for part in (gradient, difference))
    largest = scaled.abs().amax(0).clamp(min=1e-12 + 1e-6 * y.abs())
    disagreement = float(((scaled - other).abs() / largest).max()) if len(names) else 0.0
    elasticity = torch.where(y == 0, torch.nan, scaled / y)
    off = disagreement > 1e-3
    return Sensitivities(
        "sensitivities",
        {
            "gradient": gradient, "elasticity": elasticity, "difference": difference, "disagreement": disagreement, "t": float(t_end),
            "outputs": tuple(outputs), "parameters": tuple(names),
        },
        f"dy/dp at t = {t_end:g}, y: {', '.join(outputs)}",
        units="y per p",
        index=("parameter", torch.arange(len(names))),
        method="reverse mode through the solver, central differences beside it",
        status="disagreement" if off else "ok",
        reason=f"gradient and finite difference differ by {disagreement:.2g} of the largest: an event that moves, a kink, or a loose tolerance" if off else "",
    )  # fmt: skip
