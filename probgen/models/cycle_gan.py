r"""Translation between two sides that are never seen together (CycleGAN; Zhu, Park, Isola and Efros, 2017).

.. math::
    z_A, z_B \sim \mathcal N(0, I_L), \qquad
    b \mid a = \delta\bigl(G_B(z_B, a)\bigr), \qquad a \mid b = \delta\bigl(G_A(z_A, b)\bigr),
    \qquad \text{and in training } \lambda\, \overline{|a - G_A(z_A, G_B(z_B, a))|} \text{, and so from } b

The columns of a row are two sides, a and b: two pictures, or any two groups of columns. Training rows know one or the other; those that know both are taken for a row of one
of them at each step. Each side has a generator, which is shown the other, and a critic of that side alone; what is written from a real row has to lead back to it. So it is the
distributions of the sides, and what is easy to write, that say which a belongs to which b: any map that carries one distribution to the other and can be undone is as good. With
``masks`` two more generators complete a side from some of its cells, or draw it from none, so all holes can be filled. There is no density.
"""

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.adversaries import NO_DENSITY, noise
from probgen.families.latent import checked_sizes
from probgen.families.relaxed import Generated, RelaxedColumns
from probgen.families.sides import ShownSides, checked_sides, players
from probgen.program import Model, Traits

LOUDEST = 10.0  # weight of cycles


class CycleGAN(Model):
    """Two generators, of each side from the other, and a critic of each.

    Args:
        schema: the columns.
        sides: names of two images, or two groups of columns; "auto" is the two images of a table of pictures, or else the first half of the columns and the second.
        latent: L, numbers of noise of each side; cycles leave it little to do.
        hidden: channels at each size of U-shaped generators, where both sides are pictures of one size; else widths of the layers.
        cycle: weight of the mean absolute difference of a side to what comes back from the other; None for the root of how many numbers a side has, at most
            the 10 of Zhu et al.: a mean over F numbers is as steep as one over the root of F, and a critic's slope is about one.
        identity: weight of that of a side to what is written when it is shown in the other's place; for sides of one shape.
        masks: share of the training rows that teach how to complete a side from its own cells, shown at random, or none. With 0 whole sides are all that is translated.
        spectral: layers of the critics have spectral norm one (Miyato et al., 2018).
    """

    traits = Traits(
        "none", ("adversarial",), summary="one side of a row from the other, unpaired in training", unpaired=True
    )
    no_density = NO_DENSITY

    def __init__(
        self,
        schema: Schema,
        sides: str | tuple = "auto",
        latent: int = 8,
        hidden: tuple[int, ...] = (32, 64),
        cycle: float | None = None,
        identity: float = 0.0,
        masks: float = 0.25,
        spectral: bool = False,
    ) -> None:
        super().__init__(schema)
        checked_sizes(latent=latent, hidden=hidden)
        named = checked_sides(schema, sides)
        self.latent = latent
        self.columns = RelaxedColumns(schema)
        usual = min(LOUDEST, (self.columns.numbers / 2) ** 0.5)
        self.weights = checked_weights(cycle=usual if cycle is None else cycle, identity=identity)
        self.shown = ShownSides(schema, named, masks)
        self.generators, self.critic = players(schema, named, latent, hidden, self.columns, masks > 0, spectral)
        if identity and not self.generators.alike:
            raise CapabilityError(
                f"identity={identity!r} needs sides whose columns have the same kinds, levels and bounds in order; use identity=0."
            )

    def prepare(self, batches):
        self.columns.learn(batches)

    def model(self, batch):
        self.shown.check(batch)
        prior, uniform = noise(2 * self.latent, self.columns)
        with batch.rows():
            z = pyro.sample("z", prior)
            u = pyro.sample("u", uniform)
            rows = self.generators(*self.columns.read(batch), z, u)
            pyro.sample("x", Generated(rows, self.columns), obs=batch.x)

    def kept(self, made, by):
        """What training asks of translations beside the critics: weights, and differences of what they were made from."""
        differences, known = (
            {"cycle": self.generators.returned, "identity": self.generators.unchanged},
            by.known & ~by.seen,
        )
        return {name: (weight, differences[name](made, known)) for name, weight in self.weights.items() if weight}

    def outline(self):
        return [
            "one side is written from the other by draws of a learnt sampler; there is no density to check them by"
        ]


def checked_weights(**weights):
    """The weights of differences."""
    for name, weight in weights.items():
        if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise CapabilityError(f"{name} must be a weight of at least 0, got {weight!r}.")
    return weights
