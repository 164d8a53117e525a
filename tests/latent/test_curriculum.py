"""Staged training: its stages, its resets, and that a broken run goes on as if it had not been."""

import pytest
import torch
from tests.latent.conftest import gpt2

from unrolled.latent import Thinker, Words, tasks
from unrolled.latent.curriculum import schedule, train


@pytest.fixture(scope="module")
def small():
    problems = tasks.arithmetic(20, seed=0, ops=(2, 3))
    return problems, Words.of(problems)


def thinker_of(words, **cfg):
    return Thinker(gpt2(len(words), torch.float32, width=16), words, "coconut", **cfg)


def weights(thinker):
    return torch.cat([p.detach().flatten() for p in thinker.parameters()])


def test_the_paper_s_schedule():
    """GSM8k: 3 stages of 3 epochs after stage 0, then the extra stage (2412.06769, section 5.1)."""
    assert schedule(3, epochs=15, per_stage=3) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert schedule(6, epochs=50, per_stage=5)[:36:5] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert schedule(6, epochs=50, per_stage=5)[-1] == 7


@pytest.mark.parametrize("reset", ["epoch", "stage", "never"])
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, small, reset):
    problems, words = small
    options = {"epochs": 4, "per_stage": 2, "first": 1, "batch": 8, "reset": reset, "uniform": 0.3, "seed": 3}  # fmt: skip
    whole = thinker_of(words, c=1, stages=1)
    done = train(whole, problems, **options)
    assert done.stages == [0, 1, 1, 2]
    assert done.step == 12
    assert len(done.loss) == 12
    for stop_at in (2, 7, 11):
        broken, folder = thinker_of(words, c=1, stages=1), tmp_path / f"{reset}{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            train(
                broken,
                problems,
                checkpoint=folder,
                checkpoint_every=1,
                progress=interrupt(stop_at),
                **options,
            )
        fresh = thinker_of(words, c=1, stages=1)
        again = train(fresh, problems, checkpoint=folder, checkpoint_every=1, **options)
        assert again.step == 12
        assert torch.equal(weights(fresh), weights(whole))


def interrupt(at):
    def progress(step, steps):
        if step == at:
            raise KeyboardInterrupt

    return progress


def test_a_reset_forgets_the_moments(small):
    """With plain SGD nothing is there to forget; with momentum the three ways part."""
    problems, words = small
    ends = {}
    for reset in ("epoch", "stage", "never"):
        for momentum in (0.0, 0.9):
            thinker = thinker_of(words, c=1, stages=1)
            make = lambda p, m=momentum: torch.optim.SGD(p, lr=0.05, momentum=m)  # noqa: E731
            train(thinker, problems, epochs=3, per_stage=1, first=2, batch=10, reset=reset, optimizer=make)
            ends[reset, momentum] = weights(thinker)
    assert torch.equal(ends["epoch", 0.0], ends["never", 0.0])
    assert torch.equal(ends["stage", 0.0], ends["never", 0.0])
    distinct = [ends[reset, 0.9] for reset in ("epoch", "stage", "never")]
    assert not any(torch.equal(a, b) for k, a in enumerate(distinct) for b in distinct[:k])


def test_stages_reach_the_rows(small):
    """Stage by stage the thoughts grow and the steps go; a uniform draw mixes earlier stages in."""
    problems, words = small
    thinker = thinker_of(words, c=2, stages=2)
    seen = []
    original = thinker.method.loss

    def watched(backbone, rows, *rest):
        seen.append([row.thoughts for row in rows])
        return original(backbone, rows, *rest)

    thinker.method.loss = watched
    train(thinker, problems, epochs=4, per_stage=1, batch=20)
    assert [set(counts) for counts in seen] == [{0}, {2}, {4}, {4}]
    seen.clear()
    train(thinker, problems, epochs=4, per_stage=1, batch=20, uniform=1.0)
    assert set(seen[2]) <= {0, 2, 4}
    assert len(set(seen[2])) > 1


def test_learning_lowers_the_loss(small):
    problems, words = small
    thinker = thinker_of(words, c=1, stages=1)
    make = lambda p: torch.optim.AdamW(p, lr=5e-3)  # noqa: E731
    done = train(thinker, problems, epochs=30, per_stage=30, batch=20, optimizer=make, reset="never")
    assert done.loss[-1] < 0.7 * done.loss[0]


def test_bad_input(small):
    problems, words = small
    thinker = thinker_of(words)
    with pytest.raises(ValueError, match="0 problems"):
        train(thinker, [], epochs=1)
    with pytest.raises(ValueError, match="reset is 'epoch'"):
        train(thinker, problems, epochs=1, reset="sometimes")
    with pytest.raises(ValueError, match="uniform 2"):
        train(thinker, problems, epochs=1, uniform=2)


@pytest.mark.parametrize("method", ["codi", "sim_cot", "colar"])
def test_methods_that_read_the_steps_besides_are_trained_by_the_same_function(small, method):
    problems, words = small
    thinker = Thinker(gpt2(len(words), torch.float32, width=16), words, method)
    before = weights(thinker)
    done = train(thinker, problems, epochs=1, batch=10)
    assert done.stop.ok
    assert len(done.loss) == 2
    assert not torch.equal(before, weights(thinker))


def test_a_folder_without_a_checkpoint_is_no_later_stage(tmp_path, small):
    """Killed between making the second stage's folder and its first checkpoint: the first stage's weights still count."""
    problems, words = small
    options = {"epochs": 2, "per_stage": 1, "batch": 10, "reset": "stage"}
    whole, broken = (thinker_of(words, c=1, stages=1) for _ in range(2))
    train(whole, problems, **options)
    train(thinker_of(words, c=1, stages=1), problems, **options, checkpoint=tmp_path)
    for file in (tmp_path / "from-epoch-001").iterdir():
        file.unlink()
    train(broken, problems, **options, checkpoint=tmp_path)
    assert torch.equal(weights(whole), weights(broken))
