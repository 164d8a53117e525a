"""Does the talk do what it says? How often a sentence reaches its game, and a policy does what a designed moment wants.

Routing is measured on the paper's sixteen prompts and on 120 held-out sentences of our own, of which 40 ask for nothing that
there is. Then a frozen network learns four games, and in moments designed for each goal its greedy action is held against the
goal; untrained policies and a random choice stand beside it.
"""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unrolled.instruments.reading import COLORS, axes
from unrolled.languagegame import Policy, design, embed, route, talk
from unrolled.languagegame.games import GAMES, named
from unrolled.languagegame.significance import wilson
from unrolled.runs import Claim, Run
from unrolled.studies import _game as shared
from unrolled.studies import _game_phrases as phrases

PAPER = shared.PAPER
METHODS = ("ppo",)
CLASSIC = ("cartpole", "acrobot", "mountaincar", "pendulum")
SAID = {
    "cartpole": "stay balanced",
    "acrobot": "swing up",
    "mountaincar": "get over the hill",
    "pendulum": "stabilize and hold",
}
"""The paper's prompts for the four."""


@dataclass(frozen=True)
class Config:
    """Which network learns which games, for how long, and in how many moments it is asked."""

    preset: str = "tiny"
    seed: int = 0
    networks: tuple[str, ...] = ("weimann2004",)
    """the first one talks"""
    games: tuple[str, ...] = CLASSIC
    steps: int = 200_000
    """of training per game"""
    training: str = "fast"
    moments: int = 20
    """designed per goal"""


def tiny() -> Config:
    """One network, the one of four that learned most in trials by hand, and four games; a minute and a half on an idle core."""
    return Config()


def small() -> Config:
    """Four networks."""
    return Config(
        preset="small",
        networks=("weimann2004", "tyson1999", "leloup1999", "kholodenko2000"),
        steps=250_000,
        moments=50,
    )


def study(config: Config, run: Run) -> list[Claim]:
    """Route, train, ask, talk; then judge."""
    run.status(phase="routing")
    rates = {method: routed(method) for method in ("lexical", *(("embedding",) if embed.installed() else ()))}
    for method, row in rates.items():
        run.log(routing=method, **row)
    crews: dict[str, dict[str, Any]] = {}
    for network in config.networks:
        crews[network] = {}
        for name in config.games:
            env_id = named(name).env_id
            shared.learn(run, env_id, network, config.seed, steps=config.steps, preset=config.training)
            crews[network][name] = Policy.load(shared.policy_file(run, env_id, network, config.seed))
    run.status(phase="asking")
    for network, name, policy in ((n, name, p) for n, crew in crews.items() for name, p in crew.items()):
        fresh = Policy.make(policy.env_id, network, seed=config.seed)
        for goal in named(name).goals:
            moments = [design(name, goal, seed=config.seed + k) for k in range(config.moments)]
            did = {
                who: [goal.fulfilled(named(name).moves, p.act(m.observation)) for m in moments]
                for who, p in (("trained", policy), ("untrained", fresh))
            }
            run.log(asked=name, goal=goal.name, by=network, **{who: fmean(hits) for who, hits in did.items()}, moments=len(moments))  # fmt: skip
    run.status(phase="talking")
    network, trained = config.networks[0], crews[config.networks[0]]
    same = []
    for name, policy in trained.items():
        first, again = (
            talk(trained, SAID[name], seed=config.seed),
            talk(trained, SAID[name], seed=config.seed),
        )
        same.append(first.delta_value == again.delta_value and first.text == again.text)
        run.log(
            said=SAID[name],
            reached=first.game,
            answer=first.text,
            delta_value=first.delta_value,
            gain=first.gain,
            again=same[-1],
        )
        policy.save(run.path / f"policy-{name}.safetensors")
    about = f"{network}, frozen; it has learned to {', '.join(named(n).activity for n in trained)}. Nothing it hears changes it."
    run.save_exhibit(
        "talk", "talk", title=f"Talk to {network}", caption="A sentence goes in, the network acts, a sentence comes back.", unit="",
        data={"about": about, "examples": [SAID[n] for n in trained], "model": f"policy-{next(iter(trained))}.safetensors", "wide": True}, arrays={},
    )  # fmt: skip
    return judged(config, run, rates, same)


def routed(method: str) -> dict[str, int]:
    """Right answers of a router on the labelled sets, and how many were asked."""
    made: dict[str, int] = {}
    for name, labelled in (("paper", phrases.PAPER), ("held_out", phrases.HELD_OUT)):
        pairs = [(label, prompt) for label, said in labelled.items() for prompt in said]
        got = [
            (label, found.game.name if found.game else "")
            for label, prompt in pairs
            for found in [route(prompt, method=method)]
        ]
        made[name] = sum(label == answer for label, answer in got if label)
        made[f"{name}_of"] = sum(bool(label) for label, _ in got)
        if name == "held_out":
            made["refused"] = sum(not answer for label, answer in got if not label)
            made["refused_of"] = sum(not label for label, _ in got)
    return made


def judged(config: Config, run: Run, rates: dict[str, dict[str, int]], same: list[bool]) -> list[Claim]:
    """The claims."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    made: list[Claim] = []
    for method, row in rates.items():
        low, high = wilson(row["held_out"], row["held_out_of"])
        made += [
            Claim(f"{method}-paper", f"the paper's prompts reach their games, {method} router (share)", paper=15 / 16, ours=row["paper"] / row["paper_of"],
                  status="reproduced" if row["paper"] >= 15 else "not reproduced", note="these stand in the games' own lists: the held-out sentences are the test",
                  source="language-game fact sheet, F9 (the paper reports no rate)", **common),
            Claim(f"{method}-held-out", f"held-out sentences reach their games, {method} router (share)", paper="an LLM picks the best-matching game",
                  ours=row["held_out"] / row["held_out_of"], status="direction only", note=f"{row['held_out']} of {row['held_out_of']}, 95 % interval {low:.2f} to {high:.2f}; sentences of our own; 1/16 by chance",
                  source="2605.16321, abstract; no rate is reported", **common),
            Claim(f"{method}-refused", f"sentences that fit no game are refused, {method} router (share)", paper="not reported", ours=row["refused"] / row["refused_of"],
                  status="direction only", note=f"{row['refused']} of {row['refused_of']}: other games, other languages, hostile and empty ones; one that is not refused still only starts a game",
                  source="asked by us", **common),
        ]  # fmt: skip
    asked = [r for r in run.metrics() if r.get("asked")]
    share = fmean(r["trained"] for r in asked)
    before = fmean(r["untrained"] for r in asked)
    each = {name: fmean(r["trained"] for r in asked if r["asked"] == name) for name in config.games}
    by = {n: fmean(r["trained"] for r in asked if r["by"] == n) for n in config.networks}
    made.append(
        Claim("rational", "in a moment designed for a goal, the greedy action is the goal's (share, mean over goals)", paper=0.8, ours=share,
              status="reproduced" if share >= 0.8 else "direction only" if share > before else "not reproduced",
              note=f"{', '.join(f'{n} {v:.2f}' for n, v in each.items())}; untrained {before:.2f}; {', '.join(f'{n} {v:.2f}' for n, v in by.items())}; {config.steps:,} steps each; moments are judged by simulation and a good player, not by the policy",
              source="language-game fact sheet, F9", **common)
    )  # fmt: skip
    made.append(
        Claim("same", "the same seed gives the same answer and the same change of value, bit for bit (share of talks)", paper=1.0, ours=fmean(map(float, same)),
              status="reproduced" if all(same) else "not reproduced", source="language-game fact sheet, F9", **common)
    )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Who does what is wanted, goal by goal; how sentences are routed."""
    from matplotlib.figure import Figure

    asked = [r for r in run.metrics() if r.get("asked")]
    several = len({r["by"] for r in asked}) > 1
    figure = Figure(figsize=(6.8, 0.34 * len(asked) + 1.2), layout="constrained")
    ax = axes(figure.add_subplot())
    for k, r in enumerate(asked):
        ax.plot([r["untrained"], r["trained"]], [k, k], color="#9aa0a6", lw=1)
        ax.plot(r["untrained"], k, "o", color=COLORS[0], label="untrained" if not k else None)
        ax.plot(r["trained"], k, "o", color=COLORS[1], label="trained" if not k else None)
    ax.axvline(0.8, color="#1c1e21", lw=0.8, ls=":")
    ax.set_yticks(
        range(len(asked)),
        [f"{r['asked']}: {r['goal']}" + (f" ({r['by']})" if several else "") for r in asked],
    )
    ax.set(xlabel="share of moments in which the greedy action is the goal's", xlim=(-0.05, 1.05))
    ax.invert_yaxis()
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    made = {
        "rational": (
            figure,
            "In moments designed for a goal: how often the policy does it. Dotted: the mark of 0.8.",
        )
    }
    rows = [r for r in run.metrics() if r.get("routing")]
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    ax = axes(figure.add_subplot())
    kinds = (
        ("paper", "paper's prompts"),
        ("held_out", "held-out sentences"),
        ("refused", "no game: refused"),
    )
    for i, r in enumerate(rows):
        for j, (key, _) in enumerate(kinds):
            low, high = wilson(r[key], r[f"{key}_of"])
            at, share = j + 0.16 * (i - (len(rows) - 1) / 2), r[key] / r[f"{key}_of"]
            ax.plot([at, at], [low, high], color=COLORS[i], lw=1.2)
            ax.plot(at, share, "o", color=COLORS[i], label=r["routing"] if not j else None)
    ax.set_xticks(range(3), [label for _, label in kinds])
    ax.set(ylabel="share, 95 % interval", ylim=(0, 1.05), xlim=(-0.5, 2.5))
    ax.legend(loc="lower left")
    made["routing"] = (
        figure,
        f"How {len(GAMES)} games are told apart by what people say, without a language model.",
    )
    return made
