"""Marker tokens in a tokenizer of Hugging Face, and the text format."""

import pytest
import torch
from tests.latent.conftest import gpt2, llama

from unrolled.latent import Problem, Thinker, add_markers
from unrolled.latent.text import MARKERS, Text


@pytest.fixture
def tokenizer():
    """Words at white space; "<<" has a token of its own."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["<unk>", "<eos>", "<<", "###", "one", "two", "Say"]
    model = tokenizers.models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<eos>")


@pytest.mark.parametrize("make", [gpt2, llama], ids=["tied", "untied"])
def test_markers_begin_as_another_token(tokenizer, make):
    model = make(len(tokenizer))
    before = model.get_input_embeddings().weight.detach().clone()
    out = model.get_output_embeddings().weight.detach()[2].clone()
    with pytest.raises(ValueError, match="lacks the marker token"):
        Thinker(model, tokenizer)
    add_markers(model, tokenizer)
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert table.shape[0] == head.shape[0] == len(tokenizer) == 10
    torch.testing.assert_close(table[:7], before)
    for marker in MARKERS:
        [token] = tokenizer.encode(marker, add_special_tokens=False)
        torch.testing.assert_close(table[token], before[2])
        torch.testing.assert_close(head[token], out)
    again = table.detach().clone()
    add_markers(model, tokenizer)
    assert torch.equal(table, again), "markers that are there stay as they are"
    thinker = Thinker(model, tokenizer, "coconut", c=1, stages=1)
    assert thinker.generate("Say one", 1, max_new_tokens=2)[0].thoughts == 1
    assert float(thinker.loss([Problem("Say one", ("two",), "one")])[0]) > 0


def test_what_is_supervised(tokenizer):
    """Steps, answer and end; not the question, not the markers (2412.06769, dataset.py)."""
    add_markers(gpt2(len(tokenizer)), tokenizer)
    text = Text(tokenizer, markers=True)
    row = text.example(Problem("Say one", ("two two",), "one"), 3, ("two two",), markers=True)
    assert row.question == (6, 4, text.start)
    assert row.tail == (text.end, 5, 5, 3, 4, 1)
    assert row.labels == (-100, 5, 5, 3, 4, 1)
