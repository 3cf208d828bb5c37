r"""Switching linear-Gaussian state-space model (Ghahramani and Hinton, 2000; Kim, 1994).

.. math::
    s_1 \sim \mathrm{Categorical}(\pi), \qquad s_t \mid s_{t-1} = j \sim \mathrm{Categorical}(\Pi_j), \\
    z_1 \sim \mathcal N(m_0, P_0), \qquad z_t \mid z_{t-1}, s_t = k \sim \mathcal N(A_k z_{t-1} + b_k, Q_k), \\
    x_t \mid z_t \sim \mathcal N(C z_t + d, R)

Sequences with at most 512 paths of regimes are summed over all of them, so that their density is exact. Longer ones
have the structured approximation q(s) q(z) and a lower bound, which EM raises; their reported density is an
importance-weighted estimate with paths of regimes drawn from q(s) and the states integrated out given each. ``embed``
gives the probabilities of the regimes and then the means of the states; ``filter`` merges (GPB2) and is approximate.
Positive columns are modelled through their logarithm, bounded ones through their log odds. Rows of a table without
sequences stand alone.
"""

from functools import partial
from typing import Any

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import (
    INTEGRATE_OUT,
    SUM_OUT,
    Columns,
    DiagonalRegression,
    FullRegression,
    MarkovChain,
    SwitchingPath,
)
from probgen.families.gaussian_regression import balance
from probgen.program import Model, Traits
from probgen.whole import check_whole


class SwitchingStateSpace(Model):
    """K regimes of the motion of L continuous states, which the columns show through one emission.

    Args:
        schema: the columns.
        states: K.
        latent: L.
        topology: of the regimes' transitions, as for a hidden Markov model.
        covariance: R is "diagonal" or "full".
        prior: "default" or None (maximum likelihood).
    """

    traits = Traits(
        density="exact_short",
        methods=("em",),
        embedding="mean",
        summary="sequences whose linear-Gaussian motion switches between regimes",
        kinds=("real", "positive", "bounded", "datetime"),
        sequences=True,
    )
    start = "segments"

    def __init__(
        self,
        schema: Schema,
        states: int = 2,
        latent: int = 2,
        topology="free",
        covariance: str = "diagonal",
        prior: str | None = "default",
    ) -> None:
        super().__init__(schema)
        check_whole("latent", latent)
        if covariance not in ("diagonal", "full"):
            raise CapabilityError(f"covariance must be 'diagonal' or 'full', got {covariance!r}.")
        noise = FullRegression if covariance == "full" else DiagonalRegression
        self.chain = MarkovChain(states, topology, None, prior)
        self.initial = FullRegression(latent, 1, prior)
        self.transition = FullRegression(latent, states, prior, latent)
        self.emission = Columns(schema, covariance=partial(noise, inputs=latent), prior=prior)

    def model(self, batch):
        chain, initial = self.chain.draw("chain"), self.initial.draw("initial")
        transition, emission = self.transition.draw("transition"), self.emission.draw("emission")
        with batch.rows():
            s = pyro.sample("s", chain(batch.steps), infer=SUM_OUT)
            z = pyro.sample("z", SwitchingPath(initial, transition, batch.steps, s), infer=INTEGRATE_OUT)
            pyro.sample("x", emission(z), obs=batch.x)

    def canonical(self, theta):
        """The states' own coordinates, which the data leave open, as the priors like them best."""
        if self.initial.prior_choice is None:
            return theta
        (block,) = self.emission.parts()
        names = ("initial", "transition", f"emission.{block.name}")
        families: Any = (self.initial, self.transition, block.family)
        return dict(theta) | dict(zip(names, balance(families, [theta[name] for name in names]), strict=True))
