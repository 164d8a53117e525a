"""Trees of tensors: nested dicts, lists, tuples, named tuples and dataclasses.

Anything that is not a container is a leaf. Leaves that are not tensors (a number, a name, None) travel along
unchanged. A path names a leaf, as in `"layers[0].weight"`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor


def is_a(value: Any, kind: Any) -> bool:
    """`isinstance` that leaves the static type alone: trees are `Any` by nature."""
    return isinstance(value, kind)


def children(tree: Any) -> list[tuple[str, Any]] | None:
    """Path piece and value of each child; None for a leaf."""
    if is_a(tree, Mapping):
        return [(str(key), tree[key]) for key in tree]
    if hasattr(tree, "_fields") and is_a(tree, tuple):
        return [(name, getattr(tree, name)) for name in tree._fields]
    if is_a(tree, list | tuple):
        return [(f"[{i}]", value) for i, value in enumerate(tree)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return None


def rebuild(tree: Any, values: list[Any]) -> Any:
    """A container like `tree` around new children."""
    if is_a(tree, Mapping):
        return type(tree)(zip(tree, values))
    if hasattr(tree, "_fields"):
        return type(tree)(*values)
    if is_a(tree, list | tuple):
        return type(tree)(values)
    return dataclasses.replace(tree, **{f.name: value for f, value in zip(dataclasses.fields(tree), values)})


def _walk(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    below = children(tree)
    if below is None:
        yield prefix, tree
    for piece, child in below or []:
        dotted = f"{prefix}.{piece}" if prefix and not piece.startswith("[") else prefix + piece
        yield from _walk(child, dotted)


def leaves(tree: Any) -> list[tuple[str, Tensor]]:
    """Path and tensor of every tensor in the tree, in order; a lone tensor has the path `""`.

    Example:
        >>> [path for path, _ in leaves({"a": torch.ones(1), "b": [torch.ones(2), 3]})]
        ['a', 'b[0]']
    """
    return [(path, leaf) for path, leaf in _walk(tree, "") if isinstance(leaf, Tensor)]


def map(fn: Callable[..., Any] | Callable[[Tensor], Any], tree: Any, *others: Any) -> Any:
    """Apply `fn` to matching tensors of one or more trees; leaves that are not tensors come from the first.

    Raises:
        ValueError: the trees have different structures.

    Example:
        >>> map(torch.add, {"a": torch.ones(1)}, {"a": torch.ones(1)})
        {'a': tensor([2.])}
    """
    below = children(tree)
    if below is None:
        return fn(tree, *others) if isinstance(tree, Tensor) else tree
    columns: list[list[Any]] = [[value for _, value in below]]
    for other in others:
        pairs = children(other)
        if pairs is None or [piece for piece, _ in pairs] != [piece for piece, _ in below]:
            found = "a leaf" if pairs is None else [piece for piece, _ in pairs]
            raise ValueError(f"trees differ in structure: {[piece for piece, _ in below]} against {found}")
        columns.append([value for _, value in pairs])
    return rebuild(tree, [map(fn, *row) for row in zip(*columns)])


def clone(tree: Any) -> Any:
    """A copy that shares no memory; the graph, if any, is kept."""
    return map(torch.clone, tree)


def detach(tree: Any) -> Any:
    """The same tensors outside the graph."""
    return map(torch.detach, tree)


def nbytes(tree: Any) -> int:
    """Bytes of all tensors.

    Example:
        >>> nbytes((torch.zeros(3), torch.zeros(2, dtype=torch.float64)))
        28
    """
    return sum(leaf.numel() * leaf.element_size() for _, leaf in leaves(tree))


def select(tree: Any, path: str) -> Tensor:
    """The tensor at a path; `"state"` names a lone tensor.

    Raises:
        KeyError: no such leaf; the message lists the paths there are.

    Example:
        >>> select({"a": (torch.tensor(1.0),)}, "a[0]")
        tensor(1.)
    """
    found = {known or "state": leaf for known, leaf in leaves(tree)}
    if path not in found:
        raise KeyError(f"no tensor {path!r} in this state; it has {', '.join(found) or 'no tensors at all'}")
    return found[path]


def reader(of: Any, tree: Any) -> Callable[[Any], Tensor]:
    """A function that reads one tensor from states shaped like `tree`.

    Args:
        of: a function of the state, a path, or None when there is only one tensor to read.
        tree: an example state.

    Raises:
        KeyError: no such path.
        ValueError: `of` is None and the state has several tensors.
        TypeError: `of` is something else.

    Example:
        >>> reader("x", {"x": torch.zeros(2), "t": torch.zeros(())})({"x": torch.ones(2)})
        tensor([1., 1.])
    """
    if callable(of):
        return cast(Callable[[Any], Tensor], of)
    if of is None:
        paths = [path for path, _ in leaves(tree)]
        if len(paths) != 1:
            raise ValueError(f"the state has {len(paths)} tensors ({', '.join(paths)}): say which with of=")
        return lambda state: leaves(state)[0][1]
    if not isinstance(of, str):
        raise TypeError(f"of= is a path or a function of the state, got {type(of).__name__}")
    select(tree, of)
    return lambda state: select(state, of)
