r"""Linear-Gaussian state-space model (Kalman, 1960; Shumway and Stoffer, 1982; Harvey, 1989).

.. math::
    z_1 \sim \mathcal N(m_0, P_0), \qquad z_t \mid z_{t-1} \sim \mathcal N(A z_{t-1} + b, Q), \qquad
    x_t \mid z_t \sim \mathcal N(C z_t + d, R)

The states are integrated out exactly, whatever the holes. Positive columns are modelled through their logarithm,
bounded ones through their log odds. Rows of a table without sequences stand alone.
"""

from functools import partial

import pyro
import torch

from probgen.data.schema import Schema
from probgen.families import INTEGRATE_OUT, Columns, DiagonalRegression, FullRegression, GaussianPath
from probgen.program import Model, Traits


class LinearStateSpace(Model):
    """L states with matrices that are learned."""

    traits = Traits(
        embedding="mean",
        summary="sequences that follow a linear-Gaussian state; trends and seasons; exact with holes",
        kinds=("real", "positive", "bounded", "datetime"),
    )

    def __init__(self, schema: Schema, latent: int = 2, covariance: str = "diagonal", prior: str | None = "default"):
        super().__init__(schema)
        noise = {"diagonal": DiagonalRegression, "full": FullRegression}[covariance]
        self.initial = FullRegression(latent, 1, prior)
        self.transition = FullRegression(latent, 1, prior, latent)
        self.emission = Columns(schema, covariance=partial(noise, inputs=latent), prior=prior)

    def model(self, batch):
        initial, transition = self.initial.draw("initial"), self.transition.draw("transition")
        emission = self.emission.draw("emission")
        with batch.rows():
            z = pyro.sample("z", GaussianPath(initial, transition, batch.steps), infer=INTEGRATE_OUT)
            pyro.sample("x", emission(z), obs=batch.x)
