"""Fixtures for tests: where the larger data sets lie."""

import os
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
