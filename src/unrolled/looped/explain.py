"""Which implementation every layer uses, and why."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unrolled.looped.model import LT2


@dataclass(frozen=True)
class Layer:
    """One layer: its place, its mixer, what computes it, and why that."""

    index: int
    mixer: str
    implementation: str
    reason: str


class Explanation(list[Layer]):
    """One `Layer` per layer; printed, layers alike share a line."""

    def __str__(self) -> str:
        alike: dict[tuple[str, str, str], list[int]] = {}
        for layer in self:
            alike.setdefault((layer.mixer, layer.implementation, layer.reason), []).append(layer.index)
        lines = []
        for (mixer, implementation, reason), places in alike.items():
            where = "layer " if len(places) == 1 else "layers "
            lines.append(f"{where}{', '.join(map(str, places))}: {mixer}: {implementation} ({reason})")
        return "\n".join(lines)


def explain(model: "LT2") -> Explanation:
    """Which implementation each layer of a model uses where its weights are, and why.

    Example:
        >>> from unrolled.looped import LT2, LT2Config
        >>> print(explain(LT2(LT2Config.preset("tiny", pattern="full"))))
        layers 0, 1: full: torch SDPA (softmax attention: torch's fused kernel, whichever fits cpu)
    """
    device = model.embed.weight.device
    blocks: list[Any] = list(model.blocks)
    return Explanation(Layer(i, block.kind, *block.mixer.explain(device)) for i, block in enumerate(blocks))
