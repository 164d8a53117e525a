"""One way to read vectors into any causal language model: Hugging Face's, or one that takes `inputs_embeds` and a cache.

The survey's phi_head o phi_L o ... o phi_1 o phi_emb (2604.02029, eq. 6) with its two ends apart: `embed` and `head`
are asked for where they are needed, so a thought never pays for the vocabulary.
"""

import copy
import inspect
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Backbone(Protocol):
    """What a method may ask of a language model.

    Attributes:
        width: d, of an embedding and of a last hidden state.
        vocabulary: rows of the head.
        context: longest sequence, or None.
    """

    width: int
    vocabulary: int
    context: int | None

    def embed(self, tokens: Tensor) -> Tensor:
        """`[...]` token ids -> `[..., d]`."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """`[..., d]` last hidden states, after the final norm -> `[..., vocabulary]` logits."""
        ...

    def weights(self) -> tuple[Tensor, Tensor]:
        """W_in and W_out, `[vocabulary, d]` each; the same tensor where they are tied."""
        ...

    def advance(
        self,
        embeds: Tensor,
        positions: Tensor,
        valid: Tensor | None,
        seen: Tensor | None,
        cache: Any,
        every: list[Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        """Read `[B, L, d]` after what `cache` holds (None to begin); it may be changed in place.

        Args:
            embeds: the inputs.
            positions: `[B, L]`.
            valid: `[B, L]` bool, which of them are there; None for all.
            seen: `[B, past + L]` bool, the same for all that was ever read; None for all.
            cache: what an earlier call returned.
            every: a list to fill with the hidden states `[B, L, d]` of every layer, the embeddings first.

        Returns:
            Last hidden states `[B, L, d]`, and the cache.
        """
        ...

    def fork(self, cache: Any) -> Any:
        """A cache that can be read on from without changing this one. Tensors are shared."""
        ...


@dataclass(frozen=True)
class Stream:
    """What a model has read so far, row by row.

    Attributes:
        hidden: `[B, d]`, the last hidden state of each row.
        length: `[B]`, tokens and thoughts read: the position of the next.
        columns: columns read, skipped ones included.
        seen: `[B, columns]` bool, which columns each row has read; None where all.
        cache: the model's own.
    """

    hidden: Tensor
    length: Tensor
    columns: int
    seen: Tensor | None
    cache: Any

    @property
    def batch(self) -> int:
        """Rows."""
        return self.hidden.shape[0]

    def fork(self, backbone: Backbone) -> "Stream":
        """A stream that can be read on from without changing this one."""
        return replace(self, cache=backbone.fork(self.cache))


def read(
    backbone: Backbone,
    stream: Stream | None,
    embeds: Tensor,
    valid: Tensor | None = None,
    every: list[Tensor] | None = None,
) -> tuple[Tensor, Stream]:
    """Read `[B, L, d]` after `stream`; rows may skip columns.

    A skipped column is seen by nobody, takes no position, and leaves the row's last hidden state as it was, so rows of
    different lengths share a pass without touching one another.

    Args:
        backbone: the model.
        stream: what came before, or None to begin.
        embeds: the inputs.
        valid: `[B, L]` bool, False where a row skips; None where nobody does.
        every: a list to fill with the hidden states of every layer.

    Returns:
        All last hidden states `[B, L, d]`, and the stream after them. Columns that were skipped hold nothing of use.
    """
    batch, columns = embeds.shape[:2]
    length = embeds.new_zeros(batch, dtype=torch.long) if stream is None else stream.length
    if valid is not None and bool(valid.all()):
        valid = None
    if valid is None:
        positions = length[:, None] + torch.arange(columns, device=embeds.device)
    else:
        positions = (length[:, None] + valid.long().cumsum(1) - 1).clamp(min=0)
    past = 0 if stream is None else stream.columns
    seen = None if stream is None else stream.seen
    if valid is not None or seen is not None:
        there = torch.ones(batch, past + columns, dtype=torch.bool, device=embeds.device)
        before, now = there[:, :past], there[:, past:]
        seen = torch.cat([before if seen is None else seen, now if valid is None else valid], 1)
    past_cache = None if stream is None else stream.cache
    hidden, cache = backbone.advance(embeds, positions, valid, seen, past_cache, every)
    if valid is None:
        return hidden, Stream(hidden[:, -1], length + columns, past + columns, seen, cache)
    at = (valid.long() * torch.arange(1, columns + 1, device=valid.device)).amax(1)
    last = hidden[torch.arange(batch, device=hidden.device), (at - 1).clamp(min=0)]
    if stream is not None:
        last = torch.where((at > 0)[:, None], last, stream.hidden)
    return hidden, Stream(last, length + valid.sum(1), past + columns, seen, cache)


class HuggingFace:
    """Any causal language model of transformers (4.46 to 5.x) that takes `inputs_embeds`.

    Raises:
        TypeError: the model does not take `inputs_embeds`, or has no output embeddings.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11, bos_token_id=0, eos_token_id=0)
        >>> model = GPT2LMHeadModel(config).eval()
        >>> backbone, tokens = HuggingFace(model), torch.tensor([[1, 2, 3]])
        >>> hidden, stream = read(backbone, None, backbone.embed(tokens))
        >>> torch.allclose(backbone.head(hidden), model(tokens).logits, atol=1e-5)
        True
    """

    def __init__(self, model: nn.Module):
        decoder = getattr(model, "base_model", None)
        out = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # pyright: ignore[reportCallIssue]
        name = type(model).__name__
        if (
            decoder is None
            or decoder is model
            or "inputs_embeds" not in inspect.signature(decoder.forward).parameters
        ):
            raise TypeError(
                f"{name} cannot be fed vectors: its decoder takes no inputs_embeds. Pass a causal language model of transformers "
                "(GPT2LMHeadModel, LlamaForCausalLM, ...), or one with embed(tokens), head_of(hidden) and new_cache()"
            )
        if out is None:
            raise TypeError(
                f"{name} has no output embeddings: pass the causal language model, not its bare decoder"
            )
        self.model, self.decoder, self.out = model, decoder, cast(nn.Module, out)
        self.into = cast(nn.Module, model.get_input_embeddings())  # pyright: ignore[reportCallIssue]
        self.width, self.vocabulary = int(self.into.weight.shape[1]), int(self.out.weight.shape[0])  # pyright: ignore
        self.context: int | None = getattr(model.config, "max_position_embeddings", None)  # pyright: ignore

    def embed(self, tokens: Tensor) -> Tensor:
        """Input embeddings."""
        return self.into(tokens)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits."""
        return self.out(hidden)

    def weights(self) -> tuple[Tensor, Tensor]:
        """W_in and W_out."""
        return self.into.weight, self.out.weight  # pyright: ignore[reportReturnType]

    def advance(
        self,
        embeds: Tensor,
        positions: Tensor,
        valid: Tensor | None,
        seen: Tensor | None,
        cache: Any,
        every: list[Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        """The decoder without its head."""
        out = self.decoder(
            inputs_embeds=embeds,
            attention_mask=None if seen is None else seen.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=every is not None,
            return_dict=True,
        )
        if every is not None:
            every.extend(out.hidden_states)
        return out.last_hidden_state, out.past_key_values

    def fork(self, cache: Any) -> Any:
        """A shallow copy: transformers' caches grow by concatenation, which leaves the old tensors alone."""
        if cache is None or isinstance(cache, tuple):
            return cache
        made = copy.copy(cache)
        for name in ("layers", "key_cache", "value_cache"):
            kept = getattr(cache, name, None)
            if kept is not None:
                setattr(made, name, [copy.copy(layer) if name == "layers" else layer for layer in kept])
        return made


Pairs = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, `[B, heads, T, width]` each."""


def keys_values(cache: Any) -> Pairs:
    """Keys and values of a transformers cache (4.46 to 5.x).

    Raises:
        TypeError: a cache that holds something else, such as the states of linear attention.
    """
    layers = getattr(cache, "layers", None)
    if layers is not None:
        found = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in layers]
    else:
        found = list(zip(getattr(cache, "key_cache", ()), getattr(cache, "value_cache", ()), strict=True))
    pairs = [(k, v) for k, v in found if isinstance(k, Tensor) and isinstance(v, Tensor) and k.ndim == 4]
    if not pairs or len(pairs) < len(found):
        raise TypeError(
            f"{type(cache).__name__} does not hold keys and values in every layer: caches are handed over between attention models of "
            "transformers (GPT-2, Llama, Qwen shapes)"
        )
    return pairs


def with_keys_values(cache: Any, pairs: Pairs) -> Any:
    """A copy of a transformers cache with other keys and values."""
    made = copy.copy(cache)
    if hasattr(cache, "layers"):
        made.layers = [copy.copy(layer) for layer in cache.layers]
        for layer, (keys, values) in zip(made.layers, pairs, strict=True):
            layer.keys, layer.values = keys, values
    else:
        made.key_cache, made.value_cache = [k for k, _ in pairs], [v for _, v in pairs]
    return made


class Native:
    """A model that is called as `looped.LT2` is, and has `embed(tokens)`, `head_of(hidden)` and `new_cache()`.

    The call is `model(inputs_embeds=, positions=, cache=, mask=, logits=False)` and returns something with `.hidden`,
    `.hidden_per_loop` and `.cache`; `mask` `[B, L]` says which of the new inputs are there, and its cache keeps count by
    itself.

    Raises:
        TypeError: one of them is missing.
    """

    def __init__(self, model: nn.Module):
        missing = [
            name for name in ("embed", "head_of", "new_cache") if not callable(getattr(model, name, None))
        ]
        if missing:
            raise TypeError(
                f"{type(model).__name__} has no {', '.join(missing)}: a Thinker needs a causal language model of transformers, or one "
                "with embed, head_of and new_cache, such as looped.LT2"
            )
        self.model: Any = model
        self.vocabulary, self.width = (int(n) for n in self.weights()[1].shape)
        self.context: int | None = getattr(model.config, "context", None)  # pyright: ignore

    def embed(self, tokens: Tensor) -> Tensor:
        """Input embeddings."""
        return self.model.embed(tokens)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits."""
        return self.model.head_of(hidden)

    def weights(self) -> tuple[Tensor, Tensor]:
        """W_in and W_out."""
        into = self.model.embed.weight
        out = getattr(self.model, "head", None)
        return into, into if out is None else out.weight

    def advance(
        self,
        embeds: Tensor,
        positions: Tensor,
        valid: Tensor | None,
        seen: Tensor | None,
        cache: Any,
        every: list[Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        """The model without its head; its layers are told by one hidden state a loop."""
        cache = self.model.new_cache() if cache is None else cache
        out = self.model(inputs_embeds=embeds, positions=positions, cache=cache, mask=valid, logits=False)
        if every is not None:
            every.extend([embeds, *out.hidden_per_loop])
        return out.hidden, out.cache

    def fork(self, cache: Any) -> Any:
        """A clone."""
        return None if cache is None else cache.clone()


def adapt(model: Any) -> Backbone:
    """The backbone of a model; one that is a `Backbone` already passes through.

    Raises:
        TypeError: it cannot be fed vectors.
    """
    if isinstance(model, Backbone):
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"a Thinker wraps a causal language model (torch.nn.Module), got {type(model).__name__}"
        )
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        return HuggingFace(model.get_base_model())  # pyright: ignore[reportCallIssue]
    if hasattr(model, "get_input_embeddings") and hasattr(model, "base_model"):
        return HuggingFace(model)
    return Native(model)
