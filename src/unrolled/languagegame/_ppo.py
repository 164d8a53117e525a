"""`ppo`: proximal policy optimisation (Schulman et al., 1707.06347) for a `Policy`, in one file.

    each round:  act for `horizon` steps in `envs` environments, with running statistics
                 advantages by GAE, rewards divided by the spread of the discounted return
                 `epochs` passes over shuffled minibatches of the clipped objective

The `paper` settings are those of 2605.16321 (fact sheet, A5), which are stable-baselines3's defaults otherwise, and the details
are stable-baselines3's: an episode that the limit of steps cut off is continued by the critic's value of what was seen last;
advantages are normalised per minibatch; weights start orthogonal.
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.core import Stop, Trajectory
from unrolled.languagegame import envs as environments
from unrolled.languagegame.policy import Policy
from unrolled.training import checkpoint as checkpoints

FORGET = 0.01
"""Least weight of a round in running statistics; the first rounds are averaged."""


@dataclass(frozen=True)
class Settings:
    """How `ppo` trains. The defaults are the paper's.

    Attributes:
        envs: environments side by side.
        horizon: steps of each per round.
        minibatch: samples per update.
        epochs: passes over a round's samples.
        lr: of Adam (eps 1e-5).
        anneal: let lr fall to 0 linearly.
        gamma: discount.
        lam: lambda of GAE.
        clip: of the ratio.
        entropy: weight of the entropy bonus.
        value: weight of the critic's squared error.
        max_grad: largest gradient norm.
        reward_scale: divide rewards by the spread of the discounted return, within +-10.
        log_std: where the log standard deviation of continuous actions starts.
        norms: of the policy's BatchNorm: `"batch"` statistics in updates, or `"running"` ones; see `Policy`.
        hold: steps for which a draw of the noise of continuous actions is kept; 1: drawn anew each step.
    """

    envs: int = 16
    horizon: int = 512
    minibatch: int = 256
    epochs: int = 10
    lr: float = 5e-4
    anneal: bool = False
    gamma: float = 0.99
    lam: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    value: float = 0.5
    max_grad: float = 0.5
    reward_scale: bool = True
    log_std: float = 0.0
    norms: str = "batch"
    hold: int = 1


PRESETS: dict[str, Settings] = {
    "paper": Settings(),
    "tuned": Settings(horizon=256, minibatch=512, lr=3e-3, anneal=True, gamma=0.98, lam=0.9, norms="running"),
    "fast": Settings(
        envs=256, horizon=32, minibatch=1024, epochs=4, lr=1e-2, anneal=True, gamma=0.98, norms="running"
    ),
}
"""Settings by name: the paper's; for better scores; for many steps a second."""


@dataclass
class Training:
    """What `ppo` did.

    Attributes:
        policy: trained, in place.
        settings: how.
        seed: of everything drawn.
        step: steps of the environment, all of them together.
        curve: per round `step`, `reward` (mean return of the episodes that ended; NaN if none did), `length`, `episodes`,
            and of its last epoch `loss_value`, `entropy`, `clipped` (share of ratios cut), `kl`.
        episodes: per episode (step at its end, its return, its length).
        stop: why it ended: `"steps"`, or `"nonfinite"`.
        seconds: of training, over all resumed parts.
        exploded: species -> largest share of observations for which its rate was not finite.
        resumed: the step this call went on from; 0 for a fresh start.
    """

    policy: Policy
    settings: Settings
    seed: int
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    episodes: list[tuple[int, float, int]] = field(default_factory=list[tuple[int, float, int]])
    stop: Stop = field(default_factory=lambda: Stop("steps", 0))
    seconds: float = 0.0
    exploded: dict[str, float] = field(default_factory=dict[str, float])
    resumed: int = 0

    @property
    def score(self) -> float:
        """Mean return over the last fifth of training, as the paper scores: 10 bins of steps, mean of the last two.

        Only episodes that ended count: with many environments and few steps those that fell; `evaluate` has no such bias.
        """
        return score(self.episodes, self.step)

    @property
    def rate(self) -> float:
        """Steps of the environment per second, acting and learning."""
        return self.step / self.seconds if self.seconds else float("nan")

    def trajectory(self) -> Trajectory:
        """The curve as a `Trajectory` over rounds."""
        names = list(self.curve[0]) if self.curve else []
        records = {
            name: torch.tensor([row[name] for row in self.curve], dtype=torch.float64) for name in names
        }
        return Trajectory.from_records(torch.arange(len(self.curve)), records, stop=self.stop)

    def plot(self, ax: Any = None) -> Any:
        """Mean return against steps."""
        from unrolled.instruments.reading import axes

        ax = axes(ax)
        ax.plot([row["step"] for row in self.curve], [row["reward"] for row in self.curve])
        ax.set(
            xlabel="steps of the environment",
            ylabel="mean return",
            title=f"{self.policy.core.name}, {self.policy.env_id}",
        )
        return ax


def score(episodes: list[tuple[int, float, int]], steps: int) -> float:
    """Mean return of the last two of ten equal bins of training steps; NaN if no episode ended there.

    Example:
        >>> score([(10, 1.0, 10), (85, 4.0, 10), (95, 8.0, 10)], 100)
        6.0
    """
    means: list[float] = []
    for low in (0.8, 0.9):
        inside = [reward for at, reward, _ in episodes if low * steps < at <= (low + 0.1) * steps]
        if inside:
            means.append(sum(inside) / len(inside))
    return sum(means) / len(means) if means else float("nan")


def ppo(
    policy: Policy,
    env_id: str | None = None,
    steps: int = 650_000,
    *,
    preset: str | Settings = "paper",
    seed: int = 0,
    native: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    until: Callable[[Training], Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[..., None] | None = None,
    **changes: Any,
) -> Training:
    """Train the interfaces of a policy. The system in its middle is not touched.

    Args:
        policy: from `Policy.make`; trained in place.
        env_id: the environment; the policy's own when None.
        steps: steps of the environment in all, those before a resume included; whole rounds are made.
        preset: `"paper"`, `"tuned"`, `"fast"`, or `Settings`.
        seed: of environments, draws of actions, and shuffling.
        native: environments of ours (True) or Gymnasium's (False); ours where there is one when None.
        checkpoint: folder for checkpoints; None for none. Each is a file that `Policy.load` reads too.
        checkpoint_every: steps between checkpoints; a tenth of `steps` when None. The end is always saved.
        resume: go on from the folder's newest checkpoint: for native environments bit for bit as if never stopped; others
            begin new episodes.
        until: called with the `Training` so far after each round; truthy ends it, a string is its reason.
        progress: `callback(step, steps)`.
        log: `log(step=, reward=, length=, ...)` each round.
        changes: settings other than the preset's, by name.

    Returns:
        A `Training`; `policy.info` has a summary of it, which is saved with the policy.

    Raises:
        ValueError: no such preset, setting or environment; sizes of another environment; an observation that is not finite; a
            species that is not finite for more than half of what is observed; a checkpoint of another run.

    Example:
        >>> training = ppo(Policy.make("CartPole-v1", "tyson1999"), steps=256, envs=4, horizon=32, minibatch=64, epochs=2)
        >>> training.step, len(training.curve), training.stop.reason
        (256, 2, 'steps')
    """
    settings = _settings(preset, changes)
    env_id = env_id or policy.env_id
    env = environments.make(env_id, settings.envs, seed=seed, native=native)
    _check(policy, env.spec)
    policy.norms = settings.norms  # pyright: ignore[reportAttributeAccessIssue]
    policy.env_id = env_id
    made = _Learner(policy, settings, env, seed, native)
    done = made.training
    last = -1
    if checkpoint is not None and (newest := checkpoints.latest(checkpoint)) is not None:
        if not resume:
            raise ValueError(
                f"{os.fspath(checkpoint)} holds checkpoints: resume=True goes on, or choose another folder"
            )
        made.recall(checkpoints.load(newest), newest)
        done.resumed = last = done.step
    else:
        made.begin()
    every = checkpoint_every or max(1, steps // 10)
    if progress is not None:
        progress(min(done.step, steps), steps)
    while done.step < steps and done.stop.reason == "steps":
        began = time.perf_counter()
        made.lr(done.step / steps)
        row = made.round()
        done.seconds += time.perf_counter() - began
        if log is not None:
            log(**{**row, "step": int(row["step"])})
        if progress is not None:
            progress(min(done.step, steps), steps)
        if until is not None and done.stop.reason == "steps" and (word := until(done)):
            done.stop = Stop(word if isinstance(word, str) else "halted", done.step)
        if (
            checkpoint is not None
            and done.stop.reason != "nonfinite"
            and done.step // every > max(last, 0) // every
        ):
            last = done.step
            checkpoints.save_step(checkpoint, done.step, made.tree())
    if done.stop.reason == "steps":
        done.stop = Stop("steps", done.step)
    policy.info = made.summary()
    if checkpoint is not None and done.stop.reason != "nonfinite":
        checkpoints.save_step(checkpoint, done.step, made.tree())
    policy.eval()
    return done


class _Learner:
    """A policy, its optimizer and its environments between two rounds: all that a checkpoint holds."""

    def __init__(self, policy: Policy, settings: Settings, env: Any, seed: int, native: bool | None) -> None:
        self.policy, self.settings, self.env, self.native = policy, settings, env, native
        self.training = Training(policy, settings, seed)
        self.rng = torch.Generator().manual_seed(seed)
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        # Adam in one kernel for all parameters: the arithmetic is that of torch's plain loop up to rounding.
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.lr, eps=1e-5, fused=True)
        N = settings.envs
        self.scale = RewardScale(N, settings.gamma)
        self.returns, self.lengths = np.zeros(N), np.zeros(N, dtype=np.int64)
        self.obs: Any = np.zeros((N, env.spec.observations), dtype=np.float32)
        self.state: Tensor | None = None
        self.noise: Tensor | None = None

    def begin(self) -> None:
        """Before the first step."""
        policy = self.policy
        self.obs = self.env.reset()
        if policy.mode == "stateful":
            self.state = policy.start(self.settings.envs)
        log_std = getattr(policy.decoder, "log_std", None)
        if log_std is not None and self.settings.log_std:
            with torch.no_grad():
                log_std.fill_(self.settings.log_std)
        self.observed(self.obs)
        self.explosions()

    def lr(self, share: float) -> None:
        """Set the learning rate for a share of the training done."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * (1 - share if self.settings.anneal else 1)

    # --- one round -------------------------------------------------------------------------------------------------------

    def round(self) -> dict[str, float]:
        """Act, learn, and say how it went."""
        done, before = self.training, len(self.training.episodes)
        batch = self.act()
        losses = self.learn(*batch)
        ended = done.episodes[before:]
        row = {
            "step": float(done.step),
            "reward": sum(r for _, r, _ in ended) / len(ended) if ended else float("nan"),
            "length": sum(n for _, _, n in ended) / len(ended) if ended else float("nan"),
            "episodes": float(len(ended)),
            **losses,
        }
        done.curve.append(row)
        self.look()
        return row

    @torch.no_grad()
    def act(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """`horizon` steps: observations, actions, log-probabilities, advantages, returns, carried states; time first."""
        policy, s, done = self.policy.eval(), self.settings, self.training
        T, N, discrete = s.horizon, s.envs, self.policy.discrete
        like = self.parameters[0]
        seen = like.new_empty(T, N, self.env.spec.observations)
        carried = None if self.state is None else like.new_empty(T, N, policy.core.width)
        actions = torch.empty(T, N, dtype=torch.int64) if discrete else like.new_empty(T, N, policy.actions)
        logp = like.new_empty(T, N)
        rewards, ends = np.empty((T, N)), np.empty((T, N), dtype=bool)
        for t in range(T):
            seen[t] = self.observed(self.obs)
            if carried is not None and self.state is not None:
                carried[t] = self.state
            made = policy.steps(seen[t], self.state)
            logits, after = made["logits"], made.get("state")
            actions[t], logp[t] = self.draw(logits, t)
            step = self.env.step(self.executed(actions[t]))
            over = step.terminated | step.truncated
            rewards[t], ends[t] = self.scale(step.reward, over) if s.reward_scale else step.reward, over
            if step.truncated.any():
                cut = np.flatnonzero(step.truncated)
                rest = policy.critic(policy.encoder(self.observed(step.final[cut])))
                rewards[t, cut] += s.gamma * rest.double().numpy()
            self.returns += step.reward
            self.lengths += 1
            done.step += N
            if over.any():
                for i in np.flatnonzero(over).tolist():
                    done.episodes.append((done.step, float(self.returns[i]), int(self.lengths[i])))
                self.returns[over], self.lengths[over] = 0.0, 0
                if after is not None:
                    after[torch.from_numpy(over)] = policy.start(int(over.sum()))
            self.obs, self.state = step.obs, after
        # The critic sees what is encoded alone, so all its values are had at once.
        seen_last = torch.cat([seen.flatten(0, 1), self.observed(self.obs)])
        values = policy.critic(policy.encoder(seen_last)).view(T + 1, N)
        advantages = gae(
            rewards, values[:T].double().numpy(), ends, values[T].double().numpy(), s.gamma, s.lam
        )
        better = torch.from_numpy(advantages).to(like)
        return seen, actions, logp, better, better + values[:T], carried

    def observed(self, obs: Any) -> Tensor:
        """An observation of the environment as a tensor, refused if it is not finite."""
        if not np.isfinite(obs).all():
            row, column = np.argwhere(~np.isfinite(obs))[0]
            raise ValueError(
                f"{self.env.spec.env_id} gave {obs[row, column]} at place {column} of what environment {row} observed, at step "
                f"{self.training.step}"
            )
        return torch.from_numpy(obs).to(self.parameters[0])

    def draw(self, logits: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Actions from the distribution, and their log-probabilities."""
        if self.policy.discrete:
            logs = F.log_softmax(logits, -1)
            # The inverse of the cumulative distribution: one uniform number per environment.
            u = torch.rand(len(logits), 1, generator=self.rng, dtype=logits.dtype)
            chosen = (logs.exp().cumsum(-1) < u).sum(-1).clamp(max=logits.shape[-1] - 1)
            return chosen, logs.gather(-1, chosen[:, None])[:, 0]
        if self.noise is None or self.settings.hold == 1 or t % self.settings.hold == 0:
            self.noise = torch.randn(logits.shape, generator=self.rng, dtype=logits.dtype)
        log_std: Tensor = self.policy.decoder.log_std  # pyright: ignore[reportAssignmentType]
        chosen = logits + log_std.exp() * self.noise
        return chosen, log_probability(logits, log_std, chosen)

    def executed(self, actions: Tensor) -> Any:
        """What the environment gets: continuous actions within the bounds."""
        return (
            actions.numpy()
            if self.policy.discrete
            else np.clip(actions.numpy(), self.env.spec.low, self.env.spec.high)
        )

    def learn(
        self,
        seen: Tensor,
        actions: Tensor,
        logp: Tensor,
        advantages: Tensor,
        returns: Tensor,
        carried: Tensor | None,
    ) -> dict[str, float]:
        """`epochs` passes over the round."""
        policy, s = self.policy.train(), self.settings
        seen, actions, logp = seen.flatten(0, 1), actions.flatten(0, 1), logp.flatten()
        advantages, returns = advantages.flatten(), returns.flatten()
        carried = None if carried is None else carried.flatten(0, 1)
        told: list[Tensor] = []
        for epoch in range(s.epochs):
            order = torch.randperm(len(seen), generator=self.rng)
            columns = [x[order].split(s.minibatch) for x in (seen, actions, logp, advantages, returns)]
            states = [None] * len(columns[0]) if carried is None else carried[order].split(s.minibatch)
            for *part, before in zip(*columns, states):
                obs, chosen, old, better, reached = part
                logits, values, _ = policy(obs, before)
                new, entropy = self.evaluate(logits, chosen, entropy=s.entropy > 0 or epoch == s.epochs - 1)
                shift = new.detach() - old
                gain, cut = clipped_gain(new, shift, better, s.clip)
                error = F.mse_loss(values, reached)
                loss = s.value * error - gain
                if s.entropy:
                    loss = loss - s.entropy * entropy.mean()
                self.optimizer.zero_grad()
                loss.backward()
                clip(self.parameters, s.max_grad)
                self.optimizer.step()
                if epoch == s.epochs - 1:
                    parts = (error, entropy.mean(), cut.to(error).mean(), (shift.exp() - 1 - shift).mean())
                    told.append(torch.stack(parts).detach())
        if policy.norms == "running":
            policy.restate(seen, carried, momentum=max(FORGET, 1 / (len(self.training.curve) + 1)))
        names = ("loss_value", "entropy", "clipped", "kl")
        return dict(zip(names, torch.stack(told).mean(0).tolist()))

    def evaluate(self, logits: Tensor, actions: Tensor, *, entropy: bool) -> tuple[Tensor, Tensor]:
        """Log-probabilities of actions, and the entropy if it is asked for."""
        if self.policy.discrete:
            logs = F.log_softmax(logits, -1)
            spread = -(logs.exp() * logs).sum(-1) if entropy else logs
            return logs.gather(-1, actions[:, None])[:, 0], spread
        log_std: Tensor = self.policy.decoder.log_std  # pyright: ignore[reportAssignmentType]
        spread = (log_std + 0.5 * float(np.log(2 * np.pi * np.e))).sum().expand(len(logits))
        return log_probability(logits, log_std, actions), spread

    def look(self) -> None:
        """After a round: is everything still finite?"""
        done, policy = self.training, self.policy
        bad = [name for name, p in policy.named_parameters() if not bool(p.isfinite().all())]
        if bad:
            done.stop = Stop(
                "nonfinite", done.step, bad[0], "a smaller lr or max_grad; older checkpoints are unharmed"
            )
            return
        self.explosions()

    def explosions(self) -> None:
        """Note which species are not finite for what is observed now; refuse to go on if they are for most of it."""
        done, policy = self.training, self.policy
        for name, share in policy.exploded(self.obs, self.state).items():
            done.exploded[name] = max(share, done.exploded.get(name, 0.0))
            if share > 0.5:
                raise ValueError(
                    f"{name} of {policy.core.name} is not finite for {100 * share:.0f} % of what {policy.env_id} shows at step "
                    f"{done.step}: the system explodes there. Give it the mu and std of a range in which it lives, bounds, or "
                    f"(flow, stateful) a smaller tau or more substeps"
                )

    # --- checkpoints -------------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """What is saved with the policy about its training."""
        done = self.training
        curve = [[int(row["step"]), row["reward"]] for row in done.curve]
        return {
            "steps": done.step, "seed": done.seed, "score": done.score, "episodes": len(done.episodes),
            "settings": asdict(self.settings), "curve": curve, "seconds": done.seconds, "exploded": done.exploded,
        }  # fmt: skip

    def tree(self) -> dict[str, Any]:
        """Everything that the next round depends on."""
        done = self.training
        self.policy.info = self.summary()
        try:
            env = self.env.save()
        except ValueError:
            env = None
        rows = [list(row.values()) for row in done.curve]
        return {
            "policy": self.policy.spec(),
            "weights": dict(self.policy.state_dict()),
            "ppo": {
                "settings": asdict(self.settings), "seed": done.seed, "step": done.step, "seconds": done.seconds,
                "exploded": done.exploded, "optimizer": self.optimizer.state_dict(), "rng": self.rng.get_state(),
                "scale": self.scale.state(), "returns": self.returns, "lengths": self.lengths, "obs": self.obs,
                "state": self.state, "noise": self.noise, "env": env,
                "curve": torch.tensor(rows, dtype=torch.float64), "names": list(done.curve[0]) if done.curve else [],
                "episodes": torch.tensor(done.episodes, dtype=torch.float64).reshape(-1, 3),
            },
        }  # fmt: skip

    def recall(self, saved: Any, source: Path) -> None:
        """Put a checkpoint back."""
        about, done = saved.get("ppo"), self.training
        if about is None:
            raise ValueError(f"{source} is a policy, but no checkpoint of ppo")
        mine = {"settings": asdict(self.settings), "seed": done.seed}
        theirs = {key: about[key] for key in mine}
        spec, here = saved["policy"], self.policy.spec()
        mine |= {key: here[key] for key in ("env_id", "mode", "core")}
        theirs |= {key: spec[key] for key in ("env_id", "mode", "core")}
        differ = [key for key in mine if mine[key] != theirs[key]]
        if differ:
            told = "; ".join(f"{key} was {theirs[key]}, is {mine[key]}" for key in differ)
            raise ValueError(
                f"{source} is of another run: {told}. Choose another folder, or the same settings"
            )
        self.policy.load_state_dict(saved["weights"])
        self.optimizer.load_state_dict(about["optimizer"])
        self.rng.set_state(about["rng"])
        self.scale.restore(about["scale"])
        done.step, done.seconds, done.exploded = about["step"], about["seconds"], about["exploded"]
        done.curve = [dict(zip(about["names"], row)) for row in about["curve"].tolist()]
        done.episodes = [(int(at), reward, int(length)) for at, reward, length in about["episodes"].tolist()]
        self.state, self.noise = about["state"], about["noise"]
        if about["env"] is None:
            warnings.warn(
                f"{self.env.spec.env_id} cannot be saved: its episodes begin anew, so this run differs from an uninterrupted one",
                stacklevel=3,
            )
            self.obs = self.env.reset()
            if self.state is not None:
                self.state = self.policy.start(self.settings.envs)
            return
        self.env.restore(about["env"])
        self.returns, self.lengths, self.obs = about["returns"], about["lengths"], about["obs"]


class RewardScale:
    """Rewards divided by the running standard deviation of the discounted return, within +-10, as VecNormalize does.

    Args:
        n: environments.
        gamma: discount.

    Example:
        >>> scale = RewardScale(2, gamma=0.0)
        >>> scale(np.array([1.0, 3.0]), np.array([False, False])).round(2).tolist()  # spread 1, but for the first guess
        [1.0, 3.0]
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.gamma, self.returns = gamma, np.zeros(n)
        self.mean, self.var, self.count = 0.0, 1.0, 1e-4

    def __call__(self, reward: Any, over: Any) -> Any:
        """The rewards of one step, scaled."""
        self.returns = self.returns * self.gamma + reward
        mean, var, n = float(self.returns.mean()), float(self.returns.var()), len(self.returns)
        shift, total = mean - self.mean, self.count + n
        spread = self.var * self.count + var * n + shift**2 * self.count * n / total
        self.mean, self.var, self.count = self.mean + shift * n / total, spread / total, total
        self.returns[over] = 0.0
        return np.clip(reward / np.sqrt(self.var + 1e-8), -10.0, 10.0)

    def state(self) -> dict[str, Any]:
        """To be saved."""
        return {"returns": self.returns.copy(), "mean": self.mean, "var": self.var, "count": self.count}

    def restore(self, saved: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.returns, self.mean, self.var, self.count = (
            saved[k] for k in ("returns", "mean", "var", "count")
        )


def clipped_gain(new: Tensor, shift: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """A number with the gradient of PPO's mean min(a r, a clip(r, 1 - c, 1 + c)), in fewer operations; and which r were cut.

    With r = exp(shift), that gradient is a r grad(log pi) where r has not yet gone beyond the clip in the direction that a
    wants, and 0 elsewhere. Advantages are normalised first.

    Args:
        new: log-probabilities now, `[n]`, with gradients.
        shift: the same less those of the policy that acted, without.
        advantages: `[n]`.
        clip: c.

    Example:
        >>> new = torch.zeros(2, requires_grad=True)
        >>> gain, cut = clipped_gain(new, torch.tensor([0.0, 1.0]), torch.tensor([-1.0, 1.0]), 0.2)
        >>> [round(g, 4) for g in torch.autograd.grad(gain, new)[0].tolist()], cut.tolist()  # a = -+1 / sqrt 2
        ([-0.3536, 0.0], [False, True])
    """
    spread, mean = torch.std_mean(advantages)
    a, ratio = (advantages - mean) / (spread + 1e-8), shift.exp()
    cut = (ratio - 1).abs() > clip
    wanted = (shift > 0) == (a > 0)
    return (new * (a * ratio).masked_fill(cut & wanted, 0.0)).mean(), cut


def clip(parameters: list[torch.nn.Parameter], largest: float) -> None:
    """Shrink the gradients so that the norm of them all is at most `largest`: `clip_grad_norm_` in two kernels.

    Example:
        >>> p = torch.nn.Parameter(torch.zeros(2))
        >>> p.grad = torch.tensor([3.0, 4.0])
        >>> clip([p], 1.0)
        >>> [round(g, 4) for g in p.grad.tolist()]
        [0.6, 0.8]
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.cat([g.reshape(-1) for g in gradients]).norm())
    if norm > largest:
        torch._foreach_mul_(gradients, largest / (norm + 1e-6))


def gae(rewards: Any, values: Any, ends: Any, last: Any, gamma: float, lam: float) -> Any:
    """Generalised advantages, sum_k (gamma lam)^k delta_{t+k} up to the end of the episode (1506.02438).

    delta_t = r_t + gamma V_{t+1} - V_t, without V_{t+1} where the episode ended at t.

    Args:
        rewards: `[T, N]`.
        values: `[T, N]`.
        ends: `[T, N]` bool.
        last: `[N]`, the value after the last step.
        gamma: discount.
        lam: lambda.

    Example:
        >>> gae(np.ones((2, 1)), np.zeros((2, 1)), np.zeros((2, 1), bool), np.zeros(1), 0.5, 1.0).tolist()
        [[1.5], [1.0]]
    """
    made = np.zeros_like(values)
    onward, after = np.zeros(values.shape[1]), last
    for t in range(len(rewards) - 1, -1, -1):
        lives = 1.0 - ends[t]
        delta = rewards[t] + gamma * after * lives - values[t]
        made[t] = onward = delta + gamma * lam * lives * onward
        after = values[t]
    return made


def log_probability(mean: Tensor, log_std: Tensor, x: Tensor) -> Tensor:
    """Of x under independent normals, summed over joints: `[B, A]` -> `[B]`.

    Example:
        >>> round(log_probability(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1, 1)).item(), 6)  # -log sqrt(2 pi)
        -0.918939
    """
    scaled = (x - mean) * (-log_std).exp()
    return (-0.5 * scaled.square() - log_std - 0.5 * float(np.log(2 * np.pi))).sum(-1)


def _settings(preset: str | Settings, changes: dict[str, Any]) -> Settings:
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"presets are {', '.join(PRESETS)}, or Settings(...); got {preset!r}")
        preset = PRESETS[preset]
    unknown = [name for name in changes if not hasattr(preset, name)]
    if unknown:
        raise ValueError(f"ppo has no setting {unknown[0]!r}; it has {', '.join(asdict(preset))}")
    made = replace(preset, **changes)
    if min(made.envs, made.horizon, made.minibatch, made.epochs, made.hold) < 1 or not made.lr > 0:
        raise ValueError(
            f"envs, horizon, minibatch, epochs and hold are at least 1 and lr is positive, got {made}"
        )
    if made.norms not in ("batch", "running"):
        raise ValueError(f"norms is batch or running, got {made.norms!r}")
    if made.minibatch < 2 <= made.envs * made.horizon:
        raise ValueError(
            "minibatch is at least 2: advantages are normalised within it, and so is what BatchNorm sees"
        )
    return made


def _check(policy: Policy, spec: Any) -> None:
    ours = (policy.observations, policy.actions, policy.discrete)
    if ours != (spec.observations, spec.actions, spec.discrete):
        kind = {True: "choices", False: "joints"}
        raise ValueError(
            f"{spec.env_id} has {spec.observations} observations and {spec.actions} {kind[spec.discrete]}; the policy has "
            f"{ours[0]} and {ours[1]} {kind[ours[2]]}: Policy.make({spec.env_id!r}, ...) makes one that fits"
        )
