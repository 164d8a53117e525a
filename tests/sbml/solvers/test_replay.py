import torch

from unrolled.sbml.solvers.adaptive import integrate
from unrolled.sbml.solvers.replay import replay

F64 = torch.float64


def brusselator(t, x, p):
    u, v = x.unbind(-1)
    a, b = p.unbind(-1)
    return torch.stack([a + u * u * v - (b + 1) * u, b * u - u * u * v], -1)


def stiff(t, x, p):
    u, v = x.unbind(-1)
    k, s = p.unbind(-1)
    return torch.stack([-k * u + s * v, k * u - (s + 1) * v * v], -1)


def path(field, x0, times, p, method, **options):
    found = integrate(field, x0.detach(), times, p=p.detach(), method=method, keep_steps=True, **options)
    assert found.ok.all()
    return replay(field, x0, times, found, p=p), found


def check(field, x0, p, times, method, rtol=1e-9):
    options = {"rtol": rtol, "atol": 1e-12}
    x0, p = x0.requires_grad_(), p.requires_grad_()
    out, found = path(field, x0, times, p, method, **options)
    assert (out - found.x).abs().max() < 1e-9
    weights = torch.randn(out.shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    gx, gp = torch.autograd.grad((weights * out).sum(), (x0, p))
    eps = 1e-5
    for leaf, grad in ((x0, gx), (p, gp)):
        for i in range(leaf.numel()):
            values = []
            for sign in (1, -1):
                moved = leaf.detach().clone()
                moved.view(-1)[i] += sign * eps
                a, b = (moved, p.detach()) if leaf is x0 else (x0.detach(), moved)
                values.append(
                    float((weights * integrate(field, a, times, p=b, method=method, **options).x).sum())
                )
            difference = (values[0] - values[1]) / (2 * eps)
            assert abs(difference - float(grad.reshape(-1)[i])) < 2e-4 * (1 + abs(difference))


def test_gradients_of_the_explicit_method_against_finite_differences():
    x0 = torch.tensor([[1.0, 1.0], [0.5, 2.0]], dtype=F64)
    check(
        brusselator,
        x0,
        torch.tensor([[1.0, 2.5], [0.8, 1.5]], dtype=F64),
        torch.linspace(0, 4, 5, dtype=F64),
        "dopri5",
    )


def test_gradients_of_the_stiff_method_and_of_shared_parameters():
    x0 = torch.tensor([[1.0, 0.5], [0.2, 0.1]], dtype=F64)
    check(
        stiff,
        x0,
        torch.tensor([50.0, 3.0], dtype=F64),
        torch.linspace(0, 1, 4, dtype=F64),
        "rodas5p",
        rtol=1e-8,
    )


def test_gradients_through_the_switch_to_the_stiff_method():
    x0 = torch.tensor([[1.0, 0.5]], dtype=F64)
    p = torch.tensor([[3e3, 1.0]], dtype=F64, requires_grad=True)
    times = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    out, found = path(stiff, x0, times, p, "auto", rtol=1e-6, atol=1e-9)
    assert {kind for *_, kind in found.accepted} == {False, True}
    (grad,) = torch.autograd.grad(out[-1].sum(), p)
    fine = [
        float(
            integrate(
                stiff,
                x0,
                times,
                p=torch.tensor([[3e3, s]], dtype=F64),
                method="rodas5p",
                rtol=1e-10,
                atol=1e-12,
            )
            .x[-1]
            .sum()
        )
        for s in (1.001, 0.999)
    ]
    assert abs(float(grad[0, 1]) - (fine[0] - fine[1]) / 2e-3) < 1e-4 * abs(float(grad[0, 1])) + 1e-6


def test_long_runs_are_recomputed_in_segments_with_the_same_gradient(monkeypatch):
    from unrolled.sbml.solvers import replay as module

    x0 = torch.tensor([[1.0, 1.0]], dtype=F64)
    p = torch.tensor([[1.0, 2.5]], dtype=F64, requires_grad=True)
    times = torch.linspace(0, 10, 7, dtype=F64)
    whole, found = path(brusselator, x0, times, p, "dopri5", rtol=1e-7, atol=1e-9)
    assert int(found.steps) > module.WHOLE or int(found.steps) > 20
    monkeypatch.setattr(module, "WHOLE", 10)
    pieces, _ = path(brusselator, x0, times, p, "dopri5", rtol=1e-7, atol=1e-9)
    assert (whole - pieces).abs().max() < 1e-12
    grads = [torch.autograd.grad(each[-1].sum(), p)[0] for each in (whole, pieces)]
    assert torch.allclose(*grads, rtol=1e-12)


def test_a_sample_that_failed_gives_nan_and_spoils_no_other_gradient():
    field = lambda t, x, p: p * x * x  # noqa: E731
    x0 = torch.ones(2, 1, dtype=F64, requires_grad=True)
    k = torch.tensor([[0.5], [2.0]], dtype=F64)
    times = torch.tensor([0.0, 1.0], dtype=F64)
    found = integrate(field, x0.detach(), times, p=k, rtol=1e-7, atol=1e-9, method="dopri5", keep_steps=True)
    out = replay(field, x0, times, found, p=k)
    assert out[1].isnan().flatten().tolist() == [False, True]
    (grad,) = torch.autograd.grad(out[1, 0, 0], x0)
    assert abs(float(grad[0]) - 4.0) < 1e-5  # d/dx0 of x0 / (1 - k x0)
    assert float(grad[1]) == 0
