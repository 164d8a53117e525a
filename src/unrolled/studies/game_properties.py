"""Does biology help, or just nonlinearity? Thirteen properties of networks, three tests, and what these could ever find.

Every network of the paper learns the same games. Three tests ask whether a property goes with better scores; their power is
computed beside them, because with fourteen networks most of them cannot find anything. A random vector field of each width says what
any nonlinearity of that size achieves.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.instruments.reading import COLORS, axes
from unrolled.languagegame import _properties as tables
from unrolled.languagegame import properties, significance
from unrolled.runs import Claim, Run
from unrolled.sbml import models
from unrolled.studies import _game as shared
from unrolled.studies import _game_table as table

PAPER = shared.PAPER
METHODS = ("ppo",)
GAMES, TESTS = 16, (13, 208, 104)
"""Of the paper's design: games; tests of each kind."""


@dataclass(frozen=True)
class Config:
    """Which games, how long, and which networks are looked at for what they show by themselves."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed"""
    seeds: int = 1
    envs: tuple[str, ...] = ("CartPole-v1",)
    steps: int = 50_000
    training: str = "fast"
    matrix: str = ""
    """a run of game-matrix to read instead of training"""
    looked: tuple[str, ...] = ("tyson1999", "gardner2000", "kholodenko2000")
    """networks whose properties are computed"""
    draws: int = 200
    """sets of scores for the power of the tests"""


def tiny() -> Config:
    """One game, short training; two minutes."""
    return Config()


def small() -> Config:
    """Two games, two seeds, all networks looked at; half an hour, or minutes with --matrix RUN."""
    return Config(
        preset="small",
        seeds=2,
        envs=("CartPole-v1", "MountainCarContinuous-v0"),
        steps=150_000,
        looked=tables.NETWORKS,
        draws=1000,
    )


def study(config: Config, run: Run) -> list[Claim]:
    """Gather scores, test properties, compute power, look at networks; then judge."""
    networks, seeds = list(tables.NETWORKS), range(config.seed, config.seed + config.seeds)
    widths = {name: shared.width(name) for name in networks}
    fields = [f"{kind}:{d}" for d in sorted(set(widths.values())) for kind in ("random", "linear")]
    there = table.source(
        run,
        config.matrix,
        networks,
        config.envs,
        seeds,
        steps=config.steps,
        training=config.training,
        optional=fields,
    )
    run.log(trained=max(int(r["steps"]) for r in shared.rows(there, "done")), source=there.id)
    scores = table.scores(there, networks, config.envs, seeds)
    run.status(phase="tests")
    whole = scores.isfinite().all(1)
    kept = [name for name, fine in zip(networks, whole.tolist()) if fine]
    for row in properties(scores[whole], kept):
        run.log(property=row.property, **{k: v for k, v in row.to_dict().items() if k != "property"})
    run.log(
        omnibus=significance.omnibus(scores[whole], tables.labels(kept)),
        dropped=[n for n in networks if n not in kept],
    )
    for k, name in enumerate(networks):
        for j, env_id in enumerate(config.envs):
            own = {
                kind: float(table.scores(there, [f"{kind}:{widths[name]}"], [env_id], seeds)[0, 0])
                for kind in ("random", "linear")
            }
            run.log(compared=name, env=env_id, width=widths[name], network=float(scores[k, j]), **own)
    run.status(phase="power")
    for members in (2, 3, 4, 5, 6, 9):
        least = {
            "sign": significance.least_sign_p(GAMES),
            "contingency": significance.least_fisher_p(14, members),
            "ranks": significance.least_permutation_p(14, members),
        }
        run.log(power=members, q_contingency=least["contingency"] * TESTS[1] / GAMES, q_ranks=least["ranks"] * TESTS[2] / len(tables.PRIMITIVES), **least)  # fmt: skip
        for effect in (0.0, 1.0, 2.0, 3.0):
            run.log(
                members=members,
                effect=effect,
                **significance.simulated_power(effect, members, draws=config.draws, tests=TESTS),
            )
    run.status(phase="looking at networks")
    for name in config.looked:
        made = tables.computed(models.named(name), starts=16, seed=config.seed)
        run.log(
            looked=name,
            period=made.period,
            stable=made.stable,
            agrees=made.agrees(name),
            laws=list(made.laws),
        )
    return judged(config, run)


def compared(run: Run) -> list[dict[str, Any]]:
    """Networks beside controls of their width, where both were trained and came to something."""
    found = [r for r in run.metrics() if r.get("compared")]
    return [
        r
        for r in found
        if all(isinstance(r[k], int | float) and math.isfinite(r[k]) for k in ("network", "random", "linear"))
    ]


def judged(config: Config, run: Run) -> list[Claim]:
    """The claims."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": config.seeds}
    rows = {r["property"]: r for r in run.metrics() if r.get("property")}
    steps = next(int(r["trained"]) for r in run.metrics() if r.get("trained"))
    games = f"{len(config.envs)} of the paper's 16 games, {steps:,} steps: the sign test's least p here is {significance.least_sign_p(len(config.envs)):.2g}"
    made: list[Claim] = []
    for name, sign in [(n, -1) for n in tables.HELPS] + [(n, 1) for n in tables.HINDERS]:
        r, what = rows[name], "better" if sign < 0 else "worse"
        right = sign * r["difference"] > 0
        made.append(
            Claim(f"rank-{name.replace(' ', '-')}", f"networks with the property {name!r} play {what} (mean rank of those with it minus that of the others)",
                  paper=what, ours=r["difference"], unit="ranks", status="reproduced" if right and r["q_ranks"] < 0.05 else "direction only" if right else "not reproduced",
                  note=f"p {r['p_ranks']:.2g}, adjusted {r['q_ranks']:.2g}; {r['members']} networks have it; {games}", source="third-party notes on 2605.16321 (fact sheet, A1): direction only", **common)
        )  # fmt: skip
    found = [n for n, r in rows.items() if min(r["q"], r["q_ranks"]) < 0.05]
    omnibus = next(r["omnibus"] for r in run.metrics() if r.get("omnibus") is not None)
    made.append(
        Claim("found", "properties that any test finds at a false discovery rate of 5 % (of 13)", paper="several", ours=float(len(found)), status="direction only" if found else "not reproduced",
              note=f"{', '.join(found) or 'none'}; all properties at once (omnibus): p {omnibus:.2g}; {games}", source="2605.16321, third-party notes", **common)
    )  # fmt: skip
    power = {r["power"]: r for r in run.metrics() if r.get("power")}
    sizes = {name: len(members) for name, members in tables.PROPERTIES.items()}
    reach = [n for n, k in sizes.items() if k in power and power[k]["q_contingency"] <= 0.05]
    made.append(
        Claim("reach-contingency", "properties that the contingency test could find by themselves, were they perfect in all 16 games (of 13)", paper=13.0, ours=float(len(reach)),
              status="reproduced" if len(reach) == 13 else "not reproduced", note="exact: least p of Fisher's test times 208 tests over 16: " + ", ".join(f"{k} members {power[k]['q_contingency']:.2f}" for k in power),
              source="fact sheet, A8, F8", **common)
    )  # fmt: skip
    reach = [n for n, k in sizes.items() if k in power and power[k]["q_ranks"] <= 0.05]
    made.append(
        Claim("reach-ranks", "properties that the rank test could find by themselves, were they perfect in all 8 primitives (of 13)", paper=13.0, ours=float(len(reach)),
              status="reproduced" if len(reach) == 13 else "not reproduced", note=", ".join(f"{k} members {power[k]['q_ranks']:.2g}" for k in power), source="fact sheet, A8", **common)
    )  # fmt: skip
    strong = [r for r in run.metrics() if r.get("effect") == 2.0]
    null = [r for r in run.metrics() if r.get("effect") == 0.0]
    four = next(r for r in strong if r["members"] == 4)
    false = max(r["sign"] for r in null)
    made.append(
        Claim("power", "the sign test sees four members that are two deviations better, and nothing where there is nothing (power, 16 games)", paper=0.8, ours=four["sign"],
              status="reproduced" if four["sign"] >= 0.8 and false <= 2 * 0.05 / 13 else "not reproduced",
              note=f"rank test {four['ranks']:.2f}, contingency {four['contingency']:.2f}; without any effect the sign test finds one in {false:.1%} of sets at a threshold of {0.05 / 13:.2%}: "
              "its games are played by the same networks and are no independent trials", source="computed by us", **common)
    )  # fmt: skip
    pairs = compared(run)
    for kind, name in (("random", "a random vector field"), ("linear", "nothing (a linear policy)")):
        wins, ties = sum(r["network"] > r[kind] for r in pairs), sum(r["network"] == r[kind] for r in pairs)
        trials = len(pairs) - ties
        p, (low, high) = significance.sign_test(wins, trials), significance.wilson(wins, trials)
        share = wins / trials if trials else float("nan")
        mean = {
            k: {e: np.mean([r[k] for r in pairs if r["env"] == e]) for e in config.envs}
            for k in ("network", kind)
        }
        made.append(
            Claim(f"biology-{kind}", f"a network plays better than {name} of its own width (share of network-game pairs)", paper="biological dynamics are an inductive bias", ours=share,
                  status="reproduced" if p < 0.05 and share > 0.5 else "direction only" if share > 0.5 else "not reproduced",
                  note=f"{wins} of {trials} (of {14 * len(config.envs)}: those whose controls were trained), interval {low:.2f} to {high:.2f}, sign test p {p:.2g} (networks of one width share a control, so pairs are not independent); "
                  + ", ".join(f"{e.split('-')[0]} {mean['network'][e]:.0f} against {mean[kind][e]:.0f}" for e in config.envs), source="asked by us; 2605.16321 has no such comparison", **common)
        )  # fmt: skip
    cells = [
        (r["looked"], name, fine)
        for r in run.metrics()
        if r.get("looked")
        for name, fine in r["agrees"].items()
    ]
    wrong = [f"{network}: {name}" for network, name, fine in cells if not fine]
    made.append(
        Claim("labels", "properties computed from the networks are the paper's labels (share of cells)", paper=1.0, ours=1 - len(wrong) / max(1, len(cells)),
              status="reproduced" if not wrong else "direction only" if len(wrong) < 0.2 * len(cells) else "not reproduced",
              note=f"{len(cells)} cells: oscillatory, non-oscillatory, bistable, circadian, conservation, negative feedback; otherwise: {'; '.join(wrong) or 'none'}; the other seven are matters of annotation", source="fact sheet, A8", **common)
    )  # fmt: skip
    return made


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Power; properties with their intervals; networks against random fields."""
    from matplotlib.figure import Figure

    metrics = run.metrics()
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    drawn = [r for r in metrics if r.get("effect") is not None]
    for ax, test in zip(map(axes, figure.subplots(1, 3, sharey=True)), ("sign", "contingency", "ranks")):
        for color, members in zip(COLORS, sorted({r["members"] for r in drawn})):
            mine = [r for r in drawn if r["members"] == members]
            ax.plot(
                [r["effect"] for r in mine],
                [r[test] for r in mine],
                "o-",
                color=color,
                label=f"{members} members",
                lw=1.2,
            )
        ax.set(
            xlabel="effect, in deviations",
            title={"sign": "sign test", "contingency": "contingency", "ranks": "rank test"}[test],
            ylim=(-0.03, 1.03),
        )
    figure.axes[0].set_ylabel("power")
    figure.axes[0].legend(fontsize=6)
    made = {
        "power": (
            figure,
            "What the three tests can see with fourteen networks, sixteen games and a false discovery rate of 5 %, one true property.",
        )
    }
    rows = sorted((r for r in metrics if r.get("property")), key=lambda r: r["difference"])
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = axes(figure.add_subplot())
    for k, r in enumerate(rows):
        ax.barh(k, r["difference"], color=COLORS[1] if r["difference"] < 0 else COLORS[0])
        ax.text(
            0.02 * (1 if r["difference"] < 0 else -1),
            k,
            f"p {r['p_ranks']:.2f}",
            va="center",
            ha="left" if r["difference"] < 0 else "right",
            fontsize=7,
        )
    ax.set_yticks(range(len(rows)), [f"{r['property']} ({r['members']})" for r in rows])
    ax.set(xlabel="mean rank, with minus without: negative plays better")
    made["properties"] = (
        figure,
        "Mean ranks of networks with a property against those without; p of the exact permutation test, not adjusted.",
    )
    pairs = compared(run)
    envs = list(dict.fromkeys(r["env"] for r in pairs))
    figure = Figure(figsize=(4.2 * max(1, len(envs)), 3.4), layout="constrained")
    for ax, env_id in zip(map(axes, np.atleast_1d(figure.subplots(1, max(1, len(envs))))), envs):
        mine = [r for r in pairs if r["env"] == env_id]
        ends = [
            min(min(r["random"], r["network"]) for r in mine),
            max(max(r["random"], r["network"]) for r in mine),
        ]
        ax.plot(ends, ends, ":", color="#1c1e21", lw=0.9)
        for kind, color in (("linear", COLORS[0]), ("random", COLORS[1])):
            ax.plot(
                [r[kind] for r in mine],
                [r["network"] for r in mine],
                "o",
                color=color,
                label=f"{kind}, same width",
            )
        for r in mine:
            ax.annotate(
                r["compared"],
                (r["random"], r["network"]),
                fontsize=5,
                xytext=(3, 2),
                textcoords="offset points",
            )
        ax.set(xlabel="score of the control", ylabel="score of the network", title=env_id)
        ax.legend()
    made["biology"] = (
        figure,
        "Each network against controls of its own width; above the dotted line the network plays better.",
    )
    return made
