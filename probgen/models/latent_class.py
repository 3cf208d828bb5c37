r"""Latent class model: a mixture whose columns are independent inside a class (Lazarsfeld, 1950).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad
    x_d \mid z = k \sim p_d(\theta_{kd}) \text{ for every column } d

Each column has the family of its kind; holes are left out of the product.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Columns, mixture_weights
from probgen.program import Model, Traits


class LatentClass(Model):
    """K classes that explain all dependence between the columns; ``families`` names other families than the kinds' own."""

    traits = Traits(
        methods=("em", "online_em", "map", "svi", "nuts", "gibbs"),
        embedding="probabilities",
        summary="classes inside which mixed columns are independent",
    )

    def __init__(
        self,
        schema: Schema,
        components: int = 8,
        families: dict | None = None,
        prior: str | None = "default",
        weights: str = "dirichlet",
        concentration: float = 1.0,
    ) -> None:
        super().__init__(schema)
        self.weights = mixture_weights(components, weights, concentration, prior)
        self.columns = Columns(schema, components, None, prior, families)

    def model(self, batch):
        weights, columns = self.weights.draw("weights"), self.columns.draw("columns")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", columns(z), obs=batch.x)
