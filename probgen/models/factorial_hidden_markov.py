r"""Factorial hidden Markov model (Ghahramani and Jordan, 1997).

.. math::
    z^{(m)}_t \mid z^{(m)}_{t-1} = j \sim \mathrm{Categorical}(A^{(m)}_j) \text{ for chains } m = 1 .. M, \qquad
    x_t \mid z_t \sim \mathcal N\Big(\mu + \sum_m w^{(m)}_{z^{(m)}_t},\; \Sigma\Big)

Continuous columns add the contributions of the chains; discrete columns have one family a joint state. Up to 1024
joint states the chains are summed out exactly, over all K^M of them. Beyond, columns have to be continuous, and every
chain has a forward and backward pass of its own given what is expected of the others: EM raises this lower bound, and
reported densities are importance-weighted with paths drawn from the approximation.
"""

from dataclasses import replace
from functools import partial

import pyro
from torch import nn

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, AdditiveGaussian, AdditiveRegression, Columns, MarkovChain
from probgen.program import Model, Traits

MOST = 1024  # joint states that are summed exactly
CONTINUOUS = ("real", "positive", "bounded", "datetime")


class FactorialHiddenMarkov(Model):
    """M chains of K states each."""

    traits = Traits(
        embedding="probabilities", summary="several hidden chains that add up in every step", sequences=True
    )

    def __init__(
        self, schema: Schema, states: int = 2, chains: int = 2, topology="free", prior: str | None = "default"
    ) -> None:
        exact = states**chains <= MOST
        if not exact:
            self.traits = replace(self.traits, density="lower_bound", methods=("em",), kinds=CONTINUOUS)
        super().__init__(schema)
        self.chains = nn.ModuleList(MarkovChain(states, topology, None, prior) for _ in range(chains))
        shape = (states,) * chains
        family = AdditiveGaussian if exact else AdditiveRegression
        self.emission = Columns(schema, shape, partial(family, shape=shape), prior)

    def model(self, batch):
        chains = [chain.draw(f"chain{m}") for m, chain in enumerate(self.chains)]  # type: ignore[operator]
        emission = self.emission.draw("emission")
        with batch.rows():
            z = [pyro.sample(f"z{m}", chain(batch.steps), infer=SUM_OUT) for m, chain in enumerate(chains)]
            pyro.sample("x", emission(*z), obs=batch.x)
