r"""Variational diffusion over mixed columns (Kingma, Salimans, Poole and Ho, 2021; Ho, Jain and Abbeel, 2020; Sohl-Dickstein et al., 2015).

.. math::
    z_1 \sim \mathcal N(0, I), \qquad
    z_s \mid z_t \sim q\bigl(z_s \mid z_t, y = \hat y_\theta(z_t, t)\bigr), \qquad
    x_d \mid z_0 \sim p_d(z_0) \text{ for every column } d, \qquad
    q(z_t \mid x) = \mathcal N(\alpha_t\, y(x),\ \sigma_t^2 I)

y(x) are the columns as numbers: standardised, one for every level of a categorical one. The guide q adds noise and has nothing to learn but how fast; the
program takes it away again, in T steps or, without T, in endlessly many. Noise schedule and network are learnt by one bound on the log density, estimated at one random time a row.
"""

import pyro

from probgen.data.schema import Schema
from probgen.families.denoising import Denoised
from probgen.families.diffusion_options import checked_diffusion, checked_repetitions, checked_variance
from probgen.families.gaussian_diffusion import GaussianDiffusion
from probgen.families.noise_schedule import NoiseSchedule
from probgen.families.noised_cells import NoisedCells
from probgen.families.noised_classifier import noised_classifier
from probgen.families.timed_networks import timed_network
from probgen.program import Model, Traits


class Diffusion(Model):
    """A network that takes noise away from the columns.

    Args:
        schema: the columns.
        hidden: widths, a residual block for each; of a U-net, channels at every size, each half the one before.
        steps: T, of the chain; None for endlessly many.
        variance: of a step of the chain with T steps, "learnt", from the network (Nichol and Dhariwal, 2021), or "posterior", that of a step at a known row.
        draw_steps: steps of a draw, where T is None.
        sampler: of draws: "ancestral" (the chain, which "auto" is with T steps), "ddim", "dpm" or "heun" (noise at the start
            only; "auto" without T is the last).
        guidance: how far draws go beyond what the known cells say, 0 for not at all; above it they are typical rather than
            draws of the distribution.
        conditioning: share of the training rows in which some known cells are shown to the network, or kept from it.
        dropout: share of the network's units that are left out at each training step.
        resampling: 0 for known cells that the network is shown; else they are held in the noisy row while the others are
            drawn, and each step is gone that often (Lugmayr et al., 2022).
        network: "mlp", or "unet" for tables with pictures.
        classifier: a column with levels that a second network tells from the noisy others; where its level is known, that network's
            gradient stands in draws for a label that is shown (Dhariwal and Nichol, 2021).
        classifier_guidance: factor of that gradient: 1 for draws of the distribution as far as both networks know it, more for
            typical ones, 0 for the label itself.
    """

    traits = Traits(
        "bound", ("svi",), "none", "noise taken away from the columns, step by step; any of them given any others", diffuses=True
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        hidden: tuple[int, ...] = (128, 128),
        steps: int | None = None,
        draw_steps: int = 50,
        sampler: str = "auto",
        guidance: float = 0.0,
        conditioning: float = 0.5,
        dropout: float = 0.0,
        resampling: int = 0,
        network: str = "mlp",
        classifier: str | None = None,
        classifier_guidance: float = 1.0,
        variance: str = "learnt",
    ) -> None:
        super().__init__(schema)
        checked_diffusion(hidden, draw_steps, guidance, conditioning, dropout, steps)
        checked_repetitions(resampling)
        learnt = checked_variance(variance) and steps is not None
        self.cells = NoisedCells(schema)
        self.schedule = NoiseSchedule()
        self.network = timed_network(schema, self.cells, hidden, dropout, network, learnt)
        told = noised_classifier(
            schema, classifier, self.cells.width, hidden, dropout, classifier_guidance, conditioning
        )
        self.process = GaussianDiffusion(
            self.cells, self.network, self.schedule, steps, draw_steps, sampler, guidance, conditioning, resampling, told, learnt
        )  # fmt: skip

    def prepare(self, batches):
        self.cells.learn(batches)

    def outline(self):
        first, last = (float(end.detach()) for end in self.schedule.ends())
        return [f"noise      {first:.1f} to {last:.1f}, log of its variance over the signal's"]

    def model(self, batch):
        with batch.rows():
            pyro.sample("x", Denoised(self.process), obs=batch.x)

    def rehearse(self, batch, sites):
        return self.process.rehearsal(batch.x)

    def guide(self, batch):
        """Nothing is left to learn: what adds the noise is part of the process, so that each step's divergence is in closed form."""
