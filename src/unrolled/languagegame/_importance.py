"""`importance`: which node of the frozen system decided an action, by `instruments.influence`."""

from typing import Any

import torch
from torch import Tensor

from unrolled.instruments import Reading, influence


class Readout:
    """The part of a policy from concentrations to actions as a system: one step takes x to `y`, the raw output D[f(x)].

    Args:
        policy: a `Policy`.
        contrast: `[A]`, weights of the outputs: what is read is their weighted sum. None reads them all.
    """

    def __init__(self, policy: Any, contrast: Tensor | None = None) -> None:
        self.policy, self.contrast = policy, contrast

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Concentrations, `[B, d]`, and nothing read yet."""
        return {"x": input, "y": input.new_zeros(self._of(input).shape)}

    def step(
        self, state: dict[str, Tensor], input: Any = None, *, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The output that concentrations lead to; they stay as they are."""
        return {"x": state["x"], "y": self._of(state["x"])}

    def _of(self, x: Tensor) -> Tensor:
        policy, core = self.policy, self.policy.core
        mu, std = core.scale(x)
        rate = (
            core.field(x)
            if policy.mode == "field"
            else core.flow(x, policy.tau * core.time_scale, policy.substeps)
        )
        g = torch.nan_to_num(rate, nan=0.0, posinf=1e6, neginf=-1e6)
        made = policy.decoder((g - mu) / std if g.shape[-1] == core.width else g)
        return made if self.contrast is None else (made * self.contrast.to(made)).sum(-1)


def importance(policy: Any, observations: Any, *, action: Any = None) -> Reading:
    """Each node's share in what a policy does: |d output / d concentration| times the node's own spread.

    The gradient is taken of the output in excess of the others' mean (the likeliest choice, or `action`), or of all joints of
    a continuous action, at the concentrations that the observations are encoded to, and summed over them.

    Args:
        policy: a `Policy`.
        observations: `[m]` or `[B, m]`.
        action: a choice; the policy's own in the first observation when None.

    Returns:
        The reading of `instruments.influence`, one row per node: `share`, `strength`, `effect`, and `ranking`. Its notes name
        the nodes in order.

    Raises:
        ValueError: observations of another width, or not finite.

    Example:
        A species that never changes decides nothing:

        >>> from unrolled.languagegame import Policy
        >>> reading = importance(Policy.make("CartPole-v1", "tyson1999"), [0.0, 0.1, 0.0, -0.1])
        >>> float(reading["share"][0])  # EmptySet
        0.0
    """
    trace = policy.trace(observations)
    x = trace["projected"]
    x = x if x.ndim > 1 else x[None]
    contrast = None
    if policy.discrete:
        logits = trace["logits"] if trace["logits"].ndim > 1 else trace["logits"][None]
        chosen = int(logits[0].argmax()) if action is None else int(action)
        contrast = torch.full((policy.actions,), -1.0 / max(1, policy.actions - 1))
        contrast[chosen] = 1.0
    _, std = policy.core.scale(x)
    training = policy.training
    policy.eval()
    made = influence(
        Readout(policy, contrast), x, 1, of="y", leaf="x", axis=1, normalise=std, method="gradient"
    )  # fmt: skip
    policy.train(training)
    names = [policy.species[i] for i in made["ranking"].tolist()]
    return _noted(made, f"nodes, strongest first: {', '.join(names)}")


def _noted(reading: Reading, note: str) -> Reading:
    from dataclasses import replace

    return replace(reading, notes=(*reading.notes, note))
