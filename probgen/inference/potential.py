r"""The log posterior of all global sites as one function of a flat unconstrained vector u.

.. math:: \log p(x \mid \theta(u)) + \log p(\theta(u)) + \log |\partial\theta / \partial u|

Discrete sites are summed out. The function can be traced once below Pyro into a flat graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to
from torch.fx.experimental.proxy_tensor import make_fx

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.families.base import Parameters
from probgen.families.markov_chain import ChainFactor
from probgen.inference.elimination import eliminate
from probgen.inference.evidence import Evidence
from probgen.inference.posterior import Theta
from probgen.inference.tracing import Given, Tracer, observe

__all__ = ["Potential"]

GradientAndValue = Callable[[Tensor], tuple[Tensor, Tensor]]


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
        tracer = observe(program, batch)
        self.families = tracer.families
        self.sequential = any(isinstance(factor, ChainFactor) for factor in tracer.factors)
        self.slots, at = [], 0
        for name, site in tracer.global_sites.items():
            support = site.distribution.support
            if support.is_discrete:
                raise CapabilityError(
                    f"Site {name!r} is discrete; gradient methods need it summed out:"
                    " put it inside a plate with a family of probgen and infer=SUM_OUT."
                )
            transform = biject_to(support)
            shape = transform.inv(site.value).shape
            self.slots.append(Slot(name, at, shape, transform))
            at += shape.numel()
        self.size = at

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
        tracer = observe(self.program, self.batch)
        return self.unconstrain({name: site.value for name, site in tracer.global_sites.items()})

    def trace(self, u: Tensor) -> tuple[Tracer, Tensor]:
        values, log_jacobian = self.constrain(u)
        return observe(self.program, self.batch, Given(sites=values), settle=True), log_jacobian

    def log_likelihood(self, u: Tensor) -> Tensor:
        """Of the batch alone."""
        return log_likelihood(self.trace(u)[0], self.batch)

    def log_posterior(self, u: Tensor) -> Tensor:
        """The density that samplers walk on."""
        tracer, log_jacobian = self.trace(u)
        prior = sum((s.scale * s.distribution.log_prob(s.value)).sum() for s in tracer.global_sites.values())
        return log_likelihood(tracer, self.batch) + prior + log_jacobian

    def log_mode(self, u: Tensor) -> Tensor:
        """The density whose maximum EM finds: families state their priors in the coordinates of their updates."""
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
        """Families' parameters, and the sites outside families."""
        tracer, _ = self.trace(u)
        outside = tracer.global_sites_outside_families()
        tables = {name: dict(table.theta or {}) for name, table in tracer.tables.items()}
        return tables, {name: tracer.global_sites[name].value for name in outside}

    def compiled(self, function: Callable[[Tensor], Tensor], example: Tensor) -> GradientAndValue:
        """U -> (gradient, value) as one graph traced below Pyro; eager where the program does not trace."""

        def eager(u: Tensor) -> tuple[Tensor, Tensor]:
            leaf = u.detach().requires_grad_()
            with torch.enable_grad():
                value = function(leaf)
            return torch.autograd.grad(value, leaf)[0], value.detach()

        eager(example)  # data statistics are made now, outside the trace
        try:
            graph = make_fx(eager)(example)
        except (RuntimeError, TypeError, ValueError):
            return eager  # control flow that depends on values
        other = example + 0.1 * torch.randn_like(example)
        agrees = all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(eager(other), graph(other), strict=True))
        return graph if agrees else eager


def log_likelihood(tracer: Tracer, data: Any) -> Tensor:
    """Log density of the data: rows of a table with weights, or whatever a user's program observes."""
    if isinstance(data, Batch):
        rows, buckets = eliminate(tracer.factors)
        return Evidence(rows, buckets, tracer).total(data.weights)
    return sum((s.scale * s.distribution.log_prob(s.value)).sum() for s in tracer.sites.values())
