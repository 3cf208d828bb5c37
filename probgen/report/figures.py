"""The figures of a study's report."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from probgen import plots
from probgen.report.latent_figures import latent_use, reconstruction_errors
from probgen.report.svg import draw

if TYPE_CHECKING:
    from probgen.data.table import Table
    from probgen.studies.main_study import Study

__all__ = ["figures"]

ACROSS = 4  # small figures beside each other
MOST_COLUMNS = 24
MOST_PAIRS = 6
MOST_MODELS = 6


def figures(study: Study) -> dict[str, Markup]:
    """Name -> figure; a figure for which there are no data is absent."""
    made = {
        "missing": missing(study),
        "differences": differences(study),
        "rows": row_spread(study),
        "columns": columns(study),
        "pairs": pairs(study),
        "losses": losses(study),
        "coverage": coverage(study),
        "reliability": reliability(study),
        "confusion": confusion(study),
        "embedding": embedding(study),
        "training": training(study),
        "latent_use": latent_use(study),
        "reconstruction_errors": reconstruction_errors(study),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def missing(study: Study) -> Markup | None:
    """Shares and patterns of unknown cells."""
    table = study.table
    if table.known.all():
        return None
    lines = max(min(table.n_columns, 40), 4)

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.35])
        plots.missing_shares(table, left)
        plots.missing_patterns(table, right)

    return draw("missing", "Unknown cells by column and by pattern", (10.2, 1.3 + 0.29 * lines), paint)


def differences(study: Study) -> Markup | None:
    """Paired differences to the best model."""
    scores = study.density.scores
    if len(scores) < 2:
        return None
    size = (7.4, 0.9 + 0.34 * len(scores))
    words = "Paired difference in held-out log density of each model to the best"
    return draw("differences", words, size, lambda f: plots.density_differences(scores, f.subplots()))


def row_spread(study: Study) -> Markup:
    """The spread of the rows' log densities."""
    density = study.density
    size = (7.4, 0.9 + 0.34 * min(len(density.models), 12))
    words = "Spread of the log densities of held-out rows by model"
    return draw("rows", words, size, lambda f: plots.density_rows(density.log_prob, density.models, f.subplots()))


def columns(study: Study) -> Markup:
    """All columns, real against generated."""
    names = study.table.names[:MOST_COLUMNS]
    samples = study.samples[study.best]

    def paint(figure: Figure) -> None:
        for axes, name in zip(grid(figure, len(names)), names, strict=False):
            plots.column_against(study.table, samples, name, axes)

    words = f"Distribution of each column in the data and in rows drawn from {study.best}"
    return draw("columns", words, (10.2, 2.1 * ceil(len(names) / ACROSS)), paint)


def pairs(study: Study) -> Markup | None:
    """The most dependent pairs of columns, real against generated."""
    chosen = dependent_pairs(study.table)
    if not chosen:
        return None
    samples = study.samples[study.best]

    def paint(figure: Figure) -> None:
        for axes, (x, y) in zip(grid(figure, len(chosen), 3), chosen, strict=False):
            plots.pair_against(study.table, samples, x, y, axes)

    words = f"Pairs of columns in the data and in rows drawn from {study.best}"
    return draw("pairs", words, (10.2, 3.1 * ceil(len(chosen) / 3)), paint)


def dependent_pairs(table: Table) -> list[tuple[str, str]]:
    """Pairs of numeric columns with the strongest rank correlation."""
    places = [d for d, column in enumerate(table.schema) if not column.is_discrete][:30]
    found = []
    for i, a in enumerate(places):
        for b in places[i + 1 :]:
            both = table.values[table.known[:, [a, b]].all(1)][:, [a, b]]
            if len(both) > 2:
                ranks = both.argsort(0, kind="stable").argsort(0, kind="stable")
                found.append((abs(float(np.corrcoef(ranks.T)[0, 1])), table.names[a], table.names[b]))
    return [(x, y) for _, x, y in sorted(found, key=lambda entry: -entry[0])[:MOST_PAIRS]]


def losses(study: Study) -> Markup | None:
    """Scores of filled cells, column by column."""
    records, base = study.imputation.columns, baseline(study)
    numeric = [r["column"] for r in records if r["model"] == base and "crps" in r]
    discrete = [r["column"] for r in records if r["model"] == base and "log_loss" in r]
    parts = [(key, len(names)) for key, names in (("crps", numeric), ("log_loss", discrete)) if names]
    if not parts:
        return None
    shown = study.density.models[:MOST_MODELS]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=[1.5 + n for _, n in parts])[:, 0]
        for axes, (key, _) in zip(panels, parts, strict=True):
            plots.imputation_columns(records, shown, base, key, axes)
        for axes in panels[1:]:
            axes.get_legend().remove()

    height = sum(0.9 + 0.34 * n for _, n in parts)
    return draw("losses", "Loss of filled cells by column and model", (8.4, height), paint)


def coverage(study: Study) -> Markup | None:
    """Coverage of intervals for hidden numbers."""
    records = [r for r in study.imputation.scores if np.isfinite(r["coverage90"])]
    if not records:
        return None
    names = [r["model"] for r in records]
    size = (8.4, 0.9 + 0.34 * len(names))
    words = "Share of hidden numbers inside the 50 % and 90 % intervals by model"
    return draw("coverage", words, size, lambda f: plots.interval_coverage(records, names, f.subplots()))


def reliability(study: Study) -> Markup | None:
    """Confidence against accuracy of the best classifiers."""
    if study.classification is None:
        return None
    shown = best_classifiers(study)[:MOST_MODELS]
    order = [name for name in study.density.models if name in shown]  # the same colours as in the other figures
    curves = {name: study.classification.reliability[name] for name in order}
    words = "Confidence of the classifiers against the share that was right"
    return draw("reliability", words, (4.8, 4.3), lambda f: plots.reliability_curve(curves, f.subplots()))


def confusion(study: Study) -> Markup | None:
    """What the best classifier mixes up."""
    if study.classification is None:
        return None
    found, best = study.classification, best_classifiers(study)[0]
    counts = found.confusion[best]
    words = f"True and predicted levels of {study.target} by {best}"
    return draw("confusion", words, (4.8, 4.3), lambda f: plots.confusion_matrix(counts, found.levels, f.subplots()))


def best_classifiers(study: Study) -> list[str]:
    """Models by rising log loss, the baseline left out."""
    assert study.classification is not None
    ranked = sorted(study.classification.scores, key=lambda s: s["log_loss"])
    return [s["model"] for s in ranked if s["model"] in study.fits]


def embedding(study: Study) -> Markup | None:
    """The planes of the models whose latent spaces were asked for, else of the best that embed, coloured by the target."""
    found = study.representation.projection
    able = [name for name in study.density.models if name in found][:2]
    chosen = [name for name in study.represented if name in found][:MOST_MODELS] or able
    if not chosen:
        return None
    labels = None if study.target is None else study.table.column(study.target)
    if labels is not None and labels.dtype.kind == "M":
        labels = study.table.values[:, study.table.schema.index(str(study.target))]

    def paint(figure: Figure) -> None:
        panels = grid(figure, len(chosen), 2)
        for axes, name in zip(panels, chosen, strict=True):
            plots.embedding_plane(found[name], labels, axes, name)
        keep = min(2, len(panels)) - 1  # one legend, at the end of the first line
        for axes in (*panels[:keep], *panels[keep + 1 :]):
            if axes.get_legend() is not None:
                axes.get_legend().remove()

    words = "Rows in the plane of largest variance of the embedding"
    across = min(2, max(len(chosen), 2))
    return draw("embedding", words, (4.9 * across + 0.6, 4.2 * ceil(len(chosen) / across)), paint)


def training(study: Study) -> Markup | None:
    """The objective by step of every fit that has one."""
    curves = {name: fit.history.get("objective", []) for name, fit in {**study.fits, **study.represented}.items()}
    shown = [(name, values) for name, values in curves.items() if len(values) > 1]
    if not shown:
        return None

    def paint(figure: Figure) -> None:
        for axes, (name, values) in zip(grid(figure, len(shown)), shown, strict=False):
            plots.training_curve(values, axes, name)

    return draw("training", "Objective by step of each fit", (10.2, 2.1 * ceil(len(shown) / ACROSS)), paint)


def baseline(study: Study) -> str:
    """The label of the baseline among the imputation's scores."""
    return next(str(s["model"]) for s in study.imputation.scores if s["model"] not in study.fits)


def grid(figure: Figure, n: int, across: int = ACROSS) -> Sequence[Any]:
    """As many Axes as asked for, in rows; places that are not needed are taken away."""
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.06)  # type: ignore[union-attr]
    across = min(across, max(n, 2))
    panels = figure.subplots(ceil(n / across), across, squeeze=False).ravel()
    for axes in panels[n:]:
        axes.remove()
    return list(panels[:n])
