"""Rows are hidden little by little, and a network brings them back."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.register import topic
from probgen import plots


@topic(
    "Diffusion",
    "Difusión",
    "Noise is added step by step; a network learns to take it away, and draws start from noise alone.",
    "Se añade ruido paso a paso; una red aprende a quitarlo y las muestras parten de puro ruido.",
    models=["diffusion"],
    source="Sohl-Dickstein et al. (2015); Ho, Jain and Abbeel (2020)",
    steps=2,
    draws=8,
)
def diffusion(steps=700, draws=64):
    digits = pg.Table.from_images(pg.load_dataset("digits").images(), levels=17)
    fit = pg.fit(
        "diffusion",
        digits,
        network="unet",
        hidden=(16, 32),
        learning_rate=3e-3,
        max_steps=steps,
        seed=0,
        progress=False,
    )
    figure, panels = pyplot.subplots(1, 3, figsize=(12.6, 4), layout="constrained")
    plots.images(digits.take(range(64)), columns=8, title="Digits", axes=panels[0])
    for axes, draw_steps in zip(panels[1:], (4, 50), strict=True):
        fit.program.process.draw_steps = draw_steps
        plots.images(fit.sample(draws, seed=1), columns=8, title=f"Drawn in {draw_steps} steps", axes=axes)
    return figure, {"nats a picture, at least": fit.log_prob(digits.take(range(100)), draws=10).mean().value}


@topic(
    "Conditional diffusion and guidance",
    "Difusión condicional y guía",
    "The network is shown a label; guidance pushes draws further away from what it says without one.",
    "A la red se le muestra una etiqueta; la guía aleja las muestras de lo que diría sin ella.",
    models=["diffusion"],
    source="Ho and Salimans (2022)",
    steps=2,
    hidden=(16,),
    draw_steps=3,
)
def conditional_diffusion(steps=1300, hidden=(256, 256), draw_steps=50):
    digits = pg.load_dataset("digits")
    fit = pg.fit("diffusion", digits, hidden=hidden, draw_steps=draw_steps, max_steps=steps, seed=0, progress=False)
    levels = list(digits.schema["target"].levels)
    figure, panels = pyplot.subplots(1, 2, figsize=(11.5, 3.2), layout="constrained")
    spread = {}
    for axes, guidance in zip(panels, (0.0, 4.0), strict=True):
        fit.program.process.guidance = guidance
        drawn = np.stack([fit.sample(5, given={"target": level}, seed=1).images()[..., 0] for level in levels], axis=1)
        plots.picture_rows(drawn, axes, columns=levels, title=f"guidance {guidance:.0f}")
        spread[f"spread of a pixel, guidance {guidance:.0f}"] = drawn.std(0).mean()
    return figure, spread


@topic(
    "Discrete diffusion",
    "Difusión discreta",
    "Levels vanish one after the other, and come back in any order.",
    "Las categorías se borran una tras otra y regresan en cualquier orden.",
    models=["discrete_diffusion"],
    source="Austin et al. (2021); Hoogeboom et al. (2022)",
    steps=2,
    rows=64,
)
def discrete_diffusion(steps=1500, rows=1797):
    digits = pg.Table.from_images(pg.load_dataset("digits").images()[:rows] > 7.5)
    fit = pg.fit("discrete_diffusion", digits, hidden=(256, 256), max_steps=steps, seed=0, progress=False)
    asked = digits.take(range(5)).hide(*digits.names[32:])  # the lower half
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    plots.images(fit.sample(49, seed=1), columns=7, title="Drawn out of nothing", axes=left)
    plots.inpainting(asked, fit.fill(asked, draws=5), digits.take(range(5)), axes=right)
    return figure, {"nats a picture, at least": fit.log_prob(digits.take(range(60)), draws=10).mean().value}


@topic(
    "Diffusion in continuous time",
    "Difusión en tiempo continuo",
    "Noise comes in by a stochastic equation; the score turns it round, and gives a density as well.",
    "El ruido entra por una ecuación estocástica; la puntuación la invierte y da también una densidad.",
    models=["score_sde"],
    source="Song et al. (2021); Karras et al. (2022)",
    steps=3,
    points=6,
    test_rows=50,
    draws=10,
)
def score_sde(steps=1300, points=60, test_rows=1000, draws=1000):
    options = {"hidden": (128, 128), "max_steps": steps, "batch_size": 256, "learning_rate": 3e-3}
    how = {"rows": 4000, "test_rows": test_rows, "points": points, "draws": draws, "seed": 0, "progress": False}
    study = pg.toy_study({"score_sde": options}, ["two_moons", "pinwheel"], **how)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}
