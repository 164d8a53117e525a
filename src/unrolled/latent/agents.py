"""Agents that hand one another what they have read and thought, instead of text (LatentMAS 2511.20639)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unrolled.latent.backbone import Stream, read
from unrolled.latent.protocol import Reply, follow, speak
from unrolled.latent.text import pad_left
from unrolled.latent.thinker import Thinker


@dataclass
class Relay:
    """A chain of agents that share one model: each reads its role after all that was read and thought before it.

    Args:
        thinker: with a method such as `latent_mas`.
        roles: what each agent is told, in turn; `{question}` is filled in. The last one answers.

    Raises:
        ValueError: no roles.
    """

    thinker: Thinker
    roles: Sequence[str]

    def __post_init__(self):
        if not self.roles:
            raise ValueError("a relay needs at least one role")

    @torch.no_grad()
    def answer(
        self, question: str, thoughts: int = 8, *, max_new_tokens: int = 64, text: bool = False
    ) -> Reply:
        """What the last agent says.

        Args:
            question: for all.
            thoughts: of each agent; the last one thinks too, before it speaks.
            max_new_tokens: tokens the last one says at most; with `text`, each.
            text: the control: agents say their part in words, and the words are handed on in place of caches.
        """
        t = self.thinker
        if text:
            said, reply = "", Reply("", (), 0, "length")
            for role in self.roles:
                prompt = f"{said}{role.format(question=question)}"
                [reply] = t.generate(prompt, 0, max_new_tokens=max_new_tokens)
                said = f"{prompt}\n{reply.text}\n"
            return reply
        stream: Stream | None = None
        counts = torch.tensor([thoughts], device=t.device)
        thinking, hidden = None, None
        for role in self.roles:
            ids = t.text.question(role.format(question=question), markers=False)
            tokens, _ = pad_left([ids], t.text.pad, t.device)
            embeds = t.backbone.embed(tokens)
            if thinking is None:
                _, stream = read(t.backbone, None, embeds)
            else:
                _, stream = follow(t.backbone, thinking, embeds, None)
            thinking = t.method.think(t.backbone, stream, counts)
        assert thinking is not None
        if thinking.waiting is not None and thinking.thought is not None:
            _, stream = read(t.backbone, thinking.stream, thinking.thought[:, None])
        assert stream is not None
        hidden = stream.hidden
        [(said_ids, why)] = speak(
            t.backbone,
            stream,
            hidden,
            lambda logits: logits.argmax(-1),
            eos=t.text.eos,
            max_new_tokens=max_new_tokens,
        )
        return Reply(t.text.decode(said_ids), tuple(said_ids), thoughts * len(self.roles), why)
