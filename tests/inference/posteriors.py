"""Eleven posteriors of posteriordb as plain Pyro programs of one argument, a dict of float64 tensors.

The data and 10 000 reference draws of each (Magnusson et al., 2024) are condensed in the public data sets: flat priors
are ``ImproperUniform`` over the stated support, and quantities that the reference reports but the program does not
sample are deterministic sites. :func:`compare` measures draws against the reference with both Monte-Carlo errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["NAMES", "compare", "posterior", "with_deterministics"]

Data = dict[str, Tensor]
Program = Callable[[Data], Any]


# ------------------------------------------------------------------------------------------------------ the programs
def flat(name: str, support: Any, size: int | None = None) -> Tensor:
    """A site with a flat prior over a support: a number, or a vector of so many."""
    return pyro.sample(name, dist.ImproperUniform(support, (), () if size is None else (size,)))


def eight_schools(data: Data) -> None:
    """Hierarchical effects of coaching, non-centred (Rubin, 1981)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(data["y"])):
        standard = pyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * standard)
        pyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])


def linear_regression(data: Data) -> None:
    """A linear regression without an intercept; its coefficients are known to a thousandth."""
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([data["X"].shape[1]]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.Normal(data["X"] @ beta, sigma), obs=data["y"])


def autoregression(data: Data, order: int = 5) -> None:
    """Each value from the ``order`` values before it; the first ones are given."""
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([order]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    before = data["y"].unfold(0, order, 1)[:-1].flip(-1)  # (T - order, order), the latest first
    with pyro.plate("steps", len(before)):
        pyro.sample("y", dist.Normal(alpha + before @ beta, sigma), obs=data["y"][order:])


def garch(data: Data) -> None:
    """Volatility that remembers shocks and itself (Bollerslev, 1986).

    alpha1 and beta1 are flat on a triangle, which are two coordinates of a flat simplex.
    """
    mu, alpha0 = flat("mu", constraints.real), flat("alpha0", constraints.positive)
    share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
    alpha1, beta1 = pyro.deterministic("alpha1", share[0]), pyro.deterministic("beta1", share[1])
    shocks = alpha0 + alpha1 * (data["y"][:-1] - mu).square()
    variance = discounted_sums(torch.cat([data["sigma1"].square()[None], shocks]), beta1)
    with pyro.plate("steps", len(data["y"])):
        pyro.sample("y", dist.Normal(mu, variance.sqrt()), obs=data["y"])


def discounted_sums(x: Tensor, rate: Tensor) -> Tensor:
    """v_t = x_t + rate v_{t-1}, in log2(T) steps of doubling reach."""
    reach = 1
    while reach < len(x):
        x = x + rate**reach * pad(x, (reach, 0))[: len(x)]
        reach *= 2
    return x


def gaussian_process(data: Data) -> None:
    """A Gaussian process with a squared-exponential kernel; sigma is the noise's variance."""
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    gaps = data["x"][:, None] - data["x"]
    covariance = alpha.square() * (-gaps.square() / (2 * rho.square())).exp() + sigma * torch.eye(len(gaps))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(gaps)), covariance), obs=data["y"])


def hidden_markov(data: Data) -> None:
    """Two hidden states summed out in log space; each first state has weight 1."""
    rows = [pyro.sample(name, dist.Dirichlet(torch.ones(2))) for name in ("theta1", "theta2")]
    mu = flat("mu", constraints.positive_ordered_vector, 2)
    pyro.factor("mu_prior", dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    emission = dist.Normal(mu, 1.0).log_prob(data["y"][:, None])
    pyro.factor("y", forward(torch.stack(rows).log(), emission))


def forward(transition: Tensor, emission: Tensor) -> Tensor:
    """Log density of a chain's emissions ``(T, K)`` given log transitions ``(K, K)``, all first states weighing 1.

    Neighbouring steps ``(K, K)`` are multiplied pairwise until one is left: log2(T) levels in place of T steps.
    """
    steps = transition + emission[1:, None, :]
    while len(steps) > 1:
        left, right, rest = steps[0 : len(steps) // 2 * 2 : 2], steps[1::2], steps[len(steps) // 2 * 2 :]
        steps = torch.cat([(left[:, :, :, None] + right[:, None, :, :]).logsumexp(-2), rest])
    return (emission[0][:, None] + steps[0]).flatten().logsumexp(0)


def gaussian_mixture(data: Data) -> None:
    """Two components with ordered means, marginalised."""
    mu = flat("mu", constraints.ordered_vector, 2)
    pyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(torch.stack([theta, 1 - theta]))
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=data["y"])


def kid_scores(data: Data) -> None:
    """Children's test scores on their mothers' (Gelman and Hill, 2007)."""
    beta = flat("beta", constraints.real_vector, 2)
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("rows", len(data["kid_score"])):
        pyro.sample("y", dist.Normal(beta[0] + beta[1] * data["mom_iq"], sigma), obs=data["kid_score"])


def flat_regression(X: Tensor, y: Tensor) -> None:
    """A linear regression, flat in the coefficients and in the standard deviation."""
    beta = flat("beta", constraints.real_vector, X.shape[1])
    sigma = flat("sigma", constraints.positive)
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def earnings(data: Data) -> None:
    """Log earnings on height (Gelman and Hill, 2007)."""
    flat_regression(with_intercept(data["height"]), data["earn"].log())


def mesquite(data: Data) -> None:
    """Log weight of bushes on the logs of their measures (Gelman and Hill, 2007)."""
    logs = [data[key].log() for key in ("diam1", "diam2", "canopy_height", "total_height", "density")]
    flat_regression(with_intercept(*logs, data["group"]), data["weight"].log())


def election_study(data: Data) -> None:
    """Party identification on ideology, race, age groups, schooling, gender and income (Gelman and Hill, 2007)."""
    ages = [(data["age_discrete"] == group).to(data["income"]) for group in (2, 3, 4)]
    columns = [data["real_ideo"], data["race_adj"], *ages, data["educ1"], data["gender"], data["income"]]
    flat_regression(with_intercept(*columns), data["partyid7"])


def with_intercept(*columns: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(columns[0]), *columns], -1)


PROGRAMS: dict[str, Program] = {
    "eight_schools-eight_schools_noncentered": eight_schools,
    "sblrc-blr": linear_regression,
    "arK-arK": autoregression,
    "garch-garch11": garch,
    "gp_pois_regr-gp_regr": gaussian_process,
    "hmm_example-hmm_example": hidden_markov,
    "low_dim_gauss_mix-low_dim_gauss_mix": gaussian_mixture,
    "kidiq-kidscore_momiq": kid_scores,
    "earnings-logearn_height": earnings,
    "mesquite-logmesquite": mesquite,
    "nes1980-nes": election_study,
}
NAMES = tuple(PROGRAMS)


# ------------------------------------------------------------------------------------------- data, reference, figures
def posterior(name: str, folder: Path) -> tuple[Program, Data, dict[str, dict[str, float]]]:
    """The program, its data as float64 tensors, and the reference's mean, sd and n_draws by parameter.

    Args:
        name: one of :data:`NAMES`.
        folder: of the data sets, in which ``posteriors`` lies.
    """
    read = json.loads((folder / "posteriors" / f"{name}.json").read_text())
    data = {key: torch.tensor(value, dtype=torch.float64) for key, value in read["data"].items()}
    return PROGRAMS[name], data, read["reference"]


def with_deterministics(model: Program, data: Data, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Draws ``(chains, draws, ...)`` of the sites, and of the deterministic sites that follow from them."""

    def followed(drawn: Data) -> Data:
        trace = pyro.poutine.trace(pyro.poutine.condition(model, drawn)).get_trace(data)
        return {
            name: node["value"] for name, node in trace.nodes.items() if node.get("infer", {}).get("_deterministic")
        }

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return {
            **sites,
            **torch.vmap(torch.vmap(followed, randomness="different"), randomness="different")(dict(sites)),
        }
    finally:
        torch.set_default_dtype(default)


def compare(draws: Mapping[str, Any], reference: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Draws ``(chains, draws, ...)`` beside the reference, one row a parameter.

    ``z`` is the difference of the means over both Monte-Carlo errors, ``sd / sqrt(n_draws)`` being the reference's;
    ``sd_ratio`` is ours over the reference's; R-hat and the bulk effective sample size are ArviZ's.
    """
    rows = []
    for parameter, known in reference.items():
        own = np.asarray(of_parameter(draws, parameter))
        error = np.hypot(arviz.mcse(own, method="mean").item(), known["sd"] / known["n_draws"] ** 0.5)
        rows.append(
            {
                "parameter": parameter, "mean": own.mean(), "reference": known["mean"],
                "z": (own.mean() - known["mean"]) / error, "sd_ratio": own.std() / known["sd"],
                "rhat": float(arviz.rhat(own)), "ess": float(arviz.ess(own)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("parameter")


def of_parameter(draws: Mapping[str, Any], parameter: str) -> Any:
    """``(chains, draws)`` of ``beta[2]``, counted from 1."""
    name, _, index = parameter.removesuffix("]").partition("[")
    return draws[name][..., int(index) - 1] if index else draws[name]
