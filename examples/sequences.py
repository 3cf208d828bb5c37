# %% [markdown]
# # Sequences: earthquakes in quiet and in busy years
#
# Counts of earthquakes of magnitude 7 or more in the world, 1900 to 2006 (Zucchini and MacDonald, 2009): a hidden
# Markov model, how many states it needs, which years were busy, and what comes next.

# %%
import os

import numpy as np

import probgen as pg
from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))

counts = [
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19, 20, 22, 19,
    13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22, 17, 19, 15, 34, 10,
    15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18, 14, 10, 15, 8, 15, 6, 11, 8,
    7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
]  # fmt: skip
table = pg.Table.from_sequences([np.array(counts, dtype=float)[:, None]], kind="count", names=["earthquakes"])

# %% How many states? Each by maximum likelihood, with Poisson counts.
options = {"families": {"earthquakes": "poisson"}, "prior": None, "progress": False, "restarts": 1 if FAST else 10}
fits = {states: pg.fit("hidden_markov", table, states=states, max_steps=2000, **options) for states in (1, 2, 3, 4)}
for states, fit in fits.items():
    found = fit.criteria(table)
    print(f"{states} states: log likelihood {found.log_likelihood:9.3f}   AIC {found.aic:7.2f}   BIC {found.bic:7.2f}")

# %% The states of the model with three, the years it calls busy, and the next five years.
fit = fits[3]
print(fit.summary())
rates = fit.parameters()["emission.poisson"]["rate"].ravel()
busy = np.flatnonzero(fit.viterbi(table) == rates.argmax())
print("busiest state:", ", ".join(str(1900 + year) for year in busy))
low, high = fit.forecast(table, 5).quantiles([0.05, 0.95])
print("2007 to 2011, 90 %:", ", ".join(f"{a:.0f}-{b:.0f}" for a, b in zip(low.ravel(), high.ravel(), strict=True)))

# %% The series on its most probable states, and the years ahead.
plots.decoded(fit, table, first=1900)[0].figure.savefig("decoded.png", dpi=120)
plots.forecast(fit, table, 10, first=1900)[0].figure.savefig("forecast.png", dpi=120)
plots.transition_diagram(fit).figure.savefig("transitions.png", dpi=120)
