"""The shape of a looped model, and its presets."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ATTENTION = ("full", "window", "nsa", "dsa")
"""Mixers that keep keys and values."""
LINEAR = ("linear", "retnet", "gla", "mamba2", "hgrn2", "deltanet", "gated_delta", "kda")
"""Mixers that keep a matrix S per head."""
MIXERS = (*ATTENTION, *LINEAR)


@dataclass(frozen=True)
class LT2Config:
    """The shape of a looped model (LT2 2605.20670, sections 1 and 2).

    Sizes of 0 mean "what the paper does", and are filled in when the configuration is made.

    Raises:
        ValueError: sizes or patterns that cannot be; the message names the field and the fix.

    Example:
        >>> config = LT2Config(width=64, heads=4, layers=5)
        >>> config.mixers
        ('gated_delta', 'gated_delta', 'gated_delta', 'gated_delta', 'full')
        >>> config.head_dim, config.linear_head_dim, config.linear_value_dim, config.hidden
        (16, 12, 24, 256)
    """

    vocab_size: int = 256
    """tokens; 256 are the bytes"""
    width: int = 64
    """d, of the residual stream"""
    layers: int = 5
    """blocks in one loop"""
    heads: int = 4
    """H, of every mixer"""
    loops: int = 4
    """T, in training; any number can be asked for later"""
    pattern: str = "interleaved:4:1"
    """which mixer each layer has: `interleaved:N:M[:TYPE1:TYPE2]` (N of TYPE1, then M of TYPE2, and again),
    `bookend:n[:TYPE1:TYPE2]` (n of TYPE2 at both ends), or names with commas, repeated to fill the layers.
    TYPE1 is gated_delta and TYPE2 is full unless said"""
    hidden: int = 0
    """of SwiGLU; 0 means 8/3 width, rounded up to a multiple of 256"""
    context: int = 4096
    """positions that rotary attention knows; layers without positions know no limit"""
    rope_base: float = 10_000.0
    """of the rotary frequencies"""
    norm_eps: float = 1e-6
    """of RMSNorm in the residual stream"""
    tied: bool = True
    """the read-out shares the embedding"""
    residual: bool = True
    """rho, the gated residual between loops (section 1, eq. 2)"""
    sandwich: bool = False
    """RMSNorm after a mixer and after SwiGLU too, as in Ouro (2510.25741)"""
    loop_norm: bool = False
    """the final RMSNorm after every loop rather than after the last, as in Ouro"""
    exit_gate: bool = False
    """a read-out of when to stop, as in Ouro: `LT2.exit_distribution`"""

    head_dim: int = 0
    """of attention; 0 means width / heads"""
    kv_heads: int = 0
    """heads of keys and values; 0 means heads"""
    gate: bool = False
    """SDPA output gate of full attention: o * sigmoid(x W_g) (section 3.4)"""
    window: int | tuple[int, ...] = 256
    """tokens that a window layer sees, itself included; or one number per loop, the last of which goes on"""
    block: int = 64
    """NSA: tokens of a compressed and of a selected block"""
    blocks: int = 16
    """NSA: blocks selected, the query's own among them"""
    index_top_k: int = 2048
    """DSA: tokens selected"""
    index_heads: int = 4
    """DSA: heads of the indexer"""
    index_dim: int = 64
    """DSA: channels of an indexer's head"""

    linear_head_dim: int = 0
    """dk of the linear family; 0 means 3/4 of width / heads"""
    expand_v: float = 2.0
    """dv / dk"""
    conv: int = 4
    """taps of the causal short convolution on q, k and v; 0 for none"""
    neg_eigval: bool | tuple[bool, ...] = False
    """beta in [0, 2] rather than [0, 1], so that a step may reflect; or one flag per loop, the last of which goes on"""
    chunk: int = 64
    """tokens per chunk of the linear family"""
    carry: bool = False
    """one state per linear layer for all loops, handed on from loop to loop at the same token"""
    index_loss: float = 1.0
    """DSA: weight of the indexer's KL divergence in `loss`"""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "layers", "heads", "loops", "context", "block", "blocks", "index_top_k", "index_heads",
                     "index_dim", "chunk"):  # fmt: skip
            if not isinstance(value := getattr(self, name), int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"LT2Config.{name} is a whole number of at least 1, got {value!r}")
        for name in ("hidden", "head_dim", "kv_heads", "linear_head_dim", "conv"):
            if not isinstance(value := getattr(self, name), int) or value < 0:
                raise ValueError(f"LT2Config.{name} is a size, or 0 for the paper's; got {value!r}")
        for name in ("window", "neg_eigval"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if not self.hidden:
            self._fill("hidden", -(-8 * self.width // 768) * 256)
        if not self.head_dim:
            if self.width % self.heads:
                raise ValueError(
                    f"LT2Config: width {self.width} does not divide among {self.heads} heads: set head_dim"
                )
            self._fill("head_dim", self.width // self.heads)
        if not self.kv_heads:
            self._fill("kv_heads", self.heads)
        if not self.linear_head_dim:
            self._fill("linear_head_dim", max(1, 3 * self.width // (4 * self.heads)))
        if self.head_dim % 2:
            raise ValueError(
                f"LT2Config.head_dim is even, because rotary positions turn pairs of channels; got {self.head_dim}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"LT2Config: {self.heads} heads do not share {self.kv_heads} heads of keys and values evenly"
            )
        if self.linear_head_dim * self.expand_v != int(self.linear_head_dim * self.expand_v):
            raise ValueError(
                f"LT2Config: expand_v {self.expand_v} times linear_head_dim {self.linear_head_dim} is no whole number"
            )
        windows = self.window if isinstance(self.window, tuple) else (self.window,)
        if not windows or any(not isinstance(w, int) or isinstance(w, bool) or w < 1 for w in windows):
            raise ValueError(
                f"LT2Config.window counts tokens, itself included, so is at least 1 in every loop; got {self.window}"
            )
        flags = self.neg_eigval if isinstance(self.neg_eigval, tuple) else (self.neg_eigval,)
        if not flags or any(not isinstance(flag, bool) for flag in flags):
            raise ValueError(f"LT2Config.neg_eigval is a flag, or one per loop; got {self.neg_eigval!r}")
        self.mixers  # noqa: B018 - reads the pattern, and refuses a wrong one

    def _fill(self, name: str, value: int) -> None:
        object.__setattr__(self, name, value)

    @property
    def linear_value_dim(self) -> int:
        """Dv of the linear family."""
        return int(self.linear_head_dim * self.expand_v)

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer of every layer, as `pattern` has it."""
        return mixers(self.pattern, self.layers)

    def window_at(self, loop: int) -> int:
        """The window of a loop, counted from 0."""
        return self.window[min(loop, len(self.window) - 1)] if isinstance(self.window, tuple) else self.window

    def neg_eigval_at(self, loop: int) -> bool:
        """Whether beta reaches 2 in a loop, counted from 0."""
        flags = self.neg_eigval
        return flags[min(loop, len(flags) - 1)] if isinstance(flags, tuple) else flags

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "LT2Config":
        """One of the named shapes, with changes.

        `tiny` trains in seconds on a core, `small` in minutes on two; `600m` and `1.3b` are the paper's (names are
        nominal: 0.445 and 1.486 billion parameters).

        Raises:
            ValueError: no such preset.

        Example:
            >>> LT2Config.preset("tiny", loops=2).loops
            2
        """
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}: there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """As config.json has it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LT2Config":
        """From what `to_dict` made.

        Raises:
            ValueError: unknown fields.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(
                f"LT2Config has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        return cls(**values)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 64, "layers": 2, "heads": 4, "loops": 4, "pattern": "interleaved:1:1"},
    "small": {"width": 192, "layers": 5, "heads": 4, "loops": 4},
    "600m": {"vocab_size": 128_256, "width": 1024, "layers": 21, "heads": 8, "loops": 4},
    "1.3b": {"vocab_size": 128_256, "width": 2048, "layers": 21, "heads": 16, "loops": 4, "hidden": 5632},
}


def mixers(pattern: str, layers: int) -> tuple[str, ...]:
    """The mixer of every layer (LT2 2605.20670, section 4.2: depth-level hybrids).

    Raises:
        ValueError: a pattern that cannot be read, or an unknown mixer.

    Example:
        >>> mixers("interleaved:2:1:gated_delta:window", 4)
        ('gated_delta', 'gated_delta', 'window', 'gated_delta')
        >>> mixers("bookend:1", 4)
        ('full', 'gated_delta', 'gated_delta', 'full')
        >>> mixers("retnet,full", 3)
        ('retnet', 'full', 'retnet')
    """
    kind, *rest = pattern.split(":")
    if kind == "interleaved" and len(rest) in (2, 4) and all(re.fullmatch(r"\d+", n) for n in rest[:2]):
        n, m = int(rest[0]), int(rest[1])
        first, second = rest[2:] or ("gated_delta", "full")
        if n + m == 0:
            raise ValueError(f"pattern {pattern!r} repeats nothing")
        found = tuple(first if i % (n + m) < n else second for i in range(layers))
    elif kind == "bookend" and len(rest) in (1, 3) and re.fullmatch(r"\d+", rest[0]):
        n = int(rest[0])
        first, second = rest[1:] or ("gated_delta", "full")
        found = tuple(second if i < n or i >= layers - n else first for i in range(layers))
    elif not rest:
        names = [name.strip() for name in pattern.split(",")]
        found = tuple(names[i % len(names)] for i in range(layers))
    else:
        raise ValueError(
            f"pattern {pattern!r} is none of interleaved:N:M[:TYPE1:TYPE2], bookend:n[:TYPE1:TYPE2] and mixer[,mixer...]"
        )
    if unknown := set(found) - set(MIXERS):
        raise ValueError(
            f"pattern {pattern!r} names {', '.join(sorted(unknown))}; the mixers are {', '.join(MIXERS)}"
        )
    return found
