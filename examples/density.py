# %% [markdown]
# # Density: how likely is a row?
#
# Fit several models to the same rows, score rows they have not seen, and find the rows that
# surprise the best one.
# Scores are in nats a row and in the data's own units, so any two models can be compared.

# %%
import os

import numpy as np

import probgen as pg

FAST = bool(os.environ.get("PROBGEN_FAST"))
RESTARTS = 1 if FAST else 5

table = pg.load_dataset("penguins").drop(["year"])
train, test = table.split(0.7, 0.3, seed=0)
print(table.schema)

# %% Fit, and score the held-out rows. Holes in both are integrated out.
fits = {
    name: pg.fit(name, train, components=components, restarts=RESTARTS, max_steps=2000, progress=False)
    for name, components in [("latent_class", 6), ("gaussian_mixture", 3)]
}
scores = {name: fit.log_prob(test) for name, fit in fits.items()}
for name, score in scores.items():
    error = np.std(np.asarray(score)) / np.sqrt(len(score))
    print(f"{name:18} {float(score.mean().value):8.3f} +- {error:.3f} nats a row ({score.kind})")

# %% Rows that surprise the better model most.
best = max(scores, key=lambda name: float(scores[name].mean().value))
surprising = np.argsort(np.asarray(scores[best]))[:3]
print(f"\nleast likely rows under {best}:")
print(test.take(surprising).to_pandas())
