"""What a looped model keeps of the tokens it has read: one slot per (layer, loop)."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from unrolled.looped.model import LT2


class Rows:
    """Tensors that grow with the tokens, `[B, H, S, d]`: keys, values.

    Without gradients, tokens are written into spare room that doubles when it runs out; with gradients, nothing is
    overwritten. Columns `low` to `high` of `data` are in use; the first of them is token `first`.
    """

    def __init__(self) -> None:
        self.data: Tensor | None = None
        self.low = self.high = self.first = 0

    def used(self) -> Tensor:
        """`[B, H, S, d]`, the tokens that are kept."""
        assert self.data is not None
        return self.data[:, :, self.low : self.high]

    def append(self, new: Tensor, past: int, starts: Tensor | None = None) -> Tensor:
        """Write L tokens after `past`, or after `starts` `[B]` in each row, and return all that are kept.

        Returns:
            `[B, H, S, d]`; its first column is token `first`.
        """
        if self.data is None:
            self.data = new[:, :, :0]
        low, high = self.low, self.low + past - self.first
        if torch.is_grad_enabled():
            kept = self.data[:, :, low:high]
            if starts is None:
                self.data = torch.cat([kept, new], 2)
            else:
                kept = torch.cat([kept, torch.zeros_like(new)], 2)
                self.data = kept.scatter(2, self._columns(starts, new), new)
            self.low, self.high = 0, self.data.shape[2]
            return self.data
        self._make_room(new, low, high)
        if starts is None:
            self.data[:, :, self.low + past - self.first : self.high] = new
        else:
            self.data[:, :, self.low + past - self.first : self.high] = 0
            self.data[:, :, self.low : self.high].scatter_(2, self._columns(starts, new), new)
        return self.data[:, :, self.low : self.high]

    def _make_room(self, new: Tensor, low: int, high: int) -> None:
        """Let `high` be where the new tokens end, in memory that may be written to."""
        data, length, kept = self.data, new.shape[2], high - low
        assert data is not None
        locked = data.requires_grad or (data.is_inference() and not torch.is_inference_mode_enabled())
        if locked or high + length > data.shape[2]:
            room = max(2 * kept, kept + length)
            room += -room % 16
            # a copy, not a shift in place: the old columns may still be read
            fresh = new.new_zeros(*new.shape[:2], room, new.shape[3])
            fresh[:, :, :kept] = data[:, :, low:high]
            self.data, low, high = fresh, 0, kept
        self.low, self.high = low, high + length

    def _columns(self, starts: Tensor, new: Tensor) -> Tensor:
        at = starts[:, None] - self.first + torch.arange(new.shape[2], device=new.device)
        return at[:, None, :, None].expand_as(new)

    def drop(self, before: int) -> None:
        """Forget the tokens before one."""
        if before > self.first and self.data is not None:
            gone = min(before - self.first, self.high - self.low)
            self.low, self.first = self.low + gone, self.first + gone

    def map(self, fn: Any) -> "Rows":
        """A copy with `fn` of what is kept."""
        made = Rows()
        if self.data is not None:
            made.data = fn(self.used())
            made.high, made.first = self.high - self.low, self.first
        return made


class Slot:
    """What one layer keeps of one loop.

    Attributes:
        rows: tensors that grow with the tokens, by name: `k`, `v`, DSA's `index`.
        fixed: tensors of constant size, by name: `S` `[B, H, dk, dv]`, `conv` `[B, taps - 1, channels]`.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Rows] = {}
        self.fixed: dict[str, Tensor] = {}

    def append(self, name: str, new: Tensor, past: int, starts: Tensor | None = None) -> Tensor:
        """Keep new tokens; see `Rows.append`."""
        if name not in self.rows:
            self.rows[name] = Rows()
        return self.rows[name].append(new, past, starts)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of all that is kept."""
        for name, rows in self.rows.items():
            if rows.data is not None:
                yield name, rows.used()
        yield from self.fixed.items()

    def map(self, fn: Any) -> "Slot":
        """A copy with `fn` of every tensor."""
        made = Slot()
        made.rows = {name: rows.map(fn) for name, rows in self.rows.items()}
        made.fixed = {name: fn(value) for name, value in self.fixed.items()}
        return made


@dataclass
class Count:
    """How many tokens a loop has seen: of the longest row, of the shortest, and of each where they differ."""

    longest: int = 0
    shortest: int = 0
    each: Tensor | None = None

    def after(self, length: int, counts: Tensor | None) -> "Count":
        """The count after a pass of `length` columns, `counts` `[B]` of them tokens."""
        if counts is None:
            each = None if self.each is None else self.each + length
            return Count(self.longest + length, self.shortest + length, each)
        each = counts + (self.longest if self.each is None else self.each)
        if not len(each):
            return Count(self.longest + length, self.shortest + length)
        low, high = (int(x) for x in each.aminmax())
        return Count(high, low, None if low == high else each)


@dataclass
class Waiting:
    """Tokens that left the loops early and have not been through the later ones: their input there."""

    h: Tensor
    positions: Tensor


class Cache:
    """The memory of a looped model, exact for every (layer, loop): reading on equals reading all at once.

    A loop reads other values than the loop before it, so each has its own keys, values, states and convolution
    tails. Pass a new one to start: `model(tokens, cache=Cache())` fills it in place, and the next call reads on.

    Example:
        >>> from unrolled.looped import LT2, LT2Config
        >>> model, cache = LT2(LT2Config.preset("tiny", loops=2)).eval(), Cache()
        >>> tokens = torch.arange(6)[None]
        >>> whole = model(tokens).logits
        >>> _ = model(tokens[:, :4], cache=cache)
        >>> torch.allclose(model(tokens[:, 4:], cache=cache).logits, whole[:, 4:], atol=1e-5)
        True
        >>> len(cache), sorted(cache.slots)
        (6, [(0, 0), (0, 1), (1, 0), (1, 1)])
    """

    def __init__(self) -> None:
        self.slots: dict[tuple[int, int], Slot] = {}
        self.counts: list[Count] = []
        self.waiting: dict[int, Waiting] = {}
        """by the loop they wait for"""
        self.batch: int | None = None
        self.owner: str | None = None
        """identity of the model that fills it"""
        self.config: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Tokens read, of the longest row."""
        return self.counts[0].longest if self.counts else 0

    def __repr__(self) -> str:
        return f"Cache({len(self)} tokens, batch {self.batch}, {len(self.slots)} slots, {self.bytes()} bytes)"

    @property
    def loops(self) -> int | None:
        """How many loops fill it; None while it is empty."""
        return len(self.counts) or None

    @property
    def lengths(self) -> list[int]:
        """Tokens read, of each row."""
        if not self.counts or self.batch is None:
            return []
        first = self.counts[0]
        return [first.longest] * self.batch if first.each is None else first.each.tolist()

    def slot(self, layer: int, loop: int) -> Slot:
        """The slot of a layer in a loop, made when first asked for."""
        found = self.slots.get((layer, loop))
        if found is None:
            found = self.slots[layer, loop] = Slot()
        return found

    def bind(self, model: "LT2", loops: int, batch: int, device: torch.device) -> None:
        """Belong to a model, a number of loops and a batch size, or refuse.

        Raises:
            ValueError: it belongs to others.
        """
        if self.owner is None:
            self.owner, self.config, self.batch = model.identity, model.config.to_dict(), batch
            self.counts = [Count() for _ in range(loops)]
            return
        if self.owner != model.identity:
            same = (
                " (of the same shape, but what it holds comes from other weights)"
                if self.config == model.config.to_dict()
                else ""
            )
            raise ValueError(f"this cache was filled by another model{same}: pass a new one, cache=Cache()")
        if self.loops != loops:
            raise ValueError(
                f"this cache was filled with loops={self.loops}, the call has loops={loops}: keys of the others would be missing. "
                f"Pass loops={self.loops}, or a new cache"
            )
        if self.batch != batch:
            raise ValueError(
                f"this cache holds {self.batch} rows, the call has {batch}: reorder() or clone it, or pass a new one"
            )
        for slot in self.slots.values():
            for _, value in slot.tensors():
                if value.device != device:
                    raise ValueError(
                        f"this cache is on {value.device}, the model on {device}: use cache.to({str(device)!r})"
                    )
                return

    def bytes(self, *, allocated: bool = False) -> int:
        """Bytes of what is kept; with `allocated`, spare room included.

        With T loops: T B H dk dv of the state's dtype and T B (2 H dk + H dv)(taps - 1) of the model's for a linear
        layer, T B L 2 H_kv d_h for full attention, and the same with min(L, w - 1) for a window of w.
        """
        total = sum(x.h.nbytes for x in self.waiting.values())
        for slot in self.slots.values():
            for _, value in slot.tensors():
                total += value.numel() * value.element_size()
            if allocated:
                for rows in slot.rows.values():
                    if rows.data is not None:
                        total += (
                            rows.data.numel() * rows.data.element_size()
                            - rows.used().numel() * rows.data.element_size()
                        )
        return total

    def map(self, fn: Any) -> "Cache":
        """A copy with `fn` of every tensor that carries the batch first."""
        made = Cache()
        made.batch, made.owner, made.config = self.batch, self.owner, self.config
        made.slots = {key: slot.map(fn) for key, slot in self.slots.items()}
        made.counts = [
            Count(c.longest, c.shortest, None if c.each is None else fn(c.each)) for c in self.counts
        ]
        made.waiting = {
            loop: Waiting(fn(w.h), fn(w.positions) if w.positions.ndim == 2 else w.positions)
            for loop, w in self.waiting.items()
        }
        return made

    def clone(self) -> "Cache":
        """A fork: reading on with one leaves the other as it is. Gradients flow through the copy."""
        return self.map(torch.clone)

    def detach(self) -> "Cache":
        """A fork without the history that gradients would follow."""
        return self.map(lambda x: x.detach().clone())

    def to(self, device: str | torch.device) -> "Cache":
        """A copy on a device."""
        made = self.map(lambda x: x.to(device, copy=True))
        for waiting in made.waiting.values():
            waiting.positions = waiting.positions.to(device)
        return made

    def reorder(self, index: Tensor | Sequence[int]) -> None:
        """Let row i be what row index[i] was, in place; the number of rows may change (beam search).

        Raises:
            ValueError: an index is no row.
        """
        rows = torch.as_tensor(index, dtype=torch.long)
        if rows.ndim != 1 or (len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < (self.batch or 0)):
            raise ValueError(f"reorder takes indices of rows, 0 to {(self.batch or 0) - 1}, got {index}")

        moved = self.map(lambda x: x.index_select(0, rows.to(x.device)))
        moved.batch = len(rows)
        for count in moved.counts:
            if count.each is not None and len(rows):
                low, high = (int(x) for x in count.each.aminmax())
                count.shortest, count.longest, count.each = low, high, None if low == high else count.each
        self.__dict__.update(moved.__dict__)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens of every row, in place.

        Raises:
            ValueError: more tokens than there are, or a layer cannot go back: a linear layer's state has forgotten its
                past, and a window what is out of its sight. Fork with `clone()` before reading on instead.
        """
        if not 0 <= length <= len(self):
            raise ValueError(f"crop keeps 0 to {len(self)} tokens, got {length}")
        if length == len(self):
            return
        if length == 0:
            self.__init__()
            return
        if self.waiting:
            raise ValueError("some tokens left the loops early: run model.catch_up(cache) before crop")
        for (layer, _), slot in self.slots.items():
            if slot.fixed:
                raise ValueError(
                    f"layer {layer} keeps a recurrent state, which cannot go back to {length} tokens: clone() the cache before reading on"
                )
            for rows in slot.rows.values():
                if rows.first:
                    raise ValueError(
                        f"layer {layer} has a window and dropped tokens before {rows.first}: clone() the cache before reading on"
                    )
        for slot in self.slots.values():
            for rows in slot.rows.values():
                rows.high = rows.low + min(length, rows.high - rows.low)
        for count in self.counts:
            count.longest, count.shortest = min(count.longest, length), min(count.shortest, length)
            if count.each is not None:
                count.each = count.each.clamp(max=length)
                count.each = None if count.shortest == count.longest else count.each

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file that `load` reads.

        Raises:
            ValueError: the cache is empty.
        """
        from safetensors.torch import save_file

        if not self.counts:
            raise ValueError("there is nothing in this cache to save")
        tensors, firsts = {}, {}
        for (layer, loop), slot in self.slots.items():
            for name, rows in slot.rows.items():
                if rows.data is not None:
                    tensors[f"{layer}.{loop}.rows.{name}"] = rows.used().detach().contiguous()
                    firsts[f"{layer}.{loop}.rows.{name}"] = rows.first
            for name, value in slot.fixed.items():
                tensors[f"{layer}.{loop}.fixed.{name}"] = value.detach().contiguous()
        for loop, waiting in self.waiting.items():
            tensors[f"waiting.{loop}.h"], tensors[f"waiting.{loop}.positions"] = (
                waiting.h.detach().contiguous(),
                waiting.positions.contiguous(),
            )
        for loop, count in enumerate(self.counts):
            if count.each is not None:
                tensors[f"count.{loop}"] = count.each.contiguous()
        meta = {
            "counts": [[c.longest, c.shortest] for c in self.counts],
            "firsts": firsts,
            "batch": self.batch,
            "config": self.config,
        }
        path = Path(path)
        save_file(
            {name: value.clone() for name, value in tensors.items()},
            path,
            metadata={"cache": json.dumps(meta)},
        )
        return path

    @classmethod
    def load(cls, path: str | Path, model: "LT2") -> "Cache":
        """Read what `save` wrote, for the model that filled it: its weights are the caller's to get right.

        Raises:
            ValueError: no cache in the file, or one of a model of another shape.
        """
        from safetensors import safe_open

        made, device = cls(), next(model.parameters()).device
        with safe_open(str(path), "pt") as file:
            meta = json.loads((file.metadata() or {}).get("cache", "null"))
            if meta is None:
                raise ValueError(f"{path} holds no cache: write one with Cache.save")
            if type(model.config).from_dict(meta["config"]) != model.config:
                raise ValueError(f"{path} was filled by a model of another shape: {meta['config']}")
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
        made.owner, made.config, made.batch = model.identity, model.config.to_dict(), meta["batch"]
        made.counts = [
            Count(high, low, tensors.pop(f"count.{i}", None)) for i, (high, low) in enumerate(meta["counts"])
        ]
        for name, value in tensors.items():
            if name.startswith("waiting."):
                if name.endswith(".h"):
                    made.waiting[int(name.split(".")[1])] = Waiting(value, tensors[name[:-1] + "positions"])
                continue
            layer, loop, kind, part = name.split(".")
            slot = made.slot(int(layer), int(loop))
            if kind == "fixed":
                slot.fixed[part] = value
            else:
                rows = slot.rows[part] = Rows()
                rows.data, rows.high, rows.first = value, value.shape[2], meta["firsts"][name]
        return made


def linear_bytes(
    batch: int, heads: int, dk: int, dv: int, taps: int, *, state: int = 4, item: int = 4
) -> int:
    """Bytes of one linear layer in one loop: B H dk dv for S, B (2 H dk + H dv)(taps - 1) for the convolution.

    Example:
        >>> linear_bytes(1, 16, 96, 192, 4, item=2)  # the 1.3b preset in bfloat16
        1216512
    """
    return batch * (heads * dk * dv * state + (2 * heads * dk + heads * dv) * max(0, taps - 1) * item)


def attention_bytes(
    batch: int, length: int, kv_heads: int, head_dim: int, *, window: float = math.inf, item: int = 4
) -> int:
    """Bytes of one attention layer in one loop: B min(L, w - 1) 2 H_kv d_h.

    Example:
        >>> attention_bytes(1, 8192, 16, 128, item=2)  # 4,096 numbers per token
        67108864
    """
    return batch * int(min(length, window - 1)) * 2 * kv_heads * head_dim * item
