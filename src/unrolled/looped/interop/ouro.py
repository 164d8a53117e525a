"""Ouro's checkpoints (2510.25741) as looped models: softmax attention, sandwich norms, the final norm after every loop.

What differs from LT2 is configuration: `sandwich`, `loop_norm`, no rho, `exit_gate`. Ouro's early exit is off in its own
generation (threshold 1.0); here the gate's reading is `LT2.exit_distribution`.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unrolled.looped.config import LT2Config

LAYER = {
    "self_attn.q_proj": "mixer.q",
    "self_attn.k_proj": "mixer.k",
    "self_attn.v_proj": "mixer.v",
    "self_attn.o_proj": "mixer.o",
    "mlp.gate_proj": "ffn.gate",
    "mlp.up_proj": "ffn.up",
    "mlp.down_proj": "ffn.down",
    "input_layernorm": "norm1",
    "input_layernorm_2": "after1",
    "post_attention_layernorm": "norm2",
    "post_attention_layernorm_2": "after2",
}
"""Ouro's names within a layer, and ours."""
OUTER = {
    "model.embed_tokens.weight": "embed.weight",
    "model.norm.weight": "norm.weight",
    "model.early_exit_gate.weight": "exit.weight",
    "model.early_exit_gate.bias": "exit.bias",
    "lm_head.weight": "head.weight",
}


def config(values: Mapping[str, Any]) -> LT2Config:
    """Ouro's config.json as a configuration.

    Raises:
        ValueError: a field is missing, or asks for what is not here (scaled positions, sliding windows, another activation).

    Example:
        >>> small = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> made = config({**small, "intermediate_size": 24, "total_ut_steps": 3, "rope_theta": 1e6})
        >>> made.loops, made.sandwich, made.loop_norm, made.rope_base
        (3, True, True, 1000000.0)
    """
    needed = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"Ouro's config.json lacks {', '.join(missing)}")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ValueError(f"scaled rotary positions are not supported: rope {rope}")
    kinds = set(values.get("layer_types") or [])
    if kinds - {"full_attention"} or (values.get("sliding_window") and values.get("use_sliding_window")):
        raise ValueError(f"Ouro with sliding windows is not supported: layer_types {sorted(kinds)}")
    if values.get("hidden_act", "silu") != "silu" or values.get("attention_bias"):
        raise ValueError("only SiLU and attention without bias are supported, as in Ouro's published models")
    heads = values["num_attention_heads"]
    return LT2Config(
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        layers=values["num_hidden_layers"],
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or values["hidden_size"] // heads,
        hidden=values["intermediate_size"],
        loops=values.get("total_ut_steps", 4),
        pattern="full",
        context=values.get("max_position_embeddings", 65_536),
        rope_base=float(values.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        norm_eps=values.get("rms_norm_eps", 1e-6),
        tied=bool(values.get("tie_word_embeddings", False)),
        residual=False,
        sandwich=True,
        loop_norm=True,
        exit_gate=True,
    )


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ouro's names to ours.

    Raises:
        ValueError: names that Ouro does not have.
    """
    made, unknown = dict[str, Tensor](), list[str]()
    for name, value in weights.items():
        layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        if name in OUTER:
            made[OUTER[name]] = value
        elif layer and layer[2] in LAYER:
            made[f"blocks.{layer[1]}.{LAYER[layer[2]]}.weight"] = value
        elif not name.endswith("rotary_emb.inv_freq"):
            unknown.append(name)
    if unknown:
        raise ValueError(f"Ouro has no {', '.join(unknown[:5])}: is this checkpoint of another kind?")
    return made
