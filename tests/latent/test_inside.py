"""Instruments of thoughts on thoughts that are known."""

import math

import pytest
import torch
from tests.latent.conftest import gpt2

from unrolled.core import Trajectory
from unrolled.latent import Thinker, tasks
from unrolled.latent.inside import GROUPS, bits, decided, frontier, geometry, thought_lens
from unrolled.latent.superposition import Reasoner


@pytest.fixture
def thinker(words):
    return Thinker(gpt2(len(words)), words, "coconut")


def test_the_lens_says_what_the_head_would(thinker, problems):
    reading = thought_lens(thinker, problems[0].question, 3, k=2)
    path = thinker.rollout(problems[0].question, 3)
    said = thinker.backbone.head(path["thought"]).argmax(-1)
    assert torch.equal(reading["answer"], said)
    assert thinker.text.decode([int(said[1, 0])]) in str(reading.words(0))


def test_one_vector_over_and_over_is_called_collapsed(thinker):
    z = torch.randn(1, 3, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = geometry(thinker, Trajectory.from_records(range(4), {"thought": z.expand(4, 3, 24)}))
    assert same.status == "collapsed"
    assert "cannot hold different steps" in same.reason
    assert same["cosine"] == pytest.approx(1)
    assert same["distance"] == pytest.approx(0)
    eye = torch.eye(24, dtype=torch.float64)[:4, None].expand(4, 3, 24)
    apart = geometry(thinker, Trajectory.from_records(range(4), {"thought": eye}))
    assert apart.status == "ok"
    assert apart["cosine"] == pytest.approx(0, abs=1e-12)
    unit = float(thinker.backbone.weights()[0].norm(dim=-1).mean())
    assert float(apart["norm"][2]) == pytest.approx(1 / unit)
    assert apart["distance"] == pytest.approx(2**0.5 / unit)
    one = geometry(thinker, Trajectory.from_records(range(1), {"thought": eye[:1]}))
    assert math.isnan(one["cosine"])
    assert one.reason


def test_bits_of_a_noisy_label():
    """A label flipped with probability f tells 1 - H(f) bits, and a probe finds nearly all of it."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 2
    flip = torch.rand(4000, generator=rng) < 0.11
    z = torch.stack([torch.where(flip, 1 - y, y).double(), torch.randn(4000, generator=rng).double()], 1)
    found = bits(z, y, ridge=1e-3)
    f = float(flip.double().mean())
    truth = 1 + f * math.log2(f) + (1 - f) * math.log2(1 - f)
    assert float(found["decodable"][0]) == pytest.approx(truth, abs=0.01)
    assert found["raw"] == 32
    with pytest.raises(ValueError, match="1 classes"):
        bits(z, torch.zeros(4000, dtype=torch.long))


def test_the_constructed_network_holds_its_frontier():
    """Where embeddings are orthonormal the groups can be counted: nothing out of reach, all else alike."""
    problems = tasks.prosqa(5, seed=0)
    reasoner = Reasoner(40)
    graphs = [p.graph for p in problems]
    made = torch.stack([reasoner.think(reasoner.prompt(g.edges, g.root), 3)[1:] for g in graphs], 1)
    reading = frontier(made, graphs, torch.eye(40, reasoner.vocabulary).double())
    assert torch.equal(reading["not_reachable"], torch.zeros(3).double())
    assert bool((reading["optimal"] > 0.2).all())
    assert set(reading.values) == {name.replace(" ", "_") for name in GROUPS}
    for name in ("frontier", "optimal"):
        amplitude = reading[name]
        assert bool((amplitude[:-1] > amplitude[1:]).all()), (
            "the more nodes a thought holds, the fainter each"
        )


def test_the_thought_that_is_replaced_by_itself_decides_nothing(thinker, problems, words):
    pause = Thinker(gpt2(len(words)), words, "pause")
    assert float(decided(pause, problems[0].question, 3)["kl"].abs().max()) < 1e-12
    found = decided(thinker, problems[0].question, 4)
    assert bool((found["kl"] > 0).all())
    with pytest.raises(ValueError, match="two or more"):
        decided(thinker, problems[0].question, 1)
