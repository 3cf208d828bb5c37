r"""Maps from the reals to the supports of distributions: PyTorch's, with a simplex that many chains can share.

.. math:: b_k = \sigma(y_k - \log(K - k)), \qquad x_k = b_k \prod_{j<k} (1 - b_j)

is PyTorch's stick breaking, computed in log space.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints
from torch.nn.functional import logsigmoid, pad

__all__ = ["LogStickBreaking", "bijection"]


class LogStickBreaking(Transform):
    """Reals ``(..., K - 1)`` to the simplex ``(..., K)``; the same map as ``StickBreakingTransform``."""

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogStickBreaking)

    def _call(self, y: Tensor) -> Tensor:
        return log_sticks(y).exp()

    def _inverse(self, x: Tensor) -> Tensor:
        rest = 1 - x.cumsum(-1)[..., :-1]
        rest = rest.clamp(min=torch.finfo(x.dtype).tiny)
        return x[..., :-1].log() - rest.log() + offsets(x[..., :-1])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (log_sticks(x)[..., :-1] + logsigmoid(offsets(x) - x)).sum(-1)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-1], shape[-1] - 1))


def offsets(y: Tensor) -> Tensor:
    """``(K - 1,)``: by which equal sticks are at zero."""
    return torch.arange(y.shape[-1], 0, -1).to(y).log()


def log_sticks(y: Tensor) -> Tensor:
    """Logarithms ``(..., K)`` of the lengths of the sticks."""
    z = y - offsets(y)
    before = pad(logsigmoid(-z).cumsum(-1), (1, 0))
    return before + pad(logsigmoid(z), (0, 1))


def bijection(support: constraints.Constraint) -> Transform:
    """The map from the reals to a support."""
    if support is constraints.simplex:
        return LogStickBreaking()
    if isinstance(support, constraints.independent) and support.base_constraint is constraints.simplex:
        return LogStickBreaking()
    return biject_to(support)
