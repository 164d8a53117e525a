"""What a rollout, a log or a training loop leaves behind: times, records, the final state, and why it ended."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from unrolled.core import tree
from unrolled.core.stop import Stop


@dataclass
class Trajectory:
    """A recorded iteration.

    Attributes:
        t: `[n]` times of the records, in steps (or the log's own unit), increasing.
        records: name -> `[n, ...]`, time first.
        final: the last state, in the system's own structure; None for a log.
        stop: why it ended.
        meta: anything that JSON can hold.

    Example:
        >>> log = Trajectory.from_records([0, 1, 2], {"loss": [4.0, 2.0, 1.0]})
        >>> log.delta("loss").tolist()
        [-2.0, -1.0]
        >>> log.window(1, 3)["loss"].tolist()
        [2.0, 1.0]
    """

    t: Tensor
    records: dict[str, Tensor]
    final: Any = None
    stop: Stop = field(default_factory=lambda: Stop("steps", 0))
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.t.ndim != 1:
            raise ValueError(f"t is one-dimensional, got shape {tuple(self.t.shape)}")
        if len(self.t) > 1 and not bool((self.t[1:] > self.t[:-1]).all()):
            raise ValueError("t must increase from record to record")
        for name, values in self.records.items():
            if values.ndim == 0 or len(values) != len(self.t):
                raise ValueError(
                    f"record {name!r} has shape {tuple(values.shape)}: its first axis is time, of length {len(self.t)}"
                )

    @staticmethod
    def from_records(
        t: Sequence[float] | Tensor,
        records: Mapping[str, Any],
        *,
        stop: Stop | None = None,
        meta: dict[str, Any] | None = None,
    ) -> "Trajectory":
        """Make a trajectory from a log: anything that cannot be stepped purely comes in this way.

        Args:
            t: times.
            records: name -> tensor, array or nested list with time first.
            stop: why the log ended; by default all steps were taken.
            meta: free notes.

        Raises:
            ValueError: a record whose first axis is not time, or times that do not increase.
        """
        times = torch.as_tensor(t)
        columns = {name: torch.as_tensor(values) for name, values in records.items()}
        made = Trajectory(times, columns, None, stop or Stop("steps", 0), dict(meta or {}))
        if stop is None and len(made):
            made.stop = Stop("steps", int(times[-1]))
        return made

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, name: str) -> Tensor:
        """A record by name.

        Raises:
            KeyError: no such record; the message lists those there are.
        """
        if name not in self.records:
            raise KeyError(f"no record {name!r}; there are {', '.join(map(repr, self.records)) or 'none'}")
        return self.records[name]

    def window(self, a: float | None = None, b: float | None = None) -> "Trajectory":
        """The records with a <= t < b; None leaves that end open."""
        keep = torch.ones_like(self.t, dtype=torch.bool)
        if a is not None:
            keep &= self.t >= a
        if b is not None:
            keep &= self.t < b
        records = {name: values[keep.to(values.device)] for name, values in self.records.items()}
        return Trajectory(self.t[keep], records, self.final, self.stop, self.meta)

    def delta(self, name: str) -> Tensor:
        """Change from record to record: x_{i+1} - x_i, `[n - 1, ...]`."""
        values = self[name]
        return values[1:] - values[:-1]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file (structure and stop as JSON in its header); atomic, never pickle.

        Raises:
            TypeError: the final state or `meta` holds something that JSON cannot.
        """
        tensors: dict[str, Tensor] = {"t": self.t}
        tensors |= {f"records/{name}": values for name, values in self.records.items()}
        skeleton = _encode(self.final, tensors)
        complex_names = [name for name, value in tensors.items() if value.is_complex()]
        # Own copies: safetensors refuses views that share memory.
        flat = {
            name: (torch.view_as_real(value.resolve_conj()) if value.is_complex() else value)
            .detach()
            .cpu()
            .clone()
            .contiguous()
            for name, value in tensors.items()
        }
        header = {
            "version": 1,
            "stop": asdict(self.stop),
            "meta": self.meta,
            "final": skeleton,
            "records": list(self.records),  # the file itself keeps no order
            "complex": complex_names,
        }
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            safetensors_torch.save_file(  # pyright: ignore[reportUnknownMemberType]
                flat, scratch, metadata={"unrolled": json.dumps(header)}
            )
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)
        return target

    @staticmethod
    def load(path: str | os.PathLike[str], *, like: Any = None) -> "Trajectory":
        """Read what `save` wrote.

        Args:
            path: the file.
            like: a state of the wanted structure; the final state is poured into it. Without it, named tuples and
                dataclasses come back as dicts.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a trajectory, or a truncated one, or `like` does not fit.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no trajectory at {os.fspath(path)}")
        try:
            with safe_open(path, framework="pt") as opened:  # pyright: ignore[reportUnknownVariableType]
                file = cast(Any, opened)
                header = json.loads(str(file.metadata()["unrolled"]))
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{os.fspath(path)} is no trajectory, or a truncated one: {error}") from error
        for name in header["complex"]:
            tensors[name] = torch.view_as_complex(tensors[name])
        final = _decode(header["final"], tensors)
        if like is not None:
            final = _pour(final, like)
        records = {name: tensors[f"records/{name}"] for name in header["records"]}
        return Trajectory(tensors["t"], records, final, Stop(**header["stop"]), header["meta"])


def _encode(node: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON skeleton of a tree; its tensors go into `tensors`."""
    if isinstance(node, Tensor):
        name = f"final/{len(tensors)}"
        tensors[name] = node
        return {"tensor": name}
    if node is None or isinstance(node, bool | int | float | str):
        return {"value": node}
    kind = (
        "list"
        if tree.is_a(node, list)
        else "tuple"
        if tree.is_a(node, tuple) and not hasattr(node, "_fields")
        else "dict"
    )
    children = tree.children(node)
    if children is None:
        raise TypeError(
            f"cannot save a {type(node).__name__} in a state: states hold tensors, numbers, strings and None"
        )
    mapping = tree.is_a(node, Mapping)
    if mapping and not all(isinstance(key, str | int) for key in node):
        raise TypeError("cannot save a dict whose keys are neither strings nor ints")
    keys: list[Any] = list(node) if mapping else [piece for piece, _ in children]
    return {"kind": kind, "keys": keys, "children": [_encode(child, tensors) for _, child in children]}


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "kind" not in node:
        return node["value"]
    children = [_decode(child, tensors) for child in node["children"]]
    if node["kind"] == "dict":
        return dict(zip(node["keys"], children))
    return children if node["kind"] == "list" else tuple(children)


def _pour(loaded: Any, like: Any) -> Any:
    """The loaded leaves in the structure, and on the devices, of `like`."""
    children, wanted = tree.children(loaded), tree.children(like)
    if wanted is None and children is None:
        found, want = (tuple(x.shape) if isinstance(x, Tensor) else None for x in (loaded, like))
        if found != want:
            raise ValueError(f"the saved state does not fit `like`: a leaf of shape {found} against {want}")
        return loaded.to(like.device) if isinstance(like, Tensor) else loaded
    found, want = (
        [piece for piece, _ in side] if side is not None else "a leaf" for side in (children, wanted)
    )
    if children is None or wanted is None or found != want:
        raise ValueError(f"the saved state does not fit `like`: {found} against {want}")
    return tree.rebuild(like, [_pour(child, want) for (_, child), (_, want) in zip(children, wanted)])
