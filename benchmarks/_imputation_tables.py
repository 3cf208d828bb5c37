"""``python -m benchmarks._imputation_tables FILE...``: the lines of the imputation benchmark as tables of Markdown.

Of lines that say the same of the same method the last counts, so that a case can be run in parts, or again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]
SIMULATED = ("fimd_a", "fimd_c", "fimd_d", "scenarios", "mixed", "candidates")
SCORES = {"energy": ("energy distance x 1000", 2), "crps": ("CRPS", 3), "rmse_draw": ("RMSE of a draw", 3)}
SCORES |= {"rmse_mean": ("RMSE of the mean of five", 3), "seconds": ("CPU seconds, m = 5", 1)}


def main(paths: Sequence[str]) -> None:
    """Print all tables that the files have lines for."""
    lines = [json.loads(text) for path in paths for text in Path(path).read_text().splitlines() if text.strip()]
    for case in SIMULATED:
        print_all(simulated(latest(lines, case, "population", "method", "term")))
    for case in ("six_sets", "candidates_distance"):
        print_all(scored(latest(lines, case, "set", "mechanism", "method")))
    print_all(
        table(("set", "mse", "mse_error", "published", "ratio", "masks", "seconds"), latest(lines, "miwae", "set"))
    )
    print_all(table(("set", "attainable", "published", "patterns"), latest(lines, "miwae_attainable", "set")))
    timed = [line for line in latest(lines, "time", "table", "rows") if "ours" in line]
    print_all(
        table(("table", "rows", "columns", "ours", "megabytes", "peer", "theirs", "peer_timed_m", "ratio"), timed)
    )


def print_all(rows: Iterable[str]) -> None:
    found = list(rows)
    if found:
        print("\n".join(found), end="\n\n")


def latest(lines: Iterable[Line], case: str, *keys: str) -> list[Line]:
    """The last line of each kind, in the order in which kinds first appear."""
    kept = {tuple(str(line.get(key)) for key in keys): line for line in lines if line.get("case") == case}
    return list(kept.values())


def table(columns: Sequence[str], lines: Iterable[Line]) -> Iterator[str]:
    """One row a line."""
    rows = [[shown(line.get(column)) for column in columns] for line in lines]
    if rows:
        yield "| " + " | ".join(column.replace("_", " ") for column in columns) + " |"
        yield "|" + "---|" * len(columns)
        yield from ("| " + " | ".join(row) + " |" for row in rows)


def shown(value: Any) -> str:
    """Numbers at the precision that a table wants."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return "" if value != value else f"{value:.4g}"


def simulated(lines: list[Line]) -> Iterator[str]:
    """A table a population: bias, coverage and width of each estimand by each method; means over estimands last."""
    for population in dict.fromkeys(line["population"] for line in lines):
        own = [line for line in lines if line["population"] == population and "missing" not in line]
        methods, terms = (list(dict.fromkeys(line[key] for line in own)) for key in ("method", "term"))
        found = {(line["term"], line["method"]): line for line in own}
        yield from ("", f"**{population}** (bias / coverage / width)", "", "| | truth | " + " | ".join(methods) + " |")
        yield "|" + "---|" * (len(methods) + 2)
        for term in sorted(terms, key=lambda term: term == "all"):
            here = {method: found.get((term, method), {}) for method in methods}
            truth = shown(next(iter(here.values())).get("truth"))
            yield f"| {term} | {truth} | " + " | ".join(map(summary, here.values())) + " |"
        for name in ("se_ratio", "fmi", "seconds", "simulations", "failed"):
            last = [found[terms[-1], method].get(name) for method in methods]
            if any(isinstance(value, int | float) and value for value in last):
                yield f"| {name.replace('_', ' ')} | | " + " | ".join(map(shown, last)) + " |"


def summary(line: Line) -> str:
    """Of one estimand, or of all of them."""
    if "bias" in line:
        return f"{line['bias']:.4f} ({line['bias_error']:.4f}) / {line['coverage']:.3f} / {line['width']:.4g}"
    return f"mean {line['coverage']:.3f}, worst {line['coverage_worst']:.3f} / {line['width']:.4g}" if line else ""


def scored(lines: list[Line]) -> Iterator[str]:
    """One table a score: sets and mechanisms down, methods across, what is best in bold; the mean over both mechanisms last."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    for score, (title, digits) in SCORES.items():
        found = {(line["set"], line["mechanism"], line["method"]): line.get(score) for line in lines}
        if not any(found.values()):
            continue
        yield from ("", f"**{title}**", "", "| set | mechanism | " + " | ".join(methods) + " | ours / best other |")
        yield "|" + "---|" * (len(methods) + 3)
        for name in dict.fromkeys(line["set"] for line in lines):
            both = [[found.get((name, mechanism, method)) for method in methods] for mechanism in ("mcar", "mar")]
            mean = [None if None in pair else sum(pair) / 2 for pair in zip(*both, strict=True)]
            for mechanism, numbers in zip(("mcar", "mar", "mean"), (*both, mean), strict=True):
                yield f"| {name} | {mechanism} | " + " | ".join(compared(numbers, methods, digits)) + " |"


def compared(numbers: Sequence[float | None], methods: Sequence[str], digits: int) -> list[str]:
    """The smallest in bold, and our share of the smallest of all others."""
    known = [number for number in numbers if number is not None]
    least = min(known, default=0.0)
    told = ["" if x is None else f"**{x:.{digits}f}**" if x == least else f"{x:.{digits}f}" for x in numbers]
    ours = dict(zip(methods, numbers, strict=True)).get("ours")
    others = [x for x, method in zip(numbers, methods, strict=True) if method != "ours" and x is not None]
    return [*told, f"{ours / min(others):.2f}" if ours is not None and others and min(others) > 0 else ""]


if __name__ == "__main__":
    main(sys.argv[1:])
