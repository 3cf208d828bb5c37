"""CPU time until ``probgen --help`` and ``import probgen`` are done, beside a bare interpreter."""

import subprocess
import sys


def cases():
    """Each start is a new process; the least of five counts."""
    bare = best("pass")
    for name, code in [
        ("probgen --help", "from probgen.cli import parser; parser().format_help()"),
        ("import probgen", "import probgen"),
        ("import probgen and its fit", "import probgen; probgen.fit"),
    ]:
        ours = best(code)
        yield {"case": name, "ours": ours, "theirs": bare, "ratio": ours / bare}


def best(code: str, repeats: int = 5) -> float:
    """CPU seconds of a process that runs the code."""
    call = [sys.executable, "-c", f"{code}; import time; print(time.process_time())"]
    return min(float(subprocess.run(call, capture_output=True, text=True, check=True).stdout) for _ in range(repeats))
