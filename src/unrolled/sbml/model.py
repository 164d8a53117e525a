"""`Model`: a network as a core system: a batched, differentiable vector field with names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.sbml import equations, naive
from unrolled.sbml.compile import Compiled
from unrolled.sbml.expression import NAN
from unrolled.sbml.ir import Network, State

if TYPE_CHECKING:
    from unrolled.sbml.analysis.conservation import Law
    from unrolled.sbml.analysis.steady import SteadyStates
    from unrolled.sbml.analysis.summary import Report
    from unrolled.sbml.simulate import Simulation


@dataclass(frozen=True)
class Start:
    """Where a run begins: `x` `[B, d]`, `p` `[P]`, or `[B, P]` where parameters differ between samples."""

    x: Tensor
    p: Tensor


class Model:
    """dx/dt = f(t, x, p) of a biological network, for batches of states and of parameters.

    The columns of x are `species`: every species of the model that no assignment rule computes, constant ones too, then
    parameters, compartments and stoichiometries that a rate rule or an event changes. A species' column holds its
    concentration, or its amount where `holds` says so (hasOnlySubstanceUnits, or a compartment whose size changes).

    As a core system the state is `{"t": [B], "x": [B, d]}`, the input is the initial x (None for the model's own), and one
    step is one classical Runge-Kutta step of length `dt`.

    Args:
        network: what the model is; `unrolled.sbml.load` and `Model.from_equations` make it.
        dtype: of initial states: float64 or float32. `rate` follows the dtype of x.
        device: of initial states.
        dt: length of a step.
        fuse: let `torch.compile` fuse the vector field: some seconds once, many times faster for large batches.

    Attributes:
        network: as given.
        compiled: the generated functions; see `unrolled.sbml.compile`.
        species: names of the columns of x.
        holds: per column, `"concentration"`, `"amount"` or `"value"`.
        parameters: name -> value, of everything constant: parameters, local ones as `reaction.name`, compartments.
            A missing value is NaN.

    Example:
        >>> model = Model.from_equations({"A": 2.0, "B": 0.0}, {"k": 3.0}, {"A": "-k * A", "B": "k * A"})
        >>> model.rate(0.0, model.initial_state()).tolist()
        [[-6.0, 6.0]]
        >>> model.rate(0.0, model.initial_state(batch=2, A=1.0), {"k": torch.tensor([1.0, 2.0])}).tolist()
        [[-1.0, 1.0], [-2.0, 2.0]]
    """

    def __init__(
        self,
        network: Network,
        *,
        dtype: torch.dtype = torch.float64,
        device: Any = "cpu",
        dt: float = 0.01,
        fuse: bool = False,
    ) -> None:
        self.network = network
        self.dtype, self.device, self.dt = dtype, torch.device(device), dt
        self._fuse = fuse
        self.compiled = Compiled(network)
        self._field = torch.compile(self.compiled.rate, fullgraph=True) if fuse else self.compiled.rate
        self.species: tuple[str, ...] = tuple(state.name for state in network.states)
        self.holds: tuple[str, ...] = tuple(state.holds for state in network.states)
        self._states: dict[str, State] = {state.name: state for state in network.states}
        self._column = {parameter.name: i for i, parameter in enumerate(network.parameters)}
        self._default: Tensor | None = None
        self._cast: dict[Any, Tensor] = {}
        self.readouts: dict[str, Callable[[Any], Tensor]] = {
            name: (lambda state, i=i: state["x"][..., i]) for i, name in enumerate(self.species)
        }

    @classmethod
    def from_equations(
        cls,
        species: Mapping[str, float | str],
        parameters: Mapping[str, float | str] | None = None,
        rates: Mapping[str, str] | None = None,
        *,
        reactions: Mapping[str, str] | None = None,
        rules: Mapping[str, str] | None = None,
        events: Mapping[str, Mapping[str, Any]] | None = None,
        name: str = "model",
        **options: Any,
    ) -> "Model":
        """Write a model as equations in infix text; see `unrolled.sbml.infix.parse` for the language.

        Args:
            species: name -> initial value: a number, or a formula of parameters and other species.
            parameters: name -> value: a number, or a formula of other parameters. One that an event sets becomes a column of x.
            rates: species -> dx/dt.
            reactions: name -> `"A + 2 B -> C : k * A * B^2"`: they add to the rates of their species; the name is the rate.
            rules: name -> formula that holds at all times.
            events: name -> `{"trigger": "A > 2", "assign": {"A": "A / 2"}}`, with `delay`, `priority` (formulas), `initial`,
                `persistent`, `from_trigger_time` (bool) as in `unrolled.sbml.ir.Event`.
            name: of the model.
            options: of `Model`: `dtype`, `device`, `dt`, `fuse`.

        Raises:
            ValueError: a formula that cannot be read, names what there is not, or a circle of rules; the message says where.

        Example:
            >>> model = Model.from_equations({"S": 1.0, "P": 0.0}, {"k": 0.5}, reactions={"v": "S -> 2 P : k * S"})
            >>> model.rate(0.0, model.initial_state()).tolist()
            [[-0.5, 1.0]]
        """
        network = equations.network(
            species, parameters or {}, rates or {}, reactions or {}, rules or {}, events or {}, name
        )
        return cls(network, **options)

    def to(self, *, dtype: torch.dtype | None = None, device: Any = None) -> "Model":
        """The same model with initial states of another dtype, on another device."""
        return Model(
            self.network,
            dtype=dtype or self.dtype,
            device=device or self.device,
            dt=self.dt,
            fuse=self._fuse,
        )

    def stepping(self, dt: float) -> "Model":
        """The same model with another length of a step."""
        return Model(self.network, dtype=self.dtype, device=self.device, dt=dt, fuse=self._fuse)

    def fused(self) -> "Model":
        """The same model with its vector field fused by `torch.compile`: for large batches.

        The first call takes some seconds; it needs the C++ compiler that `torch.compile` needs.
        """
        return Model(self.network, dtype=self.dtype, device=self.device, dt=self.dt, fuse=True)

    @property
    def name(self) -> str:
        """Of the model."""
        return self.network.name

    @property
    def parameters(self) -> dict[str, float]:
        """Name -> value of everything that stays constant during a run."""
        return dict(zip(self._column, self._defaults().tolist()))

    def _defaults(self) -> Tensor:
        if self._default is None:
            self._default = self.start({}, check=False).p
        return self._default

    # --- where a run begins ------------------------------------------------------------------------------------------

    def start(
        self, values: Mapping[str, Any] | None = None, *, batch: int | None = None, check: bool = True
    ) -> Start:
        """The state and the parameters at t = 0, with some values given instead of the model's own.

        Initial assignments and parameters with a formula follow what is given: with `k2 = 2 k1` in the model, giving k1
        moves k2 too, unless k2 is given.

        Args:
            values: name of a column, or parameter -> number or `[B]`. For a species the concentration, or the amount where
                formulas mean its amount (hasOnlySubstanceUnits).
            batch: B; found from the values when None.
            check: refuse when a needed value is missing.

        Raises:
            KeyError: no such name, with the names there are.
            ValueError: a value that is missing, computed by a rule, or of another length than the batch.
        """
        network, like = self.network, torch.zeros((), dtype=self.dtype, device=self.device)
        given = {name: self._given(name, value, like) for name, value in (values or {}).items()}
        sizes = {len(value) for value in given.values() if value.ndim} | (
            {batch} if batch is not None else set()
        )
        sizes -= {1} if len(sizes) > 1 else set()
        if len(sizes) > 1:
            raise ValueError(f"the batch is of one size, but the values given have {sorted(sizes)}")
        env = {q.name: like + (NAN.value if q.value is None else q.value) for q in network.parameters}
        env |= given
        for rule in network.initial:
            state = next((s for s in network.states if s.symbol == rule.name), None)
            if state is not None and state.name in given:
                scale = naive.evaluate(state.scale, env, like) if state.scale is not None else 1.0
                env[rule.name] = given[state.name] * scale
            elif rule.name not in given:
                made = naive.evaluate(rule.formula, env, like)
                env[rule.name] = made.to(self.dtype)
        if check:
            lacking = [name for name in network.missing if name not in given]
            if lacking:
                raise ValueError(
                    f"{network.name} gives no value for {', '.join(lacking)}: give one, {lacking[0]}=..."
                )
        size = sizes.pop() if sizes else 1
        columns = [
            env[state.symbol].expand(size)
            if env[state.symbol].ndim == 0 or len(env[state.symbol]) == 1
            else env[state.symbol]
            for state in network.states
        ]
        x = torch.stack(columns).mT if columns else like.new_empty(size, 0)
        rows = [env[parameter.name] for parameter in network.parameters]
        if any(row.ndim for row in rows):
            p = torch.stack([row.expand(size) for row in rows]).mT
        else:
            p = torch.stack(rows) if rows else like.new_empty(0)
        return Start(x, p)

    def _given(self, name: str, value: Any, like: Tensor) -> Tensor:
        if name not in self._column and name not in self._states:
            if name in self.network.quantities:
                raise ValueError(f"{name} is computed by a rule of {self.name}, so it cannot be given")
            known = ", ".join([*self.species, *self._column][:20])
            raise KeyError(
                f"{self.name} has no {name!r}; it has {known}" + (", ..." if len(self._column) > 20 else "")
            )
        made = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        if made.ndim > 1:
            raise ValueError(f"{name} is a number or [B], got shape {tuple(made.shape)}")
        return made

    def initial_state(self, batch: int = 1, **values: Any) -> Tensor:
        """The state at t = 0, `[B, d]`.

        Args:
            batch: B.
            values: name -> number or `[B]`, instead of the model's own: columns, and parameters that initial values depend on.

        Raises:
            KeyError: no such name.
            ValueError: a value that is missing, computed by a rule, or of another length than the batch.
        """
        batch = max(
            [
                batch,
                *(
                    len(v)
                    for v in values.values()
                    if isinstance(v, Tensor | list | tuple) and torch.as_tensor(v).ndim
                ),
            ]
        )
        return self.start(values, batch=batch).x

    # --- the vector field --------------------------------------------------------------------------------------------

    def rate(self, t: Any, x: Tensor, p: Any = None) -> Tensor:
        """dx/dt.

        Args:
            t: time: a number or `[B]`.
            x: `[B, d]` or `[d]`, float64 or float32.
            p: None for the model's own parameters, name -> number or `[B]`, or a tensor `[P]` or `[B, P]` in the order of
                `parameters`.

        Returns:
            In the shape and dtype of x.

        Raises:
            ValueError: x is not for this many columns.
            KeyError: no such parameter.
        """
        if x.shape[-1:] != (len(self.species),) or not x.is_floating_point():
            raise ValueError(
                f"x has shape {tuple(x.shape)} and dtype {x.dtype}; {self.name} takes floats of shape "
                f"[B, {len(self.species)}] or [{len(self.species)}]: {', '.join(self.species[:8])}"
            )
        return self._field(self._time(t, x), x, self.vector(p, x))

    def vector(self, p: Any, like: Tensor) -> Tensor:
        """Parameters as the generated code takes them, in the dtype and on the device of a state: see `rate`."""
        if isinstance(p, Tensor):
            if p.shape[-1:] != (len(self._column),):
                raise ValueError(
                    f"p has shape {tuple(p.shape)}; {self.name} has {len(self._column)} parameters"
                )
            return p.to(like)
        if p:
            foreign = [name for name in p if name not in self._column]
            if foreign:
                known = ", ".join(list(self._column)[:20])
                raise KeyError(f"{self.name} has no parameter {foreign[0]!r}; it has {known}")
            return self.start(p, check=False).p.to(like)
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = self._defaults().to(like)
        return self._cast[key]

    def _time(self, t: Any, x: Tensor) -> Tensor:
        return torch.as_tensor(t, dtype=x.dtype, device=x.device)

    def jacobian(self, x: Tensor, t: Any = 0.0, p: Any = None) -> Tensor:
        """df/dx, `[B, d, d]` for x `[B, d]`: row i is the gradient of the rate of column i.

        Raises:
            ValueError: as `rate`.

        Example:
            >>> model = Model.from_equations({"A": 3.0}, {}, {"A": "-A^2"})
            >>> model.jacobian(model.initial_state()).tolist()
            [[[-6.0]]]
        """
        if x.ndim == 1:
            return self.jacobian(x[None], t, p)[0]
        self.rate(t, x, p)
        vector, time = self.vector(p, x), self._time(t, x).expand(len(x))
        rows = 0 if vector.ndim > 1 else None
        field = torch.func.jacfwd(self.compiled.rate, argnums=1)
        return torch.func.vmap(field, in_dims=(0, 0, rows))(time, x, vector)

    # --- what is done with it ----------------------------------------------------------------------------------------

    def simulate(self, t_end: float, points: int = 101, **options: Any) -> "Simulation":
        """Integrate from t = 0; see `unrolled.sbml.simulate.simulate`.

        Args:
            t_end: the last time.
            points: equally spaced times from 0 to t_end, both included.
            options: `x0`, `parameters` (name -> number or `[B]`), `method` ("auto"), `rtol` (1e-6), `atol` (1e-9), and more.
        """
        from unrolled.sbml.simulate import simulate

        return simulate(self, t_end, points, **options)

    @cached_property
    def conserved(self) -> "list[Law]":
        """What the reactions never make or lose; see `unrolled.sbml.analysis.conservation.conserved`."""
        from unrolled.sbml.analysis.conservation import conserved

        return conserved(self)

    def steady_states(self, **options: Any) -> "SteadyStates":
        """States at rest, with their stability; see `unrolled.sbml.analysis.steady.steady_states`."""
        from unrolled.sbml.analysis.steady import steady_states

        return steady_states(self, **options)

    def report(self, **options: Any) -> "Report":
        """What the model holds, conserves and does, to print or to plot; see `unrolled.sbml.analysis.summary.report`."""
        from unrolled.sbml.analysis.summary import report

        return report(self, **options)

    def source(self) -> str:
        """The generated torch code of the vector field."""
        return self.compiled.source

    # --- the core system ---------------------------------------------------------------------------------------------

    def init(self, input: Any = None, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The state at t = 0; the input is x, `[B, d]` or `[d]`, or None for the model's own."""
        x = self.initial_state() if input is None else torch.as_tensor(input).clone()
        x = x if x.ndim > 1 else x[None]
        return {"t": x.new_zeros(len(x)), "x": x}

    def step(
        self, state: dict[str, Tensor], input: Any = None, *, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """One Runge-Kutta step of order 4 and length `dt`.

        Raises:
            ValueError: the model has events, which fall between steps.
        """
        if self.network.events:
            raise ValueError(
                f"{self.name} has events, which fall between steps of one length: use simulate()"
            )
        t, x, h = state["t"], state["x"], self.dt
        k1 = self.rate(t, x)
        k2 = self.rate(t + h / 2, x + h / 2 * k1)
        k3 = self.rate(t + h / 2, x + h / 2 * k2)
        k4 = self.rate(t + h, x + h * k3)
        return {"t": t + h, "x": x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)}

    def __repr__(self) -> str:
        events = f", {len(self.network.events)} events" if self.network.events else ""
        return f"Model({self.name!r}, {len(self.species)} columns, {len(self._column)} parameters{events})"
