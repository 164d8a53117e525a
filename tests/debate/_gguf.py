"""A GGUF file of a tiny random language model, written by hand: CI runs the real server without a download.

The format: a header (magic, version, counts), key-value pairs, one record per tensor, and the tensors, aligned to 32 bytes.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGN = 32
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def letters() -> list[str]:
    """The 256 printable characters by which GPT-2's byte-level tokenizers write bytes."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printed]
    names = {b: chr(b) for b in printed} | {b: chr(256 + k) for k, b in enumerate(rest)}
    return [names[b] for b in range(256)]


def weights(width: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights, float32; norms are 1."""
    rng, V = np.random.default_rng(seed), 259
    shapes = {
        "token_embd.weight": (V, width),
        "output_norm.weight": (width,),
        "output.weight": (V, width),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, width),
        "blk.0.attn_v.weight": (width, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (2 * width, width),
        "blk.0.ffn_up.weight": (2 * width, width),
        "blk.0.ffn_down.weight": (width, 2 * width),
    }
    made = {
        name: np.ones(shape) if len(shape) == 1 else rng.standard_normal(shape) / width**0.5
        for name, shape in shapes.items()
    }
    return {name: values.astype("<f4") for name, values in made.items()}


def random_model() -> tuple[dict[str, np.ndarray], Callable[[str], list[int]]]:
    """The weights in the file, and its tokenizer: bytes, with ChatML's two marks as one token each."""

    def encode(text: str) -> list[int]:
        made: list[int] = []
        for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text):
            made += [MARKS.index(part) + 256] if part in MARKS else list(part.encode())
        return made

    return weights(), encode


def write(path: Path, *, width: int = 32, heads: int = 2, seed: int = 0) -> Path:
    """One Llama block over bytes, with random weights and a ChatML template."""
    tokens = [*letters(), *MARKS]
    V = len(tokens)
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    pairs: dict[str, tuple[int, Any]] = {
        "general.architecture": (STRING, "llama"),
        "general.alignment": (U32, ALIGN),
        "llama.context_length": (U32, 4096),
        "llama.embedding_length": (U32, width),
        "llama.block_count": (U32, 1),
        "llama.feed_forward_length": (U32, 2 * width),
        "llama.attention.head_count": (U32, heads),
        "llama.attention.head_count_kv": (U32, heads),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.dimension_count": (U32, width // heads),
        "llama.vocab_size": (U32, V),
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (STRING, tokens),
        "tokenizer.ggml.token_type": (I32, [1] * 256 + [3] * 3),
        "tokenizer.ggml.merges": (STRING, ["t h"]),
        "tokenizer.ggml.bos_token_id": (U32, 256),
        "tokenizer.ggml.eos_token_id": (U32, 258),
        "tokenizer.ggml.add_bos_token": (BOOL, False),
        "tokenizer.chat_template": (STRING, template),
    }
    records, data = b"", b""
    tensors = weights(width, seed)
    for name, values in tensors.items():
        records += _string(name) + struct.pack("<I", values.ndim)
        records += b"".join(struct.pack("<Q", size) for size in reversed(values.shape))
        records += struct.pack("<IQ", 0, len(data))  # type 0: float32
        data += values.tobytes()
        data += b"\0" * (-len(data) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(_string(key) + _value(*value) for key, value in pairs.items()) + records
    path.write_bytes(head + b"\0" * (-len(head) % ALIGN) + data)
    return path


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    if isinstance(value, list):
        head = struct.pack("<IIQ", ARRAY, kind, len(value))
        return head + b"".join(_plain(kind, each) for each in value)
    return struct.pack("<I", kind) + _plain(kind, value)


def _plain(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", F32: "<f", BOOL: "<?", I32: "<i"}[kind], value)
