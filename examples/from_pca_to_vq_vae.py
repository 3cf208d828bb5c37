# %% [markdown]
# # From principal components to a VAE to a VQ-VAE
#
# 1797 handwritten digits of eight by eight grey levels. Three models put a picture into a few numbers and take it out again: a linear one, a network with
# uncertain codes, a network with codes out of a book. The labels are kept from all of them. What does each find?

# %%
import os
import time

import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_digits

import probgen as pg
from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))
STEPS = 20 if FAST else 4000
began = time.perf_counter()

# %% Grey levels are whole numbers. A density of numbers on a grid could be made as high as you like, so noise of one level's width is put between them.
digits = load_digits()
grey = digits.data + np.random.default_rng(0).uniform(-0.5, 0.5, digits.data.shape)  # (N, 64)
names = [f"pixel{at // 8}_{at % 8}" for at in range(64)]
table = pg.Table.from_codes(grey, pg.Schema(tuple(pg.Column(name, "real") for name in names)))
train, test = table.split(0.8, 0.2, seed=0)
how = {"seed": 0, "progress": False, "max_steps": STEPS, "batch_size": 100, "learning_rate": 1e-3}

# %% [markdown]
# ## 1. Principal components, as a distribution
#
# Eight factors are drawn from a normal distribution, a matrix makes pixels of them, noise is added (Tipping and Bishop, 1999). Its density is exact.

# %%
fits = {"PCA": pg.fit("probabilistic_pca", train, latent=8, seed=0, progress=False)}

# %% [markdown]
# ## 2. A VAE without a hidden layer is the same model
#
# The matrix is now learnt by gradients, and a guide says where the factors of a picture lie. Its bound can reach what principal components reach, and
# never more: what is new is not the sampling, but what can be put in between.

# %%
linear = pg.fit("vae", train, latent=8, hidden=(), spread="same", **{**how, "learning_rate": 5e-3})

# %% [markdown]
# ## 3. A VAE: hidden layers, so that the eight numbers lie on a curved sheet of pictures
#
# ## 4. A VQ-VAE: eight codes, each out of a book of sixteen vectors, and a prior that learns which codes go together

# %%
fits["VAE"] = pg.fit("vae", train, latent=8, hidden=(128,), spread="column", **how)
fits["VQ-VAE"] = pg.fit("vq_vae", train, slots=8, codes=16, width=4, hidden=(128,), spread="column", **how)

# %% How well does each describe pictures that it has not seen? In nats a picture, higher is better; a bound can only be too low.
print(f"{'':12}{'nats a picture':>18}{'':>10}  number          left of a pixel's spread")
for name, fit in {"PCA": fits["PCA"], "linear VAE": linear, "VAE": fits["VAE"], "VQ-VAE": fits["VQ-VAE"]}.items():
    score = fit.log_prob(test, draws=50 if FAST else 500)
    left = np.nanmean(list(pg.reconstruct(fit, test).errors.values()))
    error = np.std(score.value) / np.sqrt(len(score.value))
    print(f"{name:12}{score.mean().value:18.2f} ± {error:5.2f}    {score.kind:14}  {left:.2f}")

# %% What do the numbers know of the ten digits, which no model was shown? A linear reader and the nearest neighbours tell, with standard errors.
labelled = pg.Table.from_codes(
    np.column_stack([grey, digits.target]),
    pg.Schema((*table.schema, pg.Column("digit", "categorical", levels=tuple(range(10))))),
)
some = labelled.take(range(120 if FAST else len(labelled)))
study = pg.representation_study(fits, some, "digit", draws=0 if FAST else 5)
print(f"\n{'read from':22}{'numbers':>8}{'linear':>16}{'neighbours':>16}{'linear, codes drawn':>22}")
for row in study.scores:
    told = [f"{100 * row[key]:.1f} ± {100 * row[f'{key}_error']:.1f} %" for key in ("linear", "neighbours")]
    drawn = f"{100 * row['linear_drawn']:.1f} ± {100 * row['linear_drawn_sd']:.1f} %" if "linear_drawn" in row else "-"
    print(f"{row['model']:22}{row['dimensions']:8}{told[0]:>16}{told[1]:>16}{drawn:>22}")

# %% Which of the VAE's eight numbers are used at all? Of the VQ-VAE, how many nats do its slots hold?
for name in ("VAE", "VQ-VAE"):
    known = pg.latent_dimensions(fits[name], test)
    told = ", ".join(f"{known.nats[at]:.1f}" for at in known.order)
    print(f"\n{name}: nats of each {'slot' if name == 'VQ-VAE' else 'dimension'}, most first: {told}")

# %% One picture for each: digits, what comes back of them, and digits that never were.
count = 10
shown = np.array([np.flatnonzero(digits.target == digit)[3] for digit in range(count)])
lines, words = [table.values[shown]], ["digits"]
for name, fit in fits.items():
    again = pg.reconstruct(fit, table, shown)
    lines += [again.decoded.centres, fit.sample(count, seed=1).values]
    words += [f"{name}: back again", f"{name}: made up"]
figure, axes = pyplot.subplots(figsize=(7.4, 5.2), layout="constrained")
images = np.stack(lines).reshape(len(lines), count, 8, 8)
plots.picture_rows(images, axes, rows=words, limits=(0, 16), title="Digits, decoded and drawn")
figure.savefig("digits_decoded_and_drawn.png", dpi=130)

# %% Where do the digits lie? Each model's codes in the plane in which they vary most.
figure, panels = pyplot.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
labels = np.array([str(digit) for digit in some.column("digit")], dtype=object)
for at, (axes, name) in enumerate(zip(panels, fits)):
    plots.embedding_plane(study.projection[name], labels, axes, name)
    if at < 2:
        axes.get_legend().remove()
figure.savefig("digits_planes.png", dpi=130)

# %% Walks: a dimension (or a slot) at a time, and from a 4 to a 9 on three ways. The shortest way keeps to pictures that the decoder knows.
four, nine = int(np.flatnonzero(digits.target == 4)[0]), int(np.flatnonzero(digits.target == 9)[0])
figure, panels = pyplot.subplots(2, 3, figsize=(13.5, 6.6), layout="constrained", height_ratios=[8, 3.2])
print("\nFrom a 4 to a 9, lengths of the paths among the pixels:")
for (above, below), (name, fit) in zip(panels.T, fits.items()):
    plots.traversal_pictures(pg.traverse(fit, table, four), above, shape=(8, 8), limits=(0, 16), title=name)
    path = pg.interpolate(fit, table, four, nine)
    plots.interpolation_pictures(path, below, shape=(8, 8), limits=(0, 16))
    print(f"{name:12}" + ", ".join(f"{way} {length:.1f}" for way, length in path.lengths.items()))
figure.savefig("digits_walks.png", dpi=130)

# %% [markdown]
# ## What to take home
#
# - A VAE without hidden layers finds what principal components find, to hundredths of a nat: start there, and see what each addition is worth.
# - A curved sheet, and a book of codes, describe pictures never seen far better; of the VQ-VAE that is said by a bound, which can only be too low.
# - Eight numbers that rebuild pictures tell less of the digits than the pixels do, and drawn as their posterior says they tell less again: what is left
#   uncertain is part of what a representation is.
# - What is made up shows what a density means: the line draws smudges, the others draw strokes.

# %%
print("\ndigits_decoded_and_drawn.png, digits_planes.png and digits_walks.png are written.")
if not FAST:
    print(f"{time.perf_counter() - began:.0f} seconds")
