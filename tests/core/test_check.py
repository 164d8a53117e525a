import random
import re
import types

import pytest
import torch

from unrolled.core import Check, SystemCheckError, check_system

F64 = torch.float64
BATCH = torch.tensor([[0.5, 1.0], [0.25, -1.0], [2.0, 0.1]], dtype=F64)
CLAUSES = [
    "methods",
    "state",
    "shapes",
    "purity",
    "determinism",
    "batch",
    "gradient",
    "resume",
    "run",
    "donates",
]


class Good:
    """x <- tanh(x) + 0.1, with every optional attribute, all of them right."""

    def __init__(self):
        self.readouts = {"sum": lambda state: state["x"].sum(-1)}

    def init(self, input, *, rng=None):
        return {"x": input.clone(), "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        return {"x": torch.tanh(state["x"]) + 0.1, "t": state["t"] + 1}

    def run(self, state, inputs, steps, *, rng=None, record=None):
        made = []
        for _ in range(steps):
            state = self.step(state, None)
            made.append(state)
        if record is None:
            return state
        return state, {name: torch.stack([self.readouts[name](s) for s in made]) for name in record}


def found(system, input=BATCH, **options):
    input = (
        input.clone() if isinstance(input, torch.Tensor) else input
    )  # one of the broken systems writes to it
    return {check.name: check for check in check_system(system, input, raises=False, **options)}


def failed(system, input=BATCH, **options):
    return {name for name, check in found(system, input, **options).items() if check.status == "fail"}


def test_a_good_system_passes_every_clause():
    checks = check_system(Good(), BATCH)
    assert [check.name for check in checks] == CLAUSES
    assert {check.name: check.status for check in checks} == {
        **dict.fromkeys(CLAUSES, "pass"),
        "donates": "skip",
    }


def test_clauses_that_say_nothing_are_skipped_with_a_reason():
    class Plain:
        def init(self, input, *, rng=None):
            return torch.zeros(2, dtype=torch.long)

        def step(self, state, input, *, rng=None):
            return state + 1

    checks = found(Plain(), None)
    skipped = {name: check.detail for name, check in checks.items() if check.status == "skip"}
    assert skipped == {
        "batch": "the input is not one batch of at least 2 rows",
        "gradient": "no gradient flows from state to state",
        "run": "there is no fused run",
        "donates": "the system does not donate",
    }


# One broken system per clause; each differs from Good by the one thing that is wrong.


class NoStep:
    def init(self, input, *, rng=None):
        return input


class NoRng(Good):
    def step(self, state, input):
        return super().step(state, input)


class NoTensor(Good):
    def init(self, input, *, rng=None):
        return {"x": 1.0}

    def step(self, state, input, *, rng=None):
        return state

    run = None


class Overflows(Good):
    """exp reaches infinity in the fourth step, and only the clauses that look that far see it."""

    def step(self, state, input, *, rng=None):
        return {"x": state["x"] * 1e100, "t": state["t"] + 1}

    run = None


class Grows(Good):
    """Counts in a leaf that gets longer."""

    def init(self, input, *, rng=None):
        return {"x": input.clone(), "t": torch.zeros(1)}

    def step(self, state, input, *, rng=None):
        return {"x": torch.tanh(state["x"]), "t": torch.cat([state["t"], state["t"]])}

    run = None


class ChangesDtype(Good):
    def step(self, state, input, *, rng=None):
        return {"x": state["x"], "t": state["t"].double()}

    run = None


class Renames(Good):
    def init(self, input, *, rng=None):
        return {"y": input.clone(), "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        return {"x": state.get("x", state.get("y")), "t": state["t"]}

    run = None


class WritesState(Good):
    def step(self, state, input, *, rng=None):
        state["t"].add_(1)
        return {"x": torch.tanh(state["x"]) + 0.1, "t": state["t"]}


class WritesInput(Good):
    def init(self, input, *, rng=None):
        return {"x": torch.zeros(3, dtype=F64), "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        input.mul_(2)
        return {"x": state["x"] + 1, "t": state["t"]}

    run = None


class DrawsFromTheWorld(Good):
    def step(self, state, input, *, rng=None):
        torch.rand(1)
        return super().step(state, input)


class IgnoresTheSeed(Good):
    def init(self, input, *, rng=None):
        return {"x": input + random.random(), "t": torch.zeros((), dtype=torch.long)}


class MixesRows(Good):
    def step(self, state, input, *, rng=None):
        return {"x": state["x"] - state["x"].mean(0), "t": state["t"] + 1}


class InfiniteSlope(Good):
    """sqrt(x^2) at 0: the value is fine, the gradient is 0 * inf."""

    def init(self, input, *, rng=None):
        return {"x": 0 * input, "t": torch.zeros((), dtype=torch.long)}

    def step(self, state, input, *, rng=None):
        return {"x": torch.sqrt(state["x"] ** 2), "t": state["t"] + 1}


class HiddenCounter(Good):
    """Its memory is an attribute: no file and no other process knows it."""

    def init(self, input, *, rng=None):
        self.count = 0
        return super().init(input)

    def step(self, state, input, *, rng=None):
        self.count += 1
        return {"x": state["x"] + self.count, "t": state["t"] + 1}

    run = None


class Unsavable(Good):
    def init(self, input, *, rng=None):
        return {**super().init(input), "module": types}

    def step(self, state, input, *, rng=None):
        return {**super().step(state, input), "module": types}

    run = None


class RunsAShortcut(Good):
    def run(self, state, inputs, steps, *, rng=None, record=None):
        return super().run(state, inputs, steps - (record is None), record=record)


class RecordsOneLate(Good):
    def run(self, state, inputs, steps, *, rng=None, record=None):
        if record is None:
            return super().run(state, inputs, steps)
        state, series = super().run(state, inputs, steps, record=record)
        return state, {name: values.roll(1, 0) for name, values in series.items()}


class SharesMemory(Good):
    """Donates a state whose two leaves are one memory: writing to one writes to the other, but not on a clone."""

    donates = True

    def init(self, input, *, rng=None):
        x = torch.zeros(3)
        return {"x": x, "y": x}

    def step(self, state, input, *, rng=None):
        state["x"].add_(1)
        return state

    run = None


@pytest.mark.parametrize(
    ("system", "clauses", "detail"),
    [
        (NoStep, "methods", r"there is no step\(\)"),
        (NoRng, "methods", r"expected init\(input, \*, rng=None\)"),
        (NoTensor, "state", "without any tensor"),
        (Overflows, "state batch gradient", "not finite after 4 steps: x"),
        (Grows, "shapes", r"t from \(\(1,\), torch.float32, 'cpu'\) to \(\(2,\)"),
        (ChangesDtype, "shapes", "t from .*int64.* to .*float64"),
        (Renames, "shapes", "changed the structure"),
        (WritesState, "purity", "changed its state in place"),
        (WritesInput, "purity", "changed its input in place"),
        (DrawsFromTheWorld, "purity", "global generator although rng was given"),
        (IgnoresTheSeed, "determinism batch resume run", "two runs with the same seed differ in x"),
        (MixesRows, "batch", "row 0 of x depends on the other rows"),
        (InfiniteSlope, "gradient", "with respect to x is not finite"),
        (HiddenCounter, "resume", "raised AttributeError|differs from going on in x"),
        (Unsavable, "resume", "cannot save a module"),
        (RunsAShortcut, "run", r"run\(\) differs from stepping in x"),
        (RecordsOneLate, "run", r"run\(record=\['sum'\]\) differs from stepping at step 1"),
        (SharesMemory, "donates resume", "donated state differs .* in y"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_each_clause_catches_its_own(system, clauses, detail):
    """And nothing else complains, except where one fault is several: those name the others too."""
    checks = found(system())
    broken = {name for name, check in checks.items() if check.status == "fail"}
    assert broken == set(clauses.split())
    told = checks[clauses.split()[0]].detail
    assert re.search(detail, told), told


def test_the_error_lists_every_failure():
    with pytest.raises(SystemCheckError, match="MixesRows breaks 1 of 10 clauses:\n  batch: row 0") as caught:
        check_system(MixesRows(), BATCH)
    assert [check.name for check in caught.value.checks] == CLAUSES
    assert isinstance(caught.value, AssertionError)


def test_clauses_can_be_left_out():
    checks = found(MixesRows(), skip=["batch"])
    assert checks["batch"] == Check("batch", "skip", "left out on request")
    assert str(checks["batch"]) == "skip  batch: left out on request"
    assert str(checks["state"]) == "pass  state"


@pytest.mark.parametrize("options", [{"steps": 1}, {"skip": ["purty"]}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=r"takes 2 steps or more .* and skips of methods, state"):
        check_system(Good(), BATCH, **options)


def test_a_step_that_raises_is_reported_not_raised():
    class Raises(Good):
        def step(self, state, input, *, rng=None):
            raise RuntimeError("out of ideas")

    checks = found(Raises())
    assert checks["methods"].detail == "raised RuntimeError: out of ideas"
    assert list(checks) == ["methods"]


def test_a_system_that_cannot_be_copied_is_still_checked():
    class Holds(Good):
        def __init__(self):
            super().__init__()
            self.handle = (i for i in range(3))

    assert failed(Holds()) == set()


def test_inputs_per_step_are_understood():
    class Adds:
        def init(self, input, *, rng=None):
            return 0 * input

        def step(self, state, input, *, rng=None):
            return state + input

    signal = [torch.tensor(float(i)) for i in range(4)]
    assert failed(Adds(), signal) == set()
    assert failed(Adds(), signal.__getitem__) == set()


def test_noisy_systems_skip_the_batch_clause():
    class Noisy(Good):
        def step(self, state, input, *, rng=None):
            noise = torch.randn(state["x"].shape, generator=rng, dtype=F64)
            return {"x": state["x"] + noise, "t": state["t"]}

        run = None

    assert "draws random numbers" in found(Noisy())["batch"].detail
    assert failed(Noisy()) == set()


def test_the_world_is_left_as_it_was():
    before = torch.get_rng_state()
    check_system(DrawsFromTheWorld(), BATCH, raises=False)
    check_system(Good(), BATCH)
    torch.rand(1)
    torch.set_rng_state(before)
    check_system(Good(), BATCH)
    assert torch.equal(before, torch.get_rng_state())
