r"""Score-based model in continuous time (Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, 2021; Karras, Aittala, Aila and Laine, 2022).

.. math::
    \mathrm d z = \bigl(z - D_\theta(z, \sigma)\bigr)\, \mathrm d \log \sigma, \qquad
    z_{\sigma_{\max}} \sim \mathcal N\bigl(0, (1 + \sigma_{\max}^2) I\bigr), \qquad
    \min_\theta\ \mathbb E\, \lambda(\sigma) \lVert D_\theta(y(x) + \sigma \epsilon, \sigma) - y(x) \rVert^2

y(x) are the columns, standardised. The network learns to take noise away, which is the score of the noisy density; the equation that carries noise to rows is solved for
draws, and with the trace of its Jacobian for densities, whose error is what finer steps, and other random signs, change.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.denoising import Denoised
from probgen.families.diffusion_options import checked_diffusion
from probgen.families.noised_cells import NoisedCells
from probgen.families.score_process import ScoreProcess
from probgen.families.timed_networks import timed_network
from probgen.program import Model, Traits


class ScoreSDE(Model):
    """A network that takes noise away from continuous columns.

    Args:
        schema: the columns.
        hidden: widths, a residual block for each; of a U-net, channels at every size, each half the one before.
        sde: "vp", variance-preserving, "subvp", with less noise at the same signal, or "ve", exploding.
        draw_steps: half the steps of a draw and of a density, whose error is what as many alone would change.
        sampler: of draws: "heun", two calls of the network a step, or "dpm", one.
        guidance: how far draws go beyond what the known cells say, 0 for not at all.
        conditioning: share of the training rows in which some known cells are shown to the network, or kept from it.
        dropout: share of the network's units that are left out at each training step.
        network: "mlp", or "unet" for tables with pictures.
    """

    traits = Traits(
        "ode", ("svi",), "none", "continuous columns out of noise by an equation; any of them given any others",
        kinds=("real", "datetime", "positive", "bounded"), diffuses=True,
    )  # fmt: skip

    in_nats = False

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (128, 128),
        sde: str = "vp",
        draw_steps: int = 20,
        guidance: float = 0.0,
        conditioning: float = 0.5,
        dropout: float = 0.0,
        sampler: str = "heun",
        network: str = "mlp",
    ) -> None:
        super().__init__(schema)
        checked_diffusion(hidden, draw_steps, guidance, conditioning, dropout)
        self.cells = NoisedCells(schema)
        self.network = timed_network(schema, self.cells, hidden, dropout, network)
        self.process = ScoreProcess(self.cells, self.network, sde, draw_steps, guidance, conditioning, sampler)

    def prepare(self, batches):
        self.cells.learn(batches)

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", Denoised(self.process), obs=batch.x)

    def guide(self, batch):
        """Nothing is left to learn: the noise is part of the process. What ``model`` states while it learns is minus the error of denoising."""
