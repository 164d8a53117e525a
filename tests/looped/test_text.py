"""Tokenizers of files, and decoding token by token."""

import pytest
import torch

from unrolled.looped import text

TEXTS = ["def f(x):\n    return  x + 1\n", "naïve Grüße, 東京 🙂!", " leading", "", "a\n\n  b"]


def build(kind, path):
    library = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, trainers

    model = library.Tokenizer(models.BPE(byte_fallback=kind == "metaspace", unk_token=None))
    if kind == "byte-level":
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        model.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace(prepend_scheme="never")]
        )
        alphabet = sorted({c for t in TEXTS for c in t.replace(" ", "▁")})
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(TEXTS * 3, trainer)
    model.save(str(path))
    return path


@pytest.mark.parametrize("kind", [None, "byte-level", "metaspace"])
@pytest.mark.parametrize("said", TEXTS)
def test_streaming_gives_the_text(kind, said, tmp_path):
    words = text.tokenizer(None if kind is None else build(kind, tmp_path / "tokenizer.json"))
    tokens = words.encode(said)
    assert tokens.dtype == torch.int64
    assert words.decode(tokens) == said
    stream = text.Stream(words)
    pieces = [stream.push(token) for token in tokens.tolist()]
    assert "".join(pieces) + stream.end() == said
    assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_character_at_the_end():
    stream = text.Stream(text.tokenizer())
    assert stream.push(0xC3) == ""
    assert stream.end() == "\ufffd"


def test_a_file_knows_its_size_and_its_end(tmp_path):
    build("byte-level", tmp_path / "tokenizer.json")
    words = text.tokenizer(tmp_path)
    assert isinstance(words, text.FileTokenizer)
    assert words.end == 0
    assert words.encode("return").max() < words.vocab
    assert words.decode([0, *words.encode("x").tolist()]) == "x"


def test_what_is_no_tokenizer(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(FileNotFoundError, match=r"pass the tokenizer\.json"):
        text.tokenizer(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json is no file"):
        text.tokenizer(tmp_path / "bad.json")
