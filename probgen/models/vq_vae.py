r"""Vector-quantised variational autoencoder (van den Oord, Vinyals and Kavukcuoglu, 2017).

.. math::
    k_1, \dots, k_M \sim p(k), \qquad
    x_d \mid k \sim p_d\bigl(f_\theta(c_{k_1}, \dots, c_{k_M})\bigr) \text{ for every column } d, \qquad
    q(k_m \mid x) = \delta\bigl(k_m - \arg\min_j \lVert e_\phi(x)_m - c_j \rVert\bigr)

M codes a row, each one of K vectors :math:`c_j` of a codebook. The prior of the codes is learnt beside, with each slot by itself or given those before it.
Because the guide is a point, the density is the bound :math:`\log p(x \mid k^*) + \log p(k^*)`, which no number of draws brings nearer.
"""

import pyro
import torch

from probgen.data.batches import features, first_rows, n_features
from probgen.data.schema import Schema
from probgen.families import Columns
from probgen.families.codebook import Codebook, Codes, codes_prior
from probgen.families.latent import checked_sizes, decoder
from probgen.nn import mlp
from probgen.program import Model, Traits


class VQVAE(Model):
    """M codes a row, out of K.

    Args:
        schema: the columns.
        slots: M.
        codes: K.
        width: dimensions of a code's vector.
        hidden: widths of the encoder, and from behind of the decoder.
        prior: of the codes: "recurrent" or "independent".
        commitment: weight of the encoder's pull to what it chose.
        spread: as for ``vae``.
    """

    traits = Traits("bound", ("svi",), "mean", "codes out of a codebook, decoded by a network, and a prior over them")

    def __init__(
        self,
        schema: Schema,
        slots: int = 4,
        codes: int = 32,
        width: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        prior: str = "recurrent",
        commitment: float = 0.25,
        spread: str = "row",
    ) -> None:
        super().__init__(schema)
        checked_sizes(slots=slots, codes=codes, width=width, hidden=hidden)
        self.columns = Columns(schema)
        self.book = Codebook(slots, codes, width, commitment)
        self.prior = codes_prior(prior, self.book, hidden[-1] if hidden else 64)
        self.encoder = mlp(n_features(schema), *hidden, slots * width)
        self.decoder = decoder(slots * width, *reversed(hidden), columns=self.columns, spread=spread)

    def prepare(self, batches):
        x, _ = first_rows(batches.pieces(), 1000)
        with torch.no_grad():
            self.book.begin(self.encoder(features(x, batches.schema)))

    def outline(self):
        return [f"codebook   {self.book.perplexity:.1f} of {self.book.codes} vectors in use (perplexity)"]

    def model(self, batch):
        with batch.rows():
            z = pyro.sample("z", Codes(self.book, self.prior))
            pyro.sample("x", self.columns(self.decoder(z)), obs=batch.x)

    def guide(self, batch):
        with batch.rows():
            pyro.sample("z", self.book(self.encoder(batch.features())))

    def after_step(self, rows):
        self.book.follow(rows)
