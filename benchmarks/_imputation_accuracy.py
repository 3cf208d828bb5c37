"""How close filled cells come to what was hidden: errors of single draws and of their mean, CRPS, energy distance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

import probgen as pg
from benchmarks._imputation_peers import Mice, MiceForest, Sklearn, missing
from benchmarks._imputation_populations import AtRandom, Driven, miwae_sets
from benchmarks._imputation_populations import six_sets as tables_of_six
from probgen.data.table import Table
from probgen.inference.runtime import seed_of
from probgen.studies.filled_cells import crps
from probgen.studies.simulation_run import Completed

M = 5
MIWAE_DRAWS = 50
PUBLISHED = {  # Mattei and Frellsen (2019)
    "banknote": 0.446, "breast": 0.280, "concrete": 0.501, "red wine": 0.643, "white wine": 0.735,
    "yeast": 0.964,
}  # fmt: skip
PUBLISHED_PEERS = {  # (missForest, neighbours) in the same table of the same paper
    "banknote": (0.676, 0.744), "breast": (0.291, 0.831), "concrete": (0.510, 0.962), "red wine": (0.697, 0.981),
    "white wine": (0.798, 0.929), "yeast": (1.41, 1.17),
}  # fmt: skip
PEERS = {
    "mice norm": ("mice", Mice("norm", M)), "mice pmm": ("mice", Mice("pmm", M)), "mice cart": ("mice", Mice("cart", M)),
    "mice rf": ("ranger", Mice("rf", M)), "miceforest": ("miceforest", MiceForest(M)), "sklearn": ("sklearn", Sklearn(M)),
    "amelia": ("Amelia", Mice("amelia", M)),
}  # fmt: skip


class Ours:
    """``pg.impute`` called as the peers are."""

    def __init__(self, options: Mapping[str, Any], m: int) -> None:
        self.options, self.m = options, m

    def __call__(self, tables: Sequence[Table], seeds: Sequence[int]) -> list[Completed | Exception]:
        return [self.one(table, seed) for table, seed in zip(tables, seeds, strict=True)]

    def one(self, table: Table, seed: int) -> Completed:
        before = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pg.impute(table, **{"m": self.m, "progress": False, **self.options}, seed=seed)
        return Completed(found.tables, time.process_time() - before)


def six_sets(methods: Mapping[str, Any], repeats: int) -> Iterator[dict[str, Any]]:
    """30 % of the cells, completely at random or depending on columns that stay; a line a set, mechanism and method.

    A method is options of ``pg.impute``, or the package that it needs and a function of tables and seeds.
    """
    for title, complete in tables_of_six().items():
        for mechanism in ("mcar", "mar"):
            seeds = [seed_of(0, title, mechanism, number) % 2**31 for number in range(repeats)]
            holed = [hidden(complete, mechanism, seed) for seed in seeds]
            for method, how in methods.items():
                package, run = ("", Ours(how, M)) if isinstance(how, Mapping) else how
                about = {"set": title, "mechanism": mechanism, "method": method}
                if package and missing(package):
                    yield {**about, "missing": missing(package)}
                else:
                    yield {**about, **averaged(complete, holed, run, seeds)}


def hidden(complete: Table, mechanism: str, seed: int) -> Table:
    """As Muzellec et al. (2020): at random, the rest depends on three columns in ten."""
    rng = np.random.default_rng(seed)
    if mechanism == "mcar":
        lost = rng.random(complete.values.shape) < 0.3
        lost[lost.all(1), 0] = False
        return complete.with_values(np.where(lost, np.nan, complete.values))
    order = [complete.names[place] for place in rng.permutation(complete.n_columns)]
    stay = max(1, round(0.3 * complete.n_columns))
    return Driven(tuple((name, "*") for name in order[stay:]), 0.3, tuple(order[:stay]))(complete, seed)


def averaged(complete: Table, holed: Sequence[Table], run: Any, seeds: Sequence[int]) -> dict[str, Any]:
    """Means over masks, with their standard errors."""
    results = run(holed, seeds)
    good = [(table, found) for table, found in zip(holed, results, strict=True) if isinstance(found, Completed)]
    told = {str(found) for found in results if isinstance(found, Exception)}
    scores = [scored(complete, table, found) for table, found in good]
    line: dict[str, Any] = {}
    for key in scores[0] if scores else ():
        values = np.array([score[key] for score in scores])
        line[key] = float(values.mean())
        line[f"{key}_error"] = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {**line, "masks": len(good), "failed": len(results) - len(good), **({"why": sorted(told)} if told else {})}


def scored(complete: Table, holed: Table, found: Completed) -> dict[str, float]:
    draws, cells = np.stack([table.values for table in found.tables]), ~holed.known
    truth, filled = complete.values[cells], draws[:, cells]
    return {
        "rmse_draw": float(np.sqrt(((filled - truth) ** 2).mean())),
        "rmse_mean": float(np.sqrt(((filled.mean(0) - truth) ** 2).mean())),
        "energy": 1000 * float(np.mean([energy(values, complete.values) for values in draws])),
        "crps": float(crps(filled, truth).mean()),
        "seconds": float(found.seconds or 0.0),
    }


def energy(filled: np.ndarray, complete: np.ndarray) -> float:
    r"""Energy distance of rows, :math:`2 E|A - B| - E|A - A'| - E|B - B'|`, less what the complete rows have to themselves."""
    n = len(complete)
    within = lambda rows: float(cdist(rows, rows).sum())  # noqa: E731
    inside, own = within(filled), within(complete)
    across = 2 * (float(cdist(filled, complete).sum()) - own) / n**2
    return across - (inside - own) / (n * (n - 1))


def miwae(ours: Mapping[str, Any], repeats: int) -> Iterator[dict[str, Any]]:
    """Half of the cells completely at random; mean squared error of the mean of the draws, standardised."""
    run = Ours(ours, MIWAE_DRAWS)
    for title, complete in miwae_sets().items():
        errors, seconds = [], []
        for number in range(repeats):
            seed = seed_of(0, "miwae", title, number) % 2**31
            holed = AtRandom(complete.names, 0.5)(complete, seed)
            found = run.one(holed, seed)
            cells = ~holed.known
            mean = np.mean([table.values[cells] for table in found.tables], 0)
            errors.append(float(((mean - complete.values[cells]) ** 2).mean()))
            seconds.append(float(found.seconds or 0.0))
        spread = float(np.std(errors, ddof=1) / np.sqrt(repeats)) if repeats > 1 else float("nan")
        yield {
            "set": title, "mse": float(np.mean(errors)), "mse_error": spread, "published": PUBLISHED[title],
            "ratio": float(np.mean(errors)) / PUBLISHED[title], "masks": repeats, "seconds": float(np.mean(seconds)),
        }  # fmt: skip


def attainable(patterns: int = 10) -> Iterator[dict[str, Any]]:
    """What regressions leave that see all other rows complete: the best of four a pattern, by ten-fold cross-validation.

    No imputation from rows with holes can be expected to do better than regressions that know more than it does.
    """
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsRegressor

    regressions = [
        ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0), ExtraTreesRegressor(200, min_samples_leaf=5, random_state=0),
        HistGradientBoostingRegressor(max_iter=150, learning_rate=0.05, min_samples_leaf=10, random_state=0),
        KNeighborsRegressor(20),
    ]  # fmt: skip
    for title in ("banknote", "concrete"):
        x, rng = miwae_sets()[title].values, np.random.default_rng(0)
        folds, errors = KFold(10, shuffle=True, random_state=0), []
        for column in range(x.shape[1]):
            others = [at for at in range(x.shape[1]) if at != column]
            every = [[at for bit, at in enumerate(others) if which >> bit & 1] for which in range(2 ** len(others))]
            chosen = every if len(every) <= patterns else [every[k] for k in rng.integers(len(every), size=patterns)]
            for known in chosen:
                y = x[:, column]
                found = (
                    [cross_val_predict(one, x[:, known], y, cv=folds) for one in regressions] if known else [0.0 * y]
                )
                errors.append(min(float(((y - each) ** 2).mean()) for each in found))
        yield {
            "set": title,
            "attainable": float(np.mean(errors)),
            "published": PUBLISHED[title],
            "patterns": len(errors),
        }


def miwae_peers(repeats: int) -> Iterator[dict[str, Any]]:
    """Peers under the same protocol, on the masks of :func:`miwae`, beside what the paper gives for them."""
    from sklearn.impute import KNNImputer

    peers = (
        ("missForest", miss_forest),
        ("neighbours", lambda x, seed: KNNImputer(n_neighbors=5).fit_transform(x)),
    )
    for title, complete in miwae_sets().items():
        for (name, fill), published in zip(peers, PUBLISHED_PEERS[title], strict=True):
            errors = []
            for number in range(repeats):
                seed = seed_of(0, "miwae", title, number) % 2**31
                known = AtRandom(complete.names, 0.5)(complete, seed).known
                filled = fill(np.where(known, complete.values, np.nan), seed)
                errors.append(float(((filled - complete.values)[~known] ** 2).mean()))
            spread = float(np.std(errors, ddof=1) / np.sqrt(repeats)) if repeats > 1 else float("nan")
            yield {
                "set": title, "peer": name, "mse": float(np.mean(errors)), "mse_error": spread, "published": published,
                "masks": repeats,
            }  # fmt: skip


def miss_forest(x: np.ndarray, seed: int, sweeps: int = 10) -> np.ndarray:
    """Forests of each column on all others, by turns until the filled cells move more than before (Stekhoven and Bühlmann, 2012).

    The settings are those of its R package: 100 trees, the square root of the columns tried at a split, leaves of five.
    """
    from sklearn.ensemble import RandomForestRegressor

    holes, last = np.isnan(x), np.inf
    filled = np.where(holes, np.nanmean(x, 0), x)
    tried = max(1, int(np.sqrt(x.shape[1] - 1)))
    for sweep in range(sweeps):
        before = filled.copy()
        for at in np.argsort(holes.sum(0)):
            forest = RandomForestRegressor(
                100, max_features=tried, min_samples_leaf=5, random_state=(seed + sweep) % 2**31
            )
            others, hole = np.delete(filled, at, 1), holes[:, at]
            filled[hole, at] = forest.fit(others[~hole], x[~hole, at]).predict(others[hole])
        moved = float(((filled - before) ** 2).sum() / (filled**2).sum())
        if moved > last:
            return before
        last = moved
    return filled
