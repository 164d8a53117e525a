"""HRPO: the sampled token's embedding, with a gate that lets a little of the mixture in (2505.18454)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.latent.backbone import Backbone
from unrolled.latent.protocol import Cell, Method, Thoughtless, exact
from unrolled.latent.tasks.problem import Problem


class HRPO(Method):
    """e' = a e(x) + sqrt(1 - a^2) (i h): e(x) the sampled token, h the mixture p' E; a = exp(-8 softplus(-Lambda) r).

    r and i are gates, sigmoid(linear(e)). Lambda begins so that with r = 1 the token's share a is u, drawn from `span`
    for every dimension: a = u^r, so training begins close to words and lets latents in as it pays.

    `rl.grpo` learns from rewards. Tokens are drawn from one generator for the whole batch, so a prompt's draws depend on
    what it shares its batch with.

    Args:
        backbone: the model.
        thoughts: hybrid steps before the answer.
        span: of u. The paper: 0.98 or 0.99 to 0.999.
        temperature: of sampling. The paper: 0.5.
        seed: of u and of sampling.
    """

    name, paper = "hrpo", "2505.18454"
    cell = Cell(
        "component: control",
        "internal: weighted embedding",
        "adaptive: control",
        "post-training: reinforcement",
    )
    markers = False

    def __init__(
        self,
        backbone: Backbone,
        thoughts: int = 8,
        span: tuple[float, float] = (0.99, 0.999),
        temperature: float = 0.5,
        seed: int = 0,
    ):
        super().__init__()
        if not 0 < span[0] <= span[1] < 1:
            raise ValueError(f"span is a range inside (0, 1), got {span}")
        self.thoughts, self.temperature = thoughts, temperature
        like, d = backbone.weights()[0], backbone.width
        self.rng = torch.Generator(device=like.device).manual_seed(seed)
        drawn = torch.rand(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.u = span[0] + (span[1] - span[0]) * drawn
        # exp(-8 softplus(-Lambda)) = u  <=>  Lambda = -log(exp(-log(u) / 8) - 1)
        self.decay = nn.Parameter(-torch.log(torch.expm1(-self.u.log() / 8)).to(like))
        self.reset = nn.Linear(d, d).to(like)
        self.intake = nn.Linear(d, d).to(like)

    def plan(self, problem: Problem, stage: int | None) -> tuple[int, Sequence[str]]:
        """All steps are thought."""
        return self.thoughts, ()

    def share(self, r: Tensor) -> Tensor:
        """a, what of the token's embedding is kept."""
        return torch.exp(-8 * F.softplus(-self.decay) * r)

    def blend(self, token: Tensor, mixture: Tensor) -> Tensor:
        """E' from the token's embedding and the mixture, `[B, d]` each."""
        a = self.share(self.reset(token).sigmoid())
        return a * token + (1 - a * a).clamp(min=0).sqrt() * (self.intake(token).sigmoid() * mixture)

    def thought(self, backbone: Backbone, hidden: Tensor, step: int) -> Tensor:
        """A sampled token with some of the mixture."""
        return self.replay(backbone, hidden, step, self.draw(backbone, hidden, step, self.rng))[0]

    def draw(self, backbone: Backbone, hidden: Tensor, step: int, rng: torch.Generator | None) -> Tensor:
        """A token for each row."""
        p = (exact(backbone.head(hidden.detach())) / self.temperature).softmax(-1)
        broken = ~p.isfinite().all(-1)
        if bool(broken.any()):
            raise Thoughtless(step + 1, broken.nonzero().flatten().tolist())
        return torch.multinomial(p, 1, generator=rng).squeeze(-1)

    def replay(self, backbone: Backbone, hidden: Tensor, step: int, choice: Tensor) -> tuple[Tensor, Tensor]:
        """The thought with that token, and the token's log-probability."""
        table = backbone.weights()[0]
        log_p = (exact(backbone.head(hidden)) / self.temperature).log_softmax(-1)
        mixture = log_p.exp().to(table.dtype)[..., : table.shape[0]] @ table
        return self.blend(table[choice], mixture), log_p.gather(-1, choice[:, None])[:, 0]
