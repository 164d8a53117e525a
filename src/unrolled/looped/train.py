"""What training a looped model needs beside `training.fit`: which parameters decay.

    text, held_out = training.corpus(path).split(0.05)
    model = LT2(LT2Config.preset("tiny"))
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=3e-3, betas=(0.9, 0.95))
    training.fit(model, text.batches(batch=16, context=128), tasks.loss, optimizer, steps=1000, clip=1.0)

`unrolled looped train` is this with a schedule, checkpoints and many processes.
"""

from typing import Any

from torch import Tensor, nn

FREE = ("A_log", "dt_bias", "rho")
"""Last names of parameters that never decay: decay rates, time steps, the residual between loops."""


def parameter_groups(model: nn.Module, weight_decay: float = 0.1) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices, which decay, and the rest, which does not.

    Vectors (gains of norms), `A_log`, `dt_bias` and `rho` are the rest (LT2 2605.20670, section 1.1, on the first two). Shared
    parameters are taken once. Parameters keep their names, so that `optim.Muon` can read them too.

    Args:
        model: plain, or wrapped.
        weight_decay: of the matrices.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.LayerNorm(3))
        >>> [(len(group["params"]), group["weight_decay"]) for group in parameter_groups(model)]
        [(1, 0.1), (2, 0.0)]
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decays = [(n, p) for n, p in named if p.ndim >= 2 and n.rpartition(".")[2] not in FREE]
    rest = [(n, p) for n, p in named if p.ndim < 2 or n.rpartition(".")[2] in FREE]
    made = [{"params": decays, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in made if group["params"]]


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """What Muon is for: matrices that map one hidden vector to another. A recipe for `optim.Muon`.

    Embedding, head, rho and short convolutions are none, though they have two axes.

    Example:
        >>> import torch
        >>> w = torch.zeros(2, 2)
        >>> [is_hidden_matrix(name, w) for name in ("blocks.0.ffn.up.weight", "embed.weight", "blocks.0.mixer.conv.weight")]
        [True, False, False]
    """
    parts = name.split(".")
    return parameter.ndim == 2 and parts[-1] not in FREE and not {"embed", "head", "conv"} & set(parts)
