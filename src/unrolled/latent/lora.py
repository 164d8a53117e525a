"""Low-rank adapters through `peft`, for methods that train few weights of a large model (extra `peft`)."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from unrolled.core import require

GPT2 = ("c_attn", "c_proj", "c_fc")
LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def lora(
    model: nn.Module,
    *,
    r: int = 128,
    alpha: int = 32,
    dropout: float = 0.1,
    targets: Sequence[str] | None = None,
) -> Any:
    """W x + (alpha / r) B A x in place of W x, only A `[r, in]` and B `[out, r]` learnt (2106.09685).

    The defaults are those of CODI and PCCoT (2502.21074, 2506.18582). B begins at zero, so the model begins as it was.
    Pass what comes back to `Thinker`; the method's own weights, such as CODI's projection, are trained in full.

    Args:
        model: a causal language model of transformers; its weights are frozen, and adapters put into it.
        r: rank.
        alpha: scale.
        dropout: of the adapters' input.
        targets: names of the layers that are adapted; attention and MLP of GPT-2 or Llama shapes if not given.

    Returns:
        A `peft.PeftModel`.

    Raises:
        ImportError: peft is not installed (extra `peft`).
        ValueError: a rank below 1, or no layer of the names asked for.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> size = dict(n_layer=1, n_head=2, n_embd=8, vocab_size=11, bos_token_id=0, eos_token_id=0)
        >>> adapted = lora(GPT2LMHeadModel(GPT2Config(**size)), r=2)
        >>> sum(p.numel() for p in adapted.parameters() if p.requires_grad)  # 2 (8+24 + 8+8 + 8+32 + 32+8)
        256
    """
    peft = require("peft", extra="peft")
    if r < 1:
        raise ValueError(f"the rank must be at least 1, got r={r}")
    ends = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    chosen = (GPT2 if "c_attn" in ends else LLAMA) if targets is None else targets
    found = [name for name in chosen if name in ends]
    if not found or (targets is not None and len(found) < len(chosen)):
        raise ValueError(
            f"{type(model).__name__} has no layer called {', '.join(n for n in chosen if n not in ends)}: name its layers, targets=[...]"
        )
    config = peft.LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=found, task_type="CAUSAL_LM",
        fan_in_fan_out=targets is None and chosen is GPT2,
    )  # fmt: skip
    return peft.get_peft_model(model, config)


def adapted(model: Any) -> bool:
    """Whether a model carries adapters of `peft`."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def save(model: Any, folder: Path) -> None:
    """Write a model with adapters: the model as it was to `model`, the adapters to `adapter`."""
    model.save_pretrained(folder / "adapter")
    copy.deepcopy(model).unload().save_pretrained(folder / "model")


def load(model: nn.Module, folder: Path) -> Any:
    """The model with the adapters of `folder / "adapter"`, trainable."""
    return require("peft", extra="peft").PeftModel.from_pretrained(
        model, str(folder / "adapter"), is_trainable=True
    )
