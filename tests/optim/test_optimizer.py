import copy
import io
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unrolled import optim, rollout
from unrolled.optim import optimizer as module
from unrolled.optim import polar
from unrolled.training import fit, gpt, schedules


def small_gpt(dtype: torch.dtype = torch.float64) -> gpt.GPT:
    return gpt.GPT(gpt.GPTConfig(layers=2, heads=2, width=8, context=8, vocab=11)).to(dtype)


def tokens(seed: int) -> tuple[Tensor, Tensor]:
    block = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(seed))
    return block[:, :-1], block[:, 1:]


def backward(model: nn.Module, seed: int) -> Tensor:
    model.zero_grad()
    total, count = gpt.loss(model, tokens(seed))
    mean = total / count
    mean.backward()
    return mean


def train(model: nn.Module, optimizers: Any, steps: range) -> None:
    for i in steps:
        backward(model, i)
        for one in optimizers:
            one.step()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def split(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    return hidden, [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch_muon_and_adamw_step_for_step(
    adjust: str, nesterov: bool, weight_decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One matrix at a time, as torch does: a batched product may sum in another order, and bfloat16 shows it.
    monkeypatch.setattr(module, "_CHUNK", 0)
    ours, theirs = small_gpt(), small_gpt()
    shared = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": weight_decay}
    one = optim.Muon(ours, scale=adjust, polar_dtype=torch.bfloat16, adam_lr=1e-3, adam_betas=(0.8, 0.95), adam_eps=1e-10,
                     adam_weight_decay=0.3, **shared)  # fmt: skip
    hidden, rest = split(theirs)
    two = [torch.optim.Muon(hidden, adjust_lr_fn=adjust, **shared),
           torch.optim.AdamW(rest, lr=1e-3, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.3)]  # fmt: skip
    for i in range(25):
        train(ours, [one], range(i, i + 1))
        train(theirs, two, range(i, i + 1))
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_batches_of_matrices_differ_from_torch_by_roundings_of_bfloat16(adjust: str) -> None:
    ours, theirs = small_gpt(), small_gpt()
    train(ours, [optim.Muon(ours, scale=adjust, polar_dtype=torch.bfloat16, adam_lr=0.0)], range(1))
    train(theirs, [torch.optim.Muon(split(theirs)[0], 0.02, adjust_lr_fn=adjust, weight_decay=0.0)], range(1))
    start = small_gpt()
    for (name, p), q, w in zip(ours.named_parameters(), theirs.parameters(), start.parameters()):
        z, expected = w - p, w - q
        assert (z - expected).norm() <= 1e-2 * expected.norm(), name


def test_float32_stays_within_rounding_of_torch_on_given_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rounding of W per step apart (torch fuses W - lr O); buffers are equal bit for bit."""
    monkeypatch.setattr(module, "_CHUNK", 0)
    ours, theirs, steps = small_gpt(torch.float32), small_gpt(torch.float32), 30
    hidden, _ = split(theirs)
    one = optim.Muon(ours, lr=0.02, polar_dtype=torch.bfloat16)
    two = torch.optim.Muon(hidden, lr=0.02, weight_decay=0.0)
    for i in range(steps):
        backward(theirs, i)
        for p, q in zip(ours.parameters(), theirs.parameters()):
            p.grad = q.grad.clone()
        one.step()
        two.step()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
            if one.assignment()[name] == "muon":
                assert torch.equal(one.state[p]["momentum"], two.state[q]["momentum_buffer"])
                assert (p - q).abs().max() <= (i + 1) * torch.finfo(torch.float32).eps * (1 + q.abs().max())


@pytest.mark.parametrize("recipe", ["VO", "QK", "FFN", "VO+FFN", "all"])
def test_equals_the_system(recipe: str) -> None:
    model = small_gpt()
    options: dict[str, Any] = {"lr": 0.03, "recipe": recipe, "adam_lr": 0.01, "weight_decay": 0.1, "head_size": 4,
                               "adam_weight_decay": 0.05, "scale": "spectral", "polar": "polar_express"}  # fmt: skip
    system = optim.muon(gpt.loss, params=model, **options)
    path = rollout(system, [tokens(i) for i in range(6)], steps=6, record={})
    train(model, [optim.Muon(model, **options)], range(6))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), path.final["params"][name], rtol=1e-10, atol=1e-11)


def test_gradients_are_left_as_they_were() -> None:
    model = small_gpt()
    optimizer = optim.Muon(model, weight_decay=0.1, adam_weight_decay=0.1)
    for i in range(3):
        backward(model, i)
        before = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_equal_to_uninterrupted_also_through_a_file(dtype: torch.dtype) -> None:
    whole, first = small_gpt(dtype), small_gpt(dtype)
    train(whole, [optim.Muon(whole, lr=0.05)], range(8))
    optimizer = optim.Muon(first, lr=0.05)
    train(first, [optimizer], range(4))
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = small_gpt(dtype)
    second.load_state_dict(saved["model"])
    resumed = optim.Muon(second, lr=9.0)
    resumed.load_state_dict(saved["optimizer"])
    assert {str(v.dtype) for s in resumed.state.values() for k, v in s.items() if k != "step"} == {
        "torch.float32"
    }
    train(second, [resumed], range(4, 8))
    assert torch.equal(weights(second), weights(whole))


def test_loading_a_state_of_another_recipe_or_other_parameters_is_refused() -> None:
    model = small_gpt()
    saved = optim.Muon(model, recipe="VO").state_dict()
    with pytest.raises(ValueError, match="differ in"):
        optim.Muon(model, recipe="QK").load_state_dict(saved)
    with pytest.raises(ValueError, match="differ in"):
        optim.Muon(model, recipe="VO", head_size=4).load_state_dict(saved)
    optim.Muon(model, recipe="VO").load_state_dict(saved)


def test_state_without_names_loads_by_position() -> None:
    def made() -> tuple[optim.Muon, Tensor]:
        w = nn.Parameter(torch.ones(2, 3))
        return optim.Muon([{"params": [w], "muon": True}]), w

    (a, w), (b, v) = made(), made()
    w.grad = torch.ones(2, 3)
    a.step()
    b.load_state_dict(a.state_dict())
    assert torch.equal(b.state[v]["momentum"], a.state[w]["momentum"])


def test_deepcopy_and_pickle() -> None:
    model = small_gpt()
    optimizer = optim.Muon(model, lr=0.05)
    train(model, [optimizer], range(2))
    pair = copy.deepcopy((model, optimizer))
    again = pickle.loads(pickle.dumps((model, optimizer)))
    for other in (pair, again):
        train(other[0], [other[1]], range(2, 4))
    train(model, [optimizer], range(2, 4))
    assert torch.equal(weights(model), weights(pair[0]))
    assert torch.equal(weights(model), weights(again[0]))
    again[1].add_param_group({"params": [("late.weight", nn.Parameter(torch.ones(2, 2)))]})
    assert again[1].assignment()["late.weight"] == "muon"


def test_schedulers_scale_every_group() -> None:
    model = small_gpt()
    optimizer = optim.Muon(model, lr=0.1, adam_lr=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.0025])
    cycle = torch.optim.lr_scheduler.OneCycleLR(optim.Muon(model), max_lr=[0.1, 0.01], total_steps=10)
    cycle.optimizer.step()
    cycle.step()


def test_closure() -> None:
    model = small_gpt()
    optimizer = optim.Muon(model)
    loss = optimizer.step(lambda: backward(model, 0))
    assert loss.requires_grad
    assert loss.item() == pytest.approx(2.4, abs=0.3)
    assert optimizer.step() is None


def test_grad_scaler_skips_a_step_with_an_overflow_and_takes_the_next() -> None:
    model = small_gpt(torch.float32)
    twin = copy.deepcopy(model)
    optimizer, plain = optim.Muon(model, lr=0.05), optim.Muon(twin, lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = weights(model)
    for factor in (torch.inf, 1.0):
        model.zero_grad()
        total, count = gpt.loss(model, tokens(0))
        scaler.scale(factor * total / count).backward()
        scaler.step(optimizer)
        scaler.update()
        if factor == torch.inf:
            assert torch.equal(weights(model), before)
    train(twin, [plain], range(1))
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-4, atol=1e-5)


def test_clipping_and_hooks_of_torch_work() -> None:
    model = small_gpt()
    optimizer = optim.Muon(model)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    backward(model, 0)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    assert calls == ["pre", "post"]
    assert all(p.grad is None for p in model.parameters())


def test_parameters_without_a_gradient_stay_and_get_no_state() -> None:
    model = small_gpt()
    frozen = model.blocks[0].attn.q.weight.requires_grad_(False)
    optimizer = optim.Muon(model, weight_decay=0.5)
    before = frozen.clone()
    train(model, [optimizer], range(2))
    assert torch.equal(frozen, before)
    assert frozen not in optimizer.state


def test_zero_gradients_move_nothing_without_weight_decay() -> None:
    model = small_gpt()
    before = weights(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for name in polar.METHODS:
        optim.Muon(model, polar=name).step()
    assert torch.equal(weights(model), before)


def test_groups_with_options_of_their_own() -> None:
    model = small_gpt()
    first, second = (
        [(n, p) for n, p in model.named_parameters() if (".0." in n) == here] for here in (True, False)
    )
    groups = [
        {"params": first, "lr": 0.5, "adam_lr": 0.25, "polar": "svd"},
        {"params": second, "recipe": "VO"},
    ]
    optimizer = optim.Muon(groups, lr=0.1, adam_lr=0.05)
    found = {(g["kind"], g["lr"], g["polar"], len(g["params"])) for g in optimizer.param_groups}
    assert found == {("muon", 0.5, "svd", 6), ("adamw", 0.25, "svd", 2), ("muon", 0.1, "ns5", 2),
                     ("adamw", 0.05, "ns5", 8)}  # fmt: skip
    train(model, [optimizer], range(2))


def test_one_group_may_hold_no_matrix_as_long_as_another_does() -> None:
    w, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = optim.Muon([{"params": [("w", w)]}, {"params": [("b", b)], "adam_weight_decay": 0.1}])
    assert optimizer.assignment() == {"w": "muon", "b": "adamw"}


def test_groups_that_say_themselves_need_no_names() -> None:
    w, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = optim.Muon([{"params": [w], "muon": True}, {"params": [b], "muon": False}])
    assert optimizer.assignment() == {"0": "muon", "1": "adamw"}
    embedding = nn.Parameter(torch.ones(3, 2))
    assert optim.Muon([{"params": [("embed", embedding)], "muon": True}]).assignment() == {"embed": "muon"}


def test_named_parameters_and_model_deal_alike_except_for_oddly_named_embeddings() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "mix": nn.Linear(4, 4)})
    assert optim.Muon(model).assignment()["table.weight"] == "adamw"
    assert optim.Muon(model.named_parameters()).assignment()["table.weight"] == "muon"
    ours = small_gpt()
    assert optim.Muon(ours).assignment() == optim.Muon(ours.named_parameters()).assignment()


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](x).chunk(3, dim=-1)
        return self.attn["proj"](torch.softmax(q @ k.mT, -1) @ v)


def test_fused_projection_shared_between_muon_and_adamw() -> None:
    torch.manual_seed(0)
    model = Fused().double()
    optimizer = optim.Muon(model, recipe="VO", lr=0.1, adam_lr=0.01, polar="svd", adam_weight_decay=0.5)
    kinds = optimizer.assignment()
    assert kinds["attn.qkv.weight"] == "mixed"
    assert kinds["attn.qkv.bias"] == "adamw"
    w = model.attn["qkv"].weight
    model(torch.randn(6, 4).double()).square().sum().backward()
    before, g = w.detach().clone(), w.grad.clone()
    twin = nn.Parameter(before.clone())
    twin.grad = g.clone()
    torch.optim.AdamW([twin], lr=0.01, betas=(0.9, 0.95), weight_decay=0.5).step()
    optimizer.step()
    torch.testing.assert_close(w[:8], twin[:8])
    torch.testing.assert_close(w[8:], before[8:] - 0.1 * polar.svd(g[8:]))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    mixed = next(group for group in optimizer.param_groups if group["kind"] == "mixed")
    assert mixed["lr"] * mixed["adam_lr_ratio"] == pytest.approx(0.005)
    saved = optimizer.state_dict()
    optim.Muon(model, recipe="VO", lr=0.1).load_state_dict(saved)


def test_convolutions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 1)).double()
    conv = model[0]
    optimizer = optim.Muon(model, polar="svd", lr=0.1)
    conv(torch.randn(2, 3, 5, 5).double()).square().sum().backward()
    before = conv.weight.detach().clone()
    optimizer.step()
    z = (before - conv.weight).flatten(1)
    torch.testing.assert_close(torch.linalg.svdvals(z), torch.full((4,), 0.1, dtype=torch.float64))


def test_sixteen_bit_parameters_train() -> None:
    model = small_gpt(torch.bfloat16)
    optimizer = optim.Muon(model, lr=0.05, adam_lr=0.02)
    losses = []
    for _ in range(20):
        losses.append(backward(model, 0).item())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = small_gpt(), small_gpt()
    train(a, [optim.Muon(a)], range(3))
    monkeypatch.setattr(module, "_CHUNK", 100)
    train(b, [optim.Muon(b)], range(3))
    torch.testing.assert_close(weights(a), weights(b), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", list(polar.METHODS))
def test_learns_better_than_it_started(name: str) -> None:
    model = small_gpt()
    optimizer = optim.Muon(model, lr=0.05, adam_lr=0.02, polar=name)
    first = backward(model, 0).item()
    train(model, [optimizer], range(1))
    for _ in range(20):
        last = backward(model, 0).item()
        optimizer.step()
    assert last < 0.5 * first


def test_bad_input() -> None:
    model, w = small_gpt(), nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"have none: pass the model, model.named_parameters\(\)"):
        optim.Muon(model.parameters())
    with pytest.raises(ValueError, match=r"a parameter of shape \(3,\): give vectors and scalars to AdamW"):
        optim.Muon([{"params": [nn.Parameter(torch.ones(3))], "muon": True}])
    with pytest.raises(ValueError, match=r"'norm.weight' of shape \(8,\)"):
        optim.Muon(model, recipe=re.compile("^norm"))
    with pytest.raises(
        ValueError, match=r"gives no matrix to Muon among 3 parameters, such as 0.weight \(other\)"
    ):
        optim.Muon(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), recipe="VO")
    with pytest.raises(ValueError, match="unknown recipe 'vo'.*did you mean"):
        optim.Muon(model, recipe="vo")
    with pytest.raises(ValueError, match="unknown polar 'ns-5'.*did you mean 'ns5'"):
        optim.Muon(model, polar="ns-5")
    with pytest.raises(ValueError, match="unknown scale rule"):
        optim.Muon(model, scale="moonshot")
    with pytest.raises(ValueError, match="lr is a number of at least 0"):
        optim.Muon(model, lr=-0.1)
    with pytest.raises(ValueError, match=r"adam_betas\[1\] lies in"):
        optim.Muon(model, adam_betas=(0.9, 1.5))
    with pytest.raises(ValueError, match="got one tensor"):
        optim.Muon(w)
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.Muon([])
    with pytest.raises(ValueError, match="unknown options of a parameter group: beta; there are"):
        optim.Muon([{"params": [("w", w)], "beta": 0.5}])
    with pytest.raises(TypeError, match="complex64"):
        optim.Muon([("w", nn.Parameter(torch.ones(2, 2, dtype=torch.complex64)))])
    with pytest.raises(ValueError, match="fixed multiple of lr"):
        optim.Muon(Fused(), recipe="VO", lr=0.0)
    sparse = nn.ModuleDict({"embed": nn.Embedding(3, 2, sparse=True), "mix": nn.Linear(2, 2)})
    optimizer = optim.Muon(sparse)
    sparse["mix"](sparse["embed"](torch.tensor([0]))).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()


def test_fit_resumes_it_bit_for_bit(tmp_path: Any) -> None:
    def run(steps: int, folder: str) -> Tensor:
        model = small_gpt(torch.float32)
        optimizer = optim.Muon(model, lr=0.02, polar_dtype=torch.bfloat16, recipe="VO+FFN")
        schedule = schedules.linear(8, warmup=2)
        fit(model, tokens, gpt.loss, optimizer, steps=steps, schedule=schedule, checkpoint=tmp_path / folder)
        return weights(model)

    run(4, "b")
    assert torch.equal(run(8, "a"), run(8, "b"))
