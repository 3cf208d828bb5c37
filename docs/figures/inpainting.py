"""The figure of digits completed by diffusion, drawn anew: ``python docs/figures/inpainting.py``.

The lower half of each digit is unknown: on the left the network is shown the upper half, on the right the upper half is held while steps are repeated.
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_digits

import probgen as pg
from probgen import plots

HERE = Path(__file__).parent

images = load_digits().images.astype(np.uint8)[np.random.default_rng(0).permutation(1797)]
table = pg.Table.from_images(images, levels=17)
train, test = table.take(slice(0, 1437)), table.take(slice(1437, 1443))
fit = pg.fit(
    "diffusion", train, hidden=(256, 256), max_steps=3000, conditioning=0.8, dropout=0.1, seed=0, progress=False
)
figure, places = pyplot.subplots(1, 2, figsize=(9, 5.6))
for place, title, times in zip(places, ("shown", "held, each step 10 times"), (0, 10), strict=True):
    fit.program.process.resampling = times
    asked = test.hide(*test.names[32:])
    plots.inpainting(asked, fit.fill(asked, draws=4, seed=0), test, axes=place)
    place.set_title(title, fontsize=10, pad=18)
figure.subplots_adjust(left=0.02, right=0.98, wspace=0.12)
figure.savefig(HERE / "inpainted_by_diffusion.png", dpi=110, bbox_inches="tight")
