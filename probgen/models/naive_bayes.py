r"""Naive Bayes: a class, and columns that are independent given the class (Maron, 1961).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    x_d \mid y = k \sim p_d(\theta_{kd}) \text{ for every column } d

Labels may be known, partly known or unknown: an unknown label is summed out, so EM learns from unlabelled rows too.
"""

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import SUM_OUT, Categorical, Columns
from probgen.program import Model, Traits


class NaiveBayes(Model):
    """One class a level of ``target``; every other column has the family of its kind."""

    traits = Traits(embedding="probabilities", summary="a labelled class, columns independent given it", labelled=True)

    def __init__(self, schema: Schema, target: str | None = None, prior: str | None = "default") -> None:
        super().__init__(schema)
        self.target = target or schema.target or first_class(schema)
        if not schema[self.target].is_discrete:
            raise CapabilityError(
                f"The target of naive_bayes must be discrete; {self.target!r} is {schema[self.target].kind}."
            )
        rest = schema.drop([self.target])
        levels = len(schema[self.target].levels)
        self.rest = rest.names
        self.weights = Categorical(levels, prior=prior)
        self.columns = Columns(rest, table=levels, prior=prior)

    def model(self, batch):
        weights, columns = self.weights.draw("weights"), self.columns.draw("columns")
        with batch.rows():
            y = pyro.sample("y", weights(), obs=batch.column(self.target), infer=SUM_OUT)
            pyro.sample("x", columns(y), obs=batch.select(self.rest))


def first_class(schema: Schema) -> str:
    """The first column that can be a class."""
    names = [column.name for column in schema if column.kind in ("categorical", "binary")]
    if not names:
        raise CapabilityError(
            "naive_bayes needs a categorical or binary column as its target; use latent_class instead."
        )
    return names[0]
