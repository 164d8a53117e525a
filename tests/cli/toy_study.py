"""Noisy gradient descent on a quadratic, slow on request.

A study for tests: it logs, checkpoints, draws random numbers, and fails or stalls when told to.
"""

import os
import signal
import time
from dataclasses import dataclass

import torch

from unrolled.runs import Claim, Run


@dataclass(frozen=True)
class Config:
    """Settings of the descent."""

    preset: str = "tiny"
    """name of the preset"""
    seed: int = 0
    """seed of start and noise"""
    steps: int = 20
    """steps of descent"""
    rate: float = 0.1
    """step size"""
    optimizer: str = "sgd"
    """a label"""
    pause: float = 0.0
    """seconds to sleep after each step"""
    fail_at: int = -1
    """step at which to raise; -1 never"""


def tiny() -> Config:
    return Config()


def small() -> Config:
    return Config(preset="small", steps=50)


def study(config: Config, run: Run) -> list[Claim]:
    run.log(step=0, parameters=8)  # repeated by a resumed run
    run.status(phase="descent")
    rng = torch.Generator().manual_seed(config.seed)
    x, first = torch.randn(8, generator=rng), 0
    saved = run.load_checkpoint()
    if saved is not None:
        x, first = saved.tensors["x"], saved.step
        rng.set_state(saved.tensors["rng"])
    for step in range(first, config.steps):
        if step == config.fail_at and not run.resumed:
            raise RuntimeError(f"told to fail at step {step}")
        x = x - config.rate * (x + 0.1 * torch.randn(8, generator=rng))
        run.log(step=step, loss=x.square().sum() / 2, optimizer=config.optimizer)
        run.progress(step + 1, config.steps)
        if (step + 1) % 5 == 0:
            run.save_checkpoint(step + 1, {"x": x, "rng": rng.get_state()})
        if os.environ.get("TOY_KILL_AT") == str(step) and not run.resumed:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(config.pause)
    loss = float(x.square().sum() / 2)
    run.log(step=config.steps, final=loss)
    return [
        Claim(
            "descends",
            "the loss falls below one",
            paper="< 1",
            ours=loss,
            status="reproduced" if loss < 1 else "not reproduced",
            preset=config.preset,
            hardware=run.hardware,
            source="Cauchy 1847",
        )
    ]
