"""Which matrices get Muon: roles read from parameter names, and how a fused or many-axed parameter is cut into matrices.

A recipe names roles; whatever it leaves out gets AdamW. (The recipes are those of 2509.26030, where W_V, W_O and the
feed-forward matter most.)

| recipe | Muon on |
|---|---|
| `all` | every matrix but embeddings and the head |
| `VO` | attention values and outputs |
| `QK` | attention queries and keys |
| `FFN` | feed-forward matrices (experts too) |
| `VO+FFN` | both |

A recipe may also be a compiled regular expression, searched in the parameter names, or a function
`(name, parameter) -> bool`.

**Names.** Roles are read from the path of a parameter, in the spellings of nanoGPT, GPT-2, Llama, BERT, ViT,
`torch.nn` and others: `attn.q`, `q_proj`, `query`, `wq`, `to_q` are all Q. `role(name)` shows what a name is taken for.

**Fused projections** (`qkv`, `c_attn`, `in_proj_weight`, ...). With `fused="split"`, Q, K and V are three matrices, each
with a polar factor and a scale of its own: a polar factor of the stack would tie them to one another. They are taken to
lie one after the other along the output axis, in equal thirds; `fused=(q, k, v)` gives other sizes (grouped-query
attention). `fused="whole"` takes the stack as one matrix, as `torch.optim.Muon` does. `head_size=` goes further: every
head of Q, K and V is a matrix of its own. Layouts that interleave heads (`query_key_value`) must be taken whole, or by
`head_size` under the recipe `all`, where it does not matter which block is which.

**More than two axes.** A convolution `[out, in, *kernel]` is the matrix `[out, in * kernel]`. Experts `[experts, a, b]`
(three axes and a name with "expert") are a stack of matrices.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Recipe = str | re.Pattern[str] | Callable[[str, Any], bool]
Fused = str | Sequence[int]

Part = tuple[int, int, int, int, bool]
"""One matrix, or one stack of equally tall matrices, within a parameter: (axis, start, length, pieces, muon?)."""

Layout = tuple[Part, ...]
"""All parts of a parameter, in order. Plain tuples: a layout travels in a `state_dict`."""

RECIPES: dict[str, frozenset[str]] = {
    "VO": frozenset("VO"),
    "QK": frozenset("QK"),
    "FFN": frozenset({"FFN"}),
    "VO+FFN": frozenset({"V", "O", "FFN"}),
    "all": frozenset({"Q", "K", "V", "O", "FFN", "other"}),
}
"""Roles that get Muon, by recipe."""

_STACK = -1  # the axis of a part that is a stack of matrices as it stands


def _spellings(letter: str, word: str) -> set[str]:
    return {
        letter,
        word,
        *(f.format(letter) for f in ("w{}", "{}_proj", "to_{}", "{}_lin", "w_{}", "{}_linear")),
    }


_ATTENTION: dict[str, str] = {
    **dict.fromkeys(_spellings("q", "query"), "Q"),
    **dict.fromkeys(_spellings("k", "key"), "K"),
    **dict.fromkeys(_spellings("v", "value"), "V"),
    **dict.fromkeys(_spellings("o", "out_lin") | {"to_out"}, "O"),
    **dict.fromkeys(("qkv", "qkv_proj", "c_attn", "wqkv", "to_qkv", "in_proj_weight"), "QKV"),
    **dict.fromkeys(("kv", "kv_proj", "wkv", "to_kv"), "KV"),
    "query_key_value": "interleaved",
}
_INSIDE_ATTENTION = {**dict.fromkeys(("proj", "c_proj", "dense", "out", "out_proj"), "O"), "in_proj": "QKV"}
_FEED_FORWARD_MODULES = {
    "mlp",
    "ffn",
    "ff",
    "feed_forward",
    "feedforward",
    "moe",
    "experts",
    "expert",
    "intermediate",
}
_FEED_FORWARD = _FEED_FORWARD_MODULES | {
    "fc1",
    "fc2",
    "fc_in",
    "fc_out",
    "c_fc",
    "gate_proj",
    "up_proj",
    "down_proj",
    "gate_up_proj",
    "linear1",
    "linear2",
    "lin1",
    "lin2",
    "dense_h_to_4h",
    "dense_4h_to_h",
    "w1",
    "w2",
    "w3",
    "wi",
    "wi_0",
    "wi_1",
}
_EMBEDDING = re.compile(r"embed|^wte$|^wpe$|^emb$|_emb$|^tok_|^pos_|^position")
_HEAD = {"lm_head", "head", "classifier", "score", "unembed", "embed_out", "readout"}


def role(name: str) -> str:
    """What a parameter is, by its name.

    Returns:
        `"Q"`, `"K"`, `"V"`, `"O"`; `"QKV"` or `"KV"` for fused projections, `"interleaved"` for those that interleave
        heads; `"FFN"`, `"embedding"`, `"head"`, or `"other"`.

    Example:
        >>> [role(n) for n in ("blocks.0.attn.q.weight", "h.3.attn.c_attn.weight", "h.3.mlp.c_proj.weight")]
        ['Q', 'QKV', 'FFN']
        >>> role("transformer.wte.weight"), role("layer1.0.conv2.weight")
        ('embedding', 'other')
    """
    path = [piece for piece in re.split(r"[.\[\]]+", name.lower()) if piece and not piece.isdigit()]
    path = [piece for piece in path if piece not in ("weight", "module", "_orig_mod")]
    if not path:
        return "other"
    last, attention = path[-1], any("attn" in piece or "attention" in piece for piece in path[:-1])
    if set(path) & _HEAD or path in (["output"], ["fc"]):
        return "head"
    if last in _ATTENTION and (attention or not set(path[:-1]) & _FEED_FORWARD_MODULES):
        return _ATTENTION[last]
    if any(_EMBEDDING.search(piece) for piece in path):
        return "embedding"
    if attention:
        return _INSIDE_ATTENTION.get(last, "other")
    return "FFN" if set(path) & _FEED_FORWARD or path[-2:] == ["output", "dense"] else "other"


def assign(
    named: Mapping[str, Tensor],
    recipe: Recipe = "all",
    *,
    fused: Fused = "split",
    head_size: int | None = None,
    embeddings: frozenset[str] = frozenset(),
    must_find: bool = True,
) -> dict[str, Layout | None]:
    """Give every parameter its layout under Muon, or None for AdamW.

    Args:
        named: parameter name -> tensor.
        recipe: module docstring.
        fused: `"split"`, `"whole"`, or the sizes along the output axis.
        head_size: rows per head; None for no split into heads.
        embeddings: names known to be embeddings whatever they are called.
        must_find: refuse a recipe that gives Muon nothing.

    Raises:
        ValueError: an unknown recipe; a recipe that finds no matrix; one that asks for a vector; a fused projection
            that cannot be cut as asked.

    Example:
        >>> named = {"attn.qkv.weight": torch.empty(12, 4), "mlp.up.weight": torch.empty(8, 4), "norm": torch.empty(4)}
        >>> assign(named, "VO")["attn.qkv.weight"]
        ((0, 0, 4, 1, False), (0, 4, 4, 1, False), (0, 8, 4, 1, True))
        >>> assign(named, "FFN")
        {'attn.qkv.weight': None, 'mlp.up.weight': ((0, 0, 8, 1, True),), 'norm': None}
    """
    _check_options(recipe, fused, head_size)
    layouts: dict[str, Layout | None] = {}
    for name, tensor in named.items():
        what = "embedding" if name in embeddings else role(name)
        if isinstance(recipe, str):
            wanted = RECIPES[recipe]
            layout = _cut(name, tensor, what, wanted, fused, head_size) if tensor.ndim >= 2 else None
        else:
            chosen = (
                recipe.search(name) is not None if isinstance(recipe, re.Pattern) else recipe(name, tensor)
            )
            if chosen and tensor.ndim < 2:
                raise ValueError(
                    f"the recipe gives {name!r} of shape {tuple(tensor.shape)} to Muon, which needs a matrix: leave "
                    "vectors and scalars to AdamW"
                )
            wanted = RECIPES["all"] | ({what} if what in ("embedding", "head") else set())
            layout = _cut(name, tensor, what, wanted, fused, head_size) if chosen else None
        layouts[name] = layout if layout is not None and any(part[-1] for part in layout) else None
    if named and must_find:
        refuse_empty(layouts, recipe)
    return layouts


def refuse_empty(layouts: Mapping[str, Layout | None], recipe: Recipe) -> None:
    """Refuse a recipe that found no matrix.

    Raises:
        ValueError: it did not; the message shows what some names were taken for.
    """
    if not any(layouts.values()):
        some = ", ".join(f"{name} ({role(name)})" for name in list(layouts)[:4])
        raise ValueError(
            f"the recipe {recipe!r} gives no matrix to Muon among {len(layouts)} parameters, such as {some}: pass "
            "another recipe, a compiled regular expression, or a function (name, parameter) -> bool"
        )


def whole(tensor: Tensor, name: str = "") -> Layout:
    """The layout of a parameter that is one matrix, or a stack of experts.

    Raises:
        ValueError: fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"Muon needs matrices, got {name or 'a parameter'} of shape {tuple(tensor.shape)}: give vectors and scalars "
            'to AdamW ({"params": [...], "muon": False}, or a recipe over named parameters)'
        )
    if tensor.ndim == 3 and "expert" in name:
        return ((_STACK, 0, tensor.shape[0], 1, True),)
    return ((0, 0, tensor.shape[0], 1, True),)


def matrices(tensor: Tensor, layout: Layout) -> list[Tensor]:
    """The parts that get Muon, each `[rows, cols]` or `[pieces, rows, cols]`, output axis first.

    Example:
        >>> x = torch.arange(12.0).reshape(6, 2)
        >>> [m.tolist() for m in matrices(x, ((0, 0, 2, 1, False), (0, 2, 4, 2, True)))]
        [[[[4.0, 5.0], [6.0, 7.0]], [[8.0, 9.0], [10.0, 11.0]]]]
    """
    return [_take(tensor, part) for part in layout if part[-1]]


def assemble(parts: Sequence[Tensor], layout: Layout, like: Tensor) -> Tensor:
    """Put what `matrices` cut back into the shape of the parameter, zeros where a part is not Muon's."""
    remaining = iter(parts)
    pieces: list[Tensor] = []
    for axis, start, length, count, muon in layout:
        if axis == _STACK:
            pieces.append(next(remaining))
            continue
        flat = like.flatten(1)
        if not muon:
            pieces.append(torch.zeros_like(flat.narrow(axis, start, length)))
            continue
        piece = next(remaining)
        piece = piece.reshape(length, -1) if count > 1 else piece
        pieces.append(piece.mT if axis == 1 else piece)
    joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=layout[0][0])
    return joined.reshape(like.shape)


def embedding_names(model: Any) -> frozenset[str]:
    """Weights of embedding modules of a model, whatever they are called; none when it is no `nn.Module`."""
    if not isinstance(model, nn.Module):
        return frozenset()
    kinds = nn.Embedding | nn.EmbeddingBag
    return frozenset(
        f"{n}.weight" if n else "weight" for n, m in model.named_modules() if isinstance(m, kinds)
    )


def muon_mask(layout: Layout, like: Tensor) -> Tensor:
    """True where a parameter belongs to Muon; broadcasts over the parameter."""
    axis = layout[0][0]
    length = like.flatten(1).shape[axis]
    mask = torch.zeros(length, dtype=torch.bool, device=like.device)
    for _, start, size, _, muon in layout:
        mask[start : start + size] = muon
    flat = mask[:, None] if axis == 0 else mask
    return flat.expand(like.flatten(1).shape).reshape(like.shape)


def _take(tensor: Tensor, part: Part) -> Tensor:
    axis, start, length, count, _ = part
    if axis == _STACK:
        return tensor
    flat = tensor.flatten(1).narrow(axis, start, length)
    flat = flat.mT if axis == 1 else flat
    return flat.reshape(count, length // count, flat.shape[-1]) if count > 1 else flat


def _cut(
    name: str, tensor: Tensor, what: str, wanted: frozenset[str], fused: Fused, head_size: int | None
) -> Layout | None:
    """The layout of one parameter with two or more axes under a set of wanted roles."""
    if what in ("Q", "K", "V"):
        return ((0, 0, len(tensor), _heads(name, len(tensor), head_size), True),) if what in wanted else None
    if what == "interleaved" or (what in ("QKV", "KV") and fused == "whole"):
        roles = {"Q", "K", "V"}
        if not roles & wanted:
            return None
        if not roles <= wanted:
            raise ValueError(
                f"{name!r} holds queries, keys and values in one matrix that is taken whole, and the recipe wants only "
                f"{'/'.join(sorted(roles & wanted))} of them: use the recipe 'all', 'FFN', or fused='split'"
            )
        count = _heads(name, len(tensor), head_size) if what == "interleaved" else 1
        return ((0, 0, len(tensor), count, True),)
    if what not in ("QKV", "KV"):
        return whole(tensor, name) if what in wanted else None
    if not set(what) & wanted:
        return None
    sizes, axis = _fused_sizes(name, tensor, what, fused)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        (axis, start, size, _heads(name, size, head_size), letter in wanted)
        for letter, start, size in zip(what, starts, sizes)
    )


def _fused_sizes(name: str, tensor: Tensor, what: str, fused: Fused) -> tuple[list[int], int]:
    """Sizes of Q, K, V along the output axis, and that axis (1 in the transposed layout of GPT-2's Conv1D)."""
    rows, cols = len(tensor), math.prod(tensor.shape[1:])
    if not isinstance(fused, str):
        sizes = [int(size) for size in fused][-len(what) :]
        for axis, length in enumerate((rows, cols)):
            if sum(sizes) == length:
                return sizes, axis
        raise ValueError(
            f"fused={tuple(fused)} does not add up to an axis of {name!r} of shape {tuple(tensor.shape)}"
        )
    n = len(what)
    if rows == n * cols or (rows % n == 0 and cols != n * rows):
        return [rows // n] * n, 0
    if cols == n * rows:
        return [cols // n] * n, 1
    raise ValueError(
        f"{name!r} of shape {tuple(tensor.shape)} looks like a fused {what} projection, but neither axis divides into "
        f"{n}: give the sizes, fused=({', '.join(letter.lower() for letter in 'QKV')}), or fused='whole'"
    )


def _heads(name: str, length: int, head_size: int | None) -> int:
    if head_size is None:
        return 1
    if length % head_size:
        raise ValueError(f"{name!r}: {length} rows do not divide into heads of head_size={head_size}")
    return length // head_size


def _check_options(recipe: Any, fused: Any, head_size: Any) -> None:
    if isinstance(recipe, str) and recipe not in RECIPES:
        folded = {name.lower(): name for name in RECIPES}
        near = [folded[found] for found in difflib.get_close_matches(recipe.lower(), folded, n=1, cutoff=0.3)]
        raise ValueError(
            f"unknown recipe {recipe!r}: choose one of {', '.join(RECIPES)}"
            + (f" (did you mean {near[0]!r}?)" if near else "")
            + ", or pass re.compile(...) or a function (name, parameter) -> bool"
        )
    if not isinstance(recipe, str | re.Pattern) and not callable(recipe):
        raise ValueError(f"recipe is a name, a compiled regular expression or a function, got {recipe!r}")
    if isinstance(fused, str) and fused not in ("split", "whole"):
        raise ValueError(f"fused is 'split', 'whole' or the sizes of Q, K and V, got {fused!r}")
    if head_size is not None and (not isinstance(head_size, int) or head_size < 1):
        raise ValueError(f"head_size counts the rows of one head, got {head_size!r}")
