# %% [markdown]
# # A network of penguins: learnt from a table with holes, asked, and drawn
#
# Which measurements depend directly on which, how sure that is, and what a few known cells say of the others. Data:
# Horst, Hill and Gorman (2020), palmerpenguins.

# %%
import os

import probgen as pg
from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))

table = pg.load_dataset("penguins").drop(["year"])
train, test = table.split(0.8, 0.2, seed=0)

# %% The graph: species and island come before sex, and all of them before measurements.
tiers = [("species", "island"), ("sex",), tuple(c.name for c in table.schema if not c.is_discrete)]
structure = pg.learn_structure(train, tiers=tiers, progress=False)
print(structure.summary())
confidence = pg.edge_confidence(train, resamples=5 if FAST else 50, tiers=tiers, restarts=0, progress=False)

# %% Its parameters, by EM: holes anywhere are integrated out. Against one Gaussian and independent columns.
fit = pg.fit("bayesian_network", train, structure=structure, progress=False)
for name, other in {
    "network": fit,
    "independent": pg.fit("bayesian_network", train, structure="independent", progress=False),
    "one Gaussian": pg.fit("gaussian_mixture", train, components=1, progress=False),
}.items():
    print(f"{name:12}  {other.log_prob(test).mean().value:8.3f} nats a row")

# %% Questions in both directions: what a male Gentoo weighs, and who has a long bill and long flippers.
print(fit.query("body_mass_g", given={"species": "Gentoo", "sex": "male"}))
print(fit.query("species", given={"bill_length_mm": 47.0, "flipper_length_mm": 195.0}))
print(f"island and species share {fit.mutual_information('island', 'species'):.3f} nats")

# %% The network with what is believed given a female on Dream; edges as wide as they are sure.
names = list(confidence.names)
shares = {(a, b): confidence.edges[names.index(a), names.index(b)] for a, b in structure.graph.edges}
drawn = plots.network(fit, given={"island": "Dream", "sex": "female"}, weights=shares)
drawn.figure.savefig("penguin_network.png", dpi=110, bbox_inches="tight")
