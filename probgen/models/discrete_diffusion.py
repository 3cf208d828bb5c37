r"""Absorbing-state diffusion of levels (Austin, Johnson, Ho, Tarlow and van den Berg, 2021; Hoogeboom et al., 2022).

.. math::
    \pi \sim \text{orders of the columns}, \qquad
    x_{\pi_i} \mid x_{\pi_1}, \dots, x_{\pi_{i-1}} \sim \mathrm{Categorical}\bigl(f_\theta(x_{\pi_1}, \dots, x_{\pi_{i-1}})\bigr), \qquad
    q: \text{cells vanish, one after the other}

The guide q hides cells at random until none is left and has nothing to learn; the program brings them back. One network answers for any set of visible
cells, so that any columns can be given and any asked for. Its density is a bound: the mean log density over orders.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.denoising import Denoised
from probgen.families.diffusion_options import checked_diffusion
from probgen.families.masked_diffusion import MaskedDiffusion
from probgen.nn import TimedMLP
from probgen.program import Model, Traits


class DiscreteDiffusion(Model):
    """A network of residual blocks that brings hidden levels back.

    Args:
        schema: the columns, all of them with levels.
        hidden: widths, a residual block for each.
        draw_steps: in which cells are drawn, several at a time; None for one after the other, which alone is the law that the bound is of.
        guidance: how far draws go beyond what the known cells say, 0 for not at all.
        conditioning: share of the training rows in which some known cells are given, or kept from the network.
        dropout: share of the network's units that are left out at each training step.
    """

    traits = Traits(
        "bound", ("svi",), "none", "levels that vanish and come back in any order; any columns given any others",
        kinds=("binary", "categorical", "ordinal"), diffuses=True,
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (128, 128),
        draw_steps: int | None = None,
        guidance: float = 0.0,
        conditioning: float = 0.25,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(schema)
        checked_diffusion(hidden, draw_steps or 1, guidance, conditioning, dropout)
        levels = sum(len(column.levels) for column in schema)
        self.network = TimedMLP(levels + 2 * len(schema), hidden, levels, dropout)
        self.process = MaskedDiffusion(schema, self.network, draw_steps, guidance, conditioning)

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", Denoised(self.process), obs=batch.x)

    def guide(self, batch):
        """Nothing is left to learn: which cells are hidden is drawn by the process, whose bound needs no divergence."""
