"""Loss and accuracy count what is asked for and nothing else."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from unrolled.looped import LT2, LT2Config, tasks


def test_loss_takes_tensors_and_outputs_and_sums():
    logits = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (2, 5))
    targets[0, 1] = targets[1, 3] = -100
    batch = (torch.zeros(2, 5).long(), targets)
    total, count = tasks.loss(lambda tokens: SimpleNamespace(logits=logits), batch)
    plain, _ = tasks.loss(lambda tokens: logits, batch)
    assert torch.equal(total, plain)
    assert count.item() == 8
    mean = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    assert total.item() == pytest.approx(8 * mean.item())
    half, _ = tasks.loss(lambda tokens: logits.bfloat16(), batch)
    assert half.dtype == torch.float32


def test_loss_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one shape"):
        tasks.loss(lambda t: t, (torch.zeros(1, 3).long(), torch.zeros(1, 2).long()))


def test_accuracy_leaves_the_mode_alone_and_refuses_nothing_to_count():
    class Model(torch.nn.Module):
        def forward(self, tokens):
            assert not self.training
            return F.one_hot(tokens, 4).float()

    model = Model()
    assert tasks.accuracy(model, lambda i: (torch.full((1, 2), i), torch.zeros(1, 2).long()), 2) == 0.5
    assert model.training
    with pytest.raises(ValueError, match="no target"):
        tasks.accuracy(model, lambda i: (torch.zeros(1, 2).long(), torch.full((1, 2), -100)))


def test_a_looped_models_head_reads_only_what_is_asked():
    model = LT2(LT2Config.preset("tiny", loops=2)).double()
    batch = tasks.MQAR(length=16, pairs=2, vocab=256, batch=3)(0)
    values = []
    for one in (model, lambda tokens: model(tokens).logits):
        model.zero_grad()
        total, count = tasks.loss(one, batch)
        total.backward()
        values.append((total.detach(), count, [p.grad.clone() for p in model.parameters()]))
    (a, n, left), (b, m, right) = values
    assert n == m == 6
    torch.testing.assert_close(a, b)
    for x, y in zip(left, right):
        torch.testing.assert_close(x, y)
    assert tasks.accuracy(model, lambda i: batch) == tasks.accuracy(
        lambda t: model(t).logits, lambda i: batch
    )


def test_the_indexers_own_loss_is_added_and_moves_the_indexer_alone():
    config = LT2Config.preset("tiny", loops=1, layers=1, pattern="dsa", index_top_k=4)
    model = LT2(config).double().train()
    batch = tasks.Words("Z2", length=12, batch=2)(0)
    total, count = tasks.loss(model, batch)
    plain = F.cross_entropy(model(batch[0]).logits.flatten(0, 1), batch[1].flatten(), reduction="sum")
    aux = model(batch[0]).aux
    torch.testing.assert_close(total, plain + config.index_loss * aux * count)
    assert aux.item() > 0
    total.backward()
    with_aux = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    plain.backward()
    without = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    moved = {
        n
        for n, g in with_aux.items()
        if n not in without or not torch.allclose(g, without[n], rtol=1e-9, atol=1e-12)
    }
    assert moved
    assert all(".mixer.index" in n for n in moved), moved
