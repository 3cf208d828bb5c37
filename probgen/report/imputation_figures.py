"""The figures of a page about imputations."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from probgen import plots
from probgen.report.figures import grid
from probgen.report.svg import draw

if TYPE_CHECKING:
    from probgen.data.table import Table
    from probgen.report.imputation import Findings

__all__ = ["figures"]

WIDTH = 10.2
MOST_PATTERNS = 40
MOST_DENSITIES = 24
MOST_STRIPS = 9
MOST_PAIRS = 6
MOST_PROPENSITIES = 8
MOST_OVERIMPUTED = 12
MOST_TERMS = 5
PAIR_ROWS = 2000


def figures(found: Findings) -> dict[str, Markup]:
    """Name -> figure; a figure for which there are no data is absent."""
    holes = OF_HOLES if any(record["unknown"] and record["known"] for record in found.columns) else {}
    makers = {**holes, **(OF_DRAWS if found.incomplete else {}), **OF_CHECKS}
    made: dict[str, Markup | None] = {name: make(found) for name, make in makers.items()}
    made |= {f"settling {name}": settling(name, pooled) for name, pooled in found.pooled.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def patterns(found: Findings) -> Markup:
    """Which cells are unknown together."""
    table = found.imputed.table
    kinds = min(len(np.unique(table.known, axis=0)), MOST_PATTERNS)
    columns = min(table.n_columns, 40)
    size = (min(WIDTH, 2.2 + 0.55 * columns), 1.5 + 0.24 * kinds + (0.5 if columns > 14 else 0.0))
    words = "Patterns of unknown cells: a line each, with its number of rows"
    return draw("patterns", words, size, lambda f: plots.missing_patterns(table, f.subplots(), MOST_PATTERNS))


def flux(found: Findings) -> Markup:
    """Which columns can help which."""
    words = "Outflux against influx of the columns"
    return draw("flux", words, (6.2, 4.8), lambda f: plots.flux(found.imputed.table, f.subplots()))


def densities(found: Findings) -> Markup:
    """Known against imputed, every column."""
    names = found.incomplete[:MOST_DENSITIES]

    def paint(figure: Figure) -> None:
        for axes, name in zip(grid(figure, len(names)), names, strict=False):
            plots.imputed_density(found.imputed, name, axes)

    words = "Distribution of known cells and of each imputation, by column"
    return draw("densities", words, (WIDTH, 2.1 * ceil(len(names) / 4)), paint)


def strips(found: Findings) -> Markup:
    """Single values, every imputation."""
    names = most_missing(found, MOST_STRIPS)

    def paint(figure: Figure) -> None:
        for axes, name in zip(grid(figure, len(names), 3), names, strict=False):
            plots.imputed_strip(found.imputed, name, axes)

    words = "Known cells and those of each imputation, as points"
    return draw("strips", words, (WIDTH, 2.5 * ceil(len(names) / 3)), paint)


def most_missing(found: Findings, most: int) -> list[str]:
    """Columns with the most imputed cells, in the table's order."""
    unknown = {record["column"]: record["unknown"] for record in found.columns}
    chosen = sorted(found.incomplete, key=lambda name: -unknown[name])[:most]
    return [name for name in found.incomplete if name in chosen]


def pairs(found: Findings) -> Markup | None:
    """Incomplete columns against the one that tells most of them."""
    chosen = told_pairs(found.imputed.table, most_missing(found, 2 * MOST_PAIRS))
    if not chosen:
        return None

    def paint(figure: Figure) -> None:
        for axes, (x, y) in zip(grid(figure, len(chosen), 3), chosen, strict=False):
            plots.imputed_pair(found.imputed, x, y, 1, axes)
            axes.set_title("", loc="left")

    words = "Pairs of columns: rows known and rows with an imputed cell, of the first imputation"
    return draw("pairs", words, (WIDTH, 3.0 * ceil(len(chosen) / 3)), paint)


def told_pairs(table: Table, incomplete: list[str]) -> list[tuple[str, str]]:
    """(other, incomplete) columns, the strongest relations first; a pair once."""
    found: dict[frozenset, tuple[float, str, str]] = {}
    for name in incomplete:
        strength, other = max(((relation(table, other, name), other) for other in table.names if other != name),
                              default=(0.0, ""))  # fmt: skip
        if strength > 0:
            found.setdefault(frozenset((name, other)), (strength, other, name))
    return [(x, y) for _, x, y in sorted(found.values(), key=lambda entry: -entry[0])[:MOST_PAIRS]]


def relation(table: Table, one: str, other: str) -> float:
    """Share of a column's ranks that ten groups of the other explain; levels are groups, and 0 and 1, of themselves."""
    places = [table.schema.index(one), table.schema.index(other)]
    rows = table.values[table.known[:, places].all(1)][:PAIR_ROWS][:, places]
    if len(rows) < 10:
        return 0.0
    groups = rows[:, 0] if table.schema[one].is_discrete else np.argsort(np.argsort(rows[:, 0])) * 10 // len(rows)
    discrete = table.schema[other].is_discrete
    y = rows[:, 1][:, None] == np.unique(rows[:, 1]) if discrete else np.argsort(np.argsort(rows[:, 1]))[:, None]
    y = y.astype(float)
    parts = [y[groups == group] for group in np.unique(groups)]
    within = sum(((part - part.mean(0)) ** 2).sum() for part in parts)
    total, spare = ((y - y.mean(0)) ** 2).sum(), (len(parts) - 1) / (len(rows) - 1)
    return float(1 - within / total - spare) if total > 0 else 0.0


def chains(found: Findings) -> Markup | None:
    """Traces."""
    if not found.chains:
        return None
    n = min(len(found.chains), 24)

    def paint(figure: Figure) -> None:
        plots.chain_traces(found.chains, grid(figure, n, 4))

    return draw("chains", "Mean and spread of imputed cells over the sweeps", (WIDTH, 2.1 * ceil(n / 4)), paint)


def propensities(found: Findings) -> Markup | None:
    """Known and imputed at equal propensity."""
    names = [name for name in most_missing(found, MOST_PROPENSITIES) if name in found.propensities]
    if not names:
        return None

    def paint(figure: Figure) -> None:
        panels = grid(figure, 2 * len(names), 4)
        for at, name in enumerate(names):
            plots.propensity_plot(found.imputed, name, panels[2 * at : 2 * at + 2])

    words = "Columns against the probability that they are missing, and what is left at equal probability"
    return draw("propensities", words, (WIDTH, 2.6 * ceil(len(names) / 2)), paint)


def overimputation(found: Findings) -> Markup | None:
    """Hidden cells against their draws."""
    if found.overimputed is None:
        return None
    names = found.overimputed.names[:MOST_OVERIMPUTED]

    def paint(figure: Figure) -> None:
        for axes, name in zip(grid(figure, len(names), 3), names, strict=False):
            plots.overimputation(found.overimputed, name, axes)

    words = "Hidden cells against what was imputed for them, by column"
    return draw("overimputation", words, (WIDTH, 3.1 * ceil(len(names) / 3)), paint)


def pits(found: Findings) -> Markup | None:
    """Ranks of hidden cells."""
    if found.overimputed is None:
        return None
    names = [record["column"] for record in found.overimputed.columns if "crps" in record][:MOST_OVERIMPUTED]
    if not names:
        return None
    across = min(len(names), 6)

    def paint(figure: Figure) -> None:
        for axes, name in zip(grid(figure, len(names), across), names, strict=False):
            plots.pit_histogram(found.overimputed, name, axes)

    words = "Histograms of the ranks of hidden cells among their draws, with bands"
    return draw("pits", words, (WIDTH * across / 6 + 0.4, 1.7 * ceil(len(names) / across)), paint)


def comparison(found: Findings) -> Markup | None:
    """Candidate models."""
    if found.comparison is None or len(found.comparison.scores) < 2:
        return None
    scores = found.comparison.scores
    words = "Energy score of each model above the best"
    return draw(
        "comparison", words, (7.4, 0.9 + 0.34 * len(scores)), lambda f: plots.imputation_scores(scores, f.subplots())
    )


def settling(name: str, pooled: Any) -> Markup | None:
    """Pooled numbers as imputations are added, of the terms with most missing information."""
    if pooled.m < 3:
        return None
    order = np.argsort(-pooled.fmi, kind="stable")[:MOST_TERMS]
    terms = [pooled.names[at] for at in sorted(order)]

    def paint(figure: Figure) -> None:
        panels = grid(figure, 3 * len(terms), 3)
        for at, term in enumerate(terms):
            plots.settling(pooled, term, panels[3 * at : 3 * at + 3])

    own = "settling-" + "".join(letter if letter.isalnum() else "-" for letter in name)
    return draw(own, f"Pooled numbers of {name} as imputations are added", (WIDTH, 2.0 * len(terms)), paint)


OF_HOLES = {
    "patterns": patterns,
    "flux": flux,
}
OF_DRAWS = {
    "densities": densities,
    "strips": strips,
    "pairs": pairs,
    "chains": chains,
    "propensities": propensities,
}
OF_CHECKS = {
    "overimputation": overimputation,
    "pits": pits,
    "comparison": comparison,
}
