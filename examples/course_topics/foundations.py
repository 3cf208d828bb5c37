"""Networks, naive Bayes, mixtures, kernels, factors."""

import numpy as np
from matplotlib import pyplot

import probgen as pg
from course_topics.register import topic
from probgen import plots


@topic(
    "Bayesian networks",
    "Redes bayesianas",
    "A joint distribution as a product over a directed acyclic graph: each variable given its parents.",
    "Una distribución conjunta como producto sobre un grafo dirigido acíclico: cada variable dados sus padres.",
    models=["bayesian_network"],
    source="Pearl (1988)",
)
def bayesian_network():
    penguins = pg.load_dataset("penguins").drop(["year"])
    measures = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    graph = pg.learn_structure(penguins, tiers=[("species", "island"), ("sex",), measures], progress=False)
    fit = pg.fit("bayesian_network", penguins, structure=graph, progress=False)
    axes = plots.network(fit, given={"island": "Dream", "sex": "female"})
    return axes.figure, {
        "nats a row": fit.log_prob(penguins).mean().value,
        "nats that island and species share": fit.mutual_information("island", "species"),
    }


@topic(
    "Naive Bayes",
    "Bayes ingenuo",
    "A class, and columns that are independent given it; Bayes' rule classifies, with holes as well.",
    "Una clase y columnas independientes dada la clase; clasifica por la regla de Bayes, también con datos faltantes.",
    models=["naive_bayes"],
    source="Maron (1961)",
)
def naive_bayes():
    penguins = pg.load_dataset("penguins").drop(["year", "island"]).with_target("species")
    train, test = penguins.split(0.6, 0.4, seed=0, stratify="species")
    fit = pg.fit("naive_bayes", train, progress=False)
    levels = list(penguins.schema["species"].levels)
    said = pg.class_probabilities(fit, test, "species").argmax(1)  # (N, 3) probabilities
    truth = np.array([levels.index(name) for name in test.column("species")])
    counts = np.zeros((3, 3), dtype=int)
    np.add.at(counts, (truth, said), 1)
    axes = plots.confusion_matrix(counts, levels)
    return axes.figure, {"share that is right": (said == truth).mean(), "nats a row": fit.log_prob(test).mean().value}


@topic(
    "Gaussian mixture (GMM)",
    "Mezcla de gaussianas (GMM)",
    "Every row comes from one of K Gaussians, and nobody tells which: the EM algorithm finds out.",
    "Cada fila proviene de una de K gaussianas y nadie dice de cuál: el algoritmo EM lo averigua.",
    models=["gaussian_mixture"],
    source="Pearson (1894); Dempster, Laird and Rubin (1977)",
    restarts=1,
)
def gaussian_mixture(restarts=10):
    penguins = pg.load_dataset("penguins").select(["bill_length_mm", "bill_depth_mm"])
    penguins = penguins.take(penguins.known.all(1))
    fit = pg.fit("gaussian_mixture", penguins, components=3, restarts=restarts, seed=0, progress=False)
    axes = plots.components(fit, penguins, "bill_length_mm", "bill_depth_mm")
    found = fit.criteria(penguins)
    return axes.figure, {"log likelihood": found.log_likelihood, "BIC": found.bic}


@topic(
    "Latent classes",
    "Clases latentes",
    "A mixture for columns with levels: inside a class, all columns are independent.",
    "Una mezcla para columnas categóricas: dentro de cada clase, las columnas son independientes.",
    models=["latent_class"],
    source="Lazarsfeld (1950)",
    restarts=1,
)
def latent_class(restarts=10):
    penguins = pg.load_dataset("penguins").drop(["year"])
    fit = pg.fit("latent_class", penguins, components=4, restarts=restarts, seed=0, progress=False)
    axes = plots.component_levels(fit, ("species", "island", "sex"))
    found = fit.criteria(penguins)
    return axes.figure, {"log likelihood": found.log_likelihood, "BIC": found.bic}


@topic(
    "Kernel density estimation (KDE)",
    "Estimación de densidad por núcleos (KDE)",
    "A bump on every row, and their mean; how wide the bumps are decides everything.",
    "Un núcleo sobre cada fila, y su promedio; el ancho de banda lo decide todo.",
    models=["kernel_density"],
    source="Rosenblatt (1956); Parzen (1962)",
    points=20,
)
def kernel_density(points=400):
    penguins = pg.load_dataset("penguins").select(["bill_length_mm"])
    penguins = penguins.take(penguins.known[:, 0])
    train, test = penguins.split(0.7, 0.3, seed=0)
    at = np.linspace(30, 62, points)
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.hist(penguins.values[:, 0], bins=36, density=True, color="#e3e7ec")
    scores = {}
    for width in (0.03, "cross_validation", 0.8):  # in standard deviations
        fit = pg.fit("kernel_density", train, bandwidth=width, progress=False)
        line = np.exp(fit.log_prob(pg.Table({"bill_length_mm": at}, schema=penguins.schema)).value)
        scores[f"nats a row, width {width}"] = fit.log_prob(test).mean().value
        axes.plot(at, line, linewidth=3 if width == "cross_validation" else 1.2, label=f"bandwidth {width}")
    axes.set(xlabel="bill length (mm)", ylabel="density")
    axes.legend(frameon=False)
    return figure, scores


@topic(
    "Principal components as a distribution",
    "Componentes principales como distribución",
    "Rows are a linear map of a few normal factors plus noise; the factors say where a row lies.",
    "Cada fila es una transformación lineal de pocos factores normales más ruido; los factores dicen dónde está la fila.",
    models=["probabilistic_pca", "factor_analysis"],
    source="Tipping and Bishop (1999); Spearman (1904)",
)
def linear_factors():
    wines = pg.load_dataset("wine")
    measured, cultivar = wines.drop(["target"]), np.array(wines.column("target"))
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    scores = {}
    for axes, name in zip(panels, ("probabilistic_pca", "factor_analysis"), strict=True):
        fit = pg.fit(name, measured, latent=2, seed=0, progress=False)
        plots.embedding_plane(fit.embed(measured), cultivar, axes, name.replace("_", " "))
        scores[f"nats a row, {name}"] = fit.log_prob(measured).mean().value
    panels[0].get_legend().remove()
    return figure, scores
