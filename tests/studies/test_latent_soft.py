"""What surrounds the model in latent-soft and latent-speed: reading numbers, judging arms, the plain way to train."""

import json

import pytest
import torch
from tests.latent.conftest import gpt2

from unrolled.latent import Example, Thinker
from unrolled.studies import latent_soft, latent_speed


class Told:
    """A run without a folder."""

    hardware = "none"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" 12.", "12"), (" $1,234 in all", "1234"), ("-3 or 4", "-3"), ("none", ""), ("", "")],
)
def test_the_first_number_counts(text, expected):
    assert latent_soft.number(text) == expected


def test_problems_come_from_a_file(tmp_path):
    rows = [{"question": f"q{k}", "answer": f"because\n#### 1,{k}00"} for k in range(3)]
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = latent_soft.problems(latent_soft.Config(items=str(file), problems=2))
    assert [(p.question, p.answer) for p in made] == [("q0", "1000"), ("q1", "1100")]


def arms(words, soft):
    right = dict.fromkeys(latent_soft.ARMS, words)
    right["soft_thinking"] = soft
    said = {arm: [str(int(x)) for x in values] for arm, values in right.items()}
    return right, said, dict.fromkeys(latent_soft.ARMS, 4.0)


def test_better_is_claimed_only_with_a_small_p():
    config = latent_soft.Config(relays=0)
    for gain, status in ((0, "not reproduced"), (5, "not reproduced"), (9, "direction only")):
        right, said, steps = arms([False] * 20, [k < gain for k in range(20)])
        claims = {c.id: c for c in latent_soft.judge(config, Told(), right, said, steps, {})}
        assert claims["soft-thinking"].status == status
        assert claims["soft-thinking"].ours == pytest.approx(gain / 20)
        assert claims["latent-mas"].status == "not reproduced"
        assert claims["single-threaded"].ours == pytest.approx(1 - gain / 20)
        assert "relay" not in claims


@pytest.mark.parametrize("thoughts", [0, 1, 5])
def test_the_prefix_again_is_the_same_loss(thoughts):
    """The peer of latent-speed is no easier problem: loss and gradients are those of the fast path."""
    rng = torch.Generator().manual_seed(0)
    rows = [
        Example(tuple(r[:7]), thoughts, tuple(r[7:]), tuple(r[7:]))
        for r in torch.randint(2, 30, (4, 11), generator=rng).tolist()
    ]
    thinker = Thinker(gpt2(30))
    fast, count = thinker.loss(rows)
    fast.backward()
    gradients = [p.grad.clone() for p in thinker.parameters()]
    thinker.zero_grad()
    slow, number = latent_speed.again(thinker, rows)
    slow.backward()
    assert int(count) == int(number)
    torch.testing.assert_close(fast, slow)
    for a, p in zip(gradients, thinker.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


def test_a_ratio_is_of_runs_side_by_side():
    assert latent_speed.ratio([2.0, 20.0, 4.0], [1.0, 10.0, 1.0]) == (2.0, 0.5)
