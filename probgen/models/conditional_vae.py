r"""Conditional, and semi-supervised, variational autoencoder (Kingma, Mohamed, Rezende and Welling, 2014).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    z \sim p(z), \qquad
    x_d \mid z, y \sim p_d(f_\theta(z, y)) \text{ for every other column } d

The label y may be known, and then z is what rows of one label differ in; or unknown, in some rows or in those asked about, and is then
summed out: every level is tried. So rows of a level are drawn by giving it, and classified by leaving it out. The encoder reads
the known cells, the label among them.
"""

from collections.abc import Mapping

import pyro
import torch
from torch import nn
from torch.nn.functional import one_hot

from probgen.data.batches import n_features
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families import SUM_OUT, Categorical, Columns
from probgen.families.latent import GivenLevel, checked_sizes, decoder, posterior_named, prior_named
from probgen.families.networks import encoder, reads_masks
from probgen.program import Model, Traits


class ConditionalVAE(Model):
    """L continuous latents beside a label.

    Args:
        schema: the columns.
        label: name of a column with levels.
        latent: L.
        hidden: widths of the encoder, and from behind of the decoder.
        spread, latent_prior, prior_components, posterior, network, families: as for ``vae``.
    """

    traits = Traits("lower_bound", ("svi",), "mean", "a label, and latents in which rows of one label differ")

    def __init__(
        self,
        schema: Schema,
        label: str = "auto",
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
        self.label = checked_label(schema, label)
        self.others = tuple(name for name in schema.names if name != self.label)
        self.levels = schema[self.label].cardinality
        others = schema.select(self.others)
        self.columns = Columns(others, families=families)
        self.level = Categorical(self.levels)
        self.logits = nn.Parameter(torch.zeros(self.levels))
        self.latents = posterior_named(posterior, latent)
        self.encoder = encoder(schema, *hidden, self.latents.outputs, network=network)
        self.decoder = decoder(
            latent + self.levels,
            *reversed(hidden),
            columns=self.columns,
            spread=spread,
            network=network,
            schema=others,
        )
        self.prior = prior_named(latent_prior, latent, prior_components, read, self.posterior)

    def prepare(self, batches):
        self.prior.learn(batches)

    def posterior(self, features):
        return self.latents(self.encoder(features))

    def described(self, z, y):
        """The other columns given latents and levels."""
        hot = one_hot(y.long(), self.levels).to(z)
        return self.columns(self.decoder(torch.cat([z, hot.expand(*z.shape[:-1], -1)], -1)))

    def model(self, batch):
        with batch.rows():
            y = pyro.sample("y", self.level(self.logits), obs=batch.column(self.label), infer=SUM_OUT)
            z = pyro.sample("z", self.prior())
            x = GivenLevel(lambda y: self.described(z, y), y, len(self.others))
            pyro.sample("x", x, obs=batch.select(self.others))

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", self.posterior(batch.features(self.masks)))


def checked_label(schema, label):
    """The name of a column with levels; "auto" is the last one."""
    discrete = [column.name for column in schema if column.is_discrete]
    if label == "auto" and discrete:
        label = discrete[-1]
    if label not in discrete or len(schema) < 2:
        raise CapabilityError(
            f"conditional_vae needs a label, a column with levels beside others: {', '.join(discrete) or 'there is none'}. Got {label!r}."
        )
    return label
