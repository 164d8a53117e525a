"""The byte tokenizer: UTF-8 bytes are the tokens, so there is nothing to train, download or disagree about."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class ByteTokenizer:
    """Text to bytes and back; special tokens, if any, follow from 256 on.

    Args:
        specials: names of special tokens, e.g. `("<end>",)`. They never arise from text: `encode("<end>")` gives five
            ordinary bytes. Use `tokenizer.special["<end>"]`.

    Raises:
        ValueError: a name is empty or given twice.

    Example:
        >>> tokenizer = ByteTokenizer(("<end>",))
        >>> tokens = tokenizer.encode("né")
        >>> tokens.tolist(), tokenizer.vocab, tokenizer.special
        ([110, 195, 169], 257, {'<end>': 256})
        >>> tokenizer.decode([*tokens, 256])
        'né<end>'
    """

    def __init__(self, specials: Sequence[str] = ()) -> None:
        if len(set(specials)) != len(specials) or not all(specials):
            raise ValueError(f"special tokens need distinct names that are not empty, got {list(specials)}")
        self.special = {name: 256 + i for i, name in enumerate(specials)}
        self.vocab = 256 + len(specials)
        self._names = list(specials)

    def encode(self, text: str | bytes) -> Tensor:
        """`[n]` int64 tokens of a text, or of raw bytes.

        Raises:
            TypeError: neither text nor bytes.
            ValueError: the text holds half a surrogate pair, which UTF-8 cannot say.
        """
        if isinstance(text, str):
            try:
                text = text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"character {error.start} of the text is half a surrogate pair and has no UTF-8 form; clean the "
                    f"text with text.encode('utf-8', 'replace')"
                ) from error
        if not isinstance(text, bytes | bytearray):
            raise TypeError(f"encode takes a str or bytes, got {type(text).__name__}")
        return torch.frombuffer(bytearray(text), dtype=torch.uint8).long() if text else torch.empty(0).long()

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text. Bytes that are not UTF-8 (a sample cut in mid-character) become U+FFFD.

        Raises:
            ValueError: a token outside the vocabulary, or a tensor that is not one-dimensional.
        """
        if isinstance(tokens, Tensor) and tokens.ndim != 1:
            raise ValueError(
                f"decode takes one sequence [n], got shape {tuple(tokens.shape)}: pass tokens[0]"
            )
        pieces, run = [], bytearray()
        for token in tokens.tolist() if isinstance(tokens, Tensor) else map(int, tokens):
            if not 0 <= token < self.vocab:
                raise ValueError(f"token {token} is outside this vocabulary of {self.vocab}")
            if token < 256:
                run.append(token)
            else:
                pieces += [run.decode("utf-8", "replace"), self._names[token - 256]]
                run = bytearray()
        return "".join([*pieces, run.decode("utf-8", "replace")])
