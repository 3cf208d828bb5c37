r"""Masked transformer over cells, as a model of any order (Devlin et al., 2019; Uria, Murray and Larochelle, 2014; Hoogeboom et al., 2022).

.. math::
    x_{\sigma_d} \mid x_{\sigma_1}, \dots, x_{\sigma_{d-1}} \sim
    p_{\sigma_d}\bigl(f_\theta(\{(\sigma_e, x_{\sigma_e}) : e < d\})_{\sigma_d}\bigr), \qquad d = 1, \dots, D

One token a cell: a vector of its column plus one of its value, or of being unknown. All tokens look at the cells that are known, and each
says its column by the family of its kind. It learns from random orders and answers for any set of known cells, which come first.
"""

import pyro
from torch import Tensor

from probgen.data.batches import feature_columns
from probgen.data.schema import Schema
from probgen.families.cell_chain import AnyOrder, Cells, checked_layers, orders_of
from probgen.families.cell_heads import CellHeads
from probgen.nn import CellTransformer
from probgen.program import Model, Traits


class MaskedTransformer(Model):
    """Column by column in any order, by a transformer over cells.

    Args:
        schema: the columns.
        hidden: one width a layer, of which the first is that of the tokens.
        orders: R: densities are means over so many orders, that of the columns and random ones.
        components: K, of the mixtures that cells of columns without levels have.
    """

    traits = Traits(
        "exact", ("svi",), "none", "column by column in any order, by a transformer over cells",
        objective="any_order", any_order=True,
    )  # fmt: skip

    def __init__(
        self, schema: Schema, hidden: tuple[int, ...] = (64, 64), orders: int = 1, components: int = 5
    ) -> None:
        super().__init__(schema)
        checked_layers(hidden)
        heads = CellHeads(schema, components)
        net = CellTransformer(feature_columns(schema), heads.blocks, *hidden)
        net.begin(heads.start())
        self.cells = Cells(schema, heads, net)
        self.register_buffer("orders", orders_of(len(schema), orders))
        self.orders: Tensor

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", AnyOrder(self.cells, self.orders), obs=batch.x)
