"""Every family with data of its kind, and what all tests of families do with them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import biject_to

from probgen.families import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    DiscretisedLogistic,
    FactorAnalyser,
    Family,
    FullGaussian,
    Gamma,
    Hurdle,
    LogNormal,
    NegativeBinomial,
    OrderedLogistic,
    Poisson,
    PrincipalComponents,
    SphericalGaussian,
    StudentColumns,
    StudentT,
    TiedGaussian,
)


@dataclass(frozen=True)
class Case:
    """A family, data it may see, and a rule that integrates over one column: points and log weights."""

    make: Callable[..., Family]
    data: Callable[[int], Tensor]  # N rows of two columns
    rule: Callable[[], tuple[Tensor, Tensor]] | None = None
    whole: bool = False  # values are whole numbers
    rounds: int = 0  # of expectation and maximisation until an update of complete rows has nothing left to do

    def family(self, table: int = 2, prior: str | None = "default", columns: int = 2) -> Family:
        return self.make(columns=columns, table=table, prior=prior)


def counting(size: int) -> tuple[Tensor, Tensor]:
    points = torch.arange(size, dtype=torch.float64)
    return points, torch.zeros_like(points)


def trapezoid(low: float, high: float, size: int = 20_001) -> tuple[Tensor, Tensor]:
    points = torch.linspace(low, high, size, dtype=torch.float64)
    return points, torch.full_like(points, (high - low) / (size - 1)).log()


def on_positives() -> tuple[Tensor, Tensor]:
    log, weight = trapezoid(-60.0, 20.0)
    return log.exp(), weight + log


def on_interval() -> tuple[Tensor, Tensor]:
    """Log odds; the density is constant beyond the edges, which hold next to nothing."""
    odds, weight = trapezoid(-13.8, 13.8)
    x = odds.sigmoid()
    return x, weight + x.log() + torch.log1p(-x)


def heavy_tails() -> tuple[Tensor, Tensor]:
    far, weight = trapezoid(-25.0, 25.0)
    return far.sinh(), weight + far.cosh().log()


def zero_and_positives() -> tuple[Tensor, Tensor]:
    points, weights = on_positives()
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, points]), torch.cat([zero, weights])


def normals(n: int) -> Tensor:
    return torch.randn(n, 2) @ torch.tensor([[1.0, 0.6], [0.0, 0.8]]) + torch.tensor([0.3, -1.0])


def counts(n: int) -> Tensor:
    return torch.poisson(torch.distributions.Gamma(torch.tensor([1.5, 4.0]), 0.5).sample((n,)))


def ordered(levels: int) -> Callable[[int], Tensor]:
    return lambda n: (1.4 * torch.randn(n, 2) + 0.5 * levels).floor().clamp(0, levels - 1)


CASES = {
    "bernoulli": Case(Bernoulli, lambda n: (torch.rand(n, 2) < 0.3).double(), lambda: counting(2), True),
    "categorical": Case(
        lambda **k: Categorical(4, **k),
        lambda n: torch.randint(4, (n, 2)).double(),
        lambda: counting(4),
        True,
    ),
    "ordered": Case(lambda **k: OrderedLogistic(5, **k), ordered(5), lambda: counting(5), True),
    "poisson": Case(Poisson, counts, lambda: counting(400), True),
    "negative_binomial": Case(NegativeBinomial, counts, lambda: counting(2000), True),
    "log_normal": Case(LogNormal, lambda n: (0.7 * normals(n)).exp(), on_positives),
    "gamma": Case(Gamma, lambda n: torch.distributions.Gamma(2.0, 1.5).sample((n, 2)), on_positives),
    "beta": Case(Beta, lambda n: torch.distributions.Beta(2.0, 1.2).sample((n, 2)), on_interval),
    "hurdle": Case(
        Hurdle,
        lambda n: torch.where(torch.rand(n, 2) < 0.4, 0.0, (0.7 * normals(n)).exp()),
        zero_and_positives,
    ),
    "diagonal": Case(DiagonalGaussian, normals, lambda: trapezoid(-40.0, 40.0)),
    "spherical": Case(SphericalGaussian, normals, lambda: trapezoid(-40.0, 40.0)),
    "full": Case(FullGaussian, normals),
    "tied": Case(TiedGaussian, normals),
    "factors": Case(partial(FactorAnalyser, factors=1), normals, rounds=100),
    "components": Case(partial(PrincipalComponents, factors=1), normals, rounds=20),
    "grey_levels": Case(lambda **k: DiscretisedLogistic(12, **k), ordered(12), lambda: counting(12), True),
    "shifted_levels": Case(
        lambda **k: DiscretisedLogistic(12, first=7, **k),
        lambda n: ordered(12)(n) + 7,
        lambda: (counting(12)[0] + 7, counting(12)[1]),
        True,
    ),
    "student_columns": Case(
        StudentColumns, lambda n: torch.distributions.StudentT(3.0).sample((n, 2)) + 0.3, heavy_tails, rounds=200
    ),
    "student": Case(StudentT, lambda n: normals(n) * torch.distributions.Chi2(3.0).sample((n, 1)).rsqrt(), rounds=100),
    "student_diagonal": Case(partial(StudentT, covariance="diagonal", degrees=4.0), normals, rounds=100),
}
COUPLED = ("full", "tied", "factors", "components", "student", "student_diagonal")


@pytest.fixture(autouse=True)
def in_double(double):
    """Families work in float64."""


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name in CASES if name not in COUPLED])
def columnwise(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture
def punch():
    """Holes in a quarter of the cells, but at least one cell known in every row."""

    def punched(x: Tensor) -> Tensor:
        hole = torch.rand_like(x) < 0.25
        hole[hole.all(1)] = False
        return torch.where(hole, torch.nan, x)

    return punched


@pytest.fixture
def expect():
    """The expectation step: weighted log density, and its gradient in the natural parameters."""

    def expected(family: Family, theta: dict, x: Tensor, share: Tensor | float = 1.0):
        leaves = {k: v.detach().requires_grad_() for k, v in family.natural(theta).items()}
        total = (share * family.score(leaves, x)).sum()
        found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return float(total.detach()), dict(zip(leaves, found, strict=True))

    return expected


@pytest.fixture
def fitted(expect):
    """Calibrate the family to all rows, then update it on shares of them."""

    def fit(family: Family, x: Tensor, share: Tensor) -> dict:
        _, pooled = expect(family, family.start(), x, 1.0 / family.table)
        family.calibrate(pooled)
        _, statistics = expect(family, family.start(), x, share)
        return family.update(statistics, family.start())

    return fit


@pytest.fixture
def coordinates():
    """Parameters as one unconstrained vector, and back, through the prior's sites."""

    def pair(family: Family, theta: dict):
        maps = {k: biject_to(d.support) for k, d in family.prior().items()}
        free = {k: maps[k].inv(v) for k, v in family.disassemble(theta).items()}
        sizes = [v.numel() for v in free.values()]
        flat = torch.cat([free[k].reshape(-1) for k in free]).detach()

        def back(u: Tensor) -> dict:
            pieces = zip(free.items(), u.split(sizes), strict=True)
            return family.assemble({k: maps[k](piece.reshape(v.shape)) for (k, v), piece in pieces})

        return flat, back

    return pair


@pytest.fixture
def shares():
    """Responsibilities of two rows of a table."""

    def made(n: int) -> Tensor:
        first = torch.rand(n)
        return torch.stack([first, 1.0 - first])

    return made
