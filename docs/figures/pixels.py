"""The figure of digits said pixel by pixel, drawn anew: ``python docs/figures/pixels.py`` (minutes)."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot

import probgen as pg
from probgen import plots

HERE = Path(__file__).parent

digits = pg.load_dataset("digits")
order = np.random.default_rng(0).permutation(len(digits))
pictures, labels = digits.images()[order], [str(label) for label in digits.to_pandas()["target"].to_numpy()[order]]
table = pg.Table.from_images(pictures, levels=17, others={"digit": labels})
train, test = table.take(slice(0, 1437)), table.take(slice(1437, 1443))
fit = pg.fit(
    "pixel_cnn", train, max_steps=1000, batch_size=64, learning_rate=3e-3, average=0.99, seed=0, progress=False
)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(10, 8))
asked = np.full((60, len(table.schema)), np.nan)
asked[:, -1] = np.arange(60) % 10
drawn = fit.fill(pg.Table.from_codes(asked, table.schema), 1, seed=0)[0]
plots.images(drawn, columns=10, title="drawn given the digit", axes=left)
half = test.hide(*test.names[32:])
plots.inpainting(half, fit.fill(half, draws=6, seed=0), test, axes=right)
figure.tight_layout()
figure.savefig(HERE / "drawn_pixels.png", dpi=110, bbox_inches="tight")
