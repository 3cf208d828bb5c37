# %% [markdown]
# # Imputation: what could the unknown cells have been?
#
# Hide a fifth of the cells, fill them in several times, and compare with what was hidden.

# %%
import os

import numpy as np

import probgen as pg

FAST = bool(os.environ.get("PROBGEN_FAST"))
DRAWS = 10 if FAST else 50

complete = pg.load_dataset("penguins").drop(["year"])
holed, hidden = pg.ampute(complete, 0.2, mechanism="mcar", seed=0)

# %% Fit to the table with its holes, then draw completed tables given the known cells.
restarts = 1 if FAST else 5
fit = pg.fit("gaussian_mixture", holed, components=3, restarts=restarts, max_steps=2000, progress=False)
filled = fit.fill(holed, draws=DRAWS, seed=0)
known = holed.known
assert all(np.array_equal(t.values[known], holed.values[known]) for t in filled)

# %% How good is it? The mean (or the commonest level) of the draws against the hidden truth.
draws = np.stack([t.values for t in filled])  # (draws, N, D)
for d, column in enumerate(complete.schema):
    rows = hidden[:, d] & complete.known[:, d]
    truth, seen = complete.values[rows, d], holed.values[holed.known[:, d], d]
    if column.is_discrete:
        codes = range(len(column.levels))
        votes = np.stack([(draws[:, rows, d] == code).mean(axis=0) for code in codes])  # (L, n)
        ours = np.mean(votes.argmax(axis=0) == truth)
        plain = np.mean(np.bincount(seen.astype(int)).argmax() == truth)
        print(f"{column.name:20} accuracy {ours:7.2f}   commonest level {plain:7.2f}")
    else:
        ours = np.sqrt(np.mean((draws[:, rows, d].mean(axis=0) - truth) ** 2))
        plain = np.sqrt(np.mean((seen.mean() - truth) ** 2))
        print(f"{column.name:20} RMSE     {ours:7.2f}   column mean     {plain:7.2f}")
