r"""Factor analysis (Spearman, 1904; Rubin and Thayer, 1982).

.. math::
    f \sim \mathcal N(0, I_L), \qquad
    x \mid f \sim \mathcal N(\mu + W f, \mathrm{diag}\,\psi)

The factors are integrated out exactly, whatever the holes: :math:`x \sim \mathcal N(\mu, W W^\top + \mathrm{diag}\,\psi)`.
Continuous columns are coupled through the factors, positive ones through their logarithm and bounded ones through
their log odds. Counts, categories and other discrete columns are independent of the factors and of each other.
"""

from functools import partial

import pyro
from pyro.distributions import Normal

from probgen.data.schema import Schema
from probgen.families import INTEGRATE_OUT, Columns, FactorAnalyser, checked_factors
from probgen.program import Model, Traits


class FactorAnalysis(Model):
    """L Gaussian factors and one noise variance a column; ``embed`` gives E[f | known cells]."""

    traits = Traits(embedding="mean", summary="linear Gaussian factors, noise of its own for every column")

    def __init__(self, schema: Schema, latent: int = 2, prior: str | None = "default") -> None:
        super().__init__(schema)
        self.columns = Columns(schema, covariance=partial(FactorAnalyser, factors=latent), prior=prior)
        self.latent = checked_factors(self.name, self.columns.coupled, latent, spare=0)

    def model(self, batch):
        columns = self.columns.draw("columns")
        zero = batch.x.new_zeros(self.latent)
        with batch.rows():
            f = pyro.sample("factors", Normal(zero, 1.0).to_event(1), infer=INTEGRATE_OUT)
            pyro.sample("x", columns(latent=f), obs=batch.x)
