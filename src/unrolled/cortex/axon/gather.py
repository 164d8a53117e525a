"""Spikes to conductances for all paths at once: rows of the weights of the few senders that spiked, summed.

On a CPU one `embedding_bag` per block reads only the rows that spiked, so a cycle costs as many rows as there are
spikes. Elsewhere it is one dense product per block. Small networks are a single block of all neurons by all neurons,
larger ones have a block per sending layer with its receivers side by side.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from unrolled.cortex.axon.paths import Path
    from unrolled.cortex.network import Network

SMALL = 1024
"""Networks up to this many neurons are one block."""


class Gather:
    """Sends spikes along the paths of one conductance and one delay, with the weights of now.

    Args:
        net: the network.
        paths: its paths of that conductance and delay.
        delay: their delay, cycles.
        n: neurons in a row of the buffers, those of padding included.
    """

    def __init__(self, net: "Network", paths: list["Path"], delay: int, n: int) -> None:
        self.delay, self.n = delay, n
        self.dense = net.like.device.type != "cpu"
        small = net.n <= SMALL
        senders = {} if small else {path.send.name: path.send for path in paths}
        self.blocks: list[_Block] = []
        if small:
            places = {path.name: (path.send.part, path.recv.part) for path in paths}
            self.blocks.append(_Block(slice(0, n), paths, places, n))
        for name, layer in senders.items():
            mine = [path for path in paths if path.send.name == name]
            places, end = {}, 0
            for path in mine:
                places[path.name] = (slice(0, layer.n), slice(end, end + path.recv.n))
                end += path.recv.n
            self.blocks.append(_Block(layer.part, mine, places, end))
        self.refresh(net)

    def refresh(self, net: "Network") -> None:
        """Take over the weights, times the scale of each path."""
        for block in self.blocks:
            if block.matrix is None:
                rows = block.part.stop - block.part.start
                block.matrix = torch.zeros(rows, block.width, dtype=net.like.dtype, device=net.like.device)
            for path in block.paths:
                torch.mul(path.wt, net.scale[path.name], out=block.matrix[block.places[path.name]])

    def send(self, spike: Tensor, ring: Tensor, cycle: int, first: bool) -> None:
        """Write what these spikes bring into the ring.

        Args:
            spike: `[data, neurons]`, 0 or 1.
            ring: `[slots, data, neurons]`; slot `t % slots` is read in cycle t.
            cycle: the cycle of the spikes.
            first: the longest delay, whose turn it is to overwrite what was read; the others add.
        """
        slot = ring[(cycle + self.delay + 1) % len(ring)]
        whole = len(self.blocks) == 1 and self.blocks[0].width == self.n
        if first and not whole:
            slot.zero_()
        for block in self.blocks:
            made = self._product(spike[:, block.part], block.matrix)
            if whole:
                slot.copy_(made) if first else slot.add_(made)
                continue
            for path in block.paths:
                slot[:, path.recv.part] += made[:, block.places[path.name][1]]

    def _product(self, spike: Tensor, matrix: Tensor) -> Tensor:
        if self.dense:
            return spike @ matrix
        data = len(spike)
        if data == 1:
            rows = spike[0].nonzero().flatten()
            return torch.embedding_bag(matrix, rows, rows.new_zeros(1), False, 0, False, None)[0]
        where = spike.nonzero()
        offsets = where.new_zeros(data)
        torch.cumsum(spike.sum(1).to(where.dtype)[:-1], 0, out=offsets[1:])
        return torch.embedding_bag(matrix, where[:, 1].contiguous(), offsets, False, 0, False, None)[0]


class _Block:
    """Rows of the neurons in `part`; each path's weights sit at its place."""

    def __init__(
        self, part: slice, paths: list["Path"], places: dict[str, tuple[slice, slice]], width: int
    ) -> None:
        self.part, self.paths, self.places, self.width = part, paths, places, width
        self.matrix: Tensor = None  # pyright: ignore[reportAttributeAccessIssue]
