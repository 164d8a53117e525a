"""GRPO against its definition, a run cut in two, and a reward that rises."""

import statistics

import pytest
import torch
from tests.latent.conftest import gpt2

from unrolled.latent import Problem, Thinker, Words, naive
from unrolled.latent.methods.hrpo import HRPO
from unrolled.latent.rl import Sample, advantages, grpo, likelihood, sample, surrogate


def echoes(count=24):
    """Which letter is it? The answer is there to be read."""
    letters = "abcd"
    return [
        Problem(f"It is {letters[k % 4]}. Which is it?", (f"{letters[k % 4]}.",), letters[k % 4])
        for k in range(count)
    ]


@pytest.fixture(scope="module")
def letters():
    return Words.of(echoes())


def taught(letters, name, steps=12, **options):
    """A thinker that knows the form of an answer and is right a third of the time or so."""
    torch.manual_seed(0)
    thinker = Thinker(gpt2(len(letters), torch.float32, width=32), letters, name, **options)
    optimizer = torch.optim.AdamW(thinker.parameters(), lr=3e-3)
    for _ in range(steps):
        summed, count = thinker.loss(echoes(8), rng=torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        (summed / count).backward()
        optimizer.step()
    return thinker


def drawn(thinker, seed=0, count=6, **options):
    rng = torch.Generator().manual_seed(seed)
    return sample(thinker, echoes(count), lambda p, r: 0.0, thoughts=3, max_new_tokens=5, rng=rng, **options)


def test_advantages_know_their_own_group_only():
    rewards = torch.tensor([1.0, 2.0, 3.0, 7.0, 7.0, 7.0], dtype=torch.float64)
    assert advantages(rewards, 3).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    torch.testing.assert_close(advantages(rewards + 5, 3), advantages(rewards, 3))
    torch.testing.assert_close(advantages(rewards * 5, 3), advantages(rewards, 3))
    assert advantages(rewards, 3, scale=False).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="at least 2 replies"):
        advantages(rewards, 4)


def test_at_the_first_update_the_gradient_is_the_policy_gradient():
    """rho is 1, so d loss = -A d log p; the KL's own gradient is zero where both agree."""
    rng = torch.Generator().manual_seed(0)
    now = -torch.rand(3, 4, generator=rng, dtype=torch.float64)
    now.requires_grad_()
    taken = torch.tensor([[True] * 4, [True, True, False, False], [True] * 4])
    A = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    loss = surrogate(now, now.detach(), A, taken, 0.2, now.detach(), beta=0.3)
    loss.sum().backward()
    expected = -(A[:, None] * taken / taken.sum(1, keepdim=True)).to(now)
    torch.testing.assert_close(now.grad, expected)


def test_clipping_is_pessimistic():
    """A ratio outside the band passes no gradient where the advantage would push it further, and does where it pulls back."""
    then = torch.zeros(4, 1, dtype=torch.float64)
    now = torch.tensor([[0.5], [0.5], [-0.5], [-0.5]], dtype=torch.float64, requires_grad=True)
    A = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    surrogate(now, then, A, torch.ones(4, 1, dtype=torch.bool), 0.2).sum().backward()
    assert now.grad is not None
    assert [float(g) == 0.0 for g in now.grad[:, 0]] == [True, False, False, True]


def test_the_kl_estimate_is_unbiased_and_never_negative():
    """Its mean under p over all choices is KL(p | q), in closed form."""
    rng = torch.Generator().manual_seed(0)
    p, q = (torch.randn(6, generator=rng, dtype=torch.float64).log_softmax(0) for _ in range(2))
    there = torch.ones(6, 1, dtype=torch.bool)
    zero = torch.zeros(6, dtype=torch.float64)
    each = surrogate(p[:, None], p[:, None], zero, there, 0.2, q[:, None], beta=1.0)
    assert float(each.min()) >= 0
    torch.testing.assert_close((p.exp() * each).sum(), (p.exp() * (p - q)).sum())


@pytest.mark.parametrize("name", ["hrpo", "coconut", "pause", "no_cot"])
def test_replies_made_again_have_the_probabilities_they_were_drawn_with(letters, name):
    """Against the definition: the whole prefix for every token, one row at a time."""
    thinker = Thinker(gpt2(len(letters)), letters, name).eval()
    made = drawn(thinker, temperature=0.7)
    with torch.no_grad():
        log_p, taken = likelihood(thinker, made, 0.7)
    backbone = thinker.backbone
    for b, question in enumerate(made.questions):
        sequence = backbone.embed(torch.tensor(question))
        expected = []
        for step in range(made.thoughts):
            hidden = naive.hidden_states(backbone, sequence)[-1]
            if name == "hrpo":
                assert isinstance(thinker.method, HRPO)
                choice = made.choices[step][b]
                p = (backbone.head(hidden) / thinker.method.temperature).softmax(-1)
                expected.append(p[choice].log())
                z = thinker.method.blend(backbone.weights()[0][choice], p @ backbone.weights()[0])
            else:
                z = thinker.method.thought(backbone, hidden[None], step)[0]
            sequence = torch.cat([sequence, z[None]])
        if made.front:
            sequence = torch.cat([sequence, backbone.embed(torch.tensor(made.front))])
        for token in made.said[b]:
            hidden = naive.hidden_states(backbone, sequence)[-1]
            expected.append((backbone.head(hidden) / 0.7).log_softmax(-1)[token])
            sequence = torch.cat([sequence, backbone.embed(torch.tensor([token]))])
        torch.testing.assert_close(log_p[b][taken[b]], torch.stack(expected).detach(), rtol=1e-5, atol=1e-6)


def test_colar_draws_from_its_gaussian(letters):
    """The density integrates to one: its mean over many draws is minus the entropy, per dimension."""
    thinker = Thinker(gpt2(len(letters)), letters, "colar").eval()
    hidden = torch.randn(1, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rng = torch.Generator().manual_seed(1)
    method = thinker.method
    with torch.no_grad():
        many = hidden.expand(20_000, -1)
        z, log_p = method.replay(thinker.backbone, many, 0, method.draw(thinker.backbone, many, 0, rng))
        _, log_sigma = method.gaussian(hidden)
    entropy = (0.5 * (1 + torch.tensor(2 * torch.pi, dtype=torch.float64).log()) + log_sigma).mean()
    assert float(log_p.mean()) == pytest.approx(-float(entropy), abs=0.01)
    torch.testing.assert_close(z.mean(0), method.thought(thinker.backbone, hidden, 0)[0], atol=0.05, rtol=0)


def test_gradients_reach_the_gate_through_the_thoughts(letters):
    thinker = Thinker(gpt2(len(letters)), letters, "hrpo").eval()
    likelihood(thinker, drawn(thinker))[0].sum().backward()
    assert float(thinker.method.decay.grad.abs().max()) > 0
    assert float(thinker.method.intake.weight.grad.abs().max()) > 0


@pytest.mark.parametrize(("name", "rate"), [("hrpo", 2e-3), ("colar", 2e-3), ("coconut", 2e-3)])
def test_reward_rises_on_a_task_that_can_be_checked(letters, name, rate):
    thinker = taught(letters, name)
    rows = []
    grpo(
        thinker, echoes(), steps=40, thoughts=2, questions=4, group=8, max_new_tokens=5, beta=0.001,
        optimizer=torch.optim.AdamW(thinker.parameters(), lr=rate), log=lambda **row: rows.append(row),
    )  # fmt: skip
    first, last = (statistics.mean(row["reward"] for row in part) for part in (rows[:8], rows[-8:]))
    assert first < 0.6
    assert last > first + 0.25
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["kl"] > rows[0]["kl"]


def test_no_difference_within_a_group_teaches_nothing(letters):
    """All replies are worth the same: without the reference's pull and weight decay not a weight moves."""
    thinker = taught(letters, "hrpo", steps=3)
    before = [p.clone() for p in thinker.parameters()]
    grpo(
        thinker, echoes(), steps=2, reward=lambda p, r: 1.0, thoughts=2, group=4, beta=0.0, max_new_tokens=3,
        optimizer=torch.optim.SGD(thinker.parameters(), lr=1.0),
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(before, thinker.parameters(), strict=True))


@pytest.mark.parametrize("updates", [1, 2])
def test_a_run_cut_in_two_is_bit_for_bit_the_whole(letters, tmp_path, updates):
    """The second half begins from another thinker's weights: checkpoint and reference are the folder's."""
    options = {
        "thoughts": 2,
        "questions": 2,
        "group": 4,
        "max_new_tokens": 4,
        "beta": 0.05,
        "updates": updates,
    }
    options["checkpoint_every"] = 2

    def adam(thinker):
        return torch.optim.AdamW(thinker.parameters(), lr=1e-3)

    whole = taught(letters, "hrpo", steps=4)
    grpo(whole, echoes(), steps=8, optimizer=adam(whole), **options)
    half = taught(letters, "hrpo", steps=4)
    seen = []

    class Cut(Exception):
        pass

    def cut(step, steps):
        seen.append(step)
        if step == 5:
            raise Cut

    with pytest.raises(Cut):
        grpo(half, echoes(), steps=8, optimizer=adam(half), checkpoint=tmp_path, progress=cut, **options)
    again = Thinker(gpt2(len(letters), torch.float32, width=32, seed=9), letters, "hrpo")
    done = grpo(again, echoes(), steps=8, optimizer=adam(again), checkpoint=tmp_path, **options)
    assert (done.resumed, done.step, seen) == (4, 8, [1, 2, 3, 4, 5])
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_same_seed_draws_the_same_replies(letters):
    thinker = Thinker(gpt2(len(letters)), letters, "hrpo").eval()
    a, b, c = drawn(thinker, 3), drawn(thinker, 3), drawn(thinker, 4)
    assert isinstance(a, Sample)
    assert a.said == b.said
    assert all(torch.equal(x, y) for x, y in zip(a.choices, b.choices, strict=True))
    assert (a.said, [x.tolist() for x in a.choices]) != (c.said, [x.tolist() for x in c.choices])


def test_bad_input(letters):
    thinker = Thinker(gpt2(len(letters)), letters, "hrpo")
    with pytest.raises(ValueError, match="needs problems"):
        grpo(thinker, [], steps=1)
    with pytest.raises(ValueError, match="with a tokenizer"):
        grpo(Thinker(gpt2(9)), echoes(), steps=1)
    with pytest.raises(ValueError, match="group 1 >= 2"):
        grpo(thinker, echoes(), steps=1, group=1)
    with pytest.raises(ValueError, match="no multiple of updates 2"):
        grpo(thinker, echoes(), steps=4, updates=2, checkpoint_every=3)
