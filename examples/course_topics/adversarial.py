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
)
def cycle_gan(steps=1500):
    columns = ["flipper_length_mm", "body_mass_g"]
    penguins = pg.load_dataset("penguins").select(columns)
    pairs = penguins.take(penguins.known.all(1)).values
    apart = pairs.copy()
    apart[::2, 1], apart[1::2, 0] = np.nan, np.nan  # of every bird one of the two is told, never both
    table = pg.Table.from_codes(apart, penguins.schema)
    sides = (columns[:1], columns[1:])
    fit = pg.fit("cycle_gan", table, sides=sides, masks=0, hidden=(64, 64), max_steps=steps, seed=0, progress=False)
    made = fit.fill(table, draws=1, seed=0)[0].values
    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    axes.plot(*pairs.T, ".", color="#b9c2cc", label="true pairs, never shown")
    axes.plot(*made[::2].T, ".", color="#1f6fb4", label="mass written from the flipper")
    axes.plot(*made[1::2].T, ".", color="#dd7a1c", label="flipper written from the mass")
    axes.set(xlabel="flipper length (mm)", ylabel="body mass (g)")
    axes.legend(frameon=False)
    return figure, {"mean error (g)": np.abs(made[::2, 1] - pairs[::2, 1]).mean(), "spread (g)": pairs[:, 1].std()}
