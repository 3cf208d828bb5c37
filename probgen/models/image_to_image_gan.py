r"""Picture-to-picture generative adversarial network (pix2pix; Isola, Zhu, Zhou and Efros, 2017).

.. math::
    z \sim \mathcal N(0, I_L), \qquad
    t \mid s, z = \delta\bigl(G_\theta(s, z)\bigr), \qquad
    \text{and in training } \lambda\, \overline{|t - G_\theta(s, z)|} \text{ beside the critic of pairs } C(s, t)

The columns of a row are a source s, shown to the generator, and a target t, which it writes: pixels of pictures of one size (a table with two images, one behind the other),
for which G is U-shaped and the critic looks at both pictures together; or any other columns, with perceptrons. The weight of the mean absolute difference is that
of a Laplace density of the targets around G; it binds pairs, the critic keeps what is written sharp. With ``masks`` some training rows show cells of both at random:
so pictures with holes, sources from targets, and pairs out of nothing can be asked for too, each as well as it was trained. There is no density.
"""

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.adversaries import NO_DENSITY, ShownCells, noise, pair
from probgen.families.latent import checked_sizes
from probgen.families.relaxed import RelaxedColumns
from probgen.program import Model, Traits


class ImageToImageGAN(Model):
    """A generator from one picture to another, and a critic of pairs.

    Args:
        schema: the columns.
        source: name of the image (or of the columns) that is shown; "auto" is the first image, without images the first half of the columns.
        latent: L, numbers of noise.
        hidden: channels at each size of the U; without pictures, widths of the layers.
        fidelity: weight of the absolute difference.
        masks: share of the training rows of which the generator is shown cells at random, and not the source.
        spectral: layers of the critic have spectral norm one.
    """

    traits = Traits("none", ("adversarial",), summary="one picture from another, paired in training")
    no_density = NO_DENSITY

    def __init__(
        self,
        schema: Schema,
        source: str | tuple[str, ...] = "auto",
        latent: int = 8,
        hidden: tuple[int, ...] = (32, 64),
        fidelity: float = 10.0,
        masks: float = 0.1,
        spectral: bool = False,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden)
        if not fidelity >= 0:
            raise CapabilityError(f"fidelity must be a weight of at least 0, got {fidelity!r}.")
        self.latent, self.fidelity = latent, fidelity
        self.columns = RelaxedColumns(schema)
        self.shown = ShownCells(schema, masks, checked_source(schema, source))
        self.generator, self.critic = pair(schema, latent, hidden, self.columns, spectral)

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


def checked_source(schema, source):
    """Names of the columns that are shown."""
    images = {image.name: image.names for image in schema.images}
    if source == "auto":
        source = next(iter(images)) if images else schema.names[: max(1, len(schema) // 2)]
    names = images.get(source, (source,)) if isinstance(source, str) else tuple(source)
    unknown = [name for name in names if name not in schema.names]
    if unknown or not names or len(names) >= len(schema):
        raise CapabilityError(
            f"source must be the name of an image ({', '.join(images) or 'there is none'}) or of columns, but not of all, got {source!r}."
        )
    return names
