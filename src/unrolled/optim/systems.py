"""Optimizers as systems: the state is the parameters and the optimizer's buffers, a step is a descent step.

>>> import torch
>>> from unrolled import rollout
>>> def loss(params, batch):
...     x, y = batch
...     return (x @ params["w"] + params["b"] - y).square().mean()
>>> x = torch.linspace(-1, 1, 16)[:, None]
>>> descent = adam(loss, params={"w": torch.zeros(1), "b": torch.zeros(1)}, lr=0.1)
>>> path = rollout(descent, (x, 3 * x[:, 0] + 1), steps=200, record=["params.w", "params.b"])
>>> [round(path[name][-1].item(), 2) for name in path.records]
[3.0, 1.0]

**The loss** is `loss(params, input)`, where `params` is a tensor or any tree of tensors and `input` is what `rollout` is
given (a batch, or None); it returns a scalar, or (summed loss, count) like the losses of `unrolled.training`. When
`params` is an `nn.Module`, it is `loss(model, input)`: the module with the current parameters in place. The module itself
is not changed; its buffers (running statistics) are held constant, and it draws its dropout masks from `rng`.

**The state** is `{"params": ..., "buffers": {leaf: {...}}, "step": t}`. Instruments that need one tensor of constant shape
(`spectrum`, `settling`) read the parameters: `of="params"` when they are a lone tensor, else a leaf, `of="params.w"`. The
readout `"params"` is all of them in one vector.

**Gradients.** Each step is differentiable in the initial parameters, in the learning rate (if it is a tensor), and in
whatever the loss closes over: `rollout(..., grad="full")`. Outside `rollout`, a step builds a graph whenever torch's grad
mode is on: wrap loops of your own in `torch.no_grad()`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from unrolled.core import tree
from unrolled.optim import polar as polars
from unrolled.optim import recipes, updates
from unrolled.optim.recipes import Fused, Layout, Recipe
from unrolled.optim.updates import Buffers

Schedule = float | Tensor | Callable[[int], float]
"""A learning rate: a number, a 0-dimensional tensor, or a function of the step index (from 0)."""

Rule = Callable[[list[str], list[Tensor], list[Tensor], list[Buffers], Any], list[tuple[Tensor, Buffers]]]
"""(names, parameters, gradients, buffers, steps taken before) -> (Z, buffers) of each."""


def sgd(
    loss: Callable[[Any, Any], Any],
    params: Any,
    *,
    lr: Schedule,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> "Descent":
    """Gradient descent, with momentum if `momentum > 0`, as a system (formulas: `updates.sgd`).

    Args:
        loss: `loss(params, input)`; module docstring.
        params: initial parameters: a tensor, a tree of tensors, an `nn.Module`, or a function of the generator.
        lr: learning rate: a number, a tensor, or a function of the step index.
        momentum: of the sum of gradients.
        nesterov: look ahead.
        weight_decay: coupled (L2), as in `torch.optim.SGD`.

    Raises:
        ValueError: a hyperparameter out of range; no floating-point parameter.

    Example:
        >>> from unrolled import rollout
        >>> system = sgd(lambda w, _: 0.5 * 3 * w**2, torch.tensor(1.0), lr=0.1)
        >>> round(rollout(system, steps=1).final["params"].item(), 4)  # 1 - lr * curvature
        0.7
    """
    updates.check_hyperparameters(lr=lr, momentum=momentum, weight_decay=weight_decay)
    if nesterov and not momentum:
        raise ValueError("nesterov=True needs momentum > 0")

    def rule(names: Any, params: Any, grads: Any, buffers: Any, step: Any) -> Any:
        rate = _at(lr, step)
        return [
            updates.sgd(p, g, b, lr=rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
            for p, g, b in zip(params, grads, buffers)
        ]

    return Descent(loss, params, rule, lambda _: ("momentum",) if momentum else ())


def adam(
    loss: Callable[[Any, Any], Any],
    params: Any,
    *,
    lr: Schedule = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = True,
) -> "Descent":
    """Adam, and AdamW when `weight_decay > 0`, as a system (formulas: `updates.adam`).

    Args:
        loss: `loss(params, input)`; module docstring.
        params: initial parameters: a tensor, a tree of tensors, an `nn.Module`, or a function of the generator.
        lr: learning rate: a number, a tensor, or a function of the step index.
        betas: decay of the averages of G and G^2.
        eps: added to the root.
        weight_decay: decoupled; with `decoupled=False`, added to the gradient as in `torch.optim.Adam`.
        decoupled: AdamW rather than Adam with L2.

    Raises:
        ValueError: a hyperparameter out of range; no floating-point parameter.

    Example:
        >>> from unrolled import rollout
        >>> system = adam(lambda w, _: w.square().sum(), torch.tensor([4.0, -0.5]), lr=0.25)
        >>> rollout(system, steps=1).final["params"]  # the first step is lr * sign(G)
        tensor([ 3.7500, -0.2500])
    """
    updates.check_hyperparameters(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def rule(names: Any, params: Any, grads: Any, buffers: Any, step: Any) -> Any:
        rate = _at(lr, step)
        return [
            updates.adam(p, g, b, step=step + 1, lr=rate, betas=betas, eps=eps, weight_decay=weight_decay,
                         decoupled=decoupled, smooth=True)
            for p, g, b in zip(params, grads, buffers)
        ]  # fmt: skip

    return Descent(loss, params, rule, lambda _: ("exp_avg", "exp_avg_sq"))


def muon(
    loss: Callable[[Any, Any], Any],
    params: Any,
    *,
    lr: Schedule = 0.02,
    momentum: float = 0.95,
    nesterov: bool = True,
    polar: str = "ns5",
    scale: str = "original",
    weight_decay: float = 0.0,
    recipe: Recipe = "all",
    adam_lr: Schedule = 3e-4,
    adam_betas: tuple[float, float] = (0.9, 0.95),
    adam_eps: float = 1e-8,
    adam_weight_decay: float = 0.0,
    fused: Fused = "split",
    head_size: int | None = None,
    polar_dtype: torch.dtype | None = None,
) -> "Descent":
    """Muon on the matrices of a recipe and AdamW on everything else, as a system (formulas: `updates.muon`).

    Args:
        loss: `loss(params, input)`; module docstring.
        params: initial parameters: a tensor, a tree of tensors, an `nn.Module`, or a function of the generator.
        lr: Muon's learning rate, before the scale rule: a number, a tensor, or a function of the step index.
        momentum: of the average of gradients.
        nesterov: look ahead.
        polar: `"svd"`, `"ns5"`, `"polar_express"` or `"ns12"` (see `polar`).
        scale: `"original"`, `"match_rms_adamw"`, `"spectral"` or `"none"` (see `updates.scale_factor`).
        weight_decay: Muon's, decoupled, with the learning rate before the scale rule.
        recipe: which matrices (see `recipes`); names are the paths of the leaves.
        adam_lr: learning rate of AdamW.
        adam_betas: its betas.
        adam_eps: its eps.
        adam_weight_decay: its weight decay.
        fused: how fused projections are cut (see `recipes`).
        head_size: rows per head, to give each head of Q, K and V a polar factor of its own.
        polar_dtype: dtype of the polar iteration (see `polar`).

    Raises:
        ValueError: a hyperparameter out of range, an unknown polar, scale or recipe, or a recipe that finds no matrix.

    Example:
        >>> from unrolled import rollout
        >>> target = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
        >>> system = muon(lambda w, _: (w - target).square().sum(), torch.zeros(2, 2), lr=0.5, polar="svd")
        >>> rollout(system, steps=1).final["params"].round(decimals=4) + 0.0
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """
    updates.check_hyperparameters(
        lr=lr, momentum=momentum, weight_decay=weight_decay, adam_lr=adam_lr, adam_betas=adam_betas, adam_eps=adam_eps,
        adam_weight_decay=adam_weight_decay,
    )  # fmt: skip
    updates.scale_factor(scale, 1, 1)
    polars.check_method(polar)
    layouts: dict[str, Layout | None] = {}

    def names_of(leaves: dict[str, Tensor]) -> None:
        layouts.update(
            recipes.assign(
                leaves, recipe, fused=fused, head_size=head_size, embeddings=recipes.embedding_names(params)
            )
        )

    def buffer_names(name: str) -> tuple[str, ...]:
        layout = layouts[name]
        if layout is None:
            return "exp_avg", "exp_avg_sq"
        return ("momentum",) if all(part[-1] for part in layout) else ("momentum", "exp_avg", "exp_avg_sq")

    def rule(names: Any, params: Any, grads: Any, buffers: Any, step: Any) -> Any:
        adam_rate = _at(adam_lr, step)
        results: dict[str, Any] = {}
        ours = [i for i, name in enumerate(names) if layouts[name] is not None]
        stepped = updates.muon_all(
            [params[i] for i in ours], [grads[i] for i in ours], [buffers[i] for i in ours],
            [cast(Layout, layouts[names[i]]) for i in ours], lr=_at(lr, step), momentum=momentum, nesterov=nesterov,
            polar=polar, scale=scale, weight_decay=weight_decay, polar_dtype=polar_dtype,
        )  # fmt: skip
        results.update(zip([names[i] for i in ours], stepped))
        for name, p, g, b in zip(names, params, grads, buffers):
            if "exp_avg" in b:
                z, moments = updates.adam(p, g, b, step=step + 1, lr=adam_rate, betas=adam_betas, eps=adam_eps,
                                          weight_decay=adam_weight_decay, smooth=True)  # fmt: skip
                if name in results:
                    muon_z, average = results[name]
                    z, moments = updates.blend(muon_z, z, cast(Layout, layouts[name])), {**average, **moments}
                results[name] = z, moments
        return [results[name] for name in names]

    return Descent(loss, params, rule, buffer_names, names_of)


class Descent:
    """A descent rule as a `System`; made by `sgd`, `adam` and `muon`.

    Attributes:
        readouts: `"params"`, all parameters in one vector.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], Any],
        params: Any,
        rule: Rule,
        buffer_names: Callable[[str], tuple[str, ...]],
        on_names: Callable[[dict[str, Tensor]], None] | None = None,
    ) -> None:
        if not callable(loss):
            raise TypeError(f"loss is a function (params, input) -> scalar, got {type(loss).__name__}")
        self._module = params if isinstance(params, nn.Module) else None
        self._loss, self._params, self._rule = loss, params, rule
        self._buffer_names, self._on_names = buffer_names, on_names
        self.readouts = {"params": flat}
        if not _is_maker(params):
            self._check(self._initial(None))

    def init(self, input: Any, *, rng: torch.Generator | None = None) -> dict[str, Any]:
        """The initial parameters (copies, connected to the originals if they ask for gradients) and empty buffers."""
        params = self._initial(rng)
        leaves = self._check(params)
        params = tree.clone(params)
        buffers = {name: updates.zeros(leaf, *self._buffer_names(name)) for name, leaf in leaves.items()}
        return {"params": params, "buffers": buffers, "step": torch.tensor(0)}

    def step(self, state: Any, input: Any, *, rng: torch.Generator | None = None) -> dict[str, Any]:
        """W -> W - Z."""
        zs, buffers = self._advance(state, input, rng)
        steps = iter(zs)
        params = tree.map(
            lambda w: (w - next(steps)).to(w.dtype) if w.is_floating_point() else w, state["params"]
        )
        return {"params": params, "buffers": buffers, "step": state["step"] + 1}

    def update(self, state: Any, input: Any, *, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Z of the next step by leaf name: what `curvature.decompose` takes."""
        zs, _ = self._advance(state, input, rng)
        return dict(zip(_floats(state["params"]), zs))

    def loss(self, params: Any, input: Any, *, rng: torch.Generator | None = None) -> Tensor:
        """The loss that is descended, a scalar.

        Raises:
            ValueError: it is not one number.
        """
        value = self._evaluate(params, input, rng)
        if isinstance(value, tuple):
            if len(value) != 2:
                raise ValueError(f"a loss is a scalar or (summed loss, count), got a tuple of {len(value)}")
            value = value[0] / value[1]
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the loss must be one number to be descended, got {found}: return its mean, or (its sum, the count)"
            )
        return value.reshape(())

    def _advance(self, state: Any, input: Any, rng: torch.Generator | None) -> tuple[list[Tensor], Any]:
        leaves = _floats(state["params"])
        names = list(leaves)

        def of(values: list[Tensor]) -> Tensor:
            remaining: Iterator[Tensor] = iter(values)
            return self.loss(
                tree.map(lambda w: next(remaining) if w.is_floating_point() else w, state["params"]),
                input,
                rng=rng,
            )

        grads = _gradient(of, [leaves[name] for name in names])
        buffers = state["buffers"]
        results = self._rule(
            names, [leaves[n] for n in names], grads, [buffers[n] for n in names], state["step"]
        )
        return [z for z, _ in results], {name: new for name, (_, new) in zip(names, results)}

    def _evaluate(self, params: Any, input: Any, rng: torch.Generator | None) -> Any:
        if self._module is None:
            return self._loss(params, input)
        model, loss = self._module, self._loss
        buffers = {f"model.{name}": value.clone() for name, value in model.named_buffers()}
        values = {f"model.{name}": value for name, value in params.items()} | buffers
        call = _Call(model, loss)
        if rng is None or not model.training:
            return torch.func.functional_call(call, values, (input,))
        seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.func.functional_call(call, values, (input,))

    def _initial(self, rng: torch.Generator | None) -> Any:
        if self._module is not None:
            return {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        return self._params(rng) if _is_maker(self._params) else self._params

    def _check(self, params: Any) -> dict[str, Tensor]:
        leaves = _floats(params)
        if not leaves:
            raise ValueError(
                f"params holds no floating-point tensor to train, got {type(params).__name__}: pass a tensor, a nested "
                "dict, list or dataclass of tensors, an nn.Module, or a function of the generator that makes one"
            )
        if self._on_names is not None:
            self._on_names(leaves)
        return leaves


class _Call(nn.Module):
    """loss(model, input) as a module's call, so that `functional_call` reaches the model's own attributes and methods."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.model, self.function = model, loss

    def forward(self, input: Any) -> Any:
        return self.function(self.model, input)


def _gradient(of: Callable[[list[Tensor]], Tensor], at: list[Tensor]) -> list[Tensor]:
    """Gradient of a scalar function of tensors; itself differentiable when torch's grad mode is on."""
    if _transformed():
        return list(torch.func.grad(of)(at))
    differentiable = torch.is_grad_enabled()
    # A view, not detach(): it keeps the tangent of forward-mode differentiation.
    points = [x if differentiable and x.requires_grad else x.view_as(x) for x in at]
    with torch.enable_grad():
        points = [x if x.requires_grad else x.requires_grad_() for x in points]
        value = of(points)
        if not value.requires_grad:
            return [torch.zeros_like(x) for x in at]
        found = torch.autograd.grad(value, points, create_graph=differentiable, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, at)]


def _transformed() -> bool:
    """Whether a torch.func transform (jvp, vjp, vmap) is under way.

    autograd.grad does not work inside one, torch.func.grad does not work inside a checkpointed segment.
    """
    try:
        torch.empty(0).requires_grad_()  # refused inside a transform
    except RuntimeError:
        return True
    return False


def flat(state: Any) -> Tensor:
    """All floating-point parameters of a state in one vector.

    Example:
        >>> flat({"params": {"a": torch.ones(1, 2), "b": torch.zeros(1)}}).tolist()
        [1.0, 1.0, 0.0]
    """
    return torch.cat([leaf.reshape(-1) for leaf in _floats(state["params"]).values()])


def _floats(params: Any) -> dict[str, Tensor]:
    return {path or "params": leaf for path, leaf in tree.leaves(params) if leaf.is_floating_point()}


def _is_maker(params: Any) -> bool:
    return callable(params) and not isinstance(params, nn.Module | Tensor | Mapping)


def _at(schedule: Schedule, step: Any) -> Any:
    return schedule(int(step)) if callable(schedule) else schedule
