"""Folders, Ouro-type checkpoints written by the test, and transformers."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from looped_models import config, tangled, tokens
from safetensors.torch import load_file, save_file

from unrolled.looped import LT2, LT2Config

F64 = torch.float64


@pytest.mark.parametrize("pattern", ["interleaved:1:1", "kda,dsa", "gla,nsa,window"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, F64])
def test_a_folder_brings_the_model_back(pattern, dtype, tmp_path):
    model = (
        tangled(LT2(config(pattern, layers=3, tied=False, gate=True, neg_eigval=(True, False))))
        .to(dtype)
        .eval()
    )
    again = LT2.from_pretrained(model.save_pretrained(tmp_path / "model")).eval()
    assert again.config == model.config
    for (a, x), (b, y) in zip(model.state_dict().items(), again.state_dict().items()):
        assert a == b
        assert x.dtype == y.dtype == dtype
        assert torch.equal(x, y)
    assert torch.equal(again(tokens(2, 9)).logits, model(tokens(2, 9)).logits)
    assert all(p.requires_grad for p in again.parameters())
    assert LT2.from_pretrained(tmp_path / "model", dtype=torch.float32, context=99).config.context == 99


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        LT2.from_pretrained(tmp_path)
    LT2(config()).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    weights = load_file(tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"embed.weight.* is \(256, 32\), config.json and changes make it \(9, 32\)"
    ):
        LT2.from_pretrained(tmp_path, vocab_size=9)
    save_file({k: v for k, v in weights.items() if k != "rho"}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing \['rho'\]"):
        LT2.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**values, "model_type": "llama"}))
    with pytest.raises(ValueError, match="model_type 'llama'"):
        LT2.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="pickled weights"):
        LT2.from_pretrained(tmp_path)


# --- Ouro -----------------------------------------------------------------------------------------------------------

OURO = {
    "model_type": "ouro",
    "architectures": ["OuroForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 40,
    "total_ut_steps": 4,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 128,
    "hidden_act": "silu",
    "early_exit_threshold": 1.0,
    "tie_word_embeddings": False,
    "layer_types": ["full_attention"] * 3,
    "sliding_window": None,
    "torch_dtype": "float64",
}


def ouro(folder, **changes):
    """A random checkpoint of that shape, in two shards."""
    values = {**OURO, **changes}
    d, hidden, kv = values["hidden_size"], values["intermediate_size"], 2 * values["head_dim"]
    g = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=g, dtype=F64) * shape[-1] ** -0.5  # noqa: E731
    gain = lambda: 1 + 0.2 * torch.randn(d, generator=g, dtype=F64)  # noqa: E731
    w = {"model.embed_tokens.weight": make(64, d), "lm_head.weight": make(64, d), "model.norm.weight": gain()}
    w |= {"model.early_exit_gate.weight": make(1, d), "model.early_exit_gate.bias": make(1)}
    for i in range(3):
        at = f"model.layers.{i}."
        for name, rows, columns in (
            ("self_attn.q_proj", d, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d), ("self_attn.o_proj", d, d),
            ("mlp.gate_proj", hidden, d), ("mlp.up_proj", hidden, d), ("mlp.down_proj", d, hidden),
        ):  # fmt: skip
            w[f"{at}{name}.weight"] = make(rows, columns)
        for name in (
            "input_layernorm",
            "input_layernorm_2",
            "post_attention_layernorm",
            "post_attention_layernorm_2",
        ):
            w[f"{at}{name}.weight"] = gain()
    names = sorted(w)
    save_file({n: w[n] for n in names[:9]}, folder / "model-00001-of-00002.safetensors")
    save_file({n: w[n] for n in names[9:]}, folder / "model-00002-of-00002.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    return w


def ouro_forward(w, x, loops):
    """Ouro (2510.25741) written out: sandwich norms, the final norm after each loop, an exit gate."""
    norm = lambda h, name: h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w[name + ".weight"]  # noqa: E731
    L, states, gates = x.shape[1], [], []
    rate = 1e6 ** (-torch.arange(0, 6, 2, dtype=F64) / 6)
    angle = torch.outer(torch.arange(L, dtype=F64), rate)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    turn = lambda y: y * cos + torch.cat([-y[..., 3:], y[..., :3]], -1) * sin  # noqa: E731
    h = w["model.embed_tokens.weight"][x]
    for _ in range(loops):
        for i in range(3):
            at = f"model.layers.{i}."
            y = norm(h, at + "input_layernorm")
            q, k, v = (
                (y @ w[f"{at}self_attn.{n}_proj.weight"].T).unflatten(-1, (-1, 6)).transpose(1, 2)
                for n in "qkv"
            )
            q, k = turn(q), turn(k)
            k, v = (z.repeat_interleave(2, 1) for z in (k, v))
            p = (
                (q @ k.mT * 6**-0.5)
                .masked_fill(torch.ones(L, L, dtype=torch.bool).triu(1), -torch.inf)
                .softmax(-1)
            )
            y = (p @ v).transpose(1, 2).flatten(2) @ w[at + "self_attn.o_proj.weight"].T
            h = h + norm(y, at + "input_layernorm_2")
            y = norm(h, at + "post_attention_layernorm")
            y = F.silu(y @ w[at + "mlp.gate_proj.weight"].T) * (y @ w[at + "mlp.up_proj.weight"].T)
            h = h + norm(y @ w[at + "mlp.down_proj.weight"].T, at + "post_attention_layernorm_2")
        h = norm(h, "model.norm")
        states.append(h)
        gates.append(
            torch.sigmoid(h @ w["model.early_exit_gate.weight"].T + w["model.early_exit_gate.bias"])[..., 0]
        )
    return states, h @ w["lm_head.weight"].T, gates


@pytest.mark.parametrize("loops", [1, 4, 6])
def test_an_ouro_checkpoint(loops, tmp_path):
    w = ouro(tmp_path)
    model = LT2.from_pretrained(tmp_path).eval()
    assert model.config.loops == 4
    x = tokens(2, 21) % 64
    states, logits, gates = ouro_forward(w, x, loops)
    out = model(x, loops=loops)
    assert torch.allclose(out.logits, logits, atol=1e-9)
    for a, b in zip(out.hidden_per_loop, states):
        assert torch.allclose(a, b, atol=1e-9)
    p, left = model.exit_distribution(out), 1.0
    for t in range(loops):
        expected = left * gates[t] if t + 1 < loops else left * torch.ones_like(gates[t])
        assert torch.allclose(p[t].double(), expected, atol=1e-5)
        left = left * (1 - gates[t])
    assert torch.allclose(p.sum(0), torch.ones(()))
    made = model.generate(x, 9, temperature=0, loops=loops)
    again = x
    for _ in range(9):
        again = torch.cat([again, model(again, loops=loops).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(made.tokens, again)


def test_an_ouro_checkpoint_becomes_a_folder_of_ours(tmp_path):
    (tmp_path / "ouro").mkdir()
    ouro(tmp_path / "ouro", tie_word_embeddings=False)
    model = LT2.from_pretrained(tmp_path / "ouro")
    again = LT2.from_pretrained(model.save_pretrained(tmp_path / "ours"))
    assert torch.equal(model(tokens(1, 5) % 64).logits, again(tokens(1, 5) % 64).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"rope_type": "yarn"}}, "scaled rotary positions"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding windows"),
        ({"hidden_act": "gelu"}, "only SiLU"),
    ],
)
def test_ouro_asks_for_what_is_not_here(changes, message, tmp_path):
    ouro(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        LT2.from_pretrained(tmp_path)


def test_a_model_without_a_gate_says_so():
    model = LT2(config())
    with pytest.raises(ValueError, match="no exit gate"):
        model.exit_distribution(model(tokens(1, 3)))


def test_another_model_under_ouros_name(tmp_path):
    w = ouro(tmp_path)
    save_file(
        {**w, "model.layers.0.self_attn.q_norm.weight": torch.ones(6)},
        tmp_path / "model-00001-of-00002.safetensors",
    )
    with pytest.raises(ValueError, match=r"Ouro has no model.layers.0.self_attn.q_norm.weight"):
        LT2.from_pretrained(tmp_path)


# --- transformers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hf():
    pytest.importorskip("transformers")
    from unrolled.looped.interop import hf

    return hf


def wrapped(hf, **changes):
    model = tangled(LT2(config("gated_delta,full,window", layers=3, loops=2, **changes))).double().eval()
    return model, hf.LT2ForCausalLM.of(model).eval()


def test_transformers_generate_greedily_is_ours(hf):
    model, other = wrapped(hf)
    x = tokens(2, 11)
    ours = model.generate(x, 13, temperature=0).tokens
    theirs = other.generate(x, max_new_tokens=13, do_sample=False, pad_token_id=0)
    assert torch.equal(ours, theirs)
    assert torch.equal(
        other.generate(x, max_new_tokens=13, do_sample=False, pad_token_id=0, use_cache=False), ours
    )


def test_transformers_generate_with_left_padding_and_beams(hf):
    model, other = wrapped(hf)
    rows = [tokens(n, seed=n) for n in (9, 4)]
    x, mask = torch.zeros(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long)
    for i, row in enumerate(rows):
        x[i, 9 - len(row) :], mask[i, 9 - len(row) :] = row, 1
    theirs = other.generate(x, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    beams = other.generate(
        x, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0, num_beams=3
    )
    for i, row in enumerate(rows):
        assert torch.equal(theirs[i, 9:], model.generate(row[None], 8, temperature=0).tokens[0, len(row) :])
        assert torch.equal(beams[i, 9:], model.generate(row[None], 8, beams=3).tokens[0, len(row) :])


def test_transformers_forward_and_loss(hf):
    model, other = wrapped(hf)
    x = tokens(2, 12)
    out = other(input_ids=x, labels=x, output_hidden_states=True)
    assert torch.allclose(out.logits, model(x).logits)
    expected = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), x[:, 1:].flatten())
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert len(out.hidden_states) == 2
    assert other(input_ids=x, logits_to_keep=1).logits.shape[1] == 1
    assert torch.allclose(other(inputs_embeds=model.embed(x)).logits, out.logits)


def test_transformers_reads_our_folders_and_we_read_theirs(hf, tmp_path):
    from transformers import AutoModelForCausalLM

    model, other = wrapped(hf)
    model.save_pretrained(tmp_path / "ours")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=F64).eval()
    x = tokens(1, 9)
    assert torch.equal(theirs(input_ids=x).logits, model(x).logits)
    other.save_pretrained(tmp_path / "theirs")
    assert torch.equal(LT2.from_pretrained(tmp_path / "theirs").eval()(x).logits, model(x).logits)


def test_a_cpu_without_triton_imports_without_a_warning():
    script = "import sys; sys.modules['triton'] = None\nimport torch\nfrom unrolled.looped import LT2, LT2Config, ops, mixers\n"
    script += "m = LT2(LT2Config.preset('tiny', pattern='gated_delta,kda,full')); m(torch.zeros(1, 9, dtype=torch.long)).logits.sum().backward()"
    made = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""


def test_presets_are_configurations():
    for name in ("tiny", "small", "600m", "1.3b"):
        assert LT2Config.from_dict(LT2Config.preset(name).to_dict()) == LT2Config.preset(name)
