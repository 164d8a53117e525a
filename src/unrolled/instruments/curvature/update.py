# pyright: reportUnnecessaryIsInstance=false
"""Check an update Z against the model it is for."""

import difflib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unrolled.instruments.curvature.groups import Scope, in_scope, trainable


def resolve(model: nn.Module, update: Mapping[str, Tensor], scope: Scope = "all") -> dict[str, Tensor]:
    """The part of Z that is in scope, under the names of `trainable(model)`, on the parameters' devices.

    A frozen parameter may be named if its Z is zero; it is left out. Either name of a tied weight will do.

    Raises:
        KeyError: a name that is not a parameter.
        TypeError: not a mapping of tensors.
        ValueError: empty, a wrong shape, not finite, a weight named twice, a frozen parameter that moves, or nothing
            in scope.

    Example:
        >>> resolve(nn.Linear(1, 1), {"wieght": torch.ones(1, 1)})
        Traceback (most recent call last):
        ...
        KeyError: "update names 'wieght', which is not a parameter; did you mean 'weight'?"
    """
    if not isinstance(update, Mapping):
        raise TypeError(
            f"update is a mapping from parameter name to Z (W -> W - Z), got {type(update).__name__}"
        )
    if not update:
        raise ValueError(
            "update is empty; expected parameter name -> Z (W -> W - Z) for at least one parameter"
        )
    aliases = dict(model.named_parameters(remove_duplicate=False))
    first = {id(p): name for name, p in model.named_parameters()}
    wanted = set(in_scope(model, scope))
    live = trainable(model)
    chosen: dict[str, Tensor] = {}
    named: dict[str, str] = {}
    for name, z in update.items():
        if name not in aliases:
            near = difflib.get_close_matches(name, aliases, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"the model has {', '.join(list(aliases)[:4])}, ..."
            )
            raise KeyError(f"update names {name!r}, which is not a parameter; {hint}")
        p = aliases[name]
        if not isinstance(z, Tensor):
            raise TypeError(
                f"update[{name!r}] is a {type(z).__name__}; expected a tensor of shape {tuple(p.shape)}"
            )
        if z.shape != p.shape:
            raise ValueError(
                f"update[{name!r}] has shape {tuple(z.shape)}; the parameter has {tuple(p.shape)}"
            )
        if not bool(torch.isfinite(z).all()):
            raise ValueError(f"update[{name!r}] has entries that are not finite")
        canonical = first[id(p)]
        if canonical in named:
            raise ValueError(
                f"update names one tied weight twice, as {named[canonical]!r} and {name!r}; give its Z once"
            )
        named[canonical] = name
        if canonical not in live:
            if bool(z.any()):
                raise ValueError(
                    f"update moves {name!r}, which is frozen (requires_grad=False); leave it out or unfreeze it"
                )
            continue
        if canonical in wanted:
            chosen[canonical] = z.detach().to(p.device)
    if not chosen:
        raise ValueError(
            f"none of the {len(update)} parameters in update is trainable and in scope={scope!r}; there is no step "
            "to account for"
        )
    return chosen


def rounding_note(params: Sequence[Tensor], z: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[str, ...]:
    """A note when W - Z, rounded to the parameters' own format, is not the step that was asked for.

    Example:
        >>> w, z = torch.ones(4, dtype=torch.bfloat16), torch.full((4,), 0.001)
        >>> rounding_note([w], [z], [(w.float() - z).bfloat16()])[0][:47]
        'bfloat16 parameters cannot hold W - Z: the step'
    """
    low = [(p, v, a) for p, v, a in zip(params, z, after) if p.dtype in (torch.bfloat16, torch.float16)]
    if not low:
        return ()
    asked = sum(float(v.detach().double().square().sum()) for _, v, _ in low)
    missed = sum(float((p.detach().double() - a.double() - v.double()).square().sum()) for p, v, a in low)
    share = (missed / asked) ** 0.5 if asked else 0.0
    if share < 0.01:
        return ()
    name = str(low[0][0].dtype).removeprefix("torch.")
    return (
        f"{name} parameters cannot hold W - Z: the step they take differs from Z by {share:.0%} of its norm, and "
        "`actual` is that of the step they take; pass the realised difference as the update",
    )
