r"""Linear-Gaussian state-space model (Kalman, 1960; Shumway and Stoffer, 1982; Harvey, 1989).

.. math::
    z_1 \sim \mathcal N(m_0, P_0), \qquad z_t \mid z_{t-1} \sim \mathcal N(A z_{t-1} + b, Q), \qquad
    x_t \mid z_t \sim \mathcal N(C z_t + d, R)

The states are integrated out exactly, whatever the holes. Positive columns are modelled through their logarithm,
bounded ones through their log odds. Rows of a table without sequences stand alone.

With a ``structure``, a sum of "local_level", "local_trend" and "seasonal:PERIOD", every column has states of its own,
A and C are those of the components, and variances are what is learned. The first states are diffuse: their
distribution is so wide that it says nothing, and the density is that of a sequence given its first rows, as many as
settle the states.
"""

from functools import partial
from typing import Any

import pyro
import torch

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import INTEGRATE_OUT, Columns, DiagonalRegression, FullRegression, GaussianPath
from probgen.families.gaussian_regression import GaussianRegression, balance
from probgen.families.structural import structural
from probgen.program import Model, Traits
from probgen.whole import check_whole


class LinearStateSpace(Model):
    """L states whose matrices are learned, or components of known ``structure`` whose variances are.

    Args:
        schema: the columns.
        latent: L, where there is no structure.
        structure: for instance "local_trend+seasonal:12"; None to learn all matrices.
        covariance: R is "diagonal" or "full".
        prior: "default" or None (maximum likelihood).
        diffuse: mean and variance of the first states of a structure, in model coordinates (standardised columns).
    """

    traits = Traits(
        embedding="mean",
        summary="sequences that follow a linear-Gaussian state; trends and seasons",
        kinds=("real", "positive", "bounded", "datetime"),
        sequences=True,
    )

    def __init__(
        self,
        schema: Schema,
        latent: int = 2,
        structure: str | None = None,
        covariance: str = "diagonal",
        prior: str | None = "default",
        diffuse: tuple[float, float] = (0.0, 1e6),
    ) -> None:
        super().__init__(schema)
        self.burn = 0
        if structure is not None:
            self.build(structure, covariance, prior, diffuse)
            return
        check_whole("latent", latent)
        if covariance not in ("diagonal", "full"):
            raise CapabilityError(f"covariance must be 'diagonal' or 'full', got {covariance!r}.")
        noise = FullRegression if covariance == "full" else DiagonalRegression
        self.initial: GaussianRegression = FullRegression(latent, 1, prior)
        self.transition: GaussianRegression = FullRegression(latent, 1, prior, latent)
        self.emission = Columns(schema, covariance=partial(noise, inputs=latent), prior=prior)

    def build(self, structure, covariance, prior, diffuse):
        """Families with the matrices of the components, side by side for every column."""
        if covariance != "diagonal":
            raise CapabilityError("A structure has columns that stand alone: covariance must be 'diagonal'.")
        part, D = structural(structure), len(self.schema)
        L, mean, variance = len(part) * D, *map(float, diffuse)
        move = torch.cat([torch.block_diag(*[part.transition] * D), torch.zeros(L, 1)], 1)
        load = torch.cat([torch.block_diag(*[part.loading] * D), torch.zeros(D, 1)], 1)
        noise = torch.where(part.noisy.repeat(D), torch.nan, 0.0)
        first, wide = torch.full((L, 1), mean), torch.full((L,), variance)
        self.burn = len(part)
        self.initial = DiagonalRegression(L, 1, prior, weight=first, variance=wide)
        self.transition = DiagonalRegression(L, 1, prior, L, spread=0.1, weight=move, variance=noise)
        family = partial(DiagonalRegression, inputs=L, weight=load)
        self.emission = Columns(self.schema, covariance=family, prior=prior)

    def model(self, batch):
        initial, transition = self.initial.draw("initial"), self.transition.draw("transition")
        emission = self.emission.draw("emission")
        path = GaussianPath(initial, transition, batch.steps, self.counted(batch))
        with batch.rows():
            z = pyro.sample("z", path, infer=INTEGRATE_OUT)
            pyro.sample("x", emission(z), obs=batch.x)

    def canonical(self, theta):
        """The states' own coordinates, which the data leave open, as the priors like them best."""
        if self.burn or self.initial.prior_choice is None:
            return theta
        (block,) = self.emission.parts()
        names = ("initial", "transition", f"emission.{block.name}")
        families: Any = (self.initial, self.transition, block.family)
        return dict(zip(names, balance(families, [theta[name] for name in names]), strict=True))

    def counted(self, batch):
        """Rows after those that settle the diffuse states."""
        return batch.steps.settled(~batch.x.isnan(), self.burn) if self.burn else None
