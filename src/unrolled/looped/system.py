"""The loop of a looped model as a `System`: one step is one pass through the stack."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.looped.span import Span, rotary

if TYPE_CHECKING:
    from unrolled.looped.model import LT2


class BlockSystem:
    """h_{t+1} = F(h_t) + rho_{t+1} * h_t, the loop of LT2 (2605.20670, eq. 2), to roll out and to read.

    The state is `{"h": [B, L, d], "loop": loops done}`; the input is tokens `[B, L]` or vectors `[B, L, d]`, read at the
    start only. A step uses plain operators, so that derivatives of any order are exact. `readouts`: `logits` (what the
    model would answer after this loop), `norm` (root mean square of every token's stream).

    Raises:
        ValueError: a model whose state goes from token to token (`carry`).

    Example:
        >>> from unrolled import rollout
        >>> from unrolled.looped import LT2, LT2Config
        >>> model, tokens = LT2(LT2Config.preset("tiny")).eval(), torch.arange(6)[None]
        >>> path = rollout(model.block_system(), tokens, 4, record=["logits"])
        >>> torch.allclose(path["logits"][-1], model(tokens).logits, atol=1e-4)
        True
    """

    def __init__(self, model: "LT2", *, eager: bool = True) -> None:
        if model.config.carry:
            raise ValueError(
                "a model with carry=True goes token by token, not loop by loop: it has no block system"
            )
        self.model, self.eager = model, eager
        self.readouts: dict[str, Callable[[Any], Tensor]] = {
            "logits": lambda state: model.read_out(state["h"]),
            "norm": lambda state: state["h"].square().mean(-1).sqrt(),
        }

    def init(self, input: Tensor, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """h_0 = Emb(x)."""
        vectors = input.is_floating_point()
        h = self.model.embed_input(None if vectors else input, input if vectors else None)
        return {"h": h.clone() if vectors else h, "loop": torch.zeros((), dtype=torch.long, device=h.device)}

    def step(
        self, state: dict[str, Tensor], input: Any, *, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """One loop."""
        model, h, loop = self.model, state["h"], int(state["loop"])
        at = torch.arange(h.shape[1], device=h.device)
        span = Span(loop, eager=self.eager)
        if model.turns:
            span.positions = at
            span.rotary = rotary(at, model.config.head_dim, model.config.rope_base, h.dtype)
        after = h
        for block in model.blocks:
            after = block(after, span)
        return {"h": model.loop_end(after, h, loop), "loop": state["loop"] + 1}
