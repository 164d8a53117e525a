"""One training step and one generation of Coconut, the reference's and ours, in one process; prints JSON.

Run with a transformers the reference can be run on (4.46.2) first on the path:
`PYTHONPATH=SITE python -m benchmarks._latent_peer COCONUT.py`.
"""

import copy
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from unrolled.latent import Example, Thinker

VOCABULARY = 512
LATENT, START, END, EOS = 500, 501, 502, 510
TRAINING = [
    ("D128 L2 B16 Q100 A12", 128, 2, 16, 100, 12, (0, 1, 2, 4, 6, 24)),
    ("D128 L4 B32 Q60 A8", 128, 4, 32, 60, 8, (6,)),
    ("D256 L2 B16 Q130 A2", 256, 2, 16, 130, 2, (4,)),
]


def model(width: int, layers: int, context: int = 512) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width, n_layer=layers, n_head=4, vocab_size=VOCABULARY, n_positions=context,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=EOS,
        )
    )  # fmt: skip


def interleaved(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, measured in turn after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(repeats + 1):
        for name, fn in runs.items():
            start = time.process_time()
            fn()
            if k:
                seconds[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seconds.items()}


def training(
    official: Any, label: str, width: int, layers: int, B: int, Q: int, A: int, K: int
) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    question = torch.randint(0, 499, (B, Q - 1), generator=rng)
    answer = torch.randint(0, 499, (B, A), generator=rng)
    theirs, ours = model(width, layers), model(width, layers)
    coconut = official.Coconut(theirs, LATENT, START, END, EOS)
    column = [torch.full((B, n), t) for t, n in ((START, 1), (LATENT, K), (END, 1))]
    ids = torch.cat([question, column[0], column[1], column[2], answer], 1)
    labels = torch.cat([torch.full((B, Q + K + 1), -100), answer], 1)
    positions = torch.arange(ids.shape[1]).expand(B, -1)
    there = torch.ones_like(ids)
    rows = [
        Example((*q, START), K, (END, *a), (-100, *a))
        for q, a in zip(question.tolist(), answer.tolist(), strict=True)
    ]
    thinker = Thinker(ours)
    plain = model(width, layers)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.0) for m in (theirs, ours, plain)]

    def step(optimizer: Any, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value.detach()

    def mine() -> torch.Tensor:
        summed, count = thinker.loss(rows)
        return summed / count

    runs = {
        "official": lambda: step(optimizers[0], lambda: coconut(ids, there, labels, positions).loss),
        "ours": lambda: step(optimizers[1], mine),
        "plain": lambda: step(optimizers[2], lambda: plain(ids, labels=labels).loss),
    }
    difference = abs(float(runs["official"]()) - float(runs["ours"]()))
    gradients = [
        float((a.grad - b.grad).norm() / b.grad.norm())
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    ]
    seconds = interleaved(runs, 3 if K < 24 else 2)
    return {
        "shape": label, "K": K, "cpu_ms": {name: round(1e3 * value, 1) for name, value in seconds.items()},
        "times_official": round(seconds["official"] / seconds["ours"], 2),
        "of_plain": round(seconds["ours"] / seconds["plain"], 2),
        "loss_difference": difference, "worst_gradient_difference": max(gradients),
    }  # fmt: skip


def generation(official: Any) -> dict[str, Any]:
    """Context 150, 6 thoughts, 64 new tokens, batch 1 (all the reference can do), and ours at batch 16."""
    theirs = model(128, 4).eval()
    ours = copy.deepcopy(theirs)
    coconut = official.Coconut(theirs, LATENT, START, END, -1)
    rng = torch.Generator().manual_seed(2)
    question = torch.randint(0, 499, (16, 149), generator=rng)
    ids = [torch.tensor([[*q, START, *[LATENT] * 6, END]]) for q in question.tolist()]
    thinker = Thinker(ours)
    thinker.text.end = END
    thinker.text.eos = -1
    prompts = [(*q, START) for q in question.tolist()]
    with torch.no_grad():
        said = coconut.generate(ids[0], None, max_new_tokens=64)[0].tolist()[ids[0].shape[1] :]
        [reply] = thinker.generate(prompts[:1], 6, max_new_tokens=64)
        seconds = interleaved(
            {
                "official": lambda: coconut.generate(ids[0], None, max_new_tokens=64),
                "ours": lambda: thinker.generate(prompts[:1], 6, max_new_tokens=64),
                "ours, batch 16": lambda: thinker.generate(prompts, 6, max_new_tokens=64),
            },
            3,
        )
    return {
        "cpu_ms": {name: round(1e3 * value, 1) for name, value in seconds.items()},
        "times_official": round(seconds["official"] / seconds["ours"], 2),
        "times_official_per_prompt_at_batch_16": round(
            16 * seconds["official"] / seconds["ours, batch 16"], 2
        ),
        "same_tokens": said == list(reply.tokens),
    }


def main(path: str) -> None:
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("official", path)
    assert spec is not None
    assert spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)
    found: dict[str, Any] = {
        "transformers": transformers.__version__,
        "training": [],
        "generation": generation(official),
    }
    for label, width, layers, B, Q, A, thoughts in TRAINING:
        for K in thoughts:
            found["training"].append(training(official, label, width, layers, B, Q, A, K))
            print(json.dumps(found["training"][-1]), file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
