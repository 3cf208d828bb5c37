r"""Energy-based model (LeCun, Chopra, Hadsell, Ranzato and Huang, 2006): a density up to a factor, by any network.

.. math::
    p(x) = \frac1Z\, p_0(x)\, e^{-f_\theta(\phi(x)) - c}, \qquad
    p_0(x) = \sum_k \pi_k \prod_g \mathcal N(y_g; \mu_{kg}, s_{kg}^2) \prod_d p_{kd}(x_d), \qquad
    Z = \mathbb E_{p_0} e^{-f_\theta(\phi(x)) - c}

Continuous columns y are standardised in the coordinates in which they are real numbers (logarithms of positive ones, log odds of bounded ones). The base term :math:`p_0` is
a mixture fitted to the data beforehand, one of whose components is twice as wide as the data; the network f corrects it. SiLU units fall at most linearly, so that normal tails
win and Z is finite, whatever the weights are. ``base="independent"`` leaves that one component alone. With a target t (Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi and
Swersky, 2020) the network reads the other columns, and its outputs are logits:

.. math:: f_\theta(x, t) = f_{\theta t}(x), \qquad
    p(t \mid x) = \frac{p_0(x, t)\, e^{-f_{\theta t}(x)}}{\sum_u p_0(x, u)\, e^{-f_{\theta u}(x)}},

in which Z cancels. Objectives without Z train it; log Z is annealed afterwards, and every log density has its error.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.energy_columns import BaseColumns, EnergyColumns
from probgen.families.latent import checked_sizes
from probgen.families.units import KINDS
from probgen.program import Model, Traits


class Energy(Model):
    """A network's energy over continuous and discrete columns, beside a base term. Counts and columns with a spike at zero have no gradient to walk by.

    Args:
        schema: the columns.
        hidden: widths of the network.
        reference: components of the mixture of independent columns at which chains and annealing begin, and which is the noise of noise-contrastive
            estimation.
        target: a discrete column whose levels are the logits of a classifier.
        base: "mixture", or "independent" columns: what the network corrects.
    """

    traits = Traits(
        "annealed_walk", ("unnormalised",), "none", "any network as an energy, normalised by annealing", KINDS
    )

    in_nats = False

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (128, 128),
        reference: int = 16,
        target: str | None = None,
        base: str = "mixture",
    ) -> None:
        super().__init__(schema)
        checked_sizes(hidden=hidden, reference=reference)
        self.energy = EnergyColumns(schema, hidden, reference, target, base)

    def prepare(self, batches):
        self.energy.learn(batches)

    def model(self, batch):
        with batch.rows():
            x = pyro.sample("x", BaseColumns(self.energy), obs=batch.x)
            pyro.factor("energy", -self.energy.correction_of(x))

    def outline(self):
        return self.energy.told()
