"""Posterior draws for families without conjugate ones: exact target, Laplace proposal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, biject_to

if TYPE_CHECKING:
    from probgen.families.base import Family, Natural, Parameters

__all__ = ["laplace_draw"]


def laplace_draw(family: Family, statistics: Natural, steps: int = 20) -> Parameters:
    r"""Parameters given completed data, whose likelihood is :math:`\langle W(\theta), T \rangle`.

    A draw of the Laplace approximation in the unconstrained coordinates of the prior's sites, then independence
    Metropolis steps with the exact target, so that the law of the draw is close to the posterior.
    """
    priors = family.prior()
    maps = {name: biject_to(prior.support) for name, prior in priors.items()}
    start = family.disassemble(family.update(statistics, family.start()))
    free = {name: maps[name].inv(value) for name, value in start.items()}
    sizes = [value.numel() for value in free.values()]

    def read(u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        sites, log_density = {}, u.new_zeros(())
        for (name, like), piece in zip(free.items(), u.split(sizes), strict=True):
            raw = piece.reshape(like.shape)
            sites[name] = maps[name](raw)
            log_density = log_density + priors[name].log_prob(sites[name]).sum()
            log_density = log_density + maps[name].log_abs_det_jacobian(raw, sites[name]).sum()
        return sites, log_density

    def target(u: Tensor) -> Tensor:
        sites, log_prior = read(u)
        natural = family.natural(family.assemble(sites))
        return log_prior + sum((value * statistics[key]).sum() for key, value in natural.items())

    proposal = laplace(target, torch.cat([value.reshape(-1) for value in free.values()]).detach())
    u = proposal.sample()
    for _ in range(steps):
        new = proposal.sample()
        ratio = target(new) - proposal.log_prob(new) - target(u) + proposal.log_prob(u)
        u = new if torch.rand(()).log() < ratio else u
    return {key: value.detach() for key, value in family.assemble(read(u)[0]).items()}


def laplace(target: Callable[[Tensor], Tensor], start: Tensor) -> MultivariateNormal:
    """A Gaussian at the maximum with the inverse of the curvature, a little wide."""
    u = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([u], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = -target(u)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
        hessian = -torch.autograd.functional.hessian(target, u.detach())
    values, vectors = torch.linalg.eigh(hessian)
    root = vectors * (1.2 / values.clamp_min(1e-2)).sqrt()
    return MultivariateNormal(u.detach(), root @ root.mT)
