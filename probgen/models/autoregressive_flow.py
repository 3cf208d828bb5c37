r"""Masked autoregressive flow (Papamakarios, Pavlakou and Murray, 2017) over the columns of a table.

.. math::
    e_j \sim t_{\nu_j}, \qquad u = (f_1 \circ f_2 \circ \dots \circ f_M)(e), \qquad
    f_m: \ y_j = e_j \exp s_{mj}(y_{<j}) + t_{mj}(y_{<j}), \qquad x = s(u)

Every transform goes through the numbers in the other direction than the one before. s writes the cells: a measure is its number, a count or ordered
level the interval that its number falls into, a category the greatest of its numbers (Hoogeboom et al., 2021). The guide guesses what the known cells
leave open of u; where that is nothing, the density is exact.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.flows import Affine, Autoregressive, Inverted, alternating
from probgen.families.flows.rows import FlowRows, checked_inputs
from probgen.families.latent import checked_sizes
from probgen.program import Model, Traits


class AutoregressiveFlow(Model):
    """M scales and shifts of every number, given those before it.

    Args:
        schema: the columns.
        transforms: M.
        hidden: widths of each network, and of that which guesses.
        inputs: columns that are conditioned on, and have no density.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "noise scaled number by number; exact densities of complete measures"
    )
    cells_as_latents = True

    def __init__(
        self, schema: Schema, transforms: int = 5, hidden: tuple[int, ...] = (64, 64), inputs: tuple[str, ...] = ()
    ) -> None:
        super().__init__(schema)
        checked_sizes(transforms=transforms, hidden=hidden)
        self.inputs = checked_inputs(schema, inputs)

        def flow(size, context):
            return alternating([Inverted(Autoregressive(size, Affine(), hidden, context)) for _ in range(transforms)])

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
