# %% [markdown]
# # Representation: where does a row lie?
#
# Fit a model that never sees the species, embed every penguin, and see whether the species has
# been found all the same.

# %%
import os

import numpy as np

import probgen as pg

FAST = bool(os.environ.get("PROBGEN_FAST"))

table = pg.load_dataset("penguins")
measured = table.drop(["species", "island", "sex", "year"])
rows = np.flatnonzero(measured.known.any(axis=1))  # two penguins were not measured at all
measured, species = measured.take(rows), table.take(rows).column("species")

# %% The embedding of a mixture is the probability of each component given the row's known cells.
restarts = 2 if FAST else 10
fit = pg.fit("gaussian_mixture", measured, components=3, restarts=restarts, max_steps=2000, progress=False)
z = fit.embed(measured)  # (N, K)
cluster = z.argmax(axis=1)

# %% Species in each component.
names = sorted(set(species))
print(" " * 12, *(f"{name:>10}" for name in names))
for k in range(z.shape[1]):
    counts = [int(np.sum((cluster == k) & (species == name))) for name in names]
    print(f"component {k:2}", *(f"{count:10}" for count in counts))

# %% A few new penguins from each corner of the latent space.
print(fit.decode(np.eye(z.shape[1])).to_pandas())
