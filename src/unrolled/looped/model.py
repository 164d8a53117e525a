"""The looped model: a stack of blocks, applied T times to its own output."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unrolled.core import Settled, seeds
from unrolled.looped._decode import Plan
from unrolled.looped._generate import Generation, generate
from unrolled.looped._loss import loss
from unrolled.looped.block import Block, RMSNorm
from unrolled.looped.cache import Cache, Waiting
from unrolled.looped.config import ATTENTION, LT2Config
from unrolled.looped.explain import Explanation, explain
from unrolled.looped.interop.folder import load, save
from unrolled.looped.layout import Layout, layout
from unrolled.looped.span import Span, rotary
from unrolled.looped.system import BlockSystem


@dataclass
class Output:
    """What a pass returns.

    Attributes:
        logits: `[B, L, vocab]` of the next token; `[loops, B, L, vocab]` with `logits="per_loop"`; None with
            `logits=False`. Zeros at padding.
        cache: the cache that was passed.
        hidden: `[B, L, d]`, RMSNorm(h_T): what the head reads.
        hidden_per_loop: h_1 to h_T, each `[B, L, d]`, before the final norm; `model.read_out` decodes one.
        loops: how many were run: less than asked for if `until` was met.
        aux: losses that mixers have of their own (DSA's indexer), means over tokens, summed over layers and loops; None
            without any.
    """

    logits: Tensor | None
    cache: Cache | None
    hidden: Tensor
    hidden_per_loop: tuple[Tensor, ...]
    loops: int
    aux: Tensor | None = None


class LT2(nn.Module):
    """A looped language model (LT2 2605.20670, eq. 1-3).

        h_0 = Emb(x)
        h_t = (F_N o ... o F_1)(h_{t-1}) + rho_t * h_{t-1},  t = 1..T
        logits = RMSNorm(h_T) W_out

    All loops share weights and norms; each has its own row of rho `[T, d]`, which starts at zero. **Any number of loops
    can be asked for**: loop t beyond T uses the last row of rho (and the last entry of per-loop windows and signs), and fewer
    loops use the first rows.

    Weights start as a normal, cut at 3 standard deviations of d^-1/2 (SwiGLU's `down`: hidden^-1/2); short convolutions
    uniform within taps^-1/2; gates of attention and rho at zero; gains at one.

    Args:
        config: its shape.
        rng: seed or generator of the initial weights; two models with the same seed are equal.

    Example:
        >>> model = LT2(LT2Config.preset("tiny"))
        >>> out = model(torch.zeros(1, 8, dtype=torch.long))
        >>> out.logits.shape, len(out.hidden_per_loop)
        (torch.Size([1, 8, 256]), 4)
    """

    def __init__(self, config: LT2Config, *, rng: int | torch.Generator = 0) -> None:
        super().__init__()
        self.config = config
        self.identity = uuid.uuid4().hex
        self.plan: Plan | None = None
        self.embed = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(kind, config) for kind in config.mixers)
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.rho = nn.Parameter(torch.zeros(config.loops, config.width)) if config.residual else None
        self.head = None if config.tied else nn.Linear(config.width, config.vocab_size, bias=False)
        self.exit = nn.Linear(config.width, 1) if config.exit_gate else None
        self.turns = any(kind in ATTENTION for kind in config.mixers)
        self.reset(rng)

    def reset(self, rng: int | torch.Generator = 0) -> None:
        """Draw the initial weights anew."""
        generator = seeds.generator(rng)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                size = self.config.hidden if name.endswith("ffn.down") else self.config.width
                std = size**-0.5
                nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std, generator=generator)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if module is not self and callable(draw := getattr(module, "reset", None)):
                draw(generator)

    # --- the pass ---------------------------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        positions: Tensor | None = None,
        loops: int | None = None,
        cache: Cache | None = None,
        mask: Tensor | None = None,
        logits: bool | str = True,
        until: Settled | None = None,
        eager: bool = False,
    ) -> Output:
        """Read tokens, or vectors in their place.

        Args:
            tokens: `[B, L]` integers in [0, vocab_size), int64 or int32.
            inputs_embeds: `[B, L, d]` instead of tokens.
            positions: `[L]` or `[B, L]` integers for rotary attention; None counts each row's tokens, padding left out,
                on from what the cache has read.
            loops: how many; None for the configuration's.
            cache: read on from it, and fill it in place; `Cache()` to start one.
            mask: `[B, L]` of these tokens: bool, True at tokens, padding anywhere; or integers, the number of a
                token's sequence (several packed into a row, 0 for padding).
            logits: False leaves the head out; `"per_loop"` reads out after every loop.
            until: end the loops when h settles: max |h_t - h_{t-1}| <= tol over the whole batch. In a cache, later loops
                are made up for when another token needs them, so that nothing is lost.
            eager: plain operators only, slow but differentiable to any order and in forward mode.

        Returns:
            An `Output`.

        Raises:
            TypeError: tokens that are not integers, embeddings that are not floating point.
            ValueError: shapes, devices or token numbers that do not fit, positions beyond `config.context`, loops below
                1, or a cache of another model, batch or number of loops.
        """
        h = self.embed_input(tokens, inputs_embeds)
        B, L, _ = h.shape
        loops = self.config.loops if loops is None else loops
        if not isinstance(loops, int) or isinstance(loops, bool) or loops < 1:
            raise ValueError(
                f"loops is a whole number of at least 1, got {loops!r}: 1 is the model without looping"
            )
        if logits not in (True, False, "per_loop"):
            raise ValueError(f'logits is True, False or "per_loop", got {logits!r}')
        if positions is not None:
            positions = self._checked(positions, B, L, h.device)
        place = layout(mask, B, L, h.device)
        if place is not None:
            h = place.align(h)
            if positions is not None:
                positions = place.align(positions.expand(B, L))
        if cache is not None:
            if place is not None and place.packed:
                raise ValueError("packed sequences have no cache in common: give each a row of its own")
            cache.bind(self, loops, len(h), h.device)
            if place is not None and cache.waiting:
                _Pass(self, cache, loops, None, eager).catch_up()  # those that wait have another padding
        if until is not None and (place is not None or self.config.carry):
            raise ValueError(
                "until needs a pass without padding and a model without carry: rows end their loops together"
            )
        passed = _Pass(self, cache, loops, place, eager)
        states = passed.carried(h, positions) if self.config.carry else passed.run(h, positions, until)
        hidden = self._norm(states[-1])
        if place is not None:
            hidden, states = place.restore(hidden), [place.restore(state) for state in states]
        out: Tensor | None = None
        if logits == "per_loop":
            out = torch.stack([self.read_out(state) for state in states])
        elif logits:
            out = self.head_of(hidden)
        aux = torch.stack(passed.aux).sum() if passed.aux else None
        return Output(out, cache, hidden, tuple(states), len(states), aux)

    def read_out(self, h: Tensor) -> Tensor:
        """Logits of a residual stream `[..., d]`, such as an entry of `hidden_per_loop`: RMSNorm(h) W_out."""
        return self.head_of(self._norm(h))

    def exit_distribution(self, out: Output) -> Tensor:
        """Ouro's gate: the probability of ending at each loop, `[loops, B, L]` (2510.25741, eq. 4).

        lambda_t = sigmoid(gate(RMSNorm(h_t))), p_t = lambda_t (1 - lambda_1) ... (1 - lambda_{t-1}); the last loop takes the
        rest.

        Raises:
            ValueError: the model has no exit gate.
        """
        if self.exit is None:
            raise ValueError(
                "this model has no exit gate: build it with LT2Config(exit_gate=True), or load one of Ouro's"
            )
        states = torch.stack([self._norm(h) for h in out.hidden_per_loop])
        ends = torch.sigmoid(self.exit(states)[..., 0].float())
        going = torch.cat([torch.ones_like(ends[:1]), (1 - ends).cumprod(0)[:-1]])
        return torch.cat([(ends * going)[:-1], going[-1:]])

    def new_cache(self) -> Cache:
        """An empty cache, for callers who know models but not this package (`latent.Thinker`)."""
        return Cache()

    def block_system(self, *, eager: bool = True) -> BlockSystem:
        """The loop as a `System`: a step is one loop."""
        return BlockSystem(self, eager=eager)

    def explain(self) -> Explanation:
        """Which implementation each layer uses, and why; print it."""
        return explain(self)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write config.json and model.safetensors into a folder, which `from_pretrained` and `transformers` read."""
        return save(self, folder)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **changes: Any
    ) -> "LT2":
        """Read what `save_pretrained` wrote, or an Ouro-type checkpoint (`model_type: ouro`), from disk.

        Args:
            folder: with config.json and *.safetensors.
            dtype: of the weights; None leaves them as they are.
            **changes: fields of the configuration to change, such as `context`.

        Raises:
            FileNotFoundError: no such files.
            ValueError: another kind of model, or weights that do not fit.
        """
        return load(cls, folder, dtype=dtype, **changes)

    def loss(self, batch: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy and count; see `unrolled.looped.loss`."""
        return loss(self, batch, **options)

    def generate(self, tokens: Tensor, length: int, **options: Any) -> Generation:
        """Continue sequences.

        Args:
            tokens: `[B, n]` with n >= 1, padded anywhere if `mask` says where.
            length: tokens to add, at most.
            **options: `mask` `[B, n]` bool, True at tokens; `loops`; `temperature` (1; 0 is greedy), `top_k`, `top_p`, `min_p`;
                `rng`: a seed or generator, or a seed per row, which makes a row independent of its batch; `stop`: a token or
                several that end a row; `beams` (1) and `length_penalty` (0): beam search, which is deterministic; `until`: a `Settled`
                that ends the loops of a token early; `cache`: go on from it, `tokens` being what it has not read;
                `prefill`: read the prompt in parts of so many tokens; `on_token(tokens, step)`: called with each `[B]` new ones.

        Returns:
            A `Generation`.

        Raises:
            ValueError: options out of range, or a row without a token.

        Example:
            >>> model = LT2(LT2Config.preset("tiny"))
            >>> made = model.generate(torch.zeros(2, 3, dtype=torch.long), 5, temperature=0)
            >>> made.tokens.shape, made.loops.tolist(), made.passes.tolist()
            (torch.Size([2, 8]), [4, 4, 4, 4, 4], [0, 4, 4, 4, 4])
        """
        return generate(self, tokens, length, **options)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Within, single tokens after others in a cache take fewer operators (and no gradients): 2 to 3 times as quick on a CPU.

        A copy of the blocks' weights lives as long, so they must not change meanwhile; on a GPU, in low precision, under
        autocast and beyond 512 MiB of weights this does nothing. `generate` does it by itself.
        """
        if self.plan is not None or not Plan.fits(self):
            yield
            return
        self.plan = Plan(self)
        try:
            yield
        finally:
            self.plan = None

    @torch.no_grad()
    def catch_up(self, cache: Cache) -> None:
        """Run the loops that tokens left early (`until`), in place: the cache is then as if they had not."""
        if cache.waiting:
            cache.bind(self, cache.loops or 0, cache.batch or 0, self.embed.weight.device)
            _Pass(self, cache, cache.loops or 0, None, False).catch_up()

    def _norm(self, h: Tensor) -> Tensor:
        return h if self.config.loop_norm else self.norm(h)

    def head_of(self, hidden: Tensor) -> Tensor:
        """Logits of `hidden` `[..., d]`, which is normalised already."""
        return F.linear(hidden, self.embed.weight if self.head is None else self.head.weight)

    def loop_end(self, after: Tensor, before: Tensor, loop: int) -> Tensor:
        """h~ + rho * h for a loop counted from 0, and Ouro's norm if there is one."""
        if self.rho is not None:
            after = torch.addcmul(after, self.rho[min(loop, len(self.rho) - 1)].to(after.dtype), before)
        return self.norm(after) if self.config.loop_norm else after

    # --- checks -----------------------------------------------------------------------------------------------------

    def embed_input(self, tokens: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """h_0, from one of the two; the errors are those of a call."""
        if (tokens is None) == (inputs_embeds is None):
            raise ValueError("give tokens or inputs_embeds, one of them")
        device = self.embed.weight.device
        given: Any = tokens if tokens is not None else inputs_embeds
        if not isinstance(given, Tensor):
            raise TypeError(
                f"tokens and inputs_embeds are tensors, got {type(given).__name__}: use torch.tensor"
            )
        if given.device != device:
            raise ValueError(f"the input is on {given.device} and the model on {device}: move one of them")
        if inputs_embeds is not None:
            if not inputs_embeds.is_floating_point():
                raise TypeError(
                    f"inputs_embeds are floating point, got {inputs_embeds.dtype}; integers are tokens="
                )
            if (
                inputs_embeds.ndim != 3
                or inputs_embeds.shape[2] != self.config.width
                or not inputs_embeds.shape[1]
            ):
                raise ValueError(
                    f"inputs_embeds are [batch, length, {self.config.width}] with length >= 1, got {tuple(inputs_embeds.shape)}"
                )
            if inputs_embeds.dtype != self.embed.weight.dtype and not torch.is_autocast_enabled(device.type):
                raise TypeError(
                    f"inputs_embeds are {inputs_embeds.dtype} and the model {self.embed.weight.dtype}: cast one of them"
                )
            return inputs_embeds
        assert tokens is not None
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens are int64 or int32, got {tokens.dtype}: pass tokens.long()")
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ValueError(f"tokens are [batch, length] with length >= 1, got {tuple(tokens.shape)}")
        try:
            return self.embed(tokens)
        except IndexError:
            low, high = int(tokens.min()), int(tokens.max())
            raise ValueError(
                f"tokens run from {low} to {high}, this model knows 0 to {self.config.vocab_size - 1}: tokenizer and "
                f"LT2Config(vocab_size=...) must agree"
            ) from None

    def _checked(self, positions: Tensor, batch: int, length: int, device: torch.device) -> Tensor:
        if positions.is_floating_point() or tuple(positions.shape) not in ((length,), (batch, length)):
            raise ValueError(
                f"positions are integers [length] or [batch, length] = ({batch}, {length}), got {tuple(positions.shape)} {positions.dtype}"
            )
        if positions.device != device:
            raise ValueError(f"positions are on {positions.device}, the input on {device}: move one")
        if positions.numel() and not torch.compiler.is_compiling():
            low, high = (int(x) for x in positions.aminmax())
            if low < 0:
                raise ValueError(f"positions count from 0, got {low}")
            self._within(high + 1)
        return positions

    def _within(self, length: int) -> None:
        if self.turns and length > self.config.context:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the {self.config.context} positions of rotary attention: cut "
                f"it, or build the model with LT2Config(context={length}) (weights do not change)"
            )


@dataclass
class _Pass:
    """One forward pass: the loops, the layers, and where their memory is."""

    model: LT2
    cache: Cache | None
    loops: int
    place: Layout | None
    eager: bool
    aux: list[Tensor] = field(default_factory=list)

    def run(self, h: Tensor, positions: Tensor | None, until: Settled | None) -> list[Tensor]:
        """All tokens through loop 1, then all through loop 2, ..."""
        model, cache = self.model, self.cache
        states: list[Tensor] = []
        L = h.shape[1]
        if until is not None:
            until.reset()
        if positions is None:
            positions = self._count_on(L, h.device)
        turn = None
        for loop in range(self.loops):
            if cache is not None and loop in cache.waiting:
                late = cache.waiting.pop(loop)
                h = torch.cat([late.h, h], 1)
                positions, turn = _join(late.positions, positions), None
            if turn is None:
                turn = (
                    rotary(positions, model.config.head_dim, model.config.rope_base, h.dtype)
                    if model.turns
                    else ()
                )
            before = h
            h = self._stack(h, self._span(loop, h.shape[1], turn or None, positions))
            h = model.loop_end(h, before, loop)
            states.append(h[:, -L:])
            stop = None
            if until is not None and loop:
                stop = until(before[:, -L:], h[:, -L:], loop + 1)
            if stop is not None and loop + 1 < self.loops:
                if cache is not None:
                    self._leave(loop + 1, h, positions)
                break
        return states

    def catch_up(self) -> None:
        """The waiting tokens alone, through all loops they wait for."""
        assert self.cache is not None
        model, turn = self.model, None
        for loop in range(self.loops):
            late = self.cache.waiting.pop(loop, None)
            if late is None:
                continue
            if model.turns:
                turn = rotary(late.positions, model.config.head_dim, model.config.rope_base, late.h.dtype)
            h = self._stack(late.h, self._span(loop, late.h.shape[1], turn, late.positions))
            if loop + 1 < self.loops:
                self._leave(loop + 1, model.loop_end(h, late.h, loop), late.positions)

    def carried(self, h: Tensor, positions: Tensor | None) -> list[Tensor]:
        """One token through all loops, then the next: a linear layer's S goes from loop to loop with the token.

        Causal, as the state that a token hands on has seen no later one; and sequential, as the next token starts
        from what the last loop left.
        """
        model, L = self.model, h.shape[1]
        positions = self._count_on(L, h.device) if positions is None else positions
        whole, self.cache = self.cache, Cache() if self.cache is None else self.cache
        if whole is None:
            self.cache.bind(model, self.loops, len(h), h.device)
        counts = self.place.counts if self.place is not None and whole is not None else None
        self.place = None  # one token at a time: which rows have one is said below
        out: list[list[Tensor]] = [[] for _ in range(self.loops)]
        for t in range(L):
            x = h[:, t : t + 1]
            turn = None
            if model.turns:
                turn = rotary(
                    positions[..., t : t + 1], model.config.head_dim, model.config.rope_base, h.dtype
                )
            alive = None if counts is None else (counts > t).long()
            for loop in range(self.loops):
                before = x
                x = self._stack(x, self._span(loop, 1, turn, positions[..., t : t + 1], alive), shared=True)
                x = model.loop_end(x, before, loop)
                out[loop].append(x)
        self.cache = whole
        return [torch.cat(series, 1) for series in out]

    def _count_on(self, length: int, device: torch.device) -> Tensor:
        count = self.cache.counts[0] if self.cache is not None else None
        past = 0 if count is None else count.longest
        self.model._within(past + length)
        fresh = torch.arange(past, past + length, device=device)
        if count is None or count.each is None:
            return fresh
        return count.each[:, None] + (fresh - past)

    def _span(
        self, loop: int, length: int, turn: Any, positions: Tensor, counts: Tensor | None = None
    ) -> Span:
        """What the mixers of a loop are told; the cache's count goes on."""
        span = Span(loop, rotary=turn, eager=self.eager, aux=self.aux, learn=self.model.training)
        span.positions = positions if self.model.turns else None
        if self.cache is None:
            return span
        if counts is None and self.place is not None:
            counts = self.place.counts
        count = self.cache.counts[loop]
        span.past, span.starts, span.counts = count.longest, count.each, counts
        self.cache.counts[loop] = count = count.after(length, counts)
        span.kept = count.shortest
        return span

    def _stack(self, h: Tensor, span: Span, *, shared: bool = False) -> Tensor:
        cache, plan = self.cache, self.model.plan
        alone = h.shape[1] == 1 and not (shared or self.eager or torch.is_grad_enabled())
        if plan is not None and cache is not None and alone and span.past and span.counts is None:
            return self._planned(plan, cache, h, span)
        for i, block in enumerate(self.model.blocks):
            if cache is None:
                h = block(h, span)
            else:
                h = block(h, span, cache.slot(i, span.loop), cache.slot(i, 0) if shared else None)
        return h

    def _planned(self, plan: Plan, cache: Cache, h: Tensor, span: Span) -> Tensor:
        """A token through the blocks, by the plan where it has a step."""
        for i, (step, even, block) in enumerate(zip(plan.steps, plan.even, self.model.blocks)):
            slot = cache.slot(i, span.loop)
            planned = step is not None and not (even and span.starts is not None)
            h = step(h[:, 0], span, slot)[:, None] if step is not None and planned else block(h, span, slot)
        return h

    def _leave(self, loop: int, h: Tensor, positions: Tensor) -> None:
        """Let tokens wait for a loop; those that wait already come first."""
        assert self.cache is not None
        late = self.cache.waiting.get(loop)
        if late is not None:
            h, positions = torch.cat([late.h, h], 1), _join(late.positions, positions)
        self.cache.waiting[loop] = Waiting(h, positions)


def _join(late: Tensor, positions: Tensor) -> Tensor:
    if late.ndim != positions.ndim:
        rows = late.shape[0] if late.ndim == 2 else positions.shape[0]
        late, positions = (x if x.ndim == 2 else x.expand(rows, -1) for x in (late, positions))
    return torch.cat([late, positions], -1)
