"""The posteriors of :mod:`benchmarks.samplers` as users of NumPyro write them, and its sampler timed in two ways."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions.transforms import OrderedTransform

numpyro.enable_x64()


def eight_schools(data):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(data["y"])):
        white = numpyro.sample("white", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * white, data["sigma"]), obs=data["y"])


def logistic(data):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.5))
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 2.5).expand([data["x"].shape[1]]).to_event(1))
    with numpyro.plate("rows", len(data["y"])):
        numpyro.sample("y", dist.Bernoulli(logits=intercept + data["x"] @ slopes), obs=data["y"])


def ordered_means():
    base = dist.Normal(jnp.array([-3.0, 1.0, 1.0]), jnp.array([1.5, 0.7, 0.7])).to_event(1)
    return dist.TransformedDistribution(base, OrderedTransform())


def mixture(data):
    weights = numpyro.sample("weights", dist.Dirichlet(2.0 * jnp.ones(3)))
    means = numpyro.sample("means", ordered_means())
    sds = numpyro.sample("sds", dist.LogNormal(0.0, 0.5).expand([3]).to_event(1))
    with numpyro.plate("rows", len(data["y"])):
        law = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, sds))
        numpyro.sample("y", law, obs=data["y"])


def hidden_markov(data):
    rows = numpyro.sample("rows", dist.Dirichlet(jnp.ones((3, 3)) + jnp.eye(3)).to_event(1))
    means = numpyro.sample("means", ordered_means())
    sd = numpyro.sample("sd", dist.LogNormal(0.0, 0.5))
    emission = dist.Normal(means, sd).log_prob(data["y"][:, None])

    def step(state, seen):
        return jax.nn.logsumexp(state[:, None] + jnp.log(rows), 0) + seen, None

    last, _ = jax.lax.scan(step, emission[0] - jnp.log(3.0), emission[1:])
    numpyro.factor("y", jax.nn.logsumexp(last))


def hierarchical(data):
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfNormal(2.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    noise = numpyro.sample("noise", dist.HalfNormal(2.0))
    with numpyro.plate("groups", 50):
        white = numpyro.sample("white", dist.Normal(0.0, 1.0))
    level = (mean + spread * white)[data["group"]]
    with numpyro.plate("rows", len(data["y"])):
        numpyro.sample("y", dist.Normal(level + slope * data["x"], noise), obs=data["y"])


def gaussian_process(data):
    length = numpyro.sample("length", dist.LogNormal(0.0, 1.0))
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 1.0))
    gaps = data["x"][:, None] - data["x"]
    kernel = amplitude**2 * jnp.exp(-0.5 * (gaps / length) ** 2)
    covariance = kernel + (noise**2 + 1e-8) * jnp.eye(len(gaps))
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=data["y"])


# ----------------------------------------------------------------------------------------------------------- sampling
def numpyro_fit(model: Callable, data: dict[str, np.ndarray], chains: int, size: int) -> Any:
    """As many draws as steps of warm-up, chains in turn; the states in which they end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chain = numpyro.infer.MCMC(
            numpyro.infer.NUTS(model), num_warmup=size, num_samples=size, num_chains=chains,
            chain_method="sequential", progress_bar=False,
        )  # fmt: skip
        chain.run(jax.random.PRNGKey(0), data)
        jax.block_until_ready(chain.get_samples())
    return chain.last_state


def compiled_draws(model: Callable, data: dict[str, np.ndarray], states: Any, size: int) -> Callable:
    """The same kernel going on from these states, compiled now: draws ``(chains, draws, ...)`` by site."""
    kernel = numpyro.infer.NUTS(model)
    kernel.init(jax.random.PRNGKey(0), 0, None, (data,), {})

    def step(state, _):
        state = kernel.sample(state, (data,), {})
        return state, state.z

    run = jax.jit(lambda state: jax.lax.scan(step, state, None, length=size)[1])
    readable = jax.jit(jax.vmap(kernel.postprocess_fn((data,), {})))

    def draw() -> dict[str, np.ndarray]:
        chains = [jax.tree.map(lambda leaf, c=c: leaf[c], states) for c in range(len(states.i))]
        named = [jax.block_until_ready(readable(run(chain))) for chain in chains]
        return {name: np.stack([np.asarray(found[name]) for found in named]) for name in named[0]}

    draw()  # compiles
    return draw
