"""decompose: closed forms, dense Hessians, micro-batches, ties, dropout, bad input."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unrolled as un
from unrolled.instruments.curvature import decompose

EXACT = ("double_backward", "forward_over_reverse", "jet")


class Scalar(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w], dtype=torch.float64))


class Quadratic(nn.Module):
    """L = 1/2 w^T A w - b^T w over two parameters that make up w."""

    def __init__(self, n=6, seed=0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        a = torch.randn(n, n, generator=rng, dtype=torch.float64)
        self.register_buffer("a", a + a.T)
        self.register_buffer("b", torch.randn(n, generator=rng, dtype=torch.float64))
        self.first = nn.Parameter(torch.randn(2, generator=rng, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(n - 2, generator=rng, dtype=torch.float64))

    def flat(self):
        return torch.cat([self.first, self.second])

    def loss(self):
        w = self.flat()
        return 0.5 * w @ self.a @ w - self.b @ w


def quadratic_loss(model):
    return model.loss()


def flat_of(names, update):
    return torch.cat([update[name].reshape(-1) for name in names])


def test_public_names():
    assert un.curvature.decompose is decompose
    assert un.curvature.StepReading is un.instruments.curvature.StepReading


@pytest.mark.parametrize("method", EXACT)
def test_quadratic_is_exact(method):
    model = Quadratic()
    z = {"first": torch.tensor([0.3, -0.2]).double(), "second": torch.tensor([0.1, 0.5, -0.4, 0.2]).double()}
    r = decompose(model, quadratic_loss, z, method=method)
    flat = torch.cat(list(z.values()))
    w = model.flat().detach()
    g = model.a @ w - model.b
    assert r.gain == pytest.approx(float(g @ flat), abs=1e-12)
    assert r.penalty == pytest.approx(0.5 * float(flat @ model.a @ flat), abs=1e-12)
    assert r.nds == pytest.approx(float(flat @ model.a @ flat / (flat @ flat)), abs=1e-12)
    assert r.norm == pytest.approx(float(flat.norm()), abs=1e-12)
    assert abs(r.remainder) < 1e-12
    assert r.predicted == r.gain - r.penalty
    assert r.loss == pytest.approx(model.loss().item(), abs=1e-12)
    assert r.actual == pytest.approx(r.loss - r.loss_after, abs=1e-12)
    assert r.method == method
    assert not r.flagged
    assert r.status == "ok"


@pytest.mark.parametrize("method", EXACT)
def test_quartic_remainder_is_third_derivative_over_six(method):
    """Delta = f' z - f'' z^2/2 + f''' z^3/6 - ..., so remainder / z^3 -> f'''/6."""
    w, f3 = 0.7, 6.0 + 24.0 * 0.7  # L = w^3 + w^4
    errors = []
    for z in (1e-1, 1e-2, 1e-3):
        model = Scalar(w)
        r = decompose(
            model, lambda m: (m.w**3 + m.w**4).sum(), {"w": torch.tensor([z]).double()}, method=method
        )
        errors.append(abs(r.remainder / z**3 - f3 / 6))
    assert errors[1] < 0.011
    assert errors[2] < 1.1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.05)  # f'''' z / 24


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("kind", ["mlp", "gpt"])
def test_against_dense_hessian(method, kind, gpt, loss_fn, tokens, random_update, dense):
    if kind == "gpt":
        model, batches, loss = gpt(), [tokens(3), tokens(1, seed=5)], loss_fn
    else:
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3)
        ).double()
        batches = [(torch.randn(n, 5).double(), torch.randint(3, (n,))) for n in (4, 3)]

        def loss(model, batch):
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])

    names, g, h = dense(model, loss, batches)
    z = random_update(model)
    flat = flat_of(names, z)
    r = decompose(model, loss, z, batches=batches, method=method)
    assert r.gain == pytest.approx(float(g @ flat), abs=1e-9)
    assert 2 * r.penalty == pytest.approx(float(flat @ h @ flat), abs=1e-9)
    assert r.count == sum(b[1].numel() for b in batches)
    if method != "jet":
        hz = h @ flat
        sizes = [z[name].numel() for name in names]
        rows = [float(a @ b) for a, b in zip(flat.split(sizes), hz.split(sizes))]
        per = decompose(model, loss, z, batches=batches, method=method, groups=lambda name: name)
        assert per.groups == tuple(names)
        assert per.rows.tolist() == pytest.approx(rows, abs=1e-9)
        assert per.gains.sum().item() == pytest.approx(per.gain, abs=1e-12)
        assert per.rows.sum().item() == pytest.approx(2 * per.penalty, abs=1e-12)


def test_micro_batches_are_weighted_by_their_counts(gpt, loss_fn, tokens, random_update):
    """One batch of 5 rows, or 2 + 2 + 1: the same; the mean of the three means is something else."""
    model, z = gpt(), random_update(gpt())
    x, y = tokens(5)
    y = y.clone()
    y[4, 1:] = -100  # the last micro-batch has one token that counts
    whole = decompose(model, loss_fn, z, batches=[(x, y)], method="double_backward", split="exact")
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 2), (2, 4), (4, 5))]
    r = decompose(model, loss_fn, z, batches=parts, method="double_backward", split="exact")
    for name in ("gain", "penalty", "actual", "nds", "within", "cross", "loss", "count"):
        assert getattr(r, name) == pytest.approx(getattr(whole, name), abs=1e-12), name
    assert torch.allclose(r.coupling, whole.coupling, atol=1e-12, rtol=0)
    wrong = sum(decompose(model, loss_fn, z, batches=[p], method="double_backward").gain for p in parts) / 3
    assert abs(wrong - whole.gain) > 1e-3


def test_scalar_mean_losses_count_one(tokens, gpt, loss_fn, random_update):
    model, batch = gpt(), tokens()
    z = random_update(model)
    summed = decompose(model, loss_fn, z, batches=[batch])

    def mean(model):
        total, count = loss_fn(model, batch)
        return total / count

    r = decompose(model, mean, z)
    assert r.gain == pytest.approx(summed.gain, abs=1e-13)
    assert r.count == 1.0


def test_tied_weight_counts_once(gpt, loss_fn, tokens, random_update, dense):
    model, batch = gpt(), tokens()
    assert model.head.weight is model.embed.weight
    names, _, h = dense(model, loss_fn, [batch])
    z = random_update(model)
    assert "head.weight" not in z
    flat = flat_of(names, z)
    r = decompose(model, loss_fn, z, batches=[batch])
    assert r.norm == pytest.approx(float(flat.norm()), abs=1e-12)
    assert 2 * r.penalty == pytest.approx(float(flat @ h @ flat), abs=1e-9)
    renamed = {("head.weight" if name == "embed.weight" else name): v for name, v in z.items()}
    again = decompose(model, loss_fn, renamed, batches=[batch])
    assert again.gain == r.gain
    assert again.norm == r.norm
    with pytest.raises(ValueError, match=r"tied weight twice.*embed.weight.*head.weight"):
        decompose(model, loss_fn, {**z, "head.weight": z["embed.weight"]}, batches=[batch])


def test_frozen_parameters_are_left_out(gpt, loss_fn, tokens, random_update):
    model, batch = gpt(), tokens()
    z = random_update(model)
    model.blocks[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"moves 'blocks.0.*frozen.*leave it out"):
        decompose(model, loss_fn, z, batches=[batch])
    z = {name: torch.zeros_like(v) if name.startswith("blocks.0") else v for name, v in z.items()}
    r = decompose(model, loss_fn, z, batches=[batch], split="exact")
    assert r.groups == ("embed", "blocks.1", "other")
    assert abs(r.remainder) < 0.05 * abs(r.actual)


def test_unused_parameter_is_zero_and_said(gpt, loss_fn, tokens, random_update):
    model, batch = gpt(), tokens()
    plain = decompose(model, loss_fn, random_update(model), batches=[batch], method="double_backward")
    z = random_update(model)
    model.spare = nn.Parameter(torch.ones(3).double())
    z["spare"] = torch.ones(3).double()
    for method in ("double_backward", "forward_over_reverse", "finite_difference"):
        r = decompose(model, loss_fn, z, batches=[batch], method=method)
        assert r.gain == pytest.approx(plain.gain, abs=1e-12)
        assert r.norm == pytest.approx(math.sqrt(plain.norm**2 + 3), abs=1e-12)
        assert any("does not depend on spare" in note for note in r.notes)
    assert decompose(model, loss_fn, z, batches=[batch], method="jet").gain == pytest.approx(
        plain.gain, abs=1e-12
    )


@pytest.mark.parametrize("method", [*EXACT, "finite_difference", "one_sided"])
def test_dropout_masks_agree_and_random_state_is_kept(method, gpt, loss_fn, tokens, random_update):
    """With independent masks at W and W - Z, a tiny step changes the loss by noise, not by its gain."""
    model = gpt(dropout=0.3)
    batches = [tokens(2), tokens(2, seed=4)]
    z = random_update(model, scale=1e-6)
    state = torch.get_rng_state()
    r = decompose(model, loss_fn, z, batches=batches, method=method)
    assert torch.equal(state, torch.get_rng_state())
    assert r.actual == pytest.approx(r.gain, rel=1e-3)
    assert abs(r.remainder) < 1e-3 * abs(r.penalty) + 1e-12
    # the masks are those that a forward pass from here would draw, batch after batch
    total = sum(loss_fn(model, batch)[0].item() for batch in batches)
    assert r.loss * r.count == pytest.approx(total, abs=1e-10)


def test_batch_norm_buffers_stay(random_update):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = torch.randn(8, 4).double()
    kept = copy.deepcopy(model.state_dict())

    def loss(model, x):
        return model(x).square().sum(), len(x)

    for method in ("double_backward", "finite_difference"):
        r = decompose(model, loss, random_update(model, 1e-4), batches=[x, x[:5]], method=method)
        assert abs(r.remainder) < 1e-3 * abs(r.actual)
        for name, value in model.state_dict().items():
            assert torch.equal(value, kept[name]), name


def test_power_iteration_buffers_start_every_evaluation_alike(random_update):
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 1)).double()
    x = torch.randn(6, 4).double()
    before = copy.deepcopy(model.state_dict())
    loss = lambda m, x: (m(x).square().sum(), len(x))  # noqa: E731
    r = decompose(model, loss, random_update(model, 1e-6), batches=[x, x], method="double_backward")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    once = decompose(model, loss, random_update(model, 1e-6), batches=[x], method="double_backward")
    assert r.loss == once.loss  # the second batch does not see the vectors the first one left
    for _ in range(300):  # once they have converged they no longer depend on W to first order
        model(x)
    kept = copy.deepcopy(model.state_dict())
    r = decompose(model, loss, random_update(model, 1e-6), batches=[x], method="double_backward")
    assert r.actual == pytest.approx(r.gain, rel=1e-4)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_scope_moves_only_what_is_in_it(gpt, loss_fn, tokens, random_update, dense):
    model, batch = gpt(), tokens()
    names, _, h = dense(model, loss_fn, [batch])
    z = random_update(model)
    matrices = {n: v for n, v in z.items() if v.ndim == 2 and n.startswith("blocks")}
    r = decompose(model, loss_fn, z, batches=[batch], scope="matrix")
    same = decompose(model, loss_fn, matrices, batches=[batch])
    assert len(matrices) == 8
    for name in ("gain", "penalty", "actual", "nds"):
        assert getattr(r, name) == getattr(same, name)
    flat = flat_of(names, {n: v if n in matrices else torch.zeros_like(v) for n, v in z.items()})
    assert 2 * r.penalty == pytest.approx(float(flat @ h @ flat), abs=1e-9)
    assert r.scope == "matrix"
    picked = decompose(model, loss_fn, z, batches=[batch], scope=lambda name, p: p.ndim == 1)
    assert picked.norm == pytest.approx(torch.cat([v for v in z.values() if v.ndim == 1]).norm().item())


def test_zero_update_is_nan_with_a_reason(gpt, loss_fn, tokens):
    model, batch = gpt(), tokens()
    zero = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    r = decompose(model, loss_fn, zero, batches=[batch], split="exact")
    assert r.gain == r.penalty == r.actual == r.remainder == r.norm == 0.0
    assert all(math.isnan(x) for x in (r.nds, r.within, r.cross, r.rho_within))
    assert r.status == "undefined"
    assert "update is zero" in r.reason
    assert not r.flagged


def test_negative_curvature_stays_negative():
    r = decompose(Scalar(0.0), lambda m: m.w.cos().sum(), {"w": torch.tensor([0.1]).double()})
    assert r.nds == pytest.approx(-1.0, abs=1e-12)
    assert r.penalty < 0


def test_large_step_is_flagged():
    r = decompose(
        Scalar(1.0), lambda m: (m.w**4).sum(), {"w": torch.tensor([2.0]).double()}
    )  # w -> -1: no change
    assert r.actual == pytest.approx(0.0, abs=1e-12)
    assert r.flagged
    modest = decompose(Scalar(1.0), lambda m: (m.w**4).sum(), {"w": torch.tensor([0.01]).double()})
    assert not modest.flagged


def test_step_into_overflow_has_a_reason():
    r = decompose(Scalar(1.0), lambda m: m.w.exp().sum(), {"w": torch.tensor([-1e4]).double()})
    assert r.flagged
    assert r.status == "not finite"
    assert "L(W-Z)" in r.reason
    assert r.actual == -math.inf


def test_reads_inside_compile_wrapper(gpt, loss_fn, tokens, random_update):
    model, batch = gpt(), tokens()
    z = random_update(model)
    plain = decompose(model, loss_fn, z, batches=[batch], method="double_backward")
    compiled = torch.compile(model, backend="aot_eager")
    compiled(batch[0])
    r = decompose(compiled, loss_fn, z, batches=[batch], method="double_backward")
    assert r.gain == plain.gain
    # a loss that goes through the compiled handle, and a module compiled in place, run eagerly too
    around = decompose(model, lambda _, b: loss_fn(compiled, b), z, batches=[batch], method="double_backward")
    assert around.penalty == plain.penalty
    model.blocks[0].compile(backend="aot_eager")
    inside = decompose(model, loss_fn, z, batches=[batch], method="double_backward")
    assert inside.penalty == pytest.approx(plain.penalty, abs=1e-13)


def test_works_under_no_grad_and_with_a_live_graph(gpt, loss_fn, tokens, random_update):
    model, batch = gpt(), tokens()
    z = random_update(model)
    total, _ = loss_fn(model, batch)
    with torch.no_grad():
        r = decompose(model, loss_fn, z, batches=[batch], method="double_backward")
    assert r.gain == decompose(model, loss_fn, z, batches=[batch], method="double_backward").gain
    total.backward()  # the user's own graph is still good
    assert model.norm.weight.grad is not None


def test_bfloat16_update_that_cannot_be_held_is_said():
    model = nn.Linear(4, 1, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    x = torch.ones(3, 4).bfloat16()
    z = {"weight": torch.full((1, 4), 1e-3)}
    r = decompose(model, lambda m: m(x).float().square().sum(), z, method="double_backward")
    assert any("bfloat16 parameters cannot hold" in note for note in r.notes)
    assert r.actual == 0.0
    exact = {"weight": torch.full((1, 4), 2.0**-7)}
    fine = decompose(model, lambda m: m(x).float().square().sum(), exact, method="double_backward")
    assert not fine.notes


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"update": {}}, ValueError, "update is empty"),
        ({"update": [1]}, TypeError, "mapping from parameter name"),
        ({"update": {"norm.wieght": torch.zeros(4)}}, KeyError, "did you mean 'norm.weight'"),
        ({"update": {"norm.weight": torch.zeros(5)}}, ValueError, r"shape \(5,\).*\(4,\)"),
        ({"update": {"norm.weight": 3.0}}, TypeError, "float"),
        ({"update": {"norm.weight": torch.full((4,), math.nan)}}, ValueError, "not finite"),
        ({"batches": []}, ValueError, "batches is empty"),
        ({"method": "exact"}, ValueError, "'double_backward'"),
        ({"split": "half"}, ValueError, "'signs'"),
        ({"split": "signs", "draws": 0}, ValueError, "draws=0"),
        ({"scope": "nothing_like_this"}, ValueError, "takes in none"),
        ({"scope": "("}, ValueError, "not a regular expression"),
        ({"groups": {"a": "blocks", "b": "norm"}}, ValueError, "groups overlap: 'blocks.0.norm.weight'"),
        ({"groups": {"a": "bloks"}}, ValueError, "matches none"),
        ({"method": "finite_difference", "eps": -1.0}, ValueError, "eps"),
        ({"loss_fn": lambda m, b: m(b[0])}, ValueError, r"shape \(3, 5, 7\).*sum it"),
        ({"loss_fn": lambda m, b: 3.0}, TypeError, "returned float"),
        ({"loss_fn": lambda m, b: (m(b[0]).sum(), math.nan)}, ValueError, "count nan"),
        ({"loss_fn": lambda m, b: m(b[0]).sum() * math.nan}, ValueError, "loss at W is nan"),
        ({"loss_fn": lambda m, b: m(b[0]).sum().detach()}, ValueError, "no graph"),
        ({"loss_fn": lambda m, b: m(b[0]).argmax()}, ValueError, "int64"),
    ],
)
def test_bad_input(change, error, match, gpt, loss_fn, tokens, random_update):
    model = gpt()
    good = {
        "loss_fn": loss_fn,
        "update": random_update(model),
        "batches": [tokens()],
        "method": "double_backward",
    }
    with pytest.raises(error, match=match):
        decompose(model, **{**good, **change})


def test_no_terms_counted(gpt, loss_fn, tokens, random_update):
    model = gpt()
    x, y = tokens()
    r = decompose(
        model,
        loss_fn,
        random_update(model),
        batches=[(x, torch.full_like(y, -100))],
        method="double_backward",
    )
    assert r.status == "undefined"
    assert "total count 0" in r.reason
    assert math.isnan(r.gain)


def test_count_that_depends_on_the_weights(gpt, tokens, random_update):
    model, batch = gpt(), tokens()

    def loss(model, batch):
        logits = model(batch[0])
        return logits.square().sum(), float(logits.detach().abs().sum())

    with pytest.raises(ValueError, match="must not depend on the weights"):
        decompose(model, loss, random_update(model), batches=[batch])


def test_refuses_inference_mode_and_non_modules(gpt, loss_fn, tokens, random_update):
    model = gpt()
    with torch.inference_mode(), pytest.raises(RuntimeError, match="inference_mode"):
        decompose(model, loss_fn, random_update(model), batches=[tokens()])
    with pytest.raises(TypeError, match="Module"):
        decompose(lambda x: x, loss_fn, {}, batches=[tokens()])
