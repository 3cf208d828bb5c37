r"""Probabilistic principal component analysis (Tipping and Bishop, 1999).

.. math::
    f \sim \mathcal N(0, I_L), \qquad
    x \mid f \sim \mathcal N(\mu + W f, \sigma^2 I)

The factors are integrated out exactly, whatever the holes: :math:`x \sim \mathcal N(\mu, W W^\top + \sigma^2 I)`. The
noise is isotropic in standardised columns, so the model belongs to the principal components of the *correlation*
matrix: it does not depend on the units of the columns, and differs from components of the raw covariance matrix.
Positive columns enter through their logarithm, bounded ones through their log odds; counts, categories and other
discrete columns are independent of the factors and of each other.
"""

from functools import partial

import pyro
from pyro.distributions import Normal

from probgen.data.schema import Schema
from probgen.families import INTEGRATE_OUT, Columns, PrincipalComponents, checked_factors
from probgen.program import Model, Traits


class ProbabilisticPCA(Model):
    """L Gaussian factors and one noise variance for all columns; ``embed`` gives E[f | known cells]."""

    traits = Traits(embedding="mean", summary="principal components with isotropic noise, in standardised columns")

    def __init__(self, schema: Schema, latent: int = 2, prior: str | None = "default") -> None:
        super().__init__(schema)
        self.columns = Columns(schema, covariance=partial(PrincipalComponents, factors=latent), prior=prior)
        self.latent = checked_factors(self.name, self.columns.coupled, latent, spare=1)

    def model(self, batch):
        columns = self.columns.draw("columns")
        zero = batch.x.new_zeros(self.latent)
        with batch.rows():
            f = pyro.sample("factors", Normal(zero, 1.0).to_event(1), infer=INTEGRATE_OUT)
            pyro.sample("x", columns(latent=f), obs=batch.x)
