r"""Recurrent state-space model (Hafner et al., 2019; compare Chung et al., 2015, and Fraccaro et al., 2016).

.. math::
    h_t = \mathrm{GRU}(h_{t-1}, z_{t-1}), \qquad
    z_t \mid h_t \sim \mathcal N\bigl(\mu(h_t), \mathrm{diag}\,\sigma^2(h_t)\bigr), \qquad
    x_{td} \mid h_t, z_t \sim p_d(e(h_t, z_t)) \text{ for every column } d

The memory h is a function of the states before and of nothing else: what the rows were does not come back into it, so that any of
their cells may be unknown. The guide draws from the first step on, :math:`q(z_t \mid h_t, x_t, \dots, x_T)`, by a network of the memory
and of a recurrent one that has read the sequence from its end; that is the form the posterior has.
"""

import pyro
import torch
from torch import nn
from torch.nn.functional import softplus

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.families.latent import checked_sizes, decoder
from probgen.families.recurrent_path import RecurrentPath
from probgen.nn import BackwardRecurrence, Memory, mlp
from probgen.program import Model, Traits


class RecurrentStateSpace(Model):
    """L continuous states a time step, and a memory of those before.

    Args:
        schema: the columns.
        latent: L.
        memory: width of the memory.
        hidden: widths of the networks from memories to states, and from both to columns.
        recurrent: width of the network that reads sequences backwards.
        spread: as for ``vae``.
    """

    traits = Traits(
        "lower_bound", ("svi",), "mean", "states that remember all those before them", sequences=True
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        latent: int = 8,
        memory: int = 64,
        hidden: tuple[int, ...] = (64,),
        recurrent: int = 64,
        spread: str = "row",
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, memory=memory, hidden=hidden, recurrent=recurrent)
        self.columns = Columns(schema)
        self.before, self.memory = nn.Parameter(torch.zeros(latent)), Memory(latent, memory)
        self.prior = mlp(memory, *hidden, 2 * latent)
        self.reader = BackwardRecurrence(n_features(schema), recurrent)
        self.above, self.combined = nn.Linear(memory, recurrent), nn.Linear(recurrent, 2 * latent)
        self.decoder = decoder(memory + latent, *hidden, columns=self.columns, spread=spread)

    def following(self, memory, rows):
        loc, scale = self.prior(memory).chunk(2, -1)
        return loc, softplus(scale) + 1e-3

    def model(self, batch):
        path = RecurrentPath(self.following, self.memory, self.before, batch.steps)
        with batch.rows():
            z = pyro.sample("z", path)
            pyro.sample("x", self.columns(self.decoder(torch.cat([path.known_of(z), z], -1))), obs=batch.x)

    def guide(self, batch):
        read = self.reader(batch.features(), batch.steps)

        def following(memory, rows):
            both = (self.above(memory).tanh() + read[rows]) / 2
            loc, scale = self.combined(both).chunk(2, -1)
            return loc, softplus(scale) + 1e-3

        with batch.rows():
            pyro.sample("z", RecurrentPath(following, self.memory, self.before, batch.steps))
