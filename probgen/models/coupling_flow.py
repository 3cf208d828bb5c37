r"""Flow of affine couplings (Dinh, Sohl-Dickstein and Bengio, 2017) over the columns of a table.

.. math::
    e_j \sim t_{\nu_j}, \qquad u = (f_1 \circ A_1 \circ f_2 \circ \dots \circ f_M)(e), \qquad
    f_m: \ y_1 = e_1, \ y_2 = e_2 \odot \exp s_m(e_1) + t_m(e_1), \qquad x = s(u)

One half of the numbers scales and shifts the other, and every :math:`A_m` is a learnt matrix (Kingma and Dhariwal, 2018), so that densities and draws are equally
fast. s writes the cells: a measure is its number, a count or ordered level the interval that its number falls into, a category the greatest of its
numbers (Hoogeboom et al., 2021). The guide guesses what the known cells leave open of u; where that is nothing, the density is exact.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.flows import Affine, Autoregressive, Composed, Coupling, Inverted, LearntLinear
from probgen.families.flows.rows import FlowRows, checked_inputs
from probgen.families.latent import checked_sizes
from probgen.program import Model, Traits


class CouplingFlow(Model):
    """M couplings, each with a network of the given hidden widths; of a single number, scales and shifts alone.

    Args:
        schema: the columns.
        transforms: M.
        hidden: widths of each network, and of that which guesses.
        inputs: columns that are conditioned on, and have no density.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "halves of numbers that scale each other; fast densities and draws"
    )
    cells_as_latents = True

    def __init__(
        self, schema: Schema, transforms: int = 8, hidden: tuple[int, ...] = (64, 64), inputs: tuple[str, ...] = ()
    ) -> None:
        super().__init__(schema)
        checked_sizes(transforms=transforms, hidden=hidden)
        self.inputs = checked_inputs(schema, inputs)

        def one(size, context):
            if size > 1:
                return Coupling(size, Affine(), hidden, context)
            return Inverted(Autoregressive(size, Affine(), hidden, context))

        def flow(size, context):
            pairs = [(LearntLinear(size, context=context), one(size, context)) for _ in range(transforms)]
            return Composed(*(part for pair in pairs for part in pair))

        self.rows = FlowRows(schema, self.inputs, flow, hidden)

    def prepare(self, batches):
        self.rows.learn(batches)

    def model(self, batch):
        known = self.rows.known(batch)
        with batch.rows():
            z = pyro.sample("u", self.rows.left(batch), obs=known.settled)
            pyro.sample("x", self.rows.written(z), obs=self.rows.cells(batch))

    def guide(self, batch):
        if self.rows.known(batch).settled is None:
            with batch.rows():
                pyro.sample("u", self.rows.guess(batch))

    def rehearse(self, batch, sites):
        return self.rows.rehearsal(batch, sites.get("u"))
