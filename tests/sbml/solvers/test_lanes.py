import shutil

import pytest
import torch

from unrolled.sbml.solvers import lanes as module
from unrolled.sbml.solvers._graph import Unsuitable, write
from unrolled.sbml.solvers.adaptive import integrate
from unrolled.sbml.solvers.lanes import Lanes

F64 = torch.float64
compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def lorenz(t, x, p):
    a, b, c = x.unbind(-1)
    s, r, k = p.unbind(-1)
    return torch.stack([s * (b - a), a * (r - c) - b, a * b - k * c], -1)


def samples(n=203):
    rng = torch.Generator().manual_seed(0)
    x0 = 5 * torch.randn(n, 3, dtype=F64, generator=rng) + torch.tensor([0.0, 0.0, 25.0], dtype=F64)
    p = torch.tensor([10.0, 28.0, 8 / 3], dtype=F64) * (1 + 0.1 * torch.randn(n, 3, dtype=F64, generator=rng))
    return x0, p


@compiler
@pytest.mark.parametrize("threads", [1, 2])
def test_step_for_step_the_plain_integrator(threads):
    lanes, (x0, p) = Lanes(lorenz, 3, 3), samples()
    times = torch.linspace(0, 1.0, 41, dtype=F64)
    plain = integrate(lorenz, x0, times, p=p, method="dopri5", rtol=1e-6, atol=1e-9)
    options = {"rtol": 1e-6, "atol": torch.tensor(1e-9), "max_steps": 10**5, "detect": True}
    fused = lanes.integrate(x0, times, p, threads=threads, **options)
    assert torch.equal(plain.steps, fused["steps"])
    assert torch.equal(plain.rejected, fused["rejected"])
    assert (plain.x - fused["x"]).abs().max() < 1e-10


@compiler
def test_one_parameter_vector_for_all_and_any_batch_size():
    lanes, (x0, p) = Lanes(lorenz, 3, 3), samples(19)
    times = torch.linspace(0, 0.5, 3, dtype=F64)
    whole = lanes.solve(lorenz, x0, times, p[0], rtol=1e-8, atol=1e-10)
    for n in (1, 7, 8, 9):
        part = lanes.solve(lorenz, x0[:n], times, p[:1].expand(n, 3), rtol=1e-8, atol=1e-10)
        assert (whole.x[:, :n] - part.x).abs().max() < 1e-13
    assert torch.equal(lanes.evaluate(torch.zeros(()), x0, p), lanes.evaluate(torch.zeros(19), x0, p))
    assert (lanes.evaluate(torch.zeros(()), x0, p) - lorenz(None, x0, p)).abs().max() < 1e-13


@compiler
def test_every_operation_gives_what_torch_gives():
    def field(t, x, p):
        a, b = x.unbind(-1)
        k, n = p.unbind(-1)
        smooth = a**n + a**3 + b**-2 + a**0.5 + torch.exp(-b) + torch.log(a) + torch.sin(t * a) + torch.cos(b)
        smooth = smooth + torch.tanh(a) + torch.sqrt(b) + torch.atan(b) + torch.log10(a) + a.abs() - (2.0 - b)
        cut = torch.floor(3 * a) + torch.ceil(b) + torch.maximum(a, b) - torch.minimum(a, k)
        test = ((a > b) & ~(a > 1.5)) | (t < 0.2) ^ (b >= k)
        return torch.stack([torch.where(test, smooth, cut), torch.where(a <= b, 1.0, 0.0) + a / b], -1)

    rng = torch.Generator().manual_seed(1)
    x, p = (0.1 + 2 * torch.rand(1000, 2, dtype=F64, generator=rng) for _ in range(2))
    t = torch.rand(1000, dtype=F64, generator=rng)
    expected, found = field(t, x, p), Lanes(field, 2, 2).evaluate(t, x, p)
    assert ((found - expected).abs() <= 1e-13 * (1 + expected.abs())).all()


@compiler
def test_what_depends_on_parameters_alone_is_computed_once():
    code = write(lambda t, x, p: torch.exp(p) * x + (p > 1).to(x.dtype), 1, 1)
    assert "v_exp" in code.prepare
    assert "v_exp" not in code.rate
    x, p = torch.ones(9, 1, dtype=F64), torch.linspace(0, 2, 9, dtype=F64)[:, None]
    found = Lanes(lambda t, x, p: torch.exp(p) * x + (p > 1).to(x.dtype), 1, 1).evaluate(
        torch.zeros(()), x, p
    )
    assert (found - (p.exp() + (p > 1))).abs().max() < 1e-14


@compiler
def test_stiff_and_failing_samples_are_those_of_the_plain_path():
    def field(t, x, p):
        y, v = x.unbind(-1)
        mu = p[:, 0]
        return torch.stack([v, mu * (1 - y * y) * v - y], -1)

    def blow(t, x, p):
        return p * x * x

    times = torch.linspace(0, 20, 5, dtype=F64)
    mu = torch.tensor([[300.0], [1.0], [0.0]], dtype=F64).repeat(4, 1)
    x0 = torch.tensor([[2.0, 0.0]], dtype=F64).expand(12, 2)
    fused = Lanes(field, 2, 1).solve(field, x0, times, mu)
    plain = integrate(field, x0, times, p=mu)
    assert torch.equal(fused.stiff_from.isfinite(), plain.stiff_from.isfinite())
    assert fused.ok.all()
    assert (fused.x - plain.x).abs().max() < 1e-4  # the switch of the stiff ones may fall a step apart
    assert (fused.x - plain.x)[:, 1].abs().max() < 1e-10
    k = torch.tensor([[0.1], [0.3], [-1.0]], dtype=F64)
    start = torch.tensor([[1.0], [1.0], [torch.nan]], dtype=F64)
    times = torch.linspace(0, 5, 6, dtype=F64)
    for method in ("dopri5", "auto"):
        fused = Lanes(blow, 1, 1).solve(blow, start, times, k, method=method)
        plain = integrate(blow, start, times, p=k, method=method)
        assert fused.status.tolist() == plain.status.tolist()
        assert torch.equal(fused.x.isnan(), plain.x.isnan())
        assert fused.component.tolist() == plain.component.tolist() == [-1, 0, 0]
        assert fused.x[4:, 1].isnan().all()


def test_what_is_not_elementwise_is_refused():
    mixing = torch.ones(2, 2, dtype=F64)
    for field in (
        lambda t, x, p: x @ mixing,
        lambda t, x, p: x - x.mean(0),
        lambda t, x, p: x if bool(x.sum() > 0) else -x,
        lambda t, x, p: x[:, :1],
    ):
        with pytest.raises(Unsuitable):
            write(field, 2, None)


def test_no_compiler_is_said(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(Unsuitable, match="compiler"):
        Lanes(lorenz, 3, 3)


@compiler
def test_a_compiler_that_fails_is_said(monkeypatch, tmp_path):
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    false.chmod(0o755)
    monkeypatch.setenv("CXX", str(false))
    with pytest.raises(Unsuitable, match="no such flag"):
        Lanes(lambda t, x, p: -x * 1.2345, 1, None)
