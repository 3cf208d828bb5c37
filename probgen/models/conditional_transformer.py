r"""Transformer that reads some columns and says the others (Vaswani et al., 2017).

.. math::
    x_d \mid x_1, \dots, x_{d-1}, c \sim p_d\bigl(h_d\bigr), \qquad
    h = \mathrm{decoder}\bigl(x_1, \dots, x_{D-1};\ \mathrm{encoder}(c)\bigr), \qquad d = 1, \dots, D

The inputs c are conditioned on. They are read as tokens: those of texts, patches of pictures, moments of sounds, and any other column as one; all of them look
at each other. The other columns are said cell by cell, each by what it finds in those before it and in the inputs: levels by a softmax over their tokens' vectors, other
cells by mixtures of the family of their kind. The density is exact where no unknown cell stands before a known one; there the guide guesses such cells.
"""

import pyro

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.latent import checked_sizes
from probgen.families.pixel_chain import Copied, Guessed, checked_temperature, waiting
from probgen.families.reader_options import checked_share, checked_transformer
from probgen.families.row_chain import RowCells, RowChain
from probgen.families.row_readers import RowReader
from probgen.nn.translation import Decoder, Encoder
from probgen.program import Model, Traits


class ConditionalTransformer(Model):
    """M layers that read, and M that say.

    Args:
        schema: the columns.
        inputs: names of columns, texts, pictures and sounds that are read; none for a model of all columns.
        layers: M.
        width: of tokens, a multiple of ``heads``.
        heads: of attention.
        dropout: share of numbers left out while it learns.
        masking: share of the bands, and of the frames, of sounds that are silenced at most while it learns (Park et al., 2019).
        components: members of the mixtures that cells without levels have.
        temperature: of draws of what comes behind the known cells: their probabilities are raised to the power of one over it.
    """

    traits = Traits(
        "lower_bound", ("svi",), "none", "reads some columns, texts, pictures or sounds, and says the others cell by cell",
        objective="iwae",
    )  # fmt: skip
    cells_as_latents = True

    def __init__(
        self,
        schema: Schema,
        inputs: tuple[str, ...] = (),
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        dropout: float = 0.0,
        masking: float = 0.0,
        components: int = 5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(schema)
        checked_transformer(layers, width, heads, dropout, "learnt")
        checked_sizes(components=components)
        checked_share("masking", masking)
        self.inputs = schema.columns_named(inputs)
        self.said = tuple(name for name in schema.names if name not in self.inputs)
        if not self.said:
            raise CapabilityError("Every column is an input; leave out of inputs what is to be said.")
        said = schema.select(self.said)
        self.temperature = checked_temperature(temperature, said)
        self.cells = RowCells(said, Decoder(width, layers, heads, len(said), dropout, bool(self.inputs)), components)
        if self.inputs:
            self.reader = RowReader(schema.select(self.inputs), width, masking)
            self.encoder = Encoder(width, layers, heads, dropout)

    def rows(self, batch, temperature=1.0):
        """The distribution of rows given what is read."""
        heard = self.encoder(self.reader(batch.select(self.inputs))) if self.inputs else None
        return RowChain(self.cells, heard, temperature)

    def model(self, batch):
        x = batch.select(self.said)
        with batch.rows():
            rows = self.rows(batch, self.temperature)
            if waiting(x):
                rows = Copied(pyro.sample("u", rows))
            pyro.sample("x", rows, obs=x)

    def guide(self, batch):
        x = batch.select(self.said)
        if waiting(x):
            with batch.rows():
                pyro.sample("u", Guessed(self.rows(batch), x))
