"""The loop: exact gradients, exact resume, and failures that stop it with a reason."""

import contextlib
import json
import math
import os
import random
import subprocess
import sys

import pytest
import torch
from torch import nn

from unrolled import optim
from unrolled.training import checkpoint, fit, gpt, schedules, validation
from unrolled.training.corpus import Corpus

CONFIG = gpt.GPTConfig(layers=2, heads=2, width=16, context=16, vocab=32, dropout=0.2)
TEXT = Corpus.from_tokens(torch.randint(0, 32, (4000,), generator=torch.Generator().manual_seed(0)), vocab=32)


def line(n=64, seed=0):
    """A linear regression with rows to spare: batches(i) is a function, loss sums and counts."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, 3, generator=rng, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def loss(model, batch):
        a, b = batch
        return (model(a).squeeze(-1) - b).square().sum(), len(b)

    return (lambda i: (x[i % n], y[i % n])), loss


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1, dtype=torch.float64)


def equal(a, b):
    a, b = dict(a.state_dict()), dict(b.state_dict())
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The gradient ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.5])
def test_equals_a_loop_written_by_hand(clip):
    batches, loss = line()
    one, two = linear(), linear()
    a = torch.optim.AdamW(one.parameters(), lr=0.05)
    b = torch.optim.AdamW(two.parameters(), lr=0.05)
    result = fit(one, batches, loss, a, steps=25, clip=clip)
    by_hand, norms = [], []
    for step in range(25):
        b.zero_grad()
        summed, count = loss(two, batches(step))
        (summed / count).backward()
        norms.append(nn.utils.clip_grad_norm_(two.parameters(), clip or math.inf).item())
        b.step()
        by_hand.append((summed / count).item())
    torch.testing.assert_close(result.history["loss"], by_hand, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(result.history["grad_norm"], norms, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(list(one.parameters()), list(two.parameters()), rtol=1e-12, atol=1e-13)
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]
    assert result.step == 25
    assert result.stop.reason == "steps"
    assert result.stop.ok


def test_unequal_micro_batches_give_the_gradient_of_the_whole():
    """Token-weighted: 7, 1, 12 and 0 counted items; the mean of means would be far off."""
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 3, generator=rng).double(), torch.randn(20, generator=rng).double()
    _, loss = line()
    parts, at = [], 0
    for size in (7, 1, 12, 0):
        parts.append((x[at : at + size], y[at : at + size]))
        at += size
    one, two = linear(), linear()
    micro = fit(
        one, lambda i: parts[i % 4], loss, torch.optim.SGD(one.parameters(), lr=0.1), steps=5, accumulate=4
    )
    whole = fit(two, lambda i: (x, y), loss, torch.optim.SGD(two.parameters(), lr=0.1), steps=5)
    torch.testing.assert_close(list(one.parameters()), list(two.parameters()), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(micro.history["loss"], whole.history["loss"], rtol=1e-13, atol=1e-14)
    assert micro.history["count"] == [20.0] * 5


def test_counts_may_be_tensors_and_losses_scalars():
    batches, loss = line()
    models = [linear() for _ in range(3)]
    kinds = [
        loss,
        lambda m, b: [(s := loss(m, b))[0], torch.tensor(s[1])],
        lambda m, b: loss(m, b)[0] / len(b[1]),
    ]
    for model, kind in zip(models, kinds):
        fit(model, batches, kind, torch.optim.SGD(model.parameters(), lr=0.1), steps=4)
    for model in models[1:]:
        torch.testing.assert_close(
            list(models[0].parameters()), list(model.parameters()), rtol=1e-12, atol=1e-14
        )


def test_micro_batches_are_numbered_through():
    asked = []
    model = linear()
    batches, loss = line()

    def ask(i):
        asked.append(i)
        return batches(i)

    fit(model, ask, loss, torch.optim.SGD(model.parameters(), lr=0.1), steps=3, accumulate=2)
    assert asked == [0, 1, 2, 3, 4, 5]


def test_stale_gradients_do_not_leak_in():
    batches, loss = line()
    one, two = linear(), linear()
    for parameter in one.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    for model in (one, two):
        fit(model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.1), steps=1)
    assert equal(one, two)


def test_unused_and_frozen_parameters_are_left_alone():
    batches, loss = line()
    model = nn.ModuleDict({"used": linear(), "unused": linear(), "frozen": linear()})
    model["frozen"].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(
        model,
        batches,
        lambda m, b: loss(lambda x: m["used"](x) + m["frozen"](x), b),
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=2,
    )
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"used.weight", "used.bias"}


def test_bfloat16_autocast():
    model = gpt.GPT(gpt.tiny())
    text = Corpus.from_tokens(torch.arange(2000) % 7, vocab=256)
    seen = []

    def loss(m, batch):
        seen.append(m(batch[0]).dtype)
        return gpt.loss(m, batch)

    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    result = fit(model, text.batches(batch=4, context=32), loss, adam, steps=15, amp=torch.bfloat16)
    assert set(seen) == {torch.bfloat16}
    assert model.embed.weight.dtype == torch.float32
    assert result.history["loss"][-1] < 0.5 * result.history["loss"][0]


def test_norms_of_half_precision_gradients_are_taken_in_single():
    model = nn.Linear(300, 1, bias=False).bfloat16()
    x = torch.ones(1, 300, dtype=torch.bfloat16)
    result = fit(
        model, lambda i: x, lambda m, b: (m(b).sum(), 1), torch.optim.SGD(model.parameters(), lr=0.0), steps=1
    )
    assert result.history["grad_norm"][0] == pytest.approx(300**0.5, rel=1e-6)


def test_it_learns_text():
    text = Corpus.from_tokens(
        torch.frombuffer(bytearray(b"the cat sat on the mat. " * 100), dtype=torch.uint8), vocab=256
    )
    model = gpt.GPT(gpt.GPTConfig(layers=1, heads=2, width=32, context=32))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    result = fit(
        model, text.batches(batch=8, context=32), gpt.loss, adam, steps=120, schedule=schedules.linear(120)
    )
    assert result.history["loss"][0] > 5
    assert result.history["loss"][-1] < 0.1
    made = bytes(model.generate(torch.tensor([list(b"the c")]), 18, temperature=0)[0].tolist())
    assert made == b"the cat sat on the mat."


# Learning rates -------------------------------------------------------------------------------------------------


def test_a_schedule_multiplies_the_optimizers_own_rates_and_puts_them_back():
    model = linear()
    batches, loss = line()
    rates = []
    sgd = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": torch.tensor(0.01)}]
    )
    sgd.register_step_pre_hook(lambda o, *_: rates.append([float(g["lr"]) for g in o.param_groups]))
    result = fit(model, batches, loss, sgd, steps=4, schedule=schedules.linear(4))
    wanted = [[0.1 * f, 0.01 * f] for f in (1, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(rates, wanted, rtol=1e-6, atol=0)
    assert result.history["lr"] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert [float(g["lr"]) for g in sgd.param_groups] == pytest.approx([0.1, 0.01])
    with pytest.raises(RuntimeError):
        fit(
            model,
            batches,
            lambda m, b: (_ for _ in ()).throw(RuntimeError()),
            sgd,
            steps=4,
            schedule=lambda s: 0.5,
        )
    assert [float(g["lr"]) for g in sgd.param_groups] == pytest.approx([0.1, 0.01])


# Resume ---------------------------------------------------------------------------------------------------------


def muon(model):
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 2]
    return torch.optim.Muon(matrices, lr=0.02)


OPTIMIZERS = {
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95)),
    "amsgrad": lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3, amsgrad=True, foreach=True),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "torch_muon": muon,
    "our_muon": lambda model: optim.Muon(model, lr=0.02),
}


def train(folder, optimizer, steps=12, until=None, every=5, model=None, **options):
    """All that randomness can touch: dropout, noise from a generator, a global draw in the loss."""
    torch.manual_seed(11)
    random.seed(11)
    model = model or gpt.GPT(CONFIG, rng=2)
    noise = torch.Generator().manual_seed(5)

    def loss(m, batch):
        x, y = batch
        flip = torch.rand(x.shape, generator=noise) < 0.1
        summed, count = gpt.loss(m, (torch.where(flip, x.roll(1), x), y))
        return summed * (1 + 0.01 * random.random()), count

    result = fit(
        model,
        TEXT.batches(batch=3, context=16, seed=1),
        loss,
        OPTIMIZERS[optimizer](model),
        steps=steps,
        schedule=schedules.cosine(12, warmup=3),
        accumulate=2,
        clip=1.0,
        evaluate=(4, validation(gpt.loss, TEXT.batches(batch=2, context=16, shuffle=False), 2)),
        checkpoint=folder,
        checkpoint_every=every,
        generators=[noise],
        until=until,
        **options,
    )
    return model, result


def deterministic(result):
    return {name: values for name, values in result.history.items() if name != "rate"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, optimizer):
    whole, want = train(None, optimizer)
    # Stopped in order at 4, then killed at 9 (the newest checkpoint is that of step 5), then to the end.
    train(tmp_path, optimizer, until=lambda f: f.step == 4)

    class Killed(Exception):
        pass

    def kill(f):
        if f.step == 9:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, optimizer, until=kill)
    assert list(checkpoint.steps(tmp_path)) == [4, 5]
    torch.rand(17)
    resumed, got = train(tmp_path, optimizer)
    assert got.resumed == 5
    assert equal(whole, resumed)
    assert deterministic(got) == deterministic(want)
    assert got.evaluations == want.evaluations
    assert [e["step"] for e in got.evaluations] == [0, 4, 8, 12]


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    whole, want = train(None, "adamw")
    train(tmp_path, "adamw", steps=8)
    _, same = train(tmp_path, "adamw", steps=8)  # nothing left to do
    assert same.step == same.resumed == 8
    resumed, got = train(tmp_path, "adamw", steps=12)
    assert got.resumed == 8
    assert equal(whole, resumed)
    assert deterministic(got) == deterministic(want)
    assert got.evaluations == want.evaluations


def test_evaluation_leaves_no_trace():
    one, _ = train(None, "adamw")
    torch.manual_seed(11)
    random.seed(11)
    two, noise = gpt.GPT(CONFIG, rng=2), torch.Generator().manual_seed(5)

    def loss(m, batch):
        x, y = batch
        flip = torch.rand(x.shape, generator=noise) < 0.1
        summed, count = gpt.loss(m, (torch.where(flip, x.roll(1), x), y))
        return summed * (1 + 0.01 * random.random()), count

    adam = OPTIMIZERS["adamw"](two)
    rows = TEXT.batches(batch=3, context=16, seed=1)
    fit(two, rows, loss, adam, steps=12, schedule=schedules.cosine(12, warmup=3), accumulate=2, clip=1.0)
    assert equal(one, two)


SCRIPT = """
import os, random, signal, sys, time, torch
from unrolled import optim
from unrolled.training import checkpoint, fit, gpt, schedules
from unrolled.training.corpus import Corpus
torch.set_num_threads(1)
text = Corpus.from_tokens(torch.arange(3000) % 31, vocab=32)
out, rng = sys.argv[1], random.Random(int(sys.argv[2]))
torch.optim.AdamW([torch.zeros(1)])  # torch imports half of itself here: once, before the children are forked

def train(folder):
    torch.manual_seed(0)
    model = gpt.GPT(gpt.GPTConfig(layers=2, heads=2, width=64, context=16, vocab=32, dropout=0.3), rng=1)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    result = fit(model, text.batches(batch=2, context=16), gpt.loss, adam, steps=60, schedule=schedules.cosine(60),
                 checkpoint=folder, checkpoint_every=1)
    total = sum(p.double().sum().item() for p in model.parameters())
    return result.resumed, total.hex(), sum(result.history["loss"]).hex()

def start(folder):
    child = os.fork()
    if not child:
        made = train(folder)
        with open(folder + ".txt", "w") as file:
            print(*made, file=file)
        os._exit(0)
    return child

os.waitpid(start(out + "/whole"), 0)
for kill in range(3):
    child = start(out + "/killed")
    goal = 15 * kill + rng.randrange(3, 15)
    while max(checkpoint.steps(out + "/killed"), default=0) < goal:
        time.sleep(0.001)
    time.sleep(rng.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
os.waitpid(start(out + "/killed"), 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")
def test_killed_at_any_moment_it_ends_where_it_would_have(tmp_path):
    """SIGKILL, three times, at random: it writes a checkpoint each step, so many a kill lands in a write."""
    seed = int.from_bytes(os.urandom(4), "little")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    want, got = ((tmp_path / name).read_text().split() for name in ("whole.txt", "killed.txt"))
    assert int(want[0]) == 0
    assert int(got[0]) >= 33, f"seed {seed}"
    assert got[1:] == want[1:], f"seed {seed}"


def test_resume_false_refuses_to_mix_runs(tmp_path):
    train(tmp_path, "adamw", steps=5)
    with pytest.raises(ValueError, match=r"holds step-00000005.safetensors, and resume=False"):
        train(tmp_path, "adamw", resume=False)
    train(tmp_path / "other", "adamw", steps=5, resume=False)


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path, "adamw", steps=5)
    other = gpt.GPT(gpt.GPTConfig(**{**vars(CONFIG), "vocab": 64}))
    with pytest.raises(ValueError, match=r"step-00000005.* is of another model: embed.weight is \[32, 16\]"):
        train(tmp_path, "adamw", model=other)
    with pytest.raises(ValueError, match="holds the state of AdamW, the optimizer is SGD"):
        train(tmp_path, "momentum")
    checkpoint.save_step(tmp_path, 6, checkpoint.snapshot(other, OPTIMIZERS["adamw"](other)))
    with pytest.raises(ValueError, match="was not written by fit"):
        train(tmp_path, "adamw", model=other)


def test_a_failed_write_ends_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    _, want = train(None, "adamw")
    write = checkpoint.save_file

    def full(tensors, path, metadata):
        if "step-00000010" in str(path):
            raise OSError(28, "No space left on device")
        write(tensors, path, metadata=metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(OSError, match=r"No space left.*Older checkpoints are unchanged"):
            train(tmp_path, "adamw")
    assert list(checkpoint.steps(tmp_path)) == [5]
    _, got = train(tmp_path, "adamw")
    assert deterministic(got) == deterministic(want)


# Iterables ------------------------------------------------------------------------------------------------------


def test_a_list_starts_again_and_a_generator_ends():
    batches, loss = line()
    some = [batches(i) for i in range(3)]
    one, two, three = linear(), linear(), linear()
    fit(one, lambda i: some[i % 3], loss, torch.optim.SGD(one.parameters(), lr=0.1), steps=7)
    fit(two, some, loss, torch.optim.SGD(two.parameters(), lr=0.1), steps=7)
    assert equal(one, two)
    result = fit(three, iter(some), loss, torch.optim.SGD(three.parameters(), lr=0.1), steps=7)
    assert result.step == 3
    assert result.stop.reason == "exhausted"
    assert "started again" in result.stop.hint
    empty = fit(three, [], loss, torch.optim.SGD(three.parameters(), lr=0.1), steps=7)
    assert empty.stop.reason == "exhausted"
    assert empty.step == 0


def test_a_data_loader_with_its_own_generator_resumes_exactly(tmp_path):
    rng = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.randn(20, 3, generator=rng).double(), torch.randn(20).double()
    )
    _, loss = line()

    def run(folder, steps):
        torch.manual_seed(3)
        model = nn.Sequential(linear(), nn.Dropout(0.5))
        loader = torch.utils.data.DataLoader(
            data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(9)
        )
        adam = torch.optim.AdamW(model.parameters(), lr=0.1)
        fit(model, loader, loss, adam, steps=steps, accumulate=2, checkpoint=folder)
        return model

    run(tmp_path, 6)  # in the middle of the third epoch
    assert equal(run(None, 14), run(tmp_path, 14))


def test_an_iterable_that_ends_before_the_checkpoint(tmp_path):
    batches, loss = line()
    some = [batches(i) for i in range(6)]
    model = linear()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, iter(some), loss, sgd, steps=6, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="batches ended after 4, before the 6 already used"):
        fit(model, iter(some[:4]), loss, sgd, steps=8, checkpoint=tmp_path)


# Failures -------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path):
    batches, loss = line()

    def bad(i):
        x, y = batches(i)
        return (x * (math.nan if i == 3 else 1.0), y)

    model = linear()
    adam = torch.optim.AdamW(model.parameters(), lr=0.1)
    after = {}

    def remember(f):
        after[f.step] = [p.detach().clone() for p in model.parameters()]

    result = fit(model, bad, loss, adam, steps=10, until=remember, checkpoint=tmp_path, checkpoint_every=2)
    assert result.stop.reason == "nonfinite"
    assert not result.stop.ok
    assert (result.stop.step, result.stop.where) == (3, "loss")
    assert "lower the learning rate" in result.stop.hint
    assert result.step == len(result.history["loss"]) == 3
    assert all(torch.equal(a, b) for a, b in zip(after[3], model.parameters()))
    assert all(state["step"] == 3 for state in adam.state.values())
    assert list(checkpoint.steps(tmp_path)) == [2]


def test_a_gradient_that_is_not_finite_is_named():
    model = nn.ParameterDict({"fine": nn.Parameter(torch.ones(2)), "bad": nn.Parameter(torch.zeros(2))})
    before = {name: value.clone() for name, value in model.items()}
    result = fit(
        model,
        lambda i: None,
        lambda m, b: (m["fine"].sum() + m["bad"].abs().sqrt().sum(), 2),
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=3,
    )
    assert result.stop.reason == "nonfinite"
    assert result.stop.where == "gradient of bad"
    assert all(torch.equal(before[name], model[name]) for name in before)


def test_a_batch_that_counts_nothing():
    model = gpt.GPT(CONFIG)
    x = torch.zeros(1, 4, dtype=torch.long)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    result = fit(model, lambda i: (x, torch.full_like(x, -100)), gpt.loss, sgd, steps=3)
    assert result.stop.reason == "nonfinite"
    assert "counts no item" in result.stop.hint


def test_arguments_that_make_no_sense():
    model, (batches, loss) = linear(), line()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for options, message in [
        ({"steps": 0}, "steps is a number of at least 1, got 0"),
        ({"steps": 2.5}, "steps"),
        ({"steps": 1, "accumulate": 0}, "accumulate"),
        ({"steps": 1, "checkpoint_every": 0}, "checkpoint_every"),
        ({"steps": 1, "clip": 0.0}, "clip"),
        ({"steps": 1, "amp": torch.float16}, "float16 would need loss scaling"),
        ({"steps": 1, "evaluate": (0, print)}, "evaluate"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(model, batches, loss, sgd, **options)
    with pytest.raises(TypeError, match="batches is a function"):
        fit(model, 3, loss, sgd, steps=1)
    with pytest.raises(TypeError, match=r"loss_fn returns .* got a tensor of shape \(8, 1\)"):
        fit(model, batches, lambda m, b: m(b[0]), sgd, steps=1)
    with pytest.raises(TypeError, match=r"loss_fn returns .* got float"):
        fit(model, batches, lambda m, b: 1.0, sgd, steps=1)
    with pytest.raises(ValueError, match="does not depend on any trainable parameter"):
        fit(model, batches, lambda m, b: (torch.ones(()), 1), sgd, steps=1)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        fit(linear(), batches, loss, sgd, steps=1)
    frozen = linear().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        fit(frozen, batches, loss, torch.optim.SGD(frozen.parameters(), lr=1), steps=1)
    other = linear()
    half = torch.optim.SGD([model.weight], lr=1)
    with pytest.raises(ValueError, match="no parameter of the optimizer got a gradient"):
        fit(model, batches, lambda m, b: loss(other, b), half, steps=1)


# Hooks ----------------------------------------------------------------------------------------------------------


def test_evaluation_runs_in_eval_mode_without_gradient_and_modes_come_back():
    batches, loss = line()
    model = nn.Sequential(linear(), nn.Dropout(0.1), nn.Identity())
    model[2].eval()  # a part the user holds in eval mode
    seen = []

    def look(m):
        seen.append((m.training, m[1].training, torch.is_grad_enabled()))
        torch.rand(3)
        return torch.tensor(1.5)

    result = fit(
        model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.1), steps=5, evaluate=(2, look)
    )
    assert seen == [(False, False, False)] * 4
    assert result.evaluations == [{"step": s, "value": 1.5} for s in (0, 2, 4, 5)]
    assert (model.training, model[1].training, model[2].training) == (True, True, False)


def test_until_leaves_the_parameters_that_were_evaluated():
    batches, loss = line()
    model = linear()
    held = validation(loss, batches, 3)
    result = fit(
        model,
        batches,
        loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=500,
        evaluate=(5, held),
        until=lambda f: "good enough" if f.evaluations[-1]["val_loss"] < 1e-3 else None,
    )
    assert result.stop.reason == "good enough"
    assert result.step % 5 == 0
    assert 0 < result.step < 500
    assert held(model)["val_loss"] == result.evaluations[-1]["val_loss"] < 1e-3
    plain = fit(
        model,
        batches,
        loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=5,
        until=lambda f: f.step == 2,
    )
    assert plain.stop.reason == "halted"
    assert plain.step == 2


def test_log_and_progress():
    batches, loss = line()
    model = linear()
    lines, reports = [], []
    result = fit(
        model,
        batches,
        loss,
        torch.optim.SGD(model.parameters(), lr=0.1),
        steps=4,
        evaluate=(4, lambda m: {"accuracy": torch.tensor(0.5)}),
        log=lambda **numbers: lines.append(numbers),
        progress=lambda step, steps: reports.append((step, steps)),
    )
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [entry["step"] for entry in lines] == [0, 0, 1, 2, 3, 4]
    assert lines[0] == {"step": 0, "accuracy": 0.5}
    assert [entry["loss"] for entry in lines if "loss" in entry] == result.history["loss"]
    assert json.dumps(lines)
    path = result.trajectory()
    assert path["loss"].tolist() == result.history["loss"]
    assert path.stop == result.stop


class Counter:
    """The shape of a probe: entered around backward, clipping and the update; keeps a state."""

    def __init__(self, model):
        self.model, self.calls, self.moved = model, [], []

    @contextlib.contextmanager
    def step(self, micro):
        before = [p.detach().clone() for p in self.model.parameters()]
        yield
        self.calls.append(len(micro))
        self.moved.append(any(not torch.equal(a, b) for a, b in zip(before, self.model.parameters())))

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_a_probe_is_entered_around_each_update_and_its_state_is_kept(tmp_path):
    batches, loss = line()
    model = linear()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    first = Counter(model)
    fit(model, batches, loss, sgd, steps=3, accumulate=2, probe=first, checkpoint=tmp_path)
    assert first.calls == [2, 2, 2]
    assert first.moved == [True] * 3
    second = Counter(model)
    fit(model, batches, loss, sgd, steps=5, accumulate=2, probe=second, checkpoint=tmp_path)
    assert second.calls == [2] * 5
    assert len(second.moved) == 2


def test_a_compiled_model_trains_and_its_checkpoint_is_the_plain_one(tmp_path):
    batches, loss = line()
    one, two = linear(), linear()
    compiled = torch.compile(one, backend="eager")
    fit(compiled, batches, loss, torch.optim.AdamW(one.parameters(), lr=0.1), steps=4, checkpoint=tmp_path)
    adam = torch.optim.AdamW(two.parameters(), lr=0.1)
    result = fit(two, batches, loss, adam, steps=6, checkpoint=tmp_path)
    assert result.resumed == 4
    whole = linear()
    fit(whole, batches, loss, torch.optim.AdamW(whole.parameters(), lr=0.1), steps=6)
    torch.testing.assert_close(list(two.parameters()), list(whole.parameters()), rtol=1e-12, atol=1e-14)
