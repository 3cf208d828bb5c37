"""Codes of pictures, and pictures out of codes."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.drawing import coloured_digits
from course_topics.register import topic
from probgen import plots


@topic(
    "Autoencoders",
    "Autocodificadores",
    "A network squeezes a row into a code and another brings it back; codes have no distribution yet.",
    "Una red comprime la fila en un código y otra la reconstruye; los códigos todavía no tienen distribución.",
    models=["autoencoder"],
    source="Rumelhart, Hinton and Williams (1986)",
    steps=3,
)
def autoencoder(steps=3000):
    digits = pg.load_dataset("digits")
    pictures = pg.Table.from_images(digits.images(), levels=17)
    fit = pg.fit("autoencoder", pictures, latent=2, hidden=(128, 64), max_steps=steps, seed=0, progress=False)
    shown = pictures.take(range(10))
    again = fit.decode(fit.embed(shown))
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(6.4, 6.4), layout="constrained", height_ratios=[1, 3])
    both = np.stack([shown.images(), again.images()])[..., 0]  # (2, 10, 8, 8)
    plots.picture_rows(both, above, rows=["digit", "decoded"], limits=(0, 16), title="Through two numbers and back")
    coloured_digits(fit.embed(pictures), digits.column("target"), below, "The two numbers of every digit")
    return figure, {"mean absolute error in grey levels": np.abs(again.values - shown.values).mean()}


@topic(
    "Variational autoencoder (VAE)",
    "Autocodificador variacional (VAE)",
    "Codes are drawn from a normal distribution and decoded; a second network guesses the code of a row.",
    "Los códigos se extraen de una normal y se decodifican; una segunda red infiere el código de cada fila.",
    models=["vae"],
    source="Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014)",
    steps=3,
    side=3,
)
def vae(steps=4000, side=10):
    digits = pg.Table.from_images(pg.load_dataset("digits").images() > 7.5)
    train, test = digits.split(0.8, 0.2, seed=0)
    fit = pg.fit("vae", train, latent=2, hidden=(128, 128), max_steps=steps, seed=0, progress=False)
    codes = fit.embed(train)
    across, down = (np.quantile(codes[:, k], np.linspace(0.03, 0.97, side)) for k in (0, 1))
    grid = np.array([(a, d) for d in down[::-1] for a in across])
    shades = fit.decode(grid).images()  # the mean of every pixel, at every point of the plane of codes
    axes = plots.images(shades, columns=side, limits=(0, 1), title="Decoded from a grid of the two latents")
    return axes.figure, {"nats a picture, at least": fit.log_prob(test, draws=20).mean().value}


@topic(
    "Conditional VAE",
    "VAE condicional",
    "The decoder is told the label, so that the latents are what rows of one label differ in.",
    "El decodificador recibe la etiqueta; las variables latentes son aquello en que difieren las filas de igual etiqueta.",
    models=["conditional_vae"],
    source="Kingma, Mohamed, Rezende and Welling (2014)",
    steps=3,
)
def conditional_vae(steps=2000):
    digits = pg.load_dataset("digits")
    fit = pg.fit("conditional_vae", digits, latent=8, hidden=(128,), max_steps=steps, seed=0, progress=False)
    levels = digits.schema["target"].levels
    drawn = np.stack([fit.sample(10, given={"target": level}, seed=1).images()[..., 0] for level in levels], axis=1)
    axes = plots.picture_rows(drawn, columns=[str(level) for level in levels], title="Drawn given the digit")
    return axes.figure, {"nats a picture, at least": fit.log_prob(digits, draws=5).mean().value}


@topic(
    "Hierarchical VAE",
    "VAE jerárquico",
    "Layers of latents, each given the one above: coarse decisions first, details below.",
    "Capas de variables latentes, cada una dada la superior: primero lo grueso, después los detalles.",
    models=["hierarchical_vae"],
    source="Sønderby et al. (2016)",
    steps=3,
    rows=64,
)
def hierarchical_vae(steps=2200, rows=20000):
    shapes, _ = pg.sprites(rows, seed=0)
    fit = pg.fit("hierarchical_vae", shapes, latent=(12, 4), hidden=(128,), max_steps=steps, seed=0, progress=False)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    plots.images(shapes.take(range(64)), columns=8, title="Shapes", axes=left)
    plots.images(fit.sample(64, seed=1), columns=8, title="Drawn through two layers of latents", axes=right)
    return figure, {"nats a picture, at least": fit.log_prob(shapes.take(range(64)), draws=5).mean().value}


@topic(
    "VQ-VAE",
    "VQ-VAE",
    "The code is a few entries of a learnt codebook, and a second model learns which entries go together.",
    "El código son unas pocas entradas de un diccionario aprendido, y otro modelo aprende qué entradas van juntas.",
    models=["vq_vae"],
    source="van den Oord, Vinyals and Kavukcuoglu (2017)",
    steps=3,
)
def vq_vae(steps=1400):
    digits = pg.Table.from_images(pg.load_dataset("digits").images() > 7.5)
    train, test = digits.split(0.8, 0.2, seed=0)
    fit = pg.fit("vq_vae", train, slots=6, codes=16, hidden=(128,), max_steps=steps, seed=0, progress=False)
    shown = test.take(range(10))
    again = fit.decode(fit.embed(shown)).images()[..., 0]
    drawn = fit.sample(30, seed=1).images()[..., 0].reshape(3, 10, 8, 8)
    rows = np.concatenate([shown.images()[None, ..., 0], again[None], drawn])
    axes = plots.picture_rows(rows, rows=["digits", "six codes, decoded", "codes drawn", "", ""])
    return axes.figure, {"nats a picture, at least": fit.log_prob(test).mean().value}
