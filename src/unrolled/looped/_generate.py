"""Continue sequences: sampling or beam search, over an exact cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.core import Settled, Stop
from unrolled.looped._beam import beam_search
from unrolled.looped.cache import Cache
from unrolled.looped.sampling import Drawer, Sampling, Seeds

if TYPE_CHECKING:
    from unrolled.looped.model import LT2


@dataclass
class Generation:
    """What `LT2.generate` returns.

    Attributes:
        tokens: `[B, n + new]`, the prompt and what follows; behind a stop token, that token again.
        lengths: new tokens of each row, its stop token included.
        log_probs: `[B, new]`, the model's own (temperature 1, unfiltered) of each new token; 0 behind a stop token. With
            beams, `[B]`: of the whole continuation.
        loops: `[new]`, the loop that each new token was read out of.
        passes: `[new]`, passes of one token through the stack that each step took, those that earlier tokens had left
            open included: its cost. The prompt is not counted.
        stop: `"length"`, `"stop token"`, or `"nonfinite"`.
        cache: has read all but the last new token.
    """

    tokens: Tensor
    lengths: list[int]
    log_probs: Tensor
    loops: Tensor
    passes: Tensor
    stop: Stop
    cache: Cache


@torch.no_grad()
def generate(
    model: "LT2",
    tokens: Tensor,
    length: int,
    *,
    mask: Tensor | None = None,
    loops: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: Seeds = 0,
    stop: int | Sequence[int] | None = None,
    beams: int = 1,
    length_penalty: float = 0.0,
    until: Settled | None = None,
    cache: Cache | None = None,
    prefill: int | None = None,
    on_token: Callable[[Tensor, int], Any] | None = None,
) -> Generation:
    """Continue sequences; see `LT2.generate`."""
    sampling = Sampling(temperature, top_k, top_p, min_p)
    ends = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
    _check(model, tokens, length, beams, prefill, until, ends)
    cache = Cache() if cache is None else cache
    training = model.training
    model.eval()
    try:
        logits = _read(model, tokens, mask, loops, cache, prefill)
        with model.decoding():
            if beams > 1:
                return beam_search(
                    model, tokens, logits, length, beams, length_penalty, ends, loops, cache, Generation
                )
            return _sample(
                model,
                tokens,
                logits,
                length,
                sampling,
                Drawer(rng, len(tokens)),
                ends,
                loops,
                until,
                cache,
                on_token,
            )
    finally:
        model.train(training)


def _read(
    model: "LT2", tokens: Tensor, mask: Tensor | None, loops: int | None, cache: Cache, prefill: int | None
) -> Tensor:
    """Logits `[B, vocab]` behind the prompt, which the cache then holds."""
    size = prefill or tokens.shape[1]
    last = tokens.new_full((len(tokens),), tokens.shape[1] - 1)
    if mask is not None:
        mask = mask.bool()
        if bool((~mask).all(1).any()):
            raise ValueError("a row of the prompt is all padding: there is nothing to continue")
        place = torch.arange(tokens.shape[1], device=tokens.device)
        last = (place * mask).amax(1)
    hidden = None
    for at in range(0, tokens.shape[1], size):
        part = slice(at, at + size)
        out = model(
            tokens[:, part],
            mask=None if mask is None else mask[:, part],
            loops=loops,
            cache=cache,
            logits=False,
        )
        here = out.hidden[torch.arange(len(tokens)), (last - at).clamp(0, out.hidden.shape[1] - 1)]
        inside = ((last >= at) & (last < at + size))[:, None]
        hidden = here if hidden is None else torch.where(inside, here, hidden)
    assert hidden is not None
    return model.head_of(hidden)


def _sample(
    model: "LT2",
    tokens: Tensor,
    logits: Tensor,
    length: int,
    sampling: Sampling,
    draw: Drawer,
    ends: list[int],
    loops: int | None,
    until: Settled | None,
    cache: Cache,
    on_token: Callable[[Tensor, int], Any] | None,
) -> Generation:
    B, full = len(tokens), loops or model.config.loops
    done, lengths = torch.zeros(B, dtype=torch.bool, device=tokens.device), [0] * B
    new, log_probs, used, passes = [], [], [], []
    depth, cost, reason = full, 0, Stop("length", length)
    last = tokens[:, -1]
    finishing = torch.tensor(ends, device=tokens.device, dtype=tokens.dtype)
    for step in range(length):
        if not bool(torch.isfinite(logits.amax(-1)).all()):
            reason = Stop("nonfinite", step, "logits", "the weights or the inputs hold NaN or inf")
            break
        drawn = sampling.draw(logits, draw).to(tokens.dtype)
        if ends:
            drawn = torch.where(done, last, drawn)
        log_prob = logits.float().log_softmax(-1).gather(-1, drawn[:, None].long())[:, 0]
        new.append(drawn)
        log_probs.append(log_prob.masked_fill(done, 0))
        used.append(depth)
        passes.append(cost)
        if ends:
            lengths = [n + (not over) for n, over in zip(lengths, done.tolist())]
            done = done | torch.isin(drawn, finishing)
        last = drawn
        if on_token is not None:
            on_token(drawn, step)
        if ends and bool(done.all()):
            reason = Stop("stop token", step + 1)
            break
        if step + 1 < length:
            before = sum(count.longest for count in cache.counts)
            out = model(drawn[:, None], loops=loops, cache=cache, until=until)
            assert out.logits is not None
            logits, depth = out.logits[:, -1], out.loops
            cost = sum(count.longest for count in cache.counts) - before
    made = torch.stack(new, 1) if new else tokens[:, :0]
    return Generation(
        torch.cat([tokens, made], 1),
        lengths if ends else [made.shape[1]] * B,
        torch.stack(log_probs, 1) if new else torch.zeros(B, 0),
        torch.tensor(used),
        torch.tensor(passes),
        reason,
        cache,
    )


def _check(
    model: "LT2",
    tokens: Tensor,
    length: int,
    beams: int,
    prefill: int | None,
    until: Settled | None,
    ends: list[int],
) -> None:
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or not tokens.shape[1]:
        raise ValueError(
            f"generate continues tokens [batch, n] with n >= 1, got {tuple(tokens.shape) if isinstance(tokens, Tensor) else tokens!r}"
        )
    if length < 0 or beams < 1 or (prefill is not None and prefill < 1):
        raise ValueError(
            f"generate needs length >= 0, beams >= 1 and prefill >= 1; got {length}, {beams}, {prefill}"
        )
    if beams > 1 and until is not None:
        raise ValueError(
            "beams are compared token by token, so they run all loops: leave until out, or beams"
        )
    if any(not 0 <= end < model.config.vocab_size for end in ends):
        raise ValueError(f"stop tokens are 0 to {model.config.vocab_size - 1}, got {ends}")
