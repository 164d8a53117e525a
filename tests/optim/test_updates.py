import math
from typing import Any

import pytest
import torch
from torch import Tensor

from unrolled.optim import polar, recipes, updates

SHAPES = [(4, 4), (3, 7), (9, 2), (1, 6)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient_sequence(shape: tuple[int, ...], steps: int, dtype: torch.dtype) -> list[Tensor]:
    return [random(*shape, seed=100 + t, dtype=dtype) * 10.0 ** (t % 5 - 2) for t in range(steps)]


def torch_path(make: Any, start: Tensor, grads: list[Tensor]) -> list[Tensor]:
    p = torch.nn.Parameter(start.clone())
    optimizer = make([p])
    path = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return path


def our_path(
    update: Any, start: Tensor, grads: list[Tensor], *names: str, counted: bool = False
) -> list[Tensor]:
    w, buffers = start.clone(), updates.zeros(start, *names)
    path = []
    for t, g in enumerate(grads, start=1):
        z, buffers = update(w, g, buffers, **({"step": t} if counted else {}))
        w = w - z
        path.append(w)
    return path


def compare(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [
    {}, {"weight_decay": 0.3}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
])  # fmt: skip
def test_sgd_is_that_of_torch_step_for_step(options: dict[str, Any]) -> None:
    start, grads = random(3, 5), gradient_sequence((3, 5), 40, torch.float64)
    names = ["momentum"] if options.get("momentum") else []
    ours = our_path(lambda w, g, b: updates.sgd(w, g, b, lr=0.03, **options), start, grads, *names)
    compare(ours, torch_path(lambda p: torch.optim.SGD(p, lr=0.03, **options), start, grads), 1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95), (0.0, 0.0)])
def test_adam_is_that_of_torch_step_for_step(
    weight_decay: float, decoupled: bool, smooth: bool, betas: tuple[float, float]
) -> None:
    start, grads = random(3, 5), gradient_sequence((3, 5), 40, torch.float64)
    for g in grads:
        g[0, 0] = 0.0  # an entry that never sees a gradient
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    shared = {"lr": 0.01, "betas": betas, "weight_decay": weight_decay}
    ours = our_path(
        lambda w, g, b, step: updates.adam(w, g, b, step=step, decoupled=decoupled, smooth=smooth, **shared),
        start, grads, "exp_avg", "exp_avg_sq", counted=True,
    )  # fmt: skip
    compare(ours, torch_path(lambda p: kind(p, **shared), start, grads), 1e-12)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_muon_is_that_of_torch_step_for_step(
    adjust: str, weight_decay: float, nesterov: bool, shape: tuple[int, int]
) -> None:
    start, grads = random(*shape), gradient_sequence(shape, 40, torch.float64)
    shared = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": weight_decay}
    ours = our_path(
        lambda w, g, b: updates.muon(w, g, b, scale=adjust, polar_dtype=torch.bfloat16, **shared), start, grads,
        "momentum",
    )  # fmt: skip
    compare(
        ours, torch_path(lambda p: torch.optim.Muon(p, adjust_lr_fn=adjust, **shared), start, grads), 1e-12
    )


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_in_float32_differs_from_torch_by_one_rounding_of_the_parameter_per_step(adjust: str) -> None:
    """The buffers and polar factors are equal bit for bit; torch then fuses W - lr O, where we round Z first."""
    shape, steps = (24, 40), 40
    start, grads = random(*shape, dtype=torch.float32), gradient_sequence(shape, steps, torch.float32)
    p = torch.nn.Parameter(start.clone())
    theirs = torch.optim.Muon([p], lr=0.02, adjust_lr_fn=adjust, weight_decay=0.0)
    w, buffers = start.clone(), updates.zeros(start, "momentum")
    for t, g in enumerate(grads, start=1):
        p.grad = g.clone()
        theirs.step()
        z, buffers = updates.muon(w, g, buffers, lr=0.02, scale=adjust, polar_dtype=torch.bfloat16)
        w = w - z
        assert torch.equal(buffers["momentum"], theirs.state[p]["momentum_buffer"])
        bound = t * torch.finfo(torch.float32).eps * (w.abs().max() + z.abs().max())
        assert (w - p.detach()).abs().max() <= bound


def test_muon_with_the_exact_polar_has_unit_singular_values_times_lr_and_scale() -> None:
    g = random(8, 3)
    for rule in updates.SCALES:
        z, _ = updates.muon(torch.zeros(8, 3, dtype=g.dtype), g, updates.zeros(g, "momentum"), lr=0.5, polar="svd",
                            scale=rule)  # fmt: skip
        expected = 0.5 * updates.scale_factor(rule, 8, 3)
        torch.testing.assert_close(torch.linalg.svdvals(z), torch.full((3,), expected, dtype=g.dtype))


@pytest.mark.parametrize(("rows", "cols"), [(768, 768), (3072, 768), (768, 3072), (1, 10)])
def test_scale_rules(rows: int, cols: int) -> None:
    assert updates.scale_factor("original", rows, cols) == math.sqrt(max(1, rows / cols))
    assert updates.scale_factor("match_rms_adamw", rows, cols) == 0.2 * math.sqrt(max(rows, cols))
    assert updates.scale_factor("spectral", rows, cols) == math.sqrt(rows / cols)


def test_match_rms_adamw_gives_a_full_rank_update_the_root_mean_square_of_point_two() -> None:
    g = random(30, 50)
    z, _ = updates.muon(g, g, updates.zeros(g, "momentum"), lr=1.0, polar="svd", scale="match_rms_adamw")
    assert z.square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-12)


def test_weight_decay_uses_the_learning_rate_before_the_scale_rule() -> None:
    w, g = random(90, 10), torch.zeros(90, 10, dtype=torch.float64)
    z, _ = updates.muon(w, g, updates.zeros(w, "momentum"), lr=0.1, weight_decay=0.5, scale="match_rms_adamw")
    torch.testing.assert_close(z, 0.1 * 0.5 * w, rtol=1e-14, atol=0)


def test_nothing_is_changed_in_place() -> None:
    w, g = random(4, 6), random(4, 6, seed=1)
    for update, names in [
        (lambda *a: updates.sgd(*a, lr=0.1, momentum=0.9, weight_decay=0.1), ["momentum"]),
        (lambda *a: updates.adam(*a, step=1, lr=0.1, weight_decay=0.1), ["exp_avg", "exp_avg_sq"]),
        (lambda *a: updates.muon(*a, lr=0.1, weight_decay=0.1), ["momentum"]),
    ]:
        buffers = updates.zeros(w, *names)
        copies = [w.clone(), g.clone(), {k: v.clone() for k, v in buffers.items()}]
        _, new = update(w, g, buffers)
        assert torch.equal(w, copies[0])
        assert torch.equal(g, copies[1])
        for name in names:
            assert torch.equal(buffers[name], copies[2][name])
            assert not torch.equal(new[name], buffers[name])


def test_many_parameters_equal_one_by_one_with_splits_stacks_and_convolutions() -> None:
    named = {
        "attn.qkv.weight": random(12, 4), "mlp.up.weight": random(8, 4, seed=1), "conv.weight": random(6, 3, 2, 2, seed=2),
        "experts.up": random(3, 4, 5, seed=3), "mlp.down.weight": random(4, 8, seed=4),
    }  # fmt: skip
    layouts = recipes.assign(named, head_size=2)
    grads = {n: random(*w.shape, seed=50 + i) for i, (n, w) in enumerate(named.items())}
    buffers = [updates.zeros(w, "momentum") for w in named.values()]
    together = updates.muon_all(list(named.values()), list(grads.values()), buffers, list(layouts.values()), lr=0.1,
                                weight_decay=0.1, scale="match_rms_adamw")  # fmt: skip
    for (name, w), b, (z, new) in zip(named.items(), buffers, together):
        alone, alone_new = updates.muon(w, grads[name], b, lr=0.1, weight_decay=0.1, scale="match_rms_adamw",
                                        layout=layouts[name])  # fmt: skip
        assert z.shape == w.shape
        torch.testing.assert_close(z, alone, rtol=1e-10, atol=1e-12)
        assert torch.equal(new["momentum"], alone_new["momentum"])


def test_a_split_projection_is_its_three_matrices() -> None:
    w, g = random(12, 4), random(12, 4, seed=1)
    layout = recipes.assign({"attn.qkv.weight": w})["attn.qkv.weight"]
    z, _ = updates.muon(w, g, updates.zeros(w, "momentum"), lr=0.1, polar="svd", layout=layout)
    for i in range(3):
        rows = slice(4 * i, 4 * i + 4)
        torch.testing.assert_close(z[rows], 0.1 * polar.svd(g[rows]))
    whole, _ = updates.muon(w, g, updates.zeros(w, "momentum"), lr=0.1, polar="svd")
    assert (whole - z).abs().max() > 0.01


def test_a_convolution_is_flattened_and_an_expert_stack_is_not() -> None:
    g = random(6, 3, 2, 2)
    z, _ = updates.muon(g, g, updates.zeros(g, "momentum"), lr=1.0, polar="svd")
    torch.testing.assert_close(z, polar.svd(g.flatten(1)).reshape(g.shape))
    g = random(3, 4, 4)
    z, _ = updates.muon(
        g, g, updates.zeros(g, "momentum"), lr=1.0, polar="svd", layout=recipes.whole(g, "experts.w")
    )
    torch.testing.assert_close(z, polar.svd(g))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_parameters_have_float32_buffers(dtype: torch.dtype) -> None:
    w, g = random(4, 6).to(dtype), random(4, 6, seed=1).to(dtype)
    z, buffers = updates.muon(w, g, updates.zeros(w, "momentum"), lr=0.1, weight_decay=0.1)
    assert z.dtype == buffers["momentum"].dtype == torch.float32
    z, buffers = updates.adam(w, g, updates.zeros(w, "exp_avg", "exp_avg_sq"), step=1, lr=0.1)
    assert z.dtype == buffers["exp_avg_sq"].dtype == torch.float32


def test_second_moment_of_a_sixteen_bit_parameter_does_not_stall() -> None:
    """0.999 V + 0.001 G^2 rounds back to V in bfloat16; in float32 it reaches G^2."""
    w = torch.zeros(1, dtype=torch.bfloat16)
    buffers = updates.zeros(w, "exp_avg", "exp_avg_sq")
    for t in range(1, 4001):
        _, buffers = updates.adam(w, torch.ones_like(w), buffers, step=t, lr=0.1)
    assert buffers["exp_avg_sq"].item() == pytest.approx(1 - 0.999**4000, rel=1e-3)


def test_derivative_of_adam_where_no_gradient_was_ever_seen() -> None:
    def z(g: Tensor) -> Tensor:
        return updates.adam(torch.zeros(2).double(), g, updates.zeros(g, "exp_avg", "exp_avg_sq"), step=1, lr=0.1,
                            eps=1e-3, smooth=True)[0]  # fmt: skip

    slope = torch.func.jacrev(z)(torch.tensor([0.0, 1.0], dtype=torch.float64)).diagonal()
    # g / (|g| + eps): slope lr / eps at 0 (root frozen at its kink), lr eps / (1 + eps)^2 at 1.
    torch.testing.assert_close(slope, torch.tensor([0.1 / 1e-3, 0.1 * 1e-3 / 1.001**2], dtype=torch.float64))


def test_bad_input() -> None:
    w = torch.ones(3)
    with pytest.raises(ValueError, match=r"shape \(3,\).*AdamW"):
        updates.muon(w, w, updates.zeros(w, "momentum"), lr=0.1)
    with pytest.raises(ValueError, match="'match_rms'.*did you mean 'match_rms_adamw'"):
        updates.scale_factor("match_rms", 2, 2)
    for bad in ({"lr": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}, {"betas": (0.9,)}, {"adam_betas": (-0.1, 0.5)},
                {"weight_decay": float("nan")}, {"lr": torch.ones(2)}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(bad))):
            updates.check_hyperparameters(**bad)
