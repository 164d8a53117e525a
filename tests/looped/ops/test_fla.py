"""The kernels of flash-linear-attention: a stand-in for them here, the real ones where there is a GPU."""

import inspect
import sys
import types

import pytest
import torch
from op_cases import MIXERS, arguments, call, gradients, worst

from unrolled.looped import ops
from unrolled.looped.ops import _fla

each_mixer = pytest.mark.parametrize("mixer", MIXERS)
KERNEL = {
    "linear": "chunk_linear_attn",
    "retnet": "chunk_simple_gla",
    "mamba2": "chunk_simple_gla",
    "gla": "chunk_gla",
    "hgrn2": "chunk_gla",
    "deltanet": "chunk_delta_rule",
    "gated_delta": "chunk_gated_delta_rule",
    "kda": "chunk_kda",
}
SIGNATURES = {  # of fla 0.6.0, as far as these are used; normalize's default was True once
    "chunk_linear_attn": "q k v scale initial_state output_final_state normalize",
    "chunk_simple_gla": "q k v g scale initial_state output_final_state",
    "chunk_gla": "q k v g scale initial_state output_final_state",
    "chunk_delta_rule": "q k v beta scale initial_state output_final_state",
    "chunk_gated_delta_rule": "q k v g beta scale initial_state output_final_state",
    "chunk_kda": "q k v g beta scale initial_state output_final_state",
}
STANDS_FOR = {
    "chunk_linear_attn": "linear",
    "chunk_simple_gla": "mamba2",
    "chunk_gla": "gla",
    "chunk_delta_rule": "deltanet",
    "chunk_gated_delta_rule": "gated_delta",
    "chunk_kda": "kda",
}


@pytest.fixture
def fake(monkeypatch):
    """fla's six functions, on this machine's CPU, made of the recurrences; the names of those called."""
    called = []

    def make(name):
        def kernel(q, k, v, *, scale, initial_state, output_final_state, normalize=False, **gates):
            assert q.dtype == k.dtype == v.dtype != torch.float32
            assert initial_state.dtype == torch.float32
            assert output_final_state
            assert not normalize
            assert scale == q.shape[-1] ** -0.5
            given = {"q", "k", "v", "scale", "initial_state", "output_final_state", *gates}
            assert given == set(SIGNATURES[name].split()) - {"normalize"}
            called.append(name)
            return getattr(ops, STANDS_FOR[name]).recurrent(q, k, v, **gates, state=initial_state)

        return kernel

    monkeypatch.setitem(sys.modules, "fla", types.ModuleType("fla"))
    monkeypatch.setitem(sys.modules, "fla.ops", types.ModuleType("fla.ops"))
    for module, name in _fla.KERNELS.values():
        fakes = types.ModuleType(f"fla.ops.{module}")
        setattr(fakes, name, make(name))
        monkeypatch.setitem(sys.modules, f"fla.ops.{module}", fakes)
    monkeypatch.setattr(_fla, "INSTALLED", True)
    monkeypatch.setattr(_fla, "DEVICES", {"cpu", "cuda"})
    return called


@each_mixer
def test_each_mixer_finds_its_kernel(mixer, fake):
    args = arguments(mixer, L=20, gate=0.1, dtype=torch.bfloat16)
    args["state"] = args["state"].float()
    o, state = call(mixer, "chunk", args)
    assert fake == [KERNEL[mixer]]
    expected, last = call(mixer, "chunk", args, implementation="torch")
    assert o.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    torch.testing.assert_close(
        o, expected, rtol=0.02, atol=0.02
    )  # HGRN2's key is rounded to bfloat16 on the way
    torch.testing.assert_close(state, last, rtol=0.02, atol=0.02)


@each_mixer
def test_masks_reach_the_kernel_as_zeros(mixer, fake):
    args = arguments(mixer, L=20, gate=0.1, dtype=torch.bfloat16) | {"state": None}
    mask = torch.rand(2, 20, generator=torch.Generator().manual_seed(0)) > 0.3
    o, _ = call(mixer, "chunk", args, mask=mask)
    assert fake == [KERNEL[mixer]]
    assert not o[~mask].any()


def test_what_the_kernels_cannot_do_is_done_here(fake):
    args = arguments("gated_delta", dtype=torch.float32)
    call("gated_delta", "chunk", args)
    narrow = {n: x.bfloat16() for n, x in args.items()} | {"state": None}
    call("gated_delta", "chunk", narrow, reset=torch.zeros(2, 11, dtype=torch.bool))
    call("gated_delta", "chunk", narrow, implementation="torch")
    call("gated_delta", "recurrent", narrow)
    call("gated_delta", "chunk", {n: x if x is None else x[:0] for n, x in narrow.items()})
    assert fake == []


def test_the_choice_says_why(monkeypatch):
    assert ops.implementation("cpu", torch.bfloat16).reason.startswith("tensors are on cpu")
    assert ops.implementation("cuda", torch.bfloat16, wanted="torch") == ("torch", "asked for")
    monkeypatch.setattr(_fla, "INSTALLED", False)
    assert "not installed: pip install" in ops.implementation("cuda:1", torch.bfloat16).reason
    monkeypatch.setattr(_fla, "INSTALLED", True)
    assert ops.implementation("cuda", torch.bfloat16) == ("fla", "CUDA, half precision, installed")
    assert "want bfloat16" in ops.implementation("cuda", torch.float32).reason
    assert "start inside a row" in ops.implementation("cuda", torch.float16, reset=True).reason
    with pytest.raises(RuntimeError, match='implementation="fla" cannot run: tensors are on cpu'):
        call("gla", "chunk", arguments("gla"), implementation="fla")
    with pytest.raises(ValueError, match="implementation is 'triton'; expected"):
        call("gla", "chunk", arguments("gla"), implementation="triton")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the real kernels need a GPU")
@each_mixer
def test_the_real_kernels(mixer):
    pytest.importorskip("fla")
    module, name = next(k for k in _fla.KERNELS.values() if k[1] == KERNEL[mixer])
    kernel = getattr(__import__(f"fla.ops.{module}", fromlist=[name]), name)
    assert set(SIGNATURES[name].split()) <= set(inspect.signature(kernel).parameters)
    args = arguments(mixer, B=2, L=300, H=4, dk=64, dv=64, gate=0.1, beta=1.0, dtype=torch.bfloat16)
    args = {n: x.cuda() for n, x in args.items()} | {"state": args["state"].float().cuda()}
    found = gradients(mixer, "chunk", args, implementation="fla")
    expected = gradients(mixer, "chunk", args, implementation="torch")
    assert worst(found, expected) < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_mixer
def test_the_same_numbers_on_a_gpu(mixer):
    args = arguments(mixer, L=200)
    expected = gradients(mixer, "chunk", args)
    found = gradients(mixer, "chunk", {n: x.cuda() for n, x in args.items()})
    assert worst({n: x.cpu() for n, x in found.items()}, expected) < 1e-11
