r"""Variational autoencoder (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

.. math::
    z \sim \mathcal N(0, I_L), \qquad
    x_d \mid z \sim p_d(f_\theta(z)) \text{ for every column } d, \qquad
    q(z \mid x) = \mathcal N(\mu_\phi(x), \mathrm{diag}\,\sigma^2_\phi(x))

Each column has the family of its kind. The encoder reads the known cells and, for columns with holes, which they are.
"""

import pyro
import torch
from pyro.distributions import Normal

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.nn import mlp
from probgen.program import Model, Traits


class VAE(Model):
    """L continuous latents a row, networks of the given hidden widths on both sides."""

    traits = Traits("lower_bound", ("svi",), "mean", "continuous latents decoded by a network, amortised guide")

    def __init__(self, schema: Schema, latent: int = 8, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__(schema)
        self.latent = latent
        self.columns = Columns(schema)
        self.encoder = mlp(n_features(schema), *hidden, 2 * latent)
        self.decoder = mlp(latent, *reversed(hidden), self.columns.outputs)

    def model(self, batch):
        zero = batch.x.new_zeros(self.latent)
        with batch.rows():
            z = pyro.sample("z", Normal(zero, 1.0).to_event(1))
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)

    def guide(self, batch):
        loc, log_scale = self.encoder(batch.features()).chunk(2, -1)
        with batch.rows():
            pyro.sample("z", Normal(loc, torch.exp(log_scale.clamp(-8, 4))).to_event(1))
