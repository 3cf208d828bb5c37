r"""Causal transformer over sequences and text (Vaswani et al., 2017; Radford et al., 2019).

.. math::
    x_{td} \mid x_{t1}, \dots, x_{t,d-1},\, x_{<t} \sim p_d\bigl(h_{td}\bigr), \qquad
    h = (\mathrm{layer}_M \circ \dots \circ \mathrm{layer}_1)(\text{tokens before } x_{td})

One token a cell; every layer adds what a token finds by attention to itself and to those before it, then what a perceptron makes of it. Levels are
said by a softmax over their tokens' vectors, other cells by mixtures of the family of their kind. The density is exact where no
unknown cell stands before a known one of its sequence; there the guide draws such cells from the chain itself.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.reader_options import checked_transformer
from probgen.families.step_chain import StepCells, StepChain, StepHoles, inner_holes
from probgen.families.step_windows import Windowing
from probgen.nn.causal import CausalTransformer
from probgen.program import Model, Traits


class Transformer(Model):
    """M layers of attention over the cells before.

    Args:
        schema: the columns of a step.
        context: steps that are looked back on at most, and learnt from together.
        layers: M.
        width: of tokens, a multiple of ``heads``.
        heads: of attention.
        dropout: share of numbers left out while it learns.
        positions: "learnt" vectors, or "rotary".
        tied: levels are said by the vectors by which they are read.
        stride: steps that each further window of a longer sequence says; half of the context unless told otherwise.
        components: members of the mixtures that cells without levels have.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "sequences and text, token by token, by attention to those before",
        sequences=True, objective="iwae",
    )  # fmt: skip
    cells_as_latents = True

    def __init__(
        self,
        schema: Schema,
        context: int = 64,
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        dropout: float = 0.0,
        positions: str = "learnt",
        tied: bool = True,
        stride: int | None = None,
        components: int = 5,
    ) -> None:
        super().__init__(schema)
        checked_transformer(layers, width, heads, dropout, positions)
        self.windowing, self.window = Windowing.of(context, stride), context
        net = CausalTransformer(width, layers, heads, context * len(schema), positions, dropout)
        self.cells = StepCells(schema, net, components, tied)

    def model(self, batch):
        chain, holes = StepChain(self.cells, batch.steps, self.windowing), inner_holes(batch.x, batch.steps)
        with batch.rows():
            filled = None if holes is None else pyro.sample("holes", StepHoles(chain, batch.x, holes))
            pyro.sample("x", chain.given(filled), obs=batch.x)

    def guide(self, batch):
        chain, holes = StepChain(self.cells, batch.steps, self.windowing), inner_holes(batch.x, batch.steps)
        if holes is not None:
            with batch.rows():
                pyro.sample("holes", StepHoles(chain, batch.x, holes, still=True))
