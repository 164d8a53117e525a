"""Making the circuit: layers and paths of prediction, in the names of the fact sheet (section 5.10).

Tags are Axon's classes, for sheets: `.ct_from_super`, `.ct_self_context`, `.ct_self_maintenance`, `.ct_to_pulvinar`,
`.from_pulvinar`.
"""

import dataclasses
from collections.abc import Sequence

from unrolled.cortex.axon.layer import Layer
from unrolled.cortex.axon.paths import Path
from unrolled.cortex.axon.sheets import replace
from unrolled.cortex.network import Network
from unrolled.cortex.thalamus.layers import CT, Member, Pulvinar, Super, context_change


def super_layer(
    net: Network, name: str, shape: Sequence[int], kind: Super | None = None, *, tags: Sequence[str] = ()
) -> Layer:
    """Add a superficial layer that bursts.

    Raises:
        ValueError: as `Network.layer`.
    """
    return _made(net, name, shape, kind or Super(), tags)


def super_ct(
    net: Network,
    name: str,
    shape: Sequence[int],
    sup: Super | None = None,
    ct: CT | None = None,
    *,
    pattern: str = "full",
) -> tuple[Layer, Layer]:
    """Add a superficial layer and its corticothalamic layer (named with `CT` after it), with the context path between.

    Example:
        >>> hidden, ct = super_ct(Network(), "Hidden", (2, 2))
        >>> ct.name, ct.params.inhib.layer.gi, ct.params.decay.act
        ('HiddenCT', 2.2, 0.0)
    """
    above = super_layer(net, name, shape, sup)
    below = _made(net, f"{name}CT", shape, ct or CT(), ())
    context(net, above, below, pattern, tags=("ct_from_super",))
    return above, below


def context(
    net: Network, send: Layer | str, recv: Layer | str, pattern: str = "full", *, tags: Sequence[str] = ()
) -> Path:
    """Connect a context path: sent once a trial, learned from the bursts of the trial before.

    Raises:
        ValueError: a sender that does not burst, or a receiver that is no CT layer.
    """
    a, b = (net.layers.get(x, x) if isinstance(x, str) else x for x in (send, recv))
    if not isinstance(a, Layer) or not isinstance(b, Layer):
        raise ValueError(f"context({send!r}, {recv!r}): there are {', '.join(net.layers) or 'no layers yet'}")
    if not isinstance(a.kind, Member) or not isinstance(b.kind, CT):
        raise ValueError(
            f"context {a.name} -> {b.name}: goes from a super, CT or pulvinar layer to a CT layer, got "
            f"{a.kind.name} -> {b.kind.name}"
        )
    path = net.connect(a, b, pattern, kind="context", tags=tags, rule=context_change)
    path.params = replace(path.params, {"dwt.learn_thr": 0.0})
    return path


def ct_self(net: Network, ct: Layer, pattern: str = "full") -> tuple[Path, Path]:
    """Let a CT layer keep its own context: a context path to itself, and a maintenance path (abs 0.5) that lasts.

    Example:
        >>> net = Network()
        >>> _, ct = super_ct(net, "Hidden", (2, 2))
        >>> [path.kind for path in ct_self(net, ct)]
        ['context', 'maintenance']
    """
    own = context(net, ct, ct, pattern, tags=("ct_self_context",))
    keeps = net.connect(ct, ct, pattern, kind="maintenance", tags=("ct_self_maintenance",))
    keeps.params = replace(keeps.params, {"scale.abs": 0.5})
    return own, keeps


def pulvinar(
    net: Network,
    name: str,
    driver: Layer | str,
    kind: Pulvinar | None = None,
    *,
    tags: Sequence[str] = (),
) -> Layer:
    """Add a pulvinar layer of the size of its driver, which is there already.

    Raises:
        ValueError: a driver that is not there.
    """
    driver = driver if isinstance(driver, str) else driver.name
    if driver not in net.layers:
        raise ValueError(
            f"pulvinar {name!r}: there is no driver {driver!r}; there are {', '.join(net.layers) or 'none yet'}"
        )
    made = dataclasses.replace(kind or Pulvinar(), driver=driver)
    return _made(net, name, net.layers[driver].shape, made, tags)


def connect_pulvinar(net: Network, above: Layer, ct: Layer, relay: Layer) -> None:
    """CT predicts the pulvinar; the pulvinar tells the superficial and the CT layer, weakly, what it shows."""
    net.connect(ct, relay, tags=("ct_to_pulvinar",))
    net.connect(relay, above, kind="back", tags=("from_pulvinar",))
    net.connect(relay, ct, kind="back", tags=("from_pulvinar",))


def _made(net: Network, name: str, shape: Sequence[int], kind: Member, tags: Sequence[str]) -> Layer:
    return net.layer(name, shape, dataclasses.replace(kind, net=net, layer=name), tags=tags)
