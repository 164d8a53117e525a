"""Text in and out of a looped model: bytes, or any file of Hugging Face's `tokenizers`; decoding token by token.

>>> words = tokenizer()
>>> stream = Stream(words)
>>> [stream.push(token) for token in words.encode("né").tolist()]  # é is two bytes: it appears with the second
['n', '', 'é']
"""

import codecs
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require
from unrolled.training.tokenizer import ByteTokenizer

_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")


class FileTokenizer:
    """A tokenizer.json of Hugging Face's `tokenizers`, with the face of `ByteTokenizer`.

    Args:
        path: the file, or a folder that holds a tokenizer.json.

    Attributes:
        vocab: tokens there are, added ones included.
        end: the token that ends a document, where the file has one of the usual names for it; else None.

    Raises:
        ImportError: `tokenizers` is not installed (extra `hf`).
        FileNotFoundError: no such file.
        ValueError: the file is no tokenizer.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        file = Path(path).expanduser()
        file = file / "tokenizer.json" if file.is_dir() else file
        if not file.is_file():
            raise FileNotFoundError(
                f"no tokenizer at {file}: pass the tokenizer.json of a Hugging Face model"
            )
        library = require("tokenizers", extra="hf")
        try:
            self._inner: Any = library.Tokenizer.from_file(str(file))
        except Exception as error:  # its own exceptions share no other base
            raise ValueError(f"{file} is no file of Hugging Face's tokenizers: {error}") from error
        self.path = file
        self.vocab = self._inner.get_vocab_size(with_added_tokens=True)
        known = self._inner.get_vocab(with_added_tokens=True)
        self.vocab = max(self.vocab, 1 + max(known.values(), default=0))
        self.end: int | None = next((known[name] for name in _ENDS if name in known), None)

    def encode(self, text: str) -> Tensor:
        """`[n]` int64 tokens of a text, without special ones."""
        return torch.tensor(self._inner.encode(text, add_special_tokens=False).ids, dtype=torch.int64)

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of a row of tokens; special ones are left out."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        return self._inner.decode(ids, skip_special_tokens=True)


Tokenizer = ByteTokenizer | FileTokenizer


def tokenizer(path: str | os.PathLike[str] | None = None) -> Tokenizer:
    """Bytes, or the tokenizer of a file.

    Example:
        >>> tokenizer().vocab
        256
    """
    return ByteTokenizer() if path is None else FileTokenizer(path)


class Stream:
    """Decodes tokens as they come: `push` gives the text that has become certain, `end` what is left.

    Args:
        words: the tokenizer.
    """

    def __init__(self, words: Tokenizer) -> None:
        self._words = words
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []
        self._before = self._read = 0

    def push(self, token: int) -> str:
        """The text that a token completes; empty in mid-character."""
        if isinstance(self._words, ByteTokenizer):
            if token < 256:
                return self._bytes.decode(bytes([token]))
            return self._bytes.decode(b"", final=True) + self._words.decode([token])
        # A token's text may depend on the one before it (spaces, split characters), so each is decoded behind what was
        # shown last, and the difference is new.
        self._ids.append(token)
        new = self._new()
        if not new or new.endswith("\ufffd"):
            return ""
        self._before, self._read = self._read, len(self._ids)
        return new

    def end(self) -> str:
        """What an unfinished character comes to."""
        return self._bytes.decode(b"", final=True) if isinstance(self._words, ByteTokenizer) else self._new()

    def _new(self) -> str:
        shown = self._words.decode(self._ids[self._before : self._read])
        return self._words.decode(self._ids[self._before :])[len(shown) :]
