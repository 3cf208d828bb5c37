r"""Multiple imputation where the mask tells something: any model of the rows with a model of the mask.

.. math:: p(x, r) = p(x \mid \theta) \prod_j \mathrm{Bernoulli}(r_j \mid \sigma(a_j + b_j^\top f_j(x)))

Data augmentation in turn draws the unknown cells given the parameters and the mask (one of several candidates from the model's own
conditional, the present value among them, with the probability of the mask as weight: iterated sampling importance resampling,
Andrieu, Lee and Vihola, 2018), the mask's coefficients given the completed rows, and the model's parameters given the completed
rows (a refit with random row weights, as in Rubin's Bayesian bootstrap, 1981).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.errors import CapabilityError, ConvergenceWarning, FitError
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.fit import run
from probgen.inference.runtime import seed_of
from probgen.queries import Fit, fit
from probgen.studies.mask_mechanism import MaskModel, Mechanism
from probgen.studies.multiple_imputation import Imputations
from probgen.studies.planning import Plan, able_to
from probgen.studies.worlds import reweighed

__all__ = ["MaskedImputations", "MechanismFit", "impute_not_at_random"]

CLIMB = 3  # iterations of EM for one draw of the parameters
TOGETHER = 4  # sweeps, in one of which whole rows move too
SETTLE = 30  # sweeps over new rows, whose parameters are given
HIGH = 1.2  # R-hat from which on chains are told to disagree


@dataclass(frozen=True, eq=False)
class MechanismFit:
    """What was learnt about the mask.

    Attributes:
        mechanism: as it was asked for.
        terms: (column, term) of every coefficient: an intercept, and log odds ratios a standard deviation.
        draws: ``(chains, sweeps, P)`` coefficients of all kept sweeps.
        used: ``(m, P)`` coefficients with which each table was drawn.
        rhat, ess: ``(P,)`` of the coefficients, over chains.
        moved: ``(N,)``, share of the sweeps in which a row's unknown cells changed; NaN for rows without.
        failed: refits that failed, where the parameters before were kept.
    """

    mechanism: Mechanism
    terms: tuple[tuple[str, str], ...]
    draws: np.ndarray
    used: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    moved: np.ndarray
    failed: int = 0

    def records(self) -> list[dict[str, Any]]:
        """One record a coefficient: mean, standard deviation, 95 % interval, R-hat, effective sample size."""
        flat = self.draws.reshape(-1, len(self.terms))
        low, high = np.quantile(flat, [0.025, 0.975], axis=0)
        numbers = zip(flat.mean(0), flat.std(0), low, high, self.rhat, self.ess, strict=True)
        names = ("mean", "sd", "lower", "upper", "rhat", "ess")
        return [
            {"column": column, "term": term, **dict(zip(names, map(float, row), strict=True))}
            for (column, term), row in zip(self.terms, numbers, strict=True)
        ]

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        records = self.records()
        return from_mapping({name: [record[name] for record in records] for name in records[0]})

    def __str__(self) -> str:
        head = f"{'column':<20}{'term':<20}{'mean':>9}{'sd':>9}{'2.5 %':>9}{'97.5 %':>9}{'R-hat':>8}{'ESS':>7}"
        lines = [f"{self.mechanism.form}: log odds of being unknown", head]
        for r in self.records():
            numbers = f"{r['mean']:>9.3g}{r['sd']:>9.3g}{r['lower']:>9.3g}{r['upper']:>9.3g}"
            lines.append(f"{r['column']:<20}{r['term']:<20}{numbers}{r['rhat']:>8.2f}{r['ess']:>7.0f}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class MaskedImputations(Imputations):
    """Completed tables of a model with a mask that tells something; everything that :class:`Imputations` can do.

    Attributes:
        mechanism: what was learnt about the mask.
        mask_model: the mechanism of the table, with which new rows are filled.
    """

    mechanism: MechanismFit = field(kw_only=True)
    mask_model: MaskModel = field(kw_only=True, repr=False)

    def transform(self, rows: Any) -> tuple[Table, ...]:
        """New rows completed in the same m worlds; their masks count as those of the old ones did."""
        table = self.fits[0].read(rows)
        return tuple(
            filled_rows(one, self.mask_model, split(self.mask_model, used), table, seed_of(self.seed, "transform", at))
            for at, (one, used) in enumerate(zip(self.fits, self.mechanism.used, strict=True))
        )

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.mechanism}"


def impute_not_at_random(
    table: Table, plan: Plan, mechanism: Mechanism, m: int, seed: int, progress: bool
) -> MaskedImputations:
    """What :func:`probgen.impute` does where there is a mechanism."""
    check_served(table, plan.model)
    mask = MaskModel(mechanism, table)
    told = table.take(np.flatnonzero(table.known.any(1)))
    begin = fit(plan.model, told, seed=seed, progress=progress, **plan.options)
    share = [m // mechanism.chains + (chain < m % mechanism.chains) for chain in range(min(mechanism.chains, m))]
    chains = [Chain(table, with_own_program(begin), mask, seed_of(seed, "chain", at)) for at in range(len(share))]
    sweeps = mechanism.warmup + max(share) * mechanism.thin
    for chain, tables in zip(chains, share, strict=True):
        for sweep in tqdm(range(1, sweeps + 1), desc="data augmentation", disable=not progress, leave=False):
            chain.sweep(keep=sweep > mechanism.warmup)
            number, rest = divmod(sweep - mechanism.warmup, mechanism.thin)
            if rest == 0 and 0 < number <= tables:
                chain.hold()
    return gathered(table, mask, chains, seed, plan)


def check_served(table: Table, model: Any) -> None:
    """Refuse what data augmentation cannot serve."""
    if table.lengths is not None:
        raise CapabilityError("A mechanism is for rows that stand alone; this table holds sequences.")
    able = able_to(model)
    if "em" not in able:
        raise CapabilityError(
            "A mechanism refits the model to completed rows by a few iterations of EM, which this model does not have"
            f" ({', '.join(able)}); use gaussian_mixture, factor_analysis or gaussian_copula, or shift draws at random"
            " with imputed.shifted."
        )


def gathered(table: Table, mask: MaskModel, chains: Sequence[Chain], seed: int, plan: Plan) -> MaskedImputations:
    """The chains' kept tables as one result."""
    draws = np.stack([np.stack(chain.path) for chain in chains])
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat, ess = split_rhat(draws), effective_sample_size(draws)
    if (np.nan_to_num(rhat) > HIGH).any():
        warnings.warn(
            f"The chains disagree about the mask's coefficients (R-hat {np.nanmax(rhat):.2f}); raise warmup and thin of"
            " pg.Mechanism, or look at imputed.mechanism: the data may hardly tell them.",
            ConvergenceWarning,
            stacklevel=4,
        )
    holes = (~table.known).any(1)
    moved = np.where(holes, np.mean([chain.moved / max(chain.sweeps, 1) for chain in chains], 0), np.nan)
    learnt = MechanismFit(
        mask.mechanism, tuple(mask.terms), draws, np.stack([c for chain in chains for _, _, c in chain.held]),
        rhat, ess, moved, sum(chain.failed for chain in chains),
    )  # fmt: skip
    held = [entry for chain in chains for entry in chain.held]
    return MaskedImputations(
        table, tuple(entry[0] for entry in held), tuple(entry[1] for entry in held), "bootstrap", seed,
        plan.options, plan.reason, mechanism=learnt, mask_model=mask,
    )  # fmt: skip


class Chain:
    """One chain of data augmentation.

    Attributes:
        values: ``(N, D)``, completed.
        fit: the model with its present parameters.
        coefficients: of the mask, one array a target.
        held: (table, fit, coefficients) of the kept sweeps.
        path: coefficients of all sweeps after the warm-up.
    """

    def __init__(self, table: Table, begin: Fit, mask: MaskModel, seed: int) -> None:
        self.table, self.fit, self.mask, self.seed = table, begin, mask, seed
        self.unknown = ~table.known
        self.weights = np.ones(len(table)) if table.weights is None else table.weights
        self.rng = np.random.default_rng(seed)
        self.values = begin.fill(table, 1, seed=seed_of(seed, "start") % 2**62)[0].values.copy()
        self.coefficients = mask.start(self.unknown)
        self.held: list[tuple[Table, Fit, np.ndarray]] = []
        self.path: list[np.ndarray] = []
        self.moved, self.sweeps, self.failed = np.zeros(len(table)), 0, 0

    def sweep(self, keep: bool) -> None:
        """Cells, then the mask's coefficients, then the model's parameters."""
        self.sweeps += 1
        seed = seed_of(self.seed, "cells", self.sweeps)
        self.moved += moved_cells(
            self.fit, self.mask, self.coefficients, self.table, self.values, self.rng, seed, self.sweeps
        )
        self.coefficients = self.mask.redraw(self.values, self.unknown, self.weights, self.coefficients, self.rng)
        self.refit()
        if keep:
            self.path.append(np.concatenate(self.coefficients))

    def refit(self) -> None:
        """Parameters from the completed rows with random weights, climbed to from where they are."""
        rows = reweighed(self.table.with_values(self.values.copy()), self.rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                outcome = run(
                    self.fit.program, rows, self.fit.standardiser, method="em", start=self.fit.posterior.theta(),
                    max_steps=CLIMB, restarts=1, progress=False, dtype=self.fit.dtype, device=self.fit.device,
                )  # fmt: skip
            except FitError:
                self.failed += 1
                return
        self.fit = replace(self.fit, posterior=outcome.posterior)

    def hold(self) -> None:
        """Keep the table as it is, after one more move of its cells with the parameters it is kept with."""
        seed = seed_of(self.seed, "kept", self.sweeps)
        moved_cells(self.fit, self.mask, self.coefficients, self.table, self.values, self.rng, seed, self.sweeps)
        kept = self.table.with_values(self.values.copy())
        self.held.append((kept, with_own_program(self.fit), np.concatenate(self.coefficients)))


def with_own_program(one: Fit) -> Fit:
    """The same fit with a program of its own: refits move what a program has learnt beside its parameters."""
    program = type(one.program)(one.schema, **one.program.options)
    program.to(device=one.device, dtype=one.dtype)
    program.load_state_dict(one.program.state_dict())
    return replace(one, program=program.eval())


def filled_rows(one: Fit, mask: MaskModel, coefficients: Sequence[np.ndarray], rows: Table, seed: int) -> Table:
    """Rows completed with given parameters, by sweeps over their unknown cells."""
    values = one.fill(rows, 1, seed=seed % 2**62)[0].values.copy()
    rng = np.random.default_rng(seed)
    for sweep in range(SETTLE):
        moved_cells(one, mask, coefficients, rows, values, rng, seed_of(seed, "settle", sweep), sweep)
    return rows.with_values(values)


def split(mask: MaskModel, coefficients: np.ndarray) -> list[np.ndarray]:
    """One array a target."""
    return np.split(coefficients, np.cumsum([1 + len(design) for design in mask.designs])[:-1])


def blocks(mask: MaskModel, unknown: np.ndarray, sweep: int) -> list[np.ndarray]:
    """Columns that move together: those on which the mask does not depend, each other one alone, and now and then all."""
    holed = np.flatnonzero(unknown.any(0))
    alone, rest = np.intersect1d(holed, mask.entering), np.setdiff1d(holed, mask.entering)
    together = len(holed) > 1 and sweep % TOGETHER == 0
    return [*([holed] if together else []), *([rest] if len(rest) else []), *alone[:, None]]


def moved_cells(
    one: Fit,
    mask: MaskModel,
    coefficients: Sequence[np.ndarray],
    table: Table,
    values: np.ndarray,
    rng: np.random.Generator,
    seed: int,
    sweep: int,
) -> np.ndarray:
    """One sweep over the unknown cells, in place; returns which rows changed ``(N,)``."""
    before, unknown = values.copy(), ~table.known
    for number, columns in enumerate(blocks(mask, unknown, sweep)):
        rows = np.flatnonzero(unknown[:, columns].any(1))
        hidden = np.zeros((len(rows), values.shape[1]), dtype=bool)
        hidden[:, columns] = unknown[rows][:, columns]
        holed = table.take(rows).with_values(np.where(hidden, np.nan, values[rows]))
        free = not np.isin(columns, mask.entering).any()
        fresh = one.fill(holed, 1 if free else mask.mechanism.candidates - 1, seed=seed_of(seed, number) % 2**62)
        if free:
            values[rows] = fresh[0].values
            continue
        offered = np.stack([values[rows], *(table.values for table in fresh)])  # (candidates, rows, D)
        scores = mask.log_prob(offered, unknown[rows], coefficients)
        chosen = np.argmax(scores + rng.gumbel(size=scores.shape), axis=0)
        values[rows] = offered[chosen, np.arange(len(rows))]
    return (values != before).any(1)
