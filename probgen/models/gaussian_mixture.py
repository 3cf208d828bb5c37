r"""Mixture of Gaussians (Pearson, 1894; Dempster, Laird and Rubin, 1977).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad
    x \mid z = k \sim \mathcal N(\mu_k, \Sigma_k)

Continuous columns are coupled inside a component, positive ones through their logarithm and bounded ones through
their log odds. Counts, categories and other discrete columns are independent given the component.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Columns, mixture_weights
from probgen.program import Model, Traits


class GaussianMixture(Model):
    """K Gaussians with "full", "tied", "diagonal" or "spherical" covariance; holes are integrated out exactly.

    With ``weights="dirichlet_process"`` the weights are broken from a stick, K being its truncation.
    """

    traits = Traits(
        methods=("em", "online_em", "map", "svi", "nuts", "gibbs"),
        embedding="probabilities",
        summary="mixture of Gaussians, columns coupled inside a component",
    )

    def __init__(
        self,
        schema: Schema,
        components: int = 8,
        covariance: str = "full",
        prior: str | None = "default",
        weights: str = "dirichlet",
        concentration: float = 1.0,
    ) -> None:
        super().__init__(schema)
        self.weights = mixture_weights(components, weights, concentration, prior)
        self.component = Columns(schema, table=components, covariance=covariance, prior=prior)

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", component(z), obs=batch.x)
