"""What a curvature study leaves to be looked at: loss, gain and penalty, prediction against outcome, sharpness per layer."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from unrolled.core import Trajectory
from unrolled.runs import Run

ROLE = {"adam": "minus", "muon": "plus"}


def show(
    run: Run, paths: Mapping[str, Trajectory], names: Mapping[str, str], layers: Mapping[str, Trajectory]
) -> None:
    """Leave the panels of optimizers that were probed at the same steps.

    Args:
        run: where they go.
        paths: optimizer -> its probed steps, as `_curvature.series` gives them.
        names: optimizer -> how it is called.
        layers: optimizer -> record `nds` `[T, groups]` and `meta["groups"]`; those that were split.
    """
    t = sorted(set.intersection(*(set(path.t.tolist()) for path in paths.values())))
    if not t:
        return
    at = {key: torch.isin(path.t, torch.tensor(t, dtype=path.t.dtype)) for key, path in paths.items()}

    def over(name: str) -> dict[str, torch.Tensor]:
        return {key: path[name][at[key]] for key, path in paths.items()}

    timed: dict[str, Any] = {"unit": "step", "t": t}
    look = {"names": {key: names[key] for key in paths}, "roles": {k: ROLE[k] for k in paths if k in ROLE}}
    run.save_exhibit(
        "1-loss", "lines", title="Validation loss", **timed, arrays=over("val_loss"), data={**look, "ylabel": "nats"},
        caption="Of the same model, seed and batches under each optimizer.",
    )  # fmt: skip
    parts = {f"{key} {what}": values for what in ("gain", "penalty") for key, values in over(what).items()}
    run.save_exhibit(
        "2-gain-and-penalty", "lines", title="Gain and curvature penalty", **timed, arrays=parts,
        data={"names": {f"{key} {what}": f"{names[key]}: {what}" for key in paths for what in ("gain", "penalty")},
              "roles": {f"{key} {what}": ROLE[key] for what in ("gain", "penalty") for key in paths if key in ROLE}, "ylabel": "loss a step"},
        caption="What the gradient promises of a step, and what curvature takes back: decrease = gain - penalty + remainder.",
    )  # fmt: skip
    keys = list(paths)
    run.save_exhibit(
        "3-predicted", "scatter", title="Predicted against actual decrease",
        data={"xlabel": "predicted: gain - penalty", "ylabel": "actual decrease", "groups": [names[k] for k in keys], "diagonal": True},
        arrays={"x": torch.cat(list(over("predicted").values())), "y": torch.cat(list(over("actual").values())),
                "group": torch.arange(len(keys)).repeat_interleave(len(t))},
        caption="One point a probed step. On the dashed line second order explains the step.",
    )  # fmt: skip
    run.save_exhibit(
        "4-nds", "lines", title="Directional sharpness: Adam against Muon", **timed, arrays=over("nds"), data={**look, "ylabel": "NDS", "log": "y"},
        caption="NDS = <Z, HZ> / |Z|^2 of each optimizer's own step Z, on a logarithmic axis.",
    )  # fmt: skip
    sizes = sorted(
        abs(v) for path in layers.values() for v in path["nds"].flatten().tolist() if math.isfinite(v)
    )
    top = (
        sizes[int(0.95 * (len(sizes) - 1))] if sizes else 0.0
    )  # a single sharp step would leave the rest without colour
    for key, path in layers.items():
        run.save_exhibit(
            f"5-layers-{key}", "raster", title=f"NDS per layer: {names[key]}", unit="step", t=path.t.tolist(),
            data={"labels": list(path.meta["groups"]), "range": [-top or -1.0, top or 1.0], "diverging": True}, arrays={"values": path["nds"]},
            caption="Sharpness of each layer's part of the step against the layer's own block of the Hessian: orange is sharp, blue "
            "curves downwards. One scale for all optimizers; the sharpest twentieth lies beyond it.",
        )  # fmt: skip


def theory(run: Run, titles: Mapping[str, str]) -> None:
    """Leave the losses of the quadratic problems of `curvature-theory`."""
    rows = [row for row in run.metrics() if "phi" in row]
    for k, (problem, title) in enumerate(titles.items(), 1):
        mine = {
            direction: [
                row["phi"] for row in rows if row["problem"] == problem and row["direction"] == direction
            ]
            for direction in ("gd", "muon")
        }
        run.save_exhibit(
            f"{k}-{problem}", "lines", title=f"Loss above the minimum: {title}", unit="step", t=range(min(map(len, mine.values()))), arrays=mine,
            data={"names": {"gd": "gradient descent", "muon": "Muon"}, "roles": {"gd": "minus", "muon": "plus"}, "log": "y"},
            caption="Exact line search on a two-level quadratic.",
        )  # fmt: skip
