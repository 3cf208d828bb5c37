r"""Adversarial objectives: what a critic C of rows climbs, and what the generator of rows does.

====================  ============================================================================  ===========================================
objective             loss of the critic                                                            loss of the generator
====================  ============================================================================  ===========================================
``non_saturating``    :math:`s(-C(x)) + s(C(x'))` with :math:`s(t) = \log(1 + e^t)`                 :math:`s(-C(x'))`
``hinge``             :math:`\max(0, 1 - C(x)) + \max(0, 1 + C(x'))`                                :math:`-C(x')`
``wasserstein``       :math:`C(x') - C(x)`                                                          :math:`-C(x')`
``relativistic``      :math:`s(C(x') - C(x))`                                                       :math:`s(C(x) - C(x'))`
====================  ============================================================================  ===========================================

with x from the data and x' generated (Goodfellow et al., 2014; Lim and Ye, 2017; Arjovsky, Chintala and Bottou, 2017; Jolicoeur-Martineau, 2019). The
critic's slope is kept small by a penalty: of Wasserstein critics :math:`\lambda\, \mathbb E (\lVert \nabla C \rVert - 1)^2` between data and generated rows (Gulrajani et
al., 2017), of others :math:`\tfrac\gamma2\, \mathbb E \lVert \nabla C \rVert^2` at the data, R1 (Mescheder, Geiger and Nowozin, 2018), and at generated rows, R2. The values
themselves say little of how good the rows are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from probgen.errors import CapabilityError

__all__ = ["LOSSES", "AdversarialObjective", "penalties_of", "slope"]

Score = Callable[[Tensor], Tensor]  # of rows: a critic that has been told everything else

LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "non_saturating": (lambda real, made: softplus(-real) + softplus(made), lambda _, made: softplus(-made)),
    "hinge": (lambda real, made: relu(1 - real) + relu(1 + made), lambda _, made: -made),
    "wasserstein": (lambda real, made: made - real, lambda _, made: -made),
    "relativistic": (lambda real, made: softplus(made - real), lambda real, made: softplus(real - made)),
}
PENALTIES: dict[str, dict[str, float]] = {
    "wasserstein": {"gradient_penalty": 10.0},
    "relativistic": {"r1": 0.3, "r2": 0.3},
}  # fmt: skip
USUAL = {"r1": 0.3}


def penalties_of(name: str, **given: Any) -> dict[str, float]:
    """Weights of the penalties; those that are None as the objective usually has them.

    Raises:
        CapabilityError: no such objective, or a weight below zero.
    """
    if name not in LOSSES:
        raise CapabilityError(f"objective must be one of {', '.join(map(repr, LOSSES))}, got {name!r}.")
    usual, found = PENALTIES.get(name, USUAL), {}
    for key, value in given.items():
        if value is not None and not (isinstance(value, int | float) and value >= 0):
            raise CapabilityError(f"{key} must be a weight of at least 0, or None for the usual one, got {value!r}.")
        found[key] = usual.get(key, 0.0) if value is None else float(value)
    return found


def slope(score: Score, rows: Tensor) -> Tensor:
    """``(B,)`` squared gradient of a critic at rows, itself with a gradient by the critic's weights."""
    rows = rows.detach().requires_grad_()
    (found,) = torch.autograd.grad(score(rows).sum(), rows, create_graph=True)
    return found.square().sum(-1)


class AdversarialObjective:
    """Losses of the two players, a row.

    Args:
        name: "non_saturating", "hinge", "wasserstein" or "relativistic".
        gradient_penalty, r1, r2: weights; None for the usual ones.

    Example:
        >>> flat = AdversarialObjective("wasserstein", gradient_penalty=1.0)
        >>> flat.critic(lambda rows: 3 * rows[:, 0], torch.ones(2, 1), torch.zeros(2, 1)).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        name: str,
        gradient_penalty: float | None = None,
        r1: float | None = None,
        r2: float | None = None,
    ) -> None:
        self.penalties = penalties_of(name, gradient_penalty=gradient_penalty, r1=r1, r2=r2)
        self.critics, self.generators = LOSSES[name]

    def critic(self, score: Score, real: Tensor, made: Tensor) -> Tensor:
        """``(B,)`` what the critic descends."""
        loss, weight = self.critics(score(real), score(made)), self.penalties
        if weight["gradient_penalty"]:
            share = torch.rand_like(real[:, :1])
            norm = (slope(score, torch.lerp(made, real, share)) + 1e-12).sqrt()
            loss = loss + weight["gradient_penalty"] * (norm - 1).square()
        if weight["r1"]:
            loss = loss + 0.5 * weight["r1"] * slope(score, real)
        if weight["r2"]:
            loss = loss + 0.5 * weight["r2"] * slope(score, made)
        return loss

    def generator(self, score: Score, real: Tensor, made: Tensor) -> Tensor:
        """``(B,)`` what the generator descends."""
        return self.generators(score(real), score(made))
