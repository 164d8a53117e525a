"""Token mixers as modules: `mixer(x, span, slot) -> y`, both `[B, L, d]`.

Attention keeps keys and values (`full`, `window`, `nsa`, `dsa`); the linear family keeps a matrix per head (`linear`, `retnet`,
`gla`, `mamba2`, `hgrn2`, `deltanet`, `gated_delta`, `kda`). All are causal, and with a `Slot` of a cache they read on
exactly where the last call ended. `mixers.make(name, config)` builds one by the name that a pattern uses.
"""

from typing import TYPE_CHECKING

from unrolled._lazy import attach

if TYPE_CHECKING:
    from unrolled.looped.mixers._make import make as make
    from unrolled.looped.mixers.attention import Attention as Attention
    from unrolled.looped.mixers.dsa import DSA as DSA
    from unrolled.looped.mixers.linear import LinearMixer as LinearMixer
    from unrolled.looped.mixers.nsa import NSA as NSA

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("attention", "dsa", "linear", "nsa"),
    names={"Attention": "attention", "DSA": "dsa", "LinearMixer": "linear", "NSA": "nsa", "make": "_make"},
)
