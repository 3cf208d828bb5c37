"""Questions to programs too wide, or too general, for exact answers: weighted draws, and Gibbs chains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, ConvergenceWarning
from probgen.inference.completion import gather
from probgen.inference.network_chains import NetworkChains
from probgen.inference.posterior import Theta
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, Intervention, Tracer, observe
from probgen.queries.answers import Answer, Evidence, Numbers, check_states, out_of_reach
from probgen.queries.evidence import row_of
from probgen.queries.log_prob import POSTERIOR_DRAWS, log_jacobian
from probgen.queries.network_tables import network_of

__all__ = ["ask"]

LEAST_ESS = 100
Drawn = tuple[dict[str, np.ndarray], np.ndarray]  # values of the nodes, and a weight of every draw


def ask(
    fit: Any,
    names: tuple[str, ...],
    evidence: Evidence,
    shown: dict,
    joint: bool,
    method: str,
    draws: int,
    seed: int,
) -> Answer:
    """An answer with Monte-Carlo errors."""
    columns = [fit.program.node(name) for name in names]
    states = {column.name: column.levels for column in columns if column.is_discrete}
    if joint:
        check_states([len(levels) for levels in states.values()])
    with seeded(seed, method), torch.no_grad(), fit.setting():
        if method == "gibbs":
            answer, drawn = by_chains(fit, names, evidence, shown, draws)
        else:
            answer, drawn = by_importance(fit, names, evidence, shown, draws)
    together = shares_of(states, *drawn) if joint else None
    return replace(answer, joint=together, targets=tuple(states), states=tuple(states.values()))


def shares_of(states: Mapping[str, tuple], codes: Mapping[str, np.ndarray], share: np.ndarray) -> np.ndarray:
    """``(*levels)``: weights of the states that discrete nodes were drawn in together."""
    sizes = tuple(map(len, states.values()))
    place = np.zeros(len(share), dtype=int)
    for name, levels in states.items():
        place = place * len(levels) + codes[name].astype(int)
    return np.bincount(place, share, math.prod(sizes)).reshape(sizes)


# ------------------------------------------------------------------------------------------------ weighted draws
def by_importance(
    fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, draws: int
) -> tuple[Answer, Drawn]:
    """Likelihood weighting (Fung and Chang, 1990): unknown nodes are drawn given their parents, known ones weigh.

    The draws are spread over those of the parameters.
    """
    thetas = list(fit.posterior.spread(min(draws, POSTERIOR_DRAWS)))
    runs = [forward(fit, evidence, theta, -(-draws // len(thetas))) for theta in thetas]
    log_weights = np.concatenate([log_weights_of(fit, *run, evidence) for run in runs])
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
    values = {name: np.concatenate([drawn_values(fit, *run, name) for run in runs]) for name in names}
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
    log_evidence = float(top + np.log(weights.mean()) + log_units(fit, evidence))
    answer = Answer(
        marginals, numbers, given=shown, kind="importance", standard_errors=errors, ess=ess,
        _evidence=lambda: log_evidence,
    )  # fmt: skip
    return answer, (values, share)


def forward(fit: Any, evidence: Evidence, theta: Theta, draws: int) -> tuple[Tracer, Batch]:
    """The program run forwards at some parameters, known cells kept."""
    values = np.full((1, len(fit.schema)), np.nan)
    for name, code in evidence.codes.items():
        if name in fit.schema.names:
            values[0, fit.schema.index(name)] = code
    x = torch.as_tensor(np.repeat(fit.standardiser.forward(values), draws, 0)).to(torch.get_default_dtype())
    batch = Batch(x, fit.schema)
    hidden = {
        name: torch.full((draws,), int(code)) for name, code in evidence.codes.items() if name not in fit.schema.names
    }
    given = Given(theta, sites=hidden)
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


def log_units(fit: Any, evidence: Evidence) -> float:
    """From a density of what is observed in model coordinates to one in the table's units."""
    observed = {name: code for name, code in evidence.codes.items() if name not in evidence.forced}
    row = row_of(fit, {name: code for name, code in observed.items() if name in fit.schema.names})
    return float(log_jacobian(fit, row)[0])


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
def by_chains(fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, draws: int) -> tuple[Answer, Drawn]:
    """Gibbs sampling of discrete networks (Geman and Geman, 1984; Pearl, 1987), many chains side by side."""
    network = network_of(fit)
    if network is None:
        raise CapabilityError(
            f"method='gibbs' is for networks of tables, one a node; ask this fit of {fit.name!r} by method='importance'."
        )
    number = network.number
    known = {number[name]: int(code) for name, code in evidence.codes.items()}
    soft = {number[name]: weights for name, weights in evidence.soft.items()}
    chains = NetworkChains(network, known, soft, frozenset(number[name] for name in evidence.forced))
    kept: list[np.ndarray] = []
    found = chains.run(draws, tuple(number[name] for name in names), kept)
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
    codes = np.concatenate(kept)  # (draws, nodes that are asked for)
    answer = Answer(marginals, given=shown, kind="gibbs", standard_errors=errors, _evidence=no_evidence)
    return answer, (dict(zip(names, codes.T, strict=True)), np.full(len(codes), 1.0 / len(codes)))


def no_evidence() -> float:
    raise CapabilityError("Gibbs chains do not estimate the probability of what is given; use method='importance'.")
