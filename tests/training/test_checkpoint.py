"""Checkpoints: what goes in comes out, a bad write loses nothing, a wrong model is refused before anything changes."""

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from unrolled.training import checkpoint

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_any_tree_of_scalars_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("tree") / "x.safetensors"
    assert same(tree, checkpoint.load(checkpoint.save(path, tree)))


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64,
     torch.complex128, torch.float8_e4m3fn],
)  # fmt: skip
def test_tensors_of_every_kind(tmp_path, dtype):
    base = (torch.arange(12).view(3, 4) % 3).to(dtype)
    tree = {
        "plain": base,
        "empty": torch.empty(0, 3, dtype=dtype),
        "number": torch.ones((), dtype=dtype),
        "transposed": base.T,
        "strided": base[:, ::2],
        "nested": ({1: base + 0 if dtype.is_complex else base.clone()},),
    }
    back = checkpoint.load(checkpoint.save(tmp_path / "x.safetensors", tree))
    for name in ("plain", "empty", "number", "transposed", "strided"):
        assert back[name].dtype == dtype
        assert back[name].shape == tree[name].shape
        assert back[name].to(torch.complex128).equal(tree[name].to(torch.complex128))
    assert back["nested"][0][1].shape == (3, 4)


def test_nan_payloads_and_signed_zeros_keep_their_bits(tmp_path):
    x = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45])
    back = checkpoint.load(checkpoint.save(tmp_path / "x.safetensors", {"x": x, "f": -0.0}))
    assert torch.equal(back["x"].view(torch.int32), x.view(torch.int32))
    assert math.copysign(1, back["f"]) == -1


def test_tied_weights_are_stored_once_and_views_apart(tmp_path):
    w = torch.randn(100, 10)
    path = checkpoint.save(tmp_path / "x.safetensors", {"a": w, "b": w, "row": w[0], "flat": w.view(-1)})
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == {"a", "row", "flat"}
    back = checkpoint.load(path)
    assert back["a"] is back["b"]
    assert torch.equal(back["row"], w[0])
    assert torch.equal(back["flat"], w.view(-1))


def test_arrays_dtypes_and_devices(tmp_path):
    tree = {
        "a": np.arange(4, dtype=np.uint32),
        "n": np.float64(2.5),
        "d": torch.bfloat16,
        "c": torch.device("cpu"),
    }
    back = checkpoint.load(checkpoint.save(tmp_path / "x.safetensors", tree))
    assert isinstance(back["a"], np.ndarray)
    assert back["a"].dtype == np.uint32
    assert back["a"].tolist() == [0, 1, 2, 3]
    assert (back["n"], back["d"], back["c"]) == (2.5, torch.bfloat16, torch.device("cpu"))


def test_the_header_is_standard_json(tmp_path):
    path = checkpoint.save(tmp_path / "x.safetensors", {"nan": math.nan, "w": torch.ones(1)})
    with safe_open(path, "pt") as file:
        text = file.metadata()["unrolled-checkpoint"]

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [1, {2, 3}]}, r"cannot store /a/1, a set"),
        ({"a": {(1, 2): 3}}, r"cannot store the key \(1, 2\) of /a"),
        ({"a": torch.ones(2).to_sparse()}, r"cannot store /a, a Tensor of layout torch.sparse"),
        ({"a": object()}, r"cannot store /a, a object"),
        (lambda: 0, r"cannot store the tree, a function"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, tree, message):
    path = checkpoint.save(tmp_path / "x.safetensors", {"old": 1})
    with pytest.raises(TypeError, match=message):
        checkpoint.save(path, tree)
    assert checkpoint.load(path) == {"old": 1}


def test_damaged_and_foreign_files(tmp_path):
    path = checkpoint.save(tmp_path / "x.safetensors", {"w": torch.ones(1000)})
    raw = path.read_bytes()
    for cut in (0, 4, 100, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(ValueError, match=r"x.safetensors is damaged"):
            checkpoint.load(path)
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="no checkpoint of unrolled"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "nowhere")


# A full disk ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder, size="1m"):
    """A real file system of one MiB, where the machine lets us have one."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True
    )
    if made.returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_leaves_the_old_files(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk):
        checkpoint.save_step(disk, 1, {"w": torch.ones(50_000)})
        checkpoint.save_step(disk, 2, {"w": torch.full((50_000,), 2.0)})
        before = {path.name: path.read_bytes() for path in disk.iterdir()}
        with pytest.raises(
            OSError, match=r"could not write .*step-00000003.* Older checkpoints are unchanged"
        ):
            checkpoint.save_step(disk, 3, {"w": torch.ones(250_000)})
        assert {path.name: path.read_bytes() for path in disk.iterdir()} == before
        assert checkpoint.load(checkpoint.latest(disk))["w"][0] == 2
        # What does fit goes on working.
        checkpoint.save_step(disk, 4, {"w": torch.ones(10)})
        assert list(checkpoint.steps(disk)) == [2, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_file_size_limit_leaves_the_old_file(tmp_path):
    """The same without any privilege: the kernel refuses files above a limit."""
    script = textwrap.dedent(
        """
        import resource, signal, sys, torch
        from unrolled.training import checkpoint
        path = sys.argv[1] + "/x.safetensors"
        checkpoint.save(path, {"w": torch.ones(100)})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            checkpoint.save(path, {"w": torch.ones(100_000)})
        except OSError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "could not write" in done.stdout
    assert "(0.4 MiB)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert checkpoint.load(tmp_path / "x.safetensors")["w"].shape == (100,)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="could not write"):
        checkpoint.save_step(tmp_path / "file", 1, {})


def test_keep_and_scratch_files(tmp_path):
    (tmp_path / ".step-00000001.safetensors.999.part").write_bytes(b"torn")
    (tmp_path / "step-notes.txt").write_text("mine")
    for step in (5, 10, 100, 1000):
        checkpoint.save_step(tmp_path, step, {"step": step}, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000010.safetensors",
        "step-00000100.safetensors",
        "step-00001000.safetensors",
        "step-notes.txt",
    ]
    assert checkpoint.load(checkpoint.latest(tmp_path)) == {"step": 1000}
    assert checkpoint.latest(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match="keep"):
        checkpoint.save_step(tmp_path, 1, {}, keep=0)


# Model, optimizer, random numbers -------------------------------------------------------------------------------


def net(width=5):
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def trained(optimizer_class=torch.optim.AdamW, **options):
    model = net()
    optimizer = optimizer_class(model.parameters(), lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "RMSprop", "Adagrad", "Adafactor", "NAdam"])
def test_snapshot_and_restore(tmp_path, kind):
    kind = getattr(torch.optim, kind)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    model, optimizer = trained(kind, **options)
    path = checkpoint.save(tmp_path / "x.safetensors", checkpoint.snapshot(model, optimizer))
    other = net()
    fresh = kind(other.parameters(), lr=9.9, **options)
    checkpoint.restore(checkpoint.load(path), other, fresh)
    assert same(dict(model.state_dict()), dict(other.state_dict()))
    assert same(optimizer.state_dict(), fresh.state_dict())


def test_random_numbers_go_on(tmp_path):
    model, generator = net(), torch.Generator().manual_seed(3)
    torch.rand(5), random.random(), np.random.rand(3), torch.rand(2, generator=generator)
    path = checkpoint.save(tmp_path / "x.safetensors", checkpoint.snapshot(model, generators=[generator]))

    def draw():
        return [
            torch.rand(2).tolist(),
            random.random(),
            np.random.rand(),
            torch.rand(1, generator=generator).item(),
        ]

    want = draw()
    draw()
    checkpoint.restore(checkpoint.load(path), model, generators=[generator])
    assert draw() == want
    with pytest.raises(ValueError, match="holds 1 generators, 0 were passed"):
        checkpoint.restore(checkpoint.load(path), model)


def test_single_precision_moments_of_half_precision_weights_keep_their_digits(tmp_path):
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    holder = nn.ParameterList([weight])
    optimizer = torch.optim.SGD([weight], lr=0.1)
    moment = torch.tensor([1.0000001, 2.0000002, math.pi])
    optimizer.state[weight]["momentum_buffer"] = moment
    path = checkpoint.save(tmp_path / "x.safetensors", checkpoint.snapshot(holder, optimizer))
    fresh = torch.optim.SGD(holder.parameters(), lr=0.1)
    checkpoint.restore(checkpoint.load(path), holder, fresh)
    assert torch.equal(fresh.state[weight]["momentum_buffer"], moment)


def test_the_file_of_a_compiled_model_is_that_of_the_plain_one(tmp_path):
    model = net()
    wrapped = torch.compile(model)
    path = checkpoint.save(tmp_path / "x.safetensors", checkpoint.snapshot(wrapped))
    other = net()
    checkpoint.restore(checkpoint.load(path), other)
    assert same(dict(model.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: net(6), r"0.weight is \[5, 3\] in the file, \[6, 3\] in the model.*and \d more"),
        (lambda: net().double(), r"torch.float32 in the file, torch.float64 in the model"),
        (lambda: nn.Sequential(*net(), nn.Linear(2, 2)), r"3.bias is not in the file"),
        (lambda: nn.Linear(3, 5), r"0.bias is not in the model"),
    ],
)
def test_another_model_is_refused_untouched(tmp_path, other, message):
    model, optimizer = trained()
    tree = checkpoint.snapshot(model, optimizer)
    wrong = other()
    before = {name: value.clone() for name, value in wrong.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(tree, wrong, torch.optim.AdamW(wrong.parameters()), source="runs/x.safetensors")
    assert same(before, dict(wrong.state_dict()))


def test_another_optimizer_is_refused_untouched():
    model, optimizer = trained()
    tree = checkpoint.snapshot(model, optimizer)
    wrong = net()
    before = {name: value.clone() for name, value in wrong.state_dict().items()}
    with pytest.raises(ValueError, match="holds the state of AdamW, the optimizer is SGD"):
        checkpoint.restore(tree, wrong, torch.optim.SGD(wrong.parameters(), lr=1))
    groups = torch.optim.AdamW([{"params": wrong[0].parameters()}, {"params": wrong[2].parameters()}])
    with pytest.raises(ValueError, match=r"groups of \[6\] parameters, the optimizer has groups of \[2, 2\]"):
        checkpoint.restore(tree, wrong, groups)
    with pytest.raises(ValueError, match="no optimizer state"):
        checkpoint.restore(checkpoint.snapshot(model), wrong, torch.optim.AdamW(wrong.parameters()))
    assert same(before, dict(wrong.state_dict()))


def test_no_pickle_anywhere(tmp_path, monkeypatch):
    """Not even indirectly: neither writing nor reading a checkpoint may call it."""
    import pickle

    def refuse(*_, **__):
        raise AssertionError("pickled")

    model, optimizer = trained()
    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    path = checkpoint.save(tmp_path / "x.safetensors", checkpoint.snapshot(model, optimizer))
    checkpoint.restore(checkpoint.load(path), model, optimizer)
    assert os.path.getsize(path) > 0
