# pyright: reportUnknownMemberType=false
"""Where a probe's records go besides `probe.records`: a list, a function, TensorBoard, W&B, trackio."""

from collections.abc import Callable, Mapping
from typing import Any

from unrolled.instruments.curvature.reading import StepReading

Sink = Callable[[int, dict[str, float]], object]


def as_sink(sink: Any) -> Sink:
    """A `f(step, numbers)` from what the user has.

    Args:
        sink: a function; a list, which gets `{"step": ..., **numbers}`; a TensorBoard writer (anything with
            `add_scalar`); a W&B or trackio run (anything with `log(dict, step=...)`).

    Raises:
        TypeError: none of these.

    Example:
        >>> kept = []
        >>> as_sink(kept)(3, {"nds": 0.5})
        >>> kept
        [{'step': 3, 'nds': 0.5}]
    """
    if isinstance(sink, list):
        return lambda step, numbers: sink.append({"step": step, **numbers})
    if hasattr(sink, "add_scalar"):

        def write(step: int, numbers: Mapping[str, float]) -> None:
            for name, value in numbers.items():
                sink.add_scalar(name, value, step)

        return write
    if hasattr(sink, "log") and not isinstance(sink, type):
        return lambda step, numbers: sink.log(numbers, step=step)
    if callable(sink):
        return sink  # pyright: ignore[reportReturnType]
    raise TypeError(
        f"sink is a list, a function f(step, numbers), a TensorBoard writer or a run with log(), got "
        f"{type(sink).__name__}"
    )


def numbers(reading: StepReading) -> dict[str, float]:
    """A reading as `curvature/<name>` -> float; NaN values are left out, as writers choke on them."""
    flat = {f"curvature/{name.replace('.', '/')}": float(value) for name, value in reading.scalars().items()}
    return {name: value for name, value in flat.items() if value == value}
