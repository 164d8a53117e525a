"""Reasoning in continuous latent space instead of words.

Under way: the protocol, a few methods, the problem generators and the superposition construction stand.
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("methods", "superposition", "tasks"),
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
