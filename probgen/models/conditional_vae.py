r"""Conditional, and semi-supervised, variational autoencoder (Kingma, Mohamed, Rezende and Welling, 2014).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    z \sim p(z), \qquad
    x_d \mid z, y \sim p_d(f_\theta(z, y)) \text{ for every other column } d, \qquad
    q(z \mid x) = \sum_y q_\phi(y \mid x)\, q_\phi(z \mid x, y)

The label y may be known, and then z is what rows of one label differ in; or unknown, in some rows or in those asked about, and is then
summed out: every level is tried. So rows of a level are drawn by giving it, and classified by leaving it out. The guide of a row without a label
is a mixture over levels by a classifier, that of a row with one its own part of it. While training every unlabelled row is read with
every level, and those with labels teach the classifier.
"""

from collections.abc import Mapping

import pyro
import torch
from torch import nn
from torch.nn.functional import one_hot

from probgen.data.batches import features, n_features
from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical, Columns
from probgen.families.latent import GivenLevel, checked_sizes, decoder, posterior_named, prior_named
from probgen.families.level_mixture import LevelMixture, among, checked_label, checked_weight
from probgen.families.networks import encoder, reads_masks
from probgen.program import Model, Traits


class ConditionalVAE(Model):
    """L continuous latents beside a label.

    Args:
        schema: the columns.
        label: name of a column with levels.
        label_weight: of what labels teach the classifier, in rows: of the mean of its log probabilities beside the mean bound of a row.
        latent: L.
        hidden: widths of the encoder, and from behind of the decoder.
        spread, latent_prior, prior_components, posterior, network, families: as for ``vae``.
    """

    traits = Traits(
        "lower_bound", ("svi",), "mean", "a label, and latents in which rows of one label differ", labelled=True
    )
    volume: torch.Tensor

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
        label_weight: float = 10.0,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden, prior_components=prior_components)
        self.masks = reads_masks(network)
        read = n_features(schema, self.masks)
        self.label = self.tried = checked_label(schema, label, "conditional_vae")
        self.others = tuple(name for name in schema.names if name != self.label)
        self.levels = schema[self.label].cardinality
        self.register_buffer("volume", torch.tensor(latent**0.5))  # z does not drown the label
        others = schema.select(self.others)
        self.columns = Columns(others, families=families)
        self.level = Categorical(self.levels)
        self.logits = nn.Parameter(torch.zeros(self.levels))
        self.latents = posterior_named(posterior, latent)
        self.encoder = encoder(schema, *hidden, self.latents.outputs, network=network)
        self.classifier = encoder(others, *hidden, self.levels, network=network)
        widths = (latent + self.levels, *reversed(hidden))
        self.decoder = decoder(*widths, columns=self.columns, spread=spread, network=network, schema=others)
        self.prior = prior_named(latent_prior, latent, prior_components, read, self.posterior)
        self.label_weight = self.taught = checked_weight(label_weight)

    def prepare(self, batches):
        self.prior.learn(batches)
        labels = torch.cat([piece.column(self.label) for piece in batches.pieces()])
        self.taught = self.label_weight * len(labels) / max(int((~labels.isnan()).sum()), 1)

    def posterior(self, features):
        return self.latents(self.encoder(features))

    def given(self, batch, level):
        """The guide of rows with a level filled in, ``(..., B)``."""
        x = batch.with_column(self.label, level)
        return self.posterior(features(x, self.schema, self.masks))

    def described(self, z, y):
        """The other columns given latents and levels."""
        hot = one_hot(y.long(), self.levels).to(z) * self.volume
        return self.columns(self.decoder(torch.cat([z, hot.expand(*z.shape[:-1], -1)], -1)))

    def model(self, batch):
        with batch.rows():
            y = pyro.sample("y", self.level(self.logits), obs=batch.column(self.label), infer=SUM_OUT)
            z = pyro.sample("z", self.prior())
            x = GivenLevel(lambda y: self.described(z, y), y, len(self.others))
            pyro.sample("x", x, obs=batch.select(self.others))

    def classify(self, batch):
        """Log probabilities of levels given the other columns, ``(B, K)``."""
        others = features(batch.select(self.others), self.schema.select(self.others), self.masks)
        return self.classifier(others).log_softmax(-1)

    def latents_of(self, batch):
        y = batch.column(self.label)
        if not y.isnan().any():
            return self.posterior(batch.features(self.masks))
        return LevelMixture(lambda level: self.given(batch, level), among(self.classify(batch), y))

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", self.latents_of(batch))
