"""The discretization bottleneck as a measured quantity: decodable bits beside raw bits, of thoughts and of images.

The survey (2604.02029, section 2.2) says that words lose what vectors keep, and gives no number. Two measurements:

*Thoughts.* A small GPT learns arithmetic by Coconut's curriculum; a linear probe reads the k-th intermediate value from
the k-th thought. What it decodes stands beside the 16 d bits it takes to store a thought and beside what one token can
say; the same network before training, and after it with every thought read for another problem's value, are controls.

*Images.* A sender sees an image and writes m tokens of a vocabulary, or m vectors; the same receiver reads either as
input embeddings, names the class, and points out the image among many. log2 N less its cross-entropy is a lower bound
of the information that arrived (InfoNCE, 1807.03748), which m tokens cannot bring above m log2 |V|.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.core.seeds import generator
from unrolled.instruments.reading import axes
from unrolled.latent import Thinker, Words
from unrolled.latent.evaluate import mcnemar
from unrolled.latent.inside import bits
from unrolled.latent.tasks import Problem
from unrolled.runs import Claim, Run
from unrolled.studies import _latent as latent
from unrolled.studies._latent import Arm, Shape
from unrolled.training import fit, images

PAPER = latent.PAPER


@dataclass(frozen=True)
class Config:
    """Which messages, and which thoughts."""

    preset: str = "tiny"
    seed: int = 0
    """the first seed: weights, orders, messages"""
    seeds: int = 2
    digits: bool = True
    """scikit-learn's 8 x 8 digits"""
    fashion: str = ""
    """folder of Fashion-MNIST's four idx files; "debian" for where Debian's package has them; empty for none"""
    messages: tuple[int, ...] = (1, 2, 4)
    """m: how many tokens, or how many vectors"""
    vocabularies: tuple[int, ...] = (16,)
    """sizes |V|"""
    vector: int = 32
    """d, of an embedding and of a vector"""
    steps: int = 500
    batch: int = 128
    lr: float = 2e-3
    candidates: int = 256
    """N: images to point one out of"""
    ops: int = 2
    """operations of the arithmetic problems; 0 for no thoughts"""
    problems: int = 4000
    probed: int = 500
    """held-out problems whose thoughts are probed"""
    stage: int = 4
    """epochs a stage"""
    shape: Shape = field(default_factory=lambda: Shape(layers=2, width=64, heads=4, context=64))


def tiny() -> Config:
    """Digits, and two thoughts of a GPT; two minutes."""
    return Config()


def small() -> Config:
    """Digits and Fashion-MNIST, two vocabularies, three seeds."""
    return Config(
        preset="small", seeds=3, fashion="debian", vocabularies=(16, 256), steps=1000, problems=5000, stage=10,
    )  # fmt: skip


def paper() -> Config:
    """Longer, with a larger vocabulary; the survey gives no number to reach."""
    return replace(
        small(), preset="paper", seeds=5, vocabularies=(16, 256, 4096), steps=20_000, problems=50_000, ops=3
    )


class Talk(nn.Module):
    """A sender that says m tokens of a vocabulary, or m vectors, and a receiver that reads them as embeddings.

    Args:
        pixels: of an image.
        classes: of images.
        kind: "tokens" or "latents".
        m: of either.
        vocabulary: |V|.
        width: d.
        seed: of the weights; both kinds of a seed begin with the same receiver.
    """

    def __init__(
        self, pixels: int, classes: int, *, kind: str, m: int, vocabulary: int, width: int, seed: int
    ):
        super().__init__()
        self.kind, self.m, self.vocabulary, self.width = kind, m, vocabulary, width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.place = nn.Parameter(torch.randn(m, width) * 0.1)
            layer = nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            self.reader = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.classify, self.point = nn.Linear(width, classes), nn.Linear(width, 64)
            self.look = nn.Sequential(nn.Linear(pixels, 256), nn.GELU(), nn.Linear(256, 64))
            self.words = nn.Parameter(F.normalize(torch.randn(vocabulary, width), dim=-1) * math.sqrt(width))
            out = m * (vocabulary if kind == "tokens" else width)
            self.sender = nn.Sequential(nn.Linear(pixels, 256), nn.GELU(), nn.Linear(256, out))

    def say(self, x: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """The message `[B, m, d]`, and the tokens it was said in.

        Tokens are the likeliest ones; with a generator a Gumbel sample, whose gradient is that of the softmax (1611.01144).
        Vectors have a token's norm.
        """
        made = self.sender(x).view(len(x), self.m, -1)
        if self.kind == "latents":
            return F.layer_norm(made, (self.width,)), None
        if rng is not None:
            u = torch.rand(made.shape, generator=rng).clamp(1e-9, 1 - 1e-7)
            made = made - (-u.log()).log()
        token, soft = made.argmax(-1), made.softmax(-1)
        hard = F.one_hot(token, self.vocabulary).to(soft)
        return (hard - soft.detach() + soft) @ self.words, token

    def hear(self, message: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the class `[B, classes]`, and where the receiver points `[B, 64]`."""
        read = self.reader(message + self.place).mean(1)
        return self.classify(read), self.point(read)

    def loss(self, batch: tuple[Tensor, Tensor, int]) -> Tensor:
        """Cross-entropy of the class, and of the image among those of the batch."""
        x, y, step = batch
        classes, pointed = self.hear(self.say(x, generator(step))[0])
        match = pointed @ self.look(x).T / 8
        return F.cross_entropy(classes, y) + F.cross_entropy(match, torch.arange(len(x)))


@torch.no_grad()
def arrived(talk: Talk, x: Tensor, y: Tensor, candidates: int) -> dict[str, Any]:
    """What a trained pair brings across: class right or wrong, bits of identity, entropy of the tokens used."""
    message, token = talk.say(x)
    classes, pointed = talk.hear(message)
    seen = talk.look(x)
    nats = [
        F.cross_entropy(p @ s.T / 8, torch.arange(len(p)), reduction="sum")
        for p, s in zip(pointed.split(candidates), seen.split(candidates), strict=True)
        if len(p) == candidates
    ]
    right = classes.argmax(-1) == y
    row = {
        "accuracy": float(right.float().mean()),
        "bits": math.log2(candidates)
        - float(torch.stack(nats).sum()) / (len(nats) * candidates) / math.log(2),
        "correct": "".join("01"[int(r)] for r in right),
    }
    if token is not None:
        share = token.unique(dim=0, return_counts=True)[1].double() / len(token)
        row["used"] = float(-(share * share.log2()).sum())
    return row


def sets(config: Config) -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Name -> training images and labels, held-out images and labels; images flat, from 0 to 1, 14 x 14 at most."""
    made: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    parts: dict[str, Any] = {}
    if config.digits:
        parts["digits"] = images.digits()
    if config.fashion:
        parts["fashion"] = images.fashion_mnist(None if config.fashion == "debian" else config.fashion)
    for name, (train, test) in parts.items():
        flat = []
        for part in (train, test):
            x = part.scaled()
            flat.append((F.avg_pool2d(x, 2) if x.shape[-1] > 14 else x).flatten(1))
        count = len(test) // config.candidates * config.candidates
        made[name] = flat[0], train.labels, flat[1][: min(count, 2048)], test.labels[: min(count, 2048)]
    return made


def pairs(config: Config) -> list[dict[str, Any]]:
    """Kind, |V| and m of every pair of sender and receiver; vectors have no vocabulary."""
    made = [{"kind": "latents", "vocabulary": 0, "m": m} for m in config.messages]
    return made + [
        {"kind": "tokens", "vocabulary": v, "m": m} for v in config.vocabularies for m in config.messages
    ]


def study(config: Config, run: Run) -> list[Claim]:
    """Train every pair and the thinker, measure, judge."""
    for name, (x, y, held_x, held_y) in sets(config).items():
        for pair in pairs(config):
            for seed in range(config.seed, config.seed + config.seeds):
                labels = {"set": name, **pair, "seed": seed}
                if latent.rows(run, "bits", **labels):
                    continue
                run.status(phase=", ".join(map(str, labels.values())), step=0, steps=config.steps)
                talk = Talk(
                    x.shape[1], int(y.max()) + 1, kind=pair["kind"], m=pair["m"], vocabulary=pair["vocabulary"] or 2, width=config.vector, seed=seed,
                )  # fmt: skip

                def batches(step: int, x: Tensor = x, y: Tensor = y, seed: int = seed) -> Any:
                    drawn = torch.randint(
                        len(x), (config.batch,), generator=generator(seed * 1_000_003 + step)
                    )
                    return x[drawn], y[drawn], seed * 1_000_003 + step

                fit(
                    talk, batches, lambda model, batch: model.loss(batch), torch.optim.AdamW(talk.parameters(), lr=config.lr, weight_decay=0.05),
                    steps=config.steps, clip=1.0, checkpoint=run.checkpoints / "-".join(map(str, labels.values())), keep=1, progress=run.progress,
                )  # fmt: skip
                run.log(step=config.steps, **labels, **arrived(talk, held_x, held_y, config.candidates))
                run.commit()
    if config.ops:
        _thoughts(config, run)
    return claims(config, run)


def _thoughts(config: Config, run: Run) -> None:
    """Train Coconut on arithmetic and probe its thoughts, beside a network that was not trained."""
    held_out = latent.chain(config.probed, seed=config.seed + 10**6, ops=(config.ops, config.ops), modulus=10)
    asked = {problem.question for problem in held_out}
    train = [
        p
        for p in latent.chain(config.problems, seed=config.seed, ops=(1, config.ops), modulus=10)
        if p.question not in asked
    ]
    words = Words.of(train)
    epochs = config.stage * (config.ops + 2)
    arms = [Arm("untrained", "coconut", {"stages": config.ops}), Arm("coconut", "coconut", {"stages": config.ops}, first=config.stage, per_stage=config.stage, epochs=epochs)]  # fmt: skip

    for seed in range(config.seed, config.seed + config.seeds):
        for arm in arms:

            def thinker(arm: Arm = arm, seed: int = seed) -> Thinker:
                made, tokenizer = latent.model(config.shape, words, seed=seed)
                return Thinker(made, tokenizer, arm.method, **arm.options)

            def look(made: Thinker) -> list[dict[str, Any]]:
                return probe(made, held_out, config.ops)

            if arm.name == "untrained":
                if not latent.rows(run, "decodable", arm=arm.name, seed=seed):
                    for row in look(thinker()):
                        run.log(step=0, arm=arm.name, seed=seed, **row)
                    run.commit()
                continue
            latent.learn(
                run, arm, seed, thinker, train, held_out, lr=1e-3, batch=64, max_new_tokens=8 * config.ops + 8, look=look,
            )  # fmt: skip


def probe(thinker: Thinker, problems: list[Problem], ops: int) -> list[dict[str, Any]]:
    """Decodable bits of the k-th value in the k-th thought, and, as control, of the other problems' values."""
    path = thinker.rollout([problem.question for problem in problems], ops)
    made = path["thought"][:ops].detach()
    rows: list[dict[str, Any]] = []
    for k in range(ops):
        value = torch.tensor([int(problem.steps[k].split("=")[1]) for problem in problems])
        read, wrong = bits(made[k], value, ridge=10.0), bits(made[k], value.roll(1), ridge=10.0)
        rows.append({
            "thought": k + 1, "decodable": float(read["decodable"][0]), "probe": float(read["accuracy"][0]), "entropy": float(read["label_entropy"]),
            "raw": int(read["raw"]), "shifted": float(wrong["decodable"][0]),
        })  # fmt: skip
    return rows


def mean(run: Run, field: str, **labels: Any) -> tuple[float, float | None]:
    """Of a field over seeds."""
    return latent.summarize([float(row[field]) for row in latent.rows(run, field, **labels)])


def claims(config: Config, run: Run) -> list[Claim]:
    """Judge what the run holds."""
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware}
    made: list[Claim] = []
    for name in dict.fromkeys(row["set"] for row in latent.rows(run, "bits")):
        said = [row for row in latent.rows(run, "bits", set=name) if row["kind"] == "tokens"]
        within = [
            row["bits"] <= min(row["m"] * math.log2(row["vocabulary"]), row["used"] + 1e-6) for row in said
        ]
        made.append(Claim(
            f"{name}-limit", f"{name}: decodable bits of m tokens stay below m log2 |V| and below the entropy of the tokens used (share of runs)",
            paper=1.0, ours=sum(within) / len(within), seeds=config.seeds, status="reproduced" if all(within) else "not reproduced",
            note="what a bound must do: were it broken, the measure would be wrong", source="latent fact sheet, (e)", **common,
        ))  # fmt: skip
        for vocabulary in config.vocabularies:
            for m in config.messages:
                made.append(_compared(config, run, name, vocabulary, m, common))
        m = config.messages[0]
        carried, spread = mean(run, "bits", set=name, kind="latents", m=m)
        raw = 16 * config.vector * m
        made.append(Claim(
            f"{name}-raw", f"{name}: decodable share of the raw bits of {m} vector{'s' if m > 1 else ''} of {config.vector} numbers", ours=carried / raw,
            seeds=config.seeds, status="reproduced" if carried < 0.1 * raw else "not reproduced",
            note=f"{carried:.2f} (+- {spread or 0:.2f}) of {raw} bits in bf16; holds where usable bits are far fewer than raw, below a tenth; "
            f"the measure ends at log2 {config.candidates} = {math.log2(config.candidates):.0f} bits", source="latent fact sheet, (e)", **common,
        ))  # fmt: skip
    for k in range(1, config.ops + 1 if latent.rows(run, "decodable", arm="coconut") else 1):
        read, spread = mean(run, "decodable", arm="coconut", thought=k)
        before, _ = mean(run, "decodable", arm="untrained", thought=k)
        shifted, _ = mean(run, "shifted", arm="coconut", thought=k)
        share, _ = mean(run, "probe", arm="coconut", thought=k)
        [row, *_] = latent.rows(run, "decodable", arm="coconut", thought=k)
        better = all(
            a["decodable"] > b["decodable"] + 0.1
            for a, b in zip(latent.rows(run, "decodable", arm="coconut", thought=k), latent.rows(run, "decodable", arm="untrained", thought=k), strict=True)
        )  # fmt: skip
        answered = latent.accuracies(run, "coconut")
        made.append(Claim(
            f"thought-{k}", f"a probe reads the value of step {k} from thought {k} (bits decodable)", ours=read, spread=spread, seeds=config.seeds, unit="bits",
            status="reproduced" if better else "not reproduced",
            note=f"of {row['entropy']:.2f} bits the value has, {row['raw']} it takes to store the thought, {math.log2(10):.2f} a digit can say; probe right {share:.3f}; "
            f"untrained network {before:.2f}, another problem's value {shifted:.2f}; answers right: {latent.listed(answered)}; holds where it is 0.1 bit above "
            "the untrained network on every seed", source="latent fact sheet, (e)", **common,
        ))  # fmt: skip
    return made


def _compared(config: Config, run: Run, name: str, vocabulary: int, m: int, common: dict[str, Any]) -> Claim:
    """Vectors beside as many tokens: class right or wrong on the same images, and bits."""
    one, two = ({row["seed"]: row for row in latent.rows(run, "bits", set=name, m=m, kind=kind, vocabulary=v)} for kind, v in (("latents", 0), ("tokens", vocabulary)))  # fmt: skip
    p = [
        mcnemar([c == "1" for c in one[s]["correct"]], [c == "1" for c in two[s]["correct"]])
        for s in sorted(one)
    ]
    gain = [one[s]["bits"] - two[s]["bits"] for s in sorted(one)]
    a, b = ([rows[s]["accuracy"] for s in sorted(rows)] for rows in (one, two))
    more = all(g > 0 for g in gain)
    ahead = all(value < latent.ALPHA for value in p) and all(x > y for x, y in zip(a, b, strict=True))
    used = latent.summarize([row["used"] for row in two.values()])[0]
    can, end = m * math.log2(vocabulary), math.log2(config.candidates)
    average, spread = latent.summarize(gain)
    mine, theirs = (latent.summarize([rows[s]["bits"] for s in sorted(rows)])[0] for rows in (one, two))
    return Claim(
        f"{name}-{vocabulary}-{m}", f"{name}: {m} vector{'s bring' if m > 1 else ' brings'} more than {m} token{'s' if m > 1 else ''} of {vocabulary} (bits decodable, difference)",
        ours=average, spread=spread, seeds=len(p), unit="bits", status="reproduced" if more and ahead and can < end else "direction only" if more else "not reproduced",
        note=f"{mine:.2f} against {theirs:.2f} bits (tokens can say {can:.0f} and said {used:.2f}, the measure ends at {end:.0f}); class right: "
        f"{latent.summarize(a)[0]:.3f} against {latent.summarize(b)[0]:.3f}, {latent.p_values(p)}; reproduced: more bits, and more classes right with p < .01, on every seed; "
        "direction only: more bits alone, or tokens that could have said it all" + ("" if can < end else ": what is missing was lost in training through them"), source="2604.02029, section 2.2: no number", **common,
    )  # fmt: skip


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy and bits against m; bits of thoughts."""
    from matplotlib.figure import Figure

    config = run.config_as(Config)
    made: dict[str, tuple[Any, str]] = {}
    for name in dict.fromkeys(row["set"] for row in latent.rows(run, "bits")):
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        left, right = map(axes, figure.subplots(1, 2))
        lines = [("vectors", "latents", 0, latent.ORANGE, "-")]
        lines += [
            (f"tokens of {v}", "tokens", v, latent.BLUE, style)
            for v, style in zip(config.vocabularies, ("-", "--", ":"), strict=False)
        ]
        for ax, number in ((left, "accuracy"), (right, "bits")):
            for label, kind, v, color, style in lines:
                middle = [mean(run, number, set=name, kind=kind, vocabulary=v, m=m) for m in config.messages]
                ax.errorbar(config.messages, [a for a, _ in middle], [s or 0 for _, s in middle], color=color, ls=style, marker="o", ms=4, lw=1.4, capsize=2, label=label)  # fmt: skip
            ax.set(xlabel="m", xticks=config.messages)
        for v, style in zip(config.vocabularies, ("-", "--", ":"), strict=False):
            top = math.log2(config.candidates)
            right.plot(
                config.messages,
                [min(top, m * math.log2(v)) for m in config.messages],
                color="#8a8f98",
                ls=style,
                lw=0.9,
            )
        left.set(ylabel="class right, share")
        right.set(ylabel="decodable bits", ylim=(0, None))
        left.legend(frameon=False, fontsize=8)
        made[name] = (figure, f"{name}: m vectors or m tokens to the same receiver, mean and standard deviation over {config.seeds} seeds. Left: class named. "
                      f"Right: bits of identity among {config.candidates} held-out images; grey: what so many tokens can say, or the measure's end.")  # fmt: skip
    if latent.rows(run, "decodable"):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        ax = axes(figure.add_subplot())
        steps = range(1, config.ops + 1)
        shown = (("thought of the step", "coconut", "decodable", latent.ORANGE), ("before training", "untrained", "decodable", latent.BLUE), ("another problem's value", "coconut", "shifted", "#8a8f98"))  # fmt: skip
        for j, (label, arm, field, color) in enumerate(shown):
            ax.bar([k + 0.26 * (j - 1) for k in steps], [mean(run, field, arm=arm, thought=k)[0] for k in steps], 0.24, color=color, label=label)  # fmt: skip
        ax.axhline(math.log2(10), color="#1c1e21", lw=0.8, ls=":")
        ax.set(xticks=list(steps), xlabel="thought", ylabel="decodable bits of its step's value")
        ax.legend(frameon=False, fontsize=8)
        made["thoughts"] = (figure, f"Bits a linear probe decodes from each thought. Dotted: a digit has log2 10 = {math.log2(10):.2f}; a thought takes {16 * config.shape.width} bits to store.")  # fmt: skip
    return made
