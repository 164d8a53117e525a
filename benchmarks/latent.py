"""Continuous thoughts: a training step and a generation beside the reference's, and what a thought costs beside a token.

The reference (github facebookresearch/coconut, coconut.py) runs on transformers 4.46.2 only. Say where both lie:
`python -m benchmarks latent --official=coconut.py --transformers=SITE`, SITE made by
`pip install --no-deps --target SITE transformers==4.46.2 tokenizers==0.20.3 huggingface_hub==0.26.2`.
Without them only our own costs are measured.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks._latent_peer import interleaved
from benchmarks._record import write
from unrolled.latent.backbone import HuggingFace, read


def latency(context: int = 100, repeats: int = 9) -> dict[str, float]:
    """A thought and a token at GPT-2's shape (124M, random weights), CPU milliseconds on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = HuggingFace(GPT2LMHeadModel(GPT2Config()).eval())
    with torch.no_grad():
        _, stream = read(backbone, None, backbone.embed(torch.randint(0, 50000, (1, context))))

        def thought() -> None:
            read(backbone, stream.fork(backbone), stream.hidden[:, None])

        def token() -> None:
            _, after = read(backbone, stream.fork(backbone), backbone.embed(torch.tensor([[7]])))
            backbone.head(after.hidden).argmax(-1)

        seconds = interleaved({"thought": thought, "token": token}, repeats)
    return {
        "thought_ms": round(1e3 * seconds["thought"], 2),
        "token_ms": round(1e3 * seconds["token"], 2),
        "thought_of_token": round(seconds["thought"] / seconds["token"], 3),
    }


def main(argv: Sequence[str]) -> None:
    options = dict(word.removeprefix("--").split("=", 1) for word in argv if "=" in word)
    found = {"step": latency()}
    print(f"a thought takes {found['step']['thought_of_token']:.2f} of a token's time (GPT-2, context 100)")
    if {"official", "transformers"} <= options.keys():
        made = subprocess.run(
            [sys.executable, "-m", "benchmarks._latent_peer", options["official"]],
            env={**os.environ, "PYTHONPATH": options["transformers"], "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found |= json.loads(made.stdout)
        for row in found["training"]:
            print(
                f"{row['shape']} K={row['K']}: {row['times_official']:.1f} x the reference, {row['of_plain']:.2f} of a plain pass, "
                f"loss within {row['loss_difference']:.0e}, gradients within {row['worst_gradient_difference']:.0e}"
            )
        made = found["generation"]
        print(
            f"generation: {made['times_official']:.1f} x the reference, {made['times_official_per_prompt_at_batch_16']:.1f} x a prompt at "
            f"batch 16, same tokens: {made['same_tokens']}"
        )
    else:
        print(
            "the reference was not measured: pass --official=coconut.py --transformers=SITE (see the file's head)"
        )
    write("latent", found)


if __name__ == "__main__":
    main(sys.argv[1:])
