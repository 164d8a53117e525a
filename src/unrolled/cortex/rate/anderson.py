"""Anderson acceleration: the next state from the last few sweeps, each sample for itself."""

import torch
from torch import Tensor


class Anderson:
    """Extrapolates a fixed-point iteration x -> g(x).

    x_next = sum_i a_i g(x_i), with the a_i (sum 1) that make sum_i a_i (g(x_i) - x_i) smallest over the last `window`
    sweeps (Anderson 1965; Walker & Ni 2011). Coefficients are found for each sample, which keeps a batch equal to its
    samples one by one.

    Args:
        window: sweeps to remember, at least 1; each costs two network states.
        ridge: relative regularization of the small least-squares problem.

    Raises:
        ValueError: a window below 1.

    Example:
        A linear map is solved exactly from one earlier sweep: x -> 0.5 x + 1 has the fixed point 2.

        >>> memory, x = Anderson(1), torch.zeros(1, 1, dtype=torch.float64)
        >>> x = memory.next([0.5 * x + 1], [x])[0]
        >>> x = memory.next([0.5 * x + 1], [x])[0]
        >>> round(float(x), 9)
        2.0
    """

    def __init__(self, window: int, ridge: float = 1e-10) -> None:
        if window < 1:
            raise ValueError(
                f"anderson={window}: a number of earlier sweeps, at least 1; 0 where it is an option for none"
            )
        self.window, self.ridge = window, ridge
        self._images: list[Tensor] = []
        self._misses: list[Tensor] = []

    def next(self, swept: list[Tensor], before: list[Tensor]) -> list[Tensor]:
        """The state to sweep from next, given what a sweep made of the state `before` it."""
        g, x = _flat(swept), _flat(before)
        self._images = [*self._images, g][-self.window - 1 :]
        self._misses = [*self._misses, g - x][-self.window - 1 :]
        if len(self._misses) > 1:
            last = self._misses[-1]
            steps = torch.stack([last - miss for miss in self._misses[:-1]], -1)  # [batch, units, m]
            gram = steps.mT @ steps
            size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
            eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
            tiny = torch.finfo(gram.dtype).tiny
            theta = torch.linalg.solve(gram + (self.ridge * size + tiny) * eye, (steps.mT @ last[..., None]))
            theta = torch.where(torch.isfinite(theta), theta, torch.zeros_like(theta))
            moves = torch.stack([g - image for image in self._images[:-1]], -1)
            g = g - (moves @ theta)[..., 0]
        made, at = [], 0
        for y in swept:
            size = y[0].numel()
            made.append(g[:, at : at + size].reshape(y.shape))
            at += size
        return made


def _flat(ys: list[Tensor]) -> Tensor:
    return torch.cat([y.flatten(1) for y in ys], 1)
