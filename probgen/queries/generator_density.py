r"""The density of a generator's rows under normal noise: what can be said of a sampler that has none (Wu, Burda, Salakhutdinov and Grosse, 2017).

.. math:: p_\sigma(x) = \int \mathcal N(z; 0, I)\, \prod_d \mathcal N\bigl(x_d; G_\theta(z)_d, \sigma^2\bigr)\, \mathrm dz
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.estimate import Estimate
from probgen.families.base import Observable
from probgen.program import Model, Traits
from probgen.queries.fit import Fit

__all__ = ["generator_log_prob"]

LOG_TWO_PI = 1.8378770664093453


def generator_log_prob(
    fit: Fit,
    table: Any,
    noise: float = 0.1,
    *,
    chains: int = 16,
    temperatures: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    r"""Log density of rows under a ``gan`` whose draws have normal noise on top, by chains from the prior of its latents.

    .. math:: \log \int \mathcal N(z; 0, I)\, \mathcal N\bigl(x; G_\theta(z), \sigma^2 I\bigr)\, \mathrm dz

    The generator itself has no density, and this number is as much about the noise as about it: compare generators at one :math:`\sigma`, or look at several. It is
    low wherever the generator cannot reach a row, and says nothing of how sharp its draws are below :math:`\sigma`. On average over chains the estimate is too low.

    Args:
        fit: of ``gan``, to a table of real columns or dates.
        table: rows of the same columns; unknown cells are integrated out.
        noise: :math:`\sigma`, in standard deviations of each column.
        chains: a row.
        temperatures: steps from the prior of z to its posterior; 1 is importance sampling.
        seed: of the chains.
        progress: show a bar.

    Returns:
        Nats a row in the units of the table, kind "annealed", with standard errors.

    Raises:
        CapabilityError: another model, columns of other kinds, or noise that is none.

    Source: Wu, Burda, Salakhutdinov and Grosse (2017), On the quantitative analysis of decoder-based generative models.
    """
    check(fit, noise)
    noisy = replace(fit, program=NoisyGenerator(fit.program, float(noise)))
    return noisy.log_prob(
        table, method="annealed", draws=chains, temperatures=temperatures, seed=seed, progress=progress
    )


def check(fit: Fit, noise: float) -> None:
    """Refuse what has no such density."""
    if fit.name != "gan":
        raise CapabilityError(
            f"generator_log_prob is for fits of 'gan', whose rows are a network's output; got {fit.name!r}."
        )
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 < noise < float("inf"):
        raise CapabilityError(f"noise is a standard deviation above 0, in those of the columns, got {noise!r}.")
    for column in fit.schema:
        if column.kind not in NoisyGenerator.traits.kinds:
            raise CapabilityError(
                f"Column {column.name!r} is {column.kind}, and normal noise is for {', '.join(NoisyGenerator.traits.kinds)} columns. Drop it,"
                " or fit it as a real column (schema.with_kind)."
            )


class NoisyGenerator(Model):
    """The program behind it, with the prior as its guide.

    Args:
        program: a ``gan``.
        noise: standard deviation.
    """

    traits = Traits("lower_bound", (), summary="a generator's rows with noise", kinds=("real", "datetime"))

    def __init__(self, program: Any, noise: float) -> None:
        super().__init__(program.schema)
        self.generates, self.noise = program, noise

    @property
    def name(self) -> str:
        return self.generates.name

    def prior(self) -> Any:
        """Of the generator's latents."""
        return Normal(torch.zeros(self.generates.latent), 1.0).to_event(1)

    def rows(self, z: Tensor, batch: Batch) -> Tensor:
        """What the generator writes where it is shown nothing, ``(..., D)``."""
        columns = self.generates.columns
        shown, known = columns.read(Batch(torch.full_like(batch.x, torch.nan), batch.schema))
        lead = z.shape[:-1]
        output = self.generates.generator(z, shown.expand(*lead, -1), known.expand(*lead, -1))
        numbers = columns.split(output, [part.outputs for part, _ in columns.pairs()])
        return columns.write(torch.cat([piece.flatten(-2) for piece in numbers], -1)[..., columns.order])

    def model(self, batch: Any) -> Any:
        with batch.rows():
            z = pyro.sample("z", self.prior())
            pyro.sample("x", Noisy(self.rows(z, batch), self.noise), obs=batch.x)

    def guide(self, batch: Any) -> Any:
        with batch.rows():
            pyro.sample("z", self.prior())


class Noisy(Observable):
    """Normal numbers around rows ``(..., D)``; unknown cells are integrated out."""

    def __init__(self, rows: Tensor, scale: float) -> None:
        self.centre, self.scale = rows, torch.as_tensor(scale, dtype=rows.dtype, device=rows.device)
        super().__init__(rows.shape[:-1], rows.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.centre) / self.scale
        return torch.where(value.isnan(), 0.0, -0.5 * (z.nan_to_num().square() + LOG_TWO_PI) - self.scale.log()).sum(
            -1
        )

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.centre + self.scale * torch.randn_like(self.centre)
