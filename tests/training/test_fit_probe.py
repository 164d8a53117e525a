"""`fit` with the curvature probe: it sees the steps that were made, changes none of them, and resumes."""

import json
import math

import pytest
import torch
from torch import nn

from unrolled.instruments.curvature import Probe
from unrolled.training import fit, gpt
from unrolled.training.corpus import Corpus

CONFIG = gpt.GPTConfig(layers=1, heads=2, width=8, context=8, vocab=16, dropout=0.1)
TEXT = Corpus.from_tokens(torch.randint(0, 16, (2000,), generator=torch.Generator().manual_seed(0)), vocab=16)


def exact(probe):
    """Every digit of every record; NaN equals NaN."""
    states = [record.state_dict() for record in probe.records]
    return json.dumps(states, default=lambda tensor: tensor.tolist())


def run(steps=9, probed=True, folder=None, until=None):
    torch.manual_seed(4)
    model = gpt.GPT(CONFIG, rng=0).double()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3)
    probe = Probe(model, adam, gpt.loss, every=4) if probed else None
    rows = TEXT.batches(batch=2, context=8)
    result = fit(
        model,
        rows,
        gpt.loss,
        adam,
        steps=steps,
        accumulate=3,
        clip=0.1,
        probe=probe,
        checkpoint=folder,
        checkpoint_every=3,
        until=until,
        evaluate=(2, lambda m: gpt.loss(m, rows(0))[0]),
    )
    return model, probe, result


def test_probing_changes_nothing():
    with_probe, _, a = run()
    without, _, b = run(probed=False)
    assert all(torch.equal(x, y) for x, y in zip(with_probe.parameters(), without.parameters()))
    assert a.history["loss"] == b.history["loss"]


def test_records_are_of_the_steps_made():
    _, probe, result = run()
    assert [r.step for r in probe.records] == [0, 4, 8]
    for record in probe.records:
        assert record.loss == pytest.approx(result.history["loss"][record.step], rel=1e-12)
        assert record.count == result.history["count"][record.step] == 48
        assert record.predicted == pytest.approx(record.actual, rel=0.02)


def test_records_resume_with_the_run(tmp_path):
    _, want, _ = run()
    run(folder=tmp_path, until=lambda f: f.step == 5)
    _, got, result = run(folder=tmp_path)
    assert result.resumed == 5
    assert exact(got) == exact(want)


def test_exact_on_a_quadratic_with_unequal_micro_batches():
    """L = mean (w.x)^2, plain gradient descent: gain = lr |G|^2 and penalty = lr^2 G.A G, whatever the batches."""
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(10, 3, generator=rng, dtype=torch.float64)
    parts = [x[:6], x[6:7], x[7:]]
    model = nn.Linear(3, 1, bias=False).double()
    start = model.weight.detach().clone()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(m, b):
        return m(b).square().sum(), len(b)

    probe = Probe(model, sgd, loss, every=1)
    fit(model, lambda i: parts[i % 3], loss, sgd, steps=1, accumulate=3, probe=probe)
    a = x.T @ x / 10
    gradient = (2 * a @ start.T).squeeze()
    assert probe.records[0].gain == pytest.approx(float(0.1 * gradient @ gradient), rel=1e-12)
    assert probe.records[0].penalty == pytest.approx(float(0.01 * gradient @ a @ gradient), rel=1e-12)
    assert probe.records[0].remainder == pytest.approx(0.0, abs=1e-12)


def test_a_step_that_is_not_made_leaves_no_record():
    model = nn.Linear(3, 1, bias=False)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = Probe(model, sgd, lambda m, b: m(b).square().mean(), every=1)
    result = fit(
        model,
        lambda i: torch.ones(2, 3) * (math.nan if i == 2 else 1.0),
        lambda m, b: m(b).square().mean(),
        sgd,
        steps=5,
        probe=probe,
    )
    assert (result.stop.reason, result.stop.step) == ("nonfinite", 2)
    assert [r.step for r in probe.records] == [0, 1]
