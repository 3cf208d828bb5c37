r"""Guides that are improved row by row, from where the encoder left them (Kim et al., 2018; Cremer, Li and Duvenaud, 2018).

.. math:: q_n(z) = \mathcal N\bigl(\mu_\phi(x_n) + \delta_n,\ \mathrm{diag}\, (\sigma_\phi(x_n) \odot e^{\gamma_n})^2\bigr), \qquad
    \max_{\delta_n, \gamma_n} \mathbb E_{q_n} \bigl[\log p(x_n, z) - \log q_n(z)\bigr]

Every normal site of the guide is moved like this, one that is drawn given others too. Gradients run along the paths of the draws alone, so that their noise
ends where the guide is the posterior (Roeder, Wu and Duvenaud, 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions import Independent, Normal
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.inference.amortised import Weighted, standing_still, weighted
from probgen.inference.annealed_latents import proposed
from probgen.inference.objectives.elbo import is_normal
from probgen.inference.posterior import Theta
from probgen.inference.row_noise import RowDraws, RowNoise
from probgen.whole import is_whole

__all__ = ["Refined", "check_guided", "refined"]

DRAWS, CHECKED = 8, 64  # of a step's gradient, and of the bounds that are compared in the end
RATE = 0.1  # of Adam, which falls to zero
Moves = dict[str, tuple[Tensor, Tensor]]  # by site, what is added to means and to log scales, (N, ..)


class Moved(Messenger):
    """Normal sites of a guide with their means and scales moved."""

    def __init__(self, moves: Moves) -> None:
        super().__init__()
        self.moves = moves

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.moves and not is_bookkeeping(message):
            message["fn"] = moved(message["fn"], *self.moves[message["name"]])


def moved(normal: Any, shift: Tensor, log_factor: Tensor) -> Any:
    """A normal distribution, or one that moves itself, with another mean and scale."""
    if isinstance(normal, Independent):
        return moved(normal.base_dist, shift, log_factor).to_event(normal.reinterpreted_batch_ndims)
    if isinstance(normal, Normal):
        return Normal(normal.loc + shift, normal.scale * log_factor.exp())
    return normal.moved(shift, log_factor)


def movable(drawn: Any) -> bool:
    """True for normal distributions and those that move themselves."""
    return is_normal(drawn) or hasattr(drawn, "moved")


class Refined:
    """A program whose guide is moved, row by row: for the one batch that it was refined for."""

    def __init__(self, program: Any, moves: Moves) -> None:
        self.program, self.moves = program, moves

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def model(self, batch: Any) -> Any:
        return self.program.model(batch)

    def guide(self, batch: Any) -> Any:
        with Moved(self.moves):
            return self.program.guide(batch)

    def parameters(self) -> Iterator[Tensor]:
        """Weights of the program, and the moves."""
        yield from self.program.parameters()
        for pair in self.moves.values():
            yield from pair


def check_guided(fit: Any, **steps: int) -> list[int]:
    """Numbers of steps; refused where they are none, or the model has no guide with a density."""
    for name, count in steps.items():
        if not is_whole(count, 0):
            raise CapabilityError(f"{name} is a number of steps, 0 or more; got {count!r}.")
        if count and fit.traits.density != "lower_bound":
            raise CapabilityError(
                f"{name} needs a guide of continuous latents, and {fit.name!r} has none with a density; leave it out."
            )
    return [int(count) for count in steps.values()]


def refined(program: Any, batch: Batch, steps: int, theta: Theta | None, seed: int) -> Any:
    """The program with each row's guide improved by some steps on its own bound.

    A row whose bound did not rise keeps the guide that it had.

    Args:
        program, batch, theta: the model, the rows, the parameters.
        steps: of Adam; 0 for the program itself.
        seed: of the draws of the gradients.

    Raises:
        CapabilityError: a guide that is not normal.
    """
    if steps == 0:
        return program
    noise = RowNoise(batch, seed, "refine")
    found = Refined(program, at_rest(program, batch, noise))
    leaves = [part.requires_grad_() for pair in found.moves.values() for part in pair]
    with torch.enable_grad(), standing_still(program):
        climb(found, batch, steps, theta, noise, leaves)
    for leaf in leaves:
        leaf.requires_grad_(False)
    with torch.no_grad():
        keep_the_better(found, batch, theta, noise)
    return found


def at_rest(program: Any, batch: Batch, noise: RowNoise) -> Moves:
    """No move of any site."""
    drawn = proposed(program, batch, 1, noise)
    for name, distribution in drawn.distributions.items():
        if not movable(distribution):
            raise CapabilityError(
                f"refine moves the means and scales of normal guides; that of {program.name!r} is"
                f" {type(distribution).__name__} at {name!r}. Leave refine out, or use method='annealed'."
            )
    return {name: (torch.zeros_like(z[0]), torch.zeros_like(z[0])) for name, z in drawn.sites.items()}


def bounds(program: Any, batch: Batch, draws: int, theta: Theta | None, noise: RowNoise, **options: Any) -> Weighted:
    """Draws of the guide, with the rows' own noise."""
    with RowDraws(noise):
        return weighted(program, batch, draws, theta=theta, **options)


def climb(
    found: Refined, batch: Batch, steps: int, theta: Theta | None, noise: RowNoise, leaves: list[Tensor]
) -> None:
    """Adam, whose steps are elementwise: rows do not know of one another."""
    adam = torch.optim.Adam(leaves, lr=RATE)
    for step in range(steps):
        adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
        value = bounds(found, batch, DRAWS, theta, noise, gradients="twice").log_weights.mean(0).sum()
        for leaf, gradient in zip(leaves, torch.autograd.grad(-value, leaves), strict=True):
            leaf.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        adam.step()


def keep_the_better(found: Refined, batch: Batch, theta: Theta | None, noise: RowNoise) -> None:
    """Rows whose bound is no higher than before go back."""
    after, before = (bounds(one, batch, CHECKED, theta, noise).log_weights.mean(0) for one in (found, found.program))
    worse = ~(after > before)
    rows = worse[batch.steps.sequence] if batch.in_sequences else worse
    for pair in found.moves.values():
        for part in pair:
            part[rows] = 0.0
