"""Real text without a network: the Python standard library's own source, or any file or folder of yours.

A corpus is one long row of tokens and the places where documents end. Batches are a pure function of a seed and
a step index, so a resumed run sees what it would have seen, and each rank of a parallel run its own rows.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

END = 0
"""The byte after each document of a byte-level corpus; text never holds it, so it marks ends and nothing else."""

SUFFIXES = (".c", ".cpp", ".css", ".csv", ".go", ".h", ".hpp", ".html", ".java", ".js", ".json", ".jsonl", ".lean",
            ".md", ".py", ".rs", ".rst", ".sh", ".tex", ".text", ".toml", ".ts", ".tsv", ".txt", ".xml", ".yaml",
            ".yml")  # fmt: skip
"""What is read from a folder, each also with .gz, .bz2 or .xz after it. A file given by name is read whatever it is called."""

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# Tests and demos repeat themselves, and `encodings` and `pydoc_data` are tables: neither is prose or code to learn.
_STDLIB_SKIPS = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "encodings", "ensurepip",
                 "site-packages", "dist-packages", "__phello__"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Corpus:
    """A row of tokens with document boundaries.

    Attributes:
        tokens: `[n]` integers, uint8 for bytes.
        ends: where each document ends in `tokens` (exclusive), increasing; the last is n.
        names: of the documents.
        vocab: tokens there are.
        source: where it came from.
        notes: files left out, cuts made: what a careful reader should know.

    Example:
        >>> text = Corpus.from_tokens(torch.arange(100), ends=(60, 80, 100))
        >>> train, val = text.split(0.2)
        >>> len(train), len(val), val.tokens[0].item()
        (80, 20, 80)
    """

    tokens: Tensor
    ends: tuple[int, ...]
    names: tuple[str, ...]
    vocab: int = 256
    source: str = ""
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_tokens(
        tokens: Tensor,
        *,
        ends: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        vocab: int | None = None,
        source: str = "tokens",
    ) -> "Corpus":
        """A corpus of tokens that exist already: generated data, another tokenizer's output.

        Args:
            tokens: `[n]` integers.
            ends: document ends (exclusive); one document when None.
            names: of the documents; numbered when None.
            vocab: largest token + 1 when None.
            source: where they came from.

        Raises:
            ValueError: tokens are not a row of integers, lie outside `vocab`, or `ends` do not fit.
        """
        if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex() or len(tokens) == 0:
            raise ValueError(
                f"tokens are a row [n] of integers, n >= 1; got {tokens.dtype} of shape {tuple(tokens.shape)}"
            )
        high = int(tokens.max())
        vocab = high + 1 if vocab is None else vocab
        if int(tokens.min()) < 0 or high >= vocab:
            raise ValueError(
                f"tokens run from {int(tokens.min())} to {high}, outside a vocabulary of {vocab}"
            )
        ends = (len(tokens),) if ends is None else tuple(int(end) for end in ends)
        if not ends or ends[-1] != len(tokens) or any(b <= a for a, b in zip((0, *ends), ends)):
            raise ValueError(f"ends increase and close with the number of tokens, {len(tokens)}; got {ends}")
        names = tuple(str(i) for i in range(len(ends))) if names is None else tuple(names)
        if len(names) != len(ends):
            raise ValueError(f"{len(ends)} documents but {len(names)} names")
        return Corpus(tokens, ends, names, vocab, source)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def sha256(self) -> str:
        """Of the tokens as little-endian bytes of their dtype: equal hashes mean comparable runs."""
        return hashlib.sha256(cast(Any, self.tokens.contiguous().cpu().numpy())).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What to write down about it: source, documents, tokens, vocabulary, hash, notes."""
        return {
            "source": self.source,
            "documents": len(self.ends),
            "tokens": len(self),
            "vocab": self.vocab,
            "sha256": self.sha256,
            "notes": list(self.notes),
        }

    def split(self, val_fraction: float = 0.1) -> "tuple[Corpus, Corpus]":
        """Training and validation part. The last documents are held out whole, so none is in both.

        Where whole documents cannot come within half of the wanted size (a single book, say) the last one is cut
        and a note says so.

        Args:
            val_fraction: of the tokens, between 0 and 1.

        Raises:
            ValueError: the fraction is not between 0 and 1, or either part would be empty.
        """
        if not 0.0 < val_fraction < 1.0:
            raise ValueError(f"val_fraction lies between 0 and 1, got {val_fraction}")
        total, wanted = len(self), val_fraction * len(self)
        best = min(self.ends[:-1], key=lambda end: abs(total - end - wanted), default=None)
        if best is not None and abs(total - best - wanted) <= wanted / 2:
            return self._part(0, best), self._part(best, total)
        cut = total - max(1, round(wanted))
        if cut < 1:
            raise ValueError(f"{total} tokens are too few to hold out a fraction of {val_fraction}")
        note = (
            f"validation is cut out of {self.names[self._document(cut)]!r}, not only from held-out documents"
        )
        parts = self._part(0, cut), self._part(cut, total)
        return replace(parts[0], notes=(*self.notes, note)), replace(parts[1], notes=(*self.notes, note))

    def batches(
        self,
        *,
        batch: int,
        context: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ) -> "Batches":
        """A function from a step index to `(x, y)`; see `Batches`.

        Args:
            batch: rows per step and rank.
            context: tokens per row.
            seed: of the order; the same on every rank.
            shuffle: False reads front to back, for validation.
            rank: this process's number.
            world: how many processes there are.
            device: where batches go.

        Raises:
            ValueError: sizes below 1, a rank outside the world, or a corpus shorter than one row.
        """
        return Batches(self.tokens, batch, context, seed, shuffle, rank, world, torch.device(device))

    def _part(self, start: int, stop: int) -> "Corpus":
        first, last = self._document(start), self._document(stop - 1)
        ends = tuple(min(end, stop) - start for end in self.ends[first : last + 1])
        return replace(self, tokens=self.tokens[start:stop], ends=ends, names=self.names[first : last + 1])

    def _document(self, position: int) -> int:
        return next(i for i, end in enumerate(self.ends) if position < end)


@dataclass(frozen=True, eq=False)
class Batches:
    """Rows of a corpus as a pure function of the step index: `batches(i) -> (x, y)`, each `[batch, context]` int64,
    where y is x one token later.

    The tokens are cut into rows that do not overlap; an epoch takes every row once, in an order and from a
    starting offset of its own, both drawn from (seed, epoch). Row g = (i * world + rank) * batch + r of the whole
    run goes to step i, rank `rank`, place r: ranks never share a row within an epoch, and one process with
    `batch * world` rows sees what `world` processes see together. Rows may run across document boundaries.

    Example:
        >>> text = Corpus.from_tokens(torch.arange(50))
        >>> one = text.batches(batch=2, context=4, seed=1)
        >>> x, y = one(3)
        >>> torch.equal(x + 1, y), torch.equal(x, one(3)[0])
        (True, True)
        >>> left = text.batches(batch=1, context=4, seed=1, rank=0, world=2)
        >>> torch.equal(left(3)[0], x[:1])
        True
    """

    tokens: Tensor
    batch: int
    context: int
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _orders: dict[int, tuple[int, Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.context < 1:
            raise ValueError(f"batch and context are at least 1, got {self.batch} and {self.context}")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank lies in [0, world), got rank {self.rank} of {self.world}")
        if len(self.tokens) <= self.context:
            raise ValueError(
                f"{len(self.tokens)} tokens are too few for a row of {self.context} and its next token: shorten "
                f"context, or take more text"
            )

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return max(1, (len(self.tokens) - self.context) // self.context)

    @property
    def steps(self) -> int:
        """Steps in an epoch, rounded up."""
        return -(-self.rows // (self.batch * self.world))

    def __call__(self, index: int) -> tuple[Tensor, Tensor]:
        """The batch of a step index >= 0."""
        if index < 0:
            raise ValueError(f"a step index is at least 0, got {index}")
        first = (index * self.world + self.rank) * self.batch
        last, starts = first + self.batch, []
        while first < last:  # one turn per epoch that the batch touches
            epoch, place = divmod(first, self.rows)
            taken = min(last - first, self.rows - place)
            offset, order = self._order(epoch)
            starts.append(offset + order[place : place + taken] * self.context)
            first += taken
        window = self.tokens[torch.cat(starts)[:, None] + torch.arange(self.context + 1)].long()
        if self.device.type != "cpu":
            window = window.to(self.device, non_blocking=True)
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()

    def _order(self, epoch: int) -> tuple[int, Tensor]:
        """First token and order of the rows of an epoch."""
        if epoch not in self._orders:
            rows = self.rows
            if self.shuffle:
                digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
                rng = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
                slack = min(self.context - 1, len(self.tokens) - 1 - rows * self.context)
                offset = int(torch.randint(0, slack + 1, (), generator=rng))
                made = offset, torch.randperm(rows, generator=rng)
            else:
                made = 0, torch.arange(rows)
            if len(self._orders) > 1:  # training goes forward: the epoch held longest is over
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = made
        return self._orders[epoch]


def corpus(
    path: str | os.PathLike[str] | None = None,
    *,
    encode: Callable[[str], Any] | None = None,
    vocab: int = 256,
    end: int | None = END,
    max_bytes: int = 2**30,
    encoding: str = "utf-8",
) -> Corpus:
    """Read text into a corpus. Without a path: the source of the Python standard library that is running.

    Documents come in an order drawn from their names (by hash), so that a held-out tail and a byte limit both
    take a fair sample; the same files give the same corpus anywhere. Files equal byte for byte are taken once,
    and line ends become line feeds.

    Args:
        path: a file (read whatever its name) or a folder (text files in it, see `SUFFIXES`, hidden ones left
            out); .gz, .bz2 and .xz are unpacked. None: `.py` files of the standard library, without tests.
        encode: text -> tokens of another tokenizer; None takes UTF-8 bytes.
        vocab: how many tokens `encode` knows.
        end: token after each document; None for none.
        max_bytes: stop after so many bytes of text; a note says so.
        encoding: of the files.

    Raises:
        FileNotFoundError: no such path, or a Python without its source.
        ValueError: a file that is empty, binary, damaged or in another encoding, named; in a folder such files
            are left out with a warning and a note, and only a folder without any readable text is an error.

    Example:
        >>> text = corpus(max_bytes=100_000)
        >>> text.source, text.vocab, len(text) <= 100_000 + len(text.ends)
        ('Python ... standard library', 256, True)
    """
    if max_bytes < 1:
        raise ValueError(f"max_bytes is at least 1, got {max_bytes}")
    files, source, strict = _files(path)
    room, notes, refused, seen = max_bytes, list[str](), list[str](), set[bytes]()
    pieces, names = list[Tensor](), list[str]()
    for name, file in files:
        try:
            text, cut = _read(file, room, encoding)
            if not text.strip() and strict:
                raise ValueError(f"{file} is empty")
        except ValueError as error:
            if strict:
                raise
            refused.append(str(error))
            continue
        raw = text.encode()
        digest = hashlib.sha256(raw).digest()
        if text.strip() and digest not in seen:
            seen.add(digest)
            room -= len(raw)
            pieces.append(_tokens(text, encode, end, vocab, file))
            names.append(name)
        if cut or room <= 0:
            notes.append(f"stopped at max_bytes={max_bytes}, in {name}")
            break
    if refused:
        shown = "\n  ".join(refused[:5]) + (f"\n  and {len(refused) - 5} more" if len(refused) > 5 else "")
        if not pieces:
            raise ValueError(f"no file in {source} could be read:\n  {shown}")
        warnings.warn(f"left out {len(refused)} of the files in {source}:\n  {shown}", stacklevel=2)
        notes += refused
    if not pieces:
        raise ValueError(f"no text in {source}: looked for *{', *'.join(SUFFIXES)} (also .gz, .bz2, .xz)")
    ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0).tolist()
    return Corpus(torch.cat(pieces), tuple(ends), tuple(names), vocab, source, tuple(notes))


def _files(path: str | os.PathLike[str] | None) -> tuple[list[tuple[str, Path]], str, bool]:
    """Names and files in reading order, what to call the source, and whether a bad file is an error."""
    if path is None:
        root = Path(sysconfig.get_paths()["stdlib"])
        found = [file for file in _walk(root, _STDLIB_SKIPS) if file.suffix == ".py"]
        if not found:
            raise FileNotFoundError(
                f"this Python has no source of its standard library in {root}: pass a path"
            )
        source = f"Python {sysconfig.get_python_version()} standard library"
    else:
        root, source = Path(path).expanduser(), os.fspath(path)
        if root.is_file():
            return [(root.name, root)], source, True
        if not root.is_dir():
            raise FileNotFoundError(f"no such file or folder: {root}")
        found = [file for file in _walk(root, set()) if _is_text(file)]
    named = [(file.relative_to(root).as_posix(), file) for file in found]
    return sorted(named, key=lambda pair: hashlib.sha256(pair[0].encode()).digest()), source, False


def _walk(root: Path, skips: set[str]) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        below[:] = [
            d for d in below if d not in skips and d != "__pycache__" and not d.startswith((".", "config-"))
        ]
        yield from (Path(folder, file) for file in files if not file.startswith("."))


def _is_text(file: Path) -> bool:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in _OPEN:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def _read(file: Path, limit: int, encoding: str) -> tuple[str, bool]:
    """At most `limit` bytes of a text file, line ends made one, and whether that cut it; errors name file and cure."""
    opener = _OPEN.get(file.suffix.lower(), open)
    try:
        with cast(BinaryIO, opener(file, "rb")) as stream:
            raw = stream.read(limit + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") and encoding.lower().startswith("utf-8"):
        raise ValueError(f'{file} looks like UTF-16, not {encoding}: pass encoding="utf-16"')
    cut = len(raw) > limit
    raw = raw[:limit]
    try:
        text = raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError as error:
        raise ValueError(f"{encoding!r} is no encoding that Python knows") from error
    except UnicodeDecodeError as error:
        if b"\0" in raw[:65_536]:
            raise ValueError(f"{file} is binary, not text (it holds zero bytes)") from error
        if not (cut and len(raw) - error.start < 4):  # a limit may fall inside a character
            raise ValueError(
                f'{file} is not {encoding} (byte {error.start}): pass its encoding, e.g. encoding="latin-1", or '
                f"convert it"
            ) from error
        text = raw[: error.start].decode(encoding)
    if "\0" in text:
        raise ValueError(f"{file} is binary, not text (it holds zero bytes)")
    return text.replace("\r\n", "\n").replace("\r", "\n"), cut


def _tokens(
    text: str, encode: Callable[[str], Any] | None, end: int | None, vocab: int, file: Path
) -> Tensor:
    if encode is None:
        return torch.frombuffer(
            bytearray(text.encode() + (b"" if end is None else bytes([end]))), dtype=torch.uint8
        )
    tokens = torch.as_tensor(encode(text), dtype=torch.int32)
    tokens = tokens if end is None else torch.cat([tokens, torch.tensor([end], dtype=torch.int32)])
    if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab):
        raise ValueError(f"{file}: tokens run to {int(tokens.max())}, outside vocab={vocab}")
    return tokens
