r"""Hidden semi-Markov model: states with explicit durations (Ferguson, 1980).

.. math::
    z_{s+1} \mid z_s = j \sim \mathrm{Categorical}(A_j), \; A_{jj} = 0, \qquad
    d_s \mid z_s = k \sim \mathrm{Categorical}(D_k) \text{ over } 1 .. M, \qquad
    x_t \mid z_{s(t)} = k \sim p(\theta_k)

The first segment begins with the sequence; the last may go on after its end. Exact, as a chain of K M states.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Columns, SemiMarkovChain
from probgen.program import Model, Traits


class SemiMarkov(Model):
    """K states, each kept for 1 to M = ``longest`` steps."""

    traits = Traits(
        embedding="probabilities", summary="hidden states with their own distributions of durations", sequences=True
    )

    def __init__(
        self,
        schema: Schema,
        states: int = 3,
        longest: int = 20,
        covariance: str | None = None,
        families: dict | None = None,
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        self.chain = SemiMarkovChain(states, longest, prior)
        self.emission = Columns(schema, states, covariance, prior, families)

    def model(self, batch):
        chain, emission = self.chain.draw("chain"), self.emission.draw("emission")
        with batch.rows():
            z = pyro.sample("z", chain(batch.steps), infer=SUM_OUT)
            pyro.sample("x", emission(z), obs=batch.x)
