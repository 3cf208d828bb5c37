r"""A dependency network (Heckerman et al., 2000): every column regressed on all others, as in chained equations.

.. math:: x_d \mid x_{-d} \sim p_d\big(\cdot \mid \beta_d^\top (1, u_{-d}, u_a u_b, \dots), \phi_d\big) \text{ for every column } d

Numbers are normal (some by their logarithm), counts negative binomial or rounded, levels logistic step by step, amounts
that may be zero of two parts. Where normal noise does not look like the data, cells take what rows like theirs have instead. The regressions contain main effects of all other columns, squares, and products of two columns
(:math:`a, b \ne d`) under a horseshoe prior: relations that bend or depend on each other are found where there are any.

There is no joint distribution of which these are the conditionals: what rows are drawn from is where passes over the
columns settle (van Buuren and Groothuis-Oudshoorn, 2011). The program states the product of the conditionals, a
pseudo-likelihood (Besag, 1975); unknown cells and parameters are drawn in turn by the method ``chained``.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.pairwise import Pairwise
from probgen.program import Model, Traits


class ChainedEquations(Model):
    """One regression a column.

    Args:
        schema: the columns.
        products: of columns in one regression: "auto" (all, or the most telling: at most a hundred, and one for eight rows), "all", "none", or a largest number.
        scales: of real columns above zero, and of counts: "auto" (the logarithm where regressions say so), or by column
            "logarithm" or "identity"; counts may also be told to be "counts" (negative binomial) or "levels".
        matching: what is drawn around the expectation of a number: "none" (normal noise), "residuals" or "values" of rows that
            are like its own, or "auto" (of every column what makes its known cells least surprising).
    """

    traits = Traits("none", ("chained",), summary="every column regressed on all others", conditionals=True)

    def __init__(
        self,
        schema: Schema,
        products: str | int = "auto",
        scales: str | dict[str, str] = "auto",
        matching: str = "auto",
    ) -> None:
        super().__init__(schema)
        self.columns = Pairwise(schema, products, scales, matching)

    def prepare(self, batches):
        self.columns.learn(batches)

    def model(self, batch):
        features = self.columns.features(batch.x)
        regressions = {column.name: self.columns.draw(column.name) for column in self.schema}
        with batch.rows():
            for name, regression in regressions.items():
                pyro.sample(name, regression(features), obs=batch.column(name))
