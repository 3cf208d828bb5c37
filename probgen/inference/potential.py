r"""The log posterior of all global sites as one function of a flat unconstrained vector u.

.. math:: \log p(x \mid \theta(u)) + \log p(\theta(u)) + \log |\partial\theta / \partial u|

Discrete sites are summed out: of the library's programs by elimination over the families' factors, of a user's own by
Pyro's contraction. :mod:`probgen.inference.compiled` makes one graph of the function for many chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.families.base import Parameters
from probgen.families.markov_chain import ChainFactor
from probgen.inference.bijections import bijection
from probgen.inference.compiled import mapped
from probgen.inference.elimination import eliminate
from probgen.inference.evidence import Evidence
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.programs import UsersDensity
from probgen.inference.tracing import Given, Tracer, observe

__all__ = ["Potential"]


@dataclass(frozen=True)
class Slot:
    """Where a global site lies in the flat vector, and its map from the reals."""

    name: str
    start: int
    shape: torch.Size
    transform: Any

    def read(self, u: Tensor) -> Tensor:
        return u[self.start : self.start + self.shape.numel()].reshape(self.shape)


class Potential:
    """Log joint density of a program's global sites given one batch, discrete sites summed out."""

    def __init__(self, program: Any, batch: Any) -> None:
        self.program, self.batch = program, batch
        self.users = None if isinstance(batch, Batch) else UsersDensity(program, batch)
        if self.users is not None and self.users.has_families:
            self.users = None
        if self.users is None:
            tracer = observe(program, batch)
            self.families = tracer.families
            self.sequential = any(isinstance(factor, ChainFactor) for factor in tracer.factors)
            self.lay_out({name: (site.distribution, site.value.shape) for name, site in tracer.global_sites.items()})
        else:
            self.families, self.sequential = {}, False
            self.lay_out({name: (fn, self.users.shapes[name]) for name, fn in self.users.sites.items()})

    def lay_out(self, sites: dict[str, tuple[Any, torch.Size]]) -> None:
        """Give every site its place in the flat vector."""
        self.slots: list[Slot] = []
        self.size = 0
        for name, (distribution, shape) in sites.items():
            if distribution.support.is_discrete:
                raise CapabilityError(
                    f"Site {name!r} is discrete; gradient methods need it summed out:"
                    " put it inside a plate with a family of probgen and infer=SUM_OUT."
                )
            transform = bijection(distribution.support)
            free = torch.Size(transform.inverse_shape(shape))
            self.slots.append(Slot(name, self.size, free, transform))
            self.size += free.numel()

    def constrain(self, u: Tensor) -> tuple[Parameters, Tensor]:
        """Values of the sites, and the log Jacobian of the map."""
        values, log_jacobian = {}, u.new_zeros(())
        for slot in self.slots:
            free = slot.read(u)
            value = slot.transform(free)
            log_jacobian = log_jacobian + slot.transform.log_abs_det_jacobian(free, value).sum()
            values[slot.name] = value
        return values, log_jacobian

    def unconstrain(self, values: Parameters) -> Tensor:
        """The flat vector of given values."""
        return torch.cat([slot.transform.inv(values[slot.name]).reshape(-1) for slot in self.slots])

    def at(self, theta: Theta) -> Tensor:
        """The flat vector of the families' parameters, for programs whose parameters all belong to families."""
        values = {
            f"{name}.{key}": value
            for name, family in self.families.items()
            for key, value in family.disassemble(theta[name]).items()
        }
        return self.unconstrain(values)

    def described(self, u: Tensor) -> dict[str, Parameters]:
        """The parameters that a person reads, family by family."""
        values, _ = self.constrain(u)
        found = {}
        for name, family in self.families.items():
            sites = {key: values[f"{name}.{key}"] for key in family.prior()}
            found[name] = family.describe(family.assemble(sites))
        return found

    @property
    def made_of_families(self) -> bool:
        """True where every parameter belongs to a family, so that EM can find a starting point."""
        return all(slot.name.rsplit(".", 1)[0] in self.families for slot in self.slots)

    def prior_draw(self) -> Tensor:
        """U at a draw from the prior."""
        if self.users is not None:
            return self.unconstrain(self.users.prior_draw(self.batch))
        tracer = observe(self.program, self.batch)
        return self.unconstrain({name: site.value for name, site in tracer.global_sites.items()})

    def dispersed(self) -> Tensor:
        """U where a chain may start: uniform on (-2, 2) for a user's program, a draw from the prior for a model's."""
        return self.prior_draw() if self.users is None else self.unconstrain(self.users.start(self.batch))

    def trace(self, u: Tensor) -> tuple[Tracer, Tensor]:
        values, log_jacobian = self.constrain(u)
        return observe(self.program, self.batch, Given(sites=values), settle=True), log_jacobian

    def log_likelihood(self, u: Tensor) -> Tensor:
        """Of the batch alone."""
        if self.users is not None:
            return self.users.log_parts(self.constrain(u)[0], self.batch)[0]
        return log_likelihood(self.trace(u)[0], self.batch)

    def log_posterior(self, u: Tensor, data: Any = None) -> Tensor:
        """The density that samplers walk on; of a user's program also with other data."""
        if self.users is not None:
            values, log_jacobian = self.constrain(u)
            return self.users.log_joint(values, self.batch if data is None else data) + log_jacobian
        tracer, log_jacobian = self.trace(u)
        return log_likelihood(tracer, self.batch) + log_prior(tracer) + log_jacobian

    def log_parts(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Log likelihood, and log prior on the unconstrained scale: their sum is the log posterior."""
        values, log_jacobian = self.constrain(u)
        if self.users is not None:
            likelihood, prior = self.users.log_parts(values, self.batch)
            return likelihood, prior + log_jacobian
        tracer, _ = self.trace(u)
        return log_likelihood(tracer, self.batch), log_prior(tracer) + log_jacobian

    def log_mode(self, u: Tensor) -> Tensor:
        """The density whose maximum EM finds: families state their priors in the coordinates of their updates."""
        if self.users is not None:
            return self.users.log_joint(self.constrain(u)[0], self.batch)
        tracer, _ = self.trace(u)
        outside = tracer.global_sites_outside_families()
        prior = sum(
            tracer.global_sites[name].distribution.log_prob(tracer.global_sites[name].value).sum() for name in outside
        )
        for table in tracer.tables.values():
            if table.family.prior_choice is not None and table.theta is not None:
                prior = prior + table.family.log_prior(table.theta)
        return log_likelihood(tracer, self.batch) + prior

    def theta(self, u: Tensor) -> tuple[Theta, Parameters]:
        """Families' parameters, and the sites outside families (with what a user's program records)."""
        if self.users is not None:
            values, _ = self.constrain(u)
            return {}, values | self.users.recorded(values, self.batch)
        tracer, _ = self.trace(u)
        outside = tracer.global_sites_outside_families()
        tables = {name: dict(table.theta or {}) for name, table in tracer.tables.items()}
        return tables, {name: tracer.global_sites[name].value for name in outside}

    def posterior(self, points: Tensor, statistics: Parameters) -> Posterior:
        """Draws ``(C, S, P)`` of the unconstrained vector as draws of the parameters."""
        chains, draws = points.shape[:2]
        flat = mapped(self.theta, points.reshape(chains * draws, -1))
        tables, sites = tree_map(lambda value: value.reshape(chains, draws, *value.shape[1:]), flat)
        return Posterior(tables, sites, point=False, statistics=statistics)


def log_prior(tracer: Tracer) -> Tensor:
    """Of all global sites."""
    sites = tracer.global_sites.values()
    return sum(((s.scale * s.distribution.log_prob(s.value)).sum() for s in sites), torch.zeros(()))


def log_likelihood(tracer: Tracer, data: Any) -> Tensor:
    """Log density of the data: rows of a table with weights, or whatever a user's program observes."""
    if isinstance(data, Batch):
        rows, buckets = eliminate(tracer.factors)
        return Evidence(rows, buckets, tracer).total(data.weights)
    return sum((s.scale * s.distribution.log_prob(s.value)).sum() for s in tracer.sites.values())
