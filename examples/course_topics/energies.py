"""Densities known up to a factor."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.register import topic
from probgen import plots


@topic(
    "Restricted Boltzmann machine (RBM)",
    "Máquina de Boltzmann restringida (RBM)",
    "Binary hidden units, an energy for every pair; rows and units are drawn in turns.",
    "Unidades ocultas binarias y una energía por cada par; filas y unidades se muestrean por turnos.",
    models=["boltzmann_machine"],
    source="Smolensky (1986); Hinton (2002)",
    steps=3,
    draws=10,
    hidden=4,
)
def boltzmann_machine(steps=1500, draws=64, hidden=64):
    digits = pg.Table.from_images(pg.load_dataset("digits").images() > 7.5)
    train, test = digits.split(0.8, 0.2, seed=0)
    fit = pg.fit("boltzmann_machine", train, hidden=hidden, max_steps=steps, seed=0, progress=False)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    plots.images(train.take(range(64)), columns=8, title="Digits", axes=left)
    plots.images(fit.sample(draws, seed=1), columns=8, title="Drawn by Gibbs sampling", axes=right)
    return figure, {"nats a picture": fit.log_prob(test).mean().value}


@topic(
    "Energy-based models",
    "Modelos basados en energía",
    "Any network may be an energy: low where rows are. What is hard is the factor that makes it a density.",
    "Cualquier red puede ser una energía, baja donde hay datos. Lo difícil es el factor que la vuelve densidad.",
    models=["energy"],
    source="LeCun et al. (2006); Gutmann and Hyvärinen (2010)",
    steps=3,
    points=8,
    hidden=(8,),
    draws=10,
    rows=100,
    toys=("two_moons",),
)
def energy(steps=2200, points=80, hidden=(128, 128), draws=1000, rows=4000, toys=("two_moons", "eight_normals")):
    options = {"hidden": hidden, "base": "independent", "batch_size": 256, "learning_rate": 5e-3}
    how = {"rows": rows, "points": points, "draws": draws, "max_steps": steps, "seed": 0, "progress": False}
    study = pg.toy_study({"energy": options}, toys, **how)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}


@topic(
    "Score matching",
    "Ajuste de puntuaciones (score matching)",
    "The gradient of the log density needs no factor: it is learnt as the way back from added noise.",
    "El gradiente de la log-densidad no necesita el factor: se aprende como el camino de vuelta desde un ruido añadido.",
    models=["energy"],
    source="Hyvärinen (2005); Vincent (2011); Song and Ermon (2019)",
    steps=3,
    rows=100,
)
def score_matching(steps=1500, rows=4000):
    moons = pg.toy("two_moons", rows)
    fit = pg.fit(
        "energy", moons, objective="multiscale_denoising", hidden=(64, 64), batch_size=256,
        learning_rate=3e-3, max_steps=steps, seed=0, progress=False,
    )  # fmt: skip
    line = np.linspace(-2.4, 2.4, 19)
    grid = np.array([(x, y) for y in line for x in line])
    log_density = fit.log_prob(pg.Table.from_codes(grid, moons.schema)).value.reshape(19, 19)
    up, right = np.gradient(log_density, line, line)
    length = np.sqrt(np.hypot(up, right)) + 1e-9
    figure, axes = pyplot.subplots(figsize=(4.6, 4.6), layout="constrained")
    plots.point_cloud(moons.values[:1000], 2.5, axes)
    axes.quiver(line, line, right / length, up / length, color="#1f6fb4", width=0.005, scale=30)
    axes.set_title("The score points to the rows")
    return figure, {"longest score": np.hypot(up, right).max()}
