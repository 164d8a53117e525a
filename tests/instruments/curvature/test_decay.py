"""Which weight decay is decoupled, on torch's own optimizers: c W must be what a step with zero gradient takes off."""

import pytest
import torch

from unrolled.instruments.curvature.decay import coefficients, decoupled, unwrapped_optimizer

OPTIMIZERS = {
    name: getattr(torch.optim, name)
    for name in (
        "SGD",
        "Adam",
        "AdamW",
        "NAdam",
        "RAdam",
        "Muon",
        "Adafactor",
        "RMSprop",
        "Adagrad",
        "Adamax",
        "ASGD",
    )
}


@pytest.mark.parametrize(
    ("name", "flag"),
    [*((name, False) for name in OPTIMIZERS), ("Adam", True), ("NAdam", True), ("RAdam", True)],
)
def test_against_a_step_without_gradient(name, flag):
    """With g = 0, decoupled decay takes exactly lr * wd * W; coupled decay enters the direction."""
    w = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64))
    before = w.detach().clone()
    options = {"lr": 1e-2, "weight_decay": 0.3}
    if flag:
        options["decoupled_weight_decay"] = True
    optimizer = OPTIMIZERS[name]([w], **options)
    c = coefficients([optimizer])[0][id(w)]
    w.grad = torch.zeros_like(w)
    optimizer.step()
    taken = before - w.detach()
    if decoupled(optimizer, optimizer.param_groups[0]):
        assert c == pytest.approx(3e-3)
        assert torch.allclose(taken, 3e-3 * before, rtol=1e-6)
    else:
        assert c == 0.0
        if name == "SGD":
            assert torch.allclose(
                taken, 3e-3 * before
            )  # looks the same for one step, but goes through momentum


def test_unknown_optimizers_are_named_and_can_be_told():
    class Mine(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.5})

    class MineW(torch.optim.AdamW):
        pass

    w = torch.nn.Parameter(torch.ones(2))
    assert coefficients([Mine([w])]) == ({id(w): 0.0}, {"Mine"})
    told = coefficients([Mine([w])], lambda optimizer, group: group["lr"] * group["weight_decay"])
    assert told == ({id(w): pytest.approx(0.05)}, set())
    assert coefficients([MineW([w], lr=0.1, weight_decay=0.5)])[0][id(w)] == pytest.approx(0.05)


def test_wrappers_are_looked_through():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    inner = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert unwrapped_optimizer(Wrapper(Wrapper(inner))) is inner
    assert unwrapped_optimizer(inner) is inner
