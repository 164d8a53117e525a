"""The studies of rate-coded networks: nothing takes absent data's place; killed runs go on bit-equal; figures draw."""

import dataclasses
import struct

import numpy as np
import pytest
import torch

from unrolled.cortex.rate import Net
from unrolled.runs.run import Run
from unrolled.studies import _rate as rate
from unrolled.studies import cortex_cifar, cortex_fashion, cortex_gradient, cortex_memory
from unrolled.training import images
from unrolled.training.images import Images, Shuffled


def run(study, config, tmp_path):
    with Run.create("some-study", config, root=tmp_path) as made:
        claims = study.study(config, made)
        made.save_claims(claims)
    return Run.open(made.path), {claim.id: claim for claim in claims}


def draws(study, done):
    made = study.figures(done)
    for figure, caption in made.values():
        figure.canvas.draw()
        assert caption
    return set(made)


@pytest.fixture
def fashion(tmp_path):
    """Four idx files of 16 x 16 images whose class is where they are bright: not Fashion-MNIST, and only to run the code."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, n in (("train", 600), ("t10k", 100)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        pixels = rng.integers(0, 100, (n, 16, 16), dtype=np.uint8)
        for k, label in enumerate(labels):
            pixels[k, label : label + 4, :] += 150
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return folder


def test_without_the_images_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FASHION", tmp_path / "nowhere")
    monkeypatch.delenv(images.FASHION_VARIABLE, raising=False)
    done, made = run(cortex_fashion, cortex_fashion.tiny(), tmp_path / "a")
    assert {c.status for c in made.values()} == {"not attempted"}
    assert "Debian's dataset-fashion-mnist" in made["gap"].note
    assert "--data FOLDER" in made["gap"].note
    assert cortex_fashion.figures(done) == {}
    done, made = run(cortex_cifar, cortex_cifar.tiny(), tmp_path / "b")
    assert {c.status for c in made.values()} == {"not attempted"}
    assert "needs cifar10's standard files" in made["accuracy"].note
    assert cortex_cifar.figures(done) == {}
    with pytest.raises(FileNotFoundError, match="no data_batch_1"):
        run(cortex_cifar, dataclasses.replace(cortex_cifar.tiny(), data=str(tmp_path)), tmp_path / "c")
    with pytest.raises(ValueError, match="set='mnist' is none of cifar10"):
        run(cortex_cifar, dataclasses.replace(cortex_cifar.tiny(), set="mnist"), tmp_path / "d")


def test_fashion_runs_every_arm_and_judges(fashion, tmp_path):
    config = dataclasses.replace(
        cortex_fashion.tiny(),
        data=str(fashion),
        channels=4,
        dense=16,
        batch=20,
        epochs=3,
        tuning_steps=15,
        augment=True,
    )
    done, made = run(cortex_fashion, config, tmp_path)
    trained = rate.rows(done, {"part": "training"})
    assert {r["arm"] for r in trained} == set(rate.ARMS)
    assert {r["step"] for r in trained} == {50, 90}
    tuned = rate.rows(done, {"part": "tuning"})
    assert all(len({r["lr"] for r in tuned if r["arm"] == arm}) == 3 for arm in rate.ARMS)
    assert made["accuracy"].ours > 30  # three times chance: it learns
    assert made["cost"].ours > 1
    assert made["three-seeds"].status == made["mnist"].status == "not attempted"
    assert draws(cortex_fashion, done) == {"learning", "accuracy"}


def tiny_task():
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=g)
    return Images(pixels, torch.arange(60) % 3, ("a", "b", "c"))


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_bit_equal(tmp_path):
    data = tiny_task()
    labels = {"arm": "local rule", "seed": 0, "part": "training", "lr": 0.05}
    test = data.scaled(data.moments()), data.labels

    def train(made, until=None):
        net = Net((1, 4, 4), [6, 3], rng=0)
        calls = []

        def teach(*args):
            calls.append(1)
            if until is not None and len(calls) > until:
                raise Killed
            return rate.ARMS["local rule"][1](*args)

        rate.train(
            made,
            labels,
            net,
            teach,
            Shuffled(data, 6, 1),
            40,
            lr=0.05,
            decay=1e-3,
            test=test,
            report=5,
            save=10,
        )
        return net

    def told(made):
        return [{k: v for k, v in r.items() if k not in ("time", "cpu")} for r in made.metrics()]

    with Run.create("some-study", {"a": 1}, root=tmp_path / "whole") as whole:
        through = train(whole)
    with Run.create("some-study", {"a": 1}, root=tmp_path / "cut") as cut:
        with pytest.raises(Killed):
            train(cut, until=27)
        path = cut.path
        cut.end("interrupted")
    with Run.resume(path) as again:
        assert rate.rows(again, labels)[-1]["step"] == 20
        resumed = train(again)
    for name, value in through.tensors().items():
        assert torch.equal(value, resumed.tensors()[name])
    assert told(Run.open(path)) == told(whole)
    assert [r["step"] for r in told(whole)] == list(range(5, 41, 5))


def test_a_network_that_runs_away_is_a_row_and_not_an_end(tmp_path):
    data = tiny_task()
    with Run.create("some-study", {"a": 1}, root=tmp_path) as made:

        def tune(rates):
            return rate.tune(
                made, "backprop", lambda _: Net((1, 4, 4), [6, 3], rng=0), rate.ARMS["backprop"][1], Shuffled(data, 6, 1),
                (data.scaled(), data.labels), rates, 20, decay=0.0, seed=len(rates),
            )  # fmt: skip

        assert tune((0.05, 1e30)) == 0.05
        assert [r["lr"] for r in made.metrics() if r.get("diverged")] == [1e30]
        with pytest.raises(
            RuntimeError, match="backprop: none of the learning rates 1e\\+30 kept the network whole"
        ):
            tune((1e30,))


def test_gradient_study_claims_and_notices_another_rule(tmp_path, monkeypatch):
    config = dataclasses.replace(cortex_gradient.tiny(), nets=2, depth=3)
    done, made = run(cortex_gradient, config, tmp_path / "a")
    assert made["centered"].status == made["one-sided"].status == made["deep-dense"].status == "reproduced"
    assert draws(cortex_gradient, done) == {"angles", "settling"}
    wrong = dataclasses.replace(
        cortex_gradient.centered, weight=lambda path, x, y, w: path.product(x.plus, y.plus, w)
    )
    monkeypatch.setattr(cortex_gradient, "centered", wrong)
    _, made = run(cortex_gradient, config, tmp_path / "b")
    assert made["centered"].status == "not reproduced"


def test_memory_study_counts(tmp_path):
    config = dataclasses.replace(
        cortex_memory.tiny(), width=16, batch=8, depths=(2, 3), batches=(4, 8), sweeps=(4, 40)
    )
    done, made = run(cortex_memory, config, tmp_path)
    assert made["flat-dense"].status == made["flat-convolutional"].status == "reproduced"
    assert made["total-dense"].ours > 3
    found = rate.rows(done, {"over": "steps", "kind": "dense", "way": "backprop through time"})
    assert found[-1]["peak"] > 5 * found[0]["peak"]  # 40 sweeps against 4
    assert draws(cortex_memory, done) == {"memory"}


def test_backprop_through_time_is_the_gradient(tmp_path):
    from unrolled.cortex.rate.align import gradient

    net = Net(6, [5, 3], activation="tanh", gain=0.1, rng=0, dtype=torch.float64)
    x, labels = torch.randn(4, 6, dtype=torch.float64), torch.arange(4) % 3
    through, exact = cortex_memory.through_time(net, x, labels, 60), gradient(net, x, labels)
    for name, value in exact.items():
        torch.testing.assert_close(through[name], value, rtol=1e-8, atol=1e-10)
    assert not any(v.requires_grad for v in net.tensors().values())


def test_the_meter_sees_what_is_alive_and_nothing_that_was_there():
    there = torch.zeros(1000)
    with cortex_memory.Meter() as meter:
        view = there[:10].reshape(2, 5)  # no bytes of its own
        a = view + 1
        del a
        b = torch.zeros(20)
        b.add_(1)
    assert meter.peak == 80
