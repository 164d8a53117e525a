"""`optim.Muon`: Muon on the matrices of a recipe, AdamW on everything else, in one `torch.optim.Optimizer`.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
>>> optimizer = Muon(model, lr=0.02, adam_lr=1e-3)
>>> optimizer.assignment()
{'0.weight': 'muon', '2.weight': 'muon', '0.bias': 'adamw', '2.bias': 'adamw'}
"""

from collections.abc import Callable, Iterator
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from unrolled.optim import polar as polars
from unrolled.optim import recipes, updates
from unrolled.optim.recipes import Fused, Layout, Recipe

_CHUNK = 2**26  # entries whose Z is held at a time: 256 MB in float32

_ADAM = ("lr", "betas", "eps", "weight_decay")


class Muon(torch.optim.Optimizer):
    """Muon and auxiliary AdamW as one optimizer, with one `state_dict`.

    The arithmetic is that of `unrolled.optim.updates`, shared with the system `optim.muon`. Matrices of one shape go
    through the polar factor as one batch. `p.grad` is left as it was. Buffers of 16-bit parameters are float32, and stay
    so through `load_state_dict`.

    Each group of parameters becomes up to three: Muon's, AdamW's, and fused projections that a recipe shares between
    the two; each has its own `lr`, so learning-rate schedulers scale them all alike.

    Args:
        params: the model; or its `named_parameters()`; or a list of groups, dicts with `"params"` (named) and any of the
            options below; or groups of plain tensors that say `"muon": True` or `False` themselves.
        lr: Muon's learning rate, before the scale rule.
        momentum: of the average of gradients.
        nesterov: look ahead.
        polar: `"svd"`, `"ns5"`, `"polar_express"` or `"ns12"` (see `optim.polar`).
        scale: `"original"`, `"match_rms_adamw"`, `"spectral"` or `"none"` (see `updates.scale_factor`).
        weight_decay: Muon's, decoupled, with the learning rate before the scale rule.
        recipe: which matrices get Muon (see `optim.recipes`).
        adam_lr: learning rate of AdamW.
        adam_betas: its betas.
        adam_eps: its eps.
        adam_weight_decay: its weight decay.
        fused: how fused projections are cut (see `optim.recipes`).
        head_size: rows per head, to give each head of Q, K and V a polar factor of its own.
        polar_dtype: dtype of the polar iteration (see `optim.polar`); `torch.bfloat16` makes it that of
            `torch.optim.Muon`.

    Raises:
        ValueError: a hyperparameter out of range; an unknown name of a recipe, polar or scale; a recipe that gives Muon
            no matrix or a vector; parameters without names where a recipe needs them.
        TypeError: a complex parameter.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = Muon([("w", w)], lr=0.5, polar="svd")
        >>> (w - torch.tensor([[0.0, 3.0], [1.0, 0.0]])).square().sum().backward()
        >>> optimizer.step()
        >>> w.data.round(decimals=4) + 0.0
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.02,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        polar: str = "ns5",
        scale: str = "original",
        weight_decay: float = 0.0,
        recipe: Recipe = "all",
        adam_lr: float | Tensor = 3e-4,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        adam_eps: float = 1e-8,
        adam_weight_decay: float = 0.0,
        fused: Fused = "split",
        head_size: int | None = None,
        polar_dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "polar": polar, "scale": scale,
            "weight_decay": weight_decay, "polar_dtype": polar_dtype, "betas": adam_betas, "eps": adam_eps,
        }  # fmt: skip
        self._options: dict[str, Any] = {
            "recipe": recipe, "fused": fused, "head_size": head_size, "adam_lr": adam_lr, "adam_betas": adam_betas,
            "adam_eps": adam_eps, "adam_weight_decay": adam_weight_decay,
            "embeddings": recipes.embedding_names(params),
        }  # fmt: skip
        groups = [{"params": params.named_parameters()}] if isinstance(params, nn.Module) else _groups(params)
        super().__init__(groups, defaults)
        if all(group["kind"] == "adamw" for group in self.param_groups):
            names = [n for g in self.param_groups for n in g.get("param_names", range(len(g["params"])))]
            recipes.refuse_empty({str(name): None for name in names}, recipe)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters: they are dealt out to Muon and AdamW by the recipe, or by the group's own `"muon"`.

        Args:
            param_group: `"params"`, and any option of the class for these parameters.

        Raises:
            ValueError: as for the class; unknown options.
        """
        group = dict(param_group)
        given = group.pop("params")
        given = [given] if isinstance(given, Tensor) else list(given)
        options = {**self._options, **{key: group.pop(key) for key in list(group) if key in self._options}}
        choice = group.pop("muon", None)
        unknown = set(group) - set(self.defaults) - {"initial_lr"}
        if unknown:
            raise ValueError(
                f"unknown options of a parameter group: {', '.join(sorted(unknown))}; there are "
                f"{', '.join([*self.defaults, *self._options, 'muon'])}"
            )
        shared = {**self.defaults, **group}
        updates.check_hyperparameters(
            **{key: shared[key] for key in ("lr", "momentum", "weight_decay")},
            **{f"adam_{key}": options[f"adam_{key}"] for key in _ADAM},
        )
        updates.scale_factor(shared["scale"], 1, 1)
        polars.check_method(shared["polar"])
        dealt: dict[str, list[tuple[Any, Layout | None]]] = {"muon": [], "adamw": [], "mixed": []}
        for item, layout in zip(given, _deal(given, choice, options)):
            dealt[_kind(layout)].append((item, layout))
        for kind, members in dealt.items():
            if not members:
                continue
            values = dict(shared)
            if kind == "adamw":
                values |= {key: options[f"adam_{key}"] for key in _ADAM}
            elif kind == "mixed":
                values |= {"betas": options["adam_betas"], "eps": options["adam_eps"]}
                values["adam_lr_ratio"] = _ratio(options["adam_lr"], shared["lr"])
                values["adam_weight_decay"] = options["adam_weight_decay"]
            layouts = [layout for _, layout in members]
            super().add_param_group(
                {**values, "kind": kind, "params": [i for i, _ in members], "layouts": layouts}
            )

    def assignment(self) -> dict[str, str]:
        """Name (or position) of each parameter -> `"muon"`, `"adamw"`, or `"mixed"` for a projection shared by both."""
        found: dict[str, str] = {}
        for group in self.param_groups:
            names = group.get("param_names") or [""] * len(group["params"])
            found |= {name or str(len(found) + i): group["kind"] for i, name in enumerate(names)}
        return found

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """W -> W - Z for every parameter that has a gradient.

        Args:
            closure: evaluates the model anew and returns the loss.

        Raises:
            RuntimeError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            members = [
                (p, layout) for p, layout in zip(group["params"], group["layouts"]) if p.grad is not None
            ]
            if any(p.grad.is_sparse for p, _ in members):
                raise RuntimeError(
                    "Muon and its AdamW need dense gradients: build the embedding with sparse=False"
                )
            if group["kind"] == "adamw":
                for p, _ in members:
                    p.sub_(self._adam(p, group, group["lr"], group["weight_decay"]))
            else:
                for chunk in _chunks(members):
                    self._muon(chunk, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            ValueError: it was saved under another recipe or for other parameters.
        """
        saved_groups = state_dict["param_groups"]
        for key in ("kind", "param_names", "layouts"):
            saved, here = (
                [_plain(g.get(key)) for g in groups] for groups in (saved_groups, self.param_groups)
            )
            if saved != here and not (key == "param_names" and None in saved + here):
                raise ValueError(
                    f"this state was saved by a Muon whose groups differ in {key}: saved {str(saved)[:120]}, here "
                    f"{str(here)[:120]}; build the optimizer with the parameters, recipe, fused= and head_size= of then"
                )
        super().load_state_dict(state_dict)
        # torch casts floating-point state to the dtype of the parameter; buffers of 16-bit parameters must stay float32.
        parameters = [p for group in self.param_groups for p in group["params"]]
        numbers = [number for group in saved_groups for number in group["params"]]
        for number, p in zip(numbers, parameters):
            for name, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor) and value.dtype != self.state[p][name].dtype:
                    self.state[p][name] = value.detach().clone().to(p.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_options": self._options}

    def _muon(self, members: list[tuple[Tensor, Layout]], group: dict[str, Any]) -> None:
        params, layouts = [p for p, _ in members], [layout for _, layout in members]
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p].update(updates.zeros(p, "momentum"))
        results = updates.muon_all(
            params, [cast(Tensor, p.grad) for p in params], [self.state[p] for p in params], layouts,
            **{key: group[key] for key in ("lr", "momentum", "nesterov", "polar", "scale", "weight_decay", "polar_dtype")},
        )  # fmt: skip
        for p, layout, (z, buffers) in zip(params, layouts, results):
            self.state[p].update(buffers)
            if group["kind"] == "mixed":
                rate = group["lr"] * group["adam_lr_ratio"]
                z = updates.blend(z, self._adam(p, group, rate, group["adam_weight_decay"]), layout)
            p.sub_(z)

    def _adam(self, p: Tensor, group: dict[str, Any], lr: Any, weight_decay: float) -> Tensor:
        state = self.state[p]
        if "exp_avg" not in state:
            state.update({**updates.zeros(p, "exp_avg", "exp_avg_sq"), "step": torch.tensor(0.0)})
        state["step"] = state["step"] + 1
        z, buffers = updates.adam(
            p, cast(Tensor, p.grad), state, step=int(state["step"]), lr=lr, betas=group["betas"], eps=group["eps"],
            weight_decay=weight_decay,
        )  # fmt: skip
        state.update(buffers)
        return z


def _groups(params: Any) -> list[dict[str, Any]]:
    """Whatever was passed, as a list of groups."""
    if isinstance(params, Tensor):
        raise ValueError("params is a model, its named_parameters(), or a list of groups; got one tensor")
    given = list(params)
    if given and all(isinstance(item, dict) for item in given):
        return given
    return [{"params": given}] if given else []


def _deal(given: list[Any], choice: Any, options: dict[str, Any]) -> list[Layout | None]:
    """The layout of each parameter of a group, None for AdamW."""
    named = all(isinstance(item, tuple) for item in given)
    tensors = [item[1] if isinstance(item, tuple) else item for item in given]
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.is_complex():
            raise TypeError(
                f"Muon needs real parameters, got {tensor.dtype}: view them with torch.view_as_real"
            )
    if choice is not None and not choice:
        return [None] * len(given)
    if choice and not named:
        return [recipes.whole(tensor) for tensor in tensors]
    if not named:
        raise ValueError(
            "a recipe reads parameter names, and these parameters have none: pass the model, model.named_parameters(), or "
            'groups that say {"params": [...], "muon": True} or False themselves'
        )
    recipe: Recipe = (lambda name, parameter: True) if choice else options["recipe"]
    layouts = recipes.assign(
        dict(given), recipe, fused=options["fused"], head_size=options["head_size"],
        embeddings=options["embeddings"], must_find=False,
    )  # fmt: skip
    return [layouts[name] for name, _ in given]


def _kind(layout: Layout | None) -> str:
    if layout is None:
        return "adamw"
    return "muon" if all(part[-1] for part in layout) else "mixed"


def _ratio(adam_lr: Any, lr: Any) -> float:
    if not lr > 0:
        raise ValueError(
            "a fused projection shared by Muon and AdamW takes its AdamW rate as a fixed multiple of lr, which must then "
            f"start above 0, got {lr}: leave warm-up to a scheduler"
        )
    return float(adam_lr / lr)


def _chunks(members: list[tuple[Tensor, Layout]]) -> Iterator[list[tuple[Tensor, Layout]]]:
    """Members with like shapes together, a bounded number of entries at a time."""
    chunk: list[tuple[Tensor, Layout]] = []
    for member in sorted(members, key=lambda m: sorted(m[0].shape)):
        if chunk and sum(p.numel() for p, _ in chunk) + member[0].numel() > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(member)
    if chunk:
        yield chunk


def _plain(value: Any) -> Any:
    """Tuples and lists alike."""
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
