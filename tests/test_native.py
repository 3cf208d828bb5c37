"""Where compiled loops come from, and what happens where they cannot be made."""

import shutil
from pathlib import Path

import pytest

from probgen import native


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing remembered, an empty cache."""
    if native.library("codes") is None:
        pytest.skip("no C compiler here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_folder_there_are_no_compiled_loops_but_no_error(monkeypatch):
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert native.library("codes") is None


def test_a_cache_folder_that_is_given_needs_no_home_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", no_home)
    assert native.library("codes") is not None
    assert len(list((tmp_path / "probgen").glob("codes-*.so"))) == 1


def test_a_compiler_may_come_with_arguments(monkeypatch):
    monkeypatch.setenv("CC", f"{shutil.which('cc')} -DNOTHING=1")
    assert native.library("codes") is not None


def test_another_processor_gets_a_file_of_its_own(monkeypatch, tmp_path):
    for flags in ("flags: sse2", "flags: sse2 avx512f"):
        monkeypatch.setattr(native, "processor", lambda flags=flags: flags)
        native.library.cache_clear()
        assert native.library("codes") is not None
    assert len(list((tmp_path / "probgen").glob("codes-*.so"))) == 2
