import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.core import Trajectory, rollout
from unrolled.instruments import lens
from unrolled.toys import Hopfield, LinearMap

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def log(values, **more):
    values = torch.as_tensor(values)
    return Trajectory.from_records(range(len(values)), {"h": values, **more})


def test_softmax_and_entropy_in_closed_form():
    """Logits (log 1, log 2, log 5): probabilities 1/8, 2/8, 5/8."""
    reading = lens(log(torch.log(torch.tensor([[1.0, 2, 5], [5, 2, 1], [1, 1, 1]], dtype=F64))), k=2)
    assert reading["answer"].tolist() == [2, 0, 0]
    assert reading["top"].tolist() == [[2, 1], [0, 1], [0, 1]]
    expected = torch.tensor([[5 / 8, 2 / 8], [5 / 8, 2 / 8], [1 / 3, 1 / 3]], dtype=F64)
    torch.testing.assert_close(reading["probability"], expected, rtol=0, atol=1e-12)
    entropy = -sum(p * math.log(p) for p in (1 / 8, 2 / 8, 5 / 8))
    torch.testing.assert_close(
        reading["entropy"], torch.tensor([entropy, entropy, math.log(3)], dtype=F64), rtol=0, atol=1e-12
    )
    assert reading.method == "logits"


@pytest.mark.parametrize(
    ("answers", "settled_at"),
    [
        ([0, 1, 2, 2, 2], 2.0),
        ([2, 2, 2, 2, 2], 0.0),
        ([2, 2, 0, 2, 2], 3.0),
        ([0, 0, 0, 0, 1], math.nan),
        ([1], math.nan),
    ],
)
def test_settled_at(answers, settled_at):
    reading = lens(log(answers))
    assert reading.method == "labels"
    assert float(reading["settled_at"]) == settled_at or math.isnan(settled_at)
    assert math.isnan(float(reading["settled_at"])) == math.isnan(settled_at)
    assert reading.status == ("not settled" if math.isnan(settled_at) else "ok")
    if reading.status != "ok":
        assert reading.reason == "1 of 1 answers changed at the last record, or there is only one"


def test_settled_at_is_a_time_and_not_an_index():
    path = Trajectory.from_records([0.0, 2.5, 7.0, 9.0], {"h": torch.tensor([1, 0, 3, 3])})
    assert float(lens(path)["settled_at"]) == 7.0


def test_a_batch():
    answers = torch.tensor([[0, 5, 1], [1, 5, 1], [1, 5, 2]])
    reading = lens(log(answers))
    assert reading["settled_at"].tolist()[:2] == [1.0, 0.0]
    assert math.isnan(reading["settled_at"][2])
    assert reading.status == "not settled"
    assert reading.reason.startswith("1 of 3 answers")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 9), st.integers(0, 1000), st.integers(1, 12))
def test_any_logits(n, batch, classes, seed, k):
    logits = normal(n, batch, classes, seed=seed) * 5
    reading = lens(log(logits), k=k)
    p = logits.softmax(-1)
    assert torch.equal(reading["answer"], p.argmax(-1))
    assert reading["top"].shape == (n, batch, min(k, classes))
    torch.testing.assert_close(reading["probability"], p.gather(-1, reading["top"]), rtol=1e-12, atol=0)
    assert bool((reading["probability"].diff(dim=-1) <= 0).all())
    assert bool((reading["entropy"] >= -1e-12).all())
    assert bool((reading["entropy"] <= math.log(classes) + 1e-12).all())
    for j in range(batch):
        at = float(reading["settled_at"][j])
        same = [int(a) == int(reading["answer"][-1, j]) for a in reading["answer"][:, j]]
        if math.isnan(at):
            assert n == 1 or not same[-2]
        else:
            assert all(same[int(at) :])
            assert at == 0 or not same[int(at) - 1]


def test_shifting_logits_changes_nothing():
    logits = normal(6, 4)
    one, other = lens(log(logits)), lens(log(logits + 1e3))
    torch.testing.assert_close(one["probability"], other["probability"], rtol=1e-10, atol=0)


def test_ties_go_to_the_first_class():
    reading = lens(log(torch.zeros(3, 7)), k=7)
    assert reading["top"].tolist() == [list(range(7))] * 3


def test_certainty():
    reading = lens(log(torch.tensor([[0.0, -torch.inf], [-torch.inf, 3.0]])))
    assert reading["answer"].tolist() == [0, 1]
    assert reading["entropy"].tolist() == [0.0, 0.0]


def test_hopfield_recall_decoded():
    """The pattern with the largest overlap, cue by cue."""
    patterns = normal(4, 64, seed=1).sign()
    net = Hopfield(patterns, synchronous=False)
    cue = patterns[2].clone()
    cue[:20] *= -1
    path = rollout(net, cue, steps=64, record=["x"])
    reading = lens(path, lambda x: 10 * patterns @ x / 64, labels=["a", "b", "c", "d"])
    assert reading.words()[-1] == "c"
    assert reading.status == "ok"
    assert float(reading["probability"][-1, 0]) > float(reading["probability"][0, 0])


def test_opinions_are_values():
    W = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=F64)
    path = rollout(LinearMap(W), torch.tensor([0.0, 1.0], dtype=F64), steps=40)
    reading = lens(path, output="value", tol=1e-3)
    # Eigenvalue 0.3 and stationary distribution (2/7, 5/7): the last to come within tol of 5/7 is agent 0.
    off = (path["state"] - 5 / 7).abs()
    expected = [int((off[:, j] > 1e-3).nonzero()[-1]) + 1 for j in range(2)]
    assert reading["settled_at"].tolist() == expected
    assert "probability" not in reading.values
    assert reading.units == "units of state"
    with pytest.raises(ValueError, match="have no names"):
        reading.words(0)


def test_probabilities_are_taken_as_they_are():
    p = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=F64)
    reading = lens(log(p), output="probabilities", k=1)
    torch.testing.assert_close(
        reading["probability"][:, 0], torch.tensor([0.8, 0.6], dtype=F64), rtol=0, atol=1e-15
    )


def test_of_reads_a_record_or_a_function():
    path = log(normal(4, 3), other=normal(4, 5, seed=1))
    assert int(lens(path, of="other", k=9)["top"].shape[1]) == 5
    assert int(lens(path, of=lambda state: torch.cat([state["h"], state["other"]]), k=9)["top"].shape[1]) == 8
    with pytest.raises(ValueError, match="say which with of="):
        lens(path)


def test_names():
    reading = lens(log([0, 7, 1, 1]), labels=["zero", "one"])
    assert reading.words() == ["zero", "7", "one", "one"]
    named = lens(log([0, 7, 1, 1]), labels=lambda i: f"token {i}")
    assert named.words()[1] == "token 7"
    batch = lens(log([[0, 1], [1, 1]]), labels=["no", "yes"])
    assert batch.words(0) == ["no", "yes"]
    with pytest.raises(ValueError, match=r"the batch has shape \(2,\): name one entry, with 1 indices"):
        batch.words()


def test_no_graph_is_kept():
    weight = torch.ones(3, 2, requires_grad=True)
    assert not lens(log(torch.ones(2, 3)), lambda h: h @ weight)["probability"].requires_grad


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        (torch.zeros(3, 2), {"output": "tokens"}, ValueError, "output= is one of 'auto', .* got 'tokens'"),
        (torch.zeros(3, 2), {"k": 0}, ValueError, "k counts classes and is at least 1"),
        (torch.zeros(3, 2), {"of": "y"}, KeyError, "no record 'y'"),
        (torch.zeros(3, 2), {"decoder": lambda h: "yes"}, TypeError, "the decoder returned a str at t = 0"),
        (
            torch.zeros(3, 2),
            {"output": "labels"},
            ValueError,
            "labels are integers, got torch.float32: argmax them",
        ),
        (torch.zeros(3, 2, dtype=torch.long), {"output": "logits"}, ValueError, "logits are floating point"),
        (
            torch.zeros(3),
            {},
            ValueError,
            r"at least two classes in the last axis; at t = 0 the shape is \(\)",
        ),
        (torch.zeros(3, 1), {}, ValueError, r"the shape is \(1,\)"),
        (torch.tensor([[0, 1], [torch.nan, 1]]), {}, ValueError, "the logits are NaN at t = 1"),
        (torch.full((2, 3), -torch.inf), {}, ValueError, "all -inf, or one is inf"),
        (torch.tensor([[0, torch.inf]]), {}, ValueError, "one is inf"),
        (torch.tensor([[0.5, 0.4]]), {"output": "probabilities"}, ValueError, "they are off by 0.1"),
        (torch.tensor([[1.5, -0.5]]), {"output": "probabilities"}, ValueError, "non-negative and sum to 1"),
        (torch.zeros(2, 2) + 1j, {"output": "logits"}, ValueError, "floating point, got torch.complex64"),
    ],
)
def test_bad_input(values, options, error, message):
    with pytest.raises(error, match=message):
        lens(log(values), **options)


def test_a_decoder_that_changes_shape():
    with pytest.raises(ValueError, match=r"changed shape from \(2,\) to \(3,\) at t = 1"):
        lens(log(torch.tensor([2.0, 3.0])), lambda h: torch.zeros(int(h)))


def test_frames():
    frame = lens(log(normal(4, 3)), labels=["a", "b", "c"], k=2).to_frame()
    assert list(frame.columns) == ["t", "answer", "entropy", "top1", "p1", "top2", "p2"]
    assert set(frame["answer"]) <= {"a", "b", "c"}
    batch = lens(log(normal(4, 5, 6, 3))).to_frame()
    assert len(batch) == 4 * 5 * 6
    assert batch.loc[7, ["t", "entry0", "entry1"]].tolist() == [0, 1, 1]
    value = lens(log(normal(4)), output="value").to_frame()
    assert value["answer"].dtype == float


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (normal(6, 4), {}),
        (normal(6, 5, 4), {}),
        (normal(60, 50, 4), {}),
        (torch.tensor([0, 3, 3]), {}),
        (torch.tensor([[0, 3], [1, 3]]), {}),
        (normal(6, 3), {"output": "value"}),
        (normal(6), {"output": "value"}),
    ],
)
def test_plots(values, options):
    ax = lens(log(values), **options).plot()
    ax.figure.canvas.draw()
    assert ax.get_title().startswith("lens")
    assert ax.get_xlabel()
