r"""A user's own guide as a density of the unconstrained vector.

Its ``pyro.param`` statements are answered from a store of its own: one fit never starts from what another one learnt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probgen._pyro import Trace, parameter_store, traced
from probgen.errors import CapabilityError
from probgen.inference.potential import Potential

__all__ = ["UsersGuide"]


class UsersGuide(torch.nn.Module):
    r"""The density :math:`q(u)` of a program's unconstrained vector that its guide states.

    Args:
        potential: of the program, whose guide is run on the potential's batch.

    Raises:
        CapabilityError: the guide leaves continuous sites of the model out, or draws what no gradient passes through.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.store: dict[str, Any] = {"params": {}, "constraints": {}}
        found = self.run()
        self.check(found)
        parameters = {name: torch.nn.Parameter(value.detach().clone()) for name, value in self.store["params"].items()}
        self.store["params"] = parameters
        self.learnt = torch.nn.ParameterList(parameters.values())

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
        with parameter_store(self.store):
            return traced(self.potential.program.guide, self.potential.batch)

    def draw(self) -> tuple[Tensor, Tensor]:
        """U and log q(u)."""
        found = self.run()
        u = self.potential.unconstrain({slot.name: found.nodes[slot.name]["value"] for slot in self.potential.slots})
        return u, found.log_prob_sum() + self.potential.constrain(u)[1]
