r"""Hidden Chow-Liu tree (Liu and Van den Broeck, 2021): a tree of hidden states, one above each column.

.. math::
    h_r \sim \mathrm{Categorical}(\pi), \qquad
    h_d \mid h_{\mathrm{parent}(d)} = i \sim \mathrm{Categorical}(A_{di}), \qquad
    x_d \mid h_d = k \sim p_d(\theta_{dk})

The tree is the Chow-Liu tree of the columns, learned before the fit. Each column has the family of its kind (ordinal
ones are categorical). With ``components`` = M > 1 it is a mixture of M such trees, each with a structure of its own.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families import SUM_OUT, Categorical
from probgen.families.hidden_tree import HiddenTree
from probgen.families.node_columns import NodeColumns
from probgen.program import Model, Traits


class HiddenChowLiuTree(Model):
    """K states above every column; ``prior`` may be a number: pseudo-counts of each row of a table."""

    traits = Traits("exact", ("em", "online_em"), "probabilities", "a tree of hidden states, one above each column")
    start = "draw"

    def __init__(
        self, schema: Schema, states: int = 16, components: int = 1, prior: str | float | None = "default"
    ) -> None:
        super().__init__(schema)
        self.tree = HiddenTree(schema, states, components, prior)
        self.weights = Categorical(components, prior=None if prior is None else "default")
        self.emission = NodeColumns(schema, states, components, prior)

    @property
    def piece_rows(self):
        return self.tree.piece_rows

    def prepare(self, batches):
        self.tree.learn(batches.pieces())

    def model(self, batch):
        tree, emission = self.tree.draw("tree"), self.emission.draw("emission")
        weights = self.weights.draw("weights") if self.tree.components > 1 else None
        with batch.rows():
            if weights is None:
                h = pyro.sample("h", tree(), infer=SUM_OUT)
                pyro.sample("x", emission(h), obs=batch.x)
            else:
                z = pyro.sample("z", weights(), infer=SUM_OUT)
                h = pyro.sample("h", tree(z), infer=SUM_OUT)
                pyro.sample("x", emission(z, h), obs=batch.x)
