# %% [markdown]
# # Toy densities: how far is each model from the truth?
#
# Eight densities in the plane are known exactly, their entropies too, so that the divergence of a fitted model from the truth is a
# mean over fresh rows, in nats, with an error. One picture: rows, the truth, and of every model its density, its rows and its divergence.
#
#     python examples/toys.py --models gaussian_mixture,kernel_density --toys rings,banana --steps 2000 --out toys.png

# %%
import argparse
import os

import probgen as pg
from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))
OPTIONS = {
    "gaussian_mixture": {"components": 24},
    "student_mixture": {"components": 24},
    "mixture_of_factor_analysers": {"components": 24, "factors": 1},
    "latent_class": {"components": 40},
    "vae": {"latent": 2, "hidden": (64, 64), "latent_prior": "mixture"},
}

asked = argparse.ArgumentParser()
asked.add_argument("--models", default="gaussian_mixture,student_mixture,latent_class,kernel_density")
asked.add_argument("--toys", default="banana,eight_normals" if FAST else ",".join(pg.toy_names()[:8]))
asked.add_argument("--steps", type=int, default=30 if FAST else 2000, help="of every fit, at most")
asked.add_argument("--rows", type=int, default=300 if FAST else 2000)
asked.add_argument("--out", default="toys.png")
given = asked.parse_args()

# %% Fit every model to every density.
study = pg.toy_study(
    {name: OPTIONS.get(name, {}) for name in given.models.split(",")},
    given.toys.split(","),
    rows=given.rows,
    points=30 if FAST else 100,
    max_steps=given.steps,
    progress=False,
)
print(study)

# %% The picture.
plots.toy_gallery(study).savefig(given.out, dpi=50 if FAST else 120)
print(given.out)
