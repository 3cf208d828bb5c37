r"""Gaussian copula and mixtures of them (Sklar, 1959; Liu, Lafferty and Wasserman, 2009; Tewari et al., 2011).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    z \mid y = k \sim \mathcal N(\mu_k, \Sigma_k), \qquad
    x_d = g_d^{-1}(z_d) \text{ for every continuous column } d

The maps :math:`g_d` turn columns into normal scores. They are found before the fit, from each column's ranks, and are
then kept; the Gaussian in between is fitted by the usual methods. It is left free where the strict copula has means zero
and variances one: that takes back what smoothing adds to the columns' spread. Densities, fills and holes are exact.

Counts, categories, ordinal and other discrete columns have no normal scores here: they are independent given the
component, so that one component leaves them independent of everything. Use more components where they matter.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns, NormalScores
from probgen.program import Model, Traits


class GaussianCopula(Model):
    """Any continuous marginals, joined by one Gaussian or by a mixture of K."""

    traits = Traits(embedding="probabilities", summary="smoothed ranks of continuous columns, joined by Gaussians")

    def __init__(
        self, schema: Schema, components: int = 1, covariance: str = "full", prior: str | None = "default"
    ) -> None:
        super().__init__(schema)
        self.weights = Categorical(components, prior=prior)
        self.component = Columns(
            schema, table=components, covariance=covariance, prior=prior, coordinates=NormalScores
        )

    def prepare(self, batches):
        self.component.learn(batches.pieces())

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            y = pyro.sample("y", weights(), infer=SUM_OUT)
            pyro.sample("x", component(y), obs=batch.x)
