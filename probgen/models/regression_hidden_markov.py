r"""Hidden Markov regression, with inputs and with its own past (Hamilton, 1989; Bengio and Frasconi, 1995).

.. math::
    z_t \mid z_{t-1} = j \sim \mathrm{Categorical}(A_j), \qquad
    x_t \mid z_t = k, u_t \sim \mathcal N(B_k u_t, \Sigma_k), \qquad u_t = (1, \text{inputs}_t, x_{t-1}, .., x_{t-p})

Discrete columns have a multinomial logistic regression on :math:`u_t` instead. Inputs are conditioned on: the density
is that of the other columns. With p = ``lags`` > 0 a known step needs its p steps before it to be known.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, MarkovChain, RegressedColumns
from probgen.program import Model, Traits
from probgen.whole import check_whole


class RegressionHiddenMarkov(Model):
    """K states, each with its own regression."""

    traits = Traits(
        embedding="probabilities",
        kinds=("real", "datetime", "positive", "bounded", "binary", "categorical", "ordinal"),
        summary="hidden states that switch between regressions",
        sequences=True,
    )

    start = "segments"

    def __init__(
        self,
        schema: Schema,
        states: int = 2,
        inputs: tuple[str, ...] = (),
        lags: int = 0,
        topology="free",
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        check_whole("lags", lags, 0)
        self.inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self.columns = tuple(name for name in schema.names if name not in self.inputs)
        self.chain = MarkovChain(states, topology, None, prior)
        self.regression = RegressedColumns(schema, self.inputs, lags, states, prior)

    def model(self, batch):
        chain, regression = self.chain.draw("chain"), self.regression.draw("regression")
        with batch.rows():
            z = pyro.sample("z", chain(batch.steps), infer=SUM_OUT)
            pyro.sample("x", regression(batch, z), obs=batch.select(self.columns))
