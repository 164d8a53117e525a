"""What a looped study leaves to be looked at: one text loop by loop, and what length costs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.runs import Run

TOP = 5
"""Words shown of a read-out."""


def show(run: Run, saved: Trajectory, residual: Tensor, letter: Callable[[int], str]) -> None:
    """Leave the panels of one text.

    Args:
        run: where they go.
        saved: record `logits` `[loops + 1, L, vocab]`; `meta["tokens"]`.
        residual: `[loops + 1, L]`, how far each token moved in each loop.
        letter: a token as text.
    """
    tokens = [letter(token) for token in saved.meta["tokens"]]
    loops = len(saved.t)
    run.save_exhibit(
        "1-residual", "heatmap", title="Residual by loop and token", unit="loop", t=range(1, loops), arrays={"residual": residual[1:].log10()},
        data={"rows": [str(k) for k in range(1, loops)], "columns": tokens, "ylabel": "loop", "xlabel": "token", "follow": "rows", "wide": True},
        caption=f"log10 of the rms change of each token's residual stream in each loop; trained with {saved.meta['loops']} loops.",
    )  # fmt: skip
    p, best = saved["logits"].float().softmax(-1).topk(TOP, -1)
    run.save_exhibit(
        "2-lens", "lens", title="Logits lens by loop", unit="loop", t=range(loops), arrays={"probability": p},
        data={"text": [[[letter(int(k)) for k in place] for place in row] for row in best], "rows": tokens, "row": "after",
              "chosen": [*tokens[1:], ""], "wide": True},
        caption="What the model would say next after each loop, by its own read-out; underlined where it is the character that follows. "
        "Choose a cell for the likeliest five.",
    )  # fmt: skip
    run.save_exhibit(
        "3-change", "lines", title="How far the state still moves", unit="loop", t=range(1, loops), arrays={"rms change": residual[1:].mean(-1)},
        data={"log": "y"}, caption="Mean over tokens of the rms change of the residual stream.",
    )  # fmt: skip


def cost(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Leave what length costs: memory of the text, time of a decoding step, time of the operators, against length.

    Args:
        run: where they go.
        rows: of `looped-speed`: `model`, `text`, `bytes`, `step_seconds`; `form`, `length`, `seconds`.
    """
    for name, title, by, along, field, label in (
        ("1-bytes", "Memory of the text", "model", "text", "bytes", "bytes"),
        ("2-decoding", "Time of one decoding step", "model", "text", "step_seconds", "seconds"),
        ("3-operators", "Time of an operator, forward", "form", "length", "seconds", "seconds"),
    ):
        mine = [row for row in rows if by in row and not row.get("backward")]
        lengths = sorted({row[along] for row in mine})
        if not lengths:
            continue
        found = {
            str(key): [
                next((row[field] for row in mine if row[by] == key and row[along] == n), math.nan)
                for n in lengths
            ]
            for key in dict.fromkeys(row[by] for row in mine)
        }
        run.save_exhibit(
            name, "lines", title=title, unit="token", arrays={"x": torch.tensor(lengths), **{k: torch.tensor(v) for k, v in found.items()}},
            data={"xlabel": "tokens", "ylabel": label, "log": "xy"}, caption=f"{title} against length, both axes logarithmic.",
        )  # fmt: skip
