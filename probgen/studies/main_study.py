"""The main job: which model describes a table best, how well it fills holes, and what it learnt."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError
from probgen.program import find
from probgen.queries import Fit
from probgen.studies.classification import ClassificationStudy, classification_study
from probgen.studies.density import DensityStudy, compare_densities, compare_draws
from probgen.studies.filled_cells import BASELINE, FillStudy, fill_study
from probgen.studies.latent_paths import LatentPictures, latent_pictures
from probgen.studies.models import Models, check_options, fit_models, settings_of
from probgen.studies.paired import Paired
from probgen.studies.representation import RepresentationStudy, representation_study
from probgen.studies.sample_comparison import Features

__all__ = ["Study", "study"]

EMBEDDERS = ("probabilistic_pca", "autoencoder", "vae", "vq_vae")
"""Models whose latent spaces are looked at where none are named: a line, a point, a distribution and codes."""

MARK = "study.json"  # a folder that holds this file was made by a study


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that one study found."""

    table: Table
    train: Table
    test: Table
    target: str | None
    seed: int
    fits: dict[str, Fit]
    failures: dict[str, str]
    density: DensityStudy
    imputation: FillStudy
    classification: ClassificationStudy | None
    representation: RepresentationStudy
    samples: dict[str, Table]
    completed: Table
    seconds: float
    summary: list[str] = field(default_factory=list)
    represented: dict[str, Fit] = field(default_factory=dict)  # fitted for what they see in a row
    latents: dict[str, LatentPictures] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The model with the highest held-out log density."""
        return self.density.best

    def to_json(self) -> str:
        """The numbers of the study."""
        content = {
            "best": self.best, "target": self.target, "seed": self.seed, "seconds": self.seconds, "summary": self.summary,
            "rows": {"all": len(self.table), "train": len(self.train), "test": len(self.test)},
            "schema": json.loads(self.table.schema.to_json()), "failures": self.failures,
            "density": self.density.scores, "worst_rows": self.density.worst, "measures": measure_records(self.density),
            "imputation": self.imputation.scores, "imputation_columns": self.imputation.columns,
            "classification": None if self.classification is None else self.classification.scores,
            "representation": self.representation.scores,
            "latents": {name: latent_record(each) for name, each in self.latents.items()},
            "fits": {name: {"method": fit.method, "seconds": fit.seconds, "diagnostics": fit.diagnostics,
                            "provenance": fit.provenance} for name, fit in {**self.fits, **self.represented}.items()},
        }  # fmt: skip
        return json.dumps(plain(content), indent=1)

    def save(self, out: str | Path, *, force: bool = False) -> Path:
        """study.json and csv tables in a folder.

        Raises:
            DataError: the folder holds other files, or an earlier study and ``force`` is not given.
        """
        folder = prepared(Path(out), force)
        records = {
            "scores": self.density.scores,
            "worst_rows": self.density.worst,
            "measures": measure_records(self.density),
            "imputation": self.imputation.scores,
            "imputation_columns": self.imputation.columns,
            "classification": [] if self.classification is None else self.classification.scores,
            "embedding": embedding_records(self.representation),
        }
        for name, rows in records.items():
            write_records(rows, folder / f"{name}.csv")
        self.completed.to_pandas().to_csv(folder / "completed.csv", index=False)
        self.samples[self.best].to_pandas().to_csv(folder / "samples.csv", index=False)
        (folder / MARK).write_text(self.to_json())
        return folder


def study(
    table: Any,
    *,
    target: str | None = None,
    models: Models | Sequence[str] = None,
    test_fraction: float = 0.2,
    draws: int = 100,
    seed: int = 0,
    fast: bool = False,
    progress: bool = True,
    represent: Models = None,
    measures: bool | Sequence[str] = False,
    features: Features | None = None,
    **options: Any,
) -> Study:
    """Split, fit, compare held-out densities, score imputation, classify, embed, sample, fill.

    Args:
        table: a Table or anything one can be made of.
        target: a column to be classified by hiding it.
        models: names, or a mapping from names to options; "quick" (where it is None), "deep" and "all" stand for those that suit the table, see :func:`density_study`.
        test_fraction: share of the rows held out.
        draws: completed tables for the imputation scores.
        seed: everything random comes from it.
        fast: short training, for trying things out.
        represent: models whose latent spaces are looked at, such as "vae": they are fitted too where ``models`` does not name them, with a density or
            without one.
        measures: True, or names of measures of :func:`probgen.compare_samples`, of rows drawn from every fit, those of ``represent`` too.
        features: of rows, in which they are compared.
        **options: given to every model that accepts them.
    """
    began = time.perf_counter()
    source, constant = studied(table, target)
    labelled = target if target is not None and source.schema[target].is_discrete else None
    check_options(options, [*settings_of(models, source), *(represent or ())])
    train, test = source.split(1 - test_fraction, test_fraction, seed=seed, stratify=labelled)
    settings = ({"max_steps": 200, "restarts": 1} if fast else {}) | options
    fits, failures = fit_models(train, models, target=target, seed=seed, progress=progress, options=settings)
    density = compare_densities(fits, test, failures)
    imputation = fill_study(fits, test, train, draws=draws, seed=seed)
    classes = None if labelled is None else classification_study(fits, test, train, labelled)
    represented, told = embedders(
        train, represent, fits, target=target, seed=seed, progress=progress, options=settings
    )
    representation = representation_study({**fits, **represented}, source, target)
    density, unable = with_measures(density, {**fits, **represented}, (test, train), measures, features, seed)
    latents = seen(represented, source if target is None else source.hide(target), seed)
    samples = {name: fit.sample(min(max(len(source), 200), 2000), seed=seed) for name, fit in fits.items()}
    completed = fits[density.best].fill(source, 1, seed=seed)[0]
    found = Study(
        source, train, test, target, seed, fits, failures, density, imputation, classes, representation, samples, completed,
        time.perf_counter() - began, represented=represented, latents=latents,
    )  # fmt: skip
    found.failures.update(told | unable)
    found.summary.extend(in_words(found))
    found.summary.extend(constant)
    return found


def studied(table: Any, target: str | None) -> tuple[Table, list[str]]:
    """The table of a study, without its constant columns, and a sentence for each of those."""
    source = table if isinstance(table, Table) else Table(table)
    if target is not None:
        source = source.with_target(target)
    source, constant = without_constants(source)
    source.check_for_fit()
    return source, constant


def with_measures(
    density: DensityStudy,
    fits: Mapping[str, Fit],
    parts: tuple[Table, Table],
    measures: bool | Sequence[str],
    features: Features | None,
    seed: int,
) -> tuple[DensityStudy, dict[str, str]]:
    """Measures of what fits draw beside the densities, where they are asked for, and why some could not be drawn from."""
    if not measures and features is None:
        return density, {}
    wanted = None if isinstance(measures, bool) else measures
    drawn, unable = compare_draws(fits, *parts, measures=wanted, features=features, seed=seed)
    return replace(density, samples=drawn), unable


def embedders(
    train: Table, models: Models, fits: Mapping[str, Fit], **how: Any
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Fits whose latent spaces are asked for, those that are there already among them, and messages of those that failed."""
    if not models:
        return {}, {}
    chosen = dict(models) if isinstance(models, Mapping) else {name: {} for name in models}
    unable = [name for name in chosen if find(name).traits.embedding == "none"]
    if unable:
        raise CapabilityError(
            f"{', '.join(unable)} embeds no rows; name models that do (probgen models NAME says it)."
        )
    known = {name: fits[name] for name, own in chosen.items() if name in fits and not own}
    others = {name: own for name, own in chosen.items() if name not in known}
    try:
        made, failures = fit_models(train, others, **how) if others else ({}, {})
    except FitError as error:
        made, failures = {}, dict.fromkeys(others, str(error))
    return {name: {**known, **made}[name] for name in chosen if name in known or name in made}, failures


def seen(fits: Mapping[str, Fit], table: Table, seed: int) -> dict[str, LatentPictures]:
    """Walks through the latent spaces that are continuous and a row's own."""
    able = {name: fit for name, fit in fits.items() if fit.traits.embedding == "mean" and fit.traits.normalised}
    return {name: latent_pictures(fit, table, seed=seed) for name, fit in able.items() if not fit.traits.sequences}


def latent_record(found: LatentPictures) -> dict[str, Any]:
    """The numbers of one latent space."""
    known = found.dimensions
    return {
        "dimensions": known.names, "nats": known.nats.tolist(), "used": known.used.tolist(), "spread": known.spread.tolist(),
        "path_rows": found.interpolation.rows, "path_lengths": found.interpolation.lengths,
        "reconstruction_errors": found.reconstruction.errors,
    }  # fmt: skip


def without_constants(table: Table) -> tuple[Table, list[str]]:
    """The table without numbers that are the same in every known row, and what was left out, in words.

    Counted pixels may be the same in every row, and stay; without others a picture is only columns, which is told.
    """
    low, high = (reduce(np.where(table.known, table.values, np.nan), axis=0) for reduce in (np.nanmin, np.nanmax))
    counted = {name for image in table.schema.images for name in image.names if table.schema[name].kind == "count"}
    names = [
        column.name
        for column, a, b in zip(table.schema, low, high, strict=True)
        if not column.is_discrete and column.name not in counted and a == b
    ]
    if not 0 < len(names) < table.n_columns:
        return table, []
    broken = [image.name for image in table.schema.images if not set(names).isdisjoint(image.names)]
    told = [f"Left out, because it never varies: {', '.join(names)}."]
    if broken:
        told.append(
            f"Without these pixels {', '.join(broken)} is no picture any more, only columns. Pixels that are counts"
            " (Table.from_images(levels=)) may be the same everywhere."
        )
    return table.drop(names), told


# ------------------------------------------------------------------------------------------------------ in words
def in_words(found: Study) -> list[str]:
    """The findings as sentences, each with its uncertainty."""
    sentences = [density_words(found.density), imputation_words(found.imputation, found.best)]
    if found.classification is not None:
        sentences.append(classification_words(found.classification, found.target or ""))
    if found.failures:
        told = "; ".join(f"{name}: {message}" for name, message in found.failures.items())
        sentences.append(f"Not fitted: {told}")
    estimated = [name for name, kind in found.density.kind.items() if kind not in ("exact", "lower_bound")]
    if estimated:
        error = found.density.standard_error.mean(1).max()
        sentences.append(
            f"The density of {', '.join(estimated)} is an integral, estimated by importance sampling"
            f" (mean Monte-Carlo error {error:.2g} nats a row); it errs towards too low."
        )
    bounds = [name for name, kind in found.density.kind.items() if kind == "lower_bound"]
    if bounds:
        sentences.append(f"That of {', '.join(bounds)} is a lower bound.")
    return sentences


def density_words(density: DensityStudy) -> str:
    first = density.scores[0]
    text = f"{first['model']} describes held-out rows best: {first['mean']:.2f} ± {first['se']:.2f} nats a row"
    if len(density.scores) == 1:
        return text + "."
    second = density.scores[1]
    gap = Paired(-second["difference"], second["difference_se"])
    lead = "within noise of" if gap.within_noise else "clearly ahead of"
    return f"{text}, {lead} {second['model']} (paired difference {gap.difference:.2f} ± {gap.standard_error:.2f})."


def imputation_words(imputation: FillStudy, best: str) -> str:
    by_name = {score["model"]: score for score in imputation.scores}
    ours, base = by_name[best], by_name[BASELINE]
    if np.isnan(ours["rmse"]):
        return f"Hidden labels are recovered by {best} in {ours['accuracy']:.0%} of cells (column draws: {base['accuracy']:.0%})."
    text = (
        f"Filling hidden cells, {best} has an RMSE of {ours['rmse']:.2f} standard deviations (column mean:"
        f" {base['rmse']:.2f}); its 90 % intervals cover {ours['coverage90']:.0%} of the hidden numbers"
    )
    return text + ("." if np.isnan(ours["accuracy"]) else f", and it names {ours['accuracy']:.0%} of hidden labels.")


def classification_words(classes: ClassificationStudy, target: str) -> str:
    ranked = sorted((s for s in classes.scores if s["model"] != "majority"), key=lambda s: s["log_loss"])
    base = next(s for s in classes.scores if s["model"] == "majority")
    top = ranked[0]
    return (
        f"With {target} hidden, {top['model']} names it in {top['accuracy']:.0%} of held-out rows (largest class:"
        f" {base['accuracy']:.0%}), log loss {top['log_loss']:.3f}."
    )


# --------------------------------------------------------------------------------------------------------- files
def prepared(folder: Path, force: bool) -> Path:
    """An empty folder, or one that an earlier study made and that may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder.")
    if folder.exists() and any(folder.iterdir()):
        ours = (folder / MARK).exists()
        if not ours or not force:
            what = (
                "an earlier study; use --force (force=True) to replace it"
                if ours
                else "other files; give another folder"
            )
            raise DataError(f"{folder} holds {what}.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measure_records(density: DensityStudy) -> list[dict[str, Any]]:
    """One record a model and measure of its drawn rows."""
    return [{"model": name, **record} for name, each in density.samples.items() for record in each.records()]


def embedding_records(representation: RepresentationStudy) -> list[dict[str, Any]]:
    """One record a row of the table, one entry a model and dimension."""
    names = [f"{name}_{i}" for name, values in representation.embeddings.items() for i in range(values.shape[1])]
    if not names:
        return []
    return [dict(zip(names, row, strict=True)) for row in np.hstack(list(representation.embeddings.values())).tolist()]


def write_records(records: list[dict[str, Any]], path: Path) -> None:
    """Comma-separated values with the union of the records' keys; nothing where there are none."""
    if not records:
        return
    keys = list({key: None for record in records for key in record})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(records)


def plain(value: Any) -> Any:
    """Numbers as JSON knows them: NaN becomes null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
