"""The cell's equations compiled by `torch.compile`: one kernel for what the eager cycle does in many.

The equations are those of `unrolled.cortex.axon.cell`, with vectors over all neurons in place of a layer's numbers. This
is for GPUs, where a cycle's time is its launches. On a CPU it gains nothing over the eager cycle (measured: 0.32 to 0.47
against 0.35 ms a cycle for 250 neurons, 25 against 22 ms for 5,120 neurons x 64) and takes 15 to 25 s to compile.
"""

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.cortex.axon import cell

if TYPE_CHECKING:
    from unrolled.cortex.axon.cycle import Cycle
    from unrolled.cortex.network import Network

READ = (
    "GeRaw", "GeExt", "GnmdaSyn", "GnmdaLrn", "VgccM", "VgccH", "GknaMed", "GknaSlow", "Vm", "VmDend", "MahpN", "SahpN",
    "GababM", "GababX", "Spike", "ISI", "ISIAvg", "Act", "ActInt", "CaM", "CaP", "CaD", "CaSyn", "CaDPrev", "VgccCaInt",
    "LearnCaM", "LearnCaP", "LearnCaD", "ETrace", "ETrLearn", "Gi",
)  # fmt: skip
"""Variables that the equations read."""

WRITTEN = (
    "GeExt", "GnmdaSyn", "GnmdaLrn", "VgccM", "VgccH", "GknaMed", "GknaSlow", "Vm", "VmDend", "MahpN", "GababM", "GababX",
    "Spike", "ISI", "ISIAvg", "Act", "ActInt", "CaM", "CaP", "CaD", "CaSyn", "VgccCaInt", "LearnCaM", "LearnCaP",
    "LearnCaD", "ETrace", "ETrLearn", "Ge", "Gk",
)  # fmt: skip
"""Variables that they make anew."""


class Compiled:
    """The cell of a network, compiled at its first cycle.

    Args:
        net: the network.
        n: neurons in a row of the buffers, those of padding included.
        backend: of `torch.compile`.
    """

    def __init__(self, net: "Network", n: int, backend: str = "inductor") -> None:
        layers = [(x.n, x.params) for x in net.layers.values()]
        layers.append((n - net.n, layers[0][1]))
        self.params = _vectors([p for _, p in layers], [k for k, _ in layers], net.like)
        self.etrace = any(p.learn_ca.etrace_scale > 0 for _, p in layers)
        self.kernel = torch.compile(self.equations, backend=backend, dynamic=True, fullgraph=True)

    def equations(
        self, rows: list[Tensor], ge_syn: Tensor, ssgi: Tensor, ext: Tensor, clamped: Tensor, plus: bool
    ) -> list[Tensor]:
        """One cycle of every neuron: variables `READ` to `WRITTEN`."""
        s = dict(zip(READ, rows)) | {"GeSyn": ge_syn, "SSGiDend": ssgi}
        cell.conductances(self.params, s, ext, clamped > 0)
        cell.membrane(self.params, s)
        cell.calcium(self.params, s, plus, self.etrace)
        return [s[name] for name in WRITTEN]

    def __call__(self, cycle: "Cycle", plus: bool) -> None:
        """Advance the buffers of a chunk."""
        rows = [cycle.row[name] for name in READ]
        made = self.kernel(rows, cycle.ge_syn, cycle.gi[1], cycle.ext, cycle.clamped, plus)
        torch._foreach_copy_([cycle.row[name] for name in WRITTEN], made)


def compiled(net: "Network", n: int, backend: str = "inductor") -> Compiled | None:
    """The compiled cell, or None with a warning where `torch.compile` does not work (no compiler, say)."""
    made = Compiled(net, n, backend)
    try:
        zero = net.like.new_zeros(1, n)
        made.kernel([zero] * len(READ), zero, zero, zero, zero[0], False)
    except Exception as error:  # whatever the backend raises: the eager cycle does the same
        warnings.warn(
            f"torch.compile does not work here ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
            "the cycle runs without it",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    return made


def _vectors(sheets: list[Any], sizes: list[int], like: Tensor) -> Any:
    """A sheet like the others whose numbers are vectors over their neurons; flags are the first sheet's."""
    made = object.__new__(type(sheets[0]))
    for field in dataclasses.fields(sheets[0]):
        values = [getattr(sheet, field.name) for sheet in sheets]
        if dataclasses.is_dataclass(values[0]):
            value = _vectors(values, sizes, like)
        elif isinstance(values[0], bool):
            value = values[0]
        else:
            value = torch.cat([like.new_full((k,), float(v)) for k, v in zip(sizes, values)])
        object.__setattr__(made, field.name, value)  # the checks of numbers are done
    return made
