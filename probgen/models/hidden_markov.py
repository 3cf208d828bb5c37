r"""Hidden Markov model (Baum and Petrie, 1966; Rabiner, 1989).

.. math::
    z_1 \sim \mathrm{Categorical}(\pi), \qquad z_t \mid z_{t-1} = j \sim \mathrm{Categorical}(A_j), \qquad
    x_t \mid z_t = k \sim p(\theta_k)

Every column has the family of its kind; with a ``covariance`` the continuous columns of a step are coupled inside a
state. With ``mixture`` = M > 1 a state's emission is a mixture of M such distributions,
:math:`c_t \mid z_t = k \sim \mathrm{Categorical}(w_k)`. Rows of a table without sequences stand alone.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns, MarkovChain
from probgen.program import Model, Traits


class HiddenMarkov(Model):
    """K states; transitions "free", "sticky", "left_right", "banded", "cyclic" or with any entries fixed."""

    traits = Traits(
        embedding="probabilities", summary="sequences whose steps depend on a hidden state", sequences=True
    )

    def __init__(
        self,
        schema: Schema,
        states: int = 4,
        topology="free",
        initial=None,
        covariance: str | None = None,
        mixture: int = 1,
        families: dict | None = None,
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        self.mixture = mixture
        self.chain = MarkovChain(states, topology, initial, prior)
        self.weights = Categorical(mixture, table=states, prior=prior)
        self.emission = Columns(schema, (states, mixture), covariance, prior, families)

    def model(self, batch):
        chain, emission = self.chain.draw("chain"), self.emission.draw("emission")
        weights = self.weights.draw("weights") if self.mixture > 1 else None
        with batch.rows():
            z = pyro.sample("z", chain(batch.steps), infer=SUM_OUT)
            if weights is None:
                pyro.sample("x", emission(z), obs=batch.x)
            else:
                c = pyro.sample("c", weights(z), infer=SUM_OUT)
                pyro.sample("x", emission(z, c), obs=batch.x)
