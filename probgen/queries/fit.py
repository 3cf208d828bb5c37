"""Fit a program, and ask the result: every question is "given what is known, what about the rest?"."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probgen.data.batches import PIECE_ROWS, Batches, Standardiser, moments_of, total_weight
from probgen.data.parts import Part
from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError
from probgen.estimate import Estimate
from probgen.inference.communication import communicator
from probgen.inference.fit import IN_NATS, Outcome, find_method, methods_of, run, units_offset
from probgen.inference.posterior import Posterior
from probgen.inference.programs import users_data
from probgen.inference.runtime import seeded, setting
from probgen.program import Model, Traits, UserProgram, accepted_options, find
from probgen.whole import is_whole

if TYPE_CHECKING:
    from probgen.queries.answers import Answer
    from probgen.queries.criteria import Criteria
    from probgen.queries.diagnosis import Diagnosis

__all__ = ["Fit", "fit"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted program and its verbs. The same object whatever the method was.

    Attributes:
        program: the model, with its networks' weights.
        schema: the columns it was fitted to.
        posterior: draws ``[chain, draw, ...]`` of its parameters; a point estimate is 1 x 1 and says so.
        history: numbers of every step, in nats a row.
        diagnostics: what a careful reader should know.
        provenance: versions, seed, data fingerprint, command.
        memory: expected statistics of the rows seen, for :meth:`partial_fit`.
    """

    program: Model
    schema: Schema
    standardiser: Standardiser | None
    posterior: Posterior
    method: str
    history: dict[str, list[float]]
    diagnostics: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    dtype: Any
    device: Any
    settings: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The model's registry name."""
        return self.program.name

    @property
    def traits(self) -> Traits:
        return self.program.traits

    # -- the verbs ---------------------------------------------------------------------------------------------
    def log_prob(
        self,
        table: Any,
        *,
        draws: int | None = None,
        seed: int = 0,
        method: str = "auto",
        refine: int = 0,
        temperatures: int = 200,
        progress: bool = True,
    ) -> Estimate:
        """Log density of the known cells of every row, in nats and in the original units of the data.

        Args:
            table: rows with the columns of the schema; unknown cells are integrated out.
            draws: importance draws a row, for models whose density is an integral (200), chains a row of annealing (16), or
                particles a sequence (100).
            seed: of these draws.
            method: of models with a guide for their latents: "importance", which "auto" is for them; "lower_bound", the
                evidence lower bound; "annealed", chains from the guide to the posterior (Neal, 2001); or, of states of
                sequences, "particles", eight particle filters with the guide as proposal (Maddison et al., 2017).
            refine: steps by which each row's guide is improved first.
            temperatures: steps of the path of annealing.
            progress: show a bar, of annealing.

        Warns:
            ConvergenceWarning: rows whose importance weights have a Pareto shape above 0.7.
        """
        from probgen.queries.log_prob import log_prob, tell

        found = log_prob(
            self, self.read(table), draws=draws, seed=seed, method=method, refine=refine, temperatures=temperatures,
            progress=progress,
        )  # fmt: skip
        tell(found, self.name)
        return found

    def fill(self, table: Any, draws: int = 20, *, seed: int = 0, refine: int = 0, sweeps: int = 0) -> list[Table]:
        """``draws`` completed tables, each drawn given the known cells, which keep their bits.

        Args:
            table: with holes.
            draws: how many.
            seed: of all draws.
            refine: as for :meth:`log_prob`.
            sweeps: of Metropolis within Gibbs over latents and unknown cells, after each draw of a model with a guide
                (Mattei and Frellsen, 2018).
        """
        from probgen.queries.fill import fill

        return fill(self, self.read(table), draws, seed, refine=refine, sweeps=sweeps)

    def marginals(self, table: Any, *, draws: int = 200, seed: int = 0, refine: int = 0, sweeps: int = 0) -> Any:
        """For each unknown cell: mean, standard deviation, quantiles; probabilities for discrete columns.

        Args:
            table: with holes.
            draws: of each cell.
            seed: of all draws.
            refine, sweeps: as for :meth:`fill`; the densities that probabilities come from are refined, too.
        """
        from probgen.queries.marginals import marginals

        return marginals(self, self.read(table), draws, seed, refine, sweeps)

    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        given: Mapping[str, Any] | None = None,
        do: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Table:
        """N new rows: a table with nothing known, filled.

        Args:
            n: number of rows.
            steps: n new sequences of that many rows.
            given: observed values by column; the rest is drawn given them.
            do: values set by intervention, which say nothing of their causes (networks only).
            seed: of all draws.
        """
        from probgen.queries.fill import sample, sample_given

        if any(known is not None and len(known) for known in (given, do)):
            return sample_given(self, n, given, do, seed)
        return sample(self, n, steps, seed)

    # -- networks ----------------------------------------------------------------------------------------------
    def query(
        self,
        targets: str | Iterable[str] | None = None,
        given: Mapping[str, Any] | None = None,
        *,
        do: Mapping[str, Any] | None = None,
        soft: Mapping[str, Any] | None = None,
        joint: bool = False,
        method: str = "exact",
        draws: int = 4000,
        seed: int = 0,
    ) -> Answer:
        """What is known of some columns (or hidden nodes) given others: probabilities of states, moments of numbers.

        Args:
            targets: one or several names; all that are not given where None.
            given: observed values by name: a dictionary, or a row of a data frame.
            do: values set by intervention, which say nothing of their causes (networks only).
            soft: likelihoods of the states of nodes that were seen unclearly (virtual evidence), ``{node: {state: weight}}``
                (networks only).
            joint: also the table of all discrete targets together.
            method: "exact", "importance" (likelihood weighting) or "gibbs" (discrete networks too wide to sum).
            draws: for approximate methods, and for moments of continuous targets; at least 2.
            seed: of these draws.

        Raises:
            CapabilityError: a name that there is not, a target that is given, a network too wide for memory.
            DataError: a state that there is not, an unknown number, or evidence of probability zero.
        """
        from probgen.queries.query import ask

        return ask(self, targets, given, do=do, soft=soft, joint=joint, method=method, draws=draws, seed=seed)

    def most_probable(self, what: Any, targets: Iterable[str] | None = None, beams: int = 8) -> Any:
        """The most probable states of all unknown nodes together, given the known ones (not each node's own best).

        Of several draws of the tables, their mean counts. A model that says a row cell by cell is searched: the so many best beginnings of a row
        are kept while it is written (Lowerre, 1976). What is found is mostly more probable than the greedy choice of one beam, and may miss the best.

        Args:
            what: a table, whose unknown cells are filled with them; or a dictionary of given values, for which the states
                come back by name.
            targets: of a dictionary's question, the nodes that are asked for; the others are summed out.
            beams: of the search.

        Raises:
            CapabilityError: the model is no network of discrete nodes and does not say rows cell by cell, or it is too wide for memory; known cells
                that have probability zero.
        """
        from probgen.queries.most_probable import most_probable

        return most_probable(self, what, targets, beams)

    def entropy(self, nodes: str | Iterable[str], given: Mapping[str, Any] | None = None) -> float:
        """Entropy of discrete nodes together, in nats, given what is known."""
        from probgen.queries.query import entropy

        return entropy(self, nodes, given)

    def mutual_information(
        self, one: str | Iterable[str], other: str | Iterable[str], given: Mapping[str, Any] | None = None
    ) -> float:
        """How much two sets of discrete nodes say of each other, in nats, given what is known."""
        from probgen.queries.query import mutual_information

        return mutual_information(self, one, other, given)

    # -- sequences ---------------------------------------------------------------------------------------------
    def filter(self, table: Any) -> np.ndarray:
        """``(N, K)``: each step's hidden state given the steps up to it, probabilities or means; ``embed`` smooths."""
        from probgen.queries.sequences import filter_states

        return filter_states(self, self.read(table))

    def viterbi(self, table: Any) -> np.ndarray:
        """``(N,)``: codes of the most probable path of hidden states (Viterbi, 1967)."""
        from probgen.queries.sequences import viterbi

        return viterbi(self, self.read(table))

    def forecast(self, table: Any, steps: int, *, draws: int = 200, seed: int = 0) -> Any:
        """Marginals of the ``steps`` rows after each sequence: means, standard deviations, quantiles."""
        from probgen.queries.sequences import forecast

        return forecast(self, self.read(table), steps, draws, seed)

    def embed(self, table: Any, *, refine: int = 0, seed: int = 0) -> np.ndarray:
        """``(N, L)``: the posterior of the local latents of each row.

        Args:
            table: the rows.
            refine: as for :meth:`log_prob`.
            seed: of refining.
        """
        from probgen.queries.embed import embed

        return embed(self, self.read(table), refine, seed)

    def decode(self, z: np.ndarray, lengths: Any = None) -> Table:
        """The centre of every column given latent values ``(N, L)``.

        Args:
            z: the values.
            lengths: of the sequences that the rows are steps of, for models that remember the steps before; rows stand alone
                where None.
        """
        from probgen.queries.embed import decode

        return decode(self, z, lengths)

    def partial_fit(self, table: Any, *, remember: float | None = None) -> Fit:
        """This fit, moved on by one step of online EM on new rows (Cappé and Moulines, 2009).

        Args:
            table: new rows (sequences); the standardisation stays that of the first fit.
            remember: rows' worth of the past that counts from now on; None for all of it.

        Raises:
            CapabilityError: the fit keeps no statistics (its method is not "em", or its families' are not additive).
        """
        from probgen.queries.partial import partial_fit

        return partial_fit(self, self.read(table), remember)

    # -- how good, how sure ------------------------------------------------------------------------------------
    def criteria(self, table: Any) -> Criteria:
        """Log-likelihood, number of free parameters, and the criteria made of them: AIC, BIC, ICL; smaller is better.

        Args:
            table: the rows that the model was fitted to.

        Raises:
            CapabilityError: the density is not exact, or the fit is no point estimate.
        """
        from probgen.queries.criteria import criteria

        return criteria(self, self.read(table))

    def standard_errors(self, table: Any) -> dict[str, dict[str, np.ndarray]]:
        """Standard errors of :meth:`parameters`, with the same keys, shapes and (model) coordinates.

        From the observed information at the fitted point, the prior's included where the fit had one, and the delta
        method. NaN, with a warning, where the data (and the prior) do not determine a parameter.

        Args:
            table: the rows that the model was fitted to.

        Raises:
            CapabilityError: the density is not exact, or the fit is no point estimate.
        """
        from probgen.queries.standard_errors import standard_errors

        return standard_errors(self, self.read(table))

    # -- keeping and reading -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """One file of tensors and JSON; nothing in it can run code."""
        from probgen.queries.persistence import save

        save(self, Path(path), overwrite)

    def compress(self, data: Any, path: str | os.PathLike, *, rows: int = 2**14, overwrite: bool = False) -> int:
        """A table as a file of nearly ``-log2 p`` bits, which :func:`probgen.decompress` reads with this fit.

        Columns of the model are coded given those before them, each number at the precision it is stored with; holes are coded too. Columns that
        the model does not know, or could not give back bit for bit, are kept beside by the best of zlib, bz2 and lzma.

        Args:
            data: a pandas data frame, or a :class:`Table`.
            path: of the file.
            rows: of a block, which can be read without the others.
            overwrite: replace a file that exists.

        Returns:
            the size of the file in bytes.

        Raises:
            CapabilityError: the model has no exact density of rows.
            DataError: the file exists, or cells cannot be given back as they are.
        """
        from probgen.queries.compression.verbs import compress

        return compress(self, data, path, rows=rows, overwrite=overwrite)

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        """Copies and pickles hold the bytes of :meth:`save`'s file, and are read as that file is."""
        from probgen.queries.persistence import from_bytes, to_bytes

        return from_bytes, (to_bytes(self),)

    def to_arviz(self, data: Any = None, *, draws: int = 400, prior_draws: int = 200, seed: int = 0) -> Any:
        """The posterior as ArviZ's InferenceData (0.x) or DataTree (1.x); a point estimate is one chain of one draw.

        Args:
            data: the rows it was fitted to (the data of a user's own program). Adds the groups ``log_likelihood`` (exact
                log evidence of each row; of each observed element in users' programs), ``posterior_predictive``,
                ``prior``, ``prior_predictive``, ``observed_data`` and ``constant_data``.
            draws: at most so many evenly spaced draws are used for the first two.
            prior_draws: draws of the prior.
            seed: of all replicated data.
        """
        from probgen.queries.arviz import to_arviz

        return to_arviz(self, data, draws=draws, prior_draws=prior_draws, seed=seed)

    def diagnose(self, *, superchains: int | None = None) -> Diagnosis:
        """Means, spreads, Monte Carlo errors and R-hat of all parameters, and in words whether to trust them.

        Labels of exchangeable components (states) are matched between draws first.

        Args:
            superchains: of many short chains, the number of groups that started together, next to each other: R-hat is then
                the nested one (Margossian et al., 2022).
        """
        from probgen.queries.diagnosis import diagnose

        return diagnose(self, superchains)

    def matched_labels(self) -> Fit:
        """This fit with the labels of every draw's components (states) matched to those of one draw.

        For summaries of parameters. What can be predicted does not depend on labels. Models without exchangeable labels come
        back as they are; :func:`probgen.match_labels` is for users' programs.
        """
        from probgen.queries.labels import matched

        return matched(self)

    def parameters(self, draw: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """Readable parameters of each family for one posterior draw, in model coordinates."""
        from probgen.queries.reading import described

        return described(self, draw)

    def summary(self) -> str:
        """A few lines a person reads."""
        from probgen.queries.reading import summary

        return summary(self)

    def __repr__(self) -> str:
        head = f"Fit({self.name!r}, method={self.method!r}"
        objective = self.history.get("objective")
        if not objective:
            return f"{head})"
        unit = " nats a row" if self.in_nats else ""
        return f"{head}, objective={objective[-1]:.4f}{unit}, seconds={self.seconds:.1f})"

    @property
    def in_nats(self) -> bool:
        """Whether the objective that was raised is a log density a row."""
        given = self.method == "given"  # by nobody's training
        return self.program.in_nats and (given or find_method(self.method).in_nats)

    # -- for the verbs -----------------------------------------------------------------------------------------
    def read(self, table: Any) -> Table:
        """Anything tabular as a table with this fit's columns."""
        if self.standardiser is None:
            raise CapabilityError(
                f"{self.name!r} is a program over your own data, not over a table; use fit.posterior or fit.to_arviz()."
            )
        if (
            isinstance(table, Table)
            and table.schema.names == self.schema.names
            and same_coding(table.schema, self.schema)
        ):
            check_inputs(self.program, table)
            return table
        made: Any = Table.from_text if self.schema.text is not None and is_text(table) else Table
        if isinstance(table, Mapping) and has_parts(table, self.schema):
            made = Table.from_parts
        read = made(table, schema=self.schema)
        check_inputs(self.program, read)
        return read

    def batches(self, table: Any, rows: int) -> Batches:
        """The table as tensors of at most ``rows`` rows."""
        assert self.standardiser is not None
        return Batches(table, self.standardiser, rows=rows, dtype=self.dtype, device=self.device, schema=self.schema)

    def users_data(self, data: Any) -> Any:
        """The argument of a user's own program as it was while it was fitted: tensors of this fit's dtype and device."""
        return users_data(data, self.dtype, self.device)

    def setting(self) -> Any:
        """Default dtype and device of this fit."""
        return setting(self.dtype, self.device)


def is_text(data: Any) -> bool:
    """A string, or a list of them."""
    return isinstance(data, str) or (isinstance(data, list) and any(isinstance(text, str) for text in data))


def has_parts(data: Mapping[str, Any], schema: Schema) -> bool:
    """Texts, sounds or pictures, or the other columns of a schema that has such."""
    given = any(isinstance(part, Part) for part in data.values())
    return given or (bool(schema.groups) and not any(name in data for group in schema.groups for name in group.names))


def same_coding(one: Schema, other: Schema) -> bool:
    """True where codes mean the same levels in both."""
    return all(a.kind == b.kind and a.levels == b.levels for a, b in zip(one, other, strict=True))


def fit(model: str | Model | type[Model], data: Any, *, method: str = "auto", seed: int = 0, **options: Any) -> Fit:
    """Fit a model to data.

    Args:
        model: a name from :func:`probgen.available`, a Model, or ``program(model_fn, guide_fn)``.
        data: a Table, anything a Table can be made of, a parquet folder, or the argument of a user's own program.
        method: "auto" (the model's own choice), "em", "online_em", "map", "svi" or "nuts".
        seed: all random numbers come from it.
        **options: of the model (``components``, ``covariance``, ``latent``, ``hidden``, ``prior``, ...) and of the
            method (``max_steps``, ``tolerance``, ``restarts``, ``batch_size``, ``learning_rate``, ``objective``,
            ``device``, ``dtype``, ``progress``, ``checkpoint``, ``callback``, ...).

    Raises:
        DataError: the table cannot be fitted (empty, a constant column, a row with nothing known, ...).
        CapabilityError: an unknown name or option, or a method that the model does not support.
        FitError: the numerics failed, with the remedy.
    """
    if isinstance(model, UserProgram):
        outcome = run(model, data, None, method=method, seed=seed, **options)
        return finished(outcome, None, {"seed": seed})
    source = data if hasattr(data, "pieces") else Table(data)
    if hasattr(source, "check_for_fit"):
        source.check_for_fit()
    program, rest = build(model, source, seed, options)
    check_size(program, source)
    check_inputs(program, source)
    standardiser = of_counted_rows(program, source, standardiser_of(source))
    outcome = run(program, source, standardiser, method=method, seed=seed, **rest)
    fingerprint = source.fingerprint() if hasattr(source, "fingerprint") else None
    return finished(
        outcome, standardiser, {"seed": seed, "data": fingerprint, "rows": len(source), "weight": total_weight(source)}
    )


def standardiser_of(source: Any) -> Standardiser:
    """The standardiser of all rows; of a folder every process reads some pieces, and their moments are added in order."""
    processes = communicator()
    if processes.size == 1 or not hasattr(source, "between"):
        return Standardiser.of(source)
    pieces = range(0, len(source), PIECE_ROWS)
    sums = torch.zeros(len(pieces), 3, len(source.schema), dtype=torch.float64)
    for number in range(processes.rank, len(pieces), processes.size):
        rows = source.between(pieces[number], min(pieces[number] + PIECE_ROWS, len(source)))
        sums[number] = torch.from_numpy(moments_of(next(rows.pieces(PIECE_ROWS))))
    return Standardiser.from_moments(source, sum(processes.all_reduce(sums).numpy()))


def of_counted_rows(program: Model, source: Any, standardiser: Standardiser) -> Standardiser:
    """The standardiser with the mean log Jacobian of the rows whose density counts."""
    if type(program).counted is Model.counted or not hasattr(source, "values"):
        return standardiser
    counted = program.counted(Batches(source, standardiser).batch(source))
    if counted is None:
        return standardiser
    cells = source.known & counted.cpu().numpy()[:, None] & standardiser.continuous
    share = np.average(cells, axis=0, weights=source.row_weights)
    return replace(standardiser, offsets=-share * np.log(standardiser.scale))


def build(
    model: str | Model | type[Model], source: Any, seed: int, options: dict[str, Any]
) -> tuple[Model, dict[str, Any]]:
    """The program, and the options that are not its own."""
    schema = told_holes(source)
    if isinstance(model, Model):
        if model.schema.names != schema.names:
            raise CapabilityError(
                f"The model was built for columns {list(model.schema.names)}, the table has {list(schema.names)}."
            )
        return model, options
    cls = find(model) if isinstance(model, str) else model
    names = accepted_options(cls)
    settings = {"max_steps", "tolerance", "restarts", "validation_fraction", "device", "dtype", "progress"}
    settings |= {"checkpoint", "checkpoint_seconds", "callback"}
    settings |= {key for method in methods_of(cls) for key in find_method(method).defaults}
    unknown = sorted(set(options) - set(names) - settings)
    if unknown:
        near = get_close_matches(unknown[0], [*names, *settings], 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CapabilityError(
            f"{cls.__module__.rsplit('.', 1)[-1]!r} has no option {', '.join(map(repr, unknown))}.{hint}"
            f" Its own: {', '.join(names) or 'none'}; of the fit: {', '.join(sorted(settings))}."
        )
    options = cls.settle_options(source, options, seed)
    with seeded(seed, "networks"):
        program = cls(schema, **{key: value for key, value in options.items() if key in names})
    return program, {key: value for key, value in options.items() if key not in names}


def told_holes(source: Any) -> Schema:
    """The schema of a source, columns with unknown cells marked as incomplete whether it said so or not."""
    if not isinstance(source, Table):
        return source.schema
    holed = np.flatnonzero(~source.known.all(axis=0))
    return source.schema.with_holes([source.schema.names[at] for at in holed])


def check_inputs(program: Model, table: Any) -> None:
    """Columns that are conditioned on have to be known in every row."""
    for name in program.inputs:
        if not hasattr(table, "values"):
            raise CapabilityError(f"{program.name!r} with inputs needs a table in memory.")
        unknown = np.nonzero(np.isnan(table.values[:, table.schema.index(name)]))[0]
        if len(unknown):
            raise DataError(
                f"Column {name!r} is an input of {program.name!r} and unknown in row {int(unknown[0])}; inputs have to be"
                " known. Fill it first, or model it by leaving it out of inputs."
            )


def check_size(program: Model, source: Any) -> None:
    """Refuse a table smaller than the number of components."""
    components = program.options.get("components")
    if is_whole(components) and not program.traits.sequences and len(source) < components:
        raise FitError(
            f"{program.name!r} with components={components} needs at least {components} rows, the table has {len(source)};"
            " use fewer components."
        )


def finished(outcome: Outcome, standardiser: Standardiser | None, origin: dict[str, Any]) -> Fit:
    outcome.program.eval()
    provenance = {
        **origin,
        "versions": versions(),
        "command": " ".join(Path(part).name for part in sys.argv[:1]) + " " + " ".join(sys.argv[1:]),
    }
    offset = units_offset(outcome.program, standardiser, find_method(outcome.method))
    history = {key: shifted(values, key, offset) for key, values in outcome.history.items()}
    diagnostics = {key: in_units(value, key, offset) for key, value in outcome.diagnostics.items()}
    return Fit(
        outcome.program, outcome.program.schema, standardiser, outcome.posterior, outcome.method, history,
        diagnostics, provenance, outcome.seconds, outcome.dtype, outcome.device, outcome.options, outcome.memory,
    )  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Of what a fit was made with."""
    found = {name: version(name) for name in ("torch", "pyro-ppl", "numpy")}
    return {"probgen": version("probgen"), "python": platform.python_version(), **found}


def shifted(values: list[float], key: str, offset: float) -> list[float]:
    """Numbers in nats a row, from model coordinates to the data's own units."""
    return [value + offset for value in values] if key in IN_NATS else values


def in_units(told: Any, key: str, offset: float) -> Any:
    """A diagnostic; the scores among them likewise."""
    if key == "restarts":
        return [score + offset for score in told]
    return told + offset if key == "best_validation" and told is not None else told
