r"""Mixture of factor analysers (Ghahramani and Hinton, 1996).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad f \sim \mathcal N(0, I_L), \qquad
    x \mid z = k, f \sim \mathcal N(\mu_k + W_k f, \mathrm{diag}\,\psi_k)

With the factors integrated out, a component has the covariance :math:`W_k W_k^\top + \mathrm{diag}\,\psi_k`.
"""

from functools import partial

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns, FactorAnalyser
from probgen.program import Model, Traits


class MixtureOfFactorAnalysers(Model):
    """K components with L factors each."""

    traits = Traits(embedding="probabilities", summary="mixture of Gaussians with low-rank covariance")

    def __init__(self, schema: Schema, components: int = 4, factors: int = 2, prior: str | None = "default") -> None:
        super().__init__(schema)
        self.weights = Categorical(components, prior=prior)
        low_rank = partial(FactorAnalyser, factors=factors)
        self.component = Columns(schema, table=components, covariance=low_rank, prior=prior)

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", component(z), obs=batch.x)
