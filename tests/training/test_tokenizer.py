import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unrolled.training.tokenizer import ByteTokenizer


@given(st.text())
def test_any_text_comes_back(text):
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int64
    assert tokenizer.decode(tokens) == text
    assert tokens.tolist() == list(text.encode())


def test_every_byte_is_a_token():
    raw = bytes(range(256))
    assert ByteTokenizer().encode(raw).tolist() == list(raw)


def test_specials_do_not_arise_from_text():
    tokenizer = ByteTokenizer(("<a>", "<b>"))
    assert tokenizer.vocab == 258
    assert tokenizer.encode("<a>").tolist() == [60, 97, 62]
    assert tokenizer.decode([257, 104, 105, 256]) == "<b>hi<a>"
    with pytest.raises(ValueError, match="distinct"):
        ByteTokenizer(("x", "x"))


def test_cut_characters_and_bad_input():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([195]) == "�"
    with pytest.raises(ValueError, match="token 256 is outside"):
        tokenizer.decode([256])
    with pytest.raises(ValueError, match="surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(TypeError, match="int"):
        tokenizer.encode(3)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        tokenizer.decode(torch.zeros(2, 3))
