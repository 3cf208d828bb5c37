r"""Neural spline flow (Durkan, Bekasov, Murray and Papamakarios, 2019) over the columns of a table.

.. math::
    e_j \sim t_{\nu_j}, \qquad u = (f_1 \circ A_1 \circ f_2 \circ \dots \circ f_M)(e), \qquad x = s(u)

Every :math:`f_m` bends each number by a monotone rational-quadratic spline that those before it choose, every :math:`A_m` is a learnt matrix. s writes the
cells: a measure is its number, a count or ordered level the interval that its number falls into, a category the greatest of its numbers
(Hoogeboom et al., 2021). The guide guesses what the known cells leave open of u; where that is nothing, the density is exact.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.flows import Autoregressive, Composed, Coupling, Inverted, LearntLinear, RationalQuadratic
from probgen.families.flows.rows import FlowRows, checked_inputs
from probgen.families.latent import checked_sizes
from probgen.program import Model, Traits


class SplineFlow(Model):
    """M splines, each behind a network of the given hidden widths.

    Args:
        schema: the columns.
        transforms: M.
        hidden: widths of each network, and of that which guesses.
        bins: of a spline.
        bound: a spline is the identity beyond it; numbers have a standard deviation of about 1.
        coupling: half of the numbers choose the splines of the other half, which is faster to draw from; autoregressive unless told.
        inputs: columns that are conditioned on, and have no density.
    """

    traits = Traits("lower_bound", ("svi",), "none", "noise bent by splines; exact densities of complete measures")
    cells_as_latents = True

    def __init__(
        self,
        schema: Schema,
        transforms: int = 3,
        hidden: tuple[int, ...] = (64, 64),
        bins: int = 8,
        bound: float = 5.0,
        coupling: bool = False,
        inputs: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema)
        checked_sizes(transforms=transforms, hidden=hidden)
        self.inputs = checked_inputs(schema, inputs)

        def one(size, context):
            if coupling and size > 1:
                return Coupling(size, RationalQuadratic(bins, bound), hidden, context)
            return Inverted(Autoregressive(size, RationalQuadratic(bins, bound), hidden, context))

        def flow(size, context):
            pairs = [(one(size, context), LearntLinear(size, context=context)) for _ in range(transforms)]
            return Composed(*(part for pair in pairs for part in reversed(pair)))

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
