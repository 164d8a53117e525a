"""Beam search: the k most likely continuations so far, side by side in one cache."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.core import Stop
from unrolled.looped.cache import Cache

if TYPE_CHECKING:
    from unrolled.looped.model import LT2


def beam_search(
    model: "LT2",
    tokens: Tensor,
    logits: Tensor,
    length: int,
    beams: int,
    penalty: float,
    ends: list[int],
    loops: int | None,
    cache: Cache,
    make: Any,
) -> Any:
    """The best continuation of each row, by log probability / length^penalty.

    A finished beam stays as it is and goes on competing. With as many beams as there are continuations, the search is
    exhaustive.
    """
    B, V, device = len(tokens), logits.shape[-1], tokens.device
    rows = torch.arange(B, device=device)[:, None]
    cache.reorder(rows.expand(B, beams).flatten())
    exact = logits.float().log_softmax(-1)
    scores = torch.full((B, beams), -torch.inf, device=device)
    scores[:, 0] = 0  # all beams are one at first
    step_scores = exact[:, None].expand(B, beams, V)
    made = torch.zeros(B, beams, 0, dtype=tokens.dtype, device=device)
    sizes = torch.zeros(B, beams, dtype=torch.long, device=device)
    done = torch.zeros(B, beams, dtype=torch.bool, device=device)
    reason, passes = Stop("length", length), []
    finishing = torch.tensor(ends, dtype=tokens.dtype, device=device)
    cost = 0
    for step in range(length):
        if bool(torch.isnan(step_scores).any()):
            reason = Stop("nonfinite", step, "logits", "the weights or the inputs hold NaN or inf")
            break
        if step:
            # a finished beam has one continuation: itself
            same = torch.full((V,), -torch.inf, device=device).index_fill(0, made.new_zeros(1).long(), 0.0)
            step_scores = torch.where(done[..., None], same, step_scores)
        total = scores[..., None] + step_scores
        sizes_after = sizes + ~done
        ranked = total / sizes_after[..., None].clamp(min=1) ** penalty if penalty else total
        order = ranked.flatten(1).topk(beams, 1).indices
        parent, token = order // V, (order % V).to(tokens.dtype)
        scores = total.flatten(1).gather(1, order)
        was_done = done.gather(1, parent)
        last = made[rows, parent][..., -1] if step else token
        token = torch.where(was_done, last, token)
        made = torch.cat([made[rows, parent], token[..., None]], -1)
        sizes = sizes_after.gather(1, parent)
        done = was_done | torch.isin(token, finishing)
        passes.append(cost)
        if ends and bool(done.all()):
            reason = Stop("stop token", step + 1)
            break
        if step + 1 < length:
            before = sum(count.longest for count in cache.counts)
            cache.reorder((parent + rows * beams).flatten())
            out = model(token.flatten()[:, None], loops=loops, cache=cache)
            step_scores = out.logits[:, -1].float().log_softmax(-1).view(B, beams, V)
            cost = sum(count.longest for count in cache.counts) - before
    final = scores / sizes.clamp(min=1) ** penalty if penalty else scores
    best = final.argmax(1) if made.shape[-1] else torch.zeros(B, dtype=torch.long, device=device)
    pick = (torch.arange(B, device=device), best)
    cache.reorder(best + torch.arange(B, device=device) * beams)
    full = loops or model.config.loops
    return make(
        torch.cat([tokens, made[pick]], 1),
        sizes[pick].tolist(),
        scores[pick],
        torch.full((made.shape[-1],), full),
        torch.tensor(passes),
        reason,
        cache,
    )
