"""What Pyro offers in a user's program: our log density equals plain Pyro's, or the site is refused by its name."""

from __future__ import annotations

from functools import partial

import pandas as pd
import polars as pl
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.reparam import LocScaleReparam, TransformReparam
from pyro.ops.indexing import Vindex

import probgen as pg
from probgen.errors import CapabilityError, ConvergenceWarning, FitError
from probgen.inference.potential import Potential
from tests.inference.plain_pyro import PlainPyro

pytestmark = pytest.mark.usefixtures("double")
X = torch.tensor([0.3, -1.2, 2.5, 0.1, 1.7, -0.4], dtype=torch.float64)
COUNTS = torch.tensor([0.0, 3.0, 1.0, 4.0, 0.0, 2.0], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- programs that work
def plates(data):
    """Two plates that cross, one broadcast against the other."""
    with pyro.plate("columns", 3, dim=-1):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 2, dim=-2):
        sd = pyro.sample("sd", dist.HalfNormal(1.0))
        with pyro.plate("columns_again", 3, dim=-1):
            pyro.sample("x", dist.Normal(mean, sd), obs=data["x"].reshape(2, 3))


def subsampled_plate(data):
    """A third of the rows stands for all."""
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 18, subsample=torch.arange(6)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def factor(data):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.factor("penalty", -(data["x"] / scale).square().sum())


def factor_in_plate(data):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("rows", 6):
        pyro.factor("penalty", -(data["x"] / scale).square())


def mask(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 6), poutine.mask(mask=data["x"] > 0):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def masked_distribution(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", 6):
        pyro.sample("x", dist.Normal(mean, 1.0).mask(data["x"] > 0), obs=data["x"])


def masked_prior(data):
    """A flat prior as users of NumPyro write it."""
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0).mask(False))
    with pyro.plate("rows", 6):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def scale(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with poutine.scale(scale=0.25), pyro.plate("rows", 6):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def scaled_prior(data):
    with poutine.scale(scale=3.0):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    pyro.sample("x", dist.Normal(mean, 1.0).expand([6]).to_event(1), obs=data["x"])


def improper(data):
    mean = pyro.sample("mean", dist.ImproperUniform(constraints.real, (), ()))
    sd = pyro.sample("sd", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("rows", 6):
        pyro.sample("x", dist.Normal(mean, sd), obs=data["x"])


def improper_ordered(data):
    means = pyro.sample("means", dist.ImproperUniform(constraints.ordered_vector, (), (3,)))
    with pyro.plate("rows", 6):
        mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), dist.Normal(means, 1.0))
        pyro.sample("x", mixture, obs=data["x"])


def improper_in_plate(data):
    with pyro.plate("rows", 6):
        mean = pyro.sample("mean", dist.ImproperUniform(constraints.positive, (), ()))
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def simplex(data):
    with pyro.plate("tables", 2):
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("rows", 6):
        mixture = dist.MixtureSameFamily(dist.Categorical(weights[0]), dist.Normal(3 * weights[1], 1.0))
        pyro.sample("x", mixture, obs=data["x"])


def correlation(data):
    root = pyro.sample("root", dist.LKJCholesky(3, 2.0))
    scale = pyro.sample("scale", dist.HalfNormal(1.0).expand([3]).to_event(1))
    with pyro.plate("rows", 2):
        law = dist.MultivariateNormal(torch.zeros(3), scale_tril=scale[:, None] * root)
        pyro.sample("x", law, obs=data["x"].reshape(2, 3))


def bounded(data):
    low = pyro.sample("low", dist.Uniform(-5.0, -2.0))
    share = pyro.sample("share", dist.Beta(2.0, 3.0))
    pyro.sample("x", dist.Normal(low * share, 1.0).expand([6]).to_event(1), obs=data["x"])


def transformed(data):
    base = dist.Normal(0.0, 1.0)
    slope = pyro.sample("slope", dist.TransformedDistribution(base, [dist.transforms.ExpTransform()]))
    pyro.sample("x", dist.Normal(slope, 1.0).expand([6]).to_event(1), obs=data["x"])


def deterministic(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    double_mean = pyro.deterministic("double_mean", 2 * mean)
    pyro.sample("x", dist.Normal(double_mean, 1.0).expand([6]).to_event(1), obs=data["x"])


@poutine.reparam(config={"effects": LocScaleReparam(0.0)})
def decentred(data):
    spread = pyro.sample("spread", dist.HalfNormal(1.0))
    with pyro.plate("rows", 6):
        effects = pyro.sample("effects", dist.Normal(0.5, spread))
        pyro.sample("x", dist.Normal(effects, 1.0), obs=data["x"])


@poutine.reparam(config={"rate": TransformReparam()})
def whitened(data):
    base = dist.Normal(0.0, 1.0)
    rate = pyro.sample("rate", dist.TransformedDistribution(base, [dist.transforms.ExpTransform()]))
    pyro.sample("counts", dist.Poisson(rate).expand([6]).to_event(1), obs=data["counts"])


def mixture(data):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("components", 3):
        means = pyro.sample("means", dist.Normal(0.0, 3.0))
    with pyro.plate("rows", 6):
        z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(means[z], 1.0), obs=data["x"])


def global_discrete(data):
    rates = pyro.sample("rates", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
    change = pyro.sample("change", dist.Categorical(torch.ones(6)), infer={"enumerate": "parallel"})
    with pyro.plate("years", 6):
        rate = torch.where(torch.arange(6) < change, rates[0], rates[1])
        pyro.sample("counts", dist.Poisson(rate), obs=data["counts"])


def vindexed(data):
    """A table indexed by two enumerated sites."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    table = pyro.sample("table", dist.Normal(0.0, 2.0).expand([2, 3]).to_event(2))
    with pyro.plate("rows", 6):
        a = pyro.sample("a", dist.Bernoulli(p), infer={"enumerate": "parallel"})
        b = pyro.sample("b", dist.Categorical(torch.ones(2, 3)[a.long()]), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(Vindex(table)[a.long(), b], 1.0), obs=data["x"])


def chain(data):
    """A hidden Markov model written with pyro.markov."""
    with pyro.plate("states", 2):
        rows = pyro.sample("rows", dist.Dirichlet(torch.ones(2)))
        means = pyro.sample("means", dist.Normal(0.0, 3.0))
    state = torch.tensor(0)
    for t in pyro.markov(range(6)):
        state = pyro.sample(f"state_{t}", dist.Categorical(Vindex(rows)[state]), infer={"enumerate": "parallel"})
        pyro.sample(f"x_{t}", dist.Normal(Vindex(means)[state], 1.0), obs=data["x"][t])


def masked_mixture(data):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("rows", 6):
        z = pyro.sample("z", dist.Bernoulli(p), infer={"enumerate": "parallel"})
        with poutine.mask(mask=data["x"] > 0):
            pyro.sample("x", dist.Normal(3 * z, 1.0), obs=data["x"])


def subsampled_mixture(data):
    """The plate's scale stands outside the sum over the site."""
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("rows", 60, subsample=torch.arange(6)):
        z = pyro.sample("z", dist.Bernoulli(p), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(3 * z, 1.0), obs=data["x"])


PLAIN = [
    plates, subsampled_plate, factor, factor_in_plate, mask, masked_distribution, masked_prior, scale, scaled_prior,
    improper, improper_ordered, improper_in_plate, simplex, correlation, bounded, transformed, deterministic, decentred,
    whitened,
]  # fmt: skip
SUMMED = [mixture, global_discrete, vindexed, chain, masked_mixture]


@pytest.mark.reference
@pytest.mark.parametrize("model", PLAIN + SUMMED, ids=lambda model: getattr(model, "__name__", "reparametrised"))
def test_log_density_equals_plain_pyro(model):
    data = {"x": X, "counts": COUNTS}
    ours, plain = Potential(pg.program(model), data), PlainPyro(model, data)
    names = [slot.name for slot in ours.slots]
    assert sorted(names) == sorted(plain.shapes)
    for _ in range(4):
        u = (0.7 * torch.randn(plain.size)).requires_grad_()
        mine, theirs = ours.log_posterior(u), plain.log_posterior(u, names)
        assert float(mine.detach()) == pytest.approx(float(theirs.detach()), abs=1e-10, rel=1e-12)
        slopes = [torch.autograd.grad(value, u)[0] for value in (mine, theirs)]
        torch.testing.assert_close(*slopes, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("model", SUMMED, ids=lambda model: model.__name__)
def test_plain_pyro_sums_out_what_its_elbo_sums_out(model):
    """The yardstick itself: at given parameters it is TraceEnum_ELBO with nothing to infer, plus the Jacobian."""
    data = {"x": X, "counts": COUNTS}
    plain = PlainPyro(model, data)
    u = 0.7 * torch.randn(plain.size)
    free, values = plain.split(u), plain.constrain(u)
    jacobian = sum(
        plain.transforms[name].inv.log_abs_det_jacobian(free[name], values[name]).sum() for name in plain.shapes
    )
    given = poutine.condition(model, values)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(given, lambda data: None, data)
    assert float(plain.log_posterior(u)) == pytest.approx(elbo + float(jacobian), abs=1e-9)


def two_components(logit, seen=True, weight=1.0):
    """``masked_mixture`` and ``subsampled_mixture`` by hand, at a logit of p."""
    p = torch.sigmoid(logit)
    each = torch.where(torch.as_tensor(seen), dist.Normal(torch.tensor([0.0, 3.0])[:, None], 1.0).log_prob(X), 0.0)
    rows = (torch.stack([1 - p, p]).log()[:, None] + each).logsumexp(0)
    return weight * rows.sum() + dist.Beta(2.0, 2.0).log_prob(p) + (p * (1 - p)).log()


def test_plain_pyro_masks_inside_the_sum():
    plain, u = PlainPyro(masked_mixture, {"x": X}), torch.tensor([0.4])
    assert float(plain.log_posterior(u)) == pytest.approx(float(two_components(u[0], seen=X > 0)), abs=1e-9)


def test_elbo_scales_outside_the_sum():
    """``initialize_model`` scales inside the sum over the site, which is no density; the ELBO and we do not."""
    given = poutine.condition(subsampled_mixture, {"p": torch.sigmoid(torch.tensor(0.4))})
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(given, lambda data: None, {"x": X})
    p = torch.sigmoid(torch.tensor(0.4))
    expected = two_components(torch.tensor(0.4), weight=10.0)
    assert elbo + float((p * (1 - p)).log()) == pytest.approx(float(expected), abs=1e-9)


def test_subsampled_mixture_is_scaled_outside_the_sum():
    ours, u = Potential(pg.program(subsampled_mixture), {"x": X}), torch.tensor([0.4])
    assert float(ours.log_posterior(u)) == pytest.approx(float(two_components(u[0], weight=10.0)), abs=1e-10)


# ----------------------------------------------------------------------------------------------- programs refused
def unmarked_discrete(data):
    p = pyro.sample("p", dist.Beta(1.0, 1.0))
    with pyro.plate("rows", 6):
        z = pyro.sample("cluster", dist.Bernoulli(p))
        pyro.sample("x", dist.Normal(3 * z, 1.0), obs=data["x"])


def infinite_discrete(data):
    rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
    number = pyro.sample("number", dist.Poisson(rate), infer={"enumerate": "parallel"})
    pyro.sample("x", dist.Normal(number, 1.0).expand([6]).to_event(1), obs=data["x"])


def drawn_minibatch(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("drawn_rows", 6, subsample_size=2) as index:
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"][index])


@pytest.mark.parametrize(
    ("model", "site"), [(infinite_discrete, "number"), (drawn_minibatch, "drawn_rows")], ids=["infinite", "minibatch"]
)
def test_what_cannot_be_sampled_is_refused_by_name(model, site):
    with pytest.raises(CapabilityError, match=site):
        Potential(pg.program(model), {"x": X})


def test_a_discrete_site_without_a_mark_is_summed_out_or_refused_by_name():
    """NumPyro sums it out by itself; a library may, or has to say what the mark is."""
    refusal = None
    try:
        ours = Potential(pg.program(unmarked_discrete), {"x": X})
    except CapabilityError as error:
        refusal = str(error)
    if refusal is not None:
        assert "cluster" in refusal
        return
    p = torch.sigmoid(torch.tensor(0.3))
    parts = torch.stack([(1 - p).log() + dist.Normal(0, 1).log_prob(X), p.log() + dist.Normal(3, 1).log_prob(X)])
    expected = parts.logsumexp(0).sum() + (p * (1 - p)).log()
    assert float(ours.log_posterior(torch.tensor([0.3]))) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize("mark", [{"enumerate": "sequential"}, {"enumerate": "parallel", "num_samples": 3}])
def test_a_discrete_site_is_summed_out_whatever_its_mark(mark):
    """Left to the mark, one value would be drawn, and the density would be another one at every run."""

    def marked(data):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("rows", 6):
            z = pyro.sample("cluster", dist.Bernoulli(p), infer=dict(mark)).long()
            pyro.sample("x", dist.Normal(torch.tensor([0.0, 3.0])[z], 1.0), obs=data["x"])

    ours, u = Potential(pg.program(marked), {"x": X}), torch.tensor([0.4])
    assert float(ours.log_posterior(u)) == pytest.approx(float(two_components(u[0])), abs=1e-10)


# --------------------------------------------------------------------------------------------------- forms of the data
def regression(data):
    slopes = pyro.sample("slopes", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("rows", len(data["y"])):
        mean = torch.stack([data["a"], data["b"]], -1) @ slopes
        pyro.sample("y", dist.Normal(mean, 0.5), obs=data["y"])


COLUMNS = {"a": X, "b": X.flip(0), "y": 2 * X + 0.1}
FORMS = {
    "arrays": {key: value.numpy() for key, value in COLUMNS.items()},
    "single precision": {key: value.float() for key, value in COLUMNS.items()},
    "table": pg.Table({key: value.numpy() for key, value in COLUMNS.items()}),
}


@pytest.mark.filterwarnings("ignore:.*Pareto k")
@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_the_data_changes_nothing(form):
    """Neither in a fit nor in what is asked of it afterwards."""
    fits = [pg.fit(pg.program(regression), d, method="laplace", progress=False) for d in (COLUMNS, FORMS[form])]
    one, other = (pg.loo(f, d).elpd for f, d in zip(fits, (COLUMNS, FORMS[form]), strict=True))
    assert other == pytest.approx(one, rel=1e-5)
    groups = fits[1].to_arviz(FORMS[form], draws=2, prior_draws=2)
    assert groups.posterior_predictive["y"].shape[-1] == groups.observed_data["y"].shape[0] == 6


def test_calibration_reads_arrays():
    found = pg.check_calibration(pg.program(regression), FORMS["arrays"], replicates=32, draws=7, warmup=20)
    assert found.replicates == 32


@pytest.mark.filterwarnings("ignore:.*Pareto k")
@pytest.mark.parametrize("method", ["laplace", "pathfinder"])
def test_a_climb_goes_on_from_its_checkpoint_to_the_same_end(tmp_path, method):
    """And from no other data's: draws would be returned for data that nothing was learnt of."""
    options = {"method": method, "checkpoint": tmp_path / "state", "progress": False}
    pg.fit(pg.program(regression), COLUMNS, max_steps=3, **options)
    resumed = pg.fit(pg.program(regression), COLUMNS, **options)
    whole = pg.fit(pg.program(regression), COLUMNS, **{**options, "checkpoint": None})
    assert torch.equal(resumed.posterior.sites["slopes"], whole.posterior.sites["slopes"])
    with pytest.raises(FitError, match="of another fit: its data"):
        pg.fit(pg.program(regression), {**COLUMNS, "y": X}, **options)


# ------------------------------------------------------------------------------------------------------ users' guides
ROWS = torch.linspace(-1.0, 3.0, 50, dtype=torch.float64)
POSTERIOR = (ROWS.sum() / (50 + 0.25), (50 + 0.25) ** -0.5)  # of a normal mean with prior sd 2, given ROWS with sd 1


def normal_mean(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("rows", len(data)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=data)


def exact_guide(data):
    centre = pyro.param("centre", POSTERIOR[0])
    spread = pyro.param("spread", lambda: torch.tensor(POSTERIOR[1]), constraint=constraints.positive)
    pyro.sample("mean", dist.Normal(centre, spread))


def test_svi_learns_the_users_own_guide():
    """One that starts at the posterior has the evidence as its bound, whatever is drawn; a later fit starts anew."""
    covariance = torch.eye(50) + 4.0
    evidence = dist.MultivariateNormal(torch.zeros(50), covariance).log_prob(ROWS)
    for _ in range(2):
        fit = pg.fit(
            pg.program(normal_mean, exact_guide), ROWS, method="svi", max_steps=2, guide_draws=50, progress=False
        )
        assert fit.history["objective"][0] == pytest.approx(float(evidence), abs=1e-8)
    assert float(fit.posterior.sites["mean"].std()) < 0.3
    assert fit.diagnostics["khat"] < 0.5
    assert "centre" not in pyro.get_param_store()


def test_svi_learns_one_of_pyros_autoguides():
    """Started at a mode with small spread, it widens."""
    guide = AutoNormal(normal_mean, init_scale=0.01)
    fit = pg.fit(pg.program(normal_mean, guide), ROWS, method="svi", max_steps=300, learning_rate=0.01, progress=False)
    pyro.clear_param_store()  # Pyro's own modules put their parameters there, too
    found = fit.posterior.sites["mean"]
    assert float(found.mean()) == pytest.approx(float(POSTERIOR[0]), abs=0.1)
    assert float(found.std()) == pytest.approx(POSTERIOR[1], rel=0.3)


def test_a_guide_that_leaves_a_site_out_is_refused():
    with pytest.raises(CapabilityError, match="'mean'"):
        pg.fit(pg.program(normal_mean, lambda data: None), ROWS, method="svi", progress=False)


@pytest.mark.parametrize("method", ["map", "svi"])
def test_an_improper_prior_has_a_mode(method):
    """Nothing has to be drawn from it: with a flat prior the mode is the highest likelihood's."""

    def flat(data):
        mean = pyro.sample("mean", dist.ImproperUniform(constraints.real, (), ()))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=data)

    steps = {} if method == "map" else {"max_steps": 300, "learning_rate": 0.02}
    fit = pg.fit(pg.program(flat), ROWS, method=method, progress=False, **steps)
    assert float(fit.posterior.sites["mean"].mean()) == pytest.approx(1.0, abs=0.05)


def test_svi_takes_a_program_without_data():
    def alone(data):
        pyro.sample("mean", dist.Normal(1.0, 2.0))

    with pytest.warns(ConvergenceWarning, match="k-hat"):  # three steps are too few
        fit = pg.fit(pg.program(alone), None, method="svi", max_steps=3, progress=False)
    assert fit.posterior.sites["mean"].shape == (1, 400)


def test_a_data_frame_is_a_dictionary_of_columns():
    """Of pandas and polars, and a pandas series; levels are their numbers."""
    columns = {"x": [0.5, 1.5, 2.0, 0.25], "sort": ["b", "a", "b", "b"]}

    def grouped(data):
        means = pyro.sample("means", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("rows", 4):
            pyro.sample("x", dist.Normal(means[data["sort"].long()], 1.0), obs=data["x"])

    frames = [pd.DataFrame(columns), pl.DataFrame(columns), pg.Table(columns)]
    frames.append({"x": pd.Series(columns["x"]), "sort": pd.Series([1, 0, 1, 1])})
    found = [
        pg.fit(pg.program(grouped), frame, method="map", progress=False).posterior.sites["means"] for frame in frames
    ]
    wanted = torch.tensor([1.5 / 2, (0.5 + 2.0 + 0.25) / 4])
    for means in found:
        torch.testing.assert_close(means.flatten(), wanted, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_belongs_to_what_the_program_does(tmp_path):
    """The same name with another prior is another fit; the same text written again is the same."""

    def written(sd):
        def normal(data):
            mean = pyro.sample("mean", dist.Normal(0.0, sd))
            pyro.sample("x", dist.Normal(mean, 1.0).expand([50]).to_event(1), obs=data)

        return normal

    def louder(data):
        mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
        pyro.sample("x", dist.Normal(mean, 1.0).expand([50]).to_event(1), obs=data)

    louder.__name__ = "normal"
    options = {"method": "map", "checkpoint": tmp_path / "state", "progress": False}
    first = pg.fit(pg.program(written(2.0)), ROWS, **options)
    again = pg.fit(pg.program(written(2.0)), ROWS, **options)
    assert torch.equal(first.posterior.sites["mean"], again.posterior.sites["mean"])
    for other in (written(3.0), louder, partial(louder)):
        with pytest.raises(FitError, match="is of another fit"):
            pg.fit(pg.program(other), ROWS, **options)
