# %% [markdown]
# # Programs of your own: pumps, coal mines and remissions
#
# Any Pyro program of one argument can be fitted. Three from the textbooks, each with its posterior drawn by a sampler:
# failures of ten pumps that borrow strength from each other, the year in which coal mining became safer, and times of
# remission of which many are only known to be longer than the study.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import probgen as pg

FAST = bool(os.environ.get("PROBGEN_FAST"))
length = {"chains": 8, "warmup": 100, "draws": 50} if FAST else {}


def draws(model, data):
    """Posterior draws of every site, chains one after the other."""
    numbers = {key: torch.tensor(value, dtype=torch.float64) for key, value in data.items()}
    fit = pg.fit(pg.program(model), numbers, seed=0, progress=False, **length)
    print(f"{model.__name__}: R-hat {fit.diagnostics['rhat']:.3f}, {fit.diagnostics['divergences']} divergences")
    return {name: value.flatten(0, 1).numpy() for name, value in fit.posterior.sites.items()}


def interval(values):
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{values.mean():.2f} (90 %: {low:.2f} to {high:.2f})"


# %% Ten pumps, each with its own rate of failure; the rates come from one Gamma law (Gaver and O'Muircheartaigh, 1987).
def pumps(data):
    alpha = pyro.sample("alpha", dist.Gamma(2.0, 2.0))
    beta = pyro.sample("beta", dist.Gamma(2.0, 2.0))
    with pyro.plate("pumps", len(data["hours"])):
        rate = pyro.sample("rate", dist.Gamma(alpha, beta))
        pyro.sample("failures", dist.Poisson(rate * data["hours"]), obs=data["failures"])


thousand_hours = [94.3, 15.7, 62.9, 126, 5.24, 31.4, 1.05, 1.05, 2.1, 10.5]
failures = [5, 1, 5, 14, 3, 19, 1, 1, 4, 22]
found = draws(pumps, {"hours": thousand_hours, "failures": failures})
rates = found["rate"]
for pump in (0, 6, 9):
    raw = failures[pump] / thousand_hours[pump]
    print(f"pump {pump + 1:2}: {raw:.2f} failures in a thousand hours seen, {interval(rates[:, pump])} expected")

# %% Coal-mining disasters a year (Jarrett, 1979). The year of the change is summed out: a factor over all years.
disasters = [
    4, 5, 4, 1, 0, 4, 3, 4, 0, 6, 3, 3, 4, 0, 2, 6, 3, 3, 5, 4, 5, 3, 1, 4, 4, 1, 5, 5, 3, 4, 2, 5, 2, 2, 3, 4, 2, 1, 3, 2,
    2, 1, 1, 1, 1, 3, 0, 0, 1, 0, 1, 1, 0, 0, 3, 1, 0, 3, 2, 2, 0, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 2,
    3, 3, 1, 1, 2, 1, 1, 1, 1, 2, 4, 2, 0, 0, 1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0,
]  # fmt: skip
seen = np.array(disasters)


def change_of_rate(data):
    early = pyro.sample("early", dist.Gamma(2.0, 1.0))
    late = pyro.sample("late", dist.Gamma(2.0, 1.0))
    before = dist.Poisson(early).log_prob(data["disasters"]).cumsum(0)
    after = dist.Poisson(late).log_prob(data["disasters"]).flip(0).cumsum(0).flip(0)
    pyro.factor("disasters", (before[:-1] + after[1:]).logsumexp(0))  # one term a year, all as likely beforehand


found = draws(change_of_rate, {"disasters": disasters})
print(f"{interval(found['early'])} disasters a year before, {interval(found['late'])} after the change")
early, late = found["early"][:, None], found["late"][:, None]
log_ratio = (np.log(early) - np.log(late)) * seen[:-1].cumsum() - (early - late) * np.arange(1, len(seen))
weight = np.exp(log_ratio - log_ratio.max(1, keepdims=True))
year = (weight / weight.sum(1, keepdims=True)).mean(0)  # of the last year of the early rate
print(f"the most probable last year of the old rate is {1851 + year.argmax()}, with probability {year.max():.2f}")


# %% Weeks of remission of leukaemia on placebo and on 6-mercaptopurine (Freireich et al., 1963). A remission that went
# on when the study ended counts with the probability of lasting longer.
def remissions(data):
    intercept = pyro.sample("intercept", dist.Normal(2.0, 2.0))
    effect = pyro.sample("effect", dist.Normal(0.0, 2.0))
    shape = pyro.sample("shape", dist.LogNormal(0.0, 1.0))
    with pyro.plate("ended", len(data["ended"])):
        scale = (intercept + effect * data["ended_treated"]).exp()
        pyro.sample("weeks", dist.Weibull(scale, shape), obs=data["ended"])
    with pyro.plate("went_on", len(data["went_on"])):
        scale = (intercept + effect).exp()  # all of them were treated
        pyro.factor("longer", -((data["went_on"] / scale) ** shape))


placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
treated = [6, 6, 6, 7, 10, 13, 16, 22, 23]
weeks = {
    "ended": placebo + treated,
    "ended_treated": [0] * len(placebo) + [1] * len(treated),
    "went_on": [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35],
}
found = draws(remissions, weeks)
print(f"the drug makes remissions {interval(np.exp(found['effect']))} times as long")

# %% What was learnt: rates drawn together, the year of the change, and curves of remission with 90 % bands.
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
raw = np.array(failures) / np.array(thousand_hours)
order, places = raw.argsort(), np.arange(len(raw))
low, high = np.quantile(rates, [0.05, 0.95], 0)[:, order]
left.vlines(places, low, high, color="C0", lw=2, alpha=0.6)
left.plot(places, rates.mean(0)[order], "o", color="C0", label="posterior mean, 90 %")
left.plot(places, raw[order], "x", color="black", label="seen")
left.set(yscale="log", xticks=places, xticklabels=order + 1, xlabel="pump", title="failures in a thousand hours")
left.legend(frameon=False)
middle.bar(1851 + np.arange(len(year)), year, width=1.0)
middle.set(xlim=(1879, 1901), xlabel="last year of the old rate", title="probability of the change")
times = np.linspace(0.01, 35, 100)
for group, name in enumerate(("placebo", "6-mercaptopurine")):
    scale = np.exp(found["intercept"] + found["effect"] * group)[:, None]
    curves = np.exp(-((times / scale) ** found["shape"][:, None]))
    right.fill_between(times, *np.quantile(curves, [0.05, 0.95], 0), color=f"C{group}", alpha=0.25, lw=0)
    right.plot(times, curves.mean(0), color=f"C{group}", label=name)
right.set(xlabel="weeks", ylim=(0, 1), title="share still in remission")
right.legend(frameon=False)
figure.savefig("programs.png", dpi=120)
