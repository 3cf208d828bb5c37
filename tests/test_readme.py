"""The Python of the README and of the guides runs; the README's links and commands exist."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from probgen import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            f"docs/{name}.md"
            for name in (
                "start",
                "sequences",
                "networks",
                "imputation",
                "imputation_example",
                "posteriors",
                "samplers",
                "calibration",
                "latent_variables",
                "flows",
                "drawn_rows",
                "diffusion",
                "energy",
                "adversarial",
                "autoregressive",
                "anomalies",
                "prediction",
                "comparison",
                "compression",
                "modalities",
                "text",
            )
        ),
    ],
)
def test_python_runs(page, tmp_path, monkeypatch, request):
    """All blocks in order, in one namespace, in an empty folder with the files they speak of."""
    from probgen import load_dataset

    load_dataset("penguins").to_pandas().to_csv(tmp_path / "penguins.csv", index=False)
    if page == "docs/imputation_example.md":
        shutil.copy(request.getfixturevalue("data_folder") / "tabular" / "pima.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    code = blocks("python", (ROOT / page).read_text(encoding="utf-8"))
    assert code
    namespace = {}
    for block in code:
        exec(compile(block, page, "exec"), namespace)
        plt.close("all")


def test_links_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (\w+)", " ".join(blocks("sh"))):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_commands_parse():
    lines = [line for line in "\n".join(blocks("sh")).splitlines() if line.startswith("probgen ")]
    assert len(lines) >= 4
    for line in lines:
        words = line.split("#")[0].split(">")[0].split()[1:]
        assert cli.parser().parse_args(words).command
