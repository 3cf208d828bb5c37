"""What a careful reader of a study should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probgen.inference.pareto import GOOD_ENOUGH

if TYPE_CHECKING:
    from probgen.studies.main_study import Study

__all__ = ["caveats"]

FEW_ROWS = 50
HEAP = 0.1  # share of a continuous column on one value


def caveats(study: Study) -> list[str]:
    """Sentences; none where there is nothing to say."""
    return [*kinds(study), *shapes(study), *rows(study), *heaps(study), *convergence(study), *choice(study)]


def kinds(study: Study) -> list[str]:
    """Densities that are not exact."""
    density = study.density
    found = []
    for name, errors in zip(density.models, density.standard_error, strict=True):
        kind = density.kind[name]
        error = float(np.sqrt(np.square(errors).sum()) / len(errors))
        if kind == "lower_bound":
            found.append(f"The log density of {name} is a lower bound; the true value is higher.")
        elif kind != "exact":
            found.append(
                f"The log density of {name} is an estimate ({kind}); its mean has a Monte-Carlo error of"
                f" {error:.2g} nats a row, and such estimates err downwards."
            )
    return found


def shapes(study: Study) -> list[str]:
    """Rows whose importance weights cannot be trusted."""
    found = []
    for name, k_hat in study.density.k_hat.items():
        far = int((k_hat > GOOD_ENOUGH).sum())
        if far:
            found.append(
                f"Pareto's k-hat of the importance weights of {name} is above {GOOD_ENOUGH} in {far} of {len(k_hat)} held-out rows:"
                " their log densities are too low by more than their errors say. Score them again with more draws, with the"
                " guide of each row improved (fit.log_prob(rows, refine=100), probgen score --refine 100), or with"
                " method='annealed'."
            )
    return found


def rows(study: Study) -> list[str]:
    """Few rows, rows with few known cells, and rows without any density."""
    found = []
    if len(study.test) < FEW_ROWS:
        found.append(f"Only {len(study.test)} rows were held out: differences are uncertain, and so are their errors.")
    sparse = int((study.test.known.mean(1) < 0.5).sum())
    if sparse:
        found.append(
            f"Held-out rows with fewer than half of their cells known: {sparse}. A row is scored by its known cells"
            " alone, so its log density cannot be compared with that of a full row."
        )
    for name, values in zip(study.density.models, study.density.log_prob, strict=True):
        impossible = int((~np.isfinite(values)).sum())
        if impossible:
            found.append(f"{name} calls {impossible} held-out rows impossible; its mean is minus infinity.")
    return found


def heaps(study: Study) -> list[str]:
    """Continuous columns with many equal values, where a density can grow without bound."""
    heaped = []
    for place, column in enumerate(study.table.schema):
        known = study.table.values[study.table.known[:, place], place]
        continuous = column.kind in ("real", "positive", "bounded") and len(known) > 0
        if continuous and np.unique(known, return_counts=True)[1].max() > HEAP * len(known):
            heaped.append(column.name)
    if not heaped:
        return []
    return [
        f"More than a tenth of {', '.join(heaped)} sits on one value. A continuous density can be made as high as one"
        " likes there; consider another kind for such a column."
    ]


def convergence(study: Study) -> list[str]:
    """Fits that had not settled."""
    loose = [name for name, fit in study.fits.items() if fit.diagnostics.get("converged") is False]
    return [f"Not converged when fitting ended: {', '.join(loose)}. More steps may help."] if loose else []


def choice(study: Study) -> list[str]:
    """The best of several is flattered."""
    if len(study.density.models) < 2:
        return []
    return ["The best model was picked by the same held-out rows that give its score, which flatters it a little."]
