"""The protocol that every iterated system follows: `init` and `step`."""

from typing import Any, Protocol, runtime_checkable

import torch

State = Any
"""Any nested dict, list, tuple or dataclass whose tensors are the state; `unrolled.core.tree` walks it."""

Input = Any
"""Whatever a system takes at a step: a tensor, a batch, a phase name, or None."""


@runtime_checkable
class System(Protocol):
    """Something that iterates: x_{t+1} = step(x_t, u_t).

    There is no base class; any object with these two methods is a system. `step` returns a new state and leaves
    its arguments alone. Leaves that depend on the input carry the batch first; shared leaves (weights, moments)
    do not. `check_system` tests a system against this contract.

    Three optional attributes make a system faster or more convenient; `rollout` looks for them by name:

    * `donates = True`: `step` may overwrite the state it is handed (rings, caches). `rollout` then clones the
      state it was given once, clones what it records, and refuses gradients.
    * `readouts`: mapping name -> function of the state; `rollout(record=["name"])` records them.
    * `run(state, inputs, steps, *, rng=None, record=None)`: a fused stretch of steps. `inputs` is a list with one
      input per step. Without `record` it returns the state after `steps` steps; with `record`, a list of
      `readouts` names, it returns `(state, {name: [steps, ...]})` with each readout after every step. It must
      equal stepping.

    Example:
        >>> class Doubling:
        ...     def init(self, input, *, rng=None):
        ...         return torch.ones(1)
        ...     def step(self, state, input, *, rng=None):
        ...         return 2 * state
        >>> isinstance(Doubling(), System)
        True
    """

    def init(self, input: Input, *, rng: torch.Generator | None = None) -> State:
        """Make the state at t = 0 from the input of step 0."""
        ...

    def step(self, state: State, input: Input, *, rng: torch.Generator | None = None) -> State:
        """Make the next state."""
        ...
