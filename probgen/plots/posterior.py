"""Posterior draws: predictive checks, traces, ranks and energies.

Traces and rank plots follow Vehtari et al. (2021), energies Betancourt (2016), predictive checks Gabry et al. (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import binom, rankdata

from probgen.errors import CapabilityError
from probgen.inference.diagnostics import energy_fraction, split_rhat
from probgen.plots.style import ACCENT, CYCLE, FAINT, INK, MUTED, colours, house, legend, sequential, tidy
from probgen.queries import predictive
from probgen.queries.draws import variables

__all__ = ["energy", "posterior_predictive", "prior_predictive", "rank", "tail_probability", "trace"]

Statistic = Callable[[np.ndarray], float]
REPLICATES = 60
SHOWN_CURVES = 40
MOST_PANELS = 12
MOST_LEVELS = 12
MOST_COUNTS = 40  # different values of a whole number that are drawn as bars
MOST_STRIPS = 8
LONGEST_TITLE = 44
INTERVAL = (0.05, 0.95)
STATISTICS: dict[str, Statistic] = {
    "mean": np.mean,
    "sd": np.std,
    "minimum": np.min,
    "maximum": np.max,
}


def grid(panels: int, width: float = 3.4, height: float = 2.5, across: int = 3) -> list[Axes]:
    """Axes of a new figure, as many as asked for."""
    from matplotlib import pyplot

    columns = min(panels, across)
    rows = math.ceil(panels / columns)
    with house():
        figure, found = pyplot.subplots(
            rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
        )
    flat = list(found.flat)
    for unused in flat[panels:]:
        figure.delaxes(unused)
    return flat[:panels]


# ---------------------------------------------------------------------------------------------------- predictive checks
def posterior_predictive(
    fit: Any,
    data: Any,
    *,
    statistics: Mapping[str, Statistic] | None = None,
    draws: int = REPLICATES,
    seed: int = 0,
) -> list[Axes]:
    """Does data drawn from the fitted model look like the data? One panel a column (observed site).

    Densities of the data (dark) over those of replicated data sets (pale) for numbers; shares of levels with 90 % intervals of
    the replicates for discrete columns and small counts. Under each panel are tail probabilities of test statistics: the
    share of replicates with a larger value than the data's (near 0 or 1: the model misses it; Gelman, Meng and Stern, 1996).

    Args:
        fit: any fit that can be drawn from.
        data: the rows it was fitted to; replicates get the data's holes.
        statistics: name -> function of the known values of a column; mean, standard deviation, minimum and maximum where None.
        draws: how many replicated data sets.
        seed: of the replicates.
    """
    found = predictive.posterior_predictive(fit, data, draws, seed)
    return checked(fit, data, found, STATISTICS if statistics is None else dict(statistics))


def prior_predictive(fit: Any, data: Any, *, draws: int = REPLICATES, seed: int = 0) -> list[Axes]:
    """Data as the prior alone expects them, over the data: does the prior allow what was seen, and forbid what cannot be?"""
    return checked(fit, data, predictive.prior_predictive(fit, data, draws, seed), {})


def tail_probability(observed: np.ndarray, replicated: np.ndarray, statistic: Statistic) -> float:
    """Share of replicates ``(S, N)`` whose statistic exceeds that of the data ``(N,)``, ties counting half."""
    own, others = statistic(observed), np.array([statistic(row) for row in replicated])
    return float((others > own).mean() + 0.5 * (others == own).mean())


def checked(fit: Any, data: Any, found: predictive.Replicates, statistics: dict[str, Statistic]) -> list[Axes]:
    """A panel for each column."""
    seen = observed_values(fit, data)
    names = [name for name in found.values if name in seen][:MOST_PANELS]
    axes = grid(len(names), height=3.0 if statistics else 2.5)
    for name, panel in zip(names, axes, strict=True):
        values = seen[name].reshape(-1)
        known = np.isfinite(values)
        replicates = found.values[name].reshape(-1, values.size)[:, known]
        draw_check(panel, name, values[known], replicates, levels_of(fit, name))
        if statistics:
            panel.set_xlabel(tails_in_words(values[known], replicates, statistics, levels_of(fit, name)), color=MUTED)
    return axes


def observed_values(fit: Any, data: Any) -> dict[str, np.ndarray]:
    """Column (observed site) -> its values, NaN where unknown."""
    if fit.standardiser is None:
        from probgen.queries.arviz import observed_sites

        return observed_sites(fit, data)
    table = fit.read(data)
    return {name: table.values[:, at] for at, name in enumerate(table.names)}


def levels_of(fit: Any, name: str) -> tuple[Any, ...] | None:
    """Names of a discrete column's codes."""
    return fit.schema[name].levels if name in fit.schema.names and fit.schema[name].is_discrete else None


def draw_check(axes: Axes, name: str, values: np.ndarray, replicates: np.ndarray, levels: Any) -> None:
    """Bars for few different values, densities otherwise."""
    whole = np.array_equal(values, np.round(values)) and np.array_equal(replicates, np.round(replicates))
    support = np.unique(np.r_[values, replicates.reshape(-1)]) if whole else np.empty(0)
    if levels is not None:
        support = np.arange(len(levels), dtype=float)
    if levels is not None or 0 < len(support) <= MOST_COUNTS:
        draw_shares(axes, values, replicates, support, levels)
    else:
        draw_densities(axes, values, replicates)
    tidy(axes, name, grid="")
    axes.set_yticks([])


def draw_shares(axes: Axes, values: np.ndarray, replicates: np.ndarray, support: np.ndarray, levels: Any) -> None:
    """Shares of the data as bars, intervals of the replicates as lines."""
    own = np.array([(values == v).mean() for v in support])
    if len(support) > MOST_LEVELS and levels is not None:
        kept = np.sort(np.argsort(-own, kind="stable")[:MOST_LEVELS])
        support, own = support[kept], own[kept]
    others = np.stack([(replicates == v).mean(1) for v in support], 1)
    low, middle, high = np.quantile(others, [INTERVAL[0], 0.5, INTERVAL[1]], axis=0)
    at = np.arange(len(support)) if levels is not None else support
    axes.bar(at, own, color=FAINT, width=0.7)
    axes.vlines(at, low, high, color=ACCENT, linewidth=2.0)
    axes.scatter(at, middle, color=ACCENT, s=18, zorder=3)
    if levels is not None:
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(support) > 4 else {}
        axes.set_xticks(at, [str(levels[int(code)])[:14] for code in support], **turned)


def draw_densities(axes: Axes, values: np.ndarray, replicates: np.ndarray) -> None:
    """Kernel densities over the same grid, which covers the data and most of what the model draws."""
    x = grid_of_densities(values, replicates)
    own = density(values, x)
    for row in replicates[:SHOWN_CURVES]:
        axes.plot(x, density(row, x), color=ACCENT, alpha=0.22, linewidth=0.9)
    axes.plot(x, own, color=INK, linewidth=1.8)
    axes.set_ylim(0, min(axes.get_ylim()[1], 4 * own.max()))  # a prior may put all rows at one place


def grid_of_densities(values: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Over the data and most of what the model draws, though not far from the data; not below zero without need."""
    low, high = values.min(), values.max()
    reach = high - low or 1.0
    drawn = np.quantile(replicates, [0.01, 0.99])
    start, end = max(min(low, drawn[0]), low - 1.2 * reach), min(max(high, drawn[1]), high + 1.2 * reach)
    start, end = start - 0.06 * reach, end + 0.06 * reach
    positive = low >= 0 and replicates.min() >= 0
    return np.linspace(max(start, 0.0) if positive else start, end, 240)


def density(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gaussian kernels of Silverman's width (1986), narrower where tails are heavy."""
    quartiles = np.subtract(*np.quantile(values, [0.75, 0.25])) / 1.349
    spread = min(values.std(), quartiles) or values.std() or 1.0
    width = 0.9 * spread * len(values) ** -0.2
    return np.exp(-0.5 * np.square((x[:, None] - values) / width)).mean(1) / (width * math.sqrt(2 * math.pi))


def tails_in_words(values: np.ndarray, replicates: np.ndarray, statistics: dict[str, Statistic], levels: Any) -> str:
    """The tail probabilities, two a line; of a column of more than two levels there are no numbers to summarise."""
    if levels is not None and len(levels) > 2:
        return ""
    chosen = {"share": np.mean} if levels is not None and statistics is STATISTICS else statistics
    words = [f"{name} {tail_probability(values, replicates, of):.2f}" for name, of in chosen.items()]
    lines = ["   ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
    return "P(replicate > data)\n" + "\n".join(lines)


# -------------------------------------------------------------------------------------------------------------- chains
def scalars_of(fit: Any, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Name -> ``(chains, draws)``; labels of exchangeable components are matched first."""
    from probgen.queries.diagnosis import scalars
    from probgen.queries.labels import matched

    if fit.posterior.point:
        raise CapabilityError(f"{fit.method} gave a point estimate: there are no chains to draw.")
    found: dict[str, np.ndarray] = {}
    for key, variable in variables(matched(fit)).items():
        flat = variable.values.reshape(*variable.values.shape[:2], -1)
        found |= {name: flat[..., at] for at, name in enumerate(scalars(key, variable)) if np.ptp(flat[..., at]) > 0}
    if names is None:
        return dict(list(found.items())[:MOST_PANELS])
    chosen = {key: value for key, value in found.items() if any(key == n or key.startswith(f"{n}[") for n in names)}
    if not chosen:
        raise CapabilityError(f"None of {list(names)} is a parameter that moves; there are: {', '.join(found)}.")
    return chosen


def trace(fit: Any, parameters: Sequence[str] | None = None) -> list[Axes]:
    """Draws of each chain in their order, one panel a parameter; chains that agree lie over each other.

    Args:
        fit: with draws.
        parameters: names, with or without an index ("tau", "theta[0]"); the first twelve where None.
    """
    found = scalars_of(fit, parameters)
    axes = grid(len(found), across=2, width=4.6)
    for (name, draws), panel in zip(found.items(), axes, strict=True):
        thin = max(1, draws.shape[1] // 600)
        for chain, colour in zip(draws, colours(len(draws)), strict=True):
            panel.plot(np.arange(len(chain))[::thin], chain[::thin], color=colour, linewidth=0.6, alpha=0.8)
        tidy(panel, short(name), f"draw   (R-hat {float(split_rhat(draws)):.3f})")
    return axes


def rank(fit: Any, parameters: Sequence[str] | None = None, bins: int | None = None) -> list[Axes]:
    """Histograms of each chain's ranks among all draws, one strip a chain; level where chains agree.

    Grey bands hold 99 % of the bars of a chain that agrees with the others. Of more than eight chains the histograms are
    shown as shades, a line a chain: no line should stand out.

    Args:
        fit: with draws.
        parameters: as for :func:`trace`.
        bins: of the histograms; about one for ten draws of a chain, and at most 20, where None.
    """
    found = scalars_of(fit, parameters)
    axes = grid(len(found), across=2, width=4.6)
    for (name, draws), panel in zip(found.items(), axes, strict=True):
        chains, kept = draws.shape
        many = bins or int(np.clip(kept // 10, 4, 20))
        edges = np.linspace(0.5, chains * kept + 0.5, many + 1)
        counts = np.stack([np.histogram(chain, edges)[0] for chain in rankdata(draws).reshape(chains, kept)])
        (draw_strips if chains <= MOST_STRIPS else draw_shades)(panel, counts, edges, kept / many)
        tidy(panel, short(name), "rank among all draws", "chain", grid="")
    return axes


def draw_strips(axes: Axes, counts: np.ndarray, edges: np.ndarray, expected: float) -> None:
    """One histogram over the other, all to the same scale."""
    bins, kept = counts.shape[1], counts[0].sum()
    low, high = binom.ppf([0.005, 0.995], kept, 1 / bins) / (2.4 * expected)
    for at, (row, colour) in enumerate(zip(counts, colours(len(counts)), strict=True)):
        axes.fill_between(edges[[0, -1]], at + low, at + high, color=FAINT, alpha=0.45, linewidth=0)
        axes.stairs(at + row / (2.4 * expected), edges, baseline=at, color=colour, fill=True, alpha=0.35)
        axes.stairs(at + row / (2.4 * expected), edges, baseline=None, color=colour, linewidth=1.3)
    axes.set_yticks(np.arange(len(counts)) + 1 / 2.4, [str(at) for at in range(len(counts))])


def draw_shades(axes: Axes, counts: np.ndarray, edges: np.ndarray, expected: float) -> None:
    """Counts of each chain in units of what is expected."""
    axes.imshow(
        counts / expected, aspect="auto", cmap=sequential(), vmin=0, vmax=2, origin="lower", interpolation="nearest",
        extent=(edges[0], edges[-1], -0.5, len(counts) - 0.5),
    )  # fmt: skip


def short(name: str) -> str:
    """The end of a long name, which tells parameters apart."""
    return name if len(name) <= LONGEST_TITLE else "…" + name[1 - LONGEST_TITLE :]


def energy(fit: Any) -> list[Axes]:
    """Energies of the draws against their changes between draws: equally wide where momenta explore the tails.

    Raises:
        CapabilityError: the method kept no energies.
    """
    kept = fit.posterior.statistics.get("energy")
    if kept is None:
        raise CapabilityError(f"Method {fit.method!r} keeps no energies; they belong to Hamiltonian samplers.")
    e = kept.cpu().numpy()
    marginal, change = (e - e.mean()).reshape(-1), np.diff(e, axis=1).reshape(-1)
    axes = grid(1, width=5.2, height=3.0)
    x = np.linspace(min(marginal.min(), change.min()), max(marginal.max(), change.max()), 300)
    for values, colour, label in ((marginal, CYCLE[0], "energy"), (change, CYCLE[1], "change of energy")):
        axes[0].plot(x, density(values, x), color=colour, linewidth=1.6, label=label)
        axes[0].fill_between(x, density(values, x), color=colour, alpha=0.15, linewidth=0)
    tidy(axes[0], f"E-BFMI at least {energy_fraction(e).min():.2f}", "difference from the mean, nats", grid="")
    axes[0].set_yticks([])
    axes[0].set_ylim(bottom=0)
    legend(axes[0])
    return axes
