"""The command line: the verbs of the Python functions, one command each.

Nothing heavy is imported before a command runs, so that ``probgen --help`` answers at once.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import probgen as pg
from probgen.errors import CapabilityError, DataError, ProbgenError, ProbgenWarning

if TYPE_CHECKING:
    from probgen.data.streams import ParquetFolder
    from probgen.data.table import Table
    from probgen.queries.fit import Fit

__all__ = ["main"]

WRITERS = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 2 after an error that the user can mend; 1 after one that we have to.
    """
    with silence():
        given = parser().parse_args(arguments)
        return carry_out(given)


def carry_out(given: argparse.Namespace) -> int:
    """The command of these arguments, with its errors in one line."""
    try:
        with warnings.catch_warnings():
            announce_warnings(given.debug)
            given.command(given)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except (ProbgenError, OSError) as error:
        if given.debug:
            raise
        return fail(f"error: {error}", 2)
    except Exception as error:
        if given.debug:
            raise
        return fail(f"internal error (see --debug): {type(error).__name__}: {error}", 1)
    return 0


def leading() -> bool:
    """True in the one process that prints and writes: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed by processes that do not lead."""
    if leading():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        yield


def fail(message: str, status: int) -> int:
    """Of several processes the one that fails first tells its error, whichever it is."""
    if "RANK" not in os.environ:
        return complain(message, status)
    from probgen.inference.communication import first_to_fail, told_failure

    if first_to_fail():
        with redirect_stderr(sys.__stderr__):
            complain(message, status)
            sys.stderr.flush()
        told_failure()
    return status


def complain(message: str, status: int) -> int:
    """One line on the error stream."""
    print("probgen:", " ".join(message.split()), file=sys.stderr)
    return status


def announce_warnings(debug: bool) -> None:
    """The library's own warnings as one line each; other libraries' only when debugging."""
    if debug:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ProbgenWarning)
    warnings.showwarning = one_line_warning


def one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Replaces the two lines, with a place in our code, that Python prints."""
    complain(f"warning: {message}", 0)


# ---------------------------------------------------------------------------------------- commands
def study(given: argparse.Namespace) -> None:
    """Compare models on a table and write a report."""
    from probgen import report
    from probgen.studies import main_study

    out = Path(given.out)
    if out.exists() and leading():
        main_study.prepared(out, given.force)
    found = main_study.study(
        in_memory(open_table(given)),
        target=given.target,
        models=names_in(given.models),
        seed=given.seed,
        fast=given.fast,
        progress=not given.quiet,
        represent=embedders(given),
        measures=given.measures,
    )
    if not leading():
        return
    folder = found.save(out, force=given.force)
    page = report.write(found, folder / "report.html")
    print("\n".join(found.summary))
    print(page)


def embedders(given: argparse.Namespace) -> list[str] | None:
    """Models of --represent; where it names none, those of --models that embed rows, or else some that do."""
    if given.represent is None:
        return None
    if given.represent:
        return names_in(given.represent)
    from probgen.program import find
    from probgen.studies.main_study import EMBEDDERS
    from probgen.studies.models import GROUPS

    named = [name for name in names_in(given.models) or () if name not in GROUPS]
    return [name for name in named or EMBEDDERS if find(name).traits.embedding != "none"]


def fit(given: argparse.Namespace) -> None:
    """Fit a model to a table and save it."""
    if is_saved(given.model):
        raise CapabilityError(f"{given.model} is a saved model; `fit` takes the name of a model.")
    refuse_overwriting(given.out, given.force)
    fitted = model_for(given, open_table(given))
    save(fitted, given)
    print(fitted.summary())
    print(given.out)


def score(given: argparse.Namespace) -> None:
    """Log density of every row, in nats and in the data's own units."""
    refuse_overwriting(given.out, given.force)
    table, fitted = table_and_model(given)
    asked = {"draws": given.draws, "refine": given.refine, "method": given.density}
    found = fitted.log_prob(table, **scoring(fitted, {k: v for k, v in asked.items() if v is not None}, given))
    told = {"log_prob": found.value, "standard_error": found.standard_error, "k_hat": found.k_hat}
    columns = {name: values for name, values in told.items() if values is not None}
    write_columns(columns, given.out)
    complain(f"{len(table)} rows, mean {found.mean()}", 0)


def scoring(fitted: Any, asked: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """How a density is estimated; that of an ensemble is exact."""
    if isinstance(fitted, pg.Fit):
        return {**asked, "seed": given.seed, "progress": not given.quiet}
    if asked:
        raise CapabilityError("The density of an ensemble is exact: leave --draws, --refine and --density out.")
    return {}


def impute(given: argparse.Namespace) -> None:
    """Fill the holes; known cells stay as they are."""
    given.out = given.out or beside(given.table, "imputed", WRITERS)
    paths = numbered(given.out, given.draws)
    for path in paths:
        check_ending(path)
        refuse_overwriting(path, given.force)
    if given.sequence is not None or given.time is not None:
        raise CapabilityError("impute writes rows that stand alone; fill sequences in Python, with fit.fill.")
    if given.report is not None:
        given.report = given.report or beside(given.table, "imputations", (".html",))
        if Path(given.report).suffix not in (".html", ".htm"):
            raise DataError(f"--report {given.report!r}: a page's name ends in .html; put the table before --report.")
        refuse_overwriting(given.report, given.force)
        if is_saved(given.model) or given.method != "auto":
            raise CapabilityError("--report goes with the name of a model, without --method.")
    table, tables = completed(given)
    for path, filled in zip(paths, tables):
        write_filled(filled, table, path, given)
        print(path)
    if given.report is not None:
        report_on(tables, given)


def report_on(imputed: Any, given: argparse.Namespace) -> None:
    """The page about imputations, with known cells hidden to see how they are found again."""
    how = {
        "uncertainty": imputed.uncertainty,
        "seed": given.seed,
        "progress": not given.quiet,
        **dict(map(option, given.set)),
    }
    try:
        folds = 5 if len(imputed.table) < 200 else None  # a tenth of a small table tells nothing
        hidden = pg.overimpute(imputed.table, given.model, folds=folds, **how)
    except ProbgenError as error:
        complain(f"warning: the report goes without hidden cells. {error}", 0)
        hidden = None
    if leading():
        print(imputed.report(given.report, overimputed=hidden, overwrite=given.force, title=Path(given.table).name))


def completed(given: argparse.Namespace) -> tuple[Table, Sequence[Table]]:
    """The table, and what fills it: a saved model or a stated method as they are, else parameters of every table's own."""
    if is_saved(given.model) or given.method != "auto":
        return filled_as_it_is(given)
    imputed = pg.impute(
        in_memory(open_table(given)),
        given.model,
        m=given.draws,
        uncertainty=given.uncertainty,
        seed=given.seed,
        progress=not given.quiet,
        **dict(map(option, given.set)),
    )
    return imputed.table, imputed


def filled_as_it_is(given: argparse.Namespace) -> tuple[Table, Sequence[Table]]:
    """Completed with the one fit that there is."""
    if given.uncertainty is not None:
        raise CapabilityError("--uncertainty goes with the name of a model, without --method.")
    if given.model == "auto":
        raise CapabilityError(
            f"--method {given.method} needs a model: name one by --model (probgen models), or leave out --method."
        )
    table, fitted = table_and_model(given)
    if given.draws > 1 and fitted.posterior.point:
        complain("warning: all tables have the same parameters, so that pooled intervals will be too short.", 0)
    return table, fitted.fill(table, draws=given.draws, seed=given.seed)


def sample(given: argparse.Namespace) -> None:
    """New rows drawn from a model."""
    check_ending(given.out)
    refuse_overwriting(given.out, given.force)
    if is_saved(given.model):
        fitted = pg.load(given.model)
    elif given.table is None:
        raise DataError(
            f"There is no saved model {given.model!r}. "
            "Give a file made by `probgen fit`, or a table to fit the model to."
        )
    else:
        fitted = model_for(given, open_table(given))
    write_table(fitted.sample(given.rows, seed=given.seed), given.out)
    print(given.out)


def write(given: argparse.Namespace) -> None:
    """Texts that go on from how they begin, drawn from a saved model of text."""
    fitted = pg.load(given.model)
    how = {"draws": given.draws, "temperature": given.temperature, "top_k": given.top_k, "top_p": given.top_p}
    for text in pg.continue_text(fitted, given.prompt, given.length, seed=given.seed, **how):
        print(text)


def compare(given: argparse.Namespace) -> None:
    """Rank many models of a table by held-out log density, within a time."""
    from probgen import report

    table = in_memory(open_table(given))
    test = None if given.test is None else pg.read_table(given.test, schema=table.schema, columns=list(table.names))
    found = pg.compare(
        table,
        names_in(given.models) or "all",
        test=test,
        target=given.target,
        minutes=given.minutes,
        workers=given.workers,
        halve=given.halve,
        folds=given.folds,
        seed=given.seed,
        folder=given.out,
        progress=not given.quiet,
        **dict(map(option, given.set)),
    )
    print(found)
    if given.out is not None:
        print(report.write_comparison(found, Path(given.out) / "report.html"))


def compare_samples(given: argparse.Namespace) -> None:
    """Compare rows that a model drew with real ones: distances, a classifier, precision and recall."""
    real = in_memory(open_table(given))
    drawn = in_memory(pg.read_table(given.drawn, schema=real.schema, columns=list(real.names)))
    found = pg.compare_samples(real, drawn, measures=names_in(given.measures), seed=given.seed)
    print(json.dumps(found.records(), indent=1) if given.json else found)


def embed(given: argparse.Namespace) -> None:
    """Coordinates of every row in the model's latent space."""
    refuse_overwriting(given.out, given.force)
    table, fitted = table_and_model(given)
    latent = fitted.embed(table)  # (N, L)
    write_columns({f"z{i + 1}": latent[:, i] for i in range(latent.shape[1])}, given.out)


def compress(given: argparse.Namespace) -> None:
    """Store a table in a file of few bits, by a saved model of it."""
    from probgen.data.reading import read_frame

    given.out = given.out or f"{Path(given.table).stem}.pgz"
    refuse_overwriting(given.out, given.force)
    place = Path(given.table)
    if not place.is_file():
        raise DataError(f"There is no file {place}; check the path.")
    size = pg.load(given.model).compress(read_frame(place), given.out, rows=given.rows, overwrite=given.force)
    complain(f"{place.stat().st_size} bytes became {size}", 0)
    print(given.out)


def decompress(given: argparse.Namespace) -> None:
    """Write the table of a file that compress made, by the same model."""
    check_ending(given.out)
    refuse_overwriting(given.out, given.force)
    frame = pg.decompress(given.file, pg.load(given.model))
    frame = frame.to_pandas() if isinstance(frame, pg.Table) else frame
    if Path(given.out).suffix == ".parquet":
        frame.to_parquet(given.out)  # with the labels of rows
    else:
        WRITERS[Path(given.out).suffix](frame.reset_index() if any(frame.index.names) else frame, given.out)
    print(given.out)


def browse(given: argparse.Namespace) -> None:
    """A page to drag in a model's latent space and see the sample change."""
    from probgen.report import latent_browser

    given.out = given.out or beside(given.table, "latent", (".html",))
    refuse_overwriting(given.out, given.force)
    table, fitted = table_and_model(given)
    if given.colour is not None and given.colour not in table.names:  # a column that the model does not know
        table = in_memory(open_table(given))
    shape = None if given.shape is None else numbers_in(given.shape)
    print(latent_browser(fitted, table, given.out, given.colour, shape, given.points, overwrite=given.force))


def numbers_in(text: str) -> tuple[int, ...]:
    """Sizes of a picture.

    Example:
        >>> numbers_in("28,28"), numbers_in("8x8")
        ((28, 28), (8, 8))
    """
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise DataError(f"--shape is height,width or height,width,3, such as 28,28; got {text!r}.") from None


def query(given: argparse.Namespace) -> None:
    """What is known of the nodes of a network, or the columns of a saved model, given others."""
    fitted = pg.load(given.model) if given.model.endswith(".probgen") else pg.read_network(given.model)
    known, forced = dict(map(assignment, given.given)), dict(map(assignment, given.do))
    targets = names_in(given.target)
    if given.most_probable:
        if forced or given.joint or given.method != "exact":
            raise ProbgenError("--most-probable goes with -g and -t, not with --do, --joint or --method.")
        states = fitted.most_probable(known, targets)
        return print(json.dumps(states, default=str) if given.json else shown_states(states))
    answer = fitted.query(
        targets,
        known,
        do=forced,
        joint=given.joint,
        method=given.method,
        draws=given.draws,
        seed=given.seed,
    )
    return print(json.dumps(answer.records(), indent=1, default=str) if given.json else answer)


def shown_states(states: Mapping[str, Any]) -> str:
    """A line for each node."""
    return "\n".join(f"{node} = {state}" for node, state in states.items())


def assignment(text: str) -> tuple[str, str]:
    """``node=state``, or a number, as it is written: the node's kind decides what it stands for.

    Example:
        >>> assignment("Xray=yes"), assignment("code=01")
        (('Xray', 'yes'), ('code', '01'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ProbgenError(f"What is given is written node=state, such as Xray=yes; it got {text!r}.")
    return name, value


def select(given: argparse.Namespace) -> None:
    """Fit a model with several values of one option and choose the best."""
    refuse_overwriting(given.out, given.force)
    grid = dict(several(text) for text in given.over)
    grid |= {name: choices(value) for name in SHORT if (value := getattr(given, name)) is not None}
    found = pg.select(
        given.model,
        in_memory(open_table(given)),
        criterion=given.criterion,
        seed=given.seed,
        folds=given.folds,
        progress=not given.quiet,
        **{**dict(map(option, given.set)), **grid},
    )
    print(found)
    if given.out is not None:
        save(found.fit, given)
        print(given.out)


def models(given: argparse.Namespace) -> None:
    """What models there are; or one of them with its options."""
    if given.name is not None:
        return describe_model(given.name)
    known = pg.available()
    if given.json:
        return print(json.dumps({name: vars(traits) for name, traits in known.items()}, indent=2))
    width = max(map(len, known))
    for name, traits in known.items():
        print(f"{name:{width}}  {traits.density:14}  {traits.summary}")
    return None


def describe_model(name: str) -> None:
    """A model's summary, ways of fitting and options."""
    from probgen.inference.fit import methods_of
    from probgen.program import find

    model = find(name)
    print(f"{name}: {model.traits.summary}")
    print(f"  density    {model.traits.density}")
    print(f"  methods    {', '.join(methods_of(model))}")
    print(f"  embedding  {model.traits.embedding}")
    for option in list(inspect.signature(model.__init__).parameters.values())[2:]:
        print(f"  --set {option.name}={json.dumps(option.default)}")


def schema(given: argparse.Namespace) -> None:
    """The kind of every column and why it was chosen."""
    refuse_overwriting(given.out, given.force)
    found = open_table(given).schema
    print(found.explain())
    if given.out is not None and leading():
        Path(given.out).write_text(found.to_json(), encoding="utf-8")
        print(given.out)


# ------------------------------------------------------------------------------- tables and models
def open_table(given: argparse.Namespace, known: Any = None) -> Table | ParquetFolder:
    """The table a command is about: a file, or the name of a packaged or local data set."""
    from probgen.data import datasets

    if known is None and given.schema is not None:
        known = pg.Schema.from_json(Path(given.schema).read_text(encoding="utf-8"))
    if not Path(given.table).exists() and given.table in datasets.names():
        return open_data_set(given, known)
    text = getattr(given, "text", None)
    if text is not None or getattr(known, "text", None) is not None:
        if known is not None and text is None and Path(given.table).suffix != ".txt":
            text = known.text.column
        return pg.read_text(given.table, text or None, schema=known)
    return pg.read_table(
        given.table,
        schema=known,
        weights=given.weights,
        target=given.target,
        columns=names_in(given.columns),
        sequence=given.sequence,
        time=given.time,
    )


def in_memory(rows: Table | ParquetFolder) -> Table:
    """Rows that all fit in memory; a folder of Parquet files is only fitted to."""
    if not isinstance(rows, pg.Table):
        raise DataError("A folder of Parquet files can be fitted to; give the other commands a file.")
    return rows


def open_data_set(given: argparse.Namespace, known: Any) -> Table:
    """One of the named data sets."""
    from probgen.data import datasets

    if given.weights is not None:
        raise DataError(f"--weights is for files; the data set {given.table!r} has no weights.")
    if given.sequence is not None or given.time is not None:
        raise DataError(f"--sequence and --time are for files; the data set {given.table!r} comes as it is.")
    table = datasets.load(given.table)
    columns = names_in(given.columns)
    table = table if columns is None else table.select(columns)
    table = table if known is None else pg.Table(table, schema=known)
    return table if given.target is None else table.with_target(given.target)


def table_and_model(given: argparse.Namespace) -> tuple[Table, Fit]:
    """A saved model reads the table with its own schema; a named one is fitted to it first."""
    if is_saved(given.model):
        fitted = pg.load(given.model)
        return in_memory(open_table(given, fitted.schema)), fitted
    table = in_memory(open_table(given))
    return table, model_for(given, table)


def model_for(given: argparse.Namespace, table: Table | ParquetFolder) -> Fit:
    """The named model fitted to the table."""
    from probgen.program import find

    if find(given.model).traits.sequences and getattr(table, "lengths", None) is None:
        complain(
            f"warning: no --sequence and no --time, so {given.model} takes every row for a sequence of its own.", 0
        )
    return pg.fit(
        given.model,
        table,
        method=given.method,
        seed=given.seed,
        progress=not given.quiet,
        **dict(map(option, given.set)),
    )


def is_saved(model: str) -> bool:
    """Whether ``--model`` names a file rather than a registered model."""
    return model.endswith(".probgen") or Path(model).exists()


def names_in(text: str | None) -> list[str] | None:
    """``a,b`` -> ["a", "b"]."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def option(text: str) -> tuple[str, Any]:
    """``name=value`` with the value read as JSON where it is JSON, else as text.

    Example:
        >>> option("components=4"), option("covariance=full")
        (('components', 4), ('covariance', 'full'))
        >>> option("hidden=64,64"), option("prior=none")
        (('hidden', (64, 64)), ('prior', None))
        >>> option("hidden=64,")
        ('hidden', (64,))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ProbgenError(f"--set expects name=value, such as components=4; it got {text!r}.")
    if value.lower() == "none":
        return name, None
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        if "," not in value:
            return name, value
        return name, tuple(option(f"{name}={part}")[1] for part in value.removesuffix(",").split(","))


def several(text: str) -> tuple[str, list[Any]]:
    """``name=values`` with the values of :func:`choices`.

    Example:
        >>> several("states=2:4")
        ('states', [2, 3, 4])
    """
    name, equals, values = text.partition("=")
    if not equals or not name:
        raise ProbgenError(f"--over expects name=values, such as components=1:8; it got {text!r}.")
    return name, choices(values)


def choices(text: str) -> list[Any]:
    """Whole numbers from a first to a last one, or values with commas between them.

    Example:
        >>> choices("1:4"), choices("2,4,8"), choices("full,tied")
        ([1, 2, 3, 4], [2, 4, 8], ['full', 'tied'])
    """
    first, colon, last = text.partition(":")
    if colon and first.isdecimal() and last.isdecimal():
        return list(range(int(first), int(last) + 1))
    return [option(f"value={part}")[1] for part in names_in(text) or []]


# ----------------------------------------------------------------------------------------- writing
def refuse_overwriting(path: str | Path | None, force: bool) -> None:
    """Say no to an output that exists, before any work is done."""
    if path is None or not leading():
        return
    if Path(path).exists() and not force:
        raise ProbgenError(f"{path} exists and is left as it is; choose another name or add --force.")
    if not Path(path).parent.is_dir():
        raise ProbgenError(f"There is no folder {Path(path).parent} for {path}; make it first.")


def save(fitted: Fit, given: argparse.Namespace) -> None:
    """A fit as a file, written by one process."""
    if leading():
        fitted.save(given.out, overwrite=given.force)


def count_of_tables(text: str) -> int:
    """The number of completed tables; the other commands have their model at this place."""
    try:
        return int(text)
    except ValueError:
        told = f"expected the number of completed tables, such as 20, got {text!r}; a model is named by --model"
        raise argparse.ArgumentTypeError(told) from None


def numbered(path: str, copies: int) -> list[str]:
    """One name a completed table.

    Example:
        >>> numbered("filled.csv", 1), numbered("filled.csv", 2)
        (['filled.csv'], ['filled_01.csv', 'filled_02.csv'])
    """
    if copies < 1:
        raise ProbgenError(f"-m (--draws) must be at least 1, it is {copies}.")
    place = Path(path)
    if copies == 1:
        return [path]
    numbers = (f"{i:0{max(2, len(str(copies)))}}" for i in range(1, copies + 1))
    return [str(place.with_name(f"{place.stem}_{number}{place.suffix}")) for number in numbers]


def beside(table: str, what: str, endings: Collection[str]) -> str:
    """The name of an output that was not named: here, after the table, with its own ending if it can be written.

    Example:
        >>> beside("data/birds.csv", "imputed", (".csv", ".tsv")), beside("birds", "imputations", (".html",))
        ('birds_imputed.csv', 'birds_imputations.html')
    """
    suffix = Path(table).suffix
    return f"{Path(table).stem}_{what}{suffix if suffix in endings else next(iter(endings))}"


def write_table(table: Table, path: str) -> None:
    """A table as the kind of file its name asks for."""
    if not leading():
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    WRITERS[Path(path).suffix](table.to_pandas(), path)


def write_filled(filled: Table, table: Table, path: str, given: argparse.Namespace) -> None:
    """A completed table with the decimals of the known cells; in text, whole numbers as such, and known cells letter by letter."""
    from probgen.data.reading import as_written
    from probgen.data.rounding import rounded, whole_as_integers

    if not leading():
        return
    frame = rounded(filled, table).to_pandas()
    if Path(path).suffix != ".parquet":
        holed = [name for name, column in zip(table.names, table.known.T) if not column.all()]
        levels = [column.name for column in table.schema if column.is_discrete]
        frame = as_written(whole_as_integers(frame, holed), table.known, given.table, levels, [given.weights or ""])
    WRITERS[Path(path).suffix](frame, path)


def check_ending(path: str) -> None:
    """Say no to a kind of file that we do not write, before any work is done."""
    if Path(path).suffix not in WRITERS:
        raise DataError(f"Cannot write {path!r}: the name should end in {', '.join(WRITERS)}.")


def write_columns(columns: dict[str, Any], path: str | None) -> None:
    """Numbers, one row a line, as CSV into a file or on standard output."""
    lines = [",".join(columns)]
    lines += [",".join(f"{value:.10g}" for value in row) for row in zip(*columns.values())]
    text = "\n".join(lines) + "\n"
    if path is None:
        sys.stdout.write(text)
    elif leading():
        Path(path).write_text(text, encoding="utf-8")
        print(path)


# ----------------------------------------------------------------------------------------- grammar
def parser() -> argparse.ArgumentParser:
    """The whole grammar."""
    top = argparse.ArgumentParser(prog="probgen", description="Models of data tables with holes.")
    top.add_argument("--version", action="version", version=f"probgen {pg.__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error comes from")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_study(verbs)
    for verb in (fit, score, impute, sample, embed, browse):
        add_model_command(verbs, verb)
    add_write(verbs)
    add_compress(verbs)
    add_decompress(verbs)
    add_compare(verbs)
    add_compare_samples(verbs)
    add_query(verbs)
    add_select(verbs)
    add_models(verbs)
    add_schema(verbs)
    return top


def command(verbs: Any, run: Any) -> argparse.ArgumentParser:
    """A command named after its function and explained by its docstring."""
    made = verbs.add_parser(run.__name__.replace("_", "-"), help=first_line(run), description=first_line(run))
    made.set_defaults(command=run)
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return made


def first_line(function: Any) -> str:
    """The summary of a docstring, as help."""
    return (function.__doc__ or "").splitlines()[0].rstrip(".")


def add_table(made: argparse.ArgumentParser, optional: bool = False) -> None:
    """The table and how to read it."""
    explain = "CSV, TSV, Parquet or Feather file, or the name of a data set such as penguins"
    made.add_argument("table", nargs="?" if optional else None, help=explain)
    made.add_argument("--target", metavar="COLUMN", help="the column of labels")
    made.add_argument("--schema", metavar="FILE", help="kinds of the columns, JSON (probgen schema -o)")
    made.add_argument("--weights", metavar="COLUMN", help="column with the weight of each row")
    made.add_argument("--columns", metavar="A,B", help="read these columns only")
    made.add_argument("--sequence", metavar="COLUMN", help="which sequence a row (a time step) belongs to")
    explain = "the file is one text, or this column of it holds one a row; tokens are characters"
    made.add_argument("--text", nargs="?", const="", metavar="COLUMN", help=explain)
    made.add_argument("--time", metavar="COLUMN", help="time step in the sequence, whole numbers; gaps become unknown")


def add_run(made: argparse.ArgumentParser) -> None:
    """Settings of anything that computes."""
    made.add_argument("--seed", type=int, default=0, help="same seed, same bits (default 0)")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    made.add_argument("--force", action="store_true", help="replace an output that exists")


def add_study(verbs: Any) -> None:
    """``probgen study``."""
    made = command(verbs, study)
    add_table(made)
    made.add_argument("--models", metavar="A,B", help="models to compare, or quick (default), deep or all that suit")
    explain = "also look into the latent spaces of these (default: of --models those that embed, else four kinds)"
    made.add_argument("--represent", nargs="?", const="", metavar="A,B", help=explain)
    made.add_argument("--measures", action="store_true", help="compare rows drawn from the models with held-out ones")
    made.add_argument("-o", "--out", default="out", metavar="FOLDER", help="folder of the report (default out/)")
    made.add_argument("--fast", action="store_true", help="fewer repetitions, for a first look")
    add_run(made)


def add_model_command(verbs: Any, verb: Any) -> None:
    """A command that asks something of one model."""
    made = command(verbs, verb)
    add_table(made, optional=verb is sample)
    explain = "name (probgen models)" + ("" if verb is fit else " to fit to the table, or saved model")
    if verb is impute:
        made.add_argument("--model", default="auto", help=f"{explain} (default auto: chained equations)")
        made.add_argument(
            "-m", "--draws", type=count_of_tables, default=1, help="completed tables, numbered (default 1)"
        )
    else:
        made.add_argument("-m", "--model", required=True, help=explain)
    made.add_argument("--method", default="auto", help="em, map, svi ... (default: the model's own)")
    explain = "a keyword of the model or its method" if verb is impute else "a keyword of fit"
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=explain)
    wants_file = verb in (fit, sample)
    made.add_argument("-o", "--out", required=wants_file, metavar="FILE", help=OUTPUT[verb.__name__])
    if verb is impute:
        made.add_argument("--uncertainty", metavar="HOW", help=UNCERTAINTY)
        explain = "also an HTML page: what was missing, what was imputed, whether hidden known cells are found again"
        made.add_argument(
            "--report", nargs="?", const="", metavar="PAGE", help=f"{explain} (default TABLE_imputations.html)"
        )
    if verb is score:
        made.add_argument(
            "--draws", type=int, help="importance draws a row, chains of --density annealed, or particles"
        )
        made.add_argument(
            "--refine", type=int, metavar="STEPS", help="steps by which each row's guide is improved first"
        )
        made.add_argument(
            "--density",
            metavar="HOW",
            help="importance, lower_bound, annealed or particles (default: the model's own)",
        )
    if verb is browse:
        made.add_argument("--colour", metavar="COLUMN", help="the column that colours the points")
        made.add_argument("--shape", metavar="H,W", help="the numbers are the pixels of a picture of this size")
        made.add_argument("--points", type=int, default=2000, help="most rows that are shown (default 2000)")
    if verb is sample:
        made.add_argument("-n", "--rows", type=int, default=1000, help="rows to draw (default 1000)")
    add_run(made)


def add_write(verbs: Any) -> None:
    """``probgen write``."""
    made = command(verbs, write)
    made.add_argument("model", help="saved model of text, NAME.probgen")
    made.add_argument("prompt", nargs="?", default="", help="how the texts begin")
    made.add_argument("-n", "--length", type=int, default=200, help="tokens at most (default 200)")
    made.add_argument("--draws", type=int, default=1, help="texts (default 1)")
    made.add_argument("--temperature", type=float, default=1.0, help="below 1 for the more probable (default 1)")
    made.add_argument("--top-k", type=int, help="draw from so many most probable tokens")
    made.add_argument("--top-p", type=float, help="draw from the most probable tokens of this probability")
    made.add_argument("--seed", type=int, default=0, help="same seed, same bits (default 0)")


def add_compress(verbs: Any) -> None:
    """``probgen compress``."""
    made = command(verbs, compress)
    made.add_argument("table", help="CSV, TSV, Parquet or Feather file")
    made.add_argument("-m", "--model", required=True, help="saved model")
    made.add_argument("-o", "--out", metavar="FILE", help="default TABLE.pgz")
    made.add_argument("--rows", type=int, default=2**14, help="of a block, read without the others (default 16384)")
    made.add_argument("--force", action="store_true", help="replace an output that exists")


def add_decompress(verbs: Any) -> None:
    """``probgen decompress``."""
    made = command(verbs, decompress)
    made.add_argument("file", help="what probgen compress wrote")
    made.add_argument("-m", "--model", required=True, help="the saved model that compressed it")
    made.add_argument("-o", "--out", required=True, metavar="FILE", help="CSV, TSV or Parquet")
    made.add_argument("--force", action="store_true", help="replace an output that exists")


def add_compare(verbs: Any) -> None:
    """``probgen compare``."""
    made = command(verbs, compare)
    add_table(made)
    made.add_argument(
        "--models", metavar="A,B", help="models to compare, or quick, deep or all that suit (default all)"
    )
    made.add_argument("--test", metavar="FILE", help="rows to judge on (default: a fifth of the table)")
    made.add_argument("--minutes", type=float, help="of wall clock, earlier sittings included (default: no limit)")
    made.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    made.add_argument("--halve", default="deep", help="which models rungs are for: deep (default), all or none")
    made.add_argument("--folds", type=int, default=0, help="also cross-validate the finalists (default 0: no)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a keyword of fit")
    explain = "folder of results and a report; the same command goes on where it stopped"
    made.add_argument("-o", "--out", "--output", dest="out", metavar="FOLDER", help=explain)
    made.add_argument("--seed", type=int, default=0, help="same seed, same bits (default 0)")
    made.add_argument("--quiet", action="store_true", help="no progress bar")


def add_compare_samples(verbs: Any) -> None:
    """``probgen compare-samples``."""
    made = command(verbs, compare_samples)
    add_table(made)
    made.add_argument("drawn", help="rows of the same columns, such as those that probgen sample wrote")
    made.add_argument("--measures", metavar="A,B", help="some of them, such as energy_distance,recall (default: all)")
    made.add_argument("--seed", type=int, default=0, help="same seed, same bits (default 0)")
    made.add_argument("--json", action="store_true", help="for programs")


def add_query(verbs: Any) -> None:
    """``probgen query``."""
    made = command(verbs, query)
    made.add_argument("model", help="saved model, NAME.probgen, or a network's file: .bif, .xmlbif, .net, .uai, .xdsl")
    made.add_argument("-t", "--target", metavar="A,B", help="nodes that are asked for (default: all)")
    made.add_argument("-g", "--given", action="append", default=[], metavar="NODE=STATE", help="what is observed")
    made.add_argument("--do", action="append", default=[], metavar="NODE=STATE", help="what is set by intervention")
    made.add_argument("--joint", action="store_true", help="the targets together too")
    made.add_argument("--most-probable", action="store_true", help="the most probable states of all nodes together")
    made.add_argument("--method", default="exact", help="exact (default), importance or gibbs")
    made.add_argument("--draws", type=int, default=4000, help="of approximate methods (default 4000)")
    made.add_argument("--seed", type=int, default=0, help="same seed, same bits (default 0)")
    made.add_argument("--json", action="store_true", help="for programs")


def add_select(verbs: Any) -> None:
    """``probgen select``."""
    made = command(verbs, select)
    add_table(made)
    made.add_argument("-m", "--model", required=True, help="name (probgen models)")
    for name in SHORT:
        made.add_argument(f"--{name}", metavar="A:B", help=f"same as --over {name}=A:B")
    made.add_argument(
        "--over", action="append", default=[], metavar="NAME=VALUES", help="the option that varies: A:B or A,B,C"
    )
    made.add_argument("--criterion", default="bic", help="bic (default), aic, icl, held_out or evidence")
    made.add_argument("--folds", type=int, default=5, help="parts of the table, for held_out (default 5)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another keyword of fit")
    made.add_argument("-o", "--out", metavar="FILE", help="the best model, NAME.probgen")
    add_run(made)


SHORT = ("components", "states")  # options that may stand without --over

UNCERTAINTY = (
    "where the parameters of each table come from: posterior (draws from it), bootstrap (refits to rows with random weights),"
    " laplace (a normal distribution at the mode), ensemble (refits from other starts to rows with random weights, for"
    " networks), none (one estimate: pooled intervals too short). Default: bootstrap where the model has it, else posterior (so"
    " for auto), else ensemble"
)

OUTPUT = {
    "fit": "the saved model, NAME.probgen",
    "impute": "the completed table, .csv, .tsv or .parquet (default TABLE_imputed.csv)",
    "sample": "the new table, .csv, .tsv or .parquet",
    "score": "CSV file (default: standard output)",
    "embed": "CSV file (default: standard output)",
    "browse": "the page (default TABLE_latent.html)",
}


def add_models(verbs: Any) -> None:
    """``probgen models``."""
    made = command(verbs, models)
    made.add_argument("name", nargs="?", help="one model: its options too")
    made.add_argument("--json", action="store_true", help="for programs")


def add_schema(verbs: Any) -> None:
    """``probgen schema``."""
    made = command(verbs, schema)
    add_table(made)
    made.add_argument("-o", "--out", metavar="FILE", help="save as JSON, for --schema")
    made.add_argument("--force", action="store_true", help="replace an output that exists")


if __name__ == "__main__":
    sys.exit(main())
