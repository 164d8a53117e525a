"""Weights in and out: safetensors folders, `transformers`, Ouro's checkpoints.

`LT2.save_pretrained(folder)` and `LT2.from_pretrained(folder)` need nothing beyond the base install; the latter also reads
Ouro-type checkpoints (2510.25741) that are on disk. `interop.hf.LT2ForCausalLM` (extra `hf`) is the same model for
`transformers`.
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.looped.interop.folder import load as load
    from unrolled.looped.interop.folder import save as save

__getattr__, __dir__, __all__ = attach(
    __name__, submodules=("folder", "hf", "ouro"), names={"load": "folder", "save": "folder"}
)
