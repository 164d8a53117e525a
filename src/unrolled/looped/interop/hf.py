"""The model for `transformers` (extra `hf`): its `generate`, its `Trainer`, and whatever takes a causal language model.

    from unrolled.looped.interop.hf import LT2ForCausalLM
    model = LT2ForCausalLM.from_pretrained(folder)   # what LT2.save_pretrained wrote, or transformers
    model.generate(input_ids, attention_mask=mask, max_new_tokens=20, num_beams=4)

The classes are registered, so that AutoModelForCausalLM finds them once this module is imported.
"""
# pyright: basic

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from unrolled.looped.cache import Cache
from unrolled.looped.config import LT2Config as Shape
from unrolled.looped.interop.folder import TYPE
from unrolled.looped.model import LT2


class LT2Config(PretrainedConfig):
    """`unrolled.looped.LT2Config` as `transformers` has configurations: the same fields, in one config.json."""

    model_type = TYPE

    def __init__(self, **values: Any) -> None:
        known = Shape().to_dict()
        shape = Shape.from_dict({name: values.pop(name) for name in list(values) if name in known})
        for name, value in shape.to_dict().items():
            setattr(self, name, value)
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = (
            shape.width,
            shape.layers,
            shape.heads,
        )
        self.max_position_embeddings = shape.context
        for name in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
            "_fields",
        ):
            values.pop(name, None)
        values["tie_word_embeddings"] = False  # a tied model has no second matrix to tie
        super().__init__(**values)

    @property
    def shape(self) -> Shape:
        """As `LT2` takes it."""
        return Shape.from_dict({name: getattr(self, name) for name in Shape().to_dict()})


class Past(Cache):
    """`Cache` under the names that `transformers` calls."""

    is_compileable = False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns read, padding included: what an attention mask counts."""
        return self.columns

    columns = 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam search."""
        self.reorder(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.reorder(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self.reorder(torch.arange(self.batch or 0).repeat_interleave(repeats))


class LT2ForCausalLM(PreTrainedModel, GenerationMixin):
    """`LT2` with the interface of a causal language model."""

    config_class = LT2Config
    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012 - transformers reads a list
    main_input_name = "input_ids"

    def __init__(self, config: LT2Config) -> None:
        super().__init__(config)
        self.model = LT2(config.shape)
        self.post_init()

    @classmethod
    def of(cls, model: LT2) -> "LT2ForCausalLM":
        """Around a model that exists, sharing its weights."""
        made = cls(LT2Config(**model.config.to_dict()))
        made.model = model
        return made

    def _init_weights(self, module: torch.nn.Module) -> None:
        """LT2 draws its own."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_input_embeddings(self) -> torch.nn.Module:
        """The token embedding."""
        return self.model.embed

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        """Put another in its place."""
        self.model.embed = value  # pyright: ignore[reportAttributeAccessIssue]

    def get_output_embeddings(self) -> torch.nn.Module | None:
        """The read-out, if it is a matrix of its own."""
        return self.model.head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        loops: int | None = None,
        num_items_in_batch: Any = None,
        return_dict: bool | None = None,
        **unused: Any,
    ) -> CausalLMOutputWithPast:
        """As of every causal language model of `transformers`; `loops` is ours, `hidden_states` are h_1..h_T.

        `attention_mask` is `[B, past + L]` or `[B, L]`, 0 at padding. With `labels` (shifted inside) the loss is the mean
        over their tokens.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("give input_ids or inputs_embeds")
        length = given.shape[1]
        cache = past_key_values
        if cache is None and use_cache and not (self.training and labels is not None):
            cache = Past()
        mask = None
        if attention_mask is not None:
            if attention_mask.ndim != 2:
                raise ValueError(
                    f"attention_mask is [batch, length], got {tuple(attention_mask.shape)}: 4D masks are not supported"
                )
            mask = attention_mask[:, -length:].bool()
        if position_ids is not None and position_ids.ndim == 2 and position_ids.shape[0] == 1:
            position_ids = position_ids[0]
        out = self.model(
            input_ids if inputs_embeds is None else None,
            inputs_embeds=inputs_embeds,
            positions=position_ids,
            loops=loops,
            cache=cache,
            mask=mask,
            logits=False,
        )
        if cache is not None:
            cache.columns = (getattr(cache, "columns", 0)) + length
        hidden = out.hidden[:, -logits_to_keep:] if logits_to_keep else out.hidden
        logits = self.model.head_of(hidden)
        loss = None
        if labels is not None:
            target = labels[:, 1:].flatten()
            summed = F.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), target, ignore_index=-100, reduction="sum"
            )
            loss = summed / (
                num_items_in_batch if num_items_in_batch is not None else (target != -100).sum().clamp(min=1)
            )
            if out.aux is not None:
                loss = loss + self.model.config.index_loss * out.aux
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=cache,  # pyright: ignore[reportArgumentType]
            hidden_states=out.hidden_per_loop if output_hidden_states else None,
        )


AutoConfig.register(TYPE, LT2Config, exist_ok=True)
AutoModelForCausalLM.register(LT2Config, LT2ForCausalLM, exist_ok=True)
