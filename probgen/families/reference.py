r"""A mixture of independent columns over the features of an energy: close to the data, with a density and exact draws given any cells.

.. math:: r(\phi) = \sum_k \pi_k \prod_g \mathcal N(y_g; \mu_{kg}, \lambda_{kg}^{-1}) \prod_d p_{kd}(x_d)

Chains start at its draws, paths of annealing at its density, and noise-contrastive estimation compares the data with it. With one component whose
continuous columns are wider than the data it is the base term under an energy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from probgen.families.denoising import Noise
from probgen.families.units import Units

__all__ = ["Reference", "uniforms"]

ROUNDS = 40  # of expectation maximisation
PRIOR = 1.0  # rows with the spread and frequencies of all data that every component is given
LEAST = 0.03  # least standard deviation, of standardised columns
EDGE = 1e-3  # least frequency of a level


class Reference(nn.Module):
    """K components over the F features of some units.

    Args:
        units: the columns.
        components: K.
    """

    def __init__(self, units: Units, components: int) -> None:
        super().__init__()
        self.units, self.components = units, components
        self.register_buffer("log_share", torch.full((components,), -math.log(components)))
        self.register_buffer("mean", torch.full((components, units.features), 0.5))
        self.register_buffer("precision", torch.ones(components, len(units.gaussian)))
        self.log_share: Tensor
        self.mean: Tensor
        self.precision: Tensor

    # -- the density -------------------------------------------------------------------------------------------
    def forms(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each component the log density is ``constant + linear x + square x^2``, feature by feature, ``(K, F)`` each."""
        binary, loc, _ = self.units.parts(self.mean)
        levels = self.mean[:, self.units.split[1] :].log()
        nought, none = torch.zeros_like(binary), torch.zeros_like(levels)
        scale = 0.5 * (self.precision.log() - math.log(2 * math.pi) - self.precision * loc.square())
        linear = torch.cat([binary.logit(), self.precision * loc, levels], 1)
        square = torch.cat([nought, -0.5 * self.precision, none], 1)
        return torch.cat([(-binary).log1p(), scale, none], 1), linear, square

    def scores(self, features: Tensor, known: Tensor | None = None) -> Tensor:
        """``(..., K)``: log share plus log density under each component, of the known features ``(..., F)`` where told."""
        constant, linear, square = self.forms()
        if known is None:
            offset = constant.sum(1)
        else:
            features, offset = torch.where(known, features, 0.0), known.to(features) @ constant.mT
        return self.log_share + offset + features @ linear.mT + features.square() @ square.mT

    def log_prob(self, features: Tensor, known: Tensor | None = None) -> Tensor:
        """``(...)``: log density of features, of the known ones where told."""
        return self.scores(features, known).logsumexp(-1)

    def widened(self, features: Tensor, variance: Tensor, known: Tensor | None = None) -> Tensor:
        """``(..., K)``: the scores where continuous columns are noisier by a variance ``(...)``; all of these are known."""
        part = slice(*self.units.split)
        discrete = torch.ones(features.shape, dtype=torch.bool, device=features.device) if known is None else known
        discrete = discrete.clone()
        discrete[..., part] = False
        precision = (self.precision.reciprocal() + variance[..., None, None]).reciprocal()  # (..., K, G)
        away = features[..., None, part] - self.mean[:, part]
        cells = 0.5 * (precision.log() - math.log(2 * math.pi) - precision * away.square())
        return self.scores(features, discrete) + cells.sum(-1)

    def draw(self, features: Tensor, known: Tensor, chains: int, noise: Noise) -> Tensor:
        """``(chains, N, F)``: the unknown features of rows ``(N, F)`` drawn given the known ones."""
        share = self.scores(features, known).softmax(-1).cumsum(-1)
        chosen = (noise.uniform(chains, features)[..., None] * share[..., -1:] > share).sum(-1)
        chosen = chosen.clamp_max(self.components - 1)
        binary, loc, _ = self.units.parts(self.mean[chosen])
        first, second = self.units.split
        y = loc + noise.normal(torch.empty_like(loc)) * self.precision[chosen].rsqrt()
        u = uniforms(noise, chains, features)
        levels = self.mean[chosen][..., second:].log() - (-u[..., second:].clamp(1e-12, 1 - 1e-7).log()).log()
        drawn = torch.cat([(u[..., :first] < binary).to(features), y, self.hot(levels)], -1)
        return torch.where(known, features, drawn)

    def hot(self, scores: Tensor) -> Tensor:
        """The best level of every column that has some, as features."""
        pieces, at = [scores[..., :0]], 0
        for levels, group in self.units.levelled:
            own = scores[..., at : at + levels * len(group)].unflatten(-1, (len(group), levels))
            pieces.append(nn.functional.one_hot(own.argmax(-1), levels).to(scores).flatten(-2))
            at += levels * len(group)
        return torch.cat(pieces, -1)

    # -- learning ----------------------------------------------------------------------------------------------
    def learn(self, features: Tensor, known: Tensor, weights: Tensor, widen: float = 1.0) -> None:
        """By expectation maximisation from rows ``(N, F)``, then with continuous columns so many times as wide."""
        m = known.to(features) * weights[:, None]
        total = m.sum(0).clamp_min(1e-12)
        mean = (m * features).sum(0) / total
        var = (m * (features - mean).square()).sum(0) / total
        filled = torch.where(known, features, mean)
        chosen = torch.randint(
            len(features), (self.components,), generator=torch.Generator().manual_seed(0), device="cpu"
        )
        centres = filled[chosen.to(features.device)]
        share = (-torch.cdist(filled, centres).square()).softmax(1)
        for _ in range(ROUNDS if self.components > 1 else 1):
            self.update(share, m * filled, m * filled.square(), m, (mean, var))
            share = self.scores(features, known).softmax(1)
            share = share * weights[:, None] / weights.mean()
        self.precision /= widen**2

    def cover(self, wide: Reference, share: float) -> None:
        """In place of the component that has the fewest rows, the first one of another mixture, with a share."""
        least = int(self.log_share.argmin())
        self.mean[least], self.precision[least] = wide.mean[0], wide.precision[0]
        self.log_share[least] = -torch.inf
        self.log_share.copy_(self.log_share.log_softmax(0) + math.log1p(-share))
        self.log_share[least] = math.log(share)

    def update(self, share: Tensor, first: Tensor, second: Tensor, m: Tensor, whole: tuple[Tensor, Tensor]) -> None:
        """Means, precisions and shares, with a few rows of the whole data's added to every component."""
        mean, var = whole
        rows = share.mT @ m + PRIOR
        centre = (share.mT @ first + PRIOR * mean) / rows
        start, end = self.units.split
        spread = (share.mT @ second + PRIOR * (var + mean.square())) / rows - centre.square()
        self.precision.copy_(spread[:, start:end].clamp_min(LEAST**2).reciprocal())
        inside = centre.clamp(EDGE, 1 - EDGE)
        inside[:, start:end] = centre[:, start:end]
        self.mean.copy_(self.proper(inside))
        self.log_share.copy_((share.sum(0) + PRIOR).log().log_softmax(0))

    def proper(self, mean: Tensor) -> Tensor:
        """Means whose levels' frequencies add up to one."""
        _, _, groups = self.units.parts(mean)
        levels = [(group / group.sum(-1, keepdim=True)).flatten(-2) for group in groups]
        return torch.cat([mean[:, : self.units.split[1]], *levels], 1)


def uniforms(noise: Noise, draws: int, like: Tensor) -> Tensor:
    """``(draws, N, F)`` numbers between 0 and 1, for rows like ``(N, F)``."""
    width = like.shape[-1]
    return noise.uniform(draws * width, like).unflatten(0, (draws, width)).movedim(1, -1)
