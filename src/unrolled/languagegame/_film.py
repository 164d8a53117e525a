"""What a policy does after training: episodes to score it, and pictures to look at."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unrolled.core import require
from unrolled.languagegame import envs
from unrolled.languagegame.policy import Policy


def evaluate(
    policy: Policy, episodes: int = 32, *, env_id: str | None = None, seed: int = 1000, greedy: bool = True
) -> list[float]:
    """Returns of episodes that begin together, one in each of a batch of environments; the first of each counts.

    Args:
        policy: trained or not.
        episodes: how many.
        env_id: the environment; the policy's own when None.
        seed: of the first environment, the next has seed + 1, ...; and of the draws.
        greedy: take the likeliest action, not a draw.

    Raises:
        ValueError: no such environment.

    Example:
        >>> returns = evaluate(Policy.make("CartPole-v1", "tyson1999"), 4)
        >>> len(returns), min(returns) >= 8
        (4, True)
    """
    env = envs.make(env_id or policy.env_id, episodes, seed=seed)
    rng = None if greedy else torch.Generator().manual_seed(seed)
    obs, total, alive = env.reset(), np.zeros(episodes), np.ones(episodes, dtype=bool)
    state = policy.start(episodes) if policy.mode == "stateful" else None
    while alive.any():
        made = policy.trace(obs, state)
        step = env.step(policy.choose(made["logits"], rng).numpy())
        total += step.reward * alive
        over = step.terminated | step.truncated
        alive &= ~over
        obs, state = step.obs, made.get("state")
        if state is not None and over.any():
            state[torch.from_numpy(over)] = policy.start(int(over.sum()))
    return total.tolist()


@dataclass
class Film:
    """An episode in pictures.

    Attributes:
        frames: `[n, height, width, 3]` uint8.
        every: steps between two of them.
        reward: the episode's return.
        steps: its length.
        fps: pictures a second in which it runs at its own pace.
    """

    frames: Any
    every: int
    reward: float
    steps: int
    fps: float

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a GIF, or one PNG of frames side by side, as the name ends.

        Raises:
            ValueError: the name ends otherwise.
            ImportError: Pillow is not installed (extra `report`).
        """
        image = require("PIL.Image", extra="report")
        target = Path(path)
        if target.suffix not in (".gif", ".png"):
            raise ValueError(f"a film is written as .gif or .png, got {target.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".png":
            image.fromarray(self.strip()).save(target)
            return target
        pictures = [image.fromarray(frame) for frame in self.frames]
        pictures[0].save(
            target,
            save_all=True,
            append_images=pictures[1:],
            duration=max(20, round(1000 / self.fps)),
            loop=0,
        )
        return target

    def strip(self, count: int = 6) -> Any:
        """Frames spread over the episode, side by side: `[height, count width, 3]`."""
        chosen = np.linspace(0, len(self.frames) - 1, min(count, len(self.frames))).round().astype(int)
        return np.concatenate([self.frames[i] for i in chosen], axis=1)


def film(
    policy: Policy,
    *,
    env_id: str | None = None,
    seed: int = 0,
    steps: int = 500,
    every: int = 2,
    greedy: bool = True,
) -> Film:
    """One episode in pictures, drawn by Gymnasium.

    Args:
        policy: who acts.
        env_id: the environment; the policy's own when None.
        seed: of the episode's beginning, and of draws.
        steps: at most.
        every: steps between two pictures.
        greedy: take the likeliest action, not a draw.

    Raises:
        ImportError: Gymnasium, or what it draws with, is not installed (extra `rl`).
        ValueError: no such environment, or one that cannot be drawn.
    """
    env_id = env_id or policy.env_id
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory; no screen is needed
    env = envs.outside.make(env_id, render_mode="rgb_array")
    rng = None if greedy else torch.Generator().manual_seed(seed)
    try:
        seen, _ = env.reset(seed=seed)
        state = policy.start() if policy.mode == "stateful" else None
        frames, total, done = [env.render()], 0.0, 0
        if frames[0] is None:
            raise ValueError(f"{env_id} gives no picture: it cannot be filmed")
        for done in range(1, steps + 1):
            made = policy.trace(envs.outside.flat(seen)[None], state)
            action = policy.choose(made["logits"], rng)[0].numpy()
            state = made.get("state")
            seen, reward, terminated, truncated, _ = env.step(int(action) if policy.discrete else action)
            total += float(reward)
            if done % every == 0 or terminated or truncated:
                frames.append(env.render())
            if terminated or truncated:
                break
        fps = float(env.metadata.get("render_fps", 30)) / every
    finally:
        env.close()
    return Film(np.stack(frames), every, total, done, fps)
