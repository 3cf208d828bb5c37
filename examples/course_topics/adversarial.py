"""A generator, and a critic that tells its rows from the data's."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.register import topic
from probgen import plots


@topic(
    "Generative adversarial networks (GAN)",
    "Redes generativas antagónicas (GAN)",
    "A generator turns noise into rows, a critic tells them from the data's; the loss decides how they play.",
    "Un generador convierte ruido en filas y un crítico las distingue de los datos; la pérdida fija las reglas del juego.",
    models=["gan"],
    source="Goodfellow et al. (2014); Lim and Ye (2017); Jolicoeur-Martineau (2019)",
    steps=3,
    rows=100,
)
def gan(steps=2000, rows=2000):
    ring, scores = pg.toy("eight_normals", rows), {}
    figure, panels = pyplot.subplots(1, 4, figsize=(11, 3), layout="constrained")
    plots.point_cloud(ring.values, 3, panels[0]).set_title("data")
    for axes, objective in zip(panels[1:], ("non_saturating", "hinge", "relativistic"), strict=True):
        fit = pg.fit(
            "gan",
            ring,
            objective=objective,
            latent=4,
            hidden=(64, 64),
            masks=0,
            max_steps=steps,
            seed=0,
            progress=False,
        )
        new = fit.sample(1000, seed=1).values
        plots.point_cloud(new, 3, axes, "#1f6fb4").set_title(objective.replace("_", "-"))
        scores[f"energy distance, {objective}"] = pg.energy_distance(ring.values, new).value
    return figure, scores


@topic(
    "Conditional GAN",
    "GAN condicional",
    "Generator and critic are told the label, so that rows of an asked label can be drawn.",
    "El generador y el crítico reciben la etiqueta; así se generan filas de la etiqueta pedida.",
    models=["conditional_gan"],
    source="Mirza and Osindero (2014); Miyato and Koyama (2018)",
    steps=3,
)
def conditional_gan(steps=2500):
    digits = pg.load_dataset("digits")
    fit = pg.fit("conditional_gan", digits, latent=32, masks=0, max_steps=steps, seed=0, progress=False)
    levels = digits.schema["target"].levels
    drawn = np.stack([fit.sample(10, given={"target": level}, seed=1).images()[..., 0] for level in levels], axis=1)
    axes = plots.picture_rows(drawn, columns=list(levels), title="Drawn given the digit")
    return axes.figure, {
        "energy distance": fit.diagnostics["energy_distance"],
        "coverage": fit.diagnostics["coverage"],
    }


def edges(pictures):
    """Where a picture differs much from the pixel to the right or below."""
    across = np.abs(np.diff(pictures, axis=2, append=0)) > 5
    down = np.abs(np.diff(pictures, axis=1, append=0)) > 5
    return (across | down).astype(float)


@topic(
    "Image to image (pix2pix)",
    "De imagen a imagen (pix2pix)",
    "A picture is written from another with which it was paired in training: here digits from their edges.",
    "Una imagen se genera a partir de otra, en pares durante el entrenamiento: aquí, dígitos a partir de sus bordes.",
    models=["image_to_image_gan"],
    source="Isola, Zhu, Zhou and Efros (2017)",
    steps=3,
    rows=100,
)
def image_to_image_gan(steps=400, rows=1797):
    pictures = pg.load_dataset("digits").images()[:rows, ..., 0]
    table = pg.Table.from_parts({"edges": pg.Pictures(edges(pictures)), "digit": pg.Pictures(pictures, levels=17)})
    train, test = table.split(0.9, 0.1, seed=0)
    test = test.take(range(10))
    fit = pg.fit("image_to_image_gan", train, masks=0, hidden=(16, 32), max_steps=steps, seed=0, progress=False)
    made = [filled.images("digit") for filled in fit.fill(test.hide("digit"), draws=2)]
    rows = np.stack([test.images("edges") * 16, *made, test.images("digit")])[..., 0]
    axes = plots.picture_rows(rows, rows=["edges", "written", "written again", "truth"], limits=(0, 16))
    return axes.figure, {"mean absolute error in grey levels": np.abs(made[0] - test.images("digit")).mean()}


@topic(
    "Unpaired translation (CycleGAN)",
    "Traducción sin pares (CycleGAN)",
    "Two kinds of rows that are never seen together; what is translated and translated back must return.",
    "Dos clases de filas que nunca se ven juntas; lo que se traduce y se vuelve a traducir debe regresar.",
    models=["cycle_gan"],
    source="Zhu, Park, Isola and Efros (2017)",
    steps=3,
    rows=100,
)
def cycle_gan(steps=1500, rows=2000):
    rng = np.random.default_rng(0)
    litres, other = 4 + rng.gamma(1.5, 2.0, (2, rows))  # of two sets of cars, in litres per 100 km
    nothing = np.full(rows, np.nan)  # the second set is measured in miles per gallon: no car has both
    table = pg.Table({"litres": np.r_[litres, nothing], "miles": np.r_[nothing, 235.2 / other]})
    sides = (["litres"], ["miles"])
    fit = pg.fit("cycle_gan", table, sides=sides, masks=0, hidden=(64, 64), max_steps=steps, seed=0, progress=False)
    said = fit.fill(table.take(range(rows)), draws=1, seed=0)[0].values[:, 1]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    left.hist(235.2 / other, bins=40, density=True, color="#b9c2cc", label="the second set")
    left.hist(
        said, bins=40, density=True, histtype="step", color="#1f6fb4", linewidth=2, label="the first, translated"
    )
    left.set(xlabel="miles per gallon", yticks=[])
    left.legend(frameon=False)
    line = np.linspace(4, litres.max(), 100)
    right.plot(line, 235.2 / line, color="#66717e", linewidth=1.5, label="the truth, never seen")
    right.plot(litres, said, ".", color="#1f6fb4", markersize=3, label="translated")
    right.set(xlabel="litres per 100 km", ylabel="miles per gallon", ylim=(0, 70))
    right.legend(frameon=False)
    return figure, {"mean error in miles per gallon": np.abs(said - 235.2 / litres).mean()}
