# %% [markdown]
# # Multiple imputation, from a file with holes to a table of results
#
# Half of 768 women's insulin and a third of their skinfolds are unknown. What goes with diabetes? `docs/imputation_example.md`
# has the same steps beside those of R's mice. The file is that of `PimaIndiansDiabetes2` in R's package mlbench:
#
#     python examples/multiple_imputation.py pima.csv FOLDER_FOR_FIGURES

# %%
import os
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot

import probgen as pg
from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))
M = 5 if FAST else 20
file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(os.environ.get("PROBGEN_DATA", ".")) / "tabular" / "pima.csv"
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "figures")
if not file.exists():
    print(f"There is no {file}. In R: data(PimaIndiansDiabetes2, package = 'mlbench'); write.csv(...); see the guide.")
    sys.exit()
folder.mkdir(parents=True, exist_ok=True)


def keep(name):
    """The figure that was drawn last."""
    pyplot.savefig(folder / f"{name}.png", dpi=110)
    pyplot.close("all")


# %% The table: measurements in whole numbers look like counts, and are told apart.
raw = pg.read_table(file)
schema = raw.schema.with_kind("insulin", "positive")
for name in ("glucose", "pressure", "triceps"):
    schema = schema.with_kind(name, "real")
table = pg.Table(raw, schema=schema)

# %% What is missing?
print(pg.missing_patterns(table))
print(pg.flux(table))
with plots.house():
    _, (left, right) = pyplot.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    plots.missing_patterns(table, left)
    plots.flux(table, right)
    keep("pima_missing")

# %% Impute, and look.
imputed = pg.impute(table, m=M, seed=1, progress=False)
print(imputed)
traces = imputed.fits[0].diagnostics["traces"]
with plots.house():
    _, axes = pyplot.subplots(2, 3, figsize=(10.5, 5.4), layout="constrained")
    plots.imputed_density(imputed, "triceps", axes[0, 0])
    plots.imputed_density(imputed, "insulin", axes[0, 1])
    plots.imputed_pair(imputed, "glucose", "insulin", 1, axes[0, 2])
    shown = ("mean of triceps", "mean of insulin", "sd of insulin")
    plots.chain_traces({name: np.array(traces[name]) for name in shown}, axes[1])
    keep("pima_imputed")

# %% Analyse every table, pool.
small = "diabetes ~ glucose + mass + age + pedigree + pregnant"
large = small + " + triceps + pressure"
full, reduced = (imputed.analyse(formula, family="binomial") for formula in (large, small))
pooled, less = pg.pool(full), pg.pool(reduced)
print(pooled)

# %% Do skinfold and blood pressure say anything that the others do not? D1, and D3.
print(pooled.test(["triceps", "pressure"]))
print(
    pg.pool_likelihood_ratio(
        [fit.llf for fit in full],
        [fit.llf for fit in reduced],
        [fit.model.loglike(pooled.estimate) for fit in full],
        [fit.model.loglike(less.estimate) for fit in reduced],
        df=2,
    )
)

# %% Enough imputations?
print(f"imputations needed for standard errors that repeat within 5 %: {pooled.imputations_needed()}")
with plots.house():
    plots.settling(pooled, "triceps")
    keep("pima_settling")

# %% The page.
imputed.report(folder / "pima.html", {"diabetes": pooled}, overwrite=True)
print(folder / "pima.html")
