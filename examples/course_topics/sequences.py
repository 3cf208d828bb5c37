"""Series with hidden states."""

import numpy as np

import probgen as pg
from course_topics.register import topic
from probgen import plots

EARTHQUAKES = [  # of magnitude 7 or more in the world, 1900 to 2006 (Zucchini and MacDonald, 2009)
    13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19, 20, 22, 19,
    13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22, 17, 19, 15, 34, 10,
    15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18, 14, 10, 15, 8, 15, 6, 11, 8,
    7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11,
]  # fmt: skip


@topic(
    "Hidden Markov models (HMM)",
    "Modelos ocultos de Markov (HMM)",
    "A state that nobody sees follows a Markov chain; what is seen depends on the state of its time.",
    "Un estado que nadie ve sigue una cadena de Markov; lo observado depende del estado de ese instante.",
    models=["hidden_markov"],
    source="Baum and Petrie (1966); Rabiner (1989)",
    restarts=1,
)
def hidden_markov(restarts=10):
    series = np.array(EARTHQUAKES, dtype=float)[:, None]
    table = pg.Table.from_sequences([series], kind="count", names=["earthquakes"])
    fit = pg.fit(
        "hidden_markov", table, states=3, families={"earthquakes": "poisson"}, restarts=restarts, progress=False
    )
    axes = plots.decoded(fit, table, first=1900)
    found = fit.criteria(table)
    return axes[0].figure, {"log likelihood": found.log_likelihood, "AIC": found.aic}


@topic(
    "Linear state space: the Kalman filter",
    "Espacio de estados lineal: el filtro de Kalman",
    "The hidden state is a vector that moves linearly with normal noise: trends, seasons, forecasts.",
    "El estado oculto es un vector que se mueve linealmente con ruido normal: tendencias, estacionalidad y pronósticos.",
    models=["linear_state_space"],
    source="Kalman (1960); Harvey (1989)",
    steps=5,
    months=36,
    draws=5,
)
def linear_state_space(steps=200, months=120, draws=1000):
    rng, month = np.random.default_rng(0), np.arange(months)
    sales = 50 + np.cumsum(rng.normal(0, 1, months)) + 9 * np.sin(2 * np.pi * month / 12) + rng.normal(0, 2, months)
    table = pg.Table.from_sequences([sales[:, None]], kind="real", names=["sales"])
    fit = pg.fit("linear_state_space", table, structure="local_level+seasonal:12", max_steps=steps, progress=False)
    axes = plots.forecast(fit, table, 24, draws=draws)
    ahead = fit.forecast(table, 24, draws=draws)
    low, high = ahead.quantiles([0.05, 0.95])
    return axes[0].figure, {
        "log likelihood": fit.log_prob(table).mean().value,
        "width of the last 90 % interval": float((high - low).ravel()[-1]),
    }
