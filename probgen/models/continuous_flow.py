r"""Continuous normalising flow, trained by flow matching (Lipman, Chen, Ben-Hamu, Nickel and Le, 2023; Liu, Gong and Liu, 2023; Tong et al., 2024).

.. math::
    u_0 \sim \mathcal N(0, I), \qquad
    \frac{\mathrm d u_t}{\mathrm d t} = v_\theta(u_t, t), \qquad
    x = s(u_1), \qquad
    \log p(u_1) = \log \mathcal N(u_0; 0, I) - \int_0^1 \nabla \cdot v_\theta(u_t, t)\, \mathrm d t

s writes the cells: a measure is its number, a count or ordered level the interval that its number falls into, a category the greatest of its numbers. The
network learns the mean direction of straight ways from noise to rows, with no equation to be solved; draws and densities solve it.
"""

from dataclasses import replace

import pyro

from probgen.data.schema import Schema
from probgen.families.denoising import Denoised
from probgen.families.dequantised_cells import DequantisedCells
from probgen.families.diffusion_options import checked_diffusion
from probgen.families.flow_matching import FlowMatching
from probgen.families.timed_networks import timed_network
from probgen.program import Model, Traits


class ContinuousFlow(Model):
    """A network that says where numbers go.

    Args:
        schema: the columns.
        hidden: widths, a residual block for each; of a U-net, channels at every size, each half the one before.
        transport: noise is paired with the complete rows of a minibatch so that the ways are short.
        sampler: of draws: "euler", "heun", or "adaptive", whose steps each row chooses.
        draw_steps: of a draw, and half the steps of a density, whose error is what as many alone would change.
        guidance: how far draws go beyond what the known cells say, 0 for not at all.
        conditioning: share of the training rows in which some known cells are shown to the network, or kept from it.
        dropout: share of the network's units that are left out at each training step.
        network: "mlp", or "unet" for tables with pictures.
    """

    traits = Traits(
        "ode", ("svi",), "none", "noise carried along straight ways by an equation; any columns given any others", diffuses=True
    )  # fmt: skip

    in_nats = False

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (128, 128),
        transport: bool = False,
        sampler: str = "heun",
        draw_steps: int = 20,
        guidance: float = 0.0,
        conditioning: float = 0.5,
        dropout: float = 0.0,
        network: str = "mlp",
    ) -> None:
        super().__init__(schema)
        checked_diffusion(hidden, draw_steps, guidance, conditioning, dropout)
        self.cells = DequantisedCells(schema)
        if self.cells.stepped:
            self.traits = replace(self.traits, density="bound")
        self.network = timed_network(schema, self.cells, hidden, dropout, network)
        self.process = FlowMatching(self.cells, self.network, transport, sampler, draw_steps, guidance, conditioning)

    def prepare(self, batches):
        self.cells.learn(batches)

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", Denoised(self.process), obs=batch.x)

    def guide(self, batch):
        """Nothing is left to learn: noise and ways are given. What ``model`` states while it learns is minus the error of the direction."""
