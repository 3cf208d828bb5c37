r"""Multiple imputation (Rubin, 1987) with any model that can fill a table.

Unknown cells are drawn from

.. math:: p(x_{mis} \mid x_{obs}) = \int p(x_{mis} \mid x_{obs}, \theta) \, p(\theta \mid x_{obs}) \, d\theta

m times: each completed table has parameters of its own, so that analyses of the tables differ by as much as the unknown
cells leave open. Where the parameters come from is one choice, the model is another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.data.native import stacked
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, ProbgenError
from probgen.inference.runtime import seed_of
from probgen.program import Model
from probgen.queries import Fit
from probgen.studies.planning import UNCERTAINTIES, Plan, planned
from probgen.studies.worlds import completed, drawn, worlds
from probgen.whole import check_whole

if TYPE_CHECKING:
    from probgen.studies.design import Design
    from probgen.studies.prepared import Prepared

__all__ = ["UNCERTAINTIES", "Imputations", "impute"]


@dataclass(frozen=True, eq=False)
class Imputations(Sequence[Table]):
    """M completed tables, and the m parameters that they were drawn with.

    Attributes:
        table: as it was, with its holes.
        tables: the completed ones; known cells have the bits that they had.
        fits: one fit with m draws of the parameters, or m fits.
        uncertainty: where the parameters come from, one of ``UNCERTAINTIES``.
        seed: of everything.
        settings: options of the model and of the method.
        choice: why this model, where ``model="auto"`` chose it.
        prepared: the table under its design: what it says of cells (``limits``), cells moved to a bound (``squeezed``), and the
            groups' intercepts (``levels``).
    """

    table: Table
    tables: tuple[Table, ...]
    fits: tuple[Fit, ...]
    uncertainty: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    choice: str = ""
    prepared: Prepared | None = None

    @property
    def design(self) -> Design | None:
        """What had to hold, as it was given."""
        return None if self.prepared is None else self.prepared.design

    @property
    def m(self) -> int:
        """The number of imputations."""
        return len(self.tables)

    @property
    def proper(self) -> bool:
        """True where the parameters differ from table to table as the data leave open."""
        return self.uncertainty != "none"

    def __len__(self) -> int:
        return len(self.tables)

    def __getitem__(self, number: Any) -> Any:
        return self.tables[number]

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(m={self.m}, model={self.fits[0].name!r}, uncertainty={self.uncertainty!r})"

    def __str__(self) -> str:
        head = f"{'column':<20}{'kind':<16}{'unknown':>8}{'share':>8}"
        lines = [repr(self), *([self.choice] if self.choice else []), head]
        unknown = (~self.table.known).sum(0)
        for column, count in zip(self.table.schema, unknown, strict=True):
            lines.append(f"{column.name:<20}{column.kind:<16}{count:>8}{count / max(len(self.table), 1):>8.1%}")
        return "\n".join(lines)

    def transform(self, rows: Any) -> tuple[Table, ...]:
        """New rows completed in the same m worlds: imputation i has the parameters of table i.

        Args:
            rows: a table with the same columns; patterns of holes may be new.
        """
        if self.prepared is not None:
            from probgen.studies.designed import transform_designed

            return transform_designed(self, rows)
        return tuple(drawn(self.fits, self.fits[0].read(rows), self.m, seed_of(self.seed, "transform") % 2**62))

    def shifted(self, delta: Mapping[str, Any], *, scale: str = "units", given: str = "known") -> Imputations:
        r"""The same imputations with draws of some columns moved away from what the model expects: delta adjustment.

        Delta is the difference between unknown and known cells that is left when what else is known of their rows is the
        same (a conditional sensitivity parameter). Known cells stay. Other unknown cells of a moved row are drawn anew
        given the moved one, with the parameters of their table; rows that do not move keep their bits.

        Args:
            delta: name of a column -> shift: a number, or one a row. Columns move in this order, each given those before it.
                Of a categorical column: level -> log odds.
            scale: "units" of the column (days of dates), "sd" (standard deviations of its known cells), "factor" (columns
                without negative numbers), or "log_odds" (of the second level of a binary column, of each level against the one
                below of an ordinal one, of the named levels of a categorical one).
            given: what is the same on both sides: "known", the known cells of the row; or "row", the whole row, as in
                NARFCS, where the cells that follow the moved one in turn move it further.

        Raises:
            DataError: an unknown column or one without holes, a delta that is no number, a draw moved out of its support.
            CapabilityError: a scale that the column does not have.

        Reference: Rubin (1977); van Buuren (2018), section 3.8; Tompsett et al. (2018).
        """
        from probgen.studies.shifts import shifted

        return shifted(self, delta, scale, given)

    def analyse(self, analysis: Callable[[Any], Any] | str, **options: Any) -> list[Any]:
        """The same analysis of every completed table, for :func:`probgen.pool`.

        Args:
            analysis: a function of one data frame (of the kind that the table was made of, else pandas), or a formula such as
                "bmi ~ age + C(sex)" for statsmodels.
            **options: of the formula: ``family`` ("gaussian" is least squares, "binomial", "poisson", "gamma"), ``weights`` (a
                column of sampling weights), and keywords of the model's ``fit``.

        Raises:
            DataError: the analysis failed; says of which imputation.
        """
        run = by_formula(analysis, **options) if isinstance(analysis, str) else analysis
        found = []
        for number, table in enumerate(self.tables):
            try:
                found.append(run(frame_of(table)))
            except ProbgenError:
                raise
            except Exception as error:
                raise DataError(
                    f"The analysis of imputation {number} failed: {type(error).__name__}: {error}"
                ) from error
        return found

    def report(self, path: str | os.PathLike, analyses: Any = None, **options: Any) -> Path:
        """One HTML page: what was missing, what was imputed, whether to trust it, and the pooled answers.

        Args:
            path: of the file; nothing is overwritten unasked.
            analyses: one analysis as for :meth:`analyse`, several, or name -> analysis; what was pooled already may be among them.
            **options: ``overimputed`` and ``comparison``, of :func:`probgen.overimpute` and
                :func:`probgen.compare_imputations`, to be shown too; ``title``; ``overwrite``.

        Raises:
            DataError: the file exists, or there is no folder for it.
        """
        from probgen.report import write_imputations

        return write_imputations(self, path, analyses, **options)

    def to_pandas(self, include_original: bool = False) -> Any:
        """All tables one below the other: columns ``.imp`` (0 is the original one) and ``.id`` in front."""
        frames = {number: table.to_pandas() for number, table in enumerate(self.tables, 1)}
        if include_original:
            frames = {0: self.table.to_pandas(), **frames}
        return stacked(frames)


def frame_of(table: Table) -> Any:
    """The data frame that a person's analysis expects: the kind that the table was made of, where that was one."""
    native = table.to_native()
    return native if hasattr(native, "columns") and hasattr(native, "dtypes") else table.to_pandas()


def impute(
    table: Any,
    model: str | Model | type[Model] = "auto",
    *,
    m: int = 20,
    uncertainty: str | None = None,
    seed: int = 0,
    progress: bool = True,
    design: Design | None = None,
    mechanism: Any = None,
    **options: Any,
) -> Imputations:
    """Complete a table m times, with parameters that differ as the data leave open.

    Args:
        table: a Table, or anything a Table can be made of.
        model: a name from :func:`probgen.available`, or a Model; "auto" is chained equations with products of columns (one
            column alone is drawn from its own distribution). What the analysis looks for, the model should be able to hold:
            relations between columns above all.
        m: number of completed tables.
        uncertainty: where the parameters come from: "bootstrap" (refits with random row weights), "posterior" (draws by
            chained equations, Gibbs sampling or Hamiltonian chains), "laplace", "ensemble" (refits by the model's own method
            to rows with random weights), or "none" (one estimate: improper). Where None, the first of bootstrap, posterior and
            ensemble that the model can have.
        seed: of all draws; the result does not depend on the number of processes.
        progress: whether to show bars.
        design: what must hold in every completed table: derived columns, bounds, rules, cells that do not apply, ...
        mechanism: how cells get lost, where that depends on what they would have shown: "self_masking", "logistic" or a
            :class:`probgen.Mechanism`. None: at random, given what is known.
        **options: of the model and of the method.

    Raises:
        CapabilityError: the model cannot be fitted in this way, or cannot fill, or options contradict each other.
        DataError: a column has no known cell, ...

    Example:
        >>> import numpy as np
        >>> a, noise = np.random.default_rng(0).normal(size=(2, 60))
        >>> b = np.where(np.arange(60) < 20, np.nan, a + noise)
        >>> imputed = impute({"a": a, "b": b}, m=3, progress=False)
        >>> len(imputed), imputed.proper, bool(imputed[0].known.all())
        (3, True, True)

    Reference: Rubin (1987); van Buuren (2018).
    """
    check_asked(m, uncertainty, design, mechanism)
    if design is not None:
        from probgen.studies.designed import impute_designed

        return impute_designed(table, design, model, int(m), uncertainty, seed, progress, options)
    rows = table if isinstance(table, Table) else Table(table)
    plan = planned(model, int(m), uncertainty, options, rows.n_columns, masked=mechanism is not None)
    told = rows if rows.lengths is not None else rows.take(np.flatnonzero(rows.known.any(1)))
    told.check_for_fit()
    if mechanism is not None:
        return not_at_random(rows, plan, mechanism, int(m), seed, progress)
    fits = worlds(plan.model, told, int(m), plan.uncertainty, seed, progress, plan.options)
    tables = tuple(completed(fits, rows, told, int(m), seed_of(seed, "impute") % 2**62))
    return Imputations(rows, tables, fits, plan.uncertainty, seed, plan.options, plan.reason)


def check_asked(m: Any, uncertainty: str | None, design: Any, mechanism: Any) -> None:
    """Refuse what is no number of tables, no source of parameters, or cannot be had together."""
    if design is not None and mechanism is not None:
        raise CapabilityError("A mechanism and a design do not go together; name one of them.")
    check_whole("m, the number of imputations,", m)
    if uncertainty is not None and uncertainty not in UNCERTAINTIES:
        raise CapabilityError(f"uncertainty must be one of {', '.join(UNCERTAINTIES)}, got {uncertainty!r}.")


def not_at_random(rows: Table, plan: Plan, mechanism: Any, m: int, seed: int, progress: bool) -> Imputations:
    """With a model of the mask."""
    from probgen.studies.mask_mechanism import Mechanism
    from probgen.studies.not_at_random import impute_not_at_random

    asked = mechanism if isinstance(mechanism, Mechanism) else Mechanism(mechanism)
    return impute_not_at_random(rows, plan, asked, m, seed, progress)


# ------------------------------------------------------------------------------------------------------- formulas
def by_formula(
    formula: str, family: str = "gaussian", weights: str | None = None, **options: Any
) -> Callable[[Any], Any]:
    """A statsmodels regression as a function of a data frame; weighted ones have a sandwich covariance."""
    try:
        import statsmodels.api
        import statsmodels.formula.api as models
    except ImportError as error:
        raise CapabilityError(
            "Formulas are fitted by statsmodels; pip install statsmodels, or give a function."
        ) from error
    families = {
        "binomial": statsmodels.api.families.Binomial,
        "poisson": statsmodels.api.families.Poisson,
        "gamma": statsmodels.api.families.Gamma,
    }
    if family not in ("gaussian", *families):
        raise CapabilityError(f"family must be gaussian, {', '.join(families)}, got {family!r}.")

    def run(frame: Any) -> Any:
        data = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
        given = {} if weights is None else {"weights" if family == "gaussian" else "var_weights": data[weights]}
        settings = {**({} if weights is None else {"cov_type": "HC1"}), **options}
        if family == "gaussian":
            return (models.wls if given else models.ols)(formula, data, **given).fit(**settings)
        return models.glm(formula, data, family=families[family](), **given).fit(**settings)

    return run
