r"""How noisy a row is at every time: a monotone function that is learnt (Kingma, Salimans, Poole and Ho, 2021).

.. math::
    z_t = \alpha_t y + \sigma_t \epsilon, \qquad
    \alpha_t^2 = \frac{1}{1 + e^{\gamma_t}}, \quad \sigma_t^2 = \frac{e^{\gamma_t}}{1 + e^{\gamma_t}}, \qquad
    \gamma_t = \gamma_0 + (\gamma_1 - \gamma_0) h_t

:math:`e^{\gamma}` is the ratio of the variances of noise and signal; h rises from 0 to 1 in straight pieces, whose rises are the shares of a
softmax, so that it is monotone whatever its weights are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["NoiseSchedule", "amplitudes"]

PIECES = 32
FIRST, LAST = -8.0, 6.0  # log ratios where learning begins
LEAST, MOST = -12.0, 12.0  # that there may be: columns with ties would otherwise be paid for without end


def amplitudes(gamma: Tensor) -> tuple[Tensor, Tensor]:
    r"""Of signal and noise, :math:`\alpha` and :math:`\sigma`."""
    return (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()


class NoiseSchedule(nn.Module):
    """The log ratio of noise to signal at times from 0 to 1.

    Args:
        first, last: log ratios at times 0 and 1, where learning begins.

    Example:
        >>> [round(gamma, 3) for gamma in NoiseSchedule()(torch.tensor([0.0, 0.5, 1.0])).tolist()]
        [-8.0, -1.0, 6.0]
    """

    def __init__(self, first: float = FIRST, last: float = LAST) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor(first))
        self.log_width = nn.Parameter(torch.tensor(math.log(last - first)))
        self.weights = nn.Parameter(torch.zeros(PIECES))

    def ends(self) -> tuple[Tensor, Tensor]:
        """Log ratios at times 0 and 1."""
        first = self.first.clamp(LEAST, 0.0)
        return first, (first + self.log_width.exp()).clamp(max=MOST)

    def shape(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """H and its slope at some times."""
        shares = self.weights.softmax(0)
        edges = torch.cat([shares.new_zeros(1), shares.cumsum(0)])
        piece = (t * PIECES).long().clamp(0, PIECES - 1)
        return edges[piece] + shares[piece] * (t * PIECES - piece), shares[piece] * PIECES

    def forward(self, t: Tensor) -> Tensor:
        first, last = self.ends()
        return first + (last - first) * self.shape(t)[0]
