"""stable-baselines3's PPO on the same task and settings, in a process of its own that has it: prints one JSON line.

`python benchmarks/_sb3_game.py STEPS SEED WHAT`, WHAT being `mlp` (its MlpPolicy, 64-64 tanh), or a core's name.
"""

import json
import sys
import time

import torch


def main(steps: int, seed: int, what: str) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    torch.set_num_threads(1)
    from stable_baselines3.common.callbacks import BaseCallback

    episodes: list[tuple[int, float]] = []

    class Keep(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    episodes.append((self.num_timesteps, float(info["episode"]["r"])))
            return True

    def fresh() -> PPO:
        env = make_vec_env("CartPole-v1", 16, seed=seed, vec_env_cls=DummyVecEnv)
        return PPO(
            "MlpPolicy" if what == "mlp" else wrapped(what, seed),
            VecNormalize(env, norm_obs=False, norm_reward=True, clip_reward=10.0),
            n_steps=512, batch_size=256, n_epochs=10, learning_rate=5e-4, gamma=0.99, gae_lambda=0.95, ent_coef=0.0,
            seed=seed, device="cpu",
        )  # fmt: skip

    fresh().learn(8192, callback=Keep())  # imports, caches and the like are not counted
    episodes.clear()
    model = fresh()
    began, cpu = time.perf_counter(), time.process_time()
    model.learn(steps, callback=Keep())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    made = {
        "rate": model.num_timesteps / seconds,
        "cpu_rate": model.num_timesteps / cpu,
        "steps": model.num_timesteps,
    }
    print(json.dumps({**made, "episodes": episodes}))


def wrapped(core: str, seed: int) -> type:
    """Our policy as one of stable-baselines3's, with its loops around it."""
    from stable_baselines3.common.policies import ActorCriticPolicy

    from unrolled.languagegame import Policy

    class Wrapped(ActorCriticPolicy):
        def _build(self, lr_schedule):  # type: ignore[no-untyped-def]
            self.inner = Policy.make("CartPole-v1", core, seed=seed)
            self.optimizer = self.optimizer_class(
                self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
            )

        def _both(self, obs):  # type: ignore[no-untyped-def]
            logits, values, _ = self.inner(obs.float())
            return self.action_dist.proba_distribution(logits), values[:, None]

        def forward(self, obs, deterministic=False):  # type: ignore[no-untyped-def]
            distribution, values = self._both(obs)
            actions = distribution.get_actions(deterministic=deterministic)
            return actions, values, distribution.log_prob(actions)

        def evaluate_actions(self, obs, actions):  # type: ignore[no-untyped-def]
            distribution, values = self._both(obs)
            return values, distribution.log_prob(actions), distribution.entropy()

        def predict_values(self, obs):  # type: ignore[no-untyped-def]
            return self._both(obs)[1]

    return Wrapped


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
