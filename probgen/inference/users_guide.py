r"""A user's own guide as a density of the unconstrained vector.

Its ``pyro.param`` statements are answered by parameters of its own, not by Pyro's global store: one fit never starts from what
another one learnt.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transform_to

from probgen._pyro import Messenger, Trace, traced
from probgen.errors import CapabilityError
from probgen.inference.potential import Potential

__all__ = ["UsersGuide"]


class Statements(Messenger):
    """Param statements, answered by unconstrained parameters that are made at the first one of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self.transforms: dict[str, Any] = {}

    def _pyro_param(self, message: dict) -> None:
        name, first = message["name"], message["args"][1:]
        if name not in self.parameters:
            if not first:
                raise CapabilityError(f"Parameter {name!r} of the guide has no first value; give one.")
            self.transforms[name] = transform_to(message["kwargs"].get("constraint", constraints.real))
            start = torch.as_tensor(first[0]() if callable(first[0]) else first[0]).detach()
            self.parameters[name] = torch.nn.Parameter(self.transforms[name].inv(start).clone())
        value = self.transforms[name](self.parameters[name])
        value.unconstrained = weakref.ref(self.parameters[name])  # as Pyro's own modules expect it
        message["value"], message["done"] = value, True


class UsersGuide(torch.nn.Module):
    r"""The density :math:`q(u)` of a program's unconstrained vector that its guide states.

    Args:
        potential: of the program, whose guide is run on the potential's batch.

    Raises:
        CapabilityError: the guide leaves continuous sites of the model out, or draws what no gradient passes through.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential, self.statements = potential, Statements()
        self.check(self.run())
        self.learnt = torch.nn.ParameterList(self.statements.parameters.values())

    def check(self, found: Trace) -> None:
        """Refuse what is no density of the vector."""
        missing = [slot.name for slot in self.potential.slots if slot.name not in found.nodes]
        if missing:
            raise CapabilityError(
                f"The guide draws no {', '.join(map(repr, missing))}; it has to draw every continuous site of the model"
                " (discrete ones are summed out)."
            )
        for name, site in found.nodes.items():
            if site["type"] == "sample" and not site["is_observed"] and not getattr(site["fn"], "has_rsample", True):
                raise CapabilityError(
                    f"Site {name!r} of the guide is a {type(site['fn']).__name__}, which no gradient passes through; leave"
                    " discrete sites to the model, where they are summed out."
                )

    def run(self) -> Trace:
        """The sites of one draw."""
        with self.statements:
            return traced(self.potential.program.guide, self.potential.batch)

    def draw(self) -> tuple[Tensor, Tensor]:
        """U and log q(u)."""
        found = self.run()
        u = self.potential.unconstrain({slot.name: found.nodes[slot.name]["value"] for slot in self.potential.slots})
        return u, found.log_prob_sum() + self.potential.constrain(u)[1]
