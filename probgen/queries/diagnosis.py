"""Whether to trust posterior draws: a table of all parameters, and a verdict in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from probgen.inference import diagnostics
from probgen.inference.fit import find_method
from probgen.inference.pareto import GOOD_ENOUGH
from probgen.queries.draws import Variable, variables
from probgen.queries.labels import matched
from probgen.queries.reading import aligned

__all__ = ["Diagnosis", "diagnose"]

LARGEST_RHAT = 1.01
FEWEST_EFFECTIVE = 400.0
LOWEST_ENERGY_FRACTION = 0.3
SWITCHED, SORTED = 1.1, 1.05  # R-hat of labels that switched, before and after sorting
QUANTILES = (0.05, 0.5, 0.95)
LINES = 20
ALONE = "The draws do not depend on each other: there is no chain of them to judge."
COLUMNS = ("mean", "sd", "q5", "median", "q95", "mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "rhat")


@dataclass(frozen=True)
class Diagnosis:
    """Of the draws of one fit.

    Attributes:
        names: of all scalar parameters, with the labels of their axes.
        numbers: column -> one number a parameter: mean, sd, quantiles, Monte Carlo errors of mean and sd, effective sample
            sizes of bulk and tails, R-hat. NaN where there is nothing to judge, as for a parameter that never moves.
        problems: what is wrong, a sentence each.
        notes: what else is worth knowing.
    """

    names: tuple[str, ...]
    numbers: dict[str, np.ndarray]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """True where no check failed."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In words."""
        return " ".join([*(self.problems or (self.praise(),)), *self.notes])

    def praise(self) -> str:
        rhat, size = self.numbers["rhat"], np.fmin(self.numbers["ess_bulk"], self.numbers["ess_tail"])
        if not np.isfinite(rhat).any():
            return f"{len(self.names)} parameters." if self.notes else "There is nothing to judge."
        return (
            f"Chains agree (R-hat at most {np.nanmax(rhat):.3f}), with at least {np.nanmin(size):.0f} effective draws of every"
            " parameter: nothing speaks against trusting them."
        )

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a parameter, for a frame."""
        return [
            {"parameter": name, **{key: float(self.numbers[key][at]) for key in COLUMNS}}
            for at, name in enumerate(self.names)
        ]

    def table(self, most: int = LINES) -> list[str]:
        """Aligned lines; where there are too many parameters, those with the largest R-hat."""
        shown = np.arange(len(self.names))
        if len(shown) > most:
            shown = np.sort(np.argsort(-np.nan_to_num(self.numbers["rhat"], nan=-1.0), kind="stable")[:most])
        body = [[self.names[at], *(cell(key, self.numbers[key][at]) for key in COLUMNS)] for at in shown]
        rest = len(self.names) - len(shown)
        return aligned([["", *COLUMNS], *body]) + ([f"... {rest} more, with smaller R-hat"] if rest else [])

    def __str__(self) -> str:
        return "\n".join([*self.table(), "", self.verdict])


def cell(key: str, value: float) -> str:
    """A number as a table shows it."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.0f}" if key.startswith("ess") else f"{value:.3f}" if key == "rhat" else f"{value:.3g}"


def diagnose(fit: Any, superchains: int | None = None) -> Diagnosis:
    """The table and the verdict of one fit; labels of exchangeable components are matched first."""
    if fit.posterior.point:
        empty = {key: np.empty(0) for key in COLUMNS}
        return Diagnosis((), empty, (f"{fit.method} gave a point estimate, which does not say how sure it is.",), ())
    independent = find_method(fit.method).independent
    of_one_label = fit if independent else matched(fit)
    found = variables(of_one_label)
    names = tuple(name for key, variable in found.items() for name in scalars(key, variable))
    x = np.concatenate([v.values.reshape(*v.values.shape[:2], -1).astype(float) for v in found.values()], -1)
    numbers = measured(x, superchains)
    if independent:
        return Diagnosis(names, {**numbers, "rhat": np.full(len(names), np.nan)}, tuple(of_agreement(fit)), (ALONE,))
    notes = (
        () if of_one_label is fit else ("Labels of hidden values had switched; they were matched before this table.",)
    )
    problems = [*of_chains(names, numbers, x), *of_labels(fit, found, numbers["rhat"]), *of_sampler(fit)]
    return Diagnosis(names, numbers, tuple(problems), (*notes, *of_approximation(fit)))


def scalars(key: str, variable: Variable) -> Iterator[str]:
    """Names of a parameter's elements."""
    dims, shape = variable.dims[2:], variable.values.shape[2:]
    labels = [variable.coords.get(dim, range(size)) for dim, size in zip(dims, shape, strict=True)]
    for place in product(*labels):
        yield f"{key}[{', '.join(map(str, place))}]" if place else key


def measured(x: np.ndarray, superchains: int | None) -> dict[str, np.ndarray]:
    """All columns of the table for ``(chains, draws, P)``."""
    flat = x.reshape(-1, x.shape[-1])
    low, middle, high = np.quantile(flat, QUANTILES, axis=0)
    rhat = diagnostics.split_rhat(x) if superchains is None else diagnostics.nested_rhat(x, superchains)
    moves = np.ptp(flat, axis=0) > 0
    sizes = [diagnostics.effective_sample_size(x), diagnostics.tail_effective_sample_size(x)]
    columns = [
        flat.mean(0), flat.std(0, ddof=1), low, middle, high, diagnostics.mean_error(x), diagnostics.sd_error(x),
        *(np.where(moves, size, np.nan) for size in sizes), rhat,
    ]  # fmt: skip
    return dict(zip(COLUMNS, columns, strict=True))


# ------------------------------------------------------------------------------------------------------------- the checks
def of_chains(names: tuple[str, ...], numbers: dict[str, np.ndarray], x: np.ndarray) -> Iterator[str]:
    """Agreement of chains, and how many draws there effectively are."""
    rhat, size = numbers["rhat"], np.fmin(numbers["ess_bulk"], numbers["ess_tail"])
    if not np.isfinite(rhat).any():
        if x.shape[1] < diagnostics.FEWEST_DRAWS:
            yield f"{x.shape[1]} draws a chain are too few to judge; draw more."
        return
    worst = int(np.nanargmax(rhat))
    if rhat[worst] > LARGEST_RHAT:
        many = int((rhat > LARGEST_RHAT).sum())
        others = f" (and {many - 1} more parameters are above {LARGEST_RHAT})" if many > 1 else ""
        yield f"R-hat of {names[worst]!r} is {rhat[worst]:.3f}{others}: chains disagree; run longer or reparametrise."
    least = int(np.nanargmin(size))
    if size[least] < FEWEST_EFFECTIVE:
        yield (
            f"Only {size[least]:.0f} effective draws of {names[least]!r}, fewer than {FEWEST_EFFECTIVE:.0f}: its quantiles and"
            " R-hat itself are rough; run longer."
        )


def of_agreement(fit: Any) -> Iterator[str]:
    """Of independent draws that are the ends of short chains: how far these agreed."""
    if fit.diagnostics.get("unsettled"):
        yield fit.diagnostics["unsettled"]


def of_labels(fit: Any, found: dict[str, Variable], rhat: np.ndarray) -> Iterator[str]:
    """Sites of a user's program whose chains agree once their elements are sorted."""
    at = 0
    for name, variable in found.items():
        many = int(np.prod(variable.values.shape[2:], initial=1))
        own, at = rhat[at : at + many], at + many
        if variable.values.ndim != 3 or name not in fit.posterior.sites or not np.nanmax(own, initial=0.0) > SWITCHED:
            continue
        if np.nanmax(diagnostics.split_rhat(np.sort(variable.values, 2))) < SORTED:
            yield (
                f"Chains agree on {name!r} once its elements are sorted: labels have switched. Summarise"
                " pg.match_labels(draws, axes), or give the site an ordered support."
            )


def of_sampler(fit: Any) -> Iterator[str]:
    """Divergences and energies."""
    statistics = fit.posterior.statistics
    if "diverging" in statistics:
        divergent, total = int(statistics["diverging"].sum()), len(fit.posterior)
    else:
        divergent, total = int(fit.diagnostics.get("divergences", 0)), len(fit.posterior)
    if divergent:
        yield (
            f"{divergent} of {total} transitions diverged: part of the posterior may be missing; raise target_acceptance or"
            " reparametrise (non-centred)."
        )
    if "energy" in statistics:
        fraction = float(np.nanmin(diagnostics.energy_fraction(statistics["energy"].cpu().numpy())))
        if fraction < LOWEST_ENERGY_FRACTION:
            yield f"E-BFMI is {fraction:.2f}, below {LOWEST_ENERGY_FRACTION}: tails are badly explored; reparametrise."
    shape = pareto_shape(fit)
    if shape is not None and not shape <= GOOD_ENOUGH:
        yield (
            f"Pareto k-hat of the approximation is {shape:.2f}, above {GOOD_ENOUGH}: it is far from the posterior; use a richer"
            " guide, or method='nuts'."
        )


def pareto_shape(fit: Any) -> float | None:
    """Of the importance weights from an approximation to the posterior, where the method measured it."""
    return next((float(fit.diagnostics[key]) for key in ("khat", "pareto_k") if key in fit.diagnostics), None)


def of_approximation(fit: Any) -> Iterator[str]:
    """What R-hat cannot see."""
    if find_method(fit.method).approximates:
        shape = pareto_shape(fit)
        known = "its k-hat was not measured" if shape is None else f"its k-hat is {shape:.2f}"
        yield f"The draws come from an approximation to the posterior, of which R-hat says nothing; {known}."
