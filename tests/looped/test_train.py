"""Which parameters decay."""

import torch
from torch import nn

from unrolled import optim
from unrolled.looped.train import parameter_groups


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.mixer = nn.Linear(4, 4, bias=False)
        self.A_log = nn.Parameter(torch.zeros(2))
        self.dt_bias = nn.Parameter(torch.zeros(2))
        self.rho = nn.Parameter(torch.zeros(3, 4))
        self.frozen = nn.Parameter(torch.zeros(4, 4), requires_grad=False)


def test_matrices_decay_and_the_rest_does_not():
    decays, rest = parameter_groups(Model(), 0.3)
    assert [name for name, _ in decays["params"]] == ["embed.weight", "mixer.weight"]
    assert decays["weight_decay"] == 0.3
    assert {name for name, _ in rest["params"]} == {"A_log", "dt_bias", "rho"}
    assert rest["weight_decay"] == 0.0


def test_optimizers_take_them():
    model = Model()
    torch.optim.AdamW(parameter_groups(model), lr=1e-3)
    muon = optim.Muon(model.named_parameters(), lr=1e-2)
    assert muon.assignment()["mixer.weight"] == "muon"
