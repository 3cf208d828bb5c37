"""Parameters from the prior and data given them, with the density of the one given the other.

What both kinds of programs share: a simulator draws an unconstrained vector and the data's tensors that change from one
data set to the next; the log density is a function of both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from probgen._pyro import is_bookkeeping, is_factor, traced, unconditioned
from probgen.data.batches import Batch
from probgen.data.holes import mark_complete
from probgen.errors import CapabilityError
from probgen.families.base import Parameters
from probgen.inference.completion import gather
from probgen.inference.posterior import Theta
from probgen.inference.potential import Potential, log_likelihood, log_prior
from probgen.inference.programs import users_data
from probgen.inference.tracing import Given, observe

__all__ = ["Simulator", "TableSimulator", "UsersSimulator"]

Simulate = Callable[[Parameters, Any], Any]

WAY_OUT = (
    "Give the simulation yourself: simulate=function, which gets a dictionary of parameter values and the data, and returns"
    " new data of the same structure."
)


class Simulator(ABC):
    """Draws of parameters and data from a program's joint distribution."""

    potential: Potential

    @abstractmethod
    def draw(self) -> tuple[Tensor, list[Tensor]]:
        """An unconstrained vector ``(P,)`` from the prior, and the tensors of data drawn given it."""

    @abstractmethod
    def outcomes(self, u: Tensor) -> list[Tensor]:
        """The tensors of data drawn given parameters."""

    @abstractmethod
    def log_posterior(self, u: Tensor, own: list[Tensor]) -> Tensor:
        """Log joint density of a vector and its own data, on the unconstrained scale."""

    @abstractmethod
    def values(self, u: Tensor) -> Parameters:
        """What is ranked: functions of the parameters that no relabelling changes."""

    @abstractmethod
    def data(self, own: list[Tensor]) -> Any:
        """The program's argument with these tensors."""

    @abstractmethod
    def log_prior(self, u: Tensor) -> Tensor:
        """Of the constrained values."""

    def read(self, u: Tensor) -> tuple[Parameters, Tensor, Tensor]:
        """Values, log prior, and the log Jacobian of the constraints."""
        return self.values(u), self.log_prior(u), self.potential.constrain(u)[1]


class UsersSimulator(Simulator):
    """A user's own program.

    Args:
        program: a UserProgram.
        data: its argument: covariates, and outcomes of the right shapes, whose values do not matter.
        simulate: draws data given parameters; None for the program itself with its observed sites drawn.

    Raises:
        CapabilityError: the program's data cannot be drawn by running it; the message says why, and what to do.
    """

    def __init__(self, program: Any, data: Any, simulate: Simulate | None = None) -> None:
        data = users_data(data, torch.get_default_dtype(), torch.get_default_device())
        self.potential = Potential(program, data)
        if self.potential.users is None:
            raise CapabilityError(
                "A program made of probgen's families takes a table; give a registered model's name."
            )
        self.users, self.template, self.simulate = self.potential.users, data, simulate
        self.leaves, self.spec = tree_flatten(data)
        self.places: list[int] = []
        self.sites: dict[str, int] = {}
        if simulate is None:
            self.find_outcomes()

    # -- which tensors are outcomes ----------------------------------------------------------------------------
    def find_outcomes(self) -> None:
        """Which observed site is which tensor of the data; refuse what running the program would not draw."""
        trace = self.run()
        drawn = [(name, m) for name, m in trace.nodes.items() if m["type"] == "sample" and was_observed(m)]
        for name, message in drawn:
            if is_factor(message):
                raise CapabilityError(f"Site {name!r} is a factor, which draws no data. {WAY_OUT}")
            if not isinstance(message["scale"], int | float) or message["scale"] != 1:
                raise CapabilityError(f"Site {name!r} has scale {message['scale']}: it stands for others. {WAY_OUT}")
            observed = message["infer"]["obs"]
            places = [at for at, leaf in enumerate(self.leaves) if leaf is observed]
            if not places:
                raise CapabilityError(
                    f"Site {name!r} observes something that is no tensor of the data itself (a part, or a transformed copy),"
                    f" so what is drawn for it cannot be put back. Observe entries as they are, obs=data['y'], or: {WAY_OUT}"
                )
            self.sites[name] = places[0]
        if not self.sites:
            raise CapabilityError("The program observes nothing, so there are no data to simulate.")
        self.places = sorted(set(self.sites.values()))
        self.check_rereads(trace)

    def check_rereads(self, trace: Any) -> None:
        """The drawn data have the density that they were drawn from: the program reads outcomes as ``obs`` only."""
        own = self.own(trace)
        hidden = {name: trace.nodes[name]["value"] for name in [*self.users.sites, *self.users.discrete]}
        with Given(sites=hidden):
            again = traced(self.potential.program.model, self.data(own))
        for found in (trace, again):
            found.compute_log_prob()
        for name in self.sites:
            one, two = (found.nodes[name]["log_prob_sum"].double() for found in (trace, again))
            if not torch.allclose(one, two, rtol=1e-4, atol=1e-6):
                raise CapabilityError(
                    f"Site {name!r} depends on outcomes that the program reads from its data (as an autoregression does),"
                    f" so running it does not draw them together. Go on from the values that pyro.sample returns, or: {WAY_OUT}"
                )

    # -- drawing -----------------------------------------------------------------------------------------------
    def run(self, values: Parameters | None = None) -> Any:
        """One run that draws what the program observes."""
        try:
            with Given(sites=values or {}):
                return traced(unconditioned(self.potential.program.model), self.template)
        except NotImplementedError as error:
            raise CapabilityError(
                "A site of the program is improper, so it cannot be drawn from. Give it a proper prior."
            ) from error

    def own(self, trace: Any) -> list[Tensor]:
        """Drawn outcomes in place of the data's."""
        drawn = {at: trace.nodes[name]["value"] for name, at in self.sites.items()}
        return [drawn[at].detach().to(self.leaves[at]).expand(self.leaves[at].shape).clone() for at in self.places]

    def draw(self) -> tuple[Tensor, list[Tensor]]:
        if self.simulate is None:
            trace = self.run()
            values = {name: trace.nodes[name]["value"] for name in self.users.sites}
            return self.potential.unconstrain(values).detach(), self.own(trace)
        values = self.users.prior_draw(self.template)
        return self.potential.unconstrain(values).detach(), self.simulated(values)

    def simulated(self, values: Parameters) -> list[Tensor]:
        """What the user's own simulation gives."""
        assert self.simulate is not None
        leaves, spec = tree_flatten(self.simulate(values, self.template))
        fits = spec == self.spec and all(
            not isinstance(old, Tensor) or (isinstance(new, Tensor) and new.shape == old.shape)
            for old, new in zip(self.leaves, leaves, strict=True)
        )
        if not fits:
            raise CapabilityError("simulate must return data of the same structure and shapes as those it was given.")
        if not self.places:
            pairs = enumerate(zip(self.leaves, leaves, strict=True))
            self.places = [at for at, (old, new) in pairs if isinstance(new, Tensor) and new is not old]
        return [leaves[at].detach().to(self.leaves[at]) for at in self.places]

    def outcomes(self, u: Tensor) -> list[Tensor]:
        values, _ = self.potential.constrain(u)
        return self.own(self.run(values)) if self.simulate is None else self.simulated(values)

    # -- densities ---------------------------------------------------------------------------------------------
    def data(self, own: list[Tensor]) -> Any:
        leaves = list(self.leaves)
        for at, tensor in zip(self.places, own, strict=True):
            leaves[at] = tensor
        return tree_unflatten(leaves, self.spec)

    def log_posterior(self, u: Tensor, own: list[Tensor]) -> Tensor:
        return self.potential.log_posterior(u, self.data(own))

    def values(self, u: Tensor) -> Parameters:
        return self.potential.constrain(u)[0]

    def log_prior(self, u: Tensor) -> Tensor:
        return self.users.log_parts(self.values(u), self.template)[1]


def was_observed(message: dict) -> bool:
    """True for a site that was observed before it was drawn."""
    return bool(message["infer"].get("was_observed")) and not is_bookkeeping(message)


class TableSimulator(Simulator):
    """A model of the library over the columns of a table, its priors as they are.

    Args:
        program: the model, its default priors scaled to a table.
        batch: rows of that table: their number and sequences are those of all data sets.
    """

    def __init__(self, program: Any, batch: Batch) -> None:
        self.program, self.batch = program, batch
        self.potential = Potential(program, batch)
        tracer = observe(program, batch, settle=False)
        names = {symbol.name for factor in tracer.factors for symbol in factor.symbols if not symbol.inner}
        self.relabelled = bool(names - set(batch.schema.names))

    def rows(self, x: Tensor) -> Batch:
        """Rows in which everything is known."""
        own = mark_complete(x.clone())  # families remember what they found out about a tensor; this one is new to them
        return Batch(own, self.batch.schema, steps=self.batch._steps)

    def data(self, own: list[Tensor]) -> Batch:
        return self.rows(own[0])

    def draw(self) -> tuple[Tensor, list[Tensor]]:
        u = self.potential.prior_draw().detach()
        return u, self.outcomes(u)

    def theta(self, u: Tensor) -> Theta:
        """The families' parameters."""
        return self.potential.theta(u)[0]

    @torch.no_grad()
    def outcomes(self, u: Tensor) -> list[Tensor]:
        unknown = Batch(torch.full_like(self.batch.x, torch.nan), self.batch.schema, steps=self.batch._steps)
        tracer = observe(self.program, unknown, Given(self.theta(u)), sum_out=False)
        return [gather(tracer, unknown)]

    def log_posterior(self, u: Tensor, own: list[Tensor]) -> Tensor:
        values, log_jacobian = self.potential.constrain(u)
        batch = self.rows(own[0])
        tracer = observe(self.program, batch, Given(sites=values), settle=True)
        return log_likelihood(tracer, batch) + log_prior(tracer) + log_jacobian

    def values(self, u: Tensor) -> Parameters:
        """Every parameter of the families, sorted over components where those can be renamed."""
        found = {f"{name}.{key}": v for name, p in self.potential.described(u).items() for key, v in p.items()}
        if self.relabelled:
            found = {key: value.sort(0).values if value.dim() else value for key, value in found.items()}
        return found

    def log_prior(self, u: Tensor) -> Tensor:
        return log_prior(self.potential.trace(u)[0])
