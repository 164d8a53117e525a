"""Learning from rewards: GRPO for methods that think in vectors (HRPO 2505.18454, CoLaR 2505.16552).

For each question a group of replies is drawn, each is scored, and a reply counts by how much better it is than its
group. What is reinforced is every choice that was drawn: the tokens said and, where a method draws its thoughts (`hrpo`:
a token each; `colar`: a point of its Gaussian), the thoughts.
"""

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone, Stream, read
from unrolled.latent.evaluate import answered
from unrolled.latent.protocol import Reply, Thinking, check_finite, exact, fits, follow, speak
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example, pad_right
from unrolled.latent.thinker import Thinker
from unrolled.training import Fit, fit

Reward = Callable[[Problem, Reply], float]
"""What a reply to a problem is worth."""


@runtime_checkable
class Draws(Protocol):
    """What a method whose thoughts are drawn has besides `Method`."""

    def draw(self, backbone: Backbone, hidden: Tensor, step: int, rng: torch.Generator | None) -> Tensor:
        """A choice for every row, `[B]` or `[B, d]`, from last hidden states `[B, d]`."""
        ...

    def replay(self, backbone: Backbone, hidden: Tensor, step: int, choice: Tensor) -> tuple[Tensor, Tensor]:
        """The thought `[B, d]` that a choice makes, and the log-probability (or density) `[B]` of that choice."""
        ...


@dataclass(frozen=True)
class Sample:
    """Replies that were drawn, with every choice that led to them.

    Attributes:
        questions: token ids, a row a reply.
        choices: of thoughts, one tensor a step; empty where a method draws none.
        thoughts: how many, of every row.
        front: token ids read after the thoughts and before speaking.
        said: tokens of each reply, the end of the text included where it was said.
        rewards: `[B]`.
        replies: as text.
    """

    questions: tuple[tuple[int, ...], ...]
    choices: tuple[Tensor, ...]
    thoughts: int
    front: tuple[int, ...]
    said: tuple[tuple[int, ...], ...]
    rewards: Tensor
    replies: tuple[Reply, ...]


def advantages(rewards: Tensor, group: int, *, scale: bool = True) -> Tensor:
    """A_i = (r_i - mean) / std of the reply's own group (GRPO 2402.03300, section 4.1); 0 where all are worth the same.

    Args:
        rewards: `[questions * group]`, a question's replies side by side.
        group: replies a question.
        scale: False leaves the division out.

    Example:
        >>> advantages(torch.tensor([1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]), 4).tolist()
        [1.5, -0.5, -0.5, -0.5, 0.0, 0.0, 0.0, 0.0]
    """
    if group < 2 or rewards.numel() % group:
        raise ValueError(
            f"a group has at least 2 replies and divides their number; got {group} and {rewards.numel()}"
        )
    rows = rewards.reshape(-1, group)
    centred = rows - rows.mean(1, keepdim=True)
    if scale:
        spread = rows.std(1, keepdim=True)
        centred = torch.where(spread > 1e-8, centred / spread.clamp(min=1e-8), torch.zeros_like(centred))
    return centred.flatten()


def surrogate(
    now: Tensor, then: Tensor, advantage: Tensor, taken: Tensor, clip: float, reference: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:  # fmt: skip
    """Loss of each row: minus the mean over its choices of min(rho A, clip(rho) A) - beta KL (GRPO, eq. 3 and 4).

    rho = exp(now - then), and KL = exp(q) - q - 1 with q = reference - now, which is unbiased and never negative.

    Args:
        now: log-probabilities under the present weights, `[B, N]`.
        then: under those that drew the choices.
        advantage: `[B]`.
        taken: `[B, N]` bool, which choices there are.
        clip: rho is held to 1 - clip .. 1 + clip where that lowers the objective.
        reference: log-probabilities under the reference.
        beta: weight of KL.

    Example:
        >>> p, there = torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2, dtype=torch.bool)
        >>> float(surrogate(p, p, torch.tensor([2.0]), there, 0.2))  # rho is 1
        -2.0
        >>> q = (p.exp() / 2).log()  # a ratio of 2 is clipped at 1.2
        >>> round(float(surrogate(p, q, torch.tensor([1.0]), there, 0.2)), 6)
        -1.2
    """
    rho = (now - then).exp()
    gain = torch.minimum(rho * advantage[:, None], rho.clamp(1 - clip, 1 + clip) * advantage[:, None])
    if reference is not None and beta:
        gap = reference - now
        gain = gain - beta * (gap.exp() - gap - 1)
    return -(gain * taken).sum(1) / taken.sum(1).clamp(min=1)


@torch.no_grad()
def sample(
    thinker: Thinker,
    problems: Sequence[Problem],
    reward: Reward,
    *,
    thoughts: int,
    temperature: float = 1.0,
    max_new_tokens: int = 16,
    rng: torch.Generator | None = None,
) -> Sample:
    """Draw one reply to each problem (repeat a problem for a group), and score it."""
    backbone, text, method = thinker.backbone, thinker.text, thinker.method
    rows = [text.question(problem.question, markers=method.markers) for problem in problems]
    fits(backbone, [Example(q, thoughts, (0,) * max_new_tokens, (0,) * max_new_tokens) for q in rows])
    front = (text.end,) if method.markers and text.end >= 0 else ()
    stream = method.ask(backbone, rows, text.pad, thinker.device)
    choices: list[Tensor] = []
    hidden, stream, _ = _think(thinker, stream, thoughts, front, None, choices, rng)

    def pick(logits: Tensor) -> Tensor:
        p = (exact(logits) / temperature).softmax(-1)
        return torch.multinomial(p, 1, generator=rng).squeeze(-1)

    said = speak(backbone, stream, hidden, pick, eos=text.eos, max_new_tokens=max_new_tokens)
    replies = tuple(Reply(text.decode(tokens), tuple(tokens), thoughts, why) for tokens, why in said)
    worth = [float(reward(problem, reply)) for problem, reply in zip(problems, replies, strict=True)]
    return Sample(
        tuple(rows),
        tuple(choices),
        thoughts,
        front,
        tuple((*tokens, text.eos) if why == "eos" else tuple(tokens) for tokens, why in said),
        torch.tensor(worth, device=thinker.device),
        replies,
    )


def likelihood(thinker: Thinker, made: Sample, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of every choice of a sample, thoughts first, and which there are; `[B, N]` both.

    The same choices are made again with the present weights, so gradients reach the thoughts and what makes them.
    """
    backbone, text = thinker.backbone, thinker.text
    stream = thinker.method.ask(backbone, made.questions, text.pad, thinker.device)
    hidden, stream, chosen = _think(thinker, stream, made.thoughts, made.front, made.choices, [], None)
    tokens, valid = pad_right(made.said, text.pad, thinker.device)
    if valid is None:
        valid = torch.ones_like(tokens, dtype=torch.bool)
    states = hidden[:, None]
    if tokens.shape[1] > 1:
        after, _ = read(backbone, stream, backbone.embed(tokens[:, :-1]), valid[:, :-1])
        states = torch.cat([states, after], 1)
    spoken = torch.zeros(tokens.shape, dtype=exact(hidden).dtype, device=hidden.device)
    spoken[valid] = _log_p(backbone.head(states[valid]), tokens[valid], temperature)
    if not chosen:
        return spoken, valid
    thought = torch.stack(chosen, 1)
    return torch.cat([thought, spoken], 1), torch.cat([torch.ones_like(thought, dtype=torch.bool), valid], 1)


def _log_p(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    return -F.cross_entropy(exact(logits) / temperature, tokens, reduction="none")


def _think(
    thinker: Thinker,
    stream: Stream,
    thoughts: int,
    front: Sequence[int],
    choices: Sequence[Tensor] | None,
    drawn: list[Tensor],
    rng: torch.Generator | None,
) -> tuple[Tensor, Stream, list[Tensor]]:
    """Think, with choices drawn into `drawn` or made again; the state to speak from, and the choices' log-probabilities."""
    method, backbone, chosen = thinker.method, thinker.backbone, list[Tensor]()
    counts = torch.full((stream.batch,), thoughts, device=thinker.device)
    if not isinstance(method, Draws):
        thinking = method.think(backbone, stream, counts)
    else:
        made: list[Tensor] = []
        for step in range(thoughts):
            if made:
                _, stream = read(backbone, stream, made[-1][:, None])
            if choices is None:
                drawn.append(method.draw(backbone, stream.hidden, step, rng))
            z, log_p = method.replay(
                backbone, stream.hidden, step, drawn[step] if choices is None else choices[step]
            )
            made.append(z)
            chosen.append(log_p)
        check_finite(made, counts)
        waiting = torch.ones_like(counts, dtype=torch.bool) if made else None
        thinking = Thinking(stream, made[-1] if made else None, waiting, made, counts)
    embeds = backbone.embed(
        torch.tensor([list(front)] * stream.batch, dtype=torch.long, device=thinker.device)
    )
    if thinking.waiting is None and not front:
        return thinking.stream.hidden, thinking.stream, chosen
    hidden, stream = follow(backbone, thinking, embeds, None)
    return hidden[:, -1], stream, chosen


def grpo(
    thinker: Thinker,
    problems: Sequence[Problem],
    *,
    steps: int,
    reward: Reward | None = None,
    thoughts: int | None = None,
    questions: int = 4,
    group: int = 8,
    updates: int = 1,
    clip: float = 0.2,
    beta: float = 0.005,
    temperature: float = 1.0,
    max_new_tokens: int = 16,
    scale: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    clip_norm: float | None = 1.0,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[..., None] | None = None,
) -> Fit:
    """Group-relative policy optimisation of a thinker (GRPO 2402.03300; HRPO 2505.18454; CoLaR 2505.16552, second stage).

    The papers' settings: HRPO group 4 to 8, lr 5e-6 (gates 1e-4, Lambda 1e-3), beta 0.005, clip 0.1, temperature 0.5,
    AdamW (0.9, 0.99) with weight decay 0.1; CoLaR group 8, lr 1e-6, clip 0.2. Dropout is off while replies are drawn and
    while they are made again.

    Args:
        thinker: changed in place; words should have taught it the form of an answer before, or all rewards are 0.
        problems: drawn from with replacement.
        steps: updates in all.
        reward: of a reply; 1 if it is right, token for token, and 0 otherwise, if not given.
        thoughts: how many; what the method ends its training with if not given.
        questions: a step.
        group: replies a question.
        updates: made with one sample before a new one is drawn.
        clip: of the ratio.
        beta: weight of the KL to the thinker as it was at the start; 0 keeps no copy of it.
        temperature: of the policy: what is drawn, and what is reinforced.
        max_new_tokens: of a reply.
        scale: whether advantages are divided by their group's spread.
        optimizer: AdamW of all parameters, lr 5e-6, betas (0.9, 0.99), weight decay 0.1, if not given.
        clip_norm: largest gradient norm.
        seed: of problems and draws.
        checkpoint: a folder; an interrupted run goes on from it bit for bit, with the reference it began with.
        checkpoint_every: updates between checkpoints, a multiple of `updates`.
        resume: False refuses a folder that is not empty.
        progress: callback(step, steps).
        log: `log(step=, reward=, kl=, said=, loss=, ...)` after each update; `reward` is the sample's mean.

    Returns:
        `training.Fit`; its history's `loss` is the surrogate's mean over replies.

    Raises:
        ValueError: no problems, no tokenizer, or sizes that make no sense.
    """
    if thinker.tokenizer is None or not problems:
        raise ValueError(f"grpo needs problems ({len(problems)} given) and a thinker with a tokenizer")
    if (
        min(steps, questions, updates, max_new_tokens) < 1
        or group < 2
        or temperature <= 0
        or clip <= 0
        or beta < 0
    ):
        raise ValueError(
            f"grpo: steps {steps}, questions {questions}, updates {updates}, max_new_tokens {max_new_tokens} >= 1, group {group} >= 2, "
            f"temperature {temperature} > 0, clip {clip} > 0, beta {beta} >= 0"
        )  # fmt: skip
    every = checkpoint_every or max(1, steps // 10 // updates) * updates
    if every % updates:
        raise ValueError(
            f"checkpoint_every {every} is no multiple of updates {updates}: a sample would be lost in between"
        )
    count = thinker.counts(thoughts, 1)[0]
    worth = reward or (lambda problem, reply: float(answered(thinker.text, problem, reply)))
    reference = _reference(thinker, checkpoint) if beta else None
    optimizer = optimizer or torch.optim.AdamW(
        [p for p in thinker.parameters() if p.requires_grad], lr=5e-6, betas=(0.9, 0.99), weight_decay=0.1
    )
    held: dict[str, Any] = {}

    def loss(model: Thinker, step: int) -> tuple[Tensor, Tensor]:
        start = step - step % updates
        training = model.training
        model.eval()
        try:
            if held.get("start") != start:
                rng = torch.Generator(device=model.device).manual_seed(seed * 1_000_003 + start)
                drawn = torch.randint(len(problems), (questions,), generator=rng, device=model.device)
                asked = [problems[k] for k in drawn.tolist() for _ in range(group)]
                made = sample(
                    model, asked, worth, thoughts=count, temperature=temperature, max_new_tokens=max_new_tokens, rng=rng
                )  # fmt: skip
                with torch.no_grad():
                    old = likelihood(model, made, temperature)[0]
                    far = None if reference is None else likelihood(reference, made, temperature)[0]
                held.update(start=start, made=made, old=old, far=far)
            made, old, far = cast(Sample, held["made"]), held["old"], held["far"]
            now, taken = likelihood(model, made, temperature)
        finally:
            model.train(training)
        rows = surrogate(
            now, old, advantages(made.rewards, group, scale=scale).to(now), taken, clip, far, beta
        )
        with torch.no_grad():
            gap = torch.zeros_like(now) if far is None else far - now
            held["kl"] = float(((gap.exp() - gap - 1) * taken).sum() / taken.sum())
        return rows.sum(), torch.tensor(len(rows), device=model.device)

    def tell(*, step: int, **numbers: Any) -> None:
        made = cast(Sample, held["made"])
        assert log is not None
        said = sum(map(len, made.said)) / len(made.said)
        log(step=step, reward=float(made.rewards.mean()), kl=held["kl"], said=said, **numbers)

    return fit(
        thinker,
        lambda step: step,
        loss,
        optimizer,
        steps=steps,
        clip=clip_norm,
        checkpoint=checkpoint,
        checkpoint_every=every,
        resume=resume,
        progress=progress,
        log=None if log is None else tell,
    )


def _reference(thinker: Thinker, checkpoint: str | os.PathLike[str] | None) -> Thinker:
    """A frozen copy; the one the run began with, if a checkpoint folder holds it."""
    made = copy.deepcopy(thinker).eval().requires_grad_(False)
    if checkpoint is None:
        return made
    file = Path(checkpoint) / "reference.safetensors"
    if file.exists():
        made.load_state_dict({**made.state_dict(), **load_file(file, device=str(thinker.device))})
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.clone().contiguous() for name, value in made.state_dict().items()}, file)
    return made
