r"""Mixture of multivariate Student-t distributions (Peel and McLachlan, 2000).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad
    u \mid z = k \sim \mathrm{Gamma}(\tfrac{\nu_k}2, \tfrac{\nu_k}2), \qquad
    x \mid z = k, u \sim \mathcal N(\mu_k, \Sigma_k / u)

so that :math:`x \mid z = k \sim t_{\nu_k}(\mu_k, \Sigma_k)`: rows far from their component have a small weight u and
hardly move it. Any known cells are again Student-t with the same degrees of freedom, so holes are integrated out
exactly. Continuous columns are coupled inside a component, positive ones through their logarithm and bounded ones
through their log odds; counts, categories and other discrete columns are independent given the component.
"""

from functools import partial

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns, StudentT
from probgen.program import Model, Traits


class StudentMixture(Model):
    """K heavy-tailed components; ``degrees`` is "estimate" or a number, ``covariance`` as for gaussian_mixture."""

    traits = Traits(embedding="probabilities", summary="mixture of multivariate Student-t, robust to outliers")

    def __init__(
        self,
        schema: Schema,
        components: int = 4,
        covariance: str = "full",
        degrees: str | float = "estimate",
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        self.weights = Categorical(components, prior=prior)
        heavy = partial(StudentT, covariance=covariance, degrees=degrees)
        self.component = Columns(schema, table=components, covariance=heavy, prior=prior)

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", component(z), obs=batch.x)
