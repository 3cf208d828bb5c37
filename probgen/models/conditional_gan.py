r"""Conditional generative adversarial network with a projection critic (Mirza and Osindero, 2014; Miyato and Koyama, 2018).

.. math::
    y \sim \mathrm{Categorical}(\pi), \qquad
    z \sim \mathcal N(0, I_L), \qquad
    x_{\bar k} \mid z, y, x_k = \delta\bigl(G_\theta(z, y, x_k, k)\bigr), \qquad
    C(x, y) = w^\top \phi(x) + y^\top V \phi(x)

Rows of a label are drawn by giving it. Where nothing at all is known of a row its label is drawn first, with the frequencies of the training rows. With ``masks``, some training rows
show the generator cells at random in place of the label, as those of ``gan``: so any known cells may be given, the label among the unknown ones. There is no density.
"""

import pyro
import torch
from pyro.distributions import Categorical

from probgen.data.schema import Schema
from probgen.families.adversaries import NO_DENSITY, Critic, Generator, ShownCells, noise
from probgen.families.latent import checked_sizes
from probgen.families.level_mixture import checked_label
from probgen.families.relaxed import RelaxedColumns
from probgen.program import Model, Traits


class ConditionalGAN(Model):
    """A generator that is shown a label, and a critic that looks at rows by their labels.

    Args:
        schema: the columns.
        label: name of a column with levels; "auto" is the last one.
        latent, hidden, network, spectral: as for ``gan``.
        masks: share of the training rows of which the generator is shown cells at random, and not the label alone.
    """

    traits = Traits(
        "none",
        ("adversarial",),
        summary="rows of an asked label that a critic cannot tell from the data's",
        labelled=True,
    )
    no_density = NO_DENSITY
    frequencies: torch.Tensor

    def __init__(
        self,
        schema: Schema,
        label: str = "auto",
        latent: int = 16,
        hidden: tuple[int, ...] = (128, 128),
        masks: float = 0.25,
        network: str = "mlp",
        spectral: bool = False,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden)
        self.latent, self.label = latent, checked_label(schema, label, "conditional_gan")
        self.columns = RelaxedColumns(schema)
        self.shown = ShownCells(schema, masks, (self.label,))
        self.generator = Generator(schema, latent, hidden, self.columns, network, self.shown)
        self.critic = Critic(schema, hidden, self.columns, network, (self.label,), spectral)
        self.register_buffer("frequencies", torch.ones(schema[self.label].cardinality))

    def prepare(self, batches):
        self.columns.learn(batches)
        levels = self.schema[self.label].cardinality
        found = [frequency(batch, self.label, levels) for batch in batches.pieces()]
        self.frequencies.copy_(torch.stack(found).sum(0) / torch.stack(found).sum())

    def model(self, batch):
        self.shown.check(batch)
        prior, uniform = noise(self.latent, self.columns)
        with batch.rows():
            y = pyro.sample("y", Categorical(self.frequencies))
            z = pyro.sample("z", prior)
            u = pyro.sample("u", uniform)
            told = self.labelled(batch, y)
            output = self.generator(z, *self.columns.read(told))
            pyro.sample("x", self.columns(output, u, told), obs=batch.x)

    def labelled(self, batch, y):
        """The rows, those of which nothing is known with a label."""
        return batch.telling(self.label, batch.x.isnan().all(-1), y)

    def outline(self):
        return ["rows and fills are draws of a learnt sampler; there is no density to check them by"]


def frequency(batch, label, levels):
    """How often the levels are known."""
    codes = batch.column(label)
    weights = torch.ones_like(codes) if batch.weights is None or batch.in_sequences else batch.weights
    known = ~codes.isnan()
    return torch.zeros(levels).to(codes).index_add(0, codes[known].long(), weights[known])
