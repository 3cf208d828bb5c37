"""Questions to programs too wide, or too general, for exact answers: weighted draws, and Gibbs chains."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, ConvergenceWarning
from probgen.inference.completion import gather
from probgen.inference.network_chains import NetworkChains
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, Intervention, Tracer, observe
from probgen.queries.answers import Answer, Evidence, Numbers, out_of_reach
from probgen.queries.network_tables import network_of

__all__ = ["ask"]

LEAST_ESS = 100


def ask(
    fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, method: str, draws: int, seed: int
) -> Answer:
    """An answer with Monte-Carlo errors."""
    with seeded(seed, method), torch.no_grad(), fit.setting():
        if method == "gibbs":
            return by_chains(fit, names, evidence, shown, draws)
        return by_importance(fit, names, evidence, shown, draws)


# ------------------------------------------------------------------------------------------------ weighted draws
def by_importance(fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, draws: int) -> Any:
    """Likelihood weighting (Fung and Chang, 1990): unknown nodes are drawn given their parents, known ones weigh."""
    tracer, batch = forward(fit, evidence, draws)
    log_weights = log_weights_of(fit, tracer, batch, evidence)
    top = float(log_weights.max())
    if not np.isfinite(top):
        raise out_of_reach(shown, draws)
    weights = np.exp(log_weights - top)
    share = weights / weights.sum()
    ess = float(1.0 / np.square(share).sum())
    if ess < LEAST_ESS:
        warnings.warn(
            f"The {draws} weighted draws are worth {ess:.0f}: what is given is far from what the network draws by itself."
            " Raise draws, or use method='gibbs'.",
            ConvergenceWarning,
            stacklevel=5,
        )
    values = {name: drawn_values(fit, tracer, batch, name) for name in names}
    marginals, errors, numbers = {}, {}, {}
    for name in names:
        column = fit.program.node(name)
        if not column.is_discrete:
            numbers[name] = weighted_numbers(values[name], share, column.kind)
            continue
        hot = values[name][:, None] == np.arange(len(column.levels))
        mean = share @ hot
        error = np.sqrt(np.square(share) @ np.square(hot - mean))
        marginals[name] = dict(zip(column.levels, mean.tolist(), strict=True))
        errors[name] = dict(zip(column.levels, error.tolist(), strict=True))
    log_evidence = float(top + np.log(weights.mean()))
    return Answer(
        marginals, numbers, None, names, (), shown, "importance", errors, ess, _evidence=lambda: log_evidence
    )


def forward(fit: Any, evidence: Evidence, draws: int) -> tuple[Tracer, Batch]:
    """The program run forwards, known cells kept."""
    values = np.full((1, len(fit.schema)), np.nan)
    for name, code in evidence.codes.items():
        if name in fit.schema.names:
            values[0, fit.schema.index(name)] = code
    x = torch.as_tensor(np.repeat(fit.standardiser.forward(values), draws, 0)).to(torch.get_default_dtype())
    batch = Batch(x, fit.schema)
    hidden = {
        name: torch.full((draws,), int(code)) for name, code in evidence.codes.items() if name not in fit.schema.names
    }
    given = Given(fit.posterior.theta(), sites=hidden)
    return observe(fit.program, batch, given, Intervention(evidence.forced), sum_out=False), batch


def log_weights_of(fit: Any, tracer: Tracer, batch: Batch, evidence: Any) -> np.ndarray:
    """``(draws,)``: what the known nodes, and soft evidence, say of each draw."""
    total = torch.zeros(len(batch), dtype=torch.float64)
    for name, site in tracer.sites.items():
        if name in evidence.forced:
            continue
        if name in evidence.codes and name not in fit.schema.names:
            total = total + site.distribution.log_prob(site.value).double()
        elif site.data is not None:
            data = (
                site.data.long() if not site.value.is_floating_point() and not site.data.isnan().any() else site.data
            )
            if bool((~site.data.isnan()).any()):
                total = total + site.distribution.log_prob(data).double()
        if name in evidence.soft:
            weight = torch.as_tensor(evidence.soft[name]).log()
            total = total + weight[site.value.long()]
    return total.numpy()


def drawn_values(fit: Any, tracer: Tracer, batch: Batch, name: str) -> np.ndarray:
    """``(draws,)`` values of one node, in the table's units (codes for states)."""
    if name not in fit.schema.names:
        return tracer.sites[name].value.numpy()
    filled = batch.__dict__.setdefault("_filled", None)
    if filled is None:
        filled = batch.__dict__["_filled"] = fit.standardiser.inverse(gather(tracer, batch).double().numpy())
    return filled[:, fit.schema.index(name)]


def weighted_numbers(values: np.ndarray, share: np.ndarray, kind: str) -> Any:
    """Moments and quantiles of weighted draws."""
    mean = float(share @ values)
    sd = float(np.sqrt(share @ np.square(values - mean)))
    order = np.argsort(values)
    at = np.searchsorted(share[order].cumsum(), [0.05, 0.5, 0.95]).clip(0, len(values) - 1)
    low, middle, high = values[order][at]
    return Numbers(mean, sd, float(low), float(middle), float(high), kind)


# -------------------------------------------------------------------------------------------------------- chains
def by_chains(fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, draws: int) -> Any:
    """Gibbs sampling of discrete networks (Geman and Geman, 1984; Pearl, 1987), many chains side by side."""
    network = network_of(fit)
    if network is None:
        raise CapabilityError(f"method='gibbs' is for networks of tables; ask {fit.name!r} by method='importance'.")
    number = network.number
    known = {number[name]: int(code) for name, code in evidence.codes.items()}
    soft = {number[name]: weights for name, weights in evidence.soft.items()}
    chains = NetworkChains(network, known, soft, frozenset(number[name] for name in evidence.forced))
    found = chains.run(draws, tuple(number[name] for name in names))
    if found is None:
        raise out_of_reach(shown, chains.candidates)
    worst = max((spread for _, _, spread in found.values()), default=1.0)
    if worst > 1.05:
        warnings.warn(
            f"The chains have not mixed (R-hat up to {worst:.2f}): nodes that nearly determine each other move slowly."
            " Raise draws, or use method='importance'.",
            ConvergenceWarning,
            stacklevel=5,
        )
    marginals, errors = {}, {}
    for name in names:
        levels = fit.program.node(name).levels
        mean, error, _ = found[number[name]]
        marginals[name] = dict(zip(levels, mean.tolist(), strict=True))
        errors[name] = dict(zip(levels, error.tolist(), strict=True))
    return Answer(marginals, {}, None, names, (), shown, "gibbs", errors, _evidence=no_evidence)


def no_evidence() -> float:
    raise CapabilityError("Gibbs chains do not estimate the probability of what is given; use method='importance'.")
