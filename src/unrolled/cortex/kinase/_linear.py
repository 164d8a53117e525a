"""Synaptic calcium from bins: one weight per 10 ms instead of an integration per synapse and cycle."""

import torch
from torch import Tensor

BIN = 10
"""Width of a bin, ms."""


def synaptic_weights(cycles: int, plus: int) -> tuple[Tensor, Tensor]:
    """Weights that turn binned calcium into a synapse's CaP and CaD (cortex fact sheet, section 4.3).

    Integrating every synapse at every cycle costs a network its speed. Instead each neuron keeps its CaSyn averaged in
    10-ms bins, and at the end of the trial CaP = sum_b cap_b s_b r_b and CaD = sum_b cad_b s_b r_b.

    Args:
        cycles: length of the theta cycle, ms, a multiple of 10.
        plus: length of its plus phase, ms, at least 5 and shorter than the cycle.

    Returns:
        `(cap, cad)`, each `[cycles / 10]`, float64.

    Raises:
        ValueError: a length that is no multiple of 10, or a plus phase that does not fit.

    Example:
        >>> cap, cad = synaptic_weights(200, 50)
        >>> [round(float(w), 4) for w in cap[-6:]], [round(float(w), 4) for w in cad[-6:]]
        ([0.336, 0.5408, 0.7456, 0.9504, 1.1552, 1.36], [0.584, 0.5664, 0.5488, 0.5312, 0.5136, 0.496])
    """
    if cycles <= 0 or cycles % BIN:
        raise ValueError(
            f"cycles={cycles}: a theta cycle is a positive multiple of {BIN} ms, the width of a bin"
        )
    n, n_plus = cycles // BIN, round(plus / BIN)
    if not 0 < plus < cycles or not 0 < n_plus < n:
        raise ValueError(
            f"plus={plus}: the plus phase has at least one bin of {BIN} ms and is shorter than the {cycles} ms"
        )
    n_minus = n - n_plus

    cap, cad = [0.0] * n, [0.0] * n
    rise, fall = (3.4 - 0.84) / n_plus, 0.22 / n_plus
    for i in range(n_plus):
        cap[n_minus + i] = 0.84 + (i + 1) * rise
        cad[n_minus + i] = 1.46 - (i + 1) * fall

    value = 0.84
    for b in reversed(range(n_minus)):  # gently for twice the plus phase, then steeply down to 0
        cap[b] = max(value, 0.0)
        gently = n_minus - 1 - b < 2 * n_plus
        value -= 0.3 / (2 * n_plus - 1) if gently and n_plus > 1 else 0.3 if gently else 0.7 / n_plus

    value = 1.46
    for b in reversed(range(n_minus)):  # level for the length of the plus phase, then down
        cad[b] = max(value, 0.0)
        if n_minus - 1 - b >= n_plus:
            value -= 1.2 / (n_plus + 1)
    scale = BIN / 25
    return scale * torch.tensor(cap, dtype=torch.float64), scale * torch.tensor(cad, dtype=torch.float64)


def bins(series: Tensor, width: int = BIN) -> Tensor:
    """Means over consecutive bins of the first axis: `[cycles, ...]` to `[cycles / width, ...]`.

    Raises:
        ValueError: the number of cycles is no multiple of the width.

    Example:
        >>> bins(torch.arange(20.0)).tolist()
        [4.5, 14.5]
    """
    if len(series) % width:
        raise ValueError(f"{len(series)} cycles do not divide into bins of {width}")
    return series.reshape(len(series) // width, width, *series.shape[1:]).mean(dim=1)


def linear(pre: Tensor, post: Tensor, plus: int = 50) -> tuple[Tensor, Tensor]:
    """A synapse's CaP and CaD at the end of a theta cycle from binned traces (fact sheet, section 4.3).

    Args:
        pre: CaSyn of the sender in 10-ms bins, `[bins, ...]`.
        post: CaSyn of the receiver, same shape.
        plus: length of the plus phase, ms.

    Returns:
        `(CaP, CaD)`, each `[...]`.

    Raises:
        ValueError: different shapes, or as `synaptic_weights`.

    Example:
        >>> cap, cad = linear(torch.ones(20), torch.ones(20))
        >>> round(float(cap), 3), round(float(cad), 3)
        (7.987, 8.008)
    """
    if pre.shape != post.shape:
        raise ValueError(
            f"pre and post are [bins, ...] of one shape: got {tuple(pre.shape)} and {tuple(post.shape)}"
        )
    weights = torch.stack(synaptic_weights(BIN * len(pre), plus)).to(pre)
    cap, cad = torch.tensordot(weights, pre * post, dims=1)
    return cap, cad
