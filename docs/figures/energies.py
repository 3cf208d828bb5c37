"""The figure of energies beside the densities they learnt, drawn anew: ``python docs/figures/energies.py``."""

from pathlib import Path

import probgen as pg
from probgen import plots

HERE = Path(__file__).parent
TOYS = ["two_moons", "eight_normals", "rings", "two_spirals", "pinwheel", "checkerboard"]

options = {"hidden": (128, 128), "max_steps": 2500, "batch_size": 256, "learning_rate": 3e-3, "base": "independent"}
study = pg.toy_study({"energy": options}, TOYS, rows=10_000, points=120, seed=0, progress=False)
plots.toy_gallery(study).savefig(HERE / "energies.png", dpi=110, bbox_inches="tight")
