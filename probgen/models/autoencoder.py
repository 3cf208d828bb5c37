r"""Autoencoder (Rumelhart, Hinton and Williams, 1986): codes of rows, and no distribution over them that would be learnt.

.. math::
    z \sim \mathcal N(0, I_L), \qquad
    x_d \mid z \sim p_d(f_\theta(z)) \text{ for every column } d, \qquad
    q(z \mid x) = \delta\bigl(z - e_\phi(x)\bigr)

The guide is a point: training maximises :math:`\log p(x \mid z) + \log p(z)` at :math:`z = e_\phi(x)`, the reconstruction and a pull of
codes to zero. That is no bound of a density, and none is given. Rows are drawn from codes of a normal distribution with the mean and the
covariance of the training rows' codes, which replaces the prior after the last step (Ghosh et al., 2020). ``noise`` hides cells from the encoder at random, which
then has to restore them (Vincent et al., 2008); ``contraction`` keeps codes from changing where rows hardly do (Rifai et al., 2011).
"""

import pyro
import torch
from pyro.distributions import Delta, MultivariateNormal

from probgen.data.batches import features, first_rows, n_features
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import Columns
from probgen.families.latent import checked_sizes, decoder
from probgen.nn import mlp
from probgen.program import Model, Traits


class Autoencoder(Model):
    """L numbers a row.

    Args:
        schema: the columns.
        latent: L.
        hidden: widths of the encoder, and from behind of the decoder.
        spread: as for ``vae``.
        noise: share of the encoder's inputs that are set to zero while training.
        contraction: weight of the squared Jacobian of the encoder.
    """

    traits = Traits("none", ("svi",), "mean", "a code a row, and back; a point in place of a distribution")

    def __init__(
        self,
        schema: Schema,
        latent: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        spread: str = "column",
        noise: float = 0.0,
        contraction: float = 0.0,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden)
        if not 0 <= noise < 1 or contraction < 0:
            raise CapabilityError(f"noise must be in [0, 1) and contraction at least 0, got {noise}, {contraction}.")
        self.latent, self.noise, self.contraction = latent, noise, contraction
        self.columns = Columns(schema)
        self.encoder = mlp(n_features(schema), *hidden, latent)
        self.decoder = decoder(latent, *reversed(hidden), columns=self.columns, spread=spread)
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("root", torch.eye(latent))

    def finish(self, batches):
        x, _ = first_rows(batches.pieces(), 10_000)
        with torch.no_grad():
            codes = self.encoder(features(x, batches.schema)).double()
        spread = torch.cov(codes.mT, correction=0).reshape(self.latent, self.latent)
        least = 1e-6 * spread.diagonal().mean().clamp_min(1e-12) * torch.eye(self.latent).to(spread)
        self.centre, self.root = codes.mean(0).to(x), torch.linalg.cholesky(spread + least).to(x)

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", MultivariateNormal(self.centre, scale_tril=self.root))
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)
            if self.contraction and torch.is_grad_enabled():
                pyro.factor("contraction", -self.contraction * steepness(self.encoder, batch.features()))

    def guide(self, batch):
        read = batch.features()
        if self.noise and torch.is_grad_enabled():
            read = read * (torch.rand_like(read) >= self.noise)
        with batch.rows():
            pyro.sample("z", Delta(self.encoder(read), event_dim=1))


def steepness(net, rows):
    """``(B,)``: the squared Jacobian of a network in every row, summed, estimated along one direction (Hutchinson, 1990)."""
    rows = rows.detach().requires_grad_()
    output = net(rows)
    (slope,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), rows, create_graph=True)
    return slope.square().sum(-1)
