"""The figures of the guide to imputation, drawn anew: ``python docs/figures/imputation.py``.

``products.png`` and ``pima_beside_mice.png`` are drawn by ``python -m benchmarks.products`` and ``benchmarks.pima``, the
other ones of the example by ``examples/multiple_imputation.py``.
"""

from pathlib import Path

from matplotlib import pyplot

import probgen as pg
from probgen import plots

HERE = Path(__file__).parent


def panels(widths):
    """Axes side by side."""
    return pyplot.subplots(1, len(widths), figsize=(12.4, 3), width_ratios=widths, layout="constrained")[1]


def keep(name):
    """The figure that was drawn last."""
    pyplot.savefig(HERE / f"{name}.png", dpi=110)
    pyplot.close("all")


birds = pg.load_dataset("penguins").select(["species", "bill_length_mm", "flipper_length_mm", "body_mass_g"])
complete = birds.take(birds.known.all(1).nonzero()[0])
table, _ = pg.ampute_patterns(complete, 0.5, patterns=[["bill_length_mm"], ["body_mass_g"]], seed=1)
imputed = pg.impute(table, m=20, seed=1, progress=False)
hidden = pg.overimpute(table, "auto", m=19, folds=5, progress=False)
swept = pg.sensitivity(
    imputed,
    "body_mass_g",
    [-600, -400, -200, 200, 400, 600],
    "body_mass_g ~ C(species)",
    rows=table.column("species") == "Chinstrap",
)

with plots.house():
    axes = panels((1, 1.1, 1.1, 1))
    plots.imputed_density(imputed, "bill_length_mm", axes[0])
    plots.imputed_pair(imputed, "bill_length_mm", "flipper_length_mm", 1, axes[1])
    plots.propensity_plot(imputed, "bill_length_mm", axes[2:])
    keep("imputed")

    axes = panels((1, 1, 1, 1))
    plots.overimputation(hidden, "body_mass_g", axes[0])
    plots.pit_histogram(hidden, "body_mass_g", axes[1])
    plots.pit_line(hidden, "body_mass_g", axes[2])
    plots.label_calibration(hidden, "species", axes[3])
    keep("overimputed")

    _, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    plots.sensitivity_curve(swept, "C(species)[T.Chinstrap]", axes)
    keep("sensitivity")
