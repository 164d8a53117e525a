import warnings
from functools import partial

import pytest
import torch

from unrolled.core import Halted, Settled, Stop, rollout
from unrolled.core.rollout import input_function
from unrolled.toys import AR1, LinearMap, LogisticMap, MovingAverage

F64 = torch.float64
A = torch.tensor([[0.6, -0.3], [0.2, 0.7]], dtype=F64)
B = torch.tensor([0.1, -0.2], dtype=F64)
X0 = torch.tensor([1.0, -2.0], dtype=F64)


class Driven:
    """x <- tanh(A x) + u, with a counter that is no float: small, nonlinear, input at every step."""

    def __init__(self, weight=A):
        self.weight = weight
        self.seen = []

    def init(self, input, *, rng=None):
        return {"x": X0.clone(), "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        self.seen.append(input)
        return {"x": torch.tanh(self.weight @ state["x"]) + input, "t": state["t"] + 1}


class Noisy:
    """Multiplicative noise: gradients depend on the draws."""

    def __init__(self, weight):
        self.weight = weight

    def init(self, input, *, rng=None):
        return torch.randn(3, generator=rng, dtype=F64)

    def step(self, state, input, *, rng=None):
        return torch.sin(self.weight * state) * (1 + torch.rand(3, generator=rng, dtype=F64))


class Breaks:
    """Counts up in "x"; "y" becomes NaN in the step that makes step `at`."""

    def __init__(self, at):
        self.at = at
        self.readouts = {"x": lambda state: state["x"]}

    def init(self, input, *, rng=None):
        return {"x": torch.zeros((), dtype=F64), "y": torch.ones(2, dtype=F64)}

    def step(self, state, input, *, rng=None):
        x = state["x"] + 1
        return {"x": x, "y": torch.where(x >= self.at, torch.full_like(state["y"], torch.nan), state["y"])}


class FusedBreaks(Breaks):
    """The same with a fused run that can record by itself."""

    def run(self, state, inputs, steps, *, rng=None, record=None):
        series = {name: [] for name in record or []}
        for input in inputs:
            state = self.step(state, input)
            for name in series:
                series[name].append(self.readouts[name](state))
        return state if record is None else (state, {name: torch.stack(v) for name, v in series.items()})


def by_hand(system, inputs, state):
    path = [state]
    for input in inputs:
        path.append(system.step(path[-1], input))
    return path


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "function", "lambda", "partial", "method", "constant", "tuple"])
def test_input_forms(kind):
    signal = [0.1 * i for i in range(5)]
    given = {
        "list": signal,
        "function": signal.__getitem__,  # a bound builtin
        "lambda": lambda step: signal[step],
        "partial": partial(lambda scale, step: scale * step, 0.1),
        "method": Lookup(signal).at,
        "constant": 0.5,
        "tuple": (0.5, 0.5),
    }[kind]
    system = Driven()
    if kind == "tuple":
        system.step = lambda state, input, *, rng=None: (system.seen.append(input), state)[1]
    rollout(system, given, steps=5)
    expected = {"constant": [0.5] * 5, "tuple": [(0.5, 0.5)] * 5}.get(kind, signal)
    assert system.seen == expected


class Lookup:
    def __init__(self, values):
        self.values = values

    def at(self, step):
        return self.values[step]


def test_a_callable_module_is_a_constant_input():
    module = torch.nn.Linear(2, 2)
    assert input_function(module)(3) is module


def test_init_gets_the_input_of_step_zero():
    class First:
        def init(self, input, *, rng=None):
            return input.clone()

        def step(self, state, input, *, rng=None):
            return state + input

    signal = [torch.tensor(x) for x in (5.0, 1.0, 2.0)]
    assert rollout(First(), signal, steps=3)["state"].tolist() == [5.0, 10.0, 11.0, 13.0]


def test_a_list_must_have_one_input_per_step():
    with pytest.raises(ValueError, match=r"got 2 inputs for 3 steps"):
        rollout(Driven(), [0.0, 0.0], steps=3)


# --- records --------------------------------------------------------------------------------------------------------


def test_none_records_every_leaf_by_path():
    path = rollout(Driven(), 0.0, steps=4)
    assert list(path.records) == ["x", "t"]
    assert path["x"].shape == (5, 2)
    assert path["t"].tolist() == [0, 1, 2, 3, 4]
    assert path.t.tolist() == [0, 1, 2, 3, 4]
    assert rollout(LinearMap(A), X0, steps=2).records.keys() == {"state"}


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (lambda state: state["x"].sum(), ["value"]),
        (lambda state: {"a": state["x"][0], "b": 2.0}, ["a", "b"]),
        ({"first": lambda state: state["x"][0]}, ["first"]),
        (["x"], ["x"]),
        (("t", "x"), ["t", "x"]),
        ("x", ["x"]),
        ({}, []),
        ([], []),
    ],
)
def test_record_forms(record, names):
    path = rollout(Driven(), 0.0, steps=3, record=record)
    assert list(path.records) == names
    assert all(len(values) == 4 for values in path.records.values())
    if "b" in names:
        assert path["b"].tolist() == [2.0] * 4


def test_a_readout_comes_before_a_leaf_of_the_same_name():
    net = MovingAverage(2)
    net.readouts = {"ring": lambda state: state["ring"].sum()}
    assert rollout(net, torch.ones(()), steps=1, record=["ring"])["ring"].tolist() == [2.0, 2.0]


def test_an_unknown_record_lists_the_leaves():
    with pytest.raises(KeyError, match="no tensor 'z' in this state; it has x, t"):
        rollout(Driven(), 0.0, steps=1, record=["z"])


def test_a_record_that_is_no_tensor():
    with pytest.raises(TypeError, match="record 'value' is a str"):
        rollout(Driven(), 0.0, steps=1, record=lambda state: "hello")


def test_a_record_that_changes_shape():
    with pytest.raises(ValueError, match=r"'value' changed shape from \(1,\) to \(2,\) at step 1"):
        rollout(Driven(), 0.0, steps=3, record=lambda state: torch.zeros(int(state["t"]) + 1))


def test_a_record_that_changes_its_names():
    def record(state):
        return {"a": state["x"]} if state["t"] < 2 else {"b": state["x"]}

    with pytest.raises((ValueError, KeyError), match="a"):
        rollout(Driven(), 0.0, steps=3, record=record)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 20])
@pytest.mark.parametrize("system", [LinearMap(A, B), LogisticMap(3.2)], ids=["fused", "stepped"])
def test_every(system, every):
    start = torch.tensor([0.3, 0.4], dtype=F64)
    whole = rollout(system, start, steps=13)
    thin = rollout(system, start, steps=13, every=every)
    assert thin.t.tolist() == list(range(0, 14, every))
    torch.testing.assert_close(thin["state"], whole["state"][::every], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(thin.final, whole["state"][-1], rtol=1e-13, atol=1e-14)


def test_recorded_views_do_not_keep_the_state_alive():
    class Big:
        def init(self, input, *, rng=None):
            return torch.zeros(1000)

        def step(self, state, input, *, rng=None):
            return state + 1

    path = rollout(Big(), steps=3, record=lambda state: state[:1])
    assert path["value"].untyped_storage().nbytes() == 4 * 4


def test_max_bytes_is_refused_before_the_first_step():
    system = Driven()
    with pytest.raises(
        ValueError, match=r"1001 records take 24,024 bytes, more than max_bytes=1,000: .*every="
    ):
        rollout(system, 0.0, steps=1000, max_bytes=1000)
    assert not system.seen


def test_max_bytes_with_an_open_end_is_refused_on_the_way():
    system = Driven()
    with pytest.raises(ValueError, match="max_bytes=100"):
        rollout(system, 0.0, steps=1000, max_bytes=100, until=Settled(0.0, of="x"))
    assert 0 < len(system.seen) < 10


def test_what_fits_exactly_is_recorded():
    assert len(rollout(Driven(), 0.0, steps=9, max_bytes=240)) == 10


# --- until ----------------------------------------------------------------------------------------------------------


def test_until_settled_stops_and_says_where():
    path = rollout(
        LinearMap(0.5 * torch.eye(1, dtype=F64)), torch.ones(1, dtype=F64), steps=100, until=Settled(1e-3)
    )
    # |x_(t+1) - x_t| = 2^-(t+1) <= 1e-3 first in the step that makes t + 1 = 10.
    assert path.stop == Stop("settled", 10)
    assert len(path) == 11
    assert float(path.final) == 2.0**-10


def test_until_halted_and_a_function_of_ones_own():
    path = rollout(Driven(), 0.0, steps=50, until=Halted(lambda state: state["t"] >= 7), every=3)
    assert (path.stop.reason, path.stop.step, path.t.tolist()) == ("halted", 7, [0, 3, 6])
    assert int(path.final["t"]) == 7

    def rule(before, after, step):
        assert int(after["t"]) == int(before["t"]) + 1 == step
        return Stop("bored", step, where="x") if step == 4 else None

    assert str(rollout(Driven(), 0.0, steps=50, until=rule).stop) == "bored at step 4 in x"


def test_until_sees_the_state_before_a_donating_step():
    ring = MovingAverage(3)
    signal = [torch.tensor(float(i)) for i in range(10)]
    moves = []

    def rule(before, after, step):
        moves.append(float((after["ring"] - before["ring"]).abs().max()))

    rollout(ring, signal, steps=10, until=rule)
    assert moves[1:4] == [1.0, 2.0, 3.0]


def test_a_rule_is_reset_between_rollouts():
    rule = Settled(1e-2, patience=3)
    start = torch.ones(1, dtype=F64)
    halve = LinearMap(0.5 * torch.eye(1, dtype=F64))
    stops = [rollout(halve, start, steps=100, until=rule).stop.step for _ in range(2)]
    assert stops == [9, 9]


def test_until_is_the_same_with_checkpointing():
    weight = A.clone().requires_grad_()
    paths = [
        rollout(Driven(weight), 0.0, steps=80, until=Settled(1e-4, of="x"), grad=grad)
        for grad in ("full", "checkpoint")
    ]
    assert paths[0].stop == paths[1].stop
    assert paths[0].stop.reason == "settled"
    grads = [torch.autograd.grad(path.final["x"].sum(), weight)[0] for path in paths]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


# --- gradients ------------------------------------------------------------------------------------------------------


def loop_gradient(steps, keep):
    """The explicit loop that `grad=keep` must equal."""
    weight = A.clone().requires_grad_()
    x = X0.clone()
    for step in range(steps):
        if step < steps - keep:
            with torch.no_grad():
                x = torch.tanh(weight @ x) + 0.1 * step
        else:
            x = torch.tanh(weight @ x) + 0.1 * step
    if keep:
        x.sum().backward()
    return x.detach(), weight.grad


@pytest.mark.parametrize(
    ("steps", "grad"),
    [(s, g) for s in (1, 2, 10, 17) for g in ("full", "checkpoint", 1, 4, s) if isinstance(g, str) or g <= s],
)
def test_gradients_equal_an_explicit_loop(steps, grad):
    weight = A.clone().requires_grad_()
    path = rollout(Driven(weight), lambda step: 0.1 * step, steps=steps, grad=grad)
    path.final["x"].sum().backward()
    x, expected = loop_gradient(steps, grad if isinstance(grad, int) else steps)
    torch.testing.assert_close(path.final["x"].detach(), x, rtol=0, atol=0)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("grad", ["full", "checkpoint"])
def test_gradients_through_the_records(grad):
    weight = A.clone().requires_grad_()
    path = rollout(Driven(weight), 0.1, steps=9, grad=grad, record=["x"], every=2)
    path["x"].square().sum().backward()
    other = A.clone().requires_grad_()
    states = by_hand(Driven(other), [0.1] * 9, Driven().init(None))
    torch.stack([states[i]["x"] for i in range(0, 10, 2)]).square().sum().backward()
    torch.testing.assert_close(weight.grad, other.grad, rtol=1e-14, atol=1e-15)


def test_gradients_reach_the_initial_state_and_the_inputs():
    start = X0.clone().requires_grad_()
    inputs = [torch.full((2,), 0.1, dtype=F64, requires_grad=True) for _ in range(6)]
    state = {"x": start, "t": torch.zeros((), dtype=torch.long)}
    end = rollout(Driven(), inputs, steps=6, state=state, grad="checkpoint").final["x"].sum()
    grads = torch.autograd.grad(end, [start, *inputs])
    x = by_hand(Driven(), inputs, state)[-1]["x"].sum()
    expected = torch.autograd.grad(x, [start, *inputs])
    for one, other in zip(grads, expected):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("grad", ["none", 0])
def test_no_graph_when_none_is_asked_for(grad):
    """Not even through an initial state that requires a gradient: the records would hold on to it."""
    start = X0.clone().requires_grad_()
    path = rollout(LinearMap(A.clone().requires_grad_()), steps=3, state=start, grad=grad)
    assert not path.final.requires_grad
    assert not path["state"].requires_grad


def test_truncation_forgets_the_initial_state():
    start = X0.clone().requires_grad_()
    path = rollout(LinearMap(A), steps=3, state=start, grad=2, record={})
    assert not path.final.requires_grad
    weight = A.clone().requires_grad_()
    path = rollout(LinearMap(weight), steps=3, state=start, grad=2, record={})
    path.final.sum().backward()
    assert start.grad is None
    assert weight.grad is not None


def test_no_grad_outside_wins():
    with torch.no_grad():
        path = rollout(LinearMap(A.clone().requires_grad_()), X0, steps=3, grad="full")
    assert not path.final.requires_grad


@pytest.mark.parametrize("steps", [1, 5, 16, 30])
def test_checkpointing_replays_the_noise(steps):
    """Recomputed draws equal the first ones, and the generator ends where it would have ended."""
    made = []
    for grad in ("full", "checkpoint"):
        weight = torch.tensor([0.5, 1.0, 1.5], dtype=F64, requires_grad=True)
        rng = torch.Generator().manual_seed(3)
        path = rollout(Noisy(weight), steps=steps, grad=grad, rng=rng)
        between = rng.get_state()
        path.final.sum().backward()
        made.append((path.final.detach(), path["state"].detach(), weight.grad, between, rng.get_state()))
    for full, checkpointed in zip(*made):
        assert torch.equal(full, checkpointed)


def test_checkpointing_can_be_differentiated_twice():
    weight = torch.tensor([0.5, 1.0, 1.5], dtype=F64, requires_grad=True)
    seconds = []
    for grad in ("full", "checkpoint"):
        end = rollout(Noisy(weight), steps=7, grad=grad, rng=1).final.sum()
        (first,) = torch.autograd.grad(end, weight, create_graph=True)
        seconds.append(torch.autograd.grad(first.sum(), weight)[0])
    torch.testing.assert_close(seconds[0], seconds[1], rtol=1e-13, atol=1e-14)


def test_checkpointing_saves_memory():
    """Count what autograd keeps between forward and backward: about sqrt(steps) states instead of all of them."""

    class Wide:
        def init(self, input, *, rng=None):
            return torch.ones(10_000, dtype=F64)

        def step(self, state, input, *, rng=None):
            return torch.sin(input * state)

    kept = {}
    for grad in ("full", "checkpoint"):
        seen = {}

        def pack(x, seen=seen):
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        weight = torch.tensor(1.1, dtype=F64, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            path = rollout(Wide(), weight, steps=64, grad=grad, record={})
            held = sum(seen.values())
        path.final.sum().backward()
        kept[grad] = held
    assert kept["full"] >= 64 * 80_000
    assert kept["checkpoint"] <= 12 * 80_000


# --- failures are data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 4, 6, 10])
@pytest.mark.parametrize(
    ("system", "options"),
    [
        (Breaks, {}),
        (Breaks, {"every": 4}),
        (Breaks, {"grad": "full"}),
        (Breaks, {"grad": "checkpoint"}),
        (Breaks, {"grad": "checkpoint", "every": 2}),
        (FusedBreaks, {}),
        (FusedBreaks, {"every": 5}),
        (FusedBreaks, {"record": ["x"]}),
        (FusedBreaks, {"record": {}}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.__name__,
)
def test_nan_names_the_step_and_the_leaf(system, options, at):
    with pytest.warns(RuntimeWarning, match=f"nonfinite at step {at} in y: NaN appeared"):
        path = rollout(system(at), steps=10, **options)
    assert (path.stop.reason, path.stop.step, path.stop.where, path.stop.ok) == ("nonfinite", at, "y", False)
    # The end is the state of that very step, in `final` and in the last record alike.
    assert float(path.final["x"]) == at
    assert bool(path.final["y"].isnan().all())
    every = options.get("every", 1)
    assert path.t.tolist() == [*range(0, at, every), at]
    if "x" in path.records:
        assert path["x"].tolist() == path.t.double().tolist()


def test_nan_in_a_noisy_fused_stretch_is_located_with_the_same_noise():
    class Fragile:
        def init(self, input, *, rng=None):
            return torch.zeros((), dtype=F64)

        def step(self, state, input, *, rng=None):
            x = state + torch.rand((), generator=rng, dtype=F64)
            return torch.where(x > 4, torch.nan, x)

        def run(self, state, inputs, steps, *, rng=None, record=None):
            for input in inputs:
                state = self.step(state, input, rng=rng)
            return state

    class Plain(Fragile):
        run = None

    stops = []
    for system in (Fragile(), Plain()):
        with pytest.warns(RuntimeWarning):
            stops.append(rollout(system, steps=50, every=50, rng=5).stop)
    assert stops[0] == stops[1]


def test_a_nan_that_was_there_from_the_start_is_let_through():
    start = torch.tensor([torch.nan, 1.0], dtype=F64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = rollout(LogisticMap(2.0), start, steps=3)
    assert path.stop == Stop("steps", 3)


def test_infinity_is_no_nan():
    start = torch.tensor([torch.inf, -torch.inf], dtype=F64)

    class Still:
        def init(self, input, *, rng=None):
            return input

        def step(self, state, input, *, rng=None):
            return state.clone()

    assert rollout(Still(), start, steps=2).stop.ok


# --- fused runs, donation -------------------------------------------------------------------------------------------


class Counting(LinearMap):
    """A linear map that notes how it was driven."""

    def __init__(self, *args):
        super().__init__(*args)
        self.runs, self.steps = [], 0

    def step(self, state, input, *, rng=None):
        self.steps += 1
        return super().step(state, input, rng=rng)

    def run(self, state, inputs, steps, *, rng=None, record=None):
        assert len(inputs) == steps
        self.runs.append((steps, record))
        return super().run(state, inputs, steps, rng=rng, record=record)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"every": 4}, [(4, None), (4, None), (2, None)]),
        ({"record": {}}, [(10, None)]),
        ({"record": ["norm"]}, [(10, ["norm"])]),
        ({"record": ["norm"], "every": 5}, [(5, None), (5, None)]),
        ({"record": ["norm", "state"], "every": 5}, [(5, None), (5, None)]),
    ],
)
def test_a_fused_run_takes_each_stretch(options, runs):
    system = Counting(A, B)
    path = rollout(system, X0, steps=10, **options)
    assert (system.runs, system.steps) == (runs, 0)
    plain = by_hand(LinearMap(A, B), [None] * 10, X0)
    torch.testing.assert_close(path.final, plain[-1], rtol=1e-13, atol=1e-15)
    if "norm" in path.records:
        expected = torch.stack([plain[int(t)].norm() for t in path.t])
        torch.testing.assert_close(path["norm"], expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("options", [{"grad": "full"}, {"until": Settled(0.0)}])
def test_a_fused_run_is_left_alone_when_steps_must_be_seen(options):
    system = Counting(A, B)
    rollout(system, X0, steps=6, every=3, **options)
    assert (system.runs, system.steps) == ([], 6)


def test_donation_leaves_the_given_state_alone_and_records_copies():
    ring = MovingAverage(3)
    given = ring.init(torch.tensor(1.0))
    copy = {name: leaf.clone() for name, leaf in given.items()}
    path = rollout(ring, lambda step: torch.tensor(float(step)), steps=4, state=given)
    assert all(torch.equal(given[name], copy[name]) for name in given)
    assert path["ring"].tolist() == [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 2], [3, 1, 2]]


def test_donation_refuses_gradients():
    with pytest.raises(ValueError, match="MovingAverage overwrites its state"):
        rollout(MovingAverage(2), torch.ones(()), steps=2, grad="full")


# --- the rest -------------------------------------------------------------------------------------------------------


def test_progress_counts_up_to_the_end():
    calls = []
    rollout(LogisticMap(2.0), X0, steps=4, progress=lambda step, steps: calls.append((step, steps)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("grad", ["none", "full", "checkpoint", 0])
@pytest.mark.parametrize("input", [X0, [], lambda step: X0])
def test_no_steps(grad, input):
    state = X0 if input == [] else None
    path = rollout(LinearMap(A), input, steps=0, grad=grad, state=state)
    assert path.t.tolist() == [0]
    assert torch.equal(path.final, X0)
    assert path.stop == Stop("steps", 0)


def test_the_same_seed_gives_the_same_trajectory():
    one, two = (rollout(AR1(0.5), torch.zeros(4), steps=20, rng=seed)["state"] for seed in (1, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, rollout(AR1(0.5), torch.zeros(4), steps=20, rng=2)["state"])
    before = torch.get_rng_state()
    rollout(AR1(0.5), torch.zeros(4), steps=3, rng=2)
    assert torch.equal(before, torch.get_rng_state())


def test_resuming_with_a_generator_equals_going_on():
    rng = torch.Generator().manual_seed(0)
    half = rollout(AR1(0.5), torch.zeros(4), steps=10, rng=rng)
    rest = rollout(AR1(0.5), torch.zeros(4), steps=10, state=half.final, rng=rng)
    assert torch.equal(rest.final, rollout(AR1(0.5), torch.zeros(4), steps=20, rng=0).final)


def test_meta_names_the_system():
    assert rollout(LinearMap(A), X0, steps=2, every=2).meta == {"system": "LinearMap", "every": 2}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps is a non-negative int, got -1"),
        ({"steps": 2.0}, ValueError, "steps is a non-negative int, got 2.0"),
        ({"every": 0}, ValueError, "every is an int of at least 1, got 0"),
        ({"grad": "some"}, ValueError, "grad is .* got 'some'"),
        ({"grad": True}, ValueError, "grad is .* got True"),
        ({"grad": None}, ValueError, "grad is .* got None"),
        ({"grad": 4}, ValueError, "grad=4 asks for the graph of more steps than the 3"),
        ({"grad": -1}, ValueError, "grad=-1"),
        ({"grad": 2, "until": Settled(0.1)}, ValueError, "grad=k must know the last step"),
        ({"rng": "seed"}, TypeError, "a seed is an int or a torch.Generator, got str"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        rollout(LinearMap(A), X0, **{"steps": 3, **options})


@pytest.mark.parametrize("missing", ["init", "step"])
def test_no_system(missing):
    class Half:
        pass

    other = {"init": "step", "step": "init"}[missing]
    setattr(Half, other, lambda self, *args, **kwargs: torch.zeros(1))
    with pytest.raises(TypeError, match=rf"Half is no System: it has no {missing}\(\)"):
        rollout(Half(), steps=1)
