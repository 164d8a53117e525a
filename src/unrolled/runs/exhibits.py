"""Exhibits: what a run leaves to be looked at, one panel each, whatever the system.

An exhibit is a small JSON file `exhibits/<name>.json` (kind, title, caption, unit of time, times, plain data) and, where it has
arrays, `exhibits/<name>.safetensors` beside it. The kind says how it is drawn and what it must hold; nothing in it says how
the run was made, so a system of your own can use every one. `unrolled.runs.kinds.KINDS` lists them:

| kind | arrays | shows |
|---|---|---|
| lines | any names `[T]` or `[T, n]`; without times `x` `[n]` and others `[n]` | curves, with bands |
| raster | `values [T, n]` | every unit over time, in groups |
| heatmap | any names `[T, rows, columns]` | one map each |
| bars | `values [T, n]`, or `[T, g, n]` with groups | bars, stacked if asked |
| graph | `edges [T, n, n]`, `size [T, n]`, `ring [T, n]` | `edges[i, j]`: how much j moves i |
| frontier | `weight [T, n]`, `truth [T, n]` | how far a search has come on a graph |
| transcript | | who said what, and who moved whom |
| lens | `probability [T, rows, k]` | words read from a state, likeliest first |
| phase | `x [T]`, `y [T]` (or `[T, m]`), `u`, `v` `[h, w]` | a path in the plane over a vector field |
| scatter | `x [T, n]`, `y [T, n]`, `group [n]` | points |
| frames | any names `[T, h, w]` or `[T, h, w, 3]` | pictures, side by side |
| table | | numbers and words |
| talk | | a conversation with what was trained |

`T` may be left out of an array that does not change, and is left out of all of them when the exhibit has no times.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.runs import atomic, plain
from unrolled.runs.kinds import KINDS, ExhibitError, check

FOLDER = "exhibits"
READINGS = "readings"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_LARGEST = 8 * 2**20  # bytes of JSON: what a page reads at once; larger things are arrays


def save(
    run: Path,
    name: str,
    kind: str,
    *,
    title: str,
    caption: str = "",
    unit: str = "step",
    t: Any = None,
    data: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Any] | None = None,
) -> Path:
    """Write an exhibit into a run folder; `Run.save_exhibit` calls it.

    Args:
        run: the folder.
        name: of the files: small letters, digits, dots, hyphens and underscores. Panels stand in the order of names.
        kind: one of `KINDS`.
        title: in a few words.
        caption: what is seen, in a sentence or two.
        unit: of time: cycle, step, round, loop, thought, second, ...
        t: `[T]` times, increasing; None when nothing moves.
        data: what JSON holds, as the kind asks. Every kind takes `order` (a number: panels stand in its order) and `wide`.
        arrays: tensors or NumPy arrays, as the kind asks. Floats are stored as float32; NaN is a gap.

    Returns:
        The JSON file.

    Raises:
        ExhibitError: it does not hold what its kind needs; the message says what was found and what was expected.
        DiskFull: no space left; what was there before is whole.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = save(folder, "loss", "lines", title="Loss", t=[0, 1, 2], arrays={"loss": torch.tensor([4.0, 2.0, 1.0])})
        >>> load(folder, "loss")["arrays"]
        {'loss': {'shape': [3], 'dtype': 'float32'}}
    """
    if not _NAME.fullmatch(name):
        raise ExhibitError(
            f"{name!r} is no name for an exhibit: use small letters, digits, dots, hyphens, underscores"
        )
    if kind not in KINDS:
        raise ExhibitError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    held = plain.plain(dict(data or {}), where=f"exhibit {name!r}: data")
    times = None if t is None else [float(x) for x in plain.plain(list(t), where=f"exhibit {name!r}: t")]
    tensors = {
        str(key): _tensor(value, f"exhibit {name!r}: {key!r}") for key, value in (arrays or {}).items()
    }
    shapes = {key: list(value.shape) for key, value in tensors.items()}
    check(name, kind, times, held, shapes)
    body = {
        "kind": kind, "title": title, "caption": caption, "unit": unit, "t": times, "data": held,
        "arrays": {k: {"shape": shapes[k], "dtype": str(v.dtype).removeprefix("torch.")} for k, v in tensors.items()},
    }  # fmt: skip
    text = plain.dumps(body, where=f"exhibit {name!r}") + "\n"
    if len(text.encode()) > _LARGEST:
        raise ExhibitError(
            f"exhibit {name!r}: its data takes {len(text.encode()) / 2**20:.1f} MiB as JSON, the most is {_LARGEST // 2**20}; "
            "put numbers into arrays, show fewer entries, or cut long texts"
        )
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{name}.safetensors"
    if tensors:
        from safetensors.torch import save_file

        with atomic.replacing(beside) as scratch:
            save_file(tensors, scratch)
    path = folder / f"{name}.json"
    atomic.write_text(path, text)
    if not tensors:
        beside.unlink(missing_ok=True)
    return path


def save_reading(run: Path, reading: Any, name: str | None = None) -> Path:
    """Write an instrument's `Reading` as `readings/<name>.json`; `Run.save_reading` calls it.

    Raises:
        ExhibitError: a name that is none, or something that is no reading.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", reading.name.lower()).strip("-") if name is None else name
    if not _NAME.fullmatch(name):
        raise ExhibitError(
            f"{name!r} is no name for a reading: use small letters, digits, dots, hyphens, underscores"
        )
    index = reading.index
    body = {
        "name": reading.name, "definition": reading.definition, "units": reading.units, "method": reading.method,
        "status": reading.status, "reason": reading.reason, "notes": list(reading.notes),
        "index": None if index is None else {"name": index[0], "values": _real(index[1])},
        "values": {key: _real(value) for key, value in reading.values.items()},
    }  # fmt: skip
    folder = run / READINGS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    atomic.write_text(path, plain.dumps(body, where=f"reading {name!r}") + "\n")
    return path


def names(run: Path) -> list[str]:
    """The exhibits of a run, in order of names."""
    return sorted(p.stem for p in (run / FOLDER).glob("*.json") if not p.name.startswith("."))


def load(run: Path, name: str) -> dict[str, Any]:
    """The JSON of an exhibit.

    Raises:
        FileNotFoundError: there is none of that name.
        ExhibitError: the file is damaged.
    """
    path = run / FOLDER / f"{name}.json"
    try:
        body = plain.loads(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict) or body.get("kind") not in KINDS:
            raise ExhibitError(f"{path} is no exhibit: its kind is none of {', '.join(KINDS)}")
        return body
    except ExhibitError:
        raise
    except ValueError as error:
        raise ExhibitError(f"{path} is damaged: {error}") from error


def arrays(run: Path, name: str) -> dict[str, Any]:
    """The tensors of an exhibit, all of them; empty where it has none.

    Raises:
        ExhibitError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = run / FOLDER / f"{name}.safetensors"
    if not path.exists():
        return {}
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ExhibitError(f"{path} is damaged: {error}") from error


def readings(run: Path) -> dict[str, dict[str, Any]]:
    """The readings of a run as plain values, by name."""
    found = sorted(p for p in (run / READINGS).glob("*.json") if not p.name.startswith("."))
    return {p.stem: plain.loads(p.read_text(encoding="utf-8")) for p in found}


def _tensor(value: Any, where: str) -> Any:
    """A tensor of its own, of a type that every reader knows: float32, uint8 or int64."""
    import torch

    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        raise ExhibitError(f"{where} is complex; give its real part, or its size and angle")
    kept = (
        torch.float32
        if tensor.is_floating_point()
        else torch.uint8
        if tensor.dtype in (torch.bool, torch.uint8)
        else torch.int64
    )
    return tensor.to(kept).clone().contiguous()


def _real(value: Any) -> Any:
    """Numbers and lists; complex ones as their size."""
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (
            value.abs() if value.is_complex() else value.float() if value.dtype == torch.bfloat16 else value
        ).tolist()
    if isinstance(value, complex):
        return abs(value)
    if isinstance(value, Mapping):
        return {str(k): _real(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_real(v) for v in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return plain.plain(value) if hasattr(value, "tolist") else str(value)
