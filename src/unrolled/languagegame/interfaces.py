"""The three parts of a policy that learn: encoder, decoder, critic."""

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """z = BN(W_E o + b_E): what is observed, as one number per species.

    Args:
        observations: m.
        width: d.
    """

    def __init__(self, observations: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(observations, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, obs: Tensor) -> Tensor:
        """`[B, m]` -> `[B, d]`."""
        return self.norm(self.linear(obs))


class Decoder(nn.Module):
    """Logits or a Gaussian's mean: W_D BN(h) + b_D; a continuous action has a log standard deviation per joint, first 0.

    Args:
        width: d.
        actions: number of choices, or of joints.
        discrete: which of the two.
        low: least value of each joint, `[A]`.
        high: largest value of each joint.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        width: int,
        actions: int,
        discrete: bool = True,
        *,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, actions)
        self.discrete = discrete
        self.log_std = None if discrete else nn.Parameter(torch.zeros(actions))
        ends = (-torch.ones(actions) if low is None else low, torch.ones(actions) if high is None else high)
        self.register_buffer("low", torch.as_tensor(ends[0], dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.as_tensor(ends[1], dtype=torch.float32), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """`[B, d]` -> `[B, A]`."""
        return self.linear(self.norm(h))


class Critic(nn.Module):
    """V = w . MLP(z), d -> 128 -> 128 -> 64 -> 1 with SiLU: it sees what is encoded, not what the network makes of it.

    Args:
        width: d.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, 1)
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        """`[B, d]` -> `[B]`."""
        return self.layers(z)[:, 0]


def orthogonal(module: nn.Module, gain: float, rng: torch.Generator) -> None:
    """Orthogonal weights and zero biases in every linear layer, as stable-baselines3 starts its policies."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain, generator=rng)
            nn.init.zeros_(layer.bias)
