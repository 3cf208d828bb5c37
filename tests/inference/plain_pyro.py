"""Pyro's own log density of a user's program, as a function of named unconstrained values: what ours has to equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.mcmc.util import initialize_model
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to

__all__ = ["PlainPyro"]


def at_origin(site: dict) -> Tensor:
    """The value at which a site's unconstrained coordinates are 0; improper priors cannot be sampled."""
    transform = biject_to(site["fn"].support)
    return transform(torch.zeros(transform.inverse_shape(site["fn"].shape())))


class Startable(Messenger):
    """Improper priors give a value where Pyro would run the program forward."""

    def _pyro_sample(self, message: dict) -> None:
        if isinstance(message["fn"], dist.ImproperUniform) and not message["done"]:
            message["value"], message["done"] = at_origin(message), True


class PlainPyro:
    """``pyro.infer.mcmc.util.initialize_model``: its sites, their maps and the log posterior with Jacobians."""

    def __init__(self, model: Callable, data: Any, max_plate_nesting: int | None = None) -> None:
        with pyro.validation_enabled(False):
            self.initial, self.potential, self.transforms, self.trace = initialize_model(
                Startable()(model), (data,), init_strategy=at_origin, max_plate_nesting=max_plate_nesting
            )
        self.shapes = {name: value.shape for name, value in self.initial.items()}

    @property
    def size(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def split(self, u: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """A flat vector in the order of the names as unconstrained values by name."""
        names = list(names or self.shapes)
        pieces = u.split([self.shapes[name].numel() for name in names])
        return {name: piece.reshape(self.shapes[name]) for name, piece in zip(names, pieces, strict=True)}

    def log_posterior(self, u: Tensor, names: Iterable[str] | None = None) -> Tensor:
        with pyro.validation_enabled(False):
            return -self.potential(self.split(u, names))

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        """Values of the sites."""
        return {name: self.transforms[name].inv(value) for name, value in self.split(u).items()}
