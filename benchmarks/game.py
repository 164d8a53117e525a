"""Environments, policies and PPO of the language game: steps a second, against Gymnasium and stable-baselines3.

stable-baselines3 runs in a process of its own between ours; `SB3` names a folder that has it, if the environment does not
(`pip install --no-deps --target FOLDER stable-baselines3 cloudpickle`). Options: `--small`; `--curves`, which trains both on
three seeds to compare what they learn.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import _record
from unrolled.languagegame import Policy, envs, ppo
from unrolled.sbml.models import PAPER


def actions(env: Any, rng: np.random.Generator) -> Any:
    if env.spec.discrete:
        return rng.integers(env.spec.actions, size=env.batch)
    return rng.uniform(env.spec.low, env.spec.high, size=(env.batch, env.spec.actions)).astype(np.float32)


def stepping(env: Any, steps: int) -> float:
    rng = np.random.default_rng(0)
    env.reset()
    began = time.perf_counter()
    for _ in range(steps):
        env.step(actions(env, rng))
    return env.batch * steps / (time.perf_counter() - began)


def environments() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for env_id in envs.NATIVE:
        ours = median(stepping(envs.make(env_id, 256), 200) for _ in range(3))
        theirs = stepping(envs.make(env_id, 256, native=False), 10)
        made[env_id] = {"native": ours, "gymnasium": theirs}
        print(f"{env_id}, 256 at random: {ours:,.0f} steps/s; Gymnasium's in a loop {theirs:,.0f}")
    return made


def acting() -> dict[str, float]:
    obs, made = torch.randn(16, 4), dict[str, float]()
    for name in (*PAPER, "linear", "mlp", "random:8"):
        policy = Policy.make("CartPole-v1", name)
        times: list[float] = []
        with torch.no_grad():
            for _ in range(300):
                began = time.perf_counter()
                policy(obs)
                times.append(time.perf_counter() - began)
        made[name] = 1e3 * median(times)
        print(f"  {name}: {made[name]:.3f} ms for 16")
    return made


def ours(what: str, steps: int, preset: str, seed: int = 0) -> dict[str, Any]:
    cpu = time.process_time()
    training = ppo(Policy.make("CartPole-v1", what, seed=seed), steps=steps, preset=preset, seed=seed)
    cpu = time.process_time() - cpu
    return {
        "rate": training.rate, "cpu_rate": training.step / cpu, "score": training.score, "steps": training.step,
        "episodes": [(at, reward) for at, reward, _ in training.episodes],
    }  # fmt: skip


def theirs(what: str, steps: int, seed: int = 0) -> dict[str, Any] | None:
    script = Path(__file__).with_name("_sb3_game.py")
    folders = [str(Path(__file__).parents[1] / "src"), *filter(None, [os.environ.get("SB3")])]
    made = subprocess.run(
        [sys.executable, str(script), str(steps), str(seed), what], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if made.returncode:
        print(f"  stable-baselines3 did not run: {made.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(made.stdout.strip().splitlines()[-1])


def race(repeats: int, steps: int) -> dict[str, Any]:
    ours("tyson1999", 8192, "paper")
    lanes: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for what in ("mlp", "tyson1999"):
            found = theirs(what, steps)
            if found is not None:
                lanes.setdefault(
                    f"stable-baselines3, {'its MlpPolicy' if what == 'mlp' else 'our policy'}", []
                ).append(found)
        lanes.setdefault("ours, tyson1999, paper", []).append(ours("tyson1999", steps, "paper"))
        lanes.setdefault("ours, kholodenko2000, paper", []).append(ours("kholodenko2000", steps, "paper"))
        lanes.setdefault("ours, tyson1999, fast", []).append(ours("tyson1999", 4 * steps, "fast"))
    us, told = lanes["ours, tyson1999, paper"], dict[str, Any]()
    for name, found in lanes.items():
        ratios = [median(a[key] / b[key] for a, b in zip(us, found)) for key in ("rate", "cpu_rate")]
        told[name] = {
            "steps_per_second": median(f["rate"] for f in found),
            "per_cpu_second": median(f["cpu_rate"] for f in found),
            "ours_over_it": ratios[0], "ours_over_it_per_cpu_second": ratios[1],
        }  # fmt: skip
        print(
            f"  {name}: {median(f['rate'] for f in found):,.0f} steps/s, {median(f['cpu_rate'] for f in found):,.0f} per CPU second; "
            f"ours in the paper's setting is {ratios[0]:.2f} x ({ratios[1]:.2f} x per CPU second)"
        )
    return told


def curves(steps: int, seeds: int) -> None:
    print(f"mean return by tenths of {steps:,} steps, the same policy (tyson1999), both PPOs:")
    for seed in range(seeds):
        for name, found in (
            ("ours", ours("tyson1999", steps, "paper", seed)),
            ("sb3", theirs("tyson1999", steps, seed)),
        ):
            if found is not None:
                bins: list[list[float]] = [[] for _ in range(10)]
                for at, reward in found["episodes"]:
                    bins[min(9, int(10 * (at - 1) / found["steps"]))].append(reward)
                print(f"  seed {seed}, {name}: {' '.join(f'{np.mean(b):.0f}' if b else '-' for b in bins)}")


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1)
    print(f"one thread, load {os.getloadavg()[0]:.1f}")
    stepped, acted = environments(), acting()
    small = "--small" in argv
    found = race(1 if small else 3, 8192 if small else 16384)
    if not small:
        _record.write(
            "game",
            {"load": os.getloadavg()[0], "environments": stepped, "policy_ms_for_16": acted, "ppo": found},
        )
    if "--curves" in argv:
        curves(98304, 3)


if __name__ == "__main__":
    main(sys.argv[1:])
