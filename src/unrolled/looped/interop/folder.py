"""A model as a folder: config.json and safetensors, whole or in shards."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.looped.config import LT2Config
from unrolled.looped.interop import ouro

if TYPE_CHECKING:
    from unrolled.looped.model import LT2

TYPE = "lt2"
PREFIX = "model."
"""of the names in a folder that `transformers` wrote"""


def save(model: "LT2", folder: str | os.PathLike[str]) -> Path:
    """Write config.json and model.safetensors, each complete or not at all; see `LT2.save_pretrained`."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    waiting = folder / "model.safetensors.part"
    save_file(tensors, waiting, metadata={"format": "pt"})
    waiting.replace(folder / "model.safetensors")
    config = {"model_type": TYPE, "architectures": ["LT2ForCausalLM"], **model.config.to_dict()}
    config["torch_dtype"] = str(model.embed.weight.dtype).removeprefix("torch.")
    waiting = folder / "config.json.part"
    waiting.write_text(json.dumps(config, indent=1) + "\n")
    waiting.replace(folder / "config.json")
    return folder


def load(
    cls: "type[LT2]", folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **changes: Any
) -> "LT2":
    """Read a folder; see `LT2.from_pretrained`."""
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: a model is a folder with config.json and *.safetensors, as save_pretrained writes it"
        )
    values = json.loads(path.read_text())
    kind = values.get("model_type")
    weights = read_weights(folder)
    if kind == "ouro":
        config, weights = ouro.config(values), ouro.rename(weights)
    elif kind == TYPE:
        known = LT2Config().to_dict()
        config = LT2Config.from_dict({name: value for name, value in values.items() if name in known})
        if weights and all(name.startswith(PREFIX) for name in weights):
            weights = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    else:
        raise ValueError(f'{path} is of model_type {kind!r}; this reads "{TYPE}" and "ouro"')
    if changes:
        config = LT2Config.from_dict({**config.to_dict(), **changes})
    with torch.device("meta"):
        model = cls(config)
    wanted = model.state_dict()
    if wanted.keys() != weights.keys():
        missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
        raise ValueError(
            f"the weights in {folder} do not fit its config.json: missing {missing[:5]}{'...' if len(missing) > 5 else ''}, "
            f"unknown {extra[:5]}{'...' if len(extra) > 5 else ''}"
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{name} in {folder} is {tuple(value.shape)}, config.json and changes make it {tuple(wanted[name].shape)}"
            )
    model.load_state_dict(
        {name: value if dtype is None else value.to(dtype) for name, value in weights.items()}, assign=True
    )
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's *.safetensors.

    Raises:
        FileNotFoundError: there are none.
    """
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}; pickled weights (*.bin, *.pt) are not read")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= load_file(file)
    return tensors
