r"""Mixture of Chow-Liu trees (Meila and Jordan, 2000).

.. math::
    z \sim \mathrm{Categorical}(\pi), \qquad
    x_d \mid x_{\mathrm{pa}_k(d)}, z = k \sim \mathrm{Categorical}(\theta_{kd}(x_{\mathrm{pa}_k(d)}))
    \text{ along the edges of tree } k

Every component has a tree of its own over the discrete columns, learned with its tables; columns of other kinds are
independent given the component, by the family of their kind.
"""

from functools import partial

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, ChowLiuTree, Columns
from probgen.program import Model, Traits


class ChowLiuMixture(Model):
    """K trees; ``pseudo_rows`` of independent columns smooth each; columns in ``families`` stay outside of the trees."""

    traits = Traits("exact", ("em",), "probabilities", "trees over the discrete columns, one a component")

    def __init__(
        self,
        schema: Schema,
        components: int = 8,
        pseudo_rows: float = 5.0,
        families: dict | None = None,
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        self.weights = Categorical(components, prior=prior)
        tree = partial(ChowLiuTree, pseudo_rows=pseudo_rows)
        self.component = Columns(schema, components, prior=prior, families=families, discrete=tree)

    def model(self, batch):
        weights, component = self.weights.draw("weights"), self.component.draw("component")
        with batch.rows():
            z = pyro.sample("z", weights(), infer=SUM_OUT)
            pyro.sample("x", component(z), obs=batch.x)
