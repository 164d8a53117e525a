"""Curvature of the steps of a Lightning Trainer: `Trainer(callbacks=[CurvatureCallback(loss_fn, every=500)])`."""
# pyright: basic
# ruff: noqa: D102

from typing import Any

from unrolled.core import require
from unrolled.instruments.curvature.probe import Probe, world

try:
    from lightning.pytorch import Callback  # pyright: ignore[reportMissingImports]
except ImportError:  # said when a callback is made
    Callback = object


class CurvatureCallback(Callback):  # pyright: ignore[reportGeneralTypeIssues]
    """A `Probe` for Lightning's automatic optimization: `callback.probe.records`. Its state is in the checkpoints.

    Args:
        loss_fn: `loss_fn(module, batch)` giving a scalar or `(summed loss, count)`: the loss of `training_step`,
            without its logging. It runs under the trainer's own precision.
        options: what `Probe` takes (`every`, `fraction`, `split`, `sink`, ...).
    """

    def __init__(self, loss_fn: Any, **options: Any) -> None:
        require("lightning.pytorch", extra="lightning")
        self.loss_fn, self.options, self._step, self._saved = loss_fn, options, None, None
        self._batches: list[Any] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def loss_fn(module: Any, batch: Any) -> Any:
            with trainer.precision_plugin.forward_context():
                return self.loss_fn(module, batch)

        self.probe = Probe(pl_module, trainer.optimizers, loss_fn, process_group=world(), **self.options)
        self.probe.load_state_dict(self._saved or {"steps": trainer.global_step, "records": []})

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._batches += [batch] if self.probe.due else []
        self.probe.forward_begins()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._step = self.probe.step(self._batches).__enter__()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step, self._batches = None, []

    def state_dict(self) -> dict[str, Any]:
        return self.probe.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict
