"""Multiple imputation beside R's mice, miceforest and scikit-learn: validity, closeness to what was hidden, time.

``CASES=fimd_a,time`` chooses among the cases below, ``SIMULATIONS`` how many samples each takes, ``WORKERS`` how many
processes, ``STUDIES`` a folder in which outcomes are kept and from which a study goes on, ``OURS`` (JSON) our settings,
``METHODS="ours,mice norm"`` which methods (all); samples and seeds are the same whichever are run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from benchmarks import _imputation_accuracy as accuracy
from benchmarks import _imputation_populations as populations
from benchmarks import _imputation_time as timing
from benchmarks._imputation_peers import Mice, missing
from benchmarks._imputation_populations import Case
from probgen.studies.simulation_run import Batched

OURS: dict[str, Any] = json.loads(os.environ.get("OURS", '{"model": "auto"}'))
"""What stands for us; options of ``pg.impute``."""

IMPROPER = {**OURS, "uncertainty": "none"}
CANDIDATES: dict[str, dict[str, Any]] = {
    "chained equations": {"model": "chained_equations"},
    "chained, main effects": {"model": "chained_equations", "products": "none"},
    "chained, normal noise": {"model": "chained_equations", "matching": "none"},
    "one normal distribution": {"model": "gaussian_mixture", "components": 1},
    "mixture of three": {"model": "gaussian_mixture", "components": 3},
    "copula": {"model": "gaussian_copula"},
    "mixture of three copulas": {"model": "gaussian_copula", "components": 3},
    "network": {"model": "bayesian_network"},
}
"""For the default; mixtures with families of their own for columns that are not continuous, bootstrap but for the first three."""
WORKERS = int(os.environ.get("WORKERS", 1))
METHODS = [name for name in os.environ.get("METHODS", "").split(",") if name]
Line = dict[str, Any]


def simulations(default: int) -> int:
    return int(os.environ.get("SIMULATIONS", default))


def asked_for(methods: dict[str, Any]) -> dict[str, Any]:
    return {name: method for name, method in methods.items() if not METHODS or name in METHODS}


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(name for name in CASES if not name.startswith("candidates"))).split(
        ","
    ):
        for line in CASES[name]():
            yield {"case": name, **line}


# -------------------------------------------------------------------------------------------------------- simulations
def fimd_a() -> Iterator[Line]:
    ours = {"ours": OURS, "ours improper": IMPROPER}
    yield from studies("fimd_a", populations.fimd_a(), ours, {"mice norm": "norm"}, 1000)


def fimd_c() -> Iterator[Line]:
    yield from studies("fimd_c", populations.fimd_c(), {"ours": OURS}, {"mice default": "default"}, 200)


def fimd_d() -> Iterator[Line]:
    yield from studies("fimd_d", populations.fimd_d(), {"ours": OURS}, {"mice default": "default"}, 200)


def scenarios() -> Iterator[Line]:
    peers = {"mice norm": "norm", "mice pmm": "pmm", "amelia": "amelia"}
    yield from studies("scenarios", populations.scenarios(), {"ours": OURS}, peers, 100)


def mixed() -> Iterator[Line]:
    peers = {"mice default": "default", "mice cart": "cart"}
    yield from studies("mixed", populations.mixed(), {"ours": OURS}, peers, 200)


def candidates() -> Iterator[Line]:
    """What could be the default, on columns of numbers and on mixed ones, few and many rows."""
    made = {**populations.scenarios(), "adult, 200 rows": populations.mixed(200)["adult"], **populations.mixed()}
    yield from studies("candidates", made, CANDIDATES, {}, 40)


def candidates_distance() -> Iterator[Line]:
    """The same candidates, by how close one completed table comes to the complete one."""
    yield from accuracy.six_sets(asked_for(CANDIDATES), simulations(1))


def studies(
    name: str, made: dict[str, Case], ours: dict[str, Any], peers: dict[str, str], default: int
) -> Iterator[Line]:
    """One study a population; a line for each method and estimand, and one for the mean over estimands."""
    for title, case in made.items():
        peers = asked_for(peers)
        theirs = {
            peer: Batched(Mice(method, case.m)) for peer, method in peers.items() if not missing(package(method))
        }
        folder = os.environ.get("STUDIES")
        found = pg.imputation_study(
            case.sample, case.analysis, case.truth, methods={**asked_for(ours), **theirs}, ampute=case.holes, rows=case.rows, m=case.m,
            simulations=simulations(default), workers=WORKERS, progress=False,
            path=Path(folder) / name / title.replace(" ", "_") if folder else None,
        )  # fmt: skip
        for method in found.methods:
            yield from lines(found, method, title)
        for peer in set(peers) - set(theirs):
            yield {"population": title, "method": peer, "missing": missing(package(peers[peer]))}


def package(method: str) -> str:
    return "Amelia" if method == "amelia" else "mice"


def lines(found: pg.ImputationStudy, method: str, title: str) -> Iterator[Line]:
    records = [record for record in found.records if record["method"] == method]
    kept = (
        "bias", "bias_error", "percent_bias", "coverage", "coverage_error", "width", "width_error", "rmse", "se_ratio", "fmi",
        "seconds", "simulations", "failed", "says",
    )  # fmt: skip
    for record in records:
        numbers = {key: record[key] for key in kept}
        yield {"population": title, "method": method, "term": record["term"], "truth": record["truth"], **numbers}
    if len(records) > 1:
        coverage, width, fmi = (np.array([r[key] for r in records]) for key in ("coverage", "width", "fmi"))
        yield {
            "population": title, "method": method, "term": "all", "coverage": float(coverage.mean()),
            "coverage_worst": float(coverage.min()), "worst": records[int(coverage.argmin())]["term"],
            "width": float(width.mean()), "fmi": float(fmi.mean()), "seconds": records[0]["seconds"],
            "simulations": records[0]["simulations"], "failed": records[0]["failed"],
            "why": found.failures.get(method, {}),
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------------- single tables
def six_sets() -> Iterator[Line]:
    yield from accuracy.six_sets(asked_for({"ours": OURS, **accuracy.PEERS}), simulations(5))


def miwae() -> Iterator[Line]:
    yield from accuracy.miwae(OURS, simulations(5))


def miwae_peers() -> Iterator[Line]:
    yield from accuracy.miwae_peers(simulations(3))


def miwae_attainable() -> Iterator[Line]:
    yield from accuracy.attainable()


def time() -> Iterator[Line]:
    yield from timing.lines(OURS)


CASES: dict[str, Callable[[], Iterator[Line]]] = {
    case.__name__: case
    for case in (
        fimd_a,
        fimd_c,
        fimd_d,
        scenarios,
        mixed,
        six_sets,
        miwae,
        miwae_attainable,
        miwae_peers,
        time,
        candidates,
        candidates_distance,
    )
}
