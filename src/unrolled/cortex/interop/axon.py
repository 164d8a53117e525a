"""Axon's weight files.

Axon writes weights as JSON (`.wts`, `.wts.gz`): per layer and receiver the senders, the effective weights `Wt` to four
figures, and the structural weights `Wt1`. Linear weights follow from both. Our own files, exact and smaller, are
`Network.save` and `Network.load`.
"""

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon.building import refresh

if TYPE_CHECKING:
    from unrolled.cortex.network import Network

FIGURES = 4
"""Significant figures of weights in Axon's files."""


def save_wts(
    net: "Network", path: str | os.PathLike[str], *, name: str = "unrolled", figures: int = FIGURES
) -> None:
    """Write weights as Axon does; a name that ends in `.gz` is compressed. Atomic.

    Args:
        net: a network; built if it was not.
        path: `.wts` or `.wts.gz`.
        name: the network's name in the file.
        figures: significant figures of a weight; 4 is Axon's, 9 loses nothing of float32.

    Raises:
        ValueError: a name that ends in neither.
    """
    target = _checked(path)
    net.ready()
    layers = [
        {"Layer": layer.name, "MetaData": _meta(net, layer.name)}
        | ({"Units": _units(net, layer.name)} if layer.adapts else {})
        | {"Paths": [_written(p, figures) for p in net.incoming(layer)]}
        for layer in net.layers.values()
    ]
    text = json.dumps({"Network": name, "Layers": layers}, indent="\t").encode()
    if target.suffix == ".gz":
        text = gzip.compress(text, mtime=0)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as scratch:
        try:
            scratch.write(text)
            scratch.close()
            os.replace(scratch.name, target)
        except BaseException:
            os.unlink(scratch.name)
            raise


def load_wts(net: "Network", path: str | os.PathLike[str]) -> list[str]:
    """Read an Axon weight file into a network whose layers and paths have the same names and sizes.

    Paths of a layer are matched by their order if there are as many as in the file, else by their senders. What the
    file does not have stays as it was. The state between trials starts from rest.

    Returns:
        Names of the paths that were read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no weight file, a layer or sender that the network has not, or a synapse that it has not.
    """
    target = _checked(path)
    data = target.read_bytes()
    try:
        given = json.loads(gzip.decompress(data) if target.suffix == ".gz" else data)
        layers = given["Layers"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{target} is no Axon weight file (JSON with 'Layers'; files before 2019 are not JSON): {error}"
        ) from error
    net.ready()
    known = {layer["Layer"] for layer in layers} - set(net.layers)
    if known:
        raise ValueError(
            f"{target} has layers {', '.join(sorted(known))}; this network has {', '.join(net.layers)}"
        )
    made = {
        path.name: _read(path, given_path, target)
        for layer in layers
        for path, given_path in _matched(net, layer, target)
    }
    for name, (swt, wt) in made.items():  # all are read before any is changed
        mine = net.paths[name]
        mine.swt, mine.lwt = swt, mine.params.swts.linear(wt, swt)
        mine.dswt = torch.zeros_like(mine.lwt)
        refresh(mine)
    for layer in layers:
        _set_averages(net, layer)
    net.state = None
    net.changed()
    return list(made)


def _checked(path: str | os.PathLike[str]) -> FilePath:
    target = FilePath(path)
    if not target.name.endswith((".wts", ".wts.gz")):
        raise ValueError(
            f"{target}: an Axon weight file ends in .wts or .wts.gz; Network.save writes our own"
        )
    return target


def _meta(net: "Network", name: str) -> dict[str, str]:
    act = format(float(net.activity[name]["act_m_avg"]), ".8g")
    return {"ActMAvg": act, "ActPAvg": act, "GiMult": format(net.gi_mult[name], ".8g")}


def _units(net: "Network", name: str) -> dict[str, list[float]]:
    mine = net.activity[name]
    return {"ActAvg": _rounded(mine["act_avg"], 8), "TrgAvg": _rounded(mine["trg_avg"], 8)}


def _rounded(x: Tensor, figures: int) -> list[float]:
    return [float(format(value, f".{figures}g")) for value in x.tolist()]


def _written(path: Any, figures: int) -> dict[str, Any]:
    rows = []
    for r in range(path.recv.n):
        senders = torch.arange(path.send.n) if path.mask is None else path.mask[:, r].nonzero().flatten()
        rows.append(
            {
                "Ri": r,
                "N": len(senders),
                "Si": senders.tolist(),
                "Wt": _rounded(path.wt[senders, r], figures),
                "Wt1": _rounded(path.swt[senders, r], figures),
            }
        )
    return {"From": path.send.name, "Rs": rows}


def _matched(net: "Network", layer: dict[str, Any], target: FilePath) -> Iterator[tuple[Any, dict[str, Any]]]:
    mine, theirs = net.incoming(net.layers[layer["Layer"]]), layer.get("Paths") or []
    if [p.send.name for p in mine] == [p["From"] for p in theirs]:
        yield from zip(mine, theirs)
        return
    for given in theirs:
        found = next((p for p in mine if p.send.name == given["From"]), None)
        if found is None:
            raise ValueError(
                f"{target} has a path {given['From']} -> {layer['Layer']}; here {layer['Layer']} receives from "
                f"{', '.join(p.send.name for p in mine) or 'nobody'}"
            )
        yield found, given


def _read(path: Any, given: dict[str, Any], target: FilePath) -> tuple[Tensor, Tensor]:
    swt, wt = path.swt.clone(), path.wt.clone()
    for row in given["Rs"]:
        r, senders = row["Ri"], torch.tensor(row["Si"], dtype=torch.long)
        off = r >= path.recv.n or (len(senders) and int(senders.max()) >= path.send.n)
        if off or (path.mask is not None and not bool(path.mask[senders, r].all())):
            raise ValueError(
                f"{target}: receiver {r} of {path.name} has senders {row['Si'][:8]}{'...' if len(senders) > 8 else ''} that "
                f"are not connected here ({path.send.n} senders, {path.recv.n} receivers)"
            )
        wt[senders, r] = torch.tensor(row["Wt"]).to(wt)
        if len(row.get("Wt1") or ()) == len(senders):
            swt[senders, r] = torch.tensor(row["Wt1"]).to(swt)
    return swt, wt


def _set_averages(net: "Network", layer: dict[str, Any]) -> None:
    name, meta, units = layer["Layer"], layer.get("MetaData") or {}, layer.get("Units") or {}
    mine = net.activity[name]
    if "ActMAvg" in meta:
        mine["act_m_avg"] = float(meta["ActMAvg"])
    if "GiMult" in meta:
        net.gi_mult[name] = float(meta["GiMult"])
    for theirs, ours in (("ActAvg", "act_avg"), ("TrgAvg", "trg_avg")):
        if theirs in units:
            mine[ours] = torch.tensor(units[theirs]).to(mine[ours])
