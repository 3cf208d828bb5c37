r"""Kernel density estimate (Rosenblatt, 1956; Parzen, 1962), with mixed columns as in Racine and Li (2004).

.. math::
    z \sim \mathrm{Categorical}(w_1, \dots, w_N), \qquad
    x_d \mid z = i \sim K_d(\cdot\,; x_{id}, h_d) \text{ for every column } d

Every training row carries a kernel: Gaussian or compact for numbers (positive ones through their logarithm, bounded
ones through their log odds), geometric for counts and ordered levels, Aitchison and Aitken's (1976) for the others.
A training row with holes stands in as several complete rows of less weight, with cells of rows that resemble it.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT
from probgen.families.kernel_rows import KernelRows
from probgen.program import Model, Traits


class KernelDensity(Model):
    """One kernel on every training row; widths by leaving rows out, by Scott's or Silverman's rule, or given.

    Args:
        schema: the columns.
        bandwidth: "cross_validation", "scott", "silverman", a number for all columns without levels, or one number a
            column: standard deviations of the column (of its logarithm, of its log odds), shares from 0 to 1 for levels.
        kernel: of continuous columns: "gaussian", "epanechnikov", "biweight" or "tophat".
        neighbours: k stretches each kernel by its row's distance to the k-th nearest (Breiman et al., 1977).
        donors: how many complete rows stand in for a training row with holes.
        approximation: for many rows and few columns: kernels whose centres share a cell of this many widths (say 0.3)
            become one; the diagnostics say how far the log density moved.
    """

    traits = Traits("exact", ("cross_validation",), "none", "a kernel on every training row")

    def __init__(
        self,
        schema: Schema,
        bandwidth: str | float | tuple[float, ...] = "cross_validation",
        kernel: str = "gaussian",
        neighbours: int | None = None,
        donors: int = 5,
        approximation: float | None = None,
    ) -> None:
        super().__init__(schema)
        self.rows = KernelRows(schema, kernel, bandwidth, neighbours, donors, approximation)

    @property
    def piece_rows(self):
        return self.rows.piece_rows

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", self.rows.weights(), infer=SUM_OUT)
            pyro.sample("x", self.rows(z), obs=batch.x)
