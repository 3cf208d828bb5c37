"""The figure of completed digits, drawn anew: ``python docs/figures/images.py``."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot

import probgen as pg
from probgen import plots

HERE = Path(__file__).parent

digits = pg.load_dataset("digits")
order = np.random.default_rng(0).permutation(len(digits))
table = pg.Table.from_images(digits.images()[order] > 7.5)
train, test = table.take(slice(0, 1437)), table.take(slice(1437, 1443))
fit = pg.fit("vae", train, latent=8, network="residual", max_steps=2500, progress=False)
asked = test.hide(*test.names[32:])  # the lower half
plots.inpainting(asked, fit.fill(asked, draws=6, seed=0), test)
pyplot.savefig(HERE / "inpainted_digits.png", dpi=110)
