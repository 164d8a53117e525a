"""`Policy`: pi(s) = D[f(E(s))], a frozen system f between two linear interfaces that learn (2605.16321; fact sheet, A2)."""

import os
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unrolled.languagegame.cores import Core, as_core
from unrolled.languagegame.interfaces import Critic, Decoder, Encoder, orthogonal

Mode = Literal["field", "flow", "stateful"]
MODES = ("field", "flow", "stateful")
TAU, STEPS, COUPLING = 0.05, 4, 0.5
FORMAT = "languagegame-policy-1"


class Policy(nn.Module):
    """A policy whose middle is a frozen dynamical system; only the interfaces around it learn.

    For observations o `[B, m]`, a system of d species with mean mu and spread std, the seven steps of the paper:

    1. z = BatchNorm(W_E o + b_E); actor and critic share it, and observations are not normalised;
    2. x = std z + mu, as concentrations;
    3. x~ = x within [1e-5, 1e8] (both signs for Lorenz); the gradient passes as if nothing was cut (straight-through);
    4. g = f(P x~): the vector field, P the projection on conserved totals where there are any;
    5. NaN of g becomes 0, an infinity 1e6 with its sign;
    6. h = (g - mu) / std: the *rate* is normalised with the *state's* statistics, as the paper does;
    7. logits, or a Gaussian's mean, W_D BatchNorm(h) + b_D.

    The critic is V = w . MLP(z). `mode` says what step 4 is:

    * `"field"`, the paper: f once per step of the environment, no integration, no memory.
    * `"flow"`: g is the state after time `tau * time_scale` from P x~ (Runge-Kutta, `substeps`), so step 6 has the statistics
      that belong to it.
    * `"stateful"`: as flow, but the state is carried from step to step of the environment, and the observation pulls it only
      part of the way: x = x_carried + coupling (std z + mu - x_carried). Gradients stop at the carried state.

    BatchNorm uses running statistics in eval mode and those of the batch in train mode. In the paper actions are drawn in eval
    mode and updates made in train mode, so that the first ratio of old to new probabilities is not 1. `norms="running"`
    updates with running statistics instead, which `ppo` brings up to date once per round: there the ratio starts at exactly 1.

    Args:
        encoder: `Encoder(m, d)`, or any module `[B, m] -> [B, d]`.
        system: the frozen core: a `Core`, a shipped name, an `unrolled.sbml.Model`, or a core `System` that has a `width`.
        decoder: `Decoder(core.out, actions, ...)`.
        mode: see above.
        env_id: the environment it is made for.
        critic: `Critic(d)` when None.
        tau: share of the system's time scale that `flow` and `stateful` integrate.
        substeps: of the integration.
        coupling: how far an observation pulls a carried state, between 0 and 1.

    Attributes:
        core: the frozen system.
        norms: `"batch"` or `"running"`, see above; `ppo` sets it.
        info: what `ppo` tells about its training; JSON, saved with the policy.

    Raises:
        ValueError: an unknown mode, or parts of different widths.

    Example:
        The paper's smallest policy has 35 scalars for actions, whatever happens in between:

        >>> policy = Policy(Encoder(4, 3), "tyson1999", Decoder(3, 2))
        >>> policy.actor_parameters
        35
        >>> policy.act([0.0, 0.1, 0.0, -0.1]).item() in (0, 1)
        True
    """

    def __init__(
        self,
        encoder: nn.Module,
        system: Any,
        decoder: nn.Module,
        mode: Mode = "field",
        *,
        env_id: str = "",
        critic: nn.Module | None = None,
        tau: float = TAU,
        substeps: int = STEPS,
        coupling: float = COUPLING,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode is {', '.join(MODES)}; got {mode!r}")
        if not (tau > 0 and substeps >= 1 and 0 < coupling <= 1):
            raise ValueError(f"tau > 0, substeps >= 1, 0 < coupling <= 1; got {tau}, {substeps}, {coupling}")
        self._frozen = (as_core(system),)  # in a tuple: out of parameters(), state_dict() and train()
        self.mode, self.env_id = mode, env_id
        self.norms: Literal["batch", "running"] = "batch"
        self.tau, self.substeps, self.coupling = tau, substeps, coupling
        self.encoder, self.decoder = encoder, decoder
        self.critic = critic or Critic(self.core.width)
        self.learned = self.core.learned
        if isinstance(encoder, Encoder) and encoder.linear.out_features != self.core.width:
            raise ValueError(
                f"the encoder gives {encoder.linear.out_features} numbers, {self.core.name} has {self.core.width} species"
            )
        if isinstance(decoder, Decoder) and decoder.linear.in_features != self.core.out:
            raise ValueError(
                f"the decoder takes {decoder.linear.in_features} numbers, {self.core.name} gives {self.core.out}"
            )
        if mode == "stateful" and self.core.out != self.core.width:
            raise ValueError(
                f"{self.core.name} reads {self.core.out} of {self.core.width} numbers: it cannot be carried"
            )
        self.discrete: bool = getattr(decoder, "discrete", True)
        self.info: dict[str, Any] = {}
        self.eval()

    @classmethod
    def make(
        cls, env_id: str, system: Any = "tyson1999", mode: Mode = "field", *, seed: int = 0, **options: Any
    ) -> "Policy":
        """An untrained policy of the right size for an environment, started as stable-baselines3 would.

        Args:
            env_id: Gymnasium's name, e.g. `"CartPole-v1"`.
            system: as `Policy` takes it.
            mode: as `Policy` takes it.
            seed: of the weights: orthogonal, with gain sqrt 2, 0.01 for actions, 1 for the value.
            options: of `Policy`.

        Raises:
            ValueError: no such environment, or no such system.

        Example:
            >>> Policy.make("Pendulum-v1", "lorenz").observations
            3
        """
        from unrolled.languagegame import envs

        about, core = envs.spec(env_id), as_core(system)
        encoder = Encoder(about.observations, core.width)
        decoder = Decoder(core.out, about.actions, about.discrete, low=about.low, high=about.high)
        policy = cls(encoder, core, decoder, mode, env_id=env_id, **options)
        rng = torch.Generator().manual_seed(seed)
        for part in (policy.encoder, policy.critic, policy.learned):
            if part is not None:
                orthogonal(part, 2**0.5, rng)
        orthogonal(policy.decoder, 0.01, rng)
        layers = getattr(policy.critic, "layers", None)
        if layers is not None:
            orthogonal(layers[-1], 1.0, rng)
        return policy

    # --- what it is ----------------------------------------------------------------------------------------------------

    @property
    def core(self) -> Core:
        """The frozen system."""
        return self._frozen[0]

    @property
    def species(self) -> tuple[str, ...]:
        """Names of the core's columns."""
        return self.core.species

    @property
    def observations(self) -> int:
        """M."""
        linear = getattr(self.encoder, "linear", None)
        return linear.in_features if isinstance(linear, nn.Linear) else int(self.encoder.observations)  # type: ignore[arg-type]

    @property
    def actions(self) -> int:
        """Number of choices, or of joints."""
        linear = getattr(self.decoder, "linear", None)
        return linear.out_features if isinstance(linear, nn.Linear) else int(self.decoder.actions)  # type: ignore[arg-type]

    @property
    def actor_parameters(self) -> int:
        """Scalars that learn and that an action depends on: m d + d + 2 d + 2 d + d A + A, and A log_std if continuous."""
        parts = [self.encoder, self.decoder, *([self.learned] if self.learned is not None else [])]
        return sum(p.numel() for part in parts for p in part.parameters())

    def train(self, mode: bool = True) -> "Policy":
        """Train mode changes the two BatchNorms alone, and with `norms="running"` nothing: the system stays as it is."""
        return super().train(mode and self.norms == "batch")

    # --- the seven steps -------------------------------------------------------------------------------------------------

    def steps(self, obs: Tensor, state: Tensor | None = None) -> dict[str, Tensor]:
        """The seven steps, each by name, with gradients, for a batch `[B, m]` of observations; see `trace`."""
        core = self.core
        z = self.encoder(obs)
        mu, std = core.scale(z)
        x = std * z + mu
        carried = x
        if self.mode == "stateful":
            before = mu.expand_as(x) if state is None else state.to(x)
            carried = before + self.coupling * (x - before)
        clamped = straight_through(carried, core.low, core.high)
        projected = core.project(clamped)
        if self.mode == "field":
            rate = core.field(projected)
        else:
            rate = core.flow(projected, self.tau * core.time_scale, self.substeps)
        g = torch.nan_to_num(rate, nan=0.0, posinf=1e6, neginf=-1e6)
        h = (g - mu) / std if g.shape[-1] == core.width else g
        made = {"z": z, "x": x, "clamped": clamped, "projected": projected, "rate": rate, "g": g, "h": h}
        made["logits"] = self.decoder(h)
        if self.mode == "stateful":
            made["state"] = torch.where(rate.isfinite(), rate, projected).detach()
        return made

    def forward(self, obs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits or means `[B, A]`, values `[B]`, and the carried state `[B, d]` (None unless stateful), with gradients."""
        made = self.steps(obs, state)
        return made["logits"], self.critic(made["z"]), made.get("state")

    def start(self, batch: int = 1) -> Tensor:
        """The carried state at the start of an episode: mu, `[B, d]`."""
        mu, _ = self.core.scale(next(self.parameters()))
        return mu.expand(batch, -1).clone()

    @torch.no_grad()
    def restate(self, obs: Tensor, state: Tensor | None = None, *, momentum: float = 0.1) -> None:
        """Move the running statistics of both BatchNorms towards those of a batch of observations `[B, m]`."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = momentum
        super().train(True)
        self.steps(obs, state)
        self.eval()
        for norm, value in zip(norms, before):
            norm.momentum = value

    # --- what it does ----------------------------------------------------------------------------------------------------

    def trace(self, obs: Any, state: Tensor | None = None) -> dict[str, Tensor]:
        """What happens inside: `z`, `x`, `clamped`, `projected` (concentrations), `rate`, `g`, `h`, `logits`, `value`; `state`.

        Args:
            obs: `[m]` or `[B, m]`: tensor, array or list.
            state: in stateful mode, the `state` of the trace before; None begins anew at mu.

        Returns:
            Tensors `[B, ...]`, without the B for one observation; no gradients, BatchNorm with running statistics.

        Raises:
            ValueError: another width than m, or a number that is not finite; the message says which.
        """
        batch, single = self._observed(obs)
        carried = state[None] if state is not None and state.ndim == 1 else state
        training = self.training
        self.eval()
        with torch.no_grad():
            made = self.steps(batch, carried)
            made["value"] = self.critic(made["z"])
        self.train(training)
        return {name: value[0] for name, value in made.items()} if single else made

    def logits(self, obs: Any, state: Tensor | None = None) -> Tensor:
        """The raw output, `[B, A]` or `[A]`: logits of the choices, or the Gaussian's mean before it is cut to the bounds."""
        return self.trace(obs, state)["logits"]

    def value(self, obs: Any, state: Tensor | None = None) -> Tensor:
        """What the critic expects, `[B]`, in units of the normalised reward it was trained on."""
        return self.trace(obs, state)["value"]

    def act(self, obs: Any, state: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """What it does: the likeliest choice, or the mean within the bounds; drawn from the distribution when `rng` is given.

        Args:
            obs: `[m]` or `[B, m]`.
            state: as in `trace`.
            rng: of the draw.

        Returns:
            int64 `[B]`, or float `[B, A]`; without the B for one observation.
        """
        logits = self.logits(obs, state)
        return self.choose(logits, rng)

    def choose(self, logits: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """An action from the raw output; see `act`."""
        if self.discrete:
            if rng is None:
                return logits.argmax(-1)
            # The largest of logits + Gumbel noise is a draw from the softmax.
            noise = torch.rand(logits.shape, generator=rng, dtype=logits.dtype).clamp(min=1e-20)
            return (logits - (-noise.log()).log()).argmax(-1)
        decoder: Any = self.decoder
        if rng is not None:
            noise = torch.randn(logits.shape, generator=rng, dtype=logits.dtype)
            logits = logits + decoder.log_std.detach().exp() * noise
        return torch.minimum(torch.maximum(logits, decoder.low), decoder.high)

    def _observed(self, obs: Any) -> tuple[Tensor, bool]:
        like = next(self.parameters())
        made = torch.as_tensor(obs).to(like)
        single = made.ndim == 1
        made = made[None] if single else made
        if made.ndim != 2 or made.shape[1] != self.observations:
            raise ValueError(
                f"an observation of {self.env_id or 'this policy'} has {self.observations} numbers, got shape "
                f"{tuple(torch.as_tensor(obs).shape)}"
            )
        bad = ~made.isfinite()
        if bool(bad.any()):
            row, column = (int(i) for i in bad.nonzero()[0])
            raise ValueError(
                f"observation {row} has {float(made[row, column])} at place {column} of {self.observations}: the environment, or "
                f"what reads it, gave a number that is not finite"
            )
        return made, single

    def exploded(self, obs: Any, state: Tensor | None = None) -> dict[str, float]:
        """Species whose rate (field), or state after the flow, is not finite: name -> share of the observations.

        Example:
            >>> Policy.make("CartPole-v1", "tyson1999").exploded(torch.zeros(8, 4))
            {}
        """
        rate = self.trace(obs, state)["rate"]
        share = (~rate.reshape(-1, rate.shape[-1]).isfinite()).double().mean(0)
        names = (
            self.species if len(share) == len(self.species) else [f"output {i}" for i in range(len(share))]
        )
        return {name: value for name, value in zip(names, share.tolist()) if value > 0}

    # --- files -----------------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """All that is needed to make it again, but for the weights and a system of the user's own."""
        return {
            "format": FORMAT, "env_id": self.env_id, "mode": self.mode, "norms": self.norms, "tau": self.tau,
            "substeps": self.substeps, "coupling": self.coupling, "core": self.core.spec(),
            "observations": self.observations, "actions": self.actions, "discrete": self.discrete, "info": self.info,
            "low": None if self.discrete else self.decoder.low.tolist(),  # type: ignore[union-attr,operator]
            "high": None if self.discrete else self.decoder.high.tolist(),  # type: ignore[union-attr,operator]
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file: the weights as safetensors, all else as JSON in its header.

        Raises:
            OSError: it cannot be written; an older file of this name is unchanged.
        """
        from unrolled.training import checkpoint

        checkpoint.save(path, {"policy": self.spec(), "weights": dict(self.state_dict())})

    @classmethod
    def load(cls, path: str | os.PathLike[str], system: Any = None) -> "Policy":
        """Read what `save` wrote.

        Args:
            path: the file, or a checkpoint of `ppo`.
            system: the core, where it is not one that ships with the package.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is damaged, no policy, or of another system than the one given.
        """
        from unrolled.training import checkpoint

        saved = checkpoint.load(path)
        spec = saved.get("policy") if isinstance(saved, dict) else None
        if not isinstance(spec, dict) or spec.get("format") != FORMAT:
            raise ValueError(f"{os.fspath(path)} holds no policy of unrolled.languagegame")
        about = spec["core"]
        if system is None:
            try:
                core = Core.named(about["name"])
            except ValueError:
                raise ValueError(
                    f"{os.fspath(path)} is a policy around {about['name']!r}, which does not ship with the package: "
                    f"Policy.load(path, system=...)"
                ) from None
        else:
            core = as_core(system)
        if list(core.species) != list(about["species"]):
            raise ValueError(
                f"{os.fspath(path)} is a policy around {about['name']} with {', '.join(about['species'])}; {core.name} has "
                f"{', '.join(core.species)}"
            )
        core = core.restated(about)
        encoder = Encoder(spec["observations"], core.width)
        low, high = ((None, None) if spec["low"] is None else (torch.tensor(spec["low"]), torch.tensor(spec["high"])))  # fmt: skip
        decoder = Decoder(core.out, spec["actions"], spec["discrete"], low=low, high=high)
        options = {name: spec[name] for name in ("tau", "substeps", "coupling")}
        policy = cls(encoder, core, decoder, spec["mode"], env_id=spec["env_id"], **options)
        policy.load_state_dict(saved["weights"])
        policy.norms, policy.info = spec["norms"], spec["info"]
        return policy

    def __repr__(self) -> str:
        where = f" for {self.env_id}" if self.env_id else ""
        return f"Policy({self.core.name}, {self.mode}{where}: {self.observations} -> {self.core.width} -> {self.actions})"


def straight_through(x: Tensor, low: float, high: float) -> Tensor:
    """X within [low, high], with the gradient of x.

    Written as clamp(x) + (x - x), whose value is exactly the clamp; x + (clamp(x) - x) is not where x is large.

    Example:
        >>> x = torch.tensor([-3.0, 0.5], requires_grad=True)
        >>> y = straight_through(x, 1e-5, 1e8)
        >>> y.tolist(), torch.autograd.grad(y.sum(), x)[0].tolist()
        ([9.999999747378752e-06, 0.5], [1.0, 1.0])
    """
    if not x.requires_grad:
        return x.clamp(low, high)
    return x.detach().clamp(low, high) + (x - x.detach())
