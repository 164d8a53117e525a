"""`simulate`: a model in time, for a batch of initial states and parameters; `Simulation` is what it leaves."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Stop, Trajectory
from unrolled.sbml.events import Events
from unrolled.sbml.solvers import lanes
from unrolled.sbml.solvers._graph import Unsuitable
from unrolled.sbml.solvers.adaptive import REASONS, Method, Solution, integrate
from unrolled.sbml.solvers.replay import replay

FUSE = 64
"""Samples from which the loop is compiled when nothing is said: compiling takes a second or two, once per model."""
HINTS = {
    1: "the rate of change is not finite there: a division by zero, a power or logarithm of a negative number, or a state that "
    "grows without bound",
    2: "the solution cannot be continued: it blows up, or jumps where no switch says so",
    3: "raise max_steps, or loosen rtol",
    4: "its delay is negative or not a number, or its events set each other off without end",
    5: "the event assigned a value that is not finite",
    6: "give a finite initial value",
}


@dataclass
class Simulation(Trajectory):
    """A simulated model: a trajectory whose record `x` holds the state columns, and which reads any quantity by name.

    Attributes:
        model: what was simulated.
        p: its parameters, `[P]` or `[B, P]`.
        status: per sample, `"ok"` or why it ended early; its numbers are NaN from then on.
        failed_at: `[B]`, when; NaN: it did not.
        where: per sample, the species (or event) that failed; empty: none.
        steps: `[B]`, accepted steps.
        rejected: `[B]`, rejected attempts.
        stiff_from: `[B]`, from when the stiff method was used; NaN: never.
        fired: `[B]`, events executed.
    """

    model: Any = None
    p: Any = None
    status: tuple[str, ...] = ()
    failed_at: Tensor = field(default_factory=lambda: torch.empty(0))
    where: tuple[str, ...] = ()
    steps: Tensor = field(default_factory=lambda: torch.empty(0))
    rejected: Tensor = field(default_factory=lambda: torch.empty(0))
    stiff_from: Tensor = field(default_factory=lambda: torch.empty(0))
    fired: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def ok(self) -> Tensor:
        """`[B]`: which samples reached the end."""
        return torch.tensor([each == "ok" for each in self.status])

    def value(self, name: str) -> Tensor:
        """Concentration of a species, value of a parameter, size of a compartment, or rate of a reaction.

        Args:
            name: its identifier.

        Returns:
            `[points]`, or `[points, B]` for a batch.

        Raises:
            KeyError: no such name, with the names there are.
        """
        return self._read(name, "value")

    def amount(self, name: str) -> Tensor:
        """Amount of a species: `[points]`, or `[points, B]` for a batch.

        Raises:
            KeyError: no such name, with the names there are.
            ValueError: it is no species.
        """
        return self._read(name, "amount")

    def _read(self, name: str, which: str) -> Tensor:
        quantities = self.model.network.quantities
        if name not in quantities:
            known = ", ".join(list(quantities)[:20]) + (", ..." if len(quantities) > 20 else "")
            raise KeyError(f"{self.model.name} has no {name!r}; it has {known}")
        formula = getattr(quantities[name], which)
        if formula is None:
            raise ValueError(f"{name} is a {quantities[name].kind}: only species have an amount")
        x = self.records["x"]
        read = self.model.compiled.build(f"{which}_of", [formula])
        batch = x if x.ndim == 3 else x[:, None]
        n, B, d = batch.shape
        t = self.t.to(batch)[:, None].expand(n, B).reshape(-1)
        p = self.p
        if isinstance(p, Tensor) and p.ndim > 1:
            p = p.expand(n, B, p.shape[-1]).reshape(n * B, -1)
        made = read(t, batch.reshape(n * B, d), p)[:, 0].reshape(n, B)
        # A quantity that reads no state is known even where the state is not; there it is no result.
        made = torch.where(batch.isnan().any(-1), torch.nan, made) if d else made
        return made if x.ndim == 3 else made[:, 0]


def simulate(
    model: Any,
    t_end: float,
    points: int = 101,
    *,
    x0: Tensor | Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | Tensor | None = None,
    method: Method = "auto",
    rtol: float = 1e-6,
    atol: float | Tensor = 1e-9,
    grad: bool | None = None,
    fused: bool | None = None,
    seed: int = 0,
    max_steps: int = 100_000,
) -> Simulation:
    """Integrate a model from t = 0 and keep `points` equally spaced times.

    Args:
        model: an `unrolled.sbml.Model`.
        t_end: the last time, positive.
        points: how many times, the first and the last included.
        x0: `[d]` or `[B, d]`, or name -> number or `[B]` for some columns; the model's own when None.
        parameters: name -> number or `[B]`, or a tensor `[P]` or `[B, P]`.
        method: `"auto"` (explicit, and Rodas5P for the samples that turn out stiff), `"dopri5"` or `"rodas5p"`.
        rtol: relative tolerance of a step.
        atol: absolute tolerance, a number or `[d]`.
        grad: keep the graph. None: where x0 or parameters ask for gradients.
        fused: compile the whole loop for this model. None: for batches of 64 and more on a CPU in float64.
        seed: of the order of simultaneous events of equal priority.
        max_steps: attempts per sample and method.

    Returns:
        The simulation. Samples that failed are NaN from then on, with a status, and a `RuntimeWarning` is given. `meta`
        says which methods and which path were used, and how many trajectories per second they made.

    Raises:
        ValueError: arguments that make no sense, or gradients through events.
        KeyError: a name the model does not have.

    Example:
        >>> from unrolled.sbml.model import Model
        >>> model = Model.from_equations({"A": 1.0}, {"k": 2.0}, {"A": "-k * A"})
        >>> run = simulate(model, 1.0, 3, parameters={"k": [1.0, 2.0]}, rtol=1e-9, atol=1e-12)
        >>> [round(value, 6) for value in run.value("A")[-1].tolist()], run.status
        ([0.367879, 0.135335], ('ok', 'ok'))
    """
    if not (t_end > 0 and t_end < float("inf")):
        raise ValueError(f"t_end is the last time, positive and finite, got {t_end}")
    if points < 2 or int(points) != points:
        raise ValueError(f"points counts output times, 2 or more, got {points}")
    x, p, batched = _start(model, x0, parameters)
    graph = (x.requires_grad or p.requires_grad) and torch.is_grad_enabled() if grad is None else grad
    times = torch.linspace(0, t_end, int(points), dtype=x.dtype, device=x.device)
    eventful = bool(model.network.events)
    events = Events(model.compiled, seed) if eventful or model.compiled.switch_formulas else None
    if graph and eventful:
        raise ValueError(
            f"{model.name} has events, and gradients do not pass through them: give grad=False, or detach x0 and parameters"
        )
    rate, notes = model.compiled.rate, []
    options: dict[str, Any] = {"method": method, "rtol": rtol, "atol": atol, "max_steps": max_steps}
    begin = time.perf_counter()
    fast, compiling = None, 0.0
    if fused or (fused is None and len(x) >= FUSE and events is None and not graph and method != "rodas5p"):
        fast, why = _lanes(model, x, p, events, graph, method)
        if why:
            notes.append(f"not fused: {why}")
            if fused:
                raise ValueError(f"{model.name} cannot be fused: {why}")
        compiling = time.perf_counter() - begin
    with torch.no_grad():
        if fast is not None:
            solution = fast.solve(rate, x.detach(), times, p.detach(), **options)
        else:
            solution = integrate(
                rate, x.detach(), times, p=p.detach(), events=events, keep_steps=graph, **options
            )
    if graph:
        solution.x = replay(rate, x, times, solution, p=p)
    seconds = time.perf_counter() - begin - compiling
    return _simulation(model, times, p, solution, batched, eventful, {
        "method": method, "rtol": rtol, "atol": atol if isinstance(atol, float | int) else "per column",
        "path": "fused" if fast is not None else "plain", "compile_seconds": round(compiling, 3),
        "seconds": seconds, "trajectories_per_second": len(x) / max(seconds, 1e-9), "notes": notes,
    })  # fmt: skip


def _start(model: Any, x0: Any, parameters: Any) -> tuple[Tensor, Tensor, bool]:
    """Initial states `[B, d]`, parameters `[P]` or `[B, P]`, and whether the caller gave a batch."""
    named = dict(parameters) if isinstance(parameters, Mapping) else {}
    if isinstance(x0, Mapping):
        clash = named.keys() & x0.keys()
        if clash:
            raise ValueError(f"{', '.join(sorted(clash))} is given in x0 and in parameters: give it once")
        named |= dict(x0)
    begin = model.start(named)
    batched = any(isinstance(v, list | tuple) or getattr(v, "ndim", 0) for v in named.values())
    x, p = begin.x, begin.p
    if isinstance(parameters, Tensor):
        p = model.vector(parameters, x)
        batched |= p.ndim > 1
    if isinstance(x0, Tensor):
        if x0.ndim not in (1, 2) or x0.shape[-1] != x.shape[-1] or not x0.is_floating_point():
            raise ValueError(
                f"x0 has shape {tuple(x0.shape)}; {model.name} takes floats [{x.shape[-1]}] or [B, {x.shape[-1]}]: "
                f"{', '.join(model.species[:8])}"
            )
        batched |= x0.ndim > 1
        x = x0 if x0.ndim > 1 else x0[None]
        p = p.to(x)
    B = max(len(x), len(p) if p.ndim > 1 else 1)
    if {len(x), len(p) if p.ndim > 1 else 1} - {1, B}:
        raise ValueError(f"x0 has {len(x)} rows and parameters have {len(p)}")
    if p.ndim > 1 and len(p) == 1:
        p = p[0]
    return x.expand(B, -1), p, batched


def _lanes(
    model: Any, x: Tensor, p: Tensor, events: Events | None, graph: bool, method: str
) -> tuple[Any, str]:
    """The compiled loop of a model, kept on it; or why there is none."""
    for met, why in (
        (events is not None, "the model has events or switches"),
        (graph, "gradients are asked for"),
        (method == "rodas5p", "the stiff method is not compiled"),
        (
            x.device.type != "cpu" or x.dtype != torch.float64,
            f"{x.dtype} on {x.device}; it takes float64 on the CPU",
        ),
        (x.shape[1] == 0, "the model has no state"),
    ):
        if met:
            return None, why
    kept = model.__dict__.setdefault("_lanes", {})
    if "lanes" not in kept and "why" not in kept:
        try:
            kept["lanes"] = lanes.Lanes(model.compiled.rate, x.shape[1], p.shape[-1])
        except Unsuitable as error:
            kept["why"] = str(error)
    return kept.get("lanes"), kept.get("why", "")


def _simulation(model: Any, times: Tensor, p: Tensor, solution: Solution, batched: bool, eventful: bool,
                meta: dict[str, Any]) -> Simulation:  # fmt: skip
    codes, which = solution.status.tolist(), solution.component.tolist()
    names = [event.name for event in model.network.events] if eventful else []
    where = tuple(
        "" if code == 0 or i < 0 else (names[i] if code == 4 else model.species[i])
        for code, i in zip(codes, which)
    )
    stiff = solution.stiff_from.isfinite()
    meta |= {
        "stiff_samples": int(stiff.sum()), "steps": int(solution.steps.sum()), "rejected": int(solution.rejected.sum()),
        "events": int(solution.fired.sum()), "failed": sum(code != 0 for code in codes),
    }  # fmt: skip
    stop = Stop("steps", len(times) - 1)
    if meta["failed"]:
        first = next(i for i, code in enumerate(codes) if code)
        at = float(solution.failed_at[first])
        reached = int((times < at).sum())
        message = f"{REASONS[codes[first]]} at t = {at:.6g}"
        stop = Stop("nonfinite", reached, where[first], f"{message}; {HINTS[codes[first]]}")
        warnings.warn(
            f"{model.name}: {meta['failed']} of {len(codes)} samples failed; sample {first}: {where[first] or 'the model'}: "
            f"{message}; {HINTS[codes[first]]}",
            RuntimeWarning,
            stacklevel=3,
        )
    x = solution.x if batched else solution.x[:, 0]
    return Simulation(
        times, {"x": x}, x[-1], stop, meta, model=model, p=p, status=tuple(REASONS[code] for code in codes),
        failed_at=solution.failed_at, where=where, steps=solution.steps, rejected=solution.rejected,
        stiff_from=solution.stiff_from, fired=solution.fired,
    )  # fmt: skip
