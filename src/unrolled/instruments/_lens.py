# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnnecessaryIsInstance=false
"""`lens`: decode every recorded step, and find when the answer stops changing."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.core import Trajectory
from unrolled.core.extras import require
from unrolled.instruments._series import Of, series
from unrolled.instruments.reading import COLORS, Reading, axes

OUTPUTS = ("auto", "logits", "probabilities", "labels", "value")


def lens(
    trajectory: Trajectory,
    decoder: Callable[[Tensor], Tensor] | None = None,
    *,
    of: Of = None,
    output: str = "auto",
    k: int = 5,
    tol: float = 0.0,
    labels: Sequence[str] | Callable[[int], str] | None = None,
) -> "LensReading":
    """What every recorded step would answer, if the iteration stopped there.

    Args:
        trajectory: where to read.
        decoder: what is read at one time -> `[..., classes]` logits or probabilities, `[...]` integer labels, or
            `[...]` values; None when what is read is that already. The leading axes are a batch (tokens, agents).
        of: a record name, or a function of what was recorded at one time.
        output: what the decoder returns: `"logits"`, `"probabilities"`, `"labels"` (one class each, without a
            probability) or `"value"` (an opinion: the answer is the number itself). `"auto"`: integers and booleans
            are labels, floating point is logits.
        k: how many classes to keep per step, most probable first.
        tol: for `"value"`: answers this close count as the same.
        labels: names of the classes: a list, or a function of the class.

    Returns:
        Along t: `answer` `[n, ...]` (class, or value). For logits and probabilities also `top` and `probability`
        `[n, ..., k]`, and `entropy` `[n, ...]` in nats. And `settled_at` `[...]`: the first t from which the answer
        stays that of the last record; NaN where it still changed at the last record (or there is only one). The
        status is `"not settled"` when that is so for any entry.

    Raises:
        TypeError: `trajectory` is none, or the decoder returns no tensor.
        KeyError: no such record.
        ValueError: an unknown `output`, logits that are NaN, probabilities that are negative or do not sum to 1, or a
            decoder that changes shape.

    Example:
        >>> log = Trajectory.from_records(range(3), {"h": torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]])})
        >>> reading = lens(log, lambda h: h, labels=["no", "yes"])
        >>> reading["answer"].tolist(), float(reading["settled_at"])
        ([0, 1, 1], 1.0)
        >>> reading.words()
        ['no', 'yes', 'yes']
    """
    if output not in OUTPUTS:
        raise ValueError(f"output= is one of {', '.join(map(repr, OUTPUTS))}; got {output!r}")
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k counts classes and is at least 1, got {k!r}")
    name, values = series(trajectory, of, instrument="lens", least=1)
    kind, made = _decode(decoder, values, trajectory.t, output, k)
    answer = made["answer"]
    settled_at = _settled_at(answer, trajectory.t, tol if kind == "value" else 0.0)
    open_ = int(settled_at.isnan().sum())
    shown = getattr(decoder, "__name__", type(decoder).__name__) if decoder is not None else "identity"
    return LensReading(
        "lens",
        {**made, "settled_at": settled_at},
        f"{shown}({name}) at every record; settled_at: first t from which the answer is that of the last record",
        units=f"units of {name}" if kind == "value" else "class",
        index=("t", trajectory.t),
        method=kind,
        status="not settled" if open_ else "ok",
        reason=f"{open_} of {settled_at.numel()} answers changed at the last record, or there is only one"
        if open_
        else "",
        labels=labels,
    )


class LensReading(Reading):
    """What each step would answer."""

    def __init__(
        self, *args: Any, labels: Sequence[str] | Callable[[int], str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.labels = labels

    def word(self, label: int) -> str:
        """The name of a class; its number when there are no names."""
        if self.labels is None:
            return str(label)
        if callable(self.labels):
            return str(self.labels(label))
        return str(self.labels[label]) if 0 <= label < len(self.labels) else str(label)

    def words(self, *entry: int) -> list[str]:
        """The answer at every record by name, for one entry of the batch.

        Raises:
            ValueError: the answers are values, or `entry` does not name one entry of the batch.
        """
        if self.method == "value":
            raise ValueError("these answers are values and have no names")
        answer = self["answer"]
        if answer.ndim != 1 + len(entry):
            raise ValueError(
                f"the batch has shape {tuple(answer.shape[1:])}: name one entry, with {answer.ndim - 1} indices"
            )
        return [self.word(label) for label in answer[(slice(None), *entry)].tolist()]

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`: one row per record and batch entry; `top1`, `p1`, ... most probable first."""
        pandas = require("pandas", extra="report")
        answer = self["answer"]
        n, batch = len(answer), math.prod(answer.shape[1:])
        assert self.index is not None
        data: dict[str, Any] = {"t": self.index[1].repeat_interleave(batch).tolist()}
        if answer.ndim > 1:
            places = [list(place) for place in _places(answer.shape[1:])]
            for axis in range(answer.ndim - 1):
                data[f"entry{axis}"] = [place[axis] for place in places] * n
        flat = answer.reshape(-1).tolist()
        data["answer"] = flat if self.method == "value" else [self.word(label) for label in flat]
        if "probability" in self.values:
            data["entropy"] = self["entropy"].reshape(-1).tolist()
            top, probability = (self[name].reshape(n * batch, -1) for name in ("top", "probability"))
            for rank in range(top.shape[1]):
                data[f"top{rank + 1}"] = [self.word(label) for label in top[:, rank].tolist()]
                data[f"p{rank + 1}"] = probability[:, rank].tolist()
        frame = pandas.DataFrame(data)
        frame.attrs.update(
            definition=self.definition,
            units=self.units,
            method=self.method,
            status=self.status,
            reason=self.reason,
        )
        return frame

    def plot(self, ax: Any = None) -> Any:
        """One answer: the probability of every class that ever led. A batch: the answers as a grid, time downwards."""
        ax = axes(ax)
        assert self.index is not None
        t, answer = self.index[1].double().cpu(), self["answer"].cpu()
        if self.method == "value":
            rows = answer.reshape(len(answer), -1).double()
            for i in range(min(rows.shape[1], 32)):
                ax.plot(t.numpy(), rows[:, i].numpy(), color=COLORS[i % len(COLORS)], linewidth=1.2)
            ax.set_xlabel("t")
            ax.set_ylabel("answer")
        elif answer.ndim == 1:
            self._plot_one(ax, t, answer)
        else:
            self._plot_grid(ax, t, answer.reshape(len(answer), -1))
        if answer.ndim == 1 and math.isfinite(float(self["settled_at"])):
            ax.axvline(float(self["settled_at"]), color="0.5", linewidth=0.9, linestyle=":")
        ax.set_title("lens" + ("" if self.status == "ok" else f" ({self.status})"))
        return ax

    def _plot_one(self, ax: Any, t: Tensor, answer: Tensor) -> None:
        leaders = list(dict.fromkeys(answer.tolist()))[: len(COLORS)]
        if "probability" not in self.values:
            ax.step(t.numpy(), [leaders.index(a) if a in leaders else -1 for a in answer.tolist()], where="post",
                    color=COLORS[0])  # fmt: skip
            ax.set_yticks(range(len(leaders)), [self.word(label) for label in leaders])
        else:
            top, probability = self["top"].cpu(), self["probability"].cpu()
            for color, label in zip(COLORS, leaders):
                hit = top == label
                p = torch.where(hit.any(-1), (probability * hit).sum(-1), torch.full_like(t, math.nan))
                ax.plot(t.numpy(), p.numpy(), color=color, marker="o", markersize=3, label=self.word(label))
            ax.set_ylim(0, 1.02)
            ax.set_ylabel("probability")
            ax.legend(frameon=False, title="answer")
        ax.set_xlabel("t")

    def _plot_grid(self, ax: Any, t: Tensor, answer: Tensor) -> None:
        sure = (
            self["probability"].cpu()[..., 0].reshape(answer.shape) if "probability" in self.values else None
        )
        shade = sure.double() if sure is not None else (answer == answer[-1:]).double()
        image = ax.imshow(shade.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        label = "probability" if sure is not None else "same answer as the last"
        ax.figure.colorbar(image, ax=ax, label=label)
        if answer.numel() <= 200:
            for i, row in enumerate(answer.tolist()):
                for j, entry in enumerate(row):
                    dark = float(shade[i, j]) < 0.6
                    text = self.word(entry)
                    ax.text(j, i, text[:8], ha="center", va="center", fontsize=7, color="w" if dark else "k")
        every = max(1, len(t) // 10)
        ax.set_yticks(range(0, len(t), every), [f"{v:g}" for v in t[::every].tolist()])
        ax.set_xlabel("entry")
        ax.set_ylabel("t")


def _decode(
    decoder: Callable[[Tensor], Tensor] | None, values: Tensor, t: Tensor, output: str, k: int
) -> tuple[str, dict[str, Tensor]]:
    """What kind of answer it is, and the answers: each step is reduced to its k classes before the next is decoded."""
    made: list[dict[str, Tensor]] = []
    shape: tuple[int, ...] = ()
    with torch.no_grad():
        for i, value in enumerate(values):
            now = f"t = {t[i].item():g}"
            out: Any = value if decoder is None else decoder(value)
            if not isinstance(out, Tensor):
                raise TypeError(f"the decoder returned a {type(out).__name__} at {now}; expected a tensor")
            if output == "auto":
                output = "labels" if _is_integer(out) else "logits"
            if made and tuple(out.shape) != shape:
                raise ValueError(f"the decoder changed shape from {shape} to {tuple(out.shape)} at {now}")
            shape = tuple(out.shape)
            made.append(_answer(out.detach(), output, k, now))
    return output, {name: torch.stack([each[name] for each in made]) for name in made[0]}


def _answer(out: Tensor, kind: str, k: int, now: str) -> dict[str, Tensor]:
    """The answer at one time, and how sure it is."""
    if kind == "labels":
        if not _is_integer(out):
            raise ValueError(
                f"labels are integers, got {out.dtype}: argmax them, or say output='logits' or 'value'"
            )
        return {"answer": out.long()}
    if _is_integer(out) or out.is_complex():
        raise ValueError(f"{kind} are floating point, got {out.dtype}; integers are output='labels'")
    if bool(out.isnan().any()):
        raise ValueError(f"the {kind} are NaN at {now}")
    if kind == "value":
        return {"answer": out}
    if out.ndim < 1 or out.shape[-1] < 2:
        raise ValueError(
            f"{kind} have at least two classes in the last axis; at {now} the shape is {tuple(out.shape)}"
            " (output='value' reads numbers)"
        )
    p = out.double()
    if kind == "logits":
        if bool((p == math.inf).any()) or bool((p == -math.inf).all(dim=-1).any()):
            raise ValueError(f"the logits at {now} are all -inf, or one is inf: that is no distribution")
        p = p.softmax(dim=-1)
    off = float((p.sum(dim=-1) - 1).abs().max())
    if bool((p < 0).any()) or off > 1e-3:
        raise ValueError(f"probabilities are non-negative and sum to 1; at {now} they are off by {off:.2g}")
    ranked = p.sort(dim=-1, descending=True, stable=True)
    return {
        "answer": ranked.indices[..., 0],
        "top": ranked.indices[..., :k],
        "probability": ranked.values[..., :k],
        "entropy": -torch.special.xlogy(p, p).sum(dim=-1),
    }


def _settled_at(answer: Tensor, t: Tensor, tol: float) -> Tensor:
    """`[...]`: t of the first record from which all answers equal the last; NaN when only the last one does."""
    last = answer[-1:]
    differs = (answer - last).abs() > tol if answer.is_floating_point() else answer != last
    steps = torch.arange(1, len(answer) + 1, device=answer.device).reshape(-1, *[1] * (answer.ndim - 1))
    first = (differs * steps).amax(dim=0)  # index of the first record after the last different one
    times = t.to(answer.device).double()[first.clamp(max=len(answer) - 1)]
    alone = first >= len(answer) - 1
    return torch.where(alone, torch.full_like(times, math.nan), times)


def _is_integer(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex())


def _places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    made: list[tuple[int, ...]] = [()]
    for size in shape:
        made = [(*place, i) for place in made for i in range(size)]
    return made
