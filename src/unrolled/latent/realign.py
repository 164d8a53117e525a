"""From the space a model speaks from to the space it reads in: a ridge regression between its two embedding tables."""

import torch
from torch import Tensor

from unrolled.latent.backbone import Backbone


def realignment(w_in: Tensor, w_out: Tensor, ridge: float = 1e-5) -> Tensor:
    """W_a = argmin |W_out W - W_in|^2 + ridge |W|^2 = (W_out' W_out + ridge I)^-1 W_out' W_in (LatentMAS 2511.20639).

    Args:
        w_in: input embeddings, `[vocabulary, d]`.
        w_out: rows of the head, `[vocabulary, d]`.
        ridge: keeps tables of less than full rank solvable.

    Returns:
        `[d, d]`, at least float32. The identity for tied tables of full column rank.

    Example:
        >>> table = torch.eye(3, dtype=torch.float64)
        >>> torch.allclose(realignment(table, 2 * table), table / 2, atol=1e-4)
        True
    """
    exact = torch.float64 if w_in.dtype == torch.float64 else torch.float32
    a, b = w_out.detach().to(exact), w_in.detach().to(exact)
    gram = a.T @ a + ridge * torch.eye(a.shape[1], dtype=exact, device=a.device)
    return torch.linalg.solve(gram, a.T @ b)


def aligned(backbone: Backbone, hidden: Tensor, matrix: Tensor | None) -> Tensor:
    """Z = h W_a, scaled to the mean norm of the input embeddings; without a matrix only scaled.

    Example:
        >>> class Toy:
        ...     def weights(self):
        ...         return torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.eye(2)
        >>> aligned(Toy(), torch.tensor([[2.0, 0.0]]), None)  # mean norm (5 + 1) / 2
        tensor([[3., 0.]])
    """
    z = hidden if matrix is None else (hidden.to(matrix.dtype) @ matrix).to(hidden.dtype)
    norm = backbone.weights()[0].detach().norm(dim=-1).mean()
    return z * (norm / z.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny))
