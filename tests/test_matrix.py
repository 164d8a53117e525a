"""Every instrument on every system.

A new capability adds one row to SYSTEMS for each system it brings. Where an instrument has nothing to say about a
system, NO_SENSE says why in one line, and a test holds that the instrument says so itself.
"""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import unrolled as un
from unrolled import instruments, optim, toys
from unrolled.core import check_system, rollout, tree
from unrolled.cortex import Network, rate
from unrolled.debate import FJ
from unrolled.instruments import Reading
from unrolled.languagegame import Policy
from unrolled.languagegame._importance import Readout
from unrolled.languagegame.baselines import RandomField, VectorField
from unrolled.latent import Thinker
from unrolled.looped import LT2, LT2Config
from unrolled.sbml import Model

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@dataclass
class Row:
    """A system and how to look at it.

    Attributes:
        system: the system.
        input: as `rollout` takes it.
        of: the leaf (and record) that instruments read.
        decoder: what `lens` decodes it with, and `output` what that is.
        descent: (module, loss of the module, update): one step W -> W - Z as `curvature.decompose` takes it.
    """

    system: Any
    input: Any = None
    of: str = "state"
    steps: int = 12
    rng: int | None = None
    decoder: Callable[[Any], Any] | None = None
    output: str = "value"
    descent: tuple[nn.Module, Callable[[nn.Module], Any], dict[str, torch.Tensor]] | None = None

    def path(self):
        return rollout(self.system, self.input, self.steps, rng=self.rng)


# --- the systems ----------------------------------------------------------------------------------------------------

CURVE = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64)
TARGET = normal(3, 4, seed=7)


class Weights(nn.Module):
    """Parameters as a module, for `curvature`."""

    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(value.clone())


def quadratic():
    system, start = toys.QuadraticDescent(CURVE, lr=0.1), torch.tensor([[1.0, -2.0]], dtype=F64)
    z = start - system.step(start, None)
    return Row(system, start, descent=(Weights(start), lambda model: system.loss(model.w).sum(), {"w": z}))


def descent(make, **options):
    """A row for an optimizer: a small quartic bowl around a matrix."""

    def bowl(w, _):
        off = w - TARGET
        return 0.5 * off.square().sum() + 0.05 * off.pow(4).sum()

    start = normal(3, 4, seed=8)
    system = make(bowl, start, **options)
    z = system.update(system.init(None), None)["params"].detach()
    return Row(system, of="params", descent=(Weights(start), lambda model: bowl(model.w, None), {"w": z}))


def hopfield():
    patterns = normal(2, 16).sign()
    return Row(
        toys.Hopfield(patterns),
        normal(2, 16, seed=3).sign(),
        of="x",
        decoder=lambda x: x @ patterns.T,
        output="logits",
    )


def debate():
    S = normal(2, 3, 4, seed=4).softmax(-1)
    fj = FJ([0.5, 0.2, 0.1], [0.25, 0.5, 0.4], [[0, 0.7, 0.3], [0.6, 0, 0.4], [0.9, 0.1, 0]])
    return Row(fj, S, steps=80, decoder=lambda belief: belief.log(), output="logits")


def looped():
    shape = LT2Config(
        width=8, heads=2, layers=2, loops=4, hidden=16, pattern="gated_delta,full", vocab_size=16
    )
    model = LT2(shape, rng=3).double().eval()
    return Row(
        model.block_system(),
        torch.tensor([[1, 2, 3], [4, 5, 6]]),
        of="h",
        decoder=model.read_out,
        output="logits",
    )


def cortex(twin=False):
    net = Network(dtype=F64)
    net.layer("In", (2, 3), kind="input")
    net.layer("Hid", (3, 3))
    net.layer("Out", (2, 2), kind="target")
    net.connect("In", "Hid")
    net.connect("Hid", "Out", back=True)
    moments = net.moments(torch.eye(6, dtype=F64)[:2], torch.eye(4, dtype=F64)[:2])[:30]
    of, out = ("layers.Out.Vm", slice(None)) if twin else ("Vm", net["Out"].part)
    system = net.naive if twin else net
    return Row(system, moments, of=of, steps=30, decoder=lambda v: v[..., out], output="logits")


def rates():
    """Layers of rates that settle; the update is the local rule's, the loss the settled network's."""
    net = rate.Net(6, [5, 3], activation="tanh", gain=0.3, rng=1, dtype=F64)
    x, labels = normal(4, 6), torch.arange(4) % 3
    lower, upper = net.paths
    update = rate.changes(net, x, labels, sweeps=30, nudged=30).changes["hidden1.weight"]

    def loss(model):
        z = (x @ model.w.T).tanh()
        for _ in range(20):
            output = (z @ upper.weight.T + upper.bias).softmax(-1)
            z = (x @ model.w.T + lower.bias + net.gain * output @ upper.weight).tanh()
        return nn.functional.cross_entropy(z @ upper.weight.T + upper.bias, labels)

    return Row(
        net, x, of="hidden1", decoder=lambda y: y @ upper.weight.T + upper.bias, output="logits",
        descent=(Weights(lower.weight), loss, {"w": -0.1 * update}),
    )  # fmt: skip


def latent():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=11, bos_token_id=0, eos_token_id=1, initializer_range=0.3,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager",
    )  # fmt: skip
    thinker = Thinker(transformers.GPT2LMHeadModel(shape).double().eval())
    for p in thinker.parameters():
        p.requires_grad_(False)
    return Row(
        thinker.system(room=32),
        torch.tensor([[2, 3, 4], [5, 6, 7]]),
        of="thought",
        decoder=thinker.backbone.head,
        output="logits",
    )


def network():
    """A toggle switch and the time it is told."""
    model = Model.from_equations(
        {"u": 1.0, "v": 0.2},
        {"a": 3.0, "n": 2.0},
        {"u": "a / (1 + v^n) - u + 0.1 * exp(-time)", "v": "a / (1 + u^n) - v"},
        dt=0.5,
    )
    start = model.initial_state(u=torch.tensor([1.0, 0.3]), v=torch.tensor([0.2, 0.9]))
    return Row(model, start, of="x", steps=60, decoder=lambda x: x.log(), output="logits")


SYSTEMS = {
    "LinearMap": lambda: Row(toys.LinearMap(normal(4, 4) / 4, normal(4, seed=1)), normal(2, 4, seed=2)),
    "LogisticMap": lambda: Row(toys.LogisticMap(3.3), torch.tensor([0.3, 0.6], dtype=F64)),
    "Hopfield": hopfield,
    "QuadraticDescent": quadratic,
    "AR1": lambda: Row(toys.AR1(0.8), normal(3), rng=0),
    "MovingAverage": lambda: Row(toys.MovingAverage(3), list(normal(12, 2)), of="ring"),
    "sgd": lambda: descent(optim.sgd, lr=0.05, momentum=0.9),
    "adam": lambda: descent(optim.adam, lr=0.05),
    "muon": lambda: descent(optim.muon, lr=0.05),
    "FJ": debate,
    "Model": network,
    "Readout": lambda: Row(
        Readout(Policy.make("CartPole-v1", "tyson1999").double()),
        normal(2, 3).abs() + 0.5,
        of="y",
        output="logits",
        decoder=lambda y: y,
    ),
    "VectorField": lambda: Row(
        VectorField(RandomField(4, seed=1, gain=0.5), dt=0.3), normal(2, 4, seed=2), steps=40
    ),
    "Network": cortex,
    "Naive": lambda: cortex(twin=True),
    "Net": rates,
    "LT2": looped,
    "Thoughts": latent,
}

PENDING: dict[str, str] = {}

# --- the instruments ------------------------------------------------------------------------------------------------


def curvature(row):
    if row.descent is None:
        raise ValueError("no loss is descended here")
    model, loss, update = row.descent
    return instruments.curvature.decompose(model, loss, update, method="double_backward")


INSTRUMENTS = {
    "delta": lambda row: instruments.delta(row.path(), minus=(0, 4), plus=(8, 12), of=row.of),
    "settling": lambda row: instruments.settling(row.path(), of=row.of),
    "spectrum": lambda row: instruments.spectrum(
        row.system, input=first(row.input), of=row.of, k=3, rng=row.rng
    ),
    "influence": lambda row: instruments.influence(
        row.system, row.input, steps=row.steps, of=row.of, leaf=row.of, rng=row.rng
    ),
    "lens": lambda row: instruments.lens(row.path(), row.decoder, of=row.of, output=row.output),
    "curvature": curvature,
}


def first(input):
    return input[0] if isinstance(input, list) else input


NO_SENSE = {
    ("spectrum", "MovingAverage"): "a step overwrites its state, so there is no derivative",
    ("influence", "MovingAverage"): "a step overwrites its state, so there is no derivative",
    ("influence", "Hopfield"): "a sign passes no gradient, and small changes of +-1 units mean nothing",
    ("influence", "Network"): "a spike has no derivative, and learning asks for none",
    ("influence", "Naive"): "a spike has no derivative, and learning asks for none",
    ("curvature", "Network"): "the kinase rule asks for no loss",
    ("curvature", "Naive"): "the kinase rule asks for no loss",
    ("curvature", "FJ"): "it descends no loss",
    ("curvature", "Model"): "it descends no loss",
    ("curvature", "VectorField"): "it descends no loss",
    ("curvature", "Readout"): "it descends no loss; what trains the policy around it does",
    ("curvature", "Thoughts"): "thinking descends no loss; a Thinker's training does",
    ("curvature", "LT2"): "a loop descends no loss; what trains it does",
    ("curvature", "LinearMap"): "it descends no loss",
    ("curvature", "LogisticMap"): "it descends no loss",
    ("curvature", "Hopfield"): "its energy is not descended along a gradient",
    ("curvature", "AR1"): "it descends no loss",
    ("curvature", "MovingAverage"): "it descends no loss",
}

CELLS = [(i, s) for s in SYSTEMS for i in INSTRUMENTS]


@pytest.mark.parametrize(("instrument", "system"), [cell for cell in CELLS if cell not in NO_SENSE])
def test_cell(instrument, system):
    """A reading with numbers in it, as a frame and as a plot; and where a number is missing, a reason."""
    reading = INSTRUMENTS[instrument](SYSTEMS[system]())
    assert isinstance(reading, Reading)
    assert reading.definition
    assert reading.units
    assert len(reading.to_frame()) >= 1
    ax = reading.plot()
    assert ax.get_title()
    ax.figure.canvas.draw()
    missing = [
        name for name, value in reading.values.items() if isinstance(value, float) and math.isnan(value)
    ]
    told = " ".join((reading.reason, *reading.notes))
    unasked = {"within", "cross", "rho_within", "within_error"} if instrument == "curvature" else set()
    assert set(missing) <= unasked or told, f"{missing} are NaN without a reason"
    finite = [
        value
        for value in reading.values.values()
        if (isinstance(value, float | int) and math.isfinite(value))
        or (isinstance(value, torch.Tensor) and bool(torch.isfinite(value).any()))
    ]
    assert finite, "a reading without a single number"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("instrument", "system"), list(NO_SENSE))
def test_a_cell_that_makes_no_sense_says_so(instrument, system):
    """An error, or a reading with another status: never a number that looks like a result."""
    assert "\n" not in NO_SENSE[instrument, system]
    try:
        reading = INSTRUMENTS[instrument](SYSTEMS[system]())
    except (TypeError, ValueError):
        return
    assert reading.status != "ok"
    assert reading.reason


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_keeps_the_contract(name):
    row = SYSTEMS[name]()
    check_system(row.system, row.input)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_read_is_a_float_tensor_of_constant_shape(name):
    row = SYSTEMS[name]()
    path = row.path()
    assert path[row.of].is_floating_point()
    assert path[row.of].dtype == F64 or name == "MovingAverage"
    assert tree.select(path.final, row.of).numel() == path[row.of][0].numel()


def test_no_instrument_is_missing():
    public = {name for name in instruments.__all__ if name not in ("Reading", "reading")}
    assert public == set(INSTRUMENTS)


def test_no_system_is_missing():
    """Every class of the package with an `init` and a `step` has a row, or makes systems that have one."""
    rows = {type(make().system) for make in SYSTEMS.values()}
    found = set()
    for module in pkgutil.walk_packages(un.__path__, "unrolled."):
        if module.name.endswith("__main__") or module.name.split(".")[1] in PENDING:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if (
                inspect.isclass(value)
                and value.__module__ == module.name
                and not getattr(value, "_is_protocol", False)
            ):
                methods = [getattr(value, name, None) for name in ("init", "step")]
                if all(
                    callable(method) and "rng" in inspect.signature(method).parameters for method in methods
                ):
                    found.add(value)
    assert found == rows
    assert set(toys.__all__) <= set(SYSTEMS)


def test_no_optimizer_is_missing():
    makers = {
        name
        for name, value in vars(optim.systems).items()
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Descent"
    }
    assert makers <= set(SYSTEMS)
    assert {"sgd", "adam", "muon"} <= makers


def test_every_excuse_is_about_a_cell():
    assert set(NO_SENSE) <= set(CELLS)
