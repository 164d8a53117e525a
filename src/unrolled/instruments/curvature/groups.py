# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryComparison=false, reportPrivateUsage=false, reportUnnecessaryIsInstance=false
"""Which parameters count (`scope`), and which layer each belongs to (`groups`).

Within and cross need a partition: every parameter in exactly one group. Tied weights are one parameter.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

Scope = str | Callable[[str, nn.Parameter], bool]
Groups = Mapping[str, str] | Callable[[str], str]

_EMBED = re.compile(r"(^|[._])(w[tp]e|embed\w*|(\w+_)?emb|emb_\w+)([._]|$)", re.IGNORECASE)
_HEAD = re.compile(
    r"(^|[._])(lm_head|head|unembed\w*|output|classifier|score|readout|fc_out|to_logits)([._]|$)",
    re.IGNORECASE,
)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, without frozen ones, each tied weight once (under its first name)."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def block_of(name: str) -> str | None:
    """The path of the first numbered module in a parameter's name: its transformer block.

    Example:
        >>> block_of("transformer.h.3.mlp.weight"), block_of("lm_head.weight")
        ('transformer.h.3', None)
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part.isdigit():
            return ".".join(parts[: i + 1])
    return None


def in_scope(model: nn.Module, scope: Scope = "all") -> list[str]:
    """Names of the trainable parameters that `scope` takes in.

    Args:
        model: the module.
        scope: `"all"`; `"matrix"`: two-dimensional weights inside numbered blocks, embeddings excepted, or, in a
            model without blocks, those that are neither embedding nor head; a regular expression searched in the
            name; or `f(name, parameter) -> bool`.

    Raises:
        ValueError: the scope takes in nothing, or the expression is not one.

    Example:
        >>> model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "blocks": nn.ModuleList([nn.Linear(4, 4)]),
        ...                        "head": nn.Linear(4, 5)})
        >>> in_scope(model, "matrix"), in_scope(model, "bias$")
        (['blocks.0.weight'], ['blocks.0.bias', 'head.bias'])
    """
    params = trainable(model)
    if callable(scope):
        names = [name for name, p in params.items() if scope(name, p)]
    elif scope == "all":
        names = list(params)
    elif scope == "matrix":
        tables = embeddings(model)
        blocks = any(block_of(name) for name in params)
        names = [
            name
            for name, p in params.items()
            if p.ndim == 2
            and name not in tables
            and (block_of(name) is not None if blocks else not _HEAD.search(name))
        ]
    else:
        pattern = _compile(scope, "scope")
        names = [name for name in params if pattern.search(name)]
    if not names:
        raise ValueError(
            f"scope={scope!r} takes in none of the {len(params)} trainable parameters ({_some(list(params))})"
        )
    return names


def embeddings(model: nn.Module) -> set[str]:
    """Names of trainable parameters that are embedding tables, by module type or by name."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    return {
        name
        for name, p in trainable(model).items()
        if id(p) in tables or (block_of(name) is None and _EMBED.search(name))
    }


def partition(
    model: nn.Module, names: Sequence[str], groups: Groups | None = None
) -> tuple[tuple[str, ...], list[int]]:
    """Assign a group to every name.

    Args:
        model: the module.
        names: parameter names, in order.
        groups: label -> regular expression searched in the name (what none matches is `"other"`), or
            `f(name) -> label`. By default the numbered block, and `"embed"`, `"head"`, `"other"` for the rest.

    Returns:
        The labels in order of appearance, and the index of each name's label.

    Raises:
        ValueError: two groups claim a parameter, or a group claims none of the model's.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> partition(model, ["0.weight", "0.bias", "1.weight"])
        (('0', '1'), [0, 0, 1])
        >>> partition(model, ["0.weight", "0.bias"], {"w": "weight", "all": "0"})
        Traceback (most recent call last):
        ...
        ValueError: groups overlap: '0.weight' is in 'w' and 'all'; make the expressions exclude one another
    """
    labels = [_label(model, names) if groups is None else None]
    if groups is None:
        chosen = labels[0] or []
    elif callable(groups):
        chosen = [str(groups(name)) for name in names]
    else:
        chosen = _matched(model, names, groups)
    order = tuple(dict.fromkeys(chosen))
    place = {label: i for i, label in enumerate(order)}
    return order, [place[label] for label in chosen]


def _label(model: nn.Module, names: Sequence[str]) -> list[str]:
    tables = embeddings(model)
    return [
        block_of(name) or ("embed" if name in tables else "head" if _HEAD.search(name) else "other")
        for name in names
    ]


def _matched(model: nn.Module, names: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    patterns = {label: _compile(regex, f"groups[{label!r}]") for label, regex in groups.items()}
    everything = list(trainable(model))
    for label, pattern in patterns.items():
        if not any(pattern.search(name) for name in everything):
            raise ValueError(
                f"groups[{label!r}] = {pattern.pattern!r} matches none of the parameters ({_some(everything)})"
            )
    chosen: list[str] = []
    for name in names:
        claims = [label for label, pattern in patterns.items() if pattern.search(name)]
        if len(claims) > 1:
            raise ValueError(
                f"groups overlap: {name!r} is in {' and '.join(map(repr, claims))}; "
                "make the expressions exclude one another"
            )
        chosen.append(claims[0] if claims else "other")
    return chosen


def _compile(regex: object, what: str) -> re.Pattern[str]:
    if not isinstance(regex, str):
        raise TypeError(f"{what} is a regular expression over parameter names, got {type(regex).__name__}")
    try:
        return re.compile(regex)
    except re.error as error:
        raise ValueError(f"{what} = {regex!r} is not a regular expression: {error}") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def is_sharded(model: nn.Module) -> bool:
    """Whether a process holds only part of a parameter (FSDP, tensor parallelism)."""
    tensor = sys.modules.get("torch.distributed.tensor")
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return (tensor is not None and any(isinstance(p, tensor.DTensor) for p in model.parameters())) or (
        fsdp is not None and any(isinstance(m, fsdp.FullyShardedDataParallel) for m in model.modules())
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile` and `DistributedDataParallel` wrappers: same parameters, eager, no hooks."""
    while True:
        if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # pyright: ignore[reportAssignmentType]
        else:
            return model
