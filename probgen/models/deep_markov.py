r"""Deep Markov model (Krishnan, Shalit and Sontag, 2017).

.. math::
    z_t \mid z_{t-1} \sim \mathcal N\bigl(\mu(z_{t-1}), \mathrm{diag}\,\sigma^2(z_{t-1})\bigr), \qquad
    \mu(z) = (1 - g) \odot (A z + b) + g \odot f(z), \quad g = \mathrm{logit}^{-1}(w(z)), \qquad
    x_{td} \mid z_t \sim p_d(e(z_t)) \text{ for every column } d

A state follows the one before linearly where the gate g is closed, and through a network where it is open. The guide draws from the first
step on, :math:`q(z_t \mid z_{t-1}, x_t, \dots, x_T)`, by a network of the state before and of a recurrent one that has read
the sequence from its end; that is the form the posterior has.
"""

import pyro
import torch
from torch import nn
from torch.nn.functional import softplus

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.families.deep_path import DeepPath
from probgen.families.latent import checked_sizes, decoder
from probgen.nn import BackwardRecurrence, mlp
from probgen.program import Model, Traits


class DeepMarkov(Model):
    """L continuous states a time step.

    Args:
        schema: the columns.
        latent: L.
        hidden: widths of the networks from states to columns, and between states.
        recurrent: width of the network that reads sequences backwards.
        spread: as for ``vae``.
    """

    traits = Traits(
        "lower_bound", ("svi",), "mean", "states that follow each other through networks", sequences=True
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        latent: int = 8,
        hidden: tuple[int, ...] = (64,),
        recurrent: int = 64,
        spread: str = "row",
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden, recurrent=recurrent)
        self.columns = Columns(schema)
        self.before, self.guided_before = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))
        self.linear = nn.Linear(latent, latent)
        nn.init.eye_(self.linear.weight)
        self.curved, self.gate = mlp(latent, *hidden, latent), mlp(latent, *hidden, latent)
        self.scale = nn.Linear(latent, latent)
        self.reader = BackwardRecurrence(n_features(schema), recurrent)
        self.above, self.combined = nn.Linear(latent, recurrent), nn.Linear(recurrent, 2 * latent)
        self.decoder = decoder(latent, *hidden, columns=self.columns, spread=spread)

    def following(self, before, rows):
        gate, curved = self.gate(before).sigmoid(), self.curved(before)
        return (1 - gate) * self.linear(before) + gate * curved, softplus(self.scale(curved.relu())) + 1e-3

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", DeepPath(self.following, self.before, batch.steps))
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)

    def guide(self, batch):
        read = self.reader(batch.features(), batch.steps)

        def following(before, rows):
            both = (self.above(before).tanh() + read[rows]) / 2
            loc, scale = self.combined(both).chunk(2, -1)
            return loc, softplus(scale) + 1e-3

        with batch.rows():
            pyro.sample("z", DeepPath(following, self.guided_before, batch.steps))
