"""Scopes and groups: a partition, whatever the model."""

import pytest
import torch
from torch import nn

from unrolled.instruments.curvature.groups import block_of, in_scope, partition, trainable, unwrapped


def test_default_groups_of_a_gpt(gpt):
    model = gpt(tied=False)
    names = in_scope(model)
    labels, blocks = partition(model, names)
    assert labels == ("embed", "blocks.0", "blocks.1", "other", "head")
    assert len(blocks) == len(names)
    assert {name for name, b in zip(names, blocks) if labels[b] == "other"} == {"norm.weight", "norm.bias"}


def test_tied_weight_is_listed_once(gpt):
    names = list(trainable(gpt()))
    assert "embed.weight" in names
    assert "head.weight" not in names


def test_matrix_scope(gpt):
    names = in_scope(gpt(tied=False), "matrix")
    assert len(names) == 8
    assert all(
        name.startswith("blocks.") and name.endswith("weight") and "norm" not in name for name in names
    )
    flat = nn.ModuleDict({"tok_emb": nn.Linear(3, 3), "mix": nn.Linear(3, 3), "lm_head": nn.Linear(3, 3)})
    assert in_scope(flat, "matrix") == ["mix.weight"]
    inside = nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))
    assert in_scope(inside, "matrix") == ["1.weight"]


def test_encoder_and_decoder_blocks_stay_apart():
    assert block_of("encoder.layers.0.fc.weight") == "encoder.layers.0"
    assert block_of("decoder.layers.0.fc.weight") == "decoder.layers.0"
    assert block_of("conv1.weight") is None
    assert block_of("list.0") is None  # a ParameterList entry is a parameter, not a block


def test_groups_by_expression_function_and_rest(gpt):
    model = gpt()
    names = in_scope(model)
    labels, _ = partition(model, names, {"qkv": r"qkv", "ffn": r"up|down"})
    assert set(labels) == {"qkv", "ffn", "other"}
    labels, blocks = partition(model, names, lambda name: name.split(".")[-1])
    assert set(labels) == {"weight", "bias"}
    assert len(blocks) == len(names)


@pytest.mark.parametrize(
    ("groups", "error", "match"),
    [
        ({"a": "blocks", "b": r"weight"}, ValueError, "overlap"),
        ({"a": "xyz"}, ValueError, "matches none"),
        ({"a": "["}, ValueError, "not a regular expression"),
        ({"a": 3}, TypeError, "int"),
    ],
)
def test_bad_groups(groups, error, match, gpt):
    with pytest.raises(error, match=match):
        partition(gpt(), in_scope(gpt()), groups)


def test_a_group_outside_the_scope_is_no_error(gpt):
    model = gpt()
    labels, _ = partition(
        model, in_scope(model, "matrix"), {"norms": "norm", "rest": r"(qkv|out|up|down)\.weight"}
    )
    assert labels == ("rest",)


def test_wrappers_are_looked_through(gpt):
    model = gpt()
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(nn.DataParallel(model)) is model
    assert unwrapped(model) is model
