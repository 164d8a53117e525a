"""Paths between layers: who connects to whom, how strongly, and with what delay."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.cortex.axon._sheet import validate
from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.axon.learning import DWt
from unrolled.cortex.axon.weights import SWt


@dataclass(frozen=True)
class Scale:
    """Strength of a path (cortex fact sheet, section 5.2)."""

    rel: float = 1.0
    """Relative to the other paths of the same conductance into the layer, which share 1; 0.1 to 0.3 top-down."""
    abs: float = 1.0
    """Absolute factor; 0.5 to 2."""

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class PathParams:
    """Every parameter of a path.

    Example:
        >>> PathParams().delay, PathParams().lrate
        (2, 0.04)
    """

    scale: Scale = field(default_factory=Scale)
    """Strength."""
    delay: int = 2
    """Number of cycles that a spike travels beyond the one it needs anyway; 0 to 10. A spike of cycle c arrives in c + delay + 1."""
    swts: SWt = field(default_factory=SWt)
    """Weights: start, bounds, slow adaptation."""
    learn: bool = True
    """Whether it learns at all."""
    lrate: float = 0.04
    """Learning rate, dimensionless; 0.02 to 0.2."""
    dwt: DWt = field(default_factory=DWt)
    """Details of the weight change."""

    def __post_init__(self) -> None:
        validate(self)


CONDUCTANCES = {
    "forward": "excitatory",
    "back": "excitatory",
    "lateral": "excitatory",
    "inhibitory": "inhibitory",
    "maintenance": "maintenance",
    "context": "context",
}
"""Kind of path -> the conductance it drives. Paths of one conductance into a layer share its strength; context counts
with excitation. The cycle itself gathers excitation and inhibition; the others are for layer kinds that read them."""


@dataclass
class Path:
    """A path of a network; all matrices are `[send, recv]`.

    Attributes:
        name: `"Send->Recv"`; a second path between the same layers is `"Send->Recv:kind"`.
        send: sending layer.
        recv: receiving layer.
        kind: a key of `CONDUCTANCES`.
        mask: `[send, recv]` bool, None for full connectivity.
        params: its sheet; replaced, never changed in place.
        tags: names that `.tag` selectors of a sheet find; its kind is one of them.
        rule: how it learns; None picks by the receiver's kind (see `unrolled.cortex.axon.products`).
        lwt, swt, wt, dswt: linear, structural and effective weights, and what was learned since the last slow step.
        trace: credit over theta cycles `[data, send, recv]`, only where `params.dwt.syn_tau` exceeds 1.
    """

    name: str
    send: Layer
    recv: Layer
    kind: str = "forward"
    mask: Tensor | None = None
    params: PathParams = field(default_factory=PathParams)
    tags: frozenset[str] = frozenset()
    rule: Callable[..., Tensor] | None = None
    lwt: Any = None
    swt: Any = None
    wt: Any = None
    dswt: Any = None
    trace: Any = None

    @property
    def conductance(self) -> str:
        """Which conductance it drives."""
        return CONDUCTANCES[self.kind]

    @property
    def n_con(self) -> float:
        """Mean number of senders per receiver."""
        return self.send.n if self.mask is None else float(self.mask.sum()) / self.recv.n


def active_scale(nominal: float, n_send: int, n_con: float) -> float:
    """1 / (expected number of active senders per receiver); cortex fact sheet, section 5.2.

    Full connectivity: max(1, round(nominal n_send)). Partial: max(1, round(nominal n_con)) + 2, at most n_con and the
    number of active senders; the 2 is room for chance.

    Example:
        >>> active_scale(0.15, 25, 25), active_scale(0.1, 4, 1)
        (0.25, 1.0)
    """

    def nearest(x: float) -> int:
        return int(x + 0.5)  # halves go up, unlike Python's round

    n_con = max(n_con, 1.0)
    active = max(nearest(nominal * n_send), 1)
    if n_con == n_send:
        return 1 / active
    return 1 / min(max(nearest(nominal * n_con), 1) + 2, int(min(n_con, active)))


def scales(incoming: list[Path]) -> dict[str, float]:
    """Conductance per unit of weight and spike for each path into one layer, by name (fact sheet, section 5.2).

    Scale = abs rel / (sum of rel over paths of the same conductance) x `active_scale`.
    """
    groups = {path.name: "excitatory" if path.kind == "context" else path.conductance for path in incoming}
    total: dict[str, float] = {}
    for path in incoming:
        total[groups[path.name]] = total.get(groups[path.name], 0.0) + path.params.scale.rel
    made: dict[str, float] = {}
    for path in incoming:
        share = path.params.scale
        rel = share.rel / total[groups[path.name]] if total[groups[path.name]] > 0 else 0.0
        made[path.name] = (
            share.abs * rel * active_scale(path.send.params.inhib.nominal, path.send.n, path.n_con)
        )
    return made


def pattern(
    which: str | Tensor | Callable[[Layer, Layer], Tensor], send: Layer, recv: Layer
) -> Tensor | None:
    """Connectivity mask `[send, recv]` from a name, a mask or a function of the layers; None is full.

    Names: `"full"`; `"one-to-one"`, neuron i to neuron i; `"pool-one-to-one"`, every neuron of a sub-pool to every one
    of the sub-pool at the same place.

    Raises:
        ValueError: layers whose sizes do not fit the pattern, an unknown name, or a receiver without any sender.

    Example:
        >>> a, b = Layer("a", (1, 2)), Layer("b", (1, 2))
        >>> pattern("one-to-one", a, b).tolist()
        [[True, False], [False, True]]
    """
    what = f"path {send.name}->{recv.name}"
    if isinstance(which, str):
        if which == "full":
            return None
        if which == "one-to-one":
            if send.n != recv.n:
                raise ValueError(
                    f"{what}: one-to-one needs layers of one size, got {send.n} ({send.name}) and {recv.n} "
                    f"({recv.name}); make them equal or use pattern='full'"
                )
            return torch.eye(send.n, dtype=torch.bool)
        if which == "pool-one-to-one":
            if send.pools == 1 or send.shape[:2] != recv.shape[:2]:
                raise ValueError(
                    f"{what}: pool-one-to-one needs sub-pools of one arrangement, got shapes {send.shape} and {recv.shape}"
                )
            block = torch.ones(send.n // send.sub_pools, recv.n // recv.sub_pools)
            return torch.block_diag(*[block] * send.sub_pools).bool()
        raise ValueError(
            f"{what}: unknown pattern {which!r}; expected 'full', 'one-to-one', 'pool-one-to-one', a mask, or a function"
        )
    mask = torch.as_tensor(which if isinstance(which, Tensor) else which(send, recv))
    if tuple(mask.shape) != (send.n, recv.n):
        raise ValueError(f"{what}: the mask is [send, recv] = [{send.n}, {recv.n}], got {list(mask.shape)}")
    mask = mask.bool()
    alone = (~mask.any(0)).nonzero().flatten()
    if len(alone):
        raise ValueError(
            f"{what}: {len(alone)} of {recv.n} receivers have no sender (the first is neuron {int(alone[0])}); connect "
            "every receiver, or make two layers"
        )
    return mask
