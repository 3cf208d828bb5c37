"""The figure of white wines, drawn from the folder of ``python -m benchmarks compare``: ``OUT=folder python docs/figures/comparison.py``."""

import os
from pathlib import Path

from benchmarks.compare import compared
from probgen import plots

board = compared("wine", str(Path(os.environ["OUT"]) / "wine"))
plots.leaderboard(board).figure.savefig(Path(__file__).parent / "comparison.png", dpi=110)
