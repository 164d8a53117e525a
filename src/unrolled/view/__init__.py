"""view: a local web app over run folders. It reads them and nothing else; deleting this package breaks nothing."""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=("arrays", "bundle", "events", "folders", "paths", "safety", "series", "server", "talk"),
    names={"app": "server", "serve": "server"},
)
