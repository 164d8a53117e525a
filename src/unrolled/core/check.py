"""`check_system`: the contract of a system, as tests that anyone can run on their own class."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from unrolled.core import tree
from unrolled.core.rollout import input_function, rollout
from unrolled.core.seeds import RngState, generator
from unrolled.core.trajectory import Trajectory


@dataclass(frozen=True)
class Check:
    """One clause of the contract: its name, `"pass"`, `"fail"` or `"skip"`, and why."""

    name: str
    status: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status:4}  {self.name}" + (f": {self.detail}" if self.detail else "")


class SystemCheckError(AssertionError):
    """A system breaks its contract; `checks` holds every clause."""

    def __init__(self, name: str, checks: list[Check]) -> None:
        self.checks = checks
        broken = [f"  {check.name}: {check.detail}" for check in checks if check.status == "fail"]
        super().__init__("\n".join([f"{name} breaks {len(broken)} of {len(checks)} clauses:", *broken]))


class _Skip(Exception):
    """A clause that says nothing about this system; the message says why."""


def check_system(
    system: Any,
    input: Any = None,
    *,
    steps: int = 4,
    seed: int = 0,
    skip: Iterable[str] = (),
    raises: bool = True,
) -> list[Check]:
    """Test a system against the contract of `System`.

    The clauses: `methods` (init and step exist and take `rng=`), `state` (tensors, finite), `shapes` (a step keeps
    structure, shapes, dtypes and devices), `purity` (arguments untouched; global generators untouched when `rng` is
    given), `determinism` (same seed, same trajectory), `batch` (a row alone equals that row in a batch), `gradient`
    (finite where defined), `resume` (stop, save, load, go on equals uninterrupted, bit for bit), `run` (fused equals
    stepping), `donates` (equal to stepping on a clone).

    Args:
        system: the system.
        input: an input as `rollout` takes it. Give a batch of at least 2 to have `batch` checked.
        steps: length of the test rollouts, at least 2.
        seed: of the generators handed to the system.
        skip: clauses to leave out.
        raises: raise when a clause fails.

    Returns:
        Every clause with its status.

    Raises:
        SystemCheckError: a clause failed and `raises` is set; it lists all failures.
        ValueError: fewer than two steps, or an unknown clause to skip.

    Example:
        >>> class Walk:
        ...     def init(self, input, *, rng=None):
        ...         return torch.zeros(3)
        ...     def step(self, state, input, *, rng=None):
        ...         return state + torch.randn(3, generator=rng)
        >>> [check.name for check in check_system(Walk()) if check.status == "fail"]
        []
    """
    skip = set(skip)
    if steps < 2 or not skip <= _CLAUSES.keys():
        raise ValueError(
            f"check_system takes 2 steps or more (got {steps}) and skips of {', '.join(_CLAUSES)} (got {skip})"
        )
    case = _Case(system, input, steps, seed, _pristine(system))
    checks: list[Check] = []
    for name, clause in _CLAUSES.items():
        try:
            if name in skip:
                raise _Skip("left out on request")
            with torch.no_grad():
                clause(case)
            checks.append(Check(name, "pass"))
        except _Skip as reason:
            checks.append(Check(name, "skip", str(reason)))
        except AssertionError as error:
            checks.append(Check(name, "fail", str(error)))
        except Exception as error:  # a user's code may raise anything; the clause reports it
            checks.append(Check(name, "fail", f"raised {type(error).__name__}: {error}"))
        if name == "methods" and checks[-1].status == "fail":
            break
    if raises and any(check.status == "fail" for check in checks):
        raise SystemCheckError(type(system).__name__, checks)
    return checks


@dataclass
class _Case:
    system: Any
    input: Any
    steps: int
    seed: int
    fresh: Any
    """A copy of the system that has taken no step: another process, which knows nothing but the saved state."""

    def input_at(self, step: int) -> Any:
        return input_function(self.input)(step)

    def init(self, rng: torch.Generator | None = None) -> Any:
        return self.system.init(self.input_at(0), rng=rng or generator(self.seed))

    def after(self, steps: int, state: Any = None, start: int = 0, rng: torch.Generator | None = None) -> Any:
        """The state after some steps, taken by hand."""
        rng = rng or generator(self.seed)
        state = self.init(rng) if state is None else state
        for step in range(start, start + steps):
            state = self.system.step(state, self.input_at(step), rng=rng)
        return state


def _methods(case: _Case) -> None:
    for name in ("init", "step"):
        assert callable(getattr(case.system, name, None)), f"there is no {name}(); see unrolled.System"
    try:
        case.after(1)
    except TypeError as error:
        raise AssertionError(
            f"expected init(input, *, rng=None) and step(state, input, *, rng=None): {error}"
        ) from error


def _state(case: _Case) -> None:
    found = case.init()
    assert tree.leaves(found), (
        f"init returned {type(found).__name__} without any tensor; a state is a tree of tensors"
    )
    bad = [path or "state" for path, leaf in tree.leaves(case.after(case.steps)) if _nonfinite(leaf)]
    assert not bad, f"not finite after {case.steps} steps: {', '.join(bad)}"


def _shapes(case: _Case) -> None:
    def looks(state: Any) -> list[tuple[Any, ...]]:
        return [(path or "state", tuple(x.shape), x.dtype, str(x.device)) for path, x in tree.leaves(state)]

    before, after = looks(case.init()), looks(case.after(1))
    assert [b[0] for b in before] == [a[0] for a in after], (
        f"a step changed the structure: {before} to {after}"
    )
    changed = [f"{b[0]} from {b[1:]} to {a[1:]}" for b, a in zip(before, after) if b != a]
    assert not changed, f"a step changed shape, dtype or device: {'; '.join(changed)}"


def _purity(case: _Case) -> None:
    rng, world = generator(case.seed), RngState.capture()
    given = {"state": case.init(rng), "input": case.input_at(0)}
    before = tree.clone(given)
    case.system.step(given["state"], given["input"], rng=rng)
    untouched = torch.equal(world.torch, torch.get_rng_state())
    world.restore()
    checked = ("input",) if getattr(case.system, "donates", False) else ("state", "input")
    changed = [name for name in checked if _differing(given[name], before[name])]
    assert not changed, (
        f"step changed its {' and '.join(changed)} in place: return a new state, or set donates = True"
    )
    assert untouched, "step drew from torch's global generator although rng was given: pass generator=rng"


def _determinism(case: _Case) -> None:
    differing = _differing(case.after(case.steps), case.after(case.steps))
    assert not differing, f"two runs with the same seed differ in {', '.join(differing)}"


def _batch(case: _Case) -> None:
    rows = {len(leaf) for _, leaf in tree.leaves(case.input) if leaf.ndim}
    if callable(case.input) or isinstance(case.input, list) or len(rows) != 1 or min(rows) < 2:
        raise _Skip("the input is not one batch of at least 2 rows")
    alone = replace(case, input=tree.map(_first_row, case.input))
    rng, fresh = torch.Generator().manual_seed(case.seed), torch.Generator().manual_seed(case.seed)
    case.after(1, rng=rng)
    if not torch.equal(rng.get_state(), fresh.get_state()):
        raise _Skip("the system draws random numbers, whose order depends on the batch")
    whole, one = case.after(case.steps), dict(tree.leaves(alone.after(case.steps)))
    batched = [
        (p, x)
        for p, x in tree.leaves(whole)
        if x.ndim and len(x) in rows and one[p].ndim and len(one[p]) == 1
    ]
    if not batched:
        raise _Skip("no leaf of the state carries the batch first")
    for path, x in batched:
        assert _close(x[:1], one[path]), f"row 0 of {path or 'state'} depends on the other rows"


def _gradient(case: _Case) -> None:
    if getattr(case.system, "donates", False):
        raise _Skip("a donating system has no gradients")
    with torch.enable_grad():
        start = tree.map(_leaf_with_grad, case.init())
        inputs = [(path or "state", leaf) for path, leaf in tree.leaves(start) if leaf.requires_grad]
        end = [leaf for _, leaf in tree.leaves(case.after(2, start)) if leaf.requires_grad]
        if not inputs or not end:
            raise _Skip("no gradient flows from state to state")
        total = torch.stack([leaf.abs().pow(2).sum() for leaf in end]).sum()
        grads = torch.autograd.grad(total, [leaf for _, leaf in inputs], allow_unused=True)
    bad = [path for (path, _), g in zip(inputs, grads) if tree.is_a(g, Tensor) and _nonfinite(g)]
    assert not bad, f"the gradient with respect to {', '.join(bad)} is not finite"


def _resume(case: _Case) -> None:
    half, rng = case.steps // 2, torch.Generator().manual_seed(case.seed)
    state = case.after(half, rng=rng)
    with TemporaryDirectory() as folder:
        path = Trajectory(torch.tensor([half]), {}, state).save(Path(folder) / "state.safetensors")
        loaded = Trajectory.load(path, like=state).final
    elsewhere = replace(case, system=case.fresh)
    differing = _differing(elsewhere.after(case.steps - half, loaded, half, rng), case.after(case.steps))
    assert not differing, f"stop, save, load and go on differs from going on in {', '.join(differing)}"


def _run(case: _Case) -> None:
    if not callable(getattr(case.system, "run", None)):
        raise _Skip("there is no fused run")
    rng, inputs = generator(case.seed), [case.input_at(step) for step in range(case.steps)]
    fused = case.system.run(case.init(rng), inputs, case.steps, rng=rng)
    for (path, x), (_, y) in zip(tree.leaves(fused), tree.leaves(case.after(case.steps))):
        assert _close(x, y), f"run() differs from stepping in {path or 'state'}"
    readouts: dict[str, Any] = getattr(case.system, "readouts", {})
    recorded = rollout(case.system, inputs, case.steps, record=list(readouts), rng=case.seed)
    for step in range(case.steps + 1):
        state = case.after(step)
        for name, fn in readouts.items():
            assert _close(recorded[name][step], fn(state)), (
                f"run(record=[{name!r}]) differs from stepping at step {step}"
            )


def _donates(case: _Case) -> None:
    if not getattr(case.system, "donates", False):
        raise _Skip("the system does not donate")
    rng, state = generator(case.seed), None
    state = case.init(rng)
    for step in range(case.steps):
        state = case.system.step(tree.clone(state), case.input_at(step), rng=rng)
    differing = _differing(case.after(case.steps), state)
    assert not differing, (
        f"stepping on the donated state differs from stepping on a clone in {', '.join(differing)}"
    )


_CLAUSES: dict[str, Callable[[_Case], None]] = {
    "methods": _methods,
    "state": _state,
    "shapes": _shapes,
    "purity": _purity,
    "determinism": _determinism,
    "batch": _batch,
    "gradient": _gradient,
    "resume": _resume,
    "run": _run,
    "donates": _donates,
}


def _first_row(leaf: Tensor) -> Tensor:
    return leaf[:1] if leaf.ndim else leaf


def _leaf_with_grad(leaf: Tensor) -> Tensor:
    return leaf.detach().clone().requires_grad_(leaf.is_floating_point())


def _pristine(system: Any) -> Any:
    """A deep copy, or the system itself where it cannot be copied."""
    try:
        return copy.deepcopy(system)
    except Exception:  # an open handle, a lock, a graph: whatever the system holds
        return system


def _nonfinite(leaf: Tensor) -> bool:
    return not bool(torch.isfinite(leaf).all())


def _differing(x: Any, y: Any) -> list[str]:
    """Paths of leaves that are not equal bit for bit (a NaN equals a NaN)."""
    pairs = zip(tree.leaves(x), tree.leaves(y))
    return [
        path or "state"
        for (path, a), (_, b) in pairs
        if a.shape != b.shape or not ((a == b) | ((a != a) & (b != b))).all()
    ]


def _close(x: Tensor, y: Any) -> bool:
    """Equal to a thousand roundings of the dtype, relative to the largest entry: kernels may sum in another order."""
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if not (x.is_floating_point() or x.is_complex()):
        return torch.equal(x, y)
    tolerance = 1000 * torch.finfo(x.dtype).eps
    return not x.numel() or bool((x - y).abs().max() <= tolerance * (1 + y.abs().max()))
