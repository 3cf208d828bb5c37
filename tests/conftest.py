"""Fixtures for tests: where the larger data sets lie, and ArviZ."""

import os
import warnings
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The public data sets: ``PROBGEN_DATA``, else ``../shared/data`` beside the repository."""
    named = os.environ.get("PROBGEN_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "tabular").is_dir():
        pytest.skip(f"no data sets in {folder}; PROBGEN_DATA names the folder that holds tabular/")
    return folder


@pytest.fixture
def data_sets(data_folder, monkeypatch) -> Path:
    """``data_folder``, and the library told where it is."""
    monkeypatch.setenv("PROBGEN_DATA", str(data_folder))
    return data_folder


@pytest.fixture
def double():
    """New tensors are float64, as families and exact comparisons need them."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def arviz():
    """The library, which warns when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz
