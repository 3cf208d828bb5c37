"""What a method leaves behind: draws of the families' parameters, or one point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from probgen.families.base import Parameters

__all__ = ["Posterior"]

Theta = dict[str, Parameters]  # family's name in the program -> its parameters


@dataclass(frozen=True)
class Posterior:
    """Draws ``[chain, draw, ...]`` of every global parameter.

    Attributes:
        parameters: readable parameters of the families, keyed by family and parameter.
        sites: global sample sites outside families (users' programs), keyed by name.
        point: True for a point estimate, which is one chain of one draw.
        statistics: ``(chains, draws)`` of every draw by the sampler, under ArviZ's names: ``lp``, ``acceptance_rate``,
            ``step_size``, ``n_steps``, ``diverging``, ``energy``; empty where there was no sampler.
        cells: ``(chains x draws, U)`` unknown cells of the training rows, row by row in model coordinates, where a method draws
            them beside the parameters. They are not saved with a fit.
    """

    parameters: dict[str, Parameters] = field(default_factory=dict)
    sites: Parameters = field(default_factory=dict)
    point: bool = True
    statistics: Parameters = field(default_factory=dict)
    cells: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(chains, draws)."""
        for theta in self.parameters.values():
            for value in theta.values():
                return value.shape[0], value.shape[1]
        for value in self.sites.values():
            return value.shape[0], value.shape[1]
        return 1, 1

    def __len__(self) -> int:
        chains, draws = self.shape
        return chains * draws

    def theta(self, number: int = 0) -> Theta:
        """The families' parameters of one draw, counted over chains and draws."""
        chain, draw = divmod(number % len(self), self.shape[1])
        return {name: {k: v[chain, draw] for k, v in theta.items()} for name, theta in self.parameters.items()}

    def site_values(self, numbers: Iterable[int]) -> Parameters:
        """Sites outside families of some draws, counted over chains and draws, stacked along a first axis."""
        index = torch.tensor([number % len(self) for number in numbers])
        return {name: value.flatten(0, 1)[index.to(value.device)] for name, value in self.sites.items()}

    def only(self, number: int) -> Posterior:
        """The posterior with one of its draws, counted over chains and draws."""
        chain, draw = divmod(number % len(self), self.shape[1])
        one = slice(chain, chain + 1), slice(draw, draw + 1)
        parameters = {name: {k: v[one] for k, v in theta.items()} for name, theta in self.parameters.items()}
        return Posterior(parameters, {k: v[one] for k, v in self.sites.items()}, self.point)

    def mean(self) -> Posterior:
        """The mean of all draws as a point estimate."""
        middle = lambda values: {key: value.mean((0, 1), keepdim=True) for key, value in values.items()}  # noqa: E731
        return Posterior({name: middle(theta) for name, theta in self.parameters.items()}, middle(self.sites))

    def spread(self, most: int) -> Iterator[Theta]:
        """At most ``most`` draws, evenly spaced over all of them."""
        total = len(self)
        for k in range(min(most, total)):
            yield self.theta(k * total // min(most, total))

    @classmethod
    def at(cls, theta: Theta) -> Posterior:
        """A point estimate."""
        return cls({name: {k: v.detach()[None, None] for k, v in t.items()} for name, t in theta.items()})
