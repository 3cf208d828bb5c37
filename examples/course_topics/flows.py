"""Normalising flows: noise bent until it looks like the data, with an exact density. All on toys whose densities are known."""

import probgen as pg
from course_topics.register import topic
from probgen import plots

TOYS = ["two_moons", "pinwheel"]


@topic(
    "Flows by coupling",
    "Flujos por acoplamiento",
    "One half of the numbers is scaled and shifted as the other half says: inverses and Jacobians are free.",
    "Una mitad de los números se escala y desplaza según la otra: la inversa y el jacobiano son inmediatos.",
    models=["coupling_flow"],
    source="Dinh, Sohl-Dickstein and Bengio (2017)",
    steps=3,
    points=8,
)
def coupling_flow(steps=1400, points=80):
    options = {"transforms": 6, "max_steps": steps, "learning_rate": 5e-3}
    study = pg.toy_study({"coupling_flow": options}, TOYS, rows=2000, points=points, seed=0, progress=False)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}


@topic(
    "Autoregressive flows",
    "Flujos autorregresivos",
    "Each number is scaled and shifted as those before it say: a triangular Jacobian.",
    "Cada número se escala y desplaza según los anteriores: un jacobiano triangular.",
    models=["autoregressive_flow"],
    source="Papamakarios, Pavlakou and Murray (2017)",
    steps=3,
    points=8,
)
def autoregressive_flow(steps=1600, points=80):
    options = {"transforms": 5, "max_steps": steps, "learning_rate": 5e-3}
    study = pg.toy_study({"autoregressive_flow": options}, TOYS, rows=2000, points=points, seed=0, progress=False)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}


@topic(
    "Spline flows",
    "Flujos con splines",
    "Numbers are bent by monotone splines instead of being scaled: more shapes with fewer layers.",
    "Los números se deforman con splines monótonos en lugar de escalarse: más formas con menos capas.",
    models=["spline_flow"],
    source="Durkan, Bekasov, Murray and Papamakarios (2019)",
    steps=3,
    points=8,
)
def spline_flow(steps=1200, points=80):
    options = {"transforms": 3, "max_steps": steps, "learning_rate": 5e-3}
    study = pg.toy_study({"spline_flow": options}, TOYS, rows=2000, points=points, seed=0, progress=False)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}


@topic(
    "Continuous flows and flow matching",
    "Flujos continuos y flow matching",
    "An equation carries noise to data; its field is learnt from straight ways between the two.",
    "Una ecuación diferencial lleva el ruido a los datos; su campo se aprende de caminos rectos entre ambos.",
    models=["continuous_flow"],
    source="Chen et al. (2018); Lipman et al. (2023)",
    steps=3,
    points=6,
    test_rows=50,
    draws=10,
)
def continuous_flow(steps=1100, points=50, test_rows=500, draws=1000):
    options = {"hidden": (128, 128), "conditioning": 0.0, "max_steps": steps, "batch_size": 256, "learning_rate": 3e-3}
    how = {"rows": 4000, "test_rows": test_rows, "points": points, "draws": draws, "seed": 0, "progress": False}
    study = pg.toy_study({"continuous_flow": options}, ["two_moons", "eight_normals"], **how)
    return plots.toy_gallery(study), {f"nats below the truth, {s['toy']}": s["kl"] for s in study.scores}
