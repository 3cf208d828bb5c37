"""What densities are for."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.drawing import coloured_digits
from course_topics.register import topic
from probgen import plots


@topic(
    "Density: how likely is a row?",
    "Densidad: ¿qué tan probable es una fila?",
    "Log densities of rows that no model saw, in nats and in the units of the data, compared row by row.",
    "Log-densidades de filas que ningún modelo vio, en nats y en las unidades de los datos, comparadas fila a fila.",
    models=["gaussian_mixture", "kernel_density"],
    source="Good (1952)",
    points=10,
    rows=200,
    toys=("two_moons",),
)
def density(points=100, rows=1000, toys=("two_moons", "two_spirals", "rings", "banana")):
    models = {"gaussian_mixture": {"components": 24}, "kernel_density": {}}
    study = pg.toy_study(models, toys, rows=rows, points=points, restarts=1, seed=0, progress=False)
    return plots.toy_gallery(study), {
        f"nats below the truth, {name}": study.score("two_moons", name)["kl"] for name in models
    }


@topic(
    "Which model?",
    "¿Qué modelo?",
    "Models ranked by the density of held-out rows, each difference with its error; bounds are told from exact numbers.",
    "Modelos ordenados por la densidad de filas reservadas, cada diferencia con su error; las cotas se distinguen de los valores exactos.",
    models=["naive_bayes", "latent_class", "factor_analysis", "gaussian_mixture", "made"],
    source="Jamieson and Talwalkar (2016); Yao et al. (2018)",
    steps=5,
)
def model_comparison(steps=400):
    penguins = pg.load_dataset("penguins").drop(["year"]).with_target("species")
    models = {
        "naive_bayes": {},
        "latent_class": {"components": 6},
        "factor_analysis": {},
        "one Gaussian": {"model": "gaussian_mixture", "components": 1},
        "four Gaussians": {"model": "gaussian_mixture", "components": 4},
        "made": {"hidden": (64,), "learning_rate": 3e-3, "max_steps": steps},
    }
    board = pg.compare(penguins, models, halve="none", restarts=1, seed=0, progress=False)
    axes = plots.leaderboard(board)
    return axes.figure, {f"nats a row, {score['model']}": score["mean"] for score in board.scores}


@topic(
    "Imputation",
    "Imputación",
    "What is unknown is drawn given what is known, several times; the analysis is pooled over the draws.",
    "Lo desconocido se extrae dado lo conocido, varias veces; el análisis se combina sobre las extracciones.",
    models=["gaussian_mixture"],
    source="Rubin (1987)",
    m=2,
)
def imputation(m=10):
    penguins = pg.load_dataset("penguins").select(["bill_length_mm", "flipper_length_mm", "body_mass_g"])
    complete = penguins.take(penguins.known.all(1))
    holes, _ = pg.ampute(complete, 0.4, "mar", columns=["body_mass_g"], seed=0)
    imputed = pg.impute(holes, model="gaussian_mixture", m=m, components=2, seed=0, progress=False)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    plots.imputed_pair(imputed, "flipper_length_mm", "body_mass_g", number=1, axes=left)
    plots.imputed_density(imputed, "body_mass_g", right)
    mass = lambda table: table.values[:, 2].mean()  # noqa: E731
    return figure, {
        "mean mass, all rows": mass(complete),
        "complete rows alone": np.nanmean(holes.values[:, 2]),
        "imputed": np.mean([mass(each) for each in imputed]),
    }


@topic(
    "Conditional generation",
    "Generación condicional",
    "Some cells are given and the rest is drawn: the same joint distribution answers in every direction.",
    "Se dan algunas celdas y se generan las demás: la misma distribución conjunta responde en todas las direcciones.",
    models=["gaussian_mixture"],
    source="Little and Rubin (1987)",
    restarts=1,
)
def conditional_generation(restarts=5):
    penguins = pg.load_dataset("penguins").drop(["year", "island"])
    fit = pg.fit("gaussian_mixture", penguins, components=6, restarts=restarts, seed=0, progress=False)
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharex=True, sharey=True)
    masses = {}
    for axes, species in zip(panels, ("Adelie", "Chinstrap", "Gentoo"), strict=True):
        drawn = fit.sample(200, given={"species": species}, seed=1)
        plots.pair_against(penguins, drawn, "bill_length_mm", "body_mass_g", axes)
        axes.set_title(f"given {species}")
        masses[f"mean mass (g), {species}"] = drawn.column("body_mass_g").astype(float).mean()
    return figure, masses


@topic(
    "Representation",
    "Representación",
    "Codes judged by what they tell of a label that no model saw: by a linear reader and by neighbours.",
    "Códigos evaluados por lo que dicen de una etiqueta que ningún modelo vio: con un lector lineal y con vecinos.",
    models=["autoencoder", "vae"],
    source="Bengio, Courville and Vincent (2013)",
    steps=3,
    rows=120,
)
def representation(steps=2000, rows=1797):
    digits = pg.load_dataset("digits").take(range(rows))
    binary = pg.Table.from_images(digits.images() > 7.5, others={"digit": digits.column("target")}, target="digit")
    pictures = binary.drop(["digit"])
    how = {"latent": 8, "hidden": (128,), "max_steps": steps, "seed": 0, "progress": False}
    fits = {name: pg.fit(name, pictures, **how) for name in ("autoencoder", "vae")}
    study = pg.representation_study(fits, binary, "digit")
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, name in zip(panels, fits, strict=True):
        coloured_digits(study.projection[name], digits.column("target"), axes, f"{name}: two of eight directions")
    return figure, {f"told by a linear reader of {score['model']}": score["linear"] for score in study.scores}


@topic(
    "Interpolation",
    "Interpolación",
    "Ways from one row to another: among the pixels rows fade, among the codes they turn into each other.",
    "Caminos de una fila a otra: entre píxeles las filas se desvanecen; entre códigos, una se transforma en la otra.",
    models=["vae"],
    source="White (2016); Arvanitidis, Hansen and Hauberg (2018)",
    steps=3,
)
def interpolation(steps=2500):
    digits = pg.load_dataset("digits")
    pictures = pg.Table.from_images(digits.images() > 7.5)
    fit = pg.fit("vae", pictures, latent=8, hidden=(128,), max_steps=steps, seed=0, progress=False)
    path = pg.interpolate(fit, pictures, 4, 9, steps=9)  # a four, a nine
    axes = plots.interpolation_pictures(path, title="From a four to a nine")
    return axes.figure, {f"length of the {way} way": length for way, length in path.lengths.items()}


@topic(
    "Compression",
    "Compresión",
    "A density is a code: a row of probability p takes minus log2 p bits, and comes back bit for bit.",
    "Una densidad es un código: una fila de probabilidad p ocupa menos log2 p bits y se recupera bit a bit.",
    models=["latent_class"],
    source="Shannon (1948); Townsend, Bird and Barber (2019)",
    rows=60,
)
def compression(rows=1797):
    digits = pg.Table.from_images(pg.load_dataset("digits").images()[:rows] > 7.5)
    fit = pg.fit("latent_class", digits, components=30, restarts=1, max_steps=100, tolerance=1e-4, progress=False)
    study = pg.compression_study(fit, digits, columns=False)  # as fit.compress(digits, "digits.pgz"), and read back
    sizes = {"latent classes": study.bytes, "what the density says": study.said, **study.peers}
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    bars = axes.barh(list(sizes), list(sizes.values()), color=["#1f6fb4", *["#b9c2cc"] * (len(sizes) - 1)])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xlabel="bytes", title=f"{rows} digits of 64 black or white pixels")
    axes.invert_yaxis()
    return figure, {"bits a pixel": 8 * study.bytes / digits.values.size}


@topic(
    "Anomalies",
    "Anomalías",
    "How surprising a row is, with p-values that hold for any model, and which of its cells is to blame.",
    "Qué tan sorprendente es una fila, con valores p válidos para cualquier modelo, y cuál de sus celdas es la culpable.",
    models=["latent_class"],
    source="Vovk, Gammerman and Shafer (2005)",
    restarts=1,
)
def anomalies(restarts=5):
    penguins = pg.load_dataset("penguins")
    usual, new = penguins.split(0.9, 0.1, seed=3)
    frame = new.to_pandas()
    frame.loc[frame.index[5], "body_mass_g"] *= 0.1  # a zero was lost
    frame.loc[frame.index[12], "bill_length_mm"] += 30
    odd = pg.Table(frame, schema=penguins.schema)
    options = {"components": 6, "restarts": restarts}
    study = pg.anomaly_study(usual, odd, {"latent_class": options}, calibration=0.5, seed=0, progress=False)
    figure = plots.anomalies(study, score="cells", most=6)
    return figure, {"rows reported": len(study.flagged(0.1, score="cells"))}


@topic(
    "Generative or discriminative?",
    "¿Generativo o discriminativo?",
    "A joint density classifies by Bayes' rule and shrugs at holes; logistic regression learns the label alone.",
    "Una densidad conjunta clasifica con la regla de Bayes y admite datos faltantes; la regresión logística aprende solo la etiqueta.",
    models=["naive_bayes", "gaussian_mixture"],
    source="Ng and Jordan (2002)",
    rows=(40,),
    repeats=1,
    holes=(0.3,),
)
def generative_classifier(rows=(20, 40, 80, 160), repeats=3, holes=(0.0, 0.4)):
    penguins = pg.load_dataset("penguins").drop(["island", "year"])
    models = {
        "naive_bayes": {},
        "a Gaussian a class": {
            "model": "gaussian_mixture", "by_class": True, "components": 1, "shared": 0.1, "restarts": 1,
        },
    }  # fmt: skip
    study = pg.prediction_study(
        penguins, "species", models=models, baselines=["logistic_regression"], rows=rows, holes=holes, repeats=repeats,
        seed=0, progress=False,
    )  # fmt: skip
    methods = [*models, "logistic_regression"]
    figure, panels = pyplot.subplots(1, len(holes), figsize=(9, 3.8), sharey=True, layout="constrained", squeeze=False)
    for axes, share in zip(panels[0], holes, strict=True):
        for name in methods:
            learnt_from, mean, error = study.curve(name, "log_loss", holes=share)
            axes.errorbar(learnt_from, mean, error, marker="o", capsize=3, label=name.replace("_", " "))
        axes.set(title=f"{share:.0%} of the cells unknown", xlabel="rows learnt from", ylabel="log loss (nats a row)")
    axes.legend(frameon=False)
    return figure, {f"log loss, {name}": study.curve(name, "log_loss", holes=holes[-1])[1][-1] for name in methods}
