r"""Label switching: the values of a hidden discrete latent (components, states) have no names of their own.

Chains that found the same components in another order disagree in every parameter and in nothing that can be predicted.
Before parameters are summarised, each draw's labels are matched to those of a pivot draw (Marin, Mengersen and Robert,
2005) by the assignment of least squared distance between the latent's rows of readable parameters (Kuhn, 1955). It is repeated with
the middle of the matched draws in place of the pivot, and distances in units of the spread within labels, so that parameters
that tell labels apart count most. Log densities, cross-validation and predictions are left as they are: they do not depend on labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.tracing import observe

__all__ = ["HiddenLatent", "assignments", "hidden_latent", "match_labels", "matched", "relabelled"]

MOST_PASSES = 10  # first to a pivot draw, then to the middle of what was matched, by its spread within labels
SMALLEST_SCALE = 1e-3  # within labels, as a share of the whole


@dataclass(frozen=True)
class HiddenLatent:
    """A discrete latent whose values can be renamed without changing the density of any data.

    Attributes:
        name: its site.
        size: K, the number of its values.
        owner: the family of its own distribution.
        tables: families with a row of parameters for each of its values.
    """

    name: str
    size: int
    owner: str
    tables: tuple[str, ...]

    def renamed(self, theta: Theta, order: Tensor) -> Theta:
        """Parameters in which value k is what was value ``order[k]``."""
        found = dict(theta)
        for name in self.tables:
            found[name] = {key: value[order] for key, value in theta[name].items()}
        found[self.owner] = {key: along_all(value, order) for key, value in theta[self.owner].items()}
        return found


def along_all(value: Tensor, order: Tensor) -> Tensor:
    """The order applied to every axis that runs over the latent's values."""
    for axis, size in enumerate(value.shape):
        if size == len(order):
            value = value.index_select(axis, order)
    return value


def hidden_latent(fit: Any) -> HiddenLatent | None:
    """The one latent with exchangeable values that a model has; None where it has none, or several.

    Whether renaming leaves densities as they are is not assumed but tried, on rows that the model draws.
    """
    if fit.standardiser is None or not fit.posterior.parameters:
        return None
    with torch.no_grad(), fit.setting():
        found = candidate(fit, Batch(torch.full((2, len(fit.schema)), torch.nan), fit.schema))
        if found is None or not set(found.tables) <= set(fit.posterior.parameters):
            return None
        rows = fit.sample(2, steps=6) if fit.traits.sequences else fit.sample(8)
        batch = next(fit.batches(rows, 64).pieces())
        theta = fit.posterior.theta()
        turned = found.renamed(theta, torch.arange(found.size).roll(1))
        before, after = (log_evidence(fit.program, batch, theta=t, settle=True).rows for t in (theta, turned))
    return found if torch.allclose(before, after, rtol=1e-5, atol=1e-5) else None


def candidate(fit: Any, batch: Batch) -> HiddenLatent | None:
    """A latent that no column holds, and the families that have as many rows as it has values."""
    tracer = observe(fit.program, batch)
    hidden = [
        (name, getattr(site.distribution, "family", None))
        for name, site in tracer.sites.items()
        if hasattr(site.value, "size") and not isinstance(site.value, Tensor) and site.data is None
    ]
    renamable = [(name, family) for name, family in hidden if family is not None and family.log_relabellings > 0]
    if len(renamable) != 1 or len(hidden) != 1:
        return None
    (name, owner), size = renamable[0], tracer.sites[renamable[0][0]].value.size
    tables = tuple(n for n, f in tracer.families.items() if f is not owner and f.table == size)
    return HiddenLatent(name, size, next(n for n, f in tracer.families.items() if f is owner), tables)


# ------------------------------------------------------------------------------------------------------------- matching
def match_labels(draws: Mapping[str, Any], axes: Mapping[str, int], pivot: int = -1) -> dict[str, np.ndarray]:
    """Draws of a user's own sites with the labels of every draw matched to those of one draw.

    Args:
        draws: name -> ``(chains, draws, ...)``.
        axes: name -> the axis, counted without chains and draws, that runs over the exchangeable values: 0 for means
            ``(K, D)``, 0 for weights ``(K,)``.
        pivot: the draw, counted over all chains, whose labels are kept; that of highest density is a good choice.

    Raises:
        CapabilityError: a name that there is not, or axes of different lengths.
    """
    unknown = sorted(set(axes) - set(draws))
    sizes = {np.shape(draws[name])[2 + axis] for name, axis in axes.items() if name in draws}
    if unknown or len(sizes) != 1:
        raise CapabilityError(
            f"axes have to name sites of the draws ({', '.join(draws)}) along which equally many labels run; got"
            f" {dict(axes)}, of lengths {sorted(sizes)}."
        )
    arrays = {name: np.asarray(value) for name, value in draws.items()}
    moved = {name: np.moveaxis(arrays[name], 2 + axis, 2) for name, axis in axes.items()}
    orders = assignments([moved[name] for name in moved], pivot)
    for name, axis in axes.items():
        index = orders.reshape(*orders.shape, *[1] * (moved[name].ndim - 3))
        arrays[name] = np.moveaxis(np.take_along_axis(moved[name], index, 2), 2, 2 + axis)
    return arrays


def assignments(values: Sequence[np.ndarray], pivot: int = -1) -> np.ndarray:
    """``(chains, draws, K)``: the order of labels that brings each draw nearest to the pivot.

    Args:
        values: ``(chains, draws, K, ...)`` each.
        pivot: number of the pivot over all chains and draws.
    """
    chains, draws, size = values[0].shape[:3]
    x = np.concatenate([np.asarray(v, float).reshape(chains * draws, size, -1) for v in values], -1)
    spread = x.std((0, 1))
    x = x[..., spread > 0] / spread[spread > 0]
    goal, scale = x[pivot], np.ones(x.shape[-1])
    orders = np.empty(x.shape[:2], dtype=int)
    for _ in range(MOST_PASSES):
        before, orders = orders, nearest(x / scale, goal / scale)
        if (orders == before).all():
            break
        sorted_ = np.take_along_axis(x, orders[..., None], 1)
        goal = np.median(sorted_, 0)
        scale = np.maximum(np.median(np.abs(sorted_ - goal), (0, 1)), SMALLEST_SCALE)
    return orders.reshape(chains, draws, size)


def nearest(x: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """``(S, K)``: which label of each draw ``(S, K, F)`` goes to which of the goal's ``(K, F)``."""
    distance = np.square(x).sum(-1)[:, None, :] - 2 * goal @ x.mT + np.square(goal).sum(-1)[None, :, None]
    return np.stack([linear_sum_assignment(one)[1] for one in distance])


def matched(fit: Any) -> Any:
    """The fit with every draw's labels matched to those of the draw of highest density, where labels mean nothing."""
    latent = None if fit.posterior.point else hidden_latent(fit)
    if latent is None or not latent.tables:
        return fit
    orders = assignments([v for values in features(fit, latent) for v in values], pivot_draw(fit.posterior))
    return fit if (orders == np.arange(latent.size)).all() else relabelled(fit, orders)


def features(fit: Any, latent: HiddenLatent) -> list[list[np.ndarray]]:
    """Readable parameters of the rows, ``(chains, draws, K, ...)``."""
    from probgen.queries.draws import described_draws

    described = described_draws(fit)
    return [[v for v in described[name].values() if v.shape[2:3] == (latent.size,)] for name in latent.tables]


def pivot_draw(posterior: Posterior) -> int:
    """The draw of highest density where the sampler kept densities, else the last of the first chain."""
    density = posterior.statistics.get("lp")
    return posterior.shape[1] - 1 if density is None else int(density.reshape(-1).argmax())


def relabelled(fit: Any, orders: np.ndarray) -> Any:
    """The fit with the labels of each draw in the order given, ``(chains, draws, K)``."""
    latent = hidden_latent(fit)
    if latent is None:
        raise CapabilityError(f"{fit.name!r} has no hidden discrete latent with exchangeable values.")
    posterior, flat = fit.posterior, torch.as_tensor(orders).reshape(-1, latent.size)
    mapped = {n: posterior.parameters[n] for n in (*latent.tables, latent.owner)}
    stacked = {n: {k: v.flatten(0, 1) for k, v in theta.items()} for n, theta in mapped.items()}
    turned = [
        latent.renamed({n: {k: v[at] for k, v in theta.items()} for n, theta in stacked.items()}, order)
        for at, order in enumerate(flat)
    ]
    made = {
        n: {k: torch.stack([one[n][k] for one in turned]).reshape(posterior.parameters[n][k].shape) for k in theta}
        for n, theta in mapped.items()
    }
    return replace(fit, posterior=replace(posterior, parameters={**posterior.parameters, **made}))
