"""Imputations in sentences: what was done, whether to trust it, and what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.report.page import percent
from probgen.studies.imputed_values import agreement
from probgen.studies.planning import UNCERTAINTIES

if TYPE_CHECKING:
    from probgen.report.imputation import Findings
    from probgen.studies.multiple_imputation import Imputations

__all__ = ["cautions", "notes", "summary"]

SHIFT = 0.25  # standard deviations between known and imputed cells of equal propensity that are worth a word
MANY = 0.5  # share of a column
APART = 0.5  # standard deviations (or share of a level) between known and imputed cells
MOST_NAMED = 6


def names(columns: Sequence[str]) -> str:
    """Some of them, and how many more."""
    rest = len(columns) - MOST_NAMED
    return ", ".join(map(str, columns[:MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def summary(found: Findings) -> list[str]:
    """What was done, and the verdict."""
    table, imputed = found.imputed.table, found.imputed
    unknown = int((~table.known).sum())
    if unknown == 0:
        return ["Every cell is known: there was nothing to impute, and all tables are equal to the one that came in."]
    incomplete = [record["column"] for record in found.columns if record["unknown"]]
    complete, stay = int(table.known.all(1).sum()), unknown - sum(record["imputed"] for record in found.columns)
    lines = [
        f"{unknown:,} of {table.known.size:,} cells ({percent(unknown / table.known.size)}) were unknown, in"
        f" {len(incomplete)} of {table.n_columns} columns ({names(incomplete)}). {complete:,} of {table.n_rows:,} rows were"
        " complete.",
        *(
            [f"{counted(stay, 'cell')} of them stay missing in some imputation or in all, as the design says."]
            if stay
            else []
        ),
        f"{'Each unknown cell' if stay == 0 else 'Each of the others'} was drawn {counted(imputed.m, 'time')} given the rest of its"
        f" row, by {imputed.fits[0].name}; parameters: {UNCERTAINTIES.get(imputed.uncertainty, imputed.uncertainty)}.",
        *asked_beside(imputed),
        *hidden_cells(found),
        *answers(found),
    ]
    return [*lines, verdict(found)]


def asked_beside(imputed: Imputations) -> list[str]:
    """Design, mechanism and shift in a sentence each."""
    learnt, shift = getattr(imputed, "mechanism", None), getattr(imputed, "shift", None)
    lines = ["All completed tables keep a design, which stands below."] if imputed.design is not None else []
    if learnt is not None:
        lines.append(
            f"Cells were not taken for missing at random: which are unknown was modelled together with what they are ({learnt.mechanism.form})."
        )
    if shift is not None:
        lines.append(f"What was drawn was then moved away from what the model expects: {shift}.")
    return lines


def counted(n: int, what: str) -> str:
    """A number and its noun."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def hidden_cells(found: Findings) -> list[str]:
    """Overimputation in a sentence."""
    if found.overimputed is None:
        return []
    numbers = [record for record in found.overimputed.columns if "coverage95" in record]
    labels = [record for record in found.overimputed.columns if "accuracy" in record]
    told = []
    if numbers:
        cells = [record["cells"] for record in numbers]
        inside = {key: np.average([r[key] for r in numbers], weights=cells) for key in ("coverage50", "coverage95")}
        told.append(
            f"{percent(inside['coverage50'])} of the numbers lay in their 50 % intervals and {percent(inside['coverage95'])} in their 95 %"
            " intervals"
        )
    if labels:
        cells = [record["cells"] for record in labels]
        right = np.average([record["accuracy"] for record in labels], weights=cells)
        told.append(f"{percent(right)} of the labels were the one drawn most often")
    hidden = len(found.overimputed.cells)
    return [f"{hidden:,} known cells were hidden and imputed as if they were missing: {' and '.join(told)}."]


def answers(found: Findings) -> list[str]:
    """What the holes cost the analyses."""
    lines = []
    for name, pooled in found.pooled.items():
        if pooled.m < 2:
            continue
        at = int(np.nanargmax(pooled.fmi))
        lines.append(
            f"{name}: the holes cost most for {pooled.names[at]}, {percent(pooled.fmi[at])} of the information;"
            f" standard errors repeat within 5 % from {pooled.imputations_needed()} imputations on."
        )
    return lines


def verdict(found: Findings) -> str:
    """Whether to trust it."""
    wrong = cautions(found)
    if not found.imputed.proper:
        return "Do not read intervals off these tables: all have the same parameters, which makes pooled intervals too short."
    if wrong:
        return f"{counted(len(wrong), 'thing').capitalize()} below should be looked at before the tables are analysed."
    checked = (
        ""
        if found.overimputed is not None
        else " Overimputation (pg.overimpute) would say more; it was not asked for."
    )
    return f"Nothing stands out against these imputations.{checked}"


# ----------------------------------------------------------------------------------------------------- what stands out
def cautions(found: Findings) -> list[str]:
    """Sentences about what may be wrong; none where nothing stands out."""
    if found.imputed.table.known.all():
        return []
    return [
        *properness(found),
        *outside(found),
        *chains(found),
        *shifts(found),
        *overimputed(found),
        *fits(found),
        *few(found),
    ]


def properness(found: Findings) -> list[str]:
    """Parameters without uncertainty, and one imputation."""
    lines = []
    if not found.imputed.proper:
        lines.append(
            "Proper: no. All tables were drawn with one estimate of the parameters (uncertainty='none'), as if it were certain."
        )
    if found.imputed.m == 1:
        lines.append("There is one imputation: what the holes cost cannot be told from it. Ask for 20.")
    return lines


def few(found: Findings) -> list[str]:
    """Imputations too few for what was asked."""
    lines = []
    for name, pooled in found.pooled.items():
        if 1 < pooled.m < pooled.imputations_needed(0.1):
            lines.append(
                f"{name}: with {pooled.m} imputations standard errors may change by more than a tenth when it is all done again;"
                f" {pooled.imputations_needed(0.1)} would do."
            )
    return lines


def outside(found: Findings) -> list[str]:
    """Imputed numbers beyond all known ones, more than chance puts there, or below zero where none is known."""
    lines = []
    for record in found.columns:
        if "outside" not in record:
            continue
        column, chance = found.imputed.table.schema[record["column"]], by_chance(record["known"], record["imputed"])
        low, high = record["known_range"]
        told = f"in {record['outside']:.0f} of {counted(record['imputed'], 'cell')} (mean over imputations"
        if low >= 0 > record["imputed_range"][0] and column.kind == "real":
            lines.append(
                f"Imputed values of {column.name} go below zero, to {record['imputed_range'][0]:g}; known ones do not."
            )
        elif record["outside"] > chance + 3 * np.sqrt(chance + chance**2 / 2):
            ends = f"{shown(low, column.kind)} to {shown(high, column.kind)}"
            lines.append(
                f"Imputed values of {column.name} lie outside the observed range ({ends}) {told}; chance would put"
                f" {chance:.1f} there). Is that possible? Bounds or another kind of column would keep them inside."
            )
    return lines


def by_chance(known: int, unknown: int) -> float:
    """Cells outside the range of the known ones if all came from one law: each is an extreme of known + 1 with equal chance."""
    return 2 * unknown / (known + 1)


def shown(value: float, kind: str) -> str:
    """A number, or a day."""
    return str(np.datetime64(round(value), "D")) if kind == "datetime" else f"{value:g}"


def chains(found: Findings) -> list[str]:
    """Chains that do not agree."""
    agreed = {name: agreement(series, len(found.chains)) for name, series in found.chains.items()}
    bad = sorted((name for name, one in agreed.items() if not one.settled), key=lambda name: -agreed[name].rhat)
    if not bad:
        return []
    return [
        f"Chains do not agree on {names([f'{n} (R-hat {agreed[n].rhat:.2f})' for n in bad])}: more sweeps are needed."
    ]


def shifts(found: Findings) -> list[str]:
    """Imputed and known cells that differ at the same propensity."""
    lines = []
    for name, one in found.propensities.items():
        if found.imputed.table.schema[name].is_discrete:
            continue
        if abs(one.shift) > max(SHIFT, 3 * one.shift_error):
            lines.append(
                f"Imputed values of {name} are {abs(one.shift):.2f} standard deviations {'above' if one.shift > 0 else 'below'}"
                " known ones in rows that were as likely to miss it. If cells are missing at random, the model bends a relation."
            )
    return lines


def overimputed(found: Findings) -> list[str]:
    """Columns whose hidden cells were not what was drawn for them."""
    if found.overimputed is None:
        return []
    lines = []
    for record in found.overimputed.columns:
        if record["says"]:
            told = inside(record) if "coverage50" in record else shares(record)
            lines.append(f"Hidden cells of {record['column']}: imputations are {record['says']} ({told}).")
    return lines


def inside(record: dict[str, Any]) -> str:
    return f"{percent(record['coverage50'])} lie in 50 % intervals, {percent(record['coverage95'])} in 95 % intervals"


def shares(record: dict[str, Any]) -> str:
    return f"levels that came true had a share of {record['confidence']:.2f}, expected {record['expected']:.2f}"


def fits(found: Findings) -> list[str]:
    """Fits that had not settled, and rows of which nothing is known."""
    loose = sum(fit.diagnostics.get("converged") is False for fit in found.imputed.fits)
    lines = [f"{counted(loose, 'fit')} had not converged when fitting ended; more steps may help."] if loose else []
    blank = int((~found.imputed.table.known.any(1)).sum())
    if blank:
        lines.append(f"{counted(blank, 'row')} had no known cell: what was drawn for them is a new row of the model.")
    return lines


def notes(found: Findings) -> list[str]:
    """What is no fault but good to know."""
    lines = []
    many = [r["column"] for r in found.columns if r["imputed"] > MANY * (r["imputed"] + r["known"])]
    if many:
        lines.append(
            f"More than half of {names(many)} is imputed: what is found there is the model's more than the data's."
        )
    apart = [r["column"] for r in found.columns if abs(r.get("distance", 0)) > limit_of(r)]
    if apart:
        lines.append(
            f"Imputed cells of {names(apart)} differ much from known ones. That is right where rows that lack them differ; the"
            " propensity figures compare like with like."
        )
    return lines


def limit_of(record: dict[str, Any]) -> float:
    """Numbers differ in standard deviations; shares of levels by chance too where few are imputed."""
    return APART if "known_mean" in record else max(0.15, 2 / np.sqrt(max(record["imputed"], 1)))
