"""Ten programs from the field's textbooks, with their data and what is known of their posteriors.

Each :class:`Textbook` has a plain Pyro program of one argument, its data, the quantities that are compared, and a
reference in the form of :func:`tests.inference.posteriors.compare`: mean, sd and the number of independent draws that
the reference is worth (infinite where it is exact).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from scipy.special import gammaln
from scipy.stats import norm
from torch import Tensor

__all__ = ["TEXTBOOKS", "Textbook"]

Data = dict[str, Tensor]
Draws = Mapping[str, np.ndarray]
Reference = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Textbook:
    """A program with data, and what its posterior is known to be.

    Attributes:
        model: the program.
        data: makes its data.
        reference: makes mean, sd and n_draws by quantity.
        quantities: makes the quantities, ``(chains, draws, ...)``, from the draws of the sites.
        slow: takes more than a few seconds.
        options: of a method, where a careful user would ask for smaller steps or longer chains than usual.
    """

    model: Callable[[Data], Any]
    data: Callable[[], Data]
    reference: Callable[[], Reference]
    quantities: Callable[[Draws], Draws] = dict
    slow: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def tensors(**values: Any) -> Data:
    return {key: torch.as_tensor(np.asarray(value, dtype=float)) for key, value in values.items()}


def recorded(draws: float, **moments: tuple[float, float]) -> Reference:
    """Means and sds of a run worth so many independent draws; ``name_1`` stands for ``name[1]``."""
    names = {key: f"{key[: -len(key.rpartition('_')[2]) - 1]}[{key.rpartition('_')[2]}]" for key in moments}
    return {
        (names[key] if key.rpartition("_")[2].isdigit() else key): {"mean": mean, "sd": sd, "n_draws": draws}
        for key, (mean, sd) in moments.items()
    }


def exact(**moments: tuple[float, float]) -> Reference:
    return recorded(math.inf, **moments)


def moments(log_weights: np.ndarray, **values: np.ndarray) -> Reference:
    """Exact means and sds of values on a grid with these log weights."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    means = {name: float((weights * value).sum()) for name, value in values.items()}
    return exact(
        **{
            name: (means[name], math.sqrt(float((weights * (value - means[name]) ** 2).sum())))
            for name, value in values.items()
        }
    )


# ---------------------------------------------------------------------------------------------------- 1 hierarchical
def pumps(data: Data) -> None:
    """Failures of ten pumps of a power plant (Gaver and O'Muircheartaigh, 1987; BUGS examples, volume 1)."""
    alpha = pyro.sample("alpha", dist.Exponential(1.0))
    beta = pyro.sample("beta", dist.Gamma(0.1, 1.0))
    with pyro.plate("pumps", len(data["failures"])):
        rate = pyro.sample("rate", dist.Gamma(alpha, beta))
        pyro.sample("failures", dist.Poisson(rate * data["hours"]), obs=data["failures"])


def pump_data() -> Data:
    """Thousands of hours of operation, and failures."""
    return tensors(
        hours=[94.3, 15.7, 62.9, 126, 5.24, 31.4, 1.05, 1.05, 2.1, 10.5], failures=[5, 1, 5, 14, 3, 19, 1, 1, 4, 22]
    )


def pump_reference() -> Reference:
    """The rates integrated out in closed form, alpha and beta on a grid of their logarithms."""
    x, t = pump_data()["failures"].numpy(), pump_data()["hours"].numpy()
    a, b = np.meshgrid(np.exp(np.linspace(-3.5, 2.5, 601)), np.exp(np.linspace(-8, 3, 801)), indexing="ij")
    log = -a + (0.1 - 1) * np.log(b) - b + np.log(a) + np.log(b)
    for failures, hours in zip(x, t, strict=True):
        log = log + a * np.log(b) - gammaln(a) + gammaln(a + failures) - (a + failures) * np.log(b + hours)
    found = moments(log, alpha=a, beta=b)
    for i in (0, 9):
        mean, square = (a + x[i]) / (b + t[i]), (a + x[i]) * (a + x[i] + 1) / (b + t[i]) ** 2
        first, second = (moments(log, m=v)["m"]["mean"] for v in (mean, square))
        found |= exact(**{f"rate_{i + 1}": (first, math.sqrt(second - first**2))})
    return found


# ---------------------------------------------------------------------------------------------------- 2 change point
DISASTERS = [
    4, 5, 4, 1, 0, 4, 3, 4, 0, 6, 3, 3, 4, 0, 2, 6, 3, 3, 5, 4, 5, 3, 1, 4, 4, 1, 5, 5, 3, 4, 2, 5, 2, 2, 3, 4, 2, 1, 3, 2,
    2, 1, 1, 1, 1, 3, 0, 0, 1, 0, 1, 1, 0, 0, 3, 1, 0, 3, 2, 2, 0, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 2,
    3, 3, 1, 1, 2, 1, 1, 1, 1, 2, 4, 2, 0, 0, 1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0,
]  # fmt: skip


def change_point(data: Data) -> None:
    """British coal-mining disasters a year, 1851 to 1962, whose rate changes once (Carlin, Gelfand and Smith, 1992)."""
    years = torch.arange(len(data["disasters"]))
    early = pyro.sample("early", dist.Gamma(2.0, 1.0))
    late = pyro.sample("late", dist.Gamma(2.0, 1.0))
    change = pyro.sample("change", dist.Categorical(torch.ones(len(years))), infer={"enumerate": "parallel"})
    with pyro.plate("years", len(years)):
        rate = torch.where(years < change, early, late)
        pyro.sample("disasters", dist.Poisson(rate), obs=data["disasters"])


def change_reference() -> Reference:
    """The rates are Gamma given the year of the change, whose probabilities are in closed form."""
    x = np.array(DISASTERS, dtype=float)
    before, n = np.concatenate([[0], np.cumsum(x)[:-1]]), np.arange(len(x), dtype=float)
    shapes, rates = np.stack([before, x.sum() - before]) + 2.0, np.stack([n, len(x) - n]) + 1.0
    log = (gammaln(shapes) - shapes * np.log(rates)).sum(0)
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    mean = (weights * shapes / rates).sum(1)
    second = (weights * shapes * (shapes + 1) / rates**2).sum(1)
    sd = np.sqrt(second - mean**2)
    return exact(early=(mean[0], sd[0]), late=(mean[1], sd[1]))


# ----------------------------------------------------------------------------------------------- 3 capture-recapture
RECAPTURED = [[11, 2, 0, 0, 0, 0], [24, 1, 0, 0, 0], [34, 2, 0, 0], [45, 1, 2], [51, 0], [52]]  # by year of release
NEVER = [9, 35, 42, 32, 37, 46]
OCCASIONS = 7


def capture_recapture(data: Data) -> None:
    """Cormack-Jolly-Seber model of European dippers, 1981 to 1987 (Lebreton et al., 1992): one row a release."""
    survival = pyro.sample("survival", dist.Beta(1.0, 1.0))
    capture = pyro.sample("capture", dist.Beta(1.0, 1.0))
    with pyro.plate("releases", len(data["released"])):
        alive = torch.ones(())
        for t in pyro.markov(range(1, OCCASIONS)):
            chance = torch.where(t > data["released"], survival * alive, torch.ones(()))
            alive = pyro.sample(f"alive_{t}", dist.Bernoulli(chance), infer={"enumerate": "parallel"})
            watched = (t > data["released"]) & (t <= data["seen"])
            with pyro.poutine.mask(mask=watched):
                seen = (data["seen"] == t).to(data["seen"])
                pyro.sample(f"seen_{t}", dist.Bernoulli(capture * alive), obs=seen)


def dipper_data() -> Data:
    """Occasion of each release, and of the next sight of the bird (7: never again)."""
    rows = [
        (release, release + 1 + gap, count)
        for release, counts in enumerate(RECAPTURED)
        for gap, count in enumerate(counts)
    ]
    rows += [(release, OCCASIONS, count) for release, count in enumerate(NEVER)]
    released, seen, counts = (np.array(column) for column in zip(*rows, strict=True))
    return tensors(released=np.repeat(released, counts), seen=np.repeat(seen, counts))


def dipper_density(phi: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log density of both probabilities: releases are multinomial over the occasions of the next sight."""
    log, missed = 0.0 * phi, phi * (1 - p)
    for recaptured, never in zip(RECAPTURED, NEVER, strict=True):
        cells = [phi * p * missed**gap for gap in range(len(recaptured))]
        log = log + sum(count * np.log(cell) for count, cell in zip(recaptured, cells, strict=True))
        log = log + never * np.log(1 - sum(cells))
    return log


def dipper_reference() -> Reference:
    """On a grid of both probabilities."""
    phi, p = np.meshgrid(np.linspace(0.001, 0.999, 500), np.linspace(0.001, 0.999, 500), indexing="ij")
    return moments(dipper_density(phi, p), survival=phi, capture=p)


# ----------------------------------------------------------------------------------------------------- 4 topic model
SEEDED = torch.tensor([[8.0, 8.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 8.0, 8.0]], dtype=torch.float64)


def topic_model(data: Data) -> None:
    """Latent Dirichlet allocation (Blei, Ng and Jordan, 2003) with topics that seed words tell apart."""
    length, documents = data["words"].shape
    with pyro.plate("kinds", len(SEEDED)):
        topics = pyro.sample("topics", dist.Dirichlet(SEEDED.to(data["words"])))
    with pyro.plate("documents", documents):
        shares = pyro.sample("shares", dist.Dirichlet(torch.ones(len(SEEDED))))
        with pyro.plate("positions", length):
            topic = pyro.sample("topic", dist.Categorical(shares), infer={"enumerate": "parallel"})
            pyro.sample("words", dist.Categorical(topics[topic]), obs=data["words"])


def topic_data() -> Data:
    """Twelve words of six kinds in each of eight documents ``(12, 8)``."""
    rng = np.random.default_rng(4)
    topics = np.array([[0.4, 0.3, 0.15, 0.1, 0.03, 0.02], [0.02, 0.03, 0.1, 0.15, 0.3, 0.4]])
    shares = rng.dirichlet(np.ones(2), 8)
    return tensors(words=np.stack([rng.choice(6, 12, p=share @ topics) for share in shares], 1))


def topic_reference() -> Reference:
    """NumPyro 0.22's NUTS on the words' summed-out density, 4 chains of 2 000 draws after 1 000."""
    return recorded(
        4200, share_1=(0.67222, 0.16150), share_2=(0.76580, 0.14877), share_3=(0.55797, 0.16553),
        share_4=(0.11512, 0.10874), share_5=(0.49027, 0.17272), share_6=(0.46275, 0.20274), share_7=(0.10591, 0.10039),
        share_8=(0.78769, 0.14586), word_1=(0.40049, 0.06901), word_2=(0.37490, 0.06778), word_3=(0.06960, 0.04244),
        word_4=(0.06475, 0.04651), word_5=(0.05348, 0.04002), word_6=(0.03678, 0.03287),
    )  # fmt: skip


def first_topic(draws: Draws) -> Draws:
    """Its share of every document and its probabilities of the words."""
    return {"share": draws["shares"][..., 0], "word": draws["topics"][..., 0, :]}


# ------------------------------------------------------------------------------------------------- 5 Gaussian process
def poisson_process(data: Data) -> None:
    """Counts whose log rate is a Gaussian process, whitened (Stan's example gp_pois_regr)."""
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    gaps = data["x"][:, None] - data["x"]
    kernel = (-gaps.square() / (2 * rho.square())).exp() + 1e-8 * torch.eye(len(gaps))
    white = pyro.sample("white", dist.Normal(0.0, 1.0).expand([len(gaps)]).to_event(1))
    log_rate = pyro.deterministic("log_rate", alpha * (torch.linalg.cholesky(kernel) @ white))
    with pyro.plate("places", len(gaps)):
        pyro.sample("counts", dist.Poisson(log_rate.exp()), obs=data["counts"])


def count_data() -> Data:
    """Stan's data of the example."""
    return tensors(x=np.arange(-10, 11, 2), counts=[40, 37, 29, 12, 4, 3, 9, 19, 77, 82, 33])


def count_reference() -> Reference:
    """NumPyro 0.22's NUTS, 4 chains of 2 000 draws after 1 500; 6 transitions of 8 000 diverged."""
    return recorded(
        3000, rho=(5.65713, 0.67306), alpha=(2.91455, 0.76898), log_rate_1=(3.63729, 0.15333),
        log_rate_6=(1.29873, 0.25910), log_rate_7=(1.93445, 0.21784), log_rate_10=(4.41575, 0.09230),
        log_rate_11=(3.50983, 0.16212),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------- 6 survival
def survival(data: Data) -> None:
    """Weeks of remission of leukaemia, many censored, under a Weibull law (Freireich et al., 1963)."""
    intercept = pyro.sample("intercept", dist.Normal(2.0, 2.0))
    effect = pyro.sample("effect", dist.Normal(0.0, 2.0))
    shape = pyro.sample("shape", dist.LogNormal(0.0, 1.0))
    scale = (intercept + effect * data["treated"]).exp()
    ended = data["ended"] > 0
    with pyro.plate("patients", len(ended)):
        with pyro.poutine.mask(mask=ended):
            pyro.sample("weeks", dist.Weibull(scale, shape), obs=data["weeks"])
        with pyro.poutine.mask(mask=~ended):
            pyro.factor("still_in_remission", -((data["weeks"] / scale) ** shape))


def remission_data() -> Data:
    """21 patients on placebo, then 21 on 6-mercaptopurine; ``ended`` is 0 where the remission went on."""
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    treated = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    return tensors(weeks=placebo + treated, treated=np.repeat([0, 1], 21), ended=[1] * 30 + [0] * 12)


def remission_density(b0: np.ndarray, b1: np.ndarray, log_shape: np.ndarray) -> np.ndarray:
    """Log density of intercept, effect and the logarithm of the shape."""
    data = {key: value.numpy() for key, value in remission_data().items()}
    log = norm.logpdf(b0, 2, 2) + norm.logpdf(b1, 0, 2) + norm.logpdf(log_shape)
    for weeks, treated, ended in zip(data["weeks"], data["treated"], data["ended"], strict=True):
        z = np.exp(log_shape) * (np.log(weeks) - b0 - b1 * treated)
        log = log - np.exp(z) + ended * (log_shape + z - np.log(weeks))
    return log


def remission_reference() -> Reference:
    """Three parameters on a grid."""
    b0, b1, log_shape = np.meshgrid(
        np.linspace(1.4, 3.2, 91), np.linspace(-0.2, 3.4, 101), np.linspace(-0.6, 1.0, 81), indexing="ij"
    )
    log = remission_density(b0, b1, log_shape)
    return moments(log, intercept=b0, effect=b1, shape=np.exp(log_shape))


# ---------------------------------------------------------------------------------------------------------- 7 ordinal
IDEOLOGY = {"democratic": [80, 81, 171, 41, 55], "republican": [30, 46, 148, 84, 99]}


def ordinal(data: Data) -> None:
    """Five levels of political ideology on party, proportional odds (McCullagh, 1980; Agresti, 2007, table 6.7)."""
    effect = pyro.sample("effect", dist.Normal(0.0, 10.0))
    cuts = pyro.sample("cuts", dist.ImproperUniform(constraints.ordered_vector, (), (4,)))
    with pyro.plate("people", len(data["ideology"])):
        pyro.sample("ideology", dist.OrderedLogistic(effect * data["republican"], cuts), obs=data["ideology"])


def ideology_data() -> Data:
    """One row a person."""
    counts = [IDEOLOGY["democratic"], IDEOLOGY["republican"]]
    levels = np.concatenate([np.repeat(np.arange(5), row) for row in counts])
    return tensors(ideology=levels, republican=np.repeat([0, 1], [sum(row) for row in counts]))


def ideology_reference() -> Reference:
    """NumPyro 0.22's NUTS, 4 chains of 2 000 draws after 1 500."""
    return recorded(
        5900, effect=(0.97770, 0.12708), cuts_1=(-1.50223, 0.11498), cuts_2=(-0.49965, 0.09315),
        cuts_3=(1.21646, 0.10293), cuts_4=(2.05252, 0.11728),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- 8 stochastic volatility
def stochastic_volatility(data: Data) -> None:
    """Returns whose log variance is a stationary first-order autoregression (Kim, Shephard and Chib, 1998).

    Non-centred, with the standard deviation of the log variance itself, not of its shocks, which would have to fall to
    zero as the persistence goes to one.
    """
    T = len(data["returns"])
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    phi = pyro.sample("phi", dist.Beta(20.0, 1.5))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    white = pyro.sample("white", dist.Normal(0.0, 1.0).expand([T]).to_event(1))
    reach = (torch.arange(T)[:, None] - torch.arange(T)).clamp_min(0).to(white)
    memory = torch.tril(phi**reach)
    shocks = torch.cat([torch.ones(1), (1 - phi.square()).sqrt().expand(T - 1)])
    volatility = pyro.deterministic("volatility", mu + tau * (memory @ (shocks * white)))
    with pyro.plate("days", T):
        pyro.sample("returns", dist.Normal(0.0, (volatility / 2).exp()), obs=data["returns"])


def return_data() -> Data:
    """Eighty simulated returns."""
    rng, T = np.random.default_rng(8), 80
    log_variance = np.empty(T)
    for t in range(T):
        before = log_variance[t - 1] if t else 0.0
        log_variance[t] = 0.95 * before + 0.35 * rng.normal()
    return tensors(returns=np.exp(log_variance / 2) * rng.normal(size=T))


def return_reference() -> Reference:
    """NumPyro 0.22's NUTS, 4 chains of 3 000 draws after 1 500, target acceptance .99, no divergences."""
    return recorded(
        5500, mu=(-0.07802, 0.74753), phi=(0.93261, 0.04031), tau=(1.29431, 0.37868), volatility_1=(-0.14387, 0.59378),
        volatility_20=(-0.24479, 0.55985), volatility_40=(-0.79003, 0.59157), volatility_46=(-1.58513, 0.65881),
        volatility_60=(-0.28229, 0.57380), volatility_80=(1.31909, 0.73246),
    )  # fmt: skip


# -------------------------------------------------------------------------------------- 9 mixture of Dirichlet process
GALAXIES = [
    9.172, 9.350, 9.483, 9.558, 9.775, 10.227, 10.406, 16.084, 16.170, 18.419, 18.552, 18.600, 18.927, 19.052, 19.070,
    19.330, 19.343, 19.349, 19.440, 19.473, 19.529, 19.541, 19.547, 19.663, 19.846, 19.856, 19.863, 19.914, 19.918,
    19.973, 19.989, 20.166, 20.175, 20.179, 20.196, 20.215, 20.221, 20.415, 20.629, 20.795, 20.821, 20.846, 20.875,
    20.986, 21.137, 21.492, 21.701, 21.814, 21.921, 21.960, 22.185, 22.209, 22.242, 22.249, 22.314, 22.374, 22.495,
    22.746, 22.747, 22.888, 22.914, 23.206, 23.241, 23.263, 23.484, 23.538, 23.542, 23.666, 23.706, 23.711, 24.129,
    24.285, 24.289, 24.366, 24.717, 24.990, 25.633, 26.960, 26.995, 32.065, 32.789, 34.279,
]  # fmt: skip
TRUNCATION = 5


def dirichlet_process(data: Data) -> None:
    """Velocities of galaxies (Roeder, 1990) as a truncated stick-breaking mixture (Ishwaran and James, 2001)."""
    with pyro.plate("sticks", TRUNCATION - 1):
        broken = pyro.sample("broken", dist.Beta(1.0, 1.0))
    left = torch.cat([torch.ones(1), (1 - broken).cumprod(0)])
    weights = torch.cat([broken, torch.ones(1)]) * left
    with pyro.plate("components", TRUNCATION):
        mean = pyro.sample("mean", dist.Normal(21.0, 6.0))
        sd = pyro.sample("sd", dist.LogNormal(0.5, 0.5))
    with pyro.plate("galaxies", len(data["velocity"])):
        component = pyro.sample("component", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("velocity", dist.Normal(mean[component], sd[component]), obs=data["velocity"])


def galaxy_data() -> Data:
    """Thousands of km/s."""
    return tensors(velocity=GALAXIES)


def galaxy_reference() -> Reference:
    """NumPyro 0.22's NUTS on the summed-out density, 8 chains of 6 000 draws after 1 000, acceptance .9, no divergences."""
    return recorded(
        1450, density_1=(0.04250, 0.02103), density_2=(0.03622, 0.01556), density_3=(0.17231, 0.04504),
        density_4=(0.11108, 0.01976), density_5=(0.00856, 0.00685),
    )  # fmt: skip


def densities(draws: Draws) -> Draws:
    """The density of one more galaxy at five velocities: the same under every labelling."""
    left = np.concatenate([np.ones_like(draws["broken"][..., :1]), (1 - draws["broken"]).cumprod(-1)], -1)
    weights = np.concatenate([draws["broken"], np.ones_like(left[..., :1])], -1) * left
    places = np.array([10.0, 18.0, 20.0, 23.0, 33.0])[:, None]
    parts = norm.pdf(places, draws["mean"][..., None, :], draws["sd"][..., None, :])
    return {"density": (weights[..., None, :] * parts).sum(-1)}


# ---------------------------------------------------------------------------------------------------------- 10 Kalman
NILE = [
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140, 1100,
    1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969, 831, 726, 456,
    824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759, 781, 865, 845, 944, 984, 897,
    822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975,
    815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
]  # fmt: skip
MOVED, MEASURED, START = 38.33, 122.9, (1000.0, 300.0)  # standard deviations (Durbin and Koopman, 2012), prior


def local_level(data: Data) -> None:
    """The Nile's level as a random walk seen with noise (Durbin and Koopman, 2012), variances known."""
    T = len(data["flow"])
    white = pyro.sample("white", dist.Normal(0.0, 1.0).expand([T]).to_event(1))
    scale = torch.cat([torch.tensor([START[1]]), torch.full((T - 1,), MOVED)])
    level = pyro.deterministic("level", START[0] + (scale * white).cumsum(0))
    with pyro.plate("years", T):
        pyro.sample("flow", dist.Normal(level, MEASURED), obs=data["flow"])


def nile_data() -> Data:
    """10^8 cubic metres a year at Aswan, 1871 to 1970."""
    return tensors(flow=NILE)


def nile_reference() -> Reference:
    """Smoothed means and sds from the joint Gaussian law of levels and flows."""
    T = len(NILE)
    steps = np.tril(np.ones((T, T))) * np.array([START[1], *[MOVED] * (T - 1)])
    prior = steps @ steps.T
    gain = np.linalg.solve(prior + MEASURED**2 * np.eye(T), prior).T
    mean, sd = START[0] + gain @ (np.array(NILE) - START[0]), np.sqrt(np.diag(prior - gain @ prior))
    return exact(**{f"level_{t}": (mean[t - 1], sd[t - 1]) for t in (1, 25, 50, 100)})


# ----------------------------------------------------------------------------------------------------------------- all
CAREFUL = {"chees": {"chains": 16, "draws": 2000, "target_acceptance": 0.99}, "nuts": {"target_acceptance": 0.99}}
SLOW = {**CAREFUL, "nuts": {"target_acceptance": 0.99, "draws": 5000}}
LONG = {"chees": {"chains": 8, "draws": 6000}, "nuts": {"draws": 6000, "target_acceptance": 0.97}}
TEXTBOOKS = {
    "hierarchical": Textbook(pumps, pump_data, pump_reference),
    "change_point": Textbook(change_point, lambda: tensors(disasters=DISASTERS), change_reference),
    "capture_recapture": Textbook(capture_recapture, dipper_data, dipper_reference, slow=True),
    "topic_model": Textbook(topic_model, topic_data, topic_reference, first_topic, slow=True),
    "gaussian_process": Textbook(poisson_process, count_data, count_reference, slow=True, options=SLOW),
    "survival": Textbook(survival, remission_data, remission_reference),
    "ordinal": Textbook(ordinal, ideology_data, ideology_reference, slow=True),
    "stochastic_volatility": Textbook(
        stochastic_volatility, return_data, return_reference, slow=True, options=CAREFUL
    ),
    "dirichlet_process": Textbook(
        dirichlet_process, galaxy_data, galaxy_reference, densities, slow=True, options=LONG
    ),
    "kalman": Textbook(local_level, nile_data, nile_reference, slow=True),
}
