r"""Deep belief network (Hinton, Osindero and Teh, 2006).

.. math::
    p(x, h_1, \dots, h_L) = p(x \mid h_1) \prod_{l=1}^{L-2} p(h_l \mid h_{l+1}) \; \frac1Z e^{-E(h_{L-1}, h_L)}, \qquad
    q(h \mid x) = q(h_1 \mid x) \prod_{l=1}^{L-1} q(h_{l+1} \mid h_l)

The two layers on top are a restricted Boltzmann machine; those below are directed and generate the columns. Layers are
trained one after the other, each as a restricted Boltzmann machine on draws of the layer below, whose two conditionals
it leaves behind as p and q. The density is a lower bound: q is not the posterior, and unknown columns enter it by
their mean field. Fills follow the same q: up, Gibbs sweeps of the two layers on top, down, with known cells put back.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.harmonium import Stack
from probgen.families.units import KINDS
from probgen.program import Model, Traits


class DeepBelief(Model):
    """Layers of binary hidden units of the given widths, from the columns upwards."""

    traits = Traits("annealed_bound", ("contrastive",), "mean", "directed layers below an energy of two layers", KINDS)

    def __init__(self, schema: Schema, hidden: tuple[int, ...] = (32, 16)) -> None:
        super().__init__(schema)
        self.layers = Stack(schema, hidden)

    def model(self, batch):
        *below, top = self.layers
        with batch.rows():
            h = pyro.sample(f"h{len(self.layers)}", top.uniform())
            pyro.factor("energy", top.log_ratio(h))
            for number in range(len(below), 0, -1):
                h = pyro.sample(f"h{number}", self.layers[number].visible(h))
            pyro.sample("x", self.layers[0].visible(h), obs=batch.x)

    def guide(self, batch):
        h = batch.x
        with batch.rows():
            for number, layer in enumerate(self.layers, 1):
                h = pyro.sample(f"h{number}", layer.posterior(h))
