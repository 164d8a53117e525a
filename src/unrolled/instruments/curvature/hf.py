"""Curvature of the steps of a Hugging Face Trainer: `Trainer(..., callbacks=[CurvatureCallback(every=500)])`."""
# pyright: basic
# ruff: noqa: D102

from typing import Any

import torch

from unrolled.core import require
from unrolled.instruments.curvature.probe import Probe, world

try:
    from transformers import TrainerCallback
except ImportError:  # said when a callback is made
    TrainerCallback = object


def trainer_loss(model: Any, inputs: Any) -> Any:
    """The mean over labels: the model's own mean over a micro-batch, weighted by the labels that count in it."""
    output = model(**{name: value for name, value in inputs.items() if name != "num_items_in_batch"})
    loss = output["loss"] if isinstance(output, dict) else output[0]
    labels = inputs.get("shift_labels", inputs.get("labels"))
    causal = (
        getattr(model, "loss_type", None) in (None, "ForCausalLM") and not model.config.is_encoder_decoder
    )
    if labels is not None and labels.ndim == 2 and causal and "shift_labels" not in inputs:
        labels = labels[:, 1:]  # the first token of a row is no target
    count = 1 if labels is None else labels.ne(-100).sum()
    return loss * count, count


class CurvatureCallback(TrainerCallback):  # pyright: ignore[reportGeneralTypeIssues]
    """A `Probe` for `Trainer`: `callback.probe.records`.

    Args:
        loss_fn: `loss_fn(model, inputs)`, with the keyword inputs that the model got for one micro-batch.
        options: what `Probe` takes (`every`, `fraction`, `split`, `sink`, ...).
    """

    def __init__(self, loss_fn: Any = trainer_loss, **options: Any) -> None:
        require("transformers", extra="hf")
        self.loss_fn, self.options, self._watch, self._inputs = loss_fn, options, None, []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.probe = Probe(kw["model"], kw["optimizer"], self.loss_fn, process_group=world(), **self.options)
        self.probe.load_state_dict({"steps": state.global_step, "records": []})

    def on_step_begin(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self._inputs = []
        if self.probe.due:
            hook = torch.compiler.disable(lambda module, _, inputs: self._inputs.append(inputs))
            self._watch = kw["model"].register_forward_pre_hook(hook, with_kwargs=True)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        if self._watch is not None:
            self._watch = self._watch.remove()
        self._step = self.probe.step(self._inputs).__enter__()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self._step.__exit__(None, None, None)
