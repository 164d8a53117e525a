"""Probe: what it records, that training does not notice it, and what it does when things go wrong."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unrolled.instruments.curvature import Probe, decompose


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **options)


def train(model, optimizer, loss_fn, micro, steps, probe=None, *, clip=None, scale=1.0, forward_inside=True):
    """`steps` updates, with accumulation over micro(step); returns the losses."""
    losses = []
    for step in range(steps):
        batches = micro(step)
        optimizer.zero_grad()

        def forward(batches=batches):
            pairs = [loss_fn(model, batch) for batch in batches]
            return sum(s for s, _ in pairs) / sum(n for _, n in pairs)

        loss = None if forward_inside else forward()
        with probe.step(batches) if probe else torch.enable_grad():
            loss = forward() if loss is None else loss
            (loss * scale).backward()
            for p in model.parameters():
                if p.grad is not None:
                    p.grad /= scale
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        losses.append(loss.detach().clone())
    return losses


OPTIMIZERS = {
    "sgd": sgd,
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.3),
    "adam_l2": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, weight_decay=0.3),
    "muon": lambda m: torch.optim.Muon([p for p in m.parameters() if p.ndim == 2], lr=1e-2, weight_decay=0.1),
    "lbfgs_like": lambda m: SwapsStorage(m.parameters()),
}


class SwapsStorage(torch.optim.Optimizer):
    """Overwrites p.grad and gives every parameter a new storage."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.sign_().mul_(3.0)
                    p.data = p.data - group["lr"] / 3.0 * p.grad


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("forward_inside", [True, False])
def test_record_equals_decompose_of_the_realised_step(name, forward_inside, gpt, loss_fn, tokens):
    """Clipping, decay, momentum, overwritten gradients, swapped storage: Z is what happened, G is raw."""
    model = gpt()
    optimizer = OPTIMIZERS[name](model)
    probe = Probe(model, optimizer, loss_fn, every=2, split="exact", rows=True)
    reference = []

    def micro(step):
        return [tokens(2, seed=step), tokens(1, seed=50 + step)]

    for step in range(5):
        before = copy.deepcopy(model)
        train(
            model,
            optimizer,
            loss_fn,
            lambda _, s=step: micro(s),
            1,
            probe,
            clip=0.3,
            scale=64.0,
            forward_inside=forward_inside,
        )
        named = dict(model.named_parameters())
        z = {n: p.detach() - named[n].detach() for n, p in before.named_parameters()}
        reference.append(decompose(before, loss_fn, z, batches=micro(step), split="exact"))
    assert [r.step for r in probe.records] == [0, 2, 4]
    for r in probe.records:
        expected = reference[r.step]
        for field in ("gain", "penalty", "actual", "nds", "norm", "within", "cross", "loss", "count"):
            assert getattr(r, field) == pytest.approx(getattr(expected, field), rel=1e-9, abs=1e-13), field
        assert torch.allclose(r.coupling, expected.coupling, atol=1e-12, rtol=0)
        assert r.status == "ok"


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.second(F.dropout(self.norm(self.first(x)).tanh(), 0.4, self.training))


def noisy_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


def everything(model, optimizer, losses):
    return {
        "parameters": [p.detach() for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "buffers": list(model.buffers()),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "random": torch.get_rng_state(),
    }


def identical(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(identical(x, y) for x, y in zip(a, b))
    return a == b


@pytest.mark.parametrize("name", ["sgd", "adamw", "lbfgs_like"])
@pytest.mark.parametrize("method", ["jet", "double_backward", "forward_over_reverse", "finite_difference"])
@pytest.mark.parametrize("split", [None, "exact", "signs"])
def test_training_with_and_without_probe_is_bit_identical(name, method, split):
    def run(with_probe):
        torch.manual_seed(0)
        model = Noisy()
        optimizer = OPTIMIZERS[name](model)
        probe = (
            Probe(model, optimizer, noisy_loss, every=2, split=split, method=method) if with_probe else None
        )

        def micro(step):
            return [(torch.randn(5, 6), torch.randint(3, (5,))), (torch.randn(3, 6), torch.randint(3, (3,)))]

        losses = train(model, optimizer, noisy_loss, micro, 6, probe, clip=1.0, scale=8.0)
        return everything(model, optimizer, losses), probe

    plain, _ = run(False)
    probed, probe = run(True)
    assert identical(plain, probed)
    assert [r.step for r in probe.records] == [0, 2, 4]
    assert all(r.status == "ok" for r in probe.records)


@pytest.mark.parametrize("forward_inside", [True, False])
def test_dropout_masks_are_those_of_the_step(forward_inside):
    """loss of the record == loss of training, though random numbers are drawn for data in between."""
    torch.manual_seed(0)
    model = Noisy()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, noisy_loss, every=1)

    def micro(step):
        return [(torch.randn(5, 6), torch.randint(3, (5,))), (torch.randn(4, 6), torch.randint(3, (4,)))]

    losses = train(model, optimizer, noisy_loss, micro, 4, probe, forward_inside=forward_inside)
    assert [r.loss for r in probe.records] == pytest.approx([float(x) for x in losses], rel=1e-6)
    assert not any("dropout" in note for r in probe.records for note in r.notes)


def test_validation_between_steps_does_not_confuse_the_masks():
    torch.manual_seed(0)
    model = Noisy()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, noisy_loss, every=1)
    for _ in range(3):
        batch = (torch.randn(5, 6), torch.randint(3, (5,)))
        with torch.no_grad():
            noisy_loss(model.eval(), batch)
        model.train()
        optimizer.zero_grad()
        total, count = noisy_loss(model, batch)
        with probe.step(batch):
            (total / count).backward()
            optimizer.step()
        assert probe.records[-1].loss == pytest.approx((total / count).item(), rel=1e-6)


def test_two_forward_passes_per_batch():
    """R-drop and the like call the model twice per batch."""
    torch.manual_seed(0)
    model = Noisy()
    optimizer = sgd(model)

    def twice(model, batch):
        return (model(batch[0]) - model(batch[0])).square().sum() + noisy_loss(model, batch)[0], len(batch[1])

    probe = Probe(model, optimizer, twice, every=1)
    batches = [(torch.randn(5, 6), torch.randint(3, (5,))) for _ in range(2)]
    losses = train(model, optimizer, twice, lambda _: batches, 2, probe)
    assert [r.loss for r in probe.records] == pytest.approx([float(x) for x in losses], rel=1e-6)


def test_two_probes_around_one_step():
    """The inner probe's own forward passes are not taken for the step's by the outer one."""
    torch.manual_seed(0)
    model = Noisy()
    optimizer = sgd(model)
    outer = Probe(model, optimizer, noisy_loss, every=1, method="double_backward")
    inner = Probe(model, optimizer, noisy_loss, every=1, method="double_backward", split="signs")
    batches = [(torch.randn(5, 6), torch.randint(3, (5,))) for _ in range(2)]
    with outer.step(batches), inner.step(batches):
        total = sum(noisy_loss(model, batch)[0] for batch in batches)
        (total / 10).backward()
        optimizer.step()
    for probe in (outer, inner):
        assert probe.records[0].loss == pytest.approx(total.item() / 10, rel=1e-6)
        assert not any("dropout" in note for note in probe.records[0].notes)
    assert outer.records[0].penalty == inner.records[0].penalty


def test_forward_calls_that_do_not_match_are_said():
    torch.manual_seed(0)
    model = Noisy()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, noisy_loss, every=1)
    batches = [(torch.randn(5, 6), torch.randint(3, (5,))) for _ in range(2)]
    with probe.step(batches):
        noisy_loss(model, batches[0])[0].backward()
        noisy_loss(model, batches[1])[0].backward()
        model(batches[0][0])
        optimizer.step()
    assert any("called 3 times for 2 batches" in note for note in probe.records[0].notes)


def test_steps_that_are_not_probed_cost_nothing(gpt, loss_fn):
    model = gpt()
    probe = Probe(model, sgd(model), loss_fn, every=10)
    with probe.step(None):
        raised = False
        try:
            with probe.step([]):  # entered on step 0, too
                raise ZeroDivisionError
        except ZeroDivisionError:
            raised = True
        assert raised
        model.zero_grad()
        model.embed.weight.sum().backward()
        probe.loss_fn = lambda m: m.embed.weight.sum()
    assert probe.steps == 1
    assert not model._forward_pre_hooks  # nothing watches the steps in between
    idle = probe.step(None)
    assert idle is probe.step(["anything"])
    for _ in range(8):
        with idle:
            pass
    assert not model._forward_pre_hooks
    with idle:
        pass
    assert len(model._forward_pre_hooks) == 1  # armed for step 10


def test_weight_decay_is_told_apart(gpt, loss_fn, tokens):
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    w = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
    probe = Probe(model, optimizer, loss_fn, every=1, method="double_backward")
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    z = w - torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    (r,) = probe.records
    assert r.z_decay.norm == pytest.approx(float((5e-3 * w).norm()), rel=1e-12)
    assert r.z_opt.norm == pytest.approx(float((z - 5e-3 * w).norm()), rel=1e-12)
    assert r.z_opt.gain + r.z_decay.gain == pytest.approx(r.gain, abs=1e-14)
    assert r.z_opt.penalty + r.z_decay.penalty == pytest.approx(r.penalty, abs=1e-14)
    before = gpt()
    part = {n: 5e-3 * p.detach() for n, p in before.named_parameters()}
    assert r.z_decay.gain == pytest.approx(
        decompose(before, loss_fn, part, batches=[tokens(seed=0)]).gain, abs=1e-14
    )
    # the jet gives the same, but for the share of the penalty
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    probe = Probe(model, optimizer, loss_fn, every=1)
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    jet = probe.records[0]
    assert jet.method == "jet"
    assert jet.z_decay.gain == pytest.approx(r.z_decay.gain, abs=1e-13)
    assert math.isnan(jet.z_decay.penalty)


def test_learning_rate_that_changes_inside_the_block(gpt, loss_fn, tokens):
    """A scheduler stepped inside the block: decay is that of the step's own rate."""
    model = gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=1)
    norm = float(torch.cat([p.detach().reshape(-1) for p in model.parameters()]).norm())
    probe = Probe(model, optimizer, loss_fn, every=1)
    with probe.step(tokens()):
        loss_fn(model, tokens())[0].backward()
        optimizer.step()
        scheduler.step()
    assert probe.records[0].z_decay.norm == pytest.approx(0.5e-2 * 0.5 * norm, rel=1e-9)


def test_several_optimizers(gpt, loss_fn, tokens):
    model = gpt()
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    rest = [p for p in model.parameters() if all(p is not q for q in matrices)]
    both = [
        torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.2),
        torch.optim.SGD(rest, lr=1e-2, weight_decay=0.2),
    ]
    probe = Probe(model, both, loss_fn, every=1)
    norm = math.sqrt(sum(float(p.detach().square().sum()) for p in matrices))
    with probe.step(tokens()):
        loss_fn(model, tokens())[0].backward()
        for optimizer in both:
            optimizer.step()
    assert probe.records[0].z_decay.norm == pytest.approx(
        2e-3 * norm, rel=1e-9
    )  # SGD's decay is in its gradient


def test_skipped_step_is_a_record_with_a_reason(gpt, loss_fn, tokens):
    """What GradScaler does on overflow: optimizer.step() is not called."""
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=1)
    with probe.step(tokens()):
        loss_fn(model, tokens())[0].backward()
    with probe.step(tokens()):
        optimizer.zero_grad()
        optimizer.step()
    skipped, still = probe.records
    assert skipped.norm == 0.0
    assert math.isnan(skipped.nds)
    assert "not called" in skipped.reason
    assert "changed nothing" in still.reason
    assert skipped.gain == 0.0
    assert skipped.loss > 0


def test_real_grad_scaler_skips_and_unscales(gpt, loss_fn, tokens):
    model = gpt().float()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    probe = Probe(model, optimizer, loss_fn, every=1)
    gains = []
    for step in range(3):
        optimizer.zero_grad()
        total, count = loss_fn(model, tokens(seed=step))
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        with probe.step(tokens(seed=step)):
            scaler.scale(total / count).backward()
            if step == 1:
                next(model.parameters()).grad[0] = math.inf
            scaler.step(optimizer)
            scaler.update()
        named = dict(model.named_parameters())
        reference = copy.deepcopy(model)
        reference.load_state_dict(before, strict=False)
        z = {n: before[n] - named[n].detach() for n in before}
        if step != 1:
            gains.append(
                (probe.records[-1].gain, decompose(reference, loss_fn, z, batches=[tokens(seed=step)]).gain)
            )
    assert "not called" in probe.records[1].reason
    for got, expected in gains:
        assert got == pytest.approx(expected, rel=1e-5)


def test_autocast_of_the_step_is_repeated(tokens, gpt):
    """Training runs the model under bfloat16 autocast around the loss; the probe's L(W) must be that loss."""
    model = gpt(width=16, vocab=32).float()
    optimizer = sgd(model)
    x, y = tokens(4, 8, vocab=32)

    def loss_fn(model, batch):
        return F.cross_entropy(
            model(batch[0]).flatten(0, 1).float(), batch[1].flatten(), reduction="sum"
        ), batch[1].numel()

    probe = Probe(model, optimizer, loss_fn, every=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, count = loss_fn(model, (x, y))
    with probe.step((x, y)):
        (total / count).backward()
        optimizer.step()
    exact = loss_fn(gpt(width=16, vocab=32).float(), (x, y))[0] / count
    assert probe.records[0].loss == pytest.approx((total / count).item(), abs=1e-7)
    assert abs((exact - total / count).item()) > 1e-6


def test_bfloat16_parameters_keep_the_realised_difference(tokens, gpt, loss_fn):
    model = gpt(width=16, vocab=32).bfloat16()
    optimizer = sgd(model)
    before = copy.deepcopy(model).float()
    probe = Probe(model, optimizer, loss_fn, every=1, method="double_backward")
    batch = tokens(4, 8, vocab=32)
    train(model, optimizer, loss_fn, lambda _: [batch], 1, probe)
    z = {
        n: p.detach() - dict(model.named_parameters())[n].detach().float()
        for n, p in before.named_parameters()
    }
    norm = math.sqrt(sum(float(v.double().square().sum()) for v in z.values()))
    assert probe.records[0].norm == pytest.approx(norm, rel=1e-12)
    exact = decompose(before, loss_fn, z, batches=[batch])
    assert probe.records[0].gain == pytest.approx(exact.gain, rel=0.05)


def test_exceptions_inside_the_block_propagate_and_leave_nothing(gpt, loss_fn, tokens):
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=1)
    state = copy.deepcopy(model.state_dict())

    def fail():
        with probe.step(tokens()):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert probe.records == []
    assert probe.steps == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)  # the step can be tried again
    assert [r.step for r in probe.records] == [0]


def test_a_first_probe_that_fails_is_an_error_and_later_ones_are_records(gpt, loss_fn, tokens):
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, lambda m: 1 / 0, every=1)
    with pytest.raises(TypeError):
        train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    assert probe.steps == 1  # the step itself was taken
    model, sick = gpt(), []
    optimizer = sgd(model)

    def fragile(model, batch):
        if sick:
            raise RuntimeError("the device hiccuped")
        return loss_fn(model, batch)

    probe = Probe(model, optimizer, fragile, every=1)
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    sick.append(True)
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="failed at step 1 and training goes on.*hiccuped"):
        train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    assert torch.equal(state, torch.get_rng_state())
    sick.clear()
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 1, probe)
    assert [r.status for r in probe.records] == ["ok", "failed", "ok"]
    assert "hiccuped" in probe.records[1].reason
    assert probe.trajectory()["nds"].isnan().tolist() == [False, True, False]


def test_diverging_loss_is_a_record(gpt, tokens):
    model = gpt()
    optimizer = sgd(model)

    def nan_loss(model, batch):
        return model(batch[0]).sum() * math.nan, 1

    probe = Probe(model, optimizer, nan_loss, every=1)
    with probe.step(tokens()):
        optimizer.step()
    assert probe.records[0].status == "not finite"
    assert "L(W) is nan" in probe.records[0].reason
    assert probe.records[0].flagged


@pytest.mark.parametrize("fraction", [0.5, 0.25])
def test_fraction_of_a_batch(fraction, gpt, loss_fn, tokens):
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=1, fraction=fraction)
    batches = [tokens(4, seed=0), tokens(4, seed=1)]
    before = copy.deepcopy(model)
    train(model, optimizer, loss_fn, lambda _: batches, 1, probe)
    r = probe.records[0]
    part = batches[:1] if fraction == 0.5 else [tuple(t[:2] for t in batches[0])]
    total, count = loss_fn(before, part[0])
    assert r.count == count
    assert r.loss == pytest.approx(float(total.detach()) / count, abs=1e-12)
    assert r.status == "ok"


def test_lists_of_tensors_from_a_data_loader(gpt, tokens):
    """Default collation makes [x, y]: one batch, as the model was called once."""

    def loss_fn(model, batch):
        x, y = batch
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum"), y.numel()

    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tokens(6)), batch_size=3)
    for batch in loader:
        total, count = loss_fn(model, batch)
        optimizer.zero_grad()
        with probe.step(batch):
            (total / count).backward()
            optimizer.step()
        assert probe.records[-1].loss == pytest.approx(float(total / count), abs=1e-12)


def test_loss_without_batches_and_batch_set_late(gpt, loss_fn, tokens):
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, lambda m: loss_fn(m, tokens())[0] / 15, every=1)
    with probe.step():
        (loss_fn(model, tokens())[0] / 15).backward()
        optimizer.step()
    late = Probe(model, optimizer, loss_fn, every=1)
    with late.step() as step:
        loss_fn(model, tokens())[0].backward()
        optimizer.step()
        step.batch = [tokens()]
    assert late.records[0].count == 15
    assert probe.records[0].status == "ok"


def test_resume_goes_on_where_it_stopped(gpt, loss_fn, tokens, tmp_path):
    def run(model, optimizer, probe, steps):
        train(model, optimizer, loss_fn, lambda _: [tokens(seed=probe.steps)], steps, probe)

    whole = gpt()
    optimizer = sgd(whole)
    full = Probe(whole, optimizer, loss_fn, every=2, split="signs", draws=2, groups=lambda n: n, rows=True)
    run(whole, optimizer, full, 7)

    model = gpt()
    optimizer = sgd(model)
    first = Probe(model, optimizer, loss_fn, every=2, split="signs", draws=2, groups=lambda n: n, rows=True)
    run(model, optimizer, first, 3)
    torch.save(
        {"probe": first.state_dict(), "model": model.state_dict(), "opt": optimizer.state_dict()},
        tmp_path / "x",
    )
    saved = torch.load(tmp_path / "x", weights_only=True)
    again = gpt(seed=9)
    again.load_state_dict(saved["model"])
    optimizer = sgd(again)
    optimizer.load_state_dict(saved["opt"])
    second = Probe(again, optimizer, loss_fn, every=2, split="signs", draws=2, groups=lambda n: n, rows=True)
    second.load_state_dict(saved["probe"])
    run(again, optimizer, second, 4)
    assert [r.step for r in second.records] == [r.step for r in full.records] == [0, 2, 4, 6]
    for a, b in zip(second.records, full.records):
        assert identical(a.state_dict(), b.state_dict())


def test_compiled_module_is_probed_inside(gpt, loss_fn, tokens):
    model = gpt()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = sgd(model)
    probe = Probe(compiled, optimizer, loss_fn, every=1, method="double_backward")
    losses = train(compiled, optimizer, loss_fn, lambda s: [tokens(seed=s)], 2, probe)
    assert probe.model is model
    assert [r.loss for r in probe.records] == pytest.approx([float(x) for x in losses], abs=1e-10)
    assert all(r.status == "ok" for r in probe.records)


def test_auto_decides_once(gpt, loss_fn, tokens, recwarn):
    """Fused attention: the attempt that fails is made at the first probe only."""
    model = gpt(fused=True)
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=1, split="exact", rows=True)
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 3, probe)
    said = [w for w in recwarn if "math attention" in str(w.message)]
    assert len(said) == 1
    assert [r.method for r in probe.records] == ["double_backward"] * 3
    assert [r.status for r in probe.records] == ["ok"] * 3


def test_sinks(gpt, loss_fn, tokens):
    class Writer:
        def __init__(self):
            self.seen = []

        def add_scalar(self, name, value, step):
            self.seen.append((name, value, step))

    class Run:
        def __init__(self):
            self.seen = []

        def log(self, numbers, step=None):
            self.seen.append((step, numbers))

    rows, calls, writer, run = [], [], Writer(), Run()
    for sink in (rows, lambda step, numbers: calls.append((step, numbers)), writer, run):
        model = gpt()
        optimizer = sgd(model)
        probe = Probe(model, optimizer, loss_fn, every=2, sink=sink)
        train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 3, probe)
    assert [row["step"] for row in rows] == [0, 2]
    assert calls == run.seen
    assert calls[0][1]["curvature/nds"] == probe.records[0].nds
    assert ("curvature/nds", probe.records[1].nds, 2) in writer.seen
    assert "curvature/within" not in calls[0][1]  # NaN: not split
    with pytest.raises(TypeError, match="sink is a list"):
        Probe(model, optimizer, loss_fn, sink=3)


def test_frame_and_trajectory(gpt, loss_fn, tokens):
    pytest.importorskip("pandas")
    model = gpt()
    optimizer = sgd(model)
    probe = Probe(model, optimizer, loss_fn, every=2)
    with pytest.raises(ValueError, match="no step has been probed"):
        probe.trajectory()
    train(model, optimizer, loss_fn, lambda s: [tokens(seed=s)], 5, probe)
    frame = probe.to_frame()
    assert frame["step"].tolist() == [0, 2, 4]
    assert frame["nds"].tolist() == [r.nds for r in probe.records]
    assert frame["method"].tolist() == ["jet"] * 3
    log = probe.trajectory()
    assert log.t.tolist() == [0, 2, 4]
    assert log["gain"].tolist() == [r.gain for r in probe.records]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 2.5}, ValueError, "every=2.5"),
        ({"fraction": 0.0}, ValueError, "fraction=0"),
        ({"fraction": 1.5}, ValueError, "fraction=1.5"),
        ({"split": "layers"}, ValueError, "split='layers'"),
        ({"method": "magic"}, ValueError, "method='magic'"),
        ({"groups": {"a": "blocks", "b": "norm"}}, ValueError, "overlap"),
        ({"scope": "nothing"}, ValueError, "takes in none"),
        ({"optimizer": 3}, TypeError, "torch.optim.Optimizer"),
        ({"loss_fn": 3}, TypeError, "loss_fn"),
        ({"model": 3}, TypeError, "Module"),
    ],
)
def test_bad_choices_fail_at_once(change, error, match, gpt, loss_fn):
    model = gpt()
    good = {"model": model, "optimizer": sgd(model), "loss_fn": loss_fn}
    with pytest.raises(error, match=match):
        Probe(**{**good, **change})


def test_empty_list_of_micro_batches(gpt, loss_fn):
    model = gpt()
    probe = Probe(model, sgd(model), loss_fn, every=1)
    with pytest.raises(ValueError, match="empty list"), probe.step([]):
        pass


def test_inside_fit_and_its_checkpoints(gpt, loss_fn, tokens, tmp_path):
    """`training.fit` takes the probe, saves it, and a resumed run has the records of an uninterrupted one."""
    from unrolled.training import fit

    def run(steps, folder, probe_every=2):
        model = gpt(dropout=0.1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        probe = Probe(model, optimizer, loss_fn, every=probe_every) if probe_every else None
        torch.manual_seed(3)
        done = fit(
            model,
            lambda i: tokens(2, seed=i),
            loss_fn,
            optimizer,
            steps=steps,
            accumulate=2,
            clip=0.5,
            probe=probe,
            checkpoint=folder,
        )
        return model, probe, done

    plain, _, quiet = run(6, None, probe_every=0)
    whole, full, done = run(6, None)
    assert quiet.history["loss"] == done.history["loss"]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), whole.parameters()))
    run(3, tmp_path / "a")
    again, resumed, _ = run(6, tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), whole.parameters()))
    assert [r.step for r in resumed.records] == [0, 2, 4]
    for a, b in zip(resumed.records, full.records):
        known = [name for name, value in b.scalars().items() if value == value]
        assert {"gain", "penalty", "actual", "nds", "z_decay.norm"} <= set(known)
        assert all(a.scalars()[name] == b.scalars()[name] for name in known)
    for r in full.records:
        assert r.loss == pytest.approx(done.history["loss"][r.step], abs=1e-12)
