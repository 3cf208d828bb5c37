r"""Variational autoencoder (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

.. math::
    z \sim p(z), \qquad
    x_d \mid z \sim p_d(f_\theta(z)) \text{ for every column } d, \qquad
    q(z \mid x) = \mathcal N(\mu_\phi(x), \mathrm{diag}\,\sigma^2_\phi(x))

Each column has the family of its kind. The encoder reads the known cells and, for columns with holes, which they are. The prior
of the latents is a standard normal, or is learnt: a mixture of normals, or of the guide at made-up rows, or a flow. Behind the guide's
normal there may be an inverse autoregressive flow (Kingma et al., 2016).
"""

from collections.abc import Mapping

import pyro

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.families.latent import checked_sizes, decoder, posterior_named, prior_named
from probgen.families.networks import encoder, reads_masks
from probgen.program import Model, Traits


class VAE(Model):
    """L continuous latents a row, networks of the given hidden widths on both sides.

    Args:
        schema: the columns.
        latent: L.
        hidden: widths of the encoder, and from behind of the decoder.
        spread: how far values lie from where they are expected depends on the "row", on the "column" alone, or is one
            number, the "same" for all.
        latent_prior: "normal", "mixture", "vamp" or "flow".
        prior_components: K, of a mixture, or of made-up rows.
        posterior: "normal" or "flow", of the guide.
        network: "mlp", "residual", "convolution" (of images), "set" or "attention" (over the known cells).
        families: of columns or kinds, instead of their own: ``{"real": "student_t"}``.
    """

    traits = Traits("lower_bound", ("svi",), "mean", "continuous latents decoded by a network, amortised guide")

    def __init__(
        self,
        schema: Schema,
        latent: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        spread: str = "row",
        latent_prior: str = "normal",
        prior_components: int = 50,
        posterior: str = "normal",
        network: str = "mlp",
        families: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden, prior_components=prior_components)
        self.masks = reads_masks(network)
        read = n_features(schema, self.masks)
        self.columns = Columns(schema, families=families)
        self.latents = posterior_named(posterior, latent)
        self.encoder = encoder(schema, *hidden, self.latents.outputs, network=network)
        self.decoder = decoder(
            latent, *reversed(hidden), columns=self.columns, spread=spread, network=network, schema=schema
        )
        self.prior = prior_named(latent_prior, latent, prior_components, read, self.posterior)

    def prepare(self, batches):
        self.prior.learn(batches)

    def posterior(self, features):
        return self.latents(self.encoder(features))

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", self.posterior(batch.features(self.masks)))
