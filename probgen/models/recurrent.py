r"""Recurrent network over sequences and text (Cho et al., 2014; Hochreiter and Schmidhuber, 1997; compare Graves, 2013).

.. math::
    x_{td} \mid x_{t1}, \dots, x_{t,d-1},\, x_{<t} \sim p_d\bigl(h_{td}\bigr), \qquad
    h_{td} = \mathrm{cell}\bigl(h_{\text{before}},\, \text{token before } x_{td}\bigr)

One token a cell, and a state that keeps what is worth keeping of those before. Levels are said by a softmax over their tokens' vectors, other cells
by mixtures of the family of their kind. The density is exact where no unknown cell stands before a known one of its sequence; there
the guide draws such cells from the chain itself.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.reader_options import checked_recurrent
from probgen.families.step_chain import StepCells, StepChain, StepHoles, inner_holes
from probgen.families.step_windows import Windowing
from probgen.nn.causal import RecurrentReader
from probgen.program import Model, Traits


class Recurrent(Model):
    """A state that goes from cell to cell.

    Args:
        schema: the columns of a step.
        context: steps that are looked back on at most, and learnt from together.
        cell: "gru" or "lstm".
        layers: of cells.
        width: of tokens and states.
        dropout: share of numbers left out while it learns.
        tied: levels are said by the vectors by which they are read.
        stride: steps that each further window of a longer sequence says; half of the context unless told otherwise.
        components: members of the mixtures that cells without levels have.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "sequences and text, token by token, by a state that is carried along",
        sequences=True, objective="iwae",
    )  # fmt: skip
    cells_as_latents = True

    def __init__(
        self,
        schema: Schema,
        context: int = 64,
        cell: str = "gru",
        layers: int = 1,
        width: int = 64,
        dropout: float = 0.0,
        tied: bool = True,
        stride: int | None = None,
        components: int = 5,
    ) -> None:
        super().__init__(schema)
        checked_recurrent(cell, layers, width, dropout)
        self.windowing, self.window = Windowing.of(context, stride), context
        self.cells = StepCells(schema, RecurrentReader(width, layers, cell, dropout), components, tied)

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
