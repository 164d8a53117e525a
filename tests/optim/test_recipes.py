import re

import pytest
import torch

from unrolled.optim import recipes
from unrolled.training.gpt import GPT, GPTConfig


def named(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def chosen(layouts: dict[str, recipes.Layout | None]) -> set[str]:
    return {name for name, layout in layouts.items() if layout is not None}


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("Q", ["blocks.0.attn.q.weight", "model.layers.3.self_attn.q_proj.weight", "layers.0.attention.wq.weight",
               "encoder.layer.0.attention.self.query.weight", "attn1.to_q.weight", "blocks[0].q"]),
        ("K", ["blocks.0.attn.k.weight", "model.layers.3.self_attn.k_proj.weight", "layers.0.attention.wk.weight",
               "encoder.layer.0.attention.self.key.weight"]),
        ("V", ["blocks.0.attn.v.weight", "h.0.attn.v_proj.weight", "encoder.layer.0.attention.self.value.weight"]),
        ("O", ["blocks.0.attn.o.weight", "self_attn.o_proj.weight", "layers.0.attention.wo.weight", "self_attn.out_proj.weight",
               "transformer.h.0.attn.c_proj.weight", "encoder.layer.0.attention.output.dense.weight", "attn1.to_out.0.weight",
               "blocks.0.attn.proj.weight"]),
        ("QKV", ["transformer.h.0.attn.c_attn.weight", "blocks.0.attn.qkv.weight", "self_attn.in_proj_weight",
                 "transformer.blocks.0.attn.Wqkv.weight"]),
        ("KV", ["attn.kv_proj.weight"]),
        ("interleaved", ["gpt_neox.layers.0.attention.query_key_value.weight"]),
        ("FFN", ["blocks.0.ffn.up.weight", "transformer.h.0.mlp.c_fc.weight", "transformer.h.0.mlp.c_proj.weight",
                 "model.layers.0.mlp.gate_proj.weight", "layers.0.feed_forward.w2.weight", "layers.0.linear1.weight",
                 "encoder.layer.0.intermediate.dense.weight", "encoder.layer.0.output.dense.weight",
                 "block_sparse_moe.experts.3.w1.weight", "ff.net.0.proj.weight", "mlp.experts.gate_up_proj"]),
        ("embedding", ["embed.weight", "transformer.wte.weight", "transformer.wpe.weight", "model.embed_tokens.weight",
                       "bert.embeddings.position_embeddings.weight", "tok_embeddings.weight"]),
        ("head", ["lm_head.weight", "head.weight", "classifier.weight", "output.weight", "fc.weight", "embed_out.weight"]),
        ("other", ["layer1.0.conv1.weight", "w", "", "backbone.layers.0.mixer.in_proj.weight", "attn.norm.weight"]),
    ],
)  # fmt: skip
def test_roles_of_names_in_the_wild(role: str, names: list[str]) -> None:
    assert {name: recipes.role(name) for name in names} == dict.fromkeys(names, role)


def test_wrappers_do_not_hide_a_role() -> None:
    assert recipes.role("module._orig_mod.blocks.0.attn.q.weight") == "Q"


def test_recipes_on_our_gpt() -> None:
    model = named(GPT(GPTConfig(layers=2, heads=2, width=8, context=8)))
    blocks = {name for name in model if ".attn." in name or ".ffn." in name}
    pick = {letter: {n for n in blocks if f".attn.{letter}." in n} for letter in "qkvo"}
    ffn = {n for n in blocks if ".ffn." in n}
    assert chosen(recipes.assign(model, "all")) == blocks
    assert chosen(recipes.assign(model, "VO")) == pick["v"] | pick["o"]
    assert chosen(recipes.assign(model, "QK")) == pick["q"] | pick["k"]
    assert chosen(recipes.assign(model, "FFN")) == ffn
    assert chosen(recipes.assign(model, "VO+FFN")) == ffn | pick["v"] | pick["o"]
    assert len(blocks) == 2 * 6


def test_torch_transformer_layer() -> None:
    model = named(torch.nn.TransformerEncoderLayer(8, 2, dim_feedforward=16))
    assert chosen(recipes.assign(model, "FFN")) == {"linear1.weight", "linear2.weight"}
    layouts = recipes.assign(model, "VO")
    assert chosen(layouts) == {"self_attn.in_proj_weight", "self_attn.out_proj.weight"}
    assert layouts["self_attn.in_proj_weight"] == (
        (0, 0, 8, 1, False),
        (0, 8, 8, 1, False),
        (0, 16, 8, 1, True),
    )


def test_regular_expression_and_function() -> None:
    model = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2), "b.bias": torch.ones(2)}
    assert chosen(recipes.assign(model, re.compile(r"^a\."))) == {"a.weight"}
    assert chosen(recipes.assign(model, lambda name, p: p.ndim == 2 and name[0] == "b")) == {"b.weight"}
    assert chosen(recipes.assign({"embed.weight": torch.ones(2, 2)}, re.compile("embed"))) == {"embed.weight"}


def test_embeddings_known_by_type_are_left_out_whatever_their_name() -> None:
    model = {"table.weight": torch.ones(9, 2), "up.weight": torch.ones(2, 2)}
    assert chosen(recipes.assign(model)) == {"table.weight", "up.weight"}
    assert chosen(recipes.assign(model, embeddings=frozenset({"table.weight"}))) == {"up.weight"}


@pytest.mark.parametrize("layout", [
    ((0, 0, 6, 1, True),), ((0, 0, 6, 3, True),), ((0, 0, 2, 1, True), (0, 2, 2, 2, True), (0, 4, 2, 1, True)),
    ((1, 0, 2, 1, True), (1, 2, 2, 1, True)), ((1, 0, 4, 2, True),),
])  # fmt: skip
def test_cutting_and_assembling_are_inverse(layout: recipes.Layout) -> None:
    x = torch.arange(24.0).reshape(6, 4)
    parts = recipes.matrices(x, layout)
    assert torch.equal(recipes.assemble(parts, layout, x), x)
    assert sum(part.numel() for part in parts) == 24


@pytest.mark.parametrize("axis", [0, 1])
def test_partly_chosen_parameter(axis: int) -> None:
    x = torch.arange(1.0, 25.0).reshape(6, 4) if axis == 0 else torch.arange(1.0, 25.0).reshape(4, 6)
    layout: recipes.Layout = ((axis, 0, 2, 1, False), (axis, 2, 2, 1, False), (axis, 4, 2, 1, True))
    mask = recipes.muon_mask(layout, x)
    assert mask.sum() == 8
    assert torch.equal(recipes.assemble(recipes.matrices(x, layout), layout, x), x * mask)
    assert mask.select(axis, 5).all()
    assert not mask.select(axis, 3).any()


def test_mask_of_a_partly_chosen_parameter_with_more_axes() -> None:
    x = torch.ones(6, 2, 2)
    mask = recipes.muon_mask(((0, 0, 4, 1, False), (0, 4, 2, 1, True)), x)
    assert mask.shape == x.shape
    assert mask[4:].all()
    assert not mask[:4].any()


def test_transposed_fused_projection_of_gpt2() -> None:
    name = "transformer.h.0.attn.c_attn.weight"
    layout = recipes.assign({name: torch.ones(4, 12)}, "QK")[name]
    assert layout == ((1, 0, 4, 1, True), (1, 4, 4, 1, True), (1, 8, 4, 1, False))


def test_grouped_query_sizes_and_heads() -> None:
    name = "attn.qkv_proj.weight"
    layouts = recipes.assign({name: torch.ones(16, 8)}, fused=(8, 4, 4), head_size=2)
    assert layouts[name] == ((0, 0, 8, 4, True), (0, 8, 4, 2, True), (0, 12, 4, 2, True))
    kv = recipes.assign({"attn.kv_proj.weight": torch.ones(8, 8)}, "VO", fused=(8, 4, 4))
    assert kv["attn.kv_proj.weight"] == ((0, 0, 4, 1, False), (0, 4, 4, 1, True))


def test_heads_split_queries_keys_and_values_but_not_outputs() -> None:
    model = named(GPT(GPTConfig(layers=1, heads=2, width=8, context=8)))
    layouts = recipes.assign(model, head_size=4)
    assert layouts["blocks.0.attn.q.weight"] == ((0, 0, 8, 2, True),)
    assert layouts["blocks.0.attn.o.weight"] == ((0, 0, 8, 1, True),)


def test_interleaved_heads_are_whole_or_by_head_or_refused() -> None:
    name = "layers.0.attention.query_key_value.weight"
    model = {name: torch.ones(12, 4), "mlp.up": torch.ones(4, 4)}
    assert recipes.assign(model)[name] == ((0, 0, 12, 1, True),)
    assert recipes.assign(model, head_size=2)[name] == ((0, 0, 12, 6, True),)
    assert recipes.assign(model, "FFN")[name] is None
    with pytest.raises(ValueError, match=r"query_key_value.*wants only V"):
        recipes.assign(model, "VO")
    with pytest.raises(ValueError, match=r"wants only K/Q"):
        recipes.assign({"attn.qkv.weight": torch.ones(12, 4)}, "QK", fused="whole")


def test_bad_input() -> None:
    matrix = {"attn.qkv.weight": torch.ones(12, 4)}
    with pytest.raises(ValueError, match="'OV'.*choose one of VO.*did you mean 'VO'.*re.compile"):
        recipes.assign(matrix, "OV")
    with pytest.raises(ValueError, match=r"'FFN' gives no matrix.*attn.qkv.weight \(QKV\)"):
        recipes.assign(matrix, "FFN")
    with pytest.raises(ValueError, match=r"'bias' of shape \(4,\)"):
        recipes.assign({"bias": torch.ones(4)}, re.compile("bias"))
    with pytest.raises(ValueError, match="recipe is a name"):
        recipes.assign(matrix, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"neither axis divides into 3: give the sizes, fused=\(q, k, v\)"):
        recipes.assign({"attn.qkv.weight": torch.ones(10, 4)})
    with pytest.raises(ValueError, match=r"fused=\(4, 4, 5\) does not add up"):
        recipes.assign(matrix, fused=(4, 4, 5))
    with pytest.raises(ValueError, match="fused is 'split'"):
        recipes.assign(matrix, fused="thirds")
    with pytest.raises(ValueError, match="4 rows do not divide into heads of head_size=3"):
        recipes.assign(matrix, head_size=3)
    with pytest.raises(ValueError, match="head_size counts"):
        recipes.assign(matrix, head_size=0)
    assert recipes.assign({}) == {}
