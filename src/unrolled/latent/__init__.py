"""Reasoning in continuous latent space instead of words: methods under one protocol, with their controls.

>>> from unrolled.latent import superposition
>>> superposition.Reasoner(4).support([(0, 1), (1, 2)], root=0, thoughts=2)
[{0}, {0, 1}, {0, 1, 2}]
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "agents",
        "curriculum",
        "evaluate",
        "inside",
        "lora",
        "methods",
        "rl",
        "superposition",
        "tasks",
    ),
    names={
        "Cell": "protocol",
        "Example": "text",
        "Method": "protocol",
        "Problem": "tasks",
        "Reply": "protocol",
        "Thinker": "thinker",
        "Thoughtless": "protocol",
        "Words": "text",
        "add_markers": "text",
    },
)
