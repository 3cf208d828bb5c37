r"""Restricted Boltzmann machine (Smolensky, 1986; Hinton, 2002; Salakhutdinov and Murray, 2008).

.. math::
    p(x, h) = \frac1Z e^{-E(x, h)}, \qquad
    E(x, h) = -b^\top \phi(x) - c^\top h - \phi(x)^\top W h + \tfrac12 \sum_g \lambda_g y_g^2, \qquad h \in \{0, 1\}^H

The features :math:`\phi(x)` are a binary column itself, the levels of a categorical or ordinal one (Potts units), and
the value y of a continuous one where it is Gaussian: its log if it is positive, its log odds if it is bounded.

The program states the same energy from the hidden side, as an unnormalised marginal of h and a normalised
:math:`p(x \mid h)`, whose columns are independent, so that unknown ones are left out.
"""

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.harmonium import Stack
from probgen.families.units import KINDS
from probgen.program import Model, Traits


class BoltzmannMachine(Model):
    """H binary hidden units, each joined to every column. Up to 20 of them are summed out exactly; more are annealed."""

    traits = Traits("annealed", ("contrastive",), "mean", "energy with a layer of binary hidden units", KINDS)

    def __init__(self, schema: Schema, hidden: int | tuple[int, ...] = 16) -> None:
        super().__init__(schema)
        self.layers = Stack(schema, hidden)
        if len(self.layers) > 1:
            raise CapabilityError(f"boltzmann_machine has one hidden layer, got hidden={hidden}; use deep_belief.")

    def model(self, batch):
        layer = self.layers[0]
        with batch.rows():
            h = pyro.sample("h", layer.uniform())
            pyro.factor("energy", layer.log_ratio(h))
            pyro.sample("x", layer.visible(h), obs=batch.x)

    def guide(self, batch):
        with batch.rows():
            pyro.sample("h", self.layers[0].posterior(batch.x))
