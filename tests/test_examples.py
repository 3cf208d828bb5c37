"""Every example runs, in its fast mode, and says something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ARGUMENTS = {"course": ["gaussian_mixture", "--out", "course"]}  # all its topics run in test_course.py


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"density", "imputation", "representation", "sequences"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    surroundings = {**os.environ, "PROBGEN_FAST": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, path, *ARGUMENTS.get(path.stem, [])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=surroundings,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
