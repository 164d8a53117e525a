"""`Core`: a frozen system as a vector field on `[B, d]`, with the scale on which it lives."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.core import tree
from unrolled.languagegame.statistics import STATISTICS
from unrolled.sbml import Model
from unrolled.sbml.analysis.conservation import amounts_per_column

FLOOR, CEILING = 1e-5, 1e8
"""Concentrations stay within these; a system whose states may be negative stays within the ceiling on both sides."""


class Core:
    """A frozen system in the middle of a policy: f, mu, std, bounds, and the manifold of its conserved totals.

    A biological network (`unrolled.sbml.Model`), or any system with a method `rate(t, x)`, gives its vector field dx/dt at
    t = 0. Any other gives what one step changes, step(x) - x, its state being made by `init(x)` and read by `of`; where what
    is read has another width than x, that itself. Nothing in it is ever trained: the parameters
    of a module are set to need no gradient, it is kept in eval mode, and it is no part of the policy's `state_dict`.

    Args:
        system: an `unrolled.sbml.Model`, or any object with `init` and `step`.
        name: to save it under, and to show.
        mu: `[d]`, where its state lives.
        std: `[d]`, how far it swings. Both are found by `unrolled.sbml.analysis.calibrate` for a network when None, and are 0
            and 1 for other systems.
        time_scale: a unit of its time; `flow` integrates for a share of it.
        positive: whether states stay at or above 1e-5; None: yes for a network whose initial state has nothing negative.
        width: d, of a system that is no network.
        of: state -> `[B, ...]`, what is read of a state; its first tensor when None.
        names: d names; `x0`, `x1`, ... when None.

    Attributes:
        species: d names.
        out: width of what the field gives; d unless `of` reads something else.
        differential: whether the system has a vector field, `rate(t, x)`.

    Raises:
        TypeError: no system.
        ValueError: mu or std of another length, a std that is not positive, or no width.

    Example:
        >>> core = Core.named("tyson1999")
        >>> core.species, core.time_scale
        (('EmptySet', 'M', 'P'), 24.0)
        >>> [round(v, 6) for v in core.field(torch.tensor([[0.0, 1.3, 1.9]], dtype=torch.float64))[0].tolist()]
        [0.0, -0.118226, 0.083684]
    """

    def __init__(
        self,
        system: Any,
        *,
        name: str | None = None,
        mu: Any = None,
        std: Any = None,
        time_scale: float | None = None,
        positive: bool | None = None,
        width: int | None = None,
        of: Callable[[Any], Tensor] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if not (callable(getattr(system, "init", None)) and callable(getattr(system, "step", None))):
            raise TypeError(
                f"a core is a system with init and step, such as unrolled.sbml.Model; got {type(system).__name__}"
            )
        self.system, self.name, self._of = system, name or "", of
        self.differential = callable(getattr(system, "rate", None))
        if isinstance(system, Model):
            self.name = name or system.name
            self.species: tuple[str, ...] = tuple(system.species)
            if system.network.events:
                raise ValueError(
                    f"{system.name} has events: a vector field cannot show them, so it makes no core"
                )
            if mu is None or std is None or time_scale is None:
                from unrolled.sbml.analysis import calibrate

                found = calibrate(system)
                mu = found.mu if mu is None else mu
                std = found.std if std is None else std
                time_scale = found.time_scale if time_scale is None else time_scale
            if positive is None:
                positive = bool((system.initial_state() >= 0).all())
        else:
            if not (width or names or mu is not None):
                raise ValueError(
                    f"say how wide a state of {type(system).__name__} is: Core(system, width=...)"
                )
            count = width or (len(names) if names else torch.as_tensor(mu).numel())
            self.species = tuple(names) if names else tuple(f"x{i}" for i in range(count))
            self.name = name or type(system).__name__
        d = len(self.species)
        self.mu = _vector(mu, 0.0, d, "mu", self.name)
        self.std = _vector(std, 1.0, d, "std", self.name)
        if not bool((self.std > 0).all()):
            raise ValueError(f"std is positive, got {self.std.tolist()}")
        self.time_scale = float(1.0 if time_scale is None else time_scale)
        self.low, self.high = (FLOOR, CEILING) if positive else (-CEILING, CEILING)
        self._groups, self._sums = _manifold(system) if isinstance(system, Model) else ([], [])
        self._cast: dict[Any, tuple[Tensor, Tensor]] = {}
        self.out = d if self.differential else self._probe()
        self.freeze()

    @classmethod
    def named(cls, name: str) -> "Core":
        """A shipped network with the paper's mu and std (fact sheet, A4), or a baseline; see `unrolled.languagegame.baselines`.

        Args:
            name: as `unrolled.sbml.models.named` takes it, or `linear`, `mlp`, `random`, with a width as in `linear:3`.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        from unrolled.languagegame import baselines
        from unrolled.sbml import models

        kind = re.fullmatch(r"(linear|mlp|random)(?::(\d+))?(?:/(\d+))?", name)
        if kind:
            width = int(kind[2] or baselines.WIDTH)
            if kind[1] == "random":
                return baselines.random_field(width, seed=int(kind[3] or 0))
            return baselines.linear(width) if kind[1] == "linear" else baselines.mlp(width)
        compat = name == "gardner2000-paper"
        if not compat and name not in models.PAPER and name not in models.CLASSICS:
            raise ValueError(
                f"no core {name!r}; there are {', '.join([*models.PAPER, *models.CLASSICS])}, the baselines linear, mlp and "
                f"random (with a width: linear:3), and gardner2000-paper"
            )
        model = models.gardner2000(paper_compat=True) if compat else models.named(name)
        known = STATISTICS.get("gardner2000" if compat else name)
        if known is None:
            return cls(model, name=name)
        return cls(
            model,
            name=name,
            mu=known.mu,
            std=known.std,
            time_scale=known.time_scale,
            positive=name != "lorenz",
        )

    @property
    def width(self) -> int:
        """D."""
        return len(self.species)

    @property
    def learned(self) -> nn.Module | None:
        """What of it learns: nothing, but for the baseline `mlp`."""
        f = getattr(self.system, "f", None)
        return f if isinstance(f, nn.Module) and getattr(f, "learns", False) else None

    def freeze(self) -> None:
        """Take gradients off whatever parameters the system has, and put it into eval mode."""
        for module in _modules(self.system):
            if module is not self.learned:
                module.requires_grad_(False)
                module.eval()

    def scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mu and std in the dtype and on the device of a tensor."""
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = (self.mu.to(like), self.std.to(like))
        return self._cast[key]

    def normalised(self, x: Tensor) -> Tensor:
        """(x - mu) / std."""
        mu, std = self.scale(x)
        return (x - mu) / std

    # --- the field, and where it holds ---------------------------------------------------------------------------------

    def field(self, x: Tensor) -> Tensor:
        """dx/dt, or what one step changes, or what is read after one step. `[B, out]`."""
        if self.differential:
            return self.system.rate(0.0, x)
        after = self._read(self.system.step(self.system.init(x), x))
        return after - x if after.shape == x.shape else after

    def project(self, x: Tensor) -> Tensor:
        """X on the manifold of the conserved totals: differentiable, and the identity where nothing is conserved.

        Groups that count a moiety (Kholodenko's three kinases, Markevich's MAPK) are rescaled to their totals; a column that is
        the sum of others (v = u + z of Tyson 1991) is recomputed.
        """
        if not self._groups and not self._sums:
            return x
        columns = list(x.unbind(-1))
        for indices, weights, total in self._groups:
            held = sum(w * columns[i] for i, w in zip(indices, weights))
            factor = total / held
            for i in indices:
                columns[i] = columns[i] * factor
        for target, indices, weights in self._sums:
            columns[target] = sum(w * columns[i] for i, w in zip(indices, weights))  # type: ignore[assignment]
        return torch.stack(columns, -1)

    def flow(self, x: Tensor, duration: float, steps: int) -> Tensor:
        """The state after `duration` units of time: `steps` classical Runge-Kutta steps, kept within the bounds.

        A system without `rate` makes `steps` steps of its own.
        """
        if not self.differential:
            state = self.system.init(x)
            for _ in range(steps):
                state = self.system.step(state, x)
            return self._read(state)
        h = duration / steps
        rate = self.system.rate
        for _ in range(steps):
            k1 = rate(0.0, x)
            k2 = rate(0.0, self._inside(x + h / 2 * k1))
            k3 = rate(0.0, self._inside(x + h / 2 * k2))
            k4 = rate(0.0, self._inside(x + h * k3))
            x = self._inside(x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        return x

    def _inside(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    def _read(self, state: Any) -> Tensor:
        made = self._of(state) if self._of else state
        if not isinstance(made, Tensor):
            tensors = [leaf for _, leaf in tree.leaves(made) if leaf.is_floating_point() and leaf.ndim]
            if not tensors:
                raise ValueError(f"a state of {self.name} has no tensor to read; say which with of=")
            made = tensors[0]
        return made.flatten(1) if made.ndim > 1 else made[:, None]

    def _probe(self) -> int:
        x = self.mu.to(torch.get_default_dtype())[None].expand(2, -1)
        with torch.no_grad():
            made = self._read(self.system.step(self.system.init(x), x))
        if made.ndim != 2 or len(made) != 2:
            raise ValueError(
                f"a state of {self.name} is read as {tuple(made.shape)} for 2 inputs; a core needs [2, width]: give of="
            )
        return made.shape[1]

    def spec(self) -> dict[str, Any]:
        """What is saved of it: enough to make a shipped one again, and to recognise another."""
        return {
            "name": self.name, "species": list(self.species), "mu": self.mu.tolist(), "std": self.std.tolist(),
            "time_scale": self.time_scale, "low": self.low,
        }  # fmt: skip

    def restated(self, spec: dict[str, Any]) -> "Core":
        """The same system with the statistics and bounds of a saved spec."""
        made = copy.copy(self)
        made.mu, made.std = (torch.tensor(spec[key], dtype=torch.float64) for key in ("mu", "std"))
        made.name, made.time_scale, made.low = spec["name"], spec["time_scale"], spec["low"]
        made._cast = {}
        return made

    def __repr__(self) -> str:
        return f"Core({self.name!r}, {self.width} wide)"


def as_core(system: Any) -> Core:
    """A `Core` of a name, a network, a core, or a system that says its `width`."""
    if isinstance(system, Core):
        return system
    if isinstance(system, str):
        return Core.named(system)
    return Core(system, width=getattr(system, "width", None))


def _vector(values: Any, default: float, d: int, what: str, name: str) -> Tensor:
    made = torch.full((d,), default) if values is None else torch.as_tensor(values)
    made = made.detach().to(torch.float64).reshape(-1)
    if len(made) != d:
        raise ValueError(f"{what} has {len(made)} numbers, {name} has {d} columns")
    return made


def _modules(system: Any) -> list[nn.Module]:
    if isinstance(system, nn.Module):
        return [system]
    return [value for value in getattr(system, "__dict__", {}).values() if isinstance(value, nn.Module)]


def _manifold(
    model: Model,
) -> tuple[list[tuple[list[int], list[float], float]], list[tuple[int, list[int], list[float]]]]:
    """Conservation laws as groups to rescale (no weight negative, total above 0), and columns to recompute (total 0)."""
    factor = amounts_per_column(model)
    groups: list[tuple[list[int], list[float], float]] = []
    sums: list[tuple[int, list[int], list[float]]] = []
    taken: set[int] = set()
    for law in model.conserved:
        indices = [model.species.index(name) for name in law.weights]
        weights = [weight * factor[name] for name, weight in law.weights.items()]
        if taken & set(indices):
            continue  # two laws that share a species: rescaling for one would break the other
        if min(weights) > 0 and law.total > 0:
            groups.append((indices, weights, law.total))
        elif sum(w < 0 for w in weights) == 1 and law.total == 0:
            k = next(k for k, w in enumerate(weights) if w < 0)
            rest = [j for j in range(len(indices)) if j != k]
            sums.append((indices[k], [indices[j] for j in rest], [-weights[j] / weights[k] for j in rest]))
        else:
            continue
        taken |= set(indices)
    return groups, sums
