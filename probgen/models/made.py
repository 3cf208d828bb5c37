r"""Masked autoencoder for distribution estimation (Germain, Gregor, Murray and Larochelle, 2015), of any order (Uria, Murray and Larochelle, 2014).

.. math::
    x_{\sigma_d} \mid x_{\sigma_1}, \dots, x_{\sigma_{d-1}} \sim
    p_{\sigma_d}\bigl(f_\theta(x_{\sigma_1}, \dots, x_{\sigma_{d-1}})\bigr), \qquad d = 1, \dots, D

A perceptron says each column, by the family of its kind, given those before it. With ``order="any"`` it reads the cells that are known and
which they are, learns from random orders, and answers for any set of known cells, which come first; with one order the weights that
would look ahead are masked, and all columns are said in one pass. The density is exact in both.
"""

from dataclasses import replace

import pyro
from torch import Tensor

from probgen.data.batches import feature_columns
from probgen.data.schema import Schema
from probgen.families.cell_chain import AnyOrder, Cells, InOrder, checked_layers, order_named, orders_of
from probgen.families.cell_heads import CellHeads
from probgen.nn import CellNetwork, OrderedMLP, ShownMLP
from probgen.program import Model, Traits


class MADE(Model):
    """Column by column, by a perceptron.

    Args:
        schema: the columns.
        hidden: widths of its layers.
        order: "any", or one: that of the columns ("column"), or a "random" one.
        orders: R, with any order: densities are means over so many orders, that of the columns and random ones.
        components: K, of the mixtures that cells of columns without levels have.
    """

    traits = Traits(
        "exact", ("svi",), "none", "column by column in any order, by a masked perceptron",
        objective="any_order", any_order=True,
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (256, 256),
        order: str = "any",
        orders: int = 1,
        components: int = 5,
    ) -> None:
        super().__init__(schema)
        checked_layers(hidden)
        heads, owners = CellHeads(schema, components), feature_columns(schema)
        if order == "any":
            self.chain, columns = AnyOrder, orders_of(len(schema), orders)
            net: CellNetwork = ShownMLP(owners, heads.blocks, *hidden)
        else:
            self.traits = replace(MADE.traits, objective="elbo", any_order=False)
            self.chain, columns = InOrder, order_named(order, len(schema))
            net = OrderedMLP(owners, heads.blocks, *hidden, order=columns[0].tolist())
        net.begin(heads.start())
        self.cells = Cells(schema, heads, net)
        self.register_buffer("orders", columns)
        self.orders: Tensor

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", self.chain(self.cells, self.orders), obs=batch.x)
