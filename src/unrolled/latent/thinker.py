"""A language model that thinks in vectors: train it so, run it so, look at every thought."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unrolled.core import Trajectory, rollout
from unrolled.core.seeds import generator
from unrolled.latent import lora as adapters
from unrolled.latent import methods
from unrolled.latent.backbone import Backbone, HuggingFace, Stream, adapt, read
from unrolled.latent.protocol import Method, Reply, exact, fits, follow, speak
from unrolled.latent.tasks.problem import Problem
from unrolled.latent.text import Example, Text, Words, pad_left, pad_right


class Thinker(nn.Module):
    """Any causal language model, and a way to reason in its latent space.

    Args:
        model: a causal language model of transformers (GPT-2, Llama, Qwen shapes), or one with `embed`, `head` and
            `new_cache` such as `looped.LT2`.
        tokenizer: Hugging Face's, `Words`, or anything with `encode`, `decode` and `eos_token_id`. Without one,
            batches are `Example`s of token ids.
        method: the name of a method, a `Method` class, or one that is made already.
        **cfg: the method's own options.

    Raises:
        TypeError: the model cannot be fed vectors.
        ValueError: there is no such method, or the tokenizer lacks its marker tokens.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from unrolled.latent import tasks
        >>> problems = tasks.arithmetic(8, seed=0)
        >>> words = Words.of(problems)
        >>> size = dict(n_layer=2, n_head=2, n_embd=32, vocab_size=len(words), bos_token_id=0, eos_token_id=1)
        >>> thinker = Thinker(GPT2LMHeadModel(GPT2Config(**size)), words, "coconut", c=1, stages=2)
        >>> summed, count = thinker.loss(problems, stage=1)
        >>> summed.backward()
        >>> thinker.rollout(problems[0].question, thoughts=3)["thought"].shape
        torch.Size([4, 1, 32])
    """

    def __init__(
        self, model: Any, tokenizer: Any = None, method: str | type[Method] | Method = "coconut", **cfg: Any
    ):
        super().__init__()
        self.backbone: Backbone = adapt(model)
        self.model = model
        if isinstance(method, str):
            method = methods.load(method)
        if isinstance(method, type):
            method = method(self.backbone, **cfg)
        elif cfg:
            raise TypeError(f"the method is made already, so it takes no options; got {', '.join(cfg)}")
        self.method, self.options = method, cfg
        self.tokenizer = tokenizer
        self.text = (
            Text(tokenizer, markers=method.markers) if tokenizer is not None else Text(_Ids(), markers=False)
        )

    # --- training -----------------------------------------------------------------------------------------------

    def encode(
        self, problem: Problem | Example, stage: int | None = None, rng: torch.Generator | None = None
    ) -> Example:
        """A problem as a row of a batch, at a stage of the method's curriculum (None: after the last)."""
        if isinstance(problem, Example):
            return problem
        if self.tokenizer is None:
            raise ValueError(
                "a Thinker without a tokenizer takes Examples of token ids; pass a tokenizer to use problems as text"
            )
        if self.method.needs_steps and not problem.steps:
            raise ValueError(
                f"the problem {problem.question[:40]!r} has no steps, from which {self.method.name} is trained: mend or drop that line of the "
                "data, or use a method that needs none (no_cot, hrpo)"
            )
        return self.method.example(self.text, problem, stage, rng)

    def loss(
        self, batch: Sequence[Problem | Example], stage: int | None = None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss over supervised tokens and their number, as `training.fit` takes it.

        Args:
            batch: problems, or rows made by `encode`.
            stage: of the curriculum; None is the end of it.
            rng: for methods that draw.

        Raises:
            ValueError: an empty batch, or a row longer than the context.
            Thoughtless: a thought that is not finite; its step is named.
        """
        rows = [self.encode(problem, stage, rng) for problem in batch]
        fits(self.backbone, rows)
        return self.method.loss(
            self.backbone, rows, [row for row in batch if isinstance(row, Problem)], self.text
        )

    # --- inference ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Sequence[int]],
        thoughts: int | Sequence[int] | None = None,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | torch.Generator | None = None,
        edit: Any = None,
        then: str | Sequence[int] = (),
    ) -> list[Reply]:
        """Think, then speak: batched, cached, the same for a prompt whatever it shares its batch with.

        Args:
            prompts: questions as text, or as token ids up to where thinking begins.
            thoughts: how many, for all or for each; None for what the method ends its training with.
            max_new_tokens: tokens to say at most.
            temperature: 0 for the likeliest token.
            top_p: smallest set of tokens with that much probability.
            seed: for sampling.
            edit: changes thoughts before they are read: `edit(thought, step) -> thought`, both `[B, d]`. For controls.
            then: words, or token ids, that are read after the thoughts and before speaking, such as "The answer is".

        Raises:
            ValueError: no prompts, thoughts that do not fit the context, or an edit of thoughts that do not follow one from
                the other.
        """
        single = isinstance(prompts, str)
        asked: Sequence[Any] = [prompts] if single else prompts
        if not len(asked):
            raise ValueError("no prompts")
        if edit is not None:
            self._one_by_one("be edited one by one")
        rows = [self._question(prompt) for prompt in asked]
        counts = self.counts(thoughts, len(rows))
        front = (self.text.end,) if self.method.markers and self.text.end >= 0 else ()
        if isinstance(then, str) and then and self.tokenizer is None:
            raise ValueError("a Thinker without a tokenizer takes `then` as token ids")
        words = self.text.encode(then) if isinstance(then, str) else list(then)
        after = (0,) * (max_new_tokens + len(words))
        fits(
            self.backbone,
            [Example(q, k, after, after) for q, k in zip(rows, counts, strict=True)],
        )
        stream = self.method.ask(self.backbone, rows, self.text.pad, self.device)
        editor = _Edited(self.method, edit) if edit is not None else self.method
        thinking = editor.think(self.backbone, stream, torch.tensor(counts, device=self.device))
        fronts = [(*front, *prompt, *words) for prompt in thinking.prompts or [()] * len(rows)]
        if any(fronts):
            tokens, there = pad_right(fronts, self.text.pad, self.device)
            _, stream = follow(self.backbone, thinking, self.backbone.embed(tokens), there)
            hidden = stream.hidden[:, None]
        else:
            hidden, stream = _settle(self.backbone, thinking)
        sample = _sampler(temperature, top_p, generator(seed, self.device))
        said = speak(
            self.backbone,
            stream,
            hidden[:, -1],
            sample,
            eos=self.text.eos,
            max_new_tokens=max_new_tokens,
            limits=thinking.limits,
        )
        return [
            Reply(self.text.decode(tokens) if self.tokenizer is not None else "", tuple(tokens), thought, why)
            for (tokens, why), thought in zip(said, thinking.counts.tolist(), strict=True)
        ]

    def rollout(
        self, question: str | Sequence[str] | Sequence[Sequence[int]], thoughts: int, **options: Any
    ) -> Trajectory:
        """The thoughts as a trajectory: one step, one thought. `options` go to `core.rollout`.

        At time t, `hidden` is the last hidden state after t thoughts, and `thought` the one made from it, `[B, d]` both.
        """
        asked = [question] if isinstance(question, str) else question
        rows = tuple(self._question(prompt) for prompt in asked)
        record = options.pop("record", ["thought", "hidden"])
        return rollout(self.system(room=max(1, thoughts)), rows, thoughts, record=record, **options)

    def system(self, room: int = 32) -> "Thoughts":
        """This thinker as a core `System`, with room for so many thoughts.

        Raises:
            ValueError: its thoughts do not follow one from the other.
        """
        self._one_by_one("be the steps of a System")
        return Thoughts(self, room)

    # --- files --------------------------------------------------------------------------------------------------

    def save_pretrained(self, path: str | Path) -> None:
        """Write model, tokenizer and method to a folder."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if adapters.adapted(self.model):
            adapters.save(self.model, folder)
        else:
            self.model.save_pretrained(folder / "model")
        if isinstance(self.tokenizer, Words):
            self.tokenizer.save(folder / "words.json")
        elif self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder / "tokenizer")
        dropped = self.method.training_only
        state = self.method.state_dict()
        own = {name: value.contiguous() for name, value in state.items() if name.split(".")[0] not in dropped}
        if own:
            save_file(own, folder / "method.safetensors")
        plain = {name: value for name, value in self.options.items() if _plain(value)}
        kept = {
            "method": self.method.name,
            "options": plain,
            "needs": sorted(self.options.keys() - plain.keys()),
            "own_model": not isinstance(self.backbone, HuggingFace),
        }
        (folder / "thinker.json").write_text(json.dumps(kept), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, model: Any = None, tokenizer: Any = None, method: Any = None, **given: Any
    ) -> "Thinker":
        """Read what `save_pretrained` wrote.

        Args:
            path: the folder.
            model: for models that transformers does not know; read from the folder otherwise.
            tokenizer: read from the folder if not given.
            method: for a method of one's own; the one of that name otherwise.
            **given: options that cannot be written to a file, such as the other model of `cache_to_cache`.

        Raises:
            FileNotFoundError: the folder holds no thinker.
            ValueError: a model or an option that was not saved is not given either.
        """
        folder = Path(path)
        if not (folder / "thinker.json").exists():
            raise FileNotFoundError(
                f"{folder} holds no thinker.json: it was not written by Thinker.save_pretrained"
            )
        kept = json.loads((folder / "thinker.json").read_text(encoding="utf-8"))
        missing = [name for name in kept.get("needs", ()) if name not in given]
        if missing:
            raise ValueError(f"{folder} was saved without {', '.join(missing)}: pass {missing[0]}=... again")
        if model is None and kept["own_model"]:
            raise ValueError(
                f"{folder / 'model'} holds a model that transformers does not know: read it yourself and pass it, model=..."
            )
        if model is None:
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained(folder / "model", local_files_only=True)
        if (folder / "adapter").exists() and not adapters.adapted(model):
            model = adapters.load(model, folder)
        if tokenizer is None and (folder / "words.json").exists():
            tokenizer = Words.load(folder / "words.json")
        elif tokenizer is None and (folder / "tokenizer").exists():
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        made = cls(model, tokenizer, method or kept["method"], **kept["options"], **given)
        if (folder / "method.safetensors").exists():
            made.method.load_state_dict(
                load_file(folder / "method.safetensors"), strict=not made.method.training_only
            )
        return made

    # --- helpers ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.weights()[0].device

    def _one_by_one(self, what: str) -> None:
        if not self.method.sequential:
            raise ValueError(
                f"a thought of {self.method.name} does not follow from the hidden state before it alone, so its thoughts cannot {what}; "
                "what method.think returns has them in `made`"
            )

    def _question(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ValueError("a Thinker without a tokenizer takes prompts of token ids")
            return self.text.question(prompt, markers=self.method.markers)
        if not len(prompt):
            raise ValueError("a prompt of no tokens: a row of nothing but padding cannot be read")
        return tuple(int(token) for token in prompt)

    def counts(self, thoughts: int | Sequence[int] | None, rows: int) -> list[int]:
        """How many thoughts each of so many prompts gets; None is what the method ends its training with."""
        if thoughts is None:
            few, many = (self.method.plan(Problem("", ("",) * n, ""), None)[0] for n in (0, 1000))
            if few != many:
                raise ValueError(
                    f"how long {self.method.name} thinks depends on the problem's steps, which a prompt does not have: say how many thoughts"
                )
            thoughts = int(few)
        counts = [thoughts] * rows if isinstance(thoughts, int) else list(thoughts)
        if len(counts) != rows or min(counts) < 0:
            raise ValueError(f"thoughts is a number >= 0, or one for each of {rows} prompts; got {thoughts}")
        return counts


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


class _Ids:
    """Stands in for a tokenizer where there are only token ids; nothing ends a text."""

    eos_token_id, pad_token_id = -1, 0


class _Edited:
    """A method whose thoughts are changed before they are read."""

    def __init__(self, method: Method, edit: Any):
        self.method, self.edit = method, edit

    def think(self, backbone: Backbone, stream: Stream, counts: Tensor):
        original = self.method.thought
        try:
            self.method.thought = lambda m, hidden, step: self.edit(original(m, hidden, step), step)  # pyright: ignore
            return self.method.think(backbone, stream, counts)
        finally:
            del self.method.thought


def _settle(backbone: Backbone, thinking: Any) -> tuple[Tensor, Stream]:
    """Read the last thought where nothing follows it."""
    if thinking.waiting is None:
        return thinking.stream.hidden[:, None], thinking.stream
    _, stream = read(backbone, thinking.stream, thinking.thought[:, None], thinking.waiting[:, None])
    return stream.hidden[:, None], stream


def _sampler(temperature: float, top_p: float, rng: torch.Generator | None):
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature must be at least 0 and top_p in (0, 1], got {temperature} and {top_p}")
    if temperature == 0:
        return lambda logits: logits.argmax(-1)

    def sample(logits: Tensor) -> Tensor:
        p = (exact(logits) / temperature).softmax(-1)
        ordered, index = p.sort(-1, descending=True)
        ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
        return index.gather(-1, torch.multinomial(ordered, 1, generator=rng)).squeeze(-1)

    return sample


@dataclass
class Thoughts:
    """A thinker as a core `System`: one step reads the thought that waits and makes the next.

    The input is token ids `[B, L]`, or a tuple of rows of different lengths; it is read by `init`, and then ignored.
    The state holds `thought` and `hidden` `[B, d]`, and everything read so far as vectors: `inputs` `[B, room, d]`, of
    which `seen` `[B, room]` are there. A step reads all of it again, so it is pure and can be differentiated; `run`
    reads it once and goes on with a cache.

    Args:
        thinker: whose thoughts.
        room: thoughts there is room for.
    """

    thinker: Thinker
    room: int = 32

    def __post_init__(self):
        self.readouts = {"thought": lambda state: state["thought"], "hidden": lambda state: state["hidden"]}

    def init(self, input: Any, *, rng: torch.Generator | None = None) -> dict[str, Any]:
        """Read the question and make the first thought."""
        backbone = self.thinker.backbone
        rows = input.tolist() if isinstance(input, Tensor) else input
        if not len(rows) or not all(len(row) for row in rows):
            raise ValueError("questions are rows of token ids, at least one token each")
        tokens, valid = pad_left(rows, self.thinker.text.pad, self.thinker.device)
        embeds = backbone.embed(tokens)
        _, stream = read(backbone, None, embeds, valid)
        inputs = torch.cat([embeds, embeds.new_zeros(len(rows), self.room, backbone.width)], 1)
        seen = torch.zeros(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        seen[:, : tokens.shape[1]] = True if valid is None else valid
        return self._state(stream.hidden, inputs, seen, torch.zeros((), dtype=torch.long))

    def step(
        self, state: dict[str, Any], input: Any = None, *, rng: torch.Generator | None = None
    ) -> dict[str, Any]:
        """Read the waiting thought, make the next."""
        at = self._next(state, 1)
        inputs, seen = self._written(state, [state["thought"]], at)
        _, stream = read(self.thinker.backbone, None, inputs[:, : at + 1], seen[:, : at + 1])
        return self._state(stream.hidden, inputs, seen, state["step"] + 1)

    def run(
        self,
        state: dict[str, Any],
        inputs: Any,
        steps: int,
        *,
        rng: torch.Generator | None = None,
        record: Any = None,
    ) -> Any:
        """Steps with a cache: the past is read once."""
        at, backbone = self._next(state, steps), self.thinker.backbone
        _, stream = read(backbone, None, state["inputs"][:, :at], state["seen"][:, :at])
        thought, made = state["thought"], []
        kept: dict[str, list[Tensor]] = {name: [] for name in record or ()}
        for k in range(steps):
            made.append(thought)
            _, stream = read(backbone, stream, thought[:, None])
            thought = self.thinker.method.thought(backbone, stream.hidden, int(state["step"]) + k + 1)
            for name, values in kept.items():
                values.append(thought if name == "thought" else stream.hidden)
        after = {**state, "thought": thought, "hidden": stream.hidden, "step": state["step"] + steps}
        after["inputs"], after["seen"] = self._written(state, made, at)
        return (
            after if record is None else (after, {name: torch.stack(values) for name, values in kept.items()})
        )

    def _next(self, state: dict[str, Any], steps: int) -> int:
        done, width = int(state["step"]), state["seen"].shape[1]
        if done + steps > self.room:
            raise ValueError(
                f"room for {self.room} thoughts, asked for {done + steps}: make it with system(room={done + steps})"
            )
        return width - self.room + done

    def _written(self, state: dict[str, Any], thoughts: list[Tensor], at: int) -> tuple[Tensor, Tensor]:
        before, after = state["inputs"][:, :at], state["inputs"][:, at + len(thoughts) :]
        seen = state["seen"].clone()
        seen[:, at : at + len(thoughts)] = True
        return torch.cat([before, torch.stack(thoughts, 1), after], 1), seen

    def _state(self, hidden: Tensor, inputs: Tensor, seen: Tensor, step: Tensor) -> dict[str, Any]:
        thought = self.thinker.method.thought(self.thinker.backbone, hidden, int(step))
        return {"thought": thought, "hidden": hidden, "inputs": inputs, "seen": seen, "step": step}
