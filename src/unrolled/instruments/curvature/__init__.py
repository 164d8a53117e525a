"""Split the loss change of an optimizer step into gradient gain and curvature penalty.

>>> import torch, unrolled as un
>>> model = torch.nn.Linear(1, 1, bias=False)
>>> _ = torch.nn.init.constant_(model.weight, 3.0)
>>> loss = lambda model: model.weight.square().sum()          # L = w^2, G = 6, H = 2
>>> step = un.curvature.decompose(model, loss, {"weight": torch.full((1, 1), 0.5)})
>>> step.gain, step.penalty, step.actual                      # <G,Z>, 1/2 <Z,HZ>, L(W) - L(W-Z)
(3.0, 0.25, 2.75)
"""

from unrolled._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    submodules=(
        "equal_loss",
        "finite_difference",
        "groups",
        "hf",
        "hvp",
        "jet",
        "lightning",
        "split",
        "state",
    ),
    names={
        "Probe": "probe",
        "StepReading": "reading",
        "decompose": "step",
        "match": "equal_loss",
    },
)
