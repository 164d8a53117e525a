import math

import pytest
import torch

from unrolled.sbml.events import Events, _uniform
from unrolled.sbml.model import Model

F64 = torch.float64


def clock(species=None, events=None, parameters=None, rates=None, **options):
    """A model whose only business is its events."""
    species = species or {"n": 0.0}
    rates = dict.fromkeys(species, "0") | (rates or {})
    return Model.from_equations(species, parameters, rates, events=events, **options)


def run(model, t_end=5.0, points=11, **options):
    found = model.simulate(t_end, points, **{"rtol": 1e-9, "atol": 1e-12, **options})
    assert found.ok.all(), found.stop
    return found


def bounce(h, v, times, g=9.81, keep=0.8):
    """A ball that keeps 0.8 of its speed at each bounce, in closed form: heights, and how many bounces."""
    out = []
    flight = (v + math.sqrt(v * v + 2 * g * h)) / g
    arcs = [(0.0, h, v)]
    speed = math.sqrt(v * v + 2 * g * h)
    t = flight
    while t < times[-1]:
        speed *= keep
        arcs.append((t, 0.0, speed))
        t += 2 * speed / g
    for now in times:
        start, height, up = [arc for arc in arcs if arc[0] <= now][-1]
        out.append(height + up * (now - start) - g / 2 * (now - start) ** 2)
    return torch.tensor(out, dtype=F64), len(arcs) - 1


def test_a_bouncing_ball_per_sample():
    model = clock(
        {"y": 1.0, "v": 0.0}, {"ground": {"trigger": "y < 0", "assign": {"y": "0", "v": "-0.8 * v"}}},
        {"g": 9.81}, {"y": "v", "v": "-g"},
    )  # fmt: skip
    heights = [1.0, 2.0, 0.3]
    found = run(model, 2.0, 41, x0={"y": torch.tensor(heights, dtype=F64)})
    for i, h in enumerate(heights):
        expected, bounces = bounce(h, 0.0, found.t.tolist())
        assert (found.value("y")[:, i] - expected).abs().max() < 1e-7
        assert int(found.fired[i]) == bounces


def test_samples_do_not_see_each_other():
    model = clock(
        {"y": 1.0, "v": 0.0}, {"ground": {"trigger": "y < 0", "assign": {"y": "0", "v": "-0.8 * v"}}},
        {"g": 9.81}, {"y": "v", "v": "-g"},
    )  # fmt: skip
    together = run(model, 1.5, 16, x0={"y": [1.0, 0.4, 3.0]})
    for i, h in enumerate([1.0, 0.4, 3.0]):
        alone = run(model, 1.5, 16, x0={"y": [h]})
        assert (alone["x"][:, 0] - together["x"][:, i]).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("trigger", "at_two"), [("time >= 2", 1.0), ("time > 2", 0.0), ("2 * time >= 4", 1.0)]
)
def test_an_event_on_an_output_time_shows_there(trigger, at_two):
    values = run(clock(events={"e": {"trigger": trigger, "assign": {"n": "n + 1"}}})).value("n")
    assert values[4].item() == at_two
    assert values[3].item() == 0
    assert (values[5:] == 1).all()


def test_fires_at_every_change_from_false_to_true_and_only_then():
    # sin(pi t) > 0.5 turns true at t = 1/6, 2 + 1/6, 4 + 1/6
    model = clock(events={"e": {"trigger": "sin(3.141592653589793 * time) > 0.5", "assign": {"n": "n + 1"}}})
    found = run(model, 5.0, 51)
    expected = torch.tensor([sum(t >= k + 1 / 6 for k in (0, 2, 4)) for t in found.t.tolist()], dtype=F64)
    assert torch.equal(found.value("n"), expected)


@pytest.mark.parametrize(("initial", "count"), [(True, 0.0), (False, 1.0)])
def test_initial_value_of_the_trigger(initial, count):
    model = clock(events={"e": {"trigger": "n < 10", "initial": initial, "assign": {"n": "n + 1"}}})
    values = run(model).value("n")
    assert values[0].item() == count
    assert (values == count).all()


@pytest.mark.parametrize(("from_trigger_time", "expected"), [(True, 10 + 1.0), (False, 10 + 2.5)])
def test_delay_and_the_time_of_the_values(from_trigger_time, expected):
    model = clock(
        {"n": 0.0, "x": 0.0},
        {
            "e": {
                "trigger": "time >= 1",
                "delay": "1.5",
                "from_trigger_time": from_trigger_time,
                "assign": {"n": "x + 10"},
            }
        },
        rates={"x": "1"},
    )
    values = run(model).value("n")
    assert values[4].item() == 0
    assert (values[5:] - expected).abs().max() < 1e-12  # 2.5 is an output time: the event shows there


@pytest.mark.parametrize(("persistent", "expected"), [(True, 1.0), (False, 0.0)])
def test_persistence_over_a_delay(persistent, expected):
    model = clock(
        events={
            "e": {
                "trigger": "time > 1 && time < 2",
                "delay": "2",
                "persistent": persistent,
                "assign": {"n": "n + 1"},
            }
        }
    )
    assert run(model).value("n")[-1].item() == expected


def test_several_executions_of_one_event_wait_at_once():
    # cos < 0 turns true at 1/4, 5/4, 9/4, ...; nothing else moves, so steps could be as long as they like.
    events = {"e": {"trigger": "cos(6.283185307179586 * time) < 0", "delay": "2.3", "assign": {"n": "n + 1"}}}
    found = run(clock(events=events | {"e": {**events["e"], "from_trigger_time": False}}), 6.0, 25)
    expected = [sum(k + 0.25 + 2.3 <= t for k in range(6)) for t in found.t.tolist()]
    assert found.value("n").tolist() == expected


def test_priority_decides_and_is_evaluated_anew():
    # All due at t = 1. The first executed changes the priority of the others.
    events = {
        "a": {
            "trigger": "time >= 1",
            "priority": "1",
            "from_trigger_time": False,
            "assign": {"order": "order * 10 + 1"},
        },
        "b": {
            "trigger": "time >= 1",
            "priority": "3",
            "from_trigger_time": False,
            "assign": {"order": "order * 10 + 2", "low": "-5"},
        },
        "c": {
            "trigger": "time >= 1",
            "priority": "2 + low",
            "from_trigger_time": False,
            "assign": {"order": "order * 10 + 3"},
        },
        "d": {"trigger": "time >= 1", "from_trigger_time": False, "assign": {"order": "order * 10 + 4"}},
    }
    assert run(clock({"order": 0.0, "low": 0.0}, events)).value("order")[-1].item() == 2134


def test_equal_priorities_run_in_random_order_and_the_seed_decides():
    events = {
        name: {
            "trigger": "time >= 1",
            "priority": "7",
            "from_trigger_time": False,
            "assign": {"order": f"order * 10 + {k}"},
        }
        for k, name in enumerate(("a", "b", "c"), 1)
    }
    model = clock({"order": 0.0}, events)
    first = run(model, x0={"order": torch.zeros(600, dtype=F64)}, seed=1, points=2).value("order")[-1]
    again = run(model, x0={"order": torch.zeros(600, dtype=F64)}, seed=1, points=2).value("order")[-1]
    other = run(model, x0={"order": torch.zeros(600, dtype=F64)}, seed=2, points=2).value("order")[-1]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    orders, counts = first.unique(return_counts=True)
    assert orders.tolist() == [123, 132, 213, 231, 312, 321]
    assert (counts - 100).abs().max() < 5 * math.sqrt(100 * 5 / 6)


def test_a_prefix_of_the_batch_draws_the_same():
    events = {
        name: {"trigger": "time >= 1", "priority": "7", "assign": {"n": f"{k}"}}
        for k, name in enumerate("ab")
    }
    model = clock(events=events)
    many = run(model, x0={"n": torch.zeros(40, dtype=F64)}, points=2).value("n")[-1]
    few = run(model, x0={"n": torch.zeros(7, dtype=F64)}, points=2).value("n")[-1]
    assert torch.equal(many[:7], few)


def test_draws_are_uniform_and_take_any_seed():
    rows, draws = torch.arange(20000)[:, None], torch.arange(3)[None]
    for seed in (0, -1, 2**62, 2**70):
        u = _uniform(seed, rows, draws)
        assert ((u >= 0) & (u < 1)).all()
        assert abs(float(u.mean()) - 0.5) < 0.01
        assert abs(float(torch.corrcoef(u.T)[0, 1])) < 0.03


def test_of_simultaneous_events_one_withdraws_the_other():
    # Both due at t = 1; whichever runs first makes the other's trigger false, and neither persists.
    events = {
        "a": {"trigger": "time >= 1 && n < 0.5", "priority": "2", "persistent": False, "assign": {"n": "1"}},
        "b": {"trigger": "time >= 1 && n < 0.5", "priority": "1", "persistent": False, "assign": {"n": "2"}},
    }
    assert run(clock(events=events)).value("n")[-1].item() == 1
    for event in events.values():
        event["persistent"] = True
    assert run(clock(events=events)).value("n")[-1].item() == 2


def test_a_cascade_runs_within_one_instant():
    events = {
        "a": {"trigger": "time >= 1", "assign": {"n": "1"}},
        "b": {"trigger": "n == 1", "assign": {"n": "2"}},
        "c": {"trigger": "n > 1.5", "assign": {"n": "n * 10"}},
    }
    found = run(clock(events=events))
    assert found.value("n").tolist() == [0.0] * 2 + [20.0] * 9
    assert found.fired.tolist() == [3]


def test_values_are_those_of_trigger_time_even_within_one_instant():
    events = {
        "first": {"trigger": "time >= 1", "priority": "2", "assign": {"a": "a + 1"}},
        "then": {"trigger": "time >= 1", "priority": "1", "assign": {"b": "a"}},
        "late": {"trigger": "time >= 1", "priority": "0", "from_trigger_time": False, "assign": {"c": "a"}},
    }
    found = run(clock({"a": 5.0, "b": 0.0, "c": 0.0}, events))
    assert (found.value("b")[-1].item(), found.value("c")[-1].item()) == (5.0, 6.0)


def test_a_cascade_without_end_and_a_bad_delay_are_named():
    for events in (
        {
            "on": {"trigger": "n < 0.5", "initial": False, "assign": {"n": "1"}},
            "off": {"trigger": "n > 0.5", "assign": {"n": "0"}},
        },
        {"e": {"trigger": "time >= 1", "delay": "-1", "assign": {"n": "1"}}},
    ):
        with pytest.warns(RuntimeWarning, match="samples failed"):
            found = clock(events=events).simulate(3.0, 4)
        assert found.status[0].startswith("an event cannot be executed")
        assert found.where[0] in events
        assert found.value("n")[-1].isnan()


def test_an_event_that_assigns_nan_names_the_column():
    with pytest.warns(RuntimeWarning, match="not finite"):
        found = clock(
            {"n": 0.0, "m": 1.0}, {"e": {"trigger": "time > 1", "assign": {"m": "n / n"}}}
        ).simulate(3.0, 4)
    assert found.where == ("m",)
    assert found.failed_at.item() == pytest.approx(1.0)
    assert found["x"][2:].isnan().all()
    assert not found["x"][:1].isnan().any()


@pytest.mark.parametrize("method", ["dopri5", "rodas5p"])
def test_jumps_of_the_rate_are_stepped_onto(method):
    # dx/dt = 0, then 2 from t = pi on; and a rate that depends on the state's side.
    model = clock({"x": 0.0}, rates={"x": "piecewise(2, time > a, 0)"}, parameters={"a": math.pi})
    found = run(model, 5.0, 11, method=method)
    assert (found.value("x") - 2 * (found.t - math.pi).clamp(min=0)).abs().max() < 1e-12
    assert int(found.rejected) == 0
    model = clock({"x": 0.0}, rates={"x": "piecewise(2 - x / 2, x >= 1, 1)"})
    found = run(model, 5.0, 11, method=method, rtol=1e-7, atol=1e-9)
    exact = torch.where(found.t >= 1, 4 - 3 * torch.exp(-(found.t - 1) / 2), found.t)
    assert (found.value("x") - exact).abs().max() < 1e-6


def test_a_train_of_pulses_is_integrated_exactly_per_sample():
    model = clock(
        {"x": 0.0}, rates={"x": "piecewise(1, (time > a) && (time < a + 0.001), 0)"}, parameters={"a": 1.0}
    )
    a = torch.tensor([0.1, 1.0, 2.34567], dtype=F64)
    found = run(model, 4.0, 5, parameters={"a": a})
    assert (found.value("x")[-1] - 0.001).abs().max() < 1e-12


def test_locations_snap_to_output_times_within_rounding_only():
    grid = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=F64)
    events = Events(clock(events={"e": {"trigger": "time > 1", "assign": {"n": "1"}}}).compiled).on(grid)
    t = torch.tensor([0.1 + 0.2, 0.3 + 1e-9, 0.05, 0.1 - 1e-17], dtype=F64)
    assert events.snapped(t).tolist() == [0.3, 0.3 + 1e-9, 0.05, 0.1]
