"""`Network`: layers, paths and weights of a spiking cortex, as a system that `rollout` iterates.

>>> import torch
>>> from unrolled.cortex import Network
>>> net = Network(seed=1)
>>> _ = net.layer("Input", (2, 2), kind="input")
>>> _ = net.layer("Hidden", (4, 4))
>>> _ = net.layer("Output", (2, 2), kind="target")
>>> _ = net.connect("Input", "Hidden")
>>> _ = net.connect("Hidden", "Output", back=True)
>>> trial = net.present(torch.eye(4)[:1], torch.eye(4)[:1], record=["Output.Act"])
>>> trial["Output.Act"].shape, sorted(net.learn(trial))
(torch.Size([201, 1, 4]), ['Hidden->Output', 'Input->Hidden', 'Output->Hidden'])
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory, rollout, seeds
from unrolled.cortex import memory
from unrolled.cortex.axon import sheets
from unrolled.cortex.axon.building import draw
from unrolled.cortex.axon.fused import Fused
from unrolled.cortex.axon.kinds import HIDDEN, INPUT, TARGET, Kind, Moment
from unrolled.cortex.axon.layer import Layer, LayerParams
from unrolled.cortex.axon.naive import Naive
from unrolled.cortex.axon.paths import CONDUCTANCES, Path, PathParams, scales
from unrolled.cortex.axon.paths import pattern as connectivity
from unrolled.cortex.axon.plasticity import learn
from unrolled.cortex.axon.state import VARIABLES
from unrolled.cortex.kinase._linear import BIN
from unrolled.cortex.theta import ThetaCycle

KINDS = {kind.name: kind for kind in (INPUT, HIDDEN, TARGET)}
Patterns = Tensor | Sequence[Any] | Mapping[str, Tensor] | None


class Network:
    """A spiking network after Axon (cortex fact sheet, section 5), batched `[data, neurons]`.

    It owns layers, paths, parameters and weights, and nothing of a trial: `init` makes a state, `step` and the fused
    `run` advance one, `learn` alone changes weights. `present` and `cycle` keep the latest state in `state`, so that
    trials follow one another as they do in an animal.

    Args:
        theta: lengths of the phases.
        seed: of initial weights and targets; the network itself draws no random numbers.
        dtype: float32 as in Axon, or float64.
        device: where weights and states live.
        slow_interval: trials (x batch) between steps of slow adaptation.
        gi_interval: trials (x batch) between steps of the gain of inhibition.

    Attributes:
        layers: name -> `Layer`, in the order they were made.
        paths: name -> `Path`.
        state: the state after the last `present` or `cycle`; None before.
        naive: the naive twin, a system that shares these weights.
        gi_mult: layer -> adapted gain of inhibition.
        activity: layer -> long-run averages `act_avg`, targets `trg_avg`, each `[neurons]`, and the mean `act_m_avg`.
        trials: how many trials (x batch) were learned from.
    """

    def __init__(
        self,
        theta: ThetaCycle | None = None,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        slow_interval: int = 100,
        gi_interval: int = 1000,
    ) -> None:
        if theta is not None and not isinstance(theta, ThetaCycle):
            raise TypeError(
                f"Network(theta={theta!r}): expected ThetaCycle(minus=150, plus=50), or nothing for that one"
            )
        self.theta = theta or ThetaCycle()
        self.seed, self.slow_interval, self.gi_interval = seed, slow_interval, gi_interval
        self.like = torch.empty(0, dtype=dtype, device=device)
        self.layers: dict[str, Layer] = {}
        self.paths: dict[str, Path] = {}
        self.state: Any = None
        self.naive = Naive(self)
        self.gi_mult: dict[str, float] = {}
        self.activity: dict[str, dict[str, Any]] = {}
        self.scale: dict[str, float] = {}
        self.trials, self.since_slow, self.since_gi = 0, 0, 0
        self.built, self.version, self.backend = False, 0, ""
        self._last: Trajectory | None = None
        self._fused: Fused | None = None

    # -- making a network

    def layer(
        self, name: str, shape: Sequence[int], kind: str | Kind = "hidden", *, tags: Sequence[str] = ()
    ) -> Layer:
        """Add a layer.

        Args:
            name: unique.
            shape: `(rows, columns)`, or `(pool rows, pool columns, rows, columns)` for a layer with sub-pools.
            kind: `"input"`, `"hidden"`, `"target"`, or a `Kind` of your own.
            tags: what `.tag` selectors of a sheet find, besides the kind.

        Raises:
            ValueError: a name that is taken or has `.`, `:` or `->` in it, a shape that is none, an unknown kind, or a
                network that has run already.
        """
        self._refuse_late(f"layer {name!r}")
        if name in self.layers or not name or any(mark in name for mark in (".", ":", "->")):
            raise ValueError(
                f"layer {name!r}: a name is unique and without '.', ':' and '->'; taken are {list(self.layers)}"
            )
        sizes = tuple(shape)
        if len(sizes) not in (2, 4) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(
                f"layer {name!r}: a shape is (rows, columns) or (pool rows, pool columns, rows, columns), got {sizes}"
            )
        if isinstance(kind, str):
            if kind not in KINDS:
                raise ValueError(
                    f"layer {name!r}: unknown kind {kind!r}; expected {', '.join(KINDS)}, or a Kind"
                )
            kind = KINDS[kind]
        last = next(reversed(self.layers.values()), None)
        start, pool = (last.start + last.n, last.pool + last.pools) if last else (0, 0)
        params = sheets.replace(LayerParams(), dict(kind.params))
        made = Layer(name, sizes, kind, params, frozenset({kind.name, *tags}), len(self.layers), start, pool)
        self.layers[name] = made
        return made

    def connect(
        self,
        send: str | Layer,
        recv: str | Layer,
        pattern: str | Tensor | Callable[[Layer, Layer], Tensor] = "full",
        *,
        kind: str = "forward",
        back: bool = False,
        tags: Sequence[str] = (),
        rule: Callable[..., Tensor] | None = None,
    ) -> Path:
        """Connect two layers.

        Args:
            send: sending layer.
            recv: receiving layer.
            pattern: `"full"`, `"one-to-one"`, `"pool-one-to-one"`, a mask `[send, recv]`, or a function of the layers
                that makes one.
            kind: `"forward"`, `"back"` (top-down, weak: rel 0.1), `"lateral"`, `"inhibitory"`, `"maintenance"`,
                `"context"`.
            back: also make the path back, of kind `"back"` and with the transposed pattern.
            tags: what `.tag` selectors of a sheet find, besides the kind.
            rule: how it learns in place of the receiver's rule: `rule(net, path, state) -> [send, recv]`, the change
                summed over data, softly bounded, before the learning rate.

        Raises:
            ValueError: a layer that is not there, a path that is there already, or a pattern that does not fit.
        """
        what = f"connect({getattr(send, 'name', send)!r}, {getattr(recv, 'name', recv)!r})"
        a, b = self._find(send, what), self._find(recv, what)
        self._refuse_late(f"path {a.name}->{b.name}")
        if kind not in CONDUCTANCES:
            raise ValueError(
                f"{what}: unknown kind of path {kind!r}; expected one of {', '.join(CONDUCTANCES)}"
            )
        mask = connectivity(pattern, a, b)
        mask = mask if mask is None else mask.to(self.like.device)
        name = f"{a.name}->{b.name}"
        name = name if name not in self.paths else f"{name}:{kind}"
        if name in self.paths or any(
            p.send is a and p.recv is b and p.kind == kind for p in self.paths.values()
        ):
            raise ValueError(f"{what}: there is a {kind} path between them already")
        special = {"back": {"scale.rel": 0.1}, "inhibitory": {"swts.adapt": False}}
        params = sheets.replace(PathParams(), special.get(kind, {}))
        path = Path(name, a, b, kind, mask, params, frozenset({kind, *tags}), rule)
        self.paths[name] = path
        if back:
            self.connect(b, a, "full" if mask is None else mask.T.contiguous(), kind="back", tags=tags)
        return path

    def apply(self, sheet: sheets.Rule | Sequence[sheets.Rule]) -> None:
        """Set parameters by a sheet, or one rule of it; later rules count over earlier ones.

        Initial weights follow the sheet only if it comes before the network first runs, or before `build`.

        Raises:
            ValueError: a rule that finds nobody, an unknown field, or a value that no cell can have.
        """
        for rule in [sheet] if isinstance(sheet, sheets.Rule) else sheet:
            found = [x for x in self.layers.values() if rule.matches("Layer", x.name, x.tags)]
            found += [x for x in self.paths.values() if rule.matches("Path", x.name, x.tags)]
            if not found:
                raise ValueError(
                    f"{rule.select!r} finds no layer and no path: expected 'Layer', 'Path', '.tag' or '#name'; there are "
                    f"{', '.join([*self.layers, *self.paths])}"
                )
            for item in found:
                item.params = sheets.replace(item.params, rule.set)
        if self.built:
            self._rescale()

    def build(self, seed: int | None = None) -> "Network":
        """Draw weights, averages and targets, and forget all learning; done by itself at the first run.

        Raises:
            ValueError: a network without layers, or a layer that nothing drives.
        """
        if not self.layers:
            raise ValueError("a network without layers: add some with layer(name, shape, kind)")
        for layer in self.layers.values():
            if not self.incoming(layer) and not layer.kind.takes_pattern:
                raise ValueError(
                    f"layer {layer.name!r} receives no path and no pattern: connect something to it, or make it an input"
                )
        rng = seeds.generator(self.seed if seed is None else seed)
        assert rng is not None
        draw(self, rng)
        self.trials, self.since_slow, self.since_gi = 0, 0, 0
        self.state, self._last, self.built = None, None, True
        self._rescale()
        return self

    def compile(self, backend: str = "inductor") -> "Network":
        """Run the cell's equations through `torch.compile` from now on; where that does not work, warn and run without.

        This is for GPUs, where launches are the cost; on a CPU the eager cycle is as fast. Results are equal up to
        rounding.

        Args:
            backend: of `torch.compile`; an empty string goes back to the eager cycle.
        """
        self.backend = backend
        self._fused, self.version = None, self.version + 1
        return self

    def ready(self) -> "Network":
        """The network, built if it was not."""
        return self if self.built else self.build()

    def __getitem__(self, name: str) -> Any:
        """A layer, or a path, by name.

        Raises:
            KeyError: neither.
        """
        found = self.layers.get(name) or self.paths.get(name)
        if found is None:
            raise KeyError(
                f"no layer and no path {name!r}; there are {', '.join([*self.layers, *self.paths])}"
            )
        return found

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{x.name} {'x'.join(map(str, x.shape))} {x.kind.name}" for x in self.layers.values()
        )
        return f"Network({layers}; {len(self.paths)} paths)"

    # -- a system

    def init(self, input: Moment, *, rng: torch.Generator | None = None) -> dict[str, Any]:
        """The state at rest, for the batch of the input (1 without patterns)."""
        self.ready()
        self.check_moment(input)
        return self._fused_cycle().initial(self.data_of(input))

    def step(self, state: Any, input: Moment, *, rng: torch.Generator | None = None) -> dict[str, Any]:
        """One cycle of 1 ms; the argument is left alone."""
        return self.run(state, [input], 1)

    def run(
        self,
        state: Any,
        inputs: Sequence[Moment],
        steps: int,
        *,
        rng: torch.Generator | None = None,
        record: Sequence[str] | None = None,
    ) -> Any:
        """Several cycles, fused: the state after them, and each readout in `record` after every cycle."""
        self.ready()
        for moment in {(id(m.inputs), id(m.targets)): m for m in inputs}.values():
            self.check_moment(moment)
        final, records = self._fused_cycle().run(
            state, list(inputs)[:steps], [] if record is None else list(record)
        )
        return final if record is None else (final, records)

    @property
    def readouts(self) -> dict[str, Callable[[Any], Tensor]]:
        """`"Layer.Variable"` -> that part of a state, and `"Variable"` -> all layers side by side."""
        made: dict[str, Callable[[Any], Tensor]] = {}
        for variable in self.variables:
            made[variable] = lambda state, v=variable: state[v]
            for name, layer in self.layers.items():
                made[f"{name}.{variable}"] = lambda state, v=variable, part=layer.part: state[v][:, part]
        return made

    # -- trials

    def present(
        self,
        input: Patterns,
        target: Patterns = None,
        *,
        state: Any = None,
        record: str | Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Trajectory:
        """One theta cycle: the input through both phases, the target in the plus phase.

        Args:
            input: `[data, ...]` or `[...]` for one input layer, or layer -> pattern.
            target: the same for target layers; None leaves them free.
            state: what to go on from; by default the state the last trial left, or rest.
            record: readouts to keep at every cycle, as `["Spike", "Output.Act"]`: of all layers side by side, or of one.
            progress: as `rollout`'s.

        Returns:
            The trajectory; its final state is what `learn` reads.

        Raises:
            ValueError: a pattern for a layer that takes none, of the wrong size, of a different batch, negative, or not
                finite.
            KeyError: a readout that there is not.
        """
        moments = self.moments(input, target)
        record = [record] if isinstance(record, str) else list(record)
        for name in record:
            self.check_readout(name)
        state = self.state if state is None else state
        if state is not None and len(state["Spike"]) != self.data_of(moments[-1]):
            state = None
        trial = rollout(self, moments, len(moments), state=state, record=record or {}, progress=progress)
        self.state, self._last = trial.final, trial
        return trial

    def moments(self, input: Patterns, target: Patterns = None) -> list[Moment]:
        """What `present` hands to `rollout`: one `Moment` per cycle, from patterns in any of its forms.

        Raises:
            ValueError: as `present`.
        """
        self.ready()
        inputs = self._patterns(input, "input", [x.name for x in self.layers.values() if x.kind.is_input])
        targets = self._patterns(target, "target", [x.name for x in self.layers.values() if x.kind.is_target])
        made = self.theta.moments(inputs, targets)
        self.check_moment(made[-1])
        return made

    def cycle(self, input: Moment | None = None) -> dict[str, Any]:
        """Advance `state` by one cycle; without an input nothing is clamped."""
        self.ready()
        moment = Moment() if input is None else input
        state = self.init(moment) if self.state is None else self.state
        self.state = self.step(state, moment)
        return self.state

    def learn(self, trajectory: Trajectory | None = None, *, rate: float = 1.0) -> dict[str, Tensor]:
        """Change the weights from one presented theta cycle; the only thing that does.

        Args:
            trajectory: what `present` returned; by default the last.
            rate: factor of every path's learning rate.

        Returns:
            Path -> change of its linear weights `[send, recv]`, summed over data.

        Raises:
            ValueError: nothing was presented, or a trajectory that does not end with a plus phase.
        """
        trajectory = self._last if trajectory is None else trajectory
        if trajectory is not None and not isinstance(trajectory, Trajectory):
            raise TypeError(
                f"learn from a Trajectory, what present(input, target) returned; got {type(trajectory).__name__}"
            )
        if trajectory is None:
            raise ValueError("nothing to learn from: present(input, target) first")
        final = trajectory.final
        if not isinstance(final, Mapping) or not final.get("ended", False):
            raise ValueError(
                "the trajectory does not end with a plus phase: learn from what present() returned, or from a rollout over "
                "ThetaCycle.moments(...)"
            )
        with torch.no_grad():
            return learn(self, final, rate)

    def memory(self) -> dict[str, Any]:
        """Everything that training changes, as a tree that shares no memory with the network."""
        return memory.memory(self)

    def restore(self, kept: dict[str, Any]) -> None:
        """Put a memory back; training then goes on bit-equal.

        Raises:
            ValueError: a memory of another network.
        """
        memory.restore(self, kept)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the memory as one safetensors file, atomically."""
        memory.save(self, path)

    def load(self, path: str | PathLike[str]) -> None:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no memory, or one of another network.
        """
        memory.load(self, path)

    def read(self, of: Any, layer: str, variable: str) -> Tensor:
        """A layer's variable `[data, *shape]` in a state, or at the end of a trajectory.

        Raises:
            KeyError: no such layer or variable.
        """
        state = of.final if isinstance(of, Trajectory) else of
        if variable not in self.variables:
            raise KeyError(f"no variable {variable!r}; there are {', '.join(self.variables)}")
        return state[variable][:, self._layer(layer).part].unflatten(-1, self._layer(layer).shape)

    # -- what the cycle, the twin and learning ask

    @property
    def n(self) -> int:
        """Neurons of all layers."""
        return sum(layer.n for layer in self.layers.values())

    @property
    def variables(self) -> list[str]:
        """Names of every variable of a neuron, those of special kinds included."""
        extra = {v: None for layer in self.layers.values() for v in layer.kind.variables()}
        return [*VARIABLES, *extra]

    @property
    def n_bins(self) -> int:
        """Bins of calcium that a state keeps: a theta cycle, and at least the window of credit."""
        windows = [layer.params.window.cycles for layer in self.layers.values()]
        history = max((layer.kind.history for layer in self.layers.values()), default=0)
        return max(self.theta.length // BIN, max(windows, default=0) // BIN + 1, history // BIN)

    def trial_bins(self, cycle: int) -> list[int]:
        """Slots of the bins of the theta cycle that ended at this count of cycles, in order."""
        first = cycle // BIN - self.theta.bins
        return [b % self.n_bins for b in range(first, first + self.theta.bins)]

    def window_bins(self, cycle: int, window: int) -> list[int]:
        """Slots of the bins of the window of credit, in order: they start `window` ms before the last cycle."""
        first = (cycle - 1 - window) // BIN
        return [b % self.n_bins for b in range(first, first + window // BIN)]

    def incoming(self, layer: Layer) -> list[Path]:
        """Paths into a layer."""
        return [path for path in self.paths.values() if path.recv is layer]

    def clamp_of(self, layer: Layer, moment: Moment) -> Tensor | None:
        """The pattern that a layer is clamped to in a cycle, if it is."""
        if layer.kind.is_input:
            return moment.inputs.get(layer.name) if moment.phase != "rest" else None
        return moment.targets.get(layer.name) if layer.kind.is_target and moment.plus else None

    def data_of(self, moment: Moment) -> int:
        """Batch of an input; 1 without patterns."""
        return next((len(x) for x in [*moment.inputs.values(), *moment.targets.values()]), 1)

    def check_moment(self, moment: Moment) -> None:
        """Refuse patterns that do not fit.

        Raises:
            TypeError: not a `Moment`.
            ValueError: a pattern for a layer that takes none, of the wrong size, of a different batch, or not finite.
        """
        if not isinstance(moment, Moment):
            raise TypeError(
                f"a network's input is a Moment (see ThetaCycle.moments), got {type(moment).__name__}; or use present()"
            )
        data = self.data_of(moment)
        for what, patterns, kind in (
            ("input", moment.inputs, "is_input"),
            ("target", moment.targets, "is_target"),
        ):
            for name, x in patterns.items():
                layer = self._find(name, f"{what} for {name!r}")
                if not getattr(layer.kind, kind):
                    raise ValueError(
                        f"{what} for {name!r}: a {layer.kind.name} layer is never clamped to one; {what}s go to "
                        f"{[x.name for x in self.layers.values() if getattr(x.kind, kind)] or 'no layer of this network'} "
                        f"(layer(..., kind={what!r}))"
                    )
                if x.shape != (data, layer.n):
                    raise ValueError(
                        f"{what} for {name!r} has shape {list(x.shape)}, expected [{data}, {layer.n}]"
                    )
                if not bool(torch.isfinite(x).all()):
                    raise ValueError(
                        f"{what} for {name!r} has {int((~torch.isfinite(x)).sum())} values that are not finite"
                    )
                if bool((x < 0).any()):
                    raise ValueError(
                        f"{what} for {name!r} has {int((x < 0).sum())} negative values (least {float(x.min()):g}): a pattern is a "
                        "conductance, 0 or more; give what is below 0 units of its own, as V1 has on and off cells"
                    )

    def _patterns(self, given: Patterns, what: str, layers: list[str]) -> dict[str, Tensor]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            if len(layers) != 1:
                raise ValueError(
                    f"{what}: a tensor fits a network with one {what} layer, this one has {layers or 'none'}; pass a dict "
                    "of layer name -> pattern"
                )
            named: Mapping[str, Any] = {layers[0]: given}
        else:
            named = given
        made: dict[str, Tensor] = {}
        for name, x in named.items():
            layer = self._find(name, f"{what} for {name!r}")
            x = torch.as_tensor(x).to(self.like)
            if tuple(x.shape) in (layer.shape, (layer.n,)):
                x = x.unsqueeze(0)
            if x.ndim < 2 or x[0].numel() != layer.n:
                raise ValueError(
                    f"{what} for {name!r} has shape {list(x.shape)}: expected [data, {layer.n}] or "
                    f"[data, {', '.join(map(str, layer.shape))}]"
                )
            made[name] = x.reshape(len(x), layer.n)
        return made

    def _fused_cycle(self) -> Fused:
        if self._fused is None or self._fused.version != self.version:
            self._fused = Fused(self) if self._fused is None else self._fused.updated(self)
        return self._fused

    def _rescale(self) -> None:
        self.scale = {}
        for layer in self.layers.values():
            self.scale |= scales(self.incoming(layer))
        self._fused, self.version = None, self.version + 1

    def changed(self) -> None:
        """Say that weights or gains were set from outside: the fused cycle takes them over at the next run."""
        self.version += 1
        self._last = None

    def check_readout(self, name: str) -> None:
        """Refuse a readout that there is not.

        Raises:
            KeyError: with the nearest there is.
        """
        layer, _, variable = name.rpartition(".")
        if variable not in self.variables or (layer and layer not in self.layers):
            where = [v for v in self.variables if layer in ("", *self.layers)] or list(self.layers)
            near = difflib.get_close_matches(
                variable if layer in ("", *self.layers) else layer, where, n=1, cutoff=0.4
            )
            raise KeyError(
                f"no readout {name!r}{f', did you mean {near[0]!r}' if near else ''}; expected 'Variable' or "
                "'Layer.Variable', as in 'Spike' or 'Output.Act'"
            )

    def _layer(self, name: str) -> Layer:
        return self._find(name, f"{name!r}")

    def _find(self, layer: str | Layer, what: str) -> Layer:
        name = layer if isinstance(layer, str) else layer.name
        if name not in self.layers:
            raise ValueError(
                f"{what}: there is no layer {name!r}; there are {', '.join(self.layers) or 'none yet'}"
            )
        return self.layers[name]

    def _refuse_late(self, what: str) -> None:
        if self.built:
            raise ValueError(f"{what}: this network has run already; make all layers and paths first")
