r"""Where paths to an energy begin: a mixture of independent columns, close to the data (Everitt and Hand, 1981).

.. math:: p_0(x) = \sum_k \pi_k \prod_d p(x_d \mid \eta_k)

Along a path its component stays a latent unit beside those of the energy, so that Gibbs sweeps remain exact:

.. math:: f_\beta(x, h, k) = \pi_k\, p(x \mid \eta_k)^{1 - \beta}\, e^{-\beta E(x, h)}

With one component this is the base-rate model of Salakhutdinov and Murray (2008), from which chains reach the modes of
clustered data in shares that are far from the energy's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.families.units import Units

__all__ = ["Origin", "origin", "separate"]

ROUNDS = 30  # of expectation maximisation
PRIOR = 1.0  # rows with the frequencies of all data that every component is given
EDGE = 1e-3  # least frequency of a level


@dataclass(frozen=True)
class Origin:
    """The mixture over the features that are not known, given those that are.

    Attributes:
        units: the columns.
        natural: ``(K, F)``, of the components at precision 1.
        log_share: ``(..., K)``, given what is known.
        offset: ``(..., K)``, log normalisers of the components over what is not known.
        known: mask of features, or None where nothing is known.
    """

    units: Units
    natural: Tensor
    log_share: Tensor
    offset: Tensor
    known: Tensor | None

    def free(self, features: Tensor) -> Tensor:
        """The features that belong to the mixture, zeros for the others."""
        return features if self.known is None else torch.where(self.known, 0.0, features)

    def scores(self, free: Tensor) -> Tensor:
        """Log density under each component but for what all have in common, ``(..., K)``."""
        return free @ self.natural.mT - self.offset

    def log_density(self, scores: Tensor, power: Tensor | float) -> Tensor:
        """Log of the sum of shares times component densities to a power."""
        return (self.log_share + power * scores).logsumexp(-1)

    def choose(self, scores: Tensor, power: Tensor | float) -> Tensor:
        """Natural parameters ``(..., F)`` of a component drawn given the features."""
        return self.natural[pick(self.log_share + power * scores)]

    def draw(self, *shape: int) -> Tensor:
        """Features ``(*shape, ..., F)`` drawn; known ones too, which the caller puts back."""
        chosen = self.natural[pick(self.log_share.expand(*shape, *self.log_share.shape))]
        return self.units.sample(chosen, chosen.new_ones(self.units.split[1] - self.units.split[0]))

    def mean(self) -> Tensor:
        """Expected features given what is known, ``(..., F)``."""
        means = self.units.mean(self.natural, self.natural.new_ones(self.units.split[1] - self.units.split[0]))
        return self.log_share.exp() @ means


def pick(log_weights: Tensor) -> Tensor:
    """Indices drawn with these log weights ``(..., K)``; the noise has one precision whatever the dtype."""
    below = log_weights.softmax(-1).cumsum(-1)
    noise = torch.rand((*below.shape[:-1], 1), dtype=torch.float32, device=below.device).to(below) * below[..., -1:]
    return torch.searchsorted(below, noise)[..., 0].clamp_max(below.shape[-1] - 1)


def origin(
    units: Units, natural: Tensor, log_share: Tensor, features: Tensor | None = None, known: Tensor | None = None
) -> Origin:
    """The mixture given known features, both ``(..., F)``; nothing is known where they are left out."""
    natural, normaliser = units.normalised(natural)
    if features is None or known is None:
        return Origin(units, natural, log_share, normaliser.sum(-1), None)
    if not known.any():
        return Origin(units, natural, log_share.expand(*features.shape[:-1], -1), normaliser.sum(-1), None)
    held = torch.where(known, features, 0.0) @ natural.mT - known.to(natural) @ normaliser.mT
    return Origin(units, natural, (log_share + held).log_softmax(-1), (~known).to(natural) @ normaliser.mT, known)


def separate(units: Units, features: Tensor, known: Tensor, weights: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Natural parameters ``(K, F)`` and log shares ``(K,)`` fitted by expectation maximisation.

    Args:
        units: the columns.
        features: ``(N, F)``, zeros where unknown.
        known: ``(N, F)``.
        weights: of the rows, ``(N,)``.
        components: K.
    """
    known = known.to(features) * weights[:, None]
    mean = (known * features).sum(0) / known.sum(0).clamp_min(1e-12)
    centres = torch.where(known > 0, features, mean)[torch.randint(len(features), (components,))]
    share = (-torch.cdist(torch.where(known > 0, features, mean), centres)).softmax(1)
    for _ in range(ROUNDS):
        natural = units.natural_of(frequencies(units, share, features, known, mean))
        rows = weights @ share + PRIOR
        form, normaliser = units.normalised(natural)
        present = (known > 0).to(features)
        score = (rows / rows.sum()).log() + (present * features) @ form.mT - present @ normaliser.mT
        share = score.softmax(1)
    return natural, (rows / rows.sum()).log()


def frequencies(units: Units, share: Tensor, features: Tensor, known: Tensor, mean: Tensor) -> Tensor:
    """Mean features of each component, ``(K, F)``, those of levels away from 0 and 1."""
    found = (share.mT @ (known * features) + PRIOR * mean) / (share.mT @ known + PRIOR)
    inside = found.clamp(EDGE, 1.0 - EDGE)
    rows = slice(*units.split)
    inside[:, rows] = found[:, rows]
    return inside
