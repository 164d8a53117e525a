"""torch differentiates weight norm twice without an error, and wrongly: `auto` must not pass that on."""

import pytest
import torch
from torch import nn

from unrolled.instruments.curvature import decompose


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 1)
    ).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    update = {name: 0.1 * torch.randn_like(p) for name, p in model.named_parameters()}
    return model, lambda m: m(x).square().mean(), update


def test_auto_falls_back_from_double_backward_and_agrees_with_the_taylor_pass():
    model, loss, update = problem()
    exact = decompose(model, loss, update, method="jet").penalty
    with pytest.warns(UserWarning, match="falls back to finite_difference"):
        reading = decompose(model, loss, update, rows=True)
    assert reading.method == "finite_difference"
    assert reading.penalty == pytest.approx(exact, rel=1e-6)


def test_an_explicit_double_backward_is_noted_as_taken_on_trust():
    reading = decompose(*problem(), method="double_backward")
    assert any("WeightNorm" in note and "on trust" in note for note in reading.notes)


def test_a_micro_batch_that_counts_nothing_leaves_the_jet_alone():
    model = nn.Linear(2, 1, bias=False).double()
    z = {"weight": torch.tensor([[0.1, 0.2]]).double()}
    full, none = (torch.ones(4, 2).double(), 4), (torch.ones(4, 2).double(), 0)

    def loss(model, batch):
        x, count = batch
        return model(x)[:count].square().sum(), count

    both, alone = (
        decompose(model, loss, z, batches=batches, method="jet") for batches in ([full, none], [full])
    )
    assert (both.gain, both.penalty, both.actual) == (alone.gain, alone.penalty, alone.actual)
