r"""Generative adversarial network (Goodfellow et al., 2014): rows that a critic cannot tell from the data's, and no density.

.. math::
    z \sim \mathcal N(0, I_L), \qquad
    x_{\bar k} \mid z, x_k = \delta\bigl(G_\theta(z, x_k, k)\bigr)

The generator G is shown the known cells :math:`x_k` of a row and which they are, and writes all others; the critic is told the same. So one network draws
rows, with nothing known, rows given some of their columns, and imputations of any pattern of holes (Yoon, Jordon and van der Schaar, 2018; Belghazi, Oquab and
Lopez-Paz, 2019). Training rows may have holes, through which generated rows are then looked at, too: what the data do not know must not depend on what it would
have been, given the rest. Discrete columns are drawn with noise of their own. Given the noise a row is a point, which has no density, and none is given.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.adversaries import NO_DENSITY, Critic, Generator, ShownCells, noise
from probgen.families.latent import checked_sizes
from probgen.families.relaxed import RelaxedColumns
from probgen.program import Model, Traits


class GAN(Model):
    """A generator that is shown known cells, and its critic.

    Args:
        schema: the columns.
        latent: L, numbers of noise.
        hidden: widths of both networks.
        masks: share of the training rows of which the generator is shown some cells, at random; of the others nothing. With 0 it draws new rows alone.
        network: "mlp", or "convolution" for tables with pictures.
        spectral: layers of the critic have spectral norm one (Miyato et al., 2018).
    """

    traits = Traits(
        "none", ("adversarial",), summary="a sampler and filler of rows that a critic cannot tell from the data's"
    )
    no_density = NO_DENSITY

    def __init__(
        self,
        schema: Schema,
        latent: int = 16,
        hidden: tuple[int, ...] = (128, 128),
        masks: float = 0.5,
        network: str = "mlp",
        spectral: bool = False,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden)
        self.latent = latent
        self.columns = RelaxedColumns(schema)
        self.shown = ShownCells(schema, masks)
        self.generator = Generator(schema, latent, hidden, self.columns, network, self.shown)
        self.critic = Critic(schema, hidden, self.columns, network, spectral=spectral)

    def prepare(self, batches):
        self.columns.learn(batches)

    def model(self, batch):
        self.shown.check(batch)
        prior, uniform = noise(self.latent, self.columns)
        with batch.rows():
            z = pyro.sample("z", prior)
            u = pyro.sample("u", uniform)
            output = self.generator(z, *self.columns.read(batch))
            pyro.sample("x", self.columns(output, u, batch), obs=batch.x)

    def outline(self):
        return ["rows and fills are draws of a learnt sampler; there is no density to check them by"]
