"""Conversion: what is kept, what moves in which stage, and that imitation imitates."""

import pytest
import torch

from unrolled.looped import LT2, LT2Config, convert


@pytest.fixture
def teacher():
    model = LT2(LT2Config.preset("tiny", width=32, heads=2, loops=2, hidden=48, pattern="full"), rng=1)
    with torch.no_grad():
        model.rho.normal_(std=0.1)
    return model


def batches(index):
    return torch.randint(256, (4, 12), generator=torch.Generator().manual_seed(index))


def test_the_student_keeps_all_but_the_new_mixers(teacher):
    made = convert.student(teacher, "gated_delta,full", neg_eigval=True)
    assert convert.replaced(teacher, made) == [0]
    assert made.config.neg_eigval
    there = made.state_dict()
    kept = {n for n, v in teacher.state_dict().items() if n in there and torch.equal(there[n], v)}
    assert kept == {n for n in teacher.state_dict() if not n.startswith("blocks.0.mixer.")}
    same = convert.student(teacher, "full")
    tokens = batches(0)
    assert torch.equal(same(tokens).logits, teacher(tokens).logits)


def test_alignment_moves_the_new_mixers_alone_and_comes_nearer(teacher):
    made = convert.student(teacher, "gated_delta,full")
    before = {n: v.clone() for n, v in made.state_dict().items()}
    held = {n: v.clone() for n, v in teacher.state_dict().items()}
    result = convert.align(teacher, made, batches, steps=30)
    assert result.history["loss"][-1] < 0.9 * result.history["loss"][0]
    moved = {n for n, v in made.state_dict().items() if not torch.equal(v, before[n])}
    assert moved
    assert all(n.startswith("blocks.0.mixer.") for n in moved)
    assert all(torch.equal(v, held[n]) for n, v in teacher.state_dict().items())
    assert all(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize("per_loop", [True, False])
def test_distillation_comes_nearer(teacher, per_loop):
    made = convert.student(teacher, "gated_delta,full")
    result = convert.distil(teacher, made, batches, steps=30, per_loop=per_loop, lr=3e-3)
    assert result.history["loss"][-1] < 0.8 * result.history["loss"][0]
    assert not any(p.grad is not None for p in teacher.parameters())


def test_per_loop_loss_is_the_mean_over_loops(teacher):
    made = convert.student(teacher, "gated_delta,full")
    tokens = batches(0)
    p, q = (m(tokens, logits="per_loop").logits.log_softmax(-1) for m in (teacher, made))
    expected = (p.exp() * (p - q)).sum(-1).mean()
    assert convert.divergence(p, q).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_divergence_of_lumped_tokens_is_no_larger():
    p, q = torch.randn(2, 5, 20, generator=torch.Generator().manual_seed(0))
    whole = convert.divergence(p, q)
    last = torch.zeros(5)
    for k in (1, 5, 19, 20):
        lumped = convert.divergence(p, q, k)
        assert (lumped >= last - 1e-5).all()
        assert (lumped <= whole + 1e-5).all()
        last = lumped
    torch.testing.assert_close(last, whole)
    assert convert.divergence(p, p, 3).abs().max() < 1e-6


def test_what_cannot_be_converted(teacher):
    with pytest.raises(ValueError, match="nothing to align"):
        convert.align(teacher, convert.student(teacher, "full"), batches, steps=1)
    with pytest.raises(ValueError, match="has no place in a student"):
        convert.student(teacher, "gated_delta,full", width=64)
    deeper = convert.student(teacher, "gated_delta,full", residual=True)
    deeper.config = LT2Config.preset("tiny", loops=3)
    with pytest.raises(ValueError, match="pairs loops"):
        convert.distil(teacher, deeper, batches, steps=1, per_loop=True)
