r"""Hierarchical variational autoencoder with a guide that goes down with the program (Sønderby et al., 2016; Kingma et al., 2016).

.. math::
    z_L \sim p(z_L), \qquad
    z_\ell \mid z_{>\ell} \sim \mathcal N\bigl(\mu_\ell(h_\ell), \mathrm{diag}\,\sigma_\ell^2(h_\ell)\bigr), \qquad
    x_d \mid z \sim p_d(f(h_0)), \qquad h_{\ell - 1} = h_\ell + g_\ell(h_\ell, z_\ell)

The guide reads a row upwards once, :math:`e_\ell = u_\ell(e_{\ell - 1})`, and then draws from the top down,
:math:`q(z_\ell \mid z_{>\ell}, x) = \mathcal N` of a network of :math:`h_\ell` and :math:`e_\ell`: both share the way down, so that lower layers
need only say what the upper ones have left over. The prior of the top layer is a standard normal, or is learnt, as that of ``vae``.
"""

from collections.abc import Mapping

import pyro
import torch
from torch import nn

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.families.latent import checked_sizes, decoder, normal_of, posterior_named, prior_named
from probgen.families.networks import encoder, reads_masks
from probgen.nn import mlp
from probgen.program import Model, Traits


class HierarchicalVAE(Model):
    """Layers of continuous latents, of the given sizes from the columns upwards.

    Args:
        schema: the columns.
        latent: sizes of z_1, .., z_L.
        hidden: widths of the networks that read and write the columns; the last is that of the states between layers.
        latent_prior, prior_components: of the top layer, as for ``vae``.
        posterior: of every layer of the guide, as for ``vae``.
        spread, network, families: as for ``vae``.
    """

    traits = Traits("lower_bound", ("svi",), "mean", "layers of latents, each given those above it", beta_steps=1000)

    def __init__(
        self,
        schema: Schema,
        latent: tuple[int, ...] = (8, 4),
        hidden: tuple[int, ...] = (128,),
        spread: str = "row",
        latent_prior: str = "normal",
        prior_components: int = 50,
        posterior: str = "normal",
        network: str = "mlp",
        families: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(schema)
        latent = tuple(latent) if isinstance(latent, tuple | list) else (latent,)
        checked_sizes(latent=latent or 0, hidden=hidden or (0,), prior_components=prior_components)
        width = hidden[-1]
        self.sizes, self.masks = latent, reads_masks(network)
        self.columns = Columns(schema, families=families)
        self.top = nn.Parameter(torch.zeros(width))
        first, above = encoder(schema, *hidden, width, network=network), latent[1:]
        self.up = nn.ModuleList([first, *(mlp(width, width, width, he=True, within=True) for _ in above)])
        self.prior = nn.ModuleList(nn.Linear(width, 2 * size) for size in latent[:-1])
        made = [posterior_named(posterior, size) for size in latent]
        self.latents = nn.ModuleList(made)
        self.posterior = nn.ModuleList(mlp(2 * width, width, each.outputs, he=True) for each in made)
        self.down = nn.ModuleList(mlp(width + size, width, width, he=True, within=True) for size in latent)
        self.decoder = decoder(
            width, *reversed(hidden), columns=self.columns, spread=spread, network=network, schema=schema
        )
        read = n_features(schema, self.masks)
        self.top_prior = prior_named(latent_prior, latent[-1], prior_components, read, self.top_posterior)

    def prepare(self, batches):
        self.top_prior.learn(batches)

    def layers(self):
        """Numbers of the layers, from the top down."""
        return reversed(range(len(self.sizes)))

    def below(self, at, h, z):
        """The state under a layer."""
        return h + self.down[at](side_by_side(h, z))

    def model(self, batch):
        h = self.top
        with batch.rows():
            for at in self.layers():
                top = at == len(self.sizes) - 1
                prior = self.top_prior() if top else normal_of(self.prior[at](h))
                h = self.below(at, h, pyro.sample(f"z{at + 1}", prior))
            pyro.sample("x", self.columns(self.decoder(h)), obs=batch.x)

    def read(self, features):
        """What the guide knows of a row, from the columns upwards."""
        read = [self.up[0](features)]
        for up in self.up[1:]:
            read.append(read[-1] + up(read[-1]))
        return read

    def posterior_given(self, at, h, read):
        """Of a layer, given the state above it."""
        return self.latents[at](self.posterior[at](side_by_side(h, read[at])))

    def top_posterior(self, features):
        return self.posterior_given(-1, self.top, self.read(features))

    def guide(self, batch):
        h, read = self.top, self.read(batch.features(self.masks))
        with batch.rows():
            for at in self.layers():
                h = self.below(at, h, pyro.sample(f"z{at + 1}", self.posterior_given(at, h, read)))


def side_by_side(one, other):
    """Rows of both, ``(..., F + G)``."""
    shape = torch.broadcast_shapes(one.shape[:-1], other.shape[:-1])
    return torch.cat([one.expand(*shape, -1), other.expand(*shape, -1)], -1)
