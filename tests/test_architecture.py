"""The house's own rules: where things live, how long they are, what is never used."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import probgen

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "probgen"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODEL_FILES = sorted(p for p in (PACKAGE / "models").glob("*.py") if p.name[0] != "_")

FORBIDDEN = {
    r"\bpyro\.infer\b": "the engine replaces pyro.infer",
    r"\bfrom pyro import (?:.*\b)?infer\b": "the engine replaces pyro.infer",
    r"\bpyro\.(?:param|module|random_module|get_param_store)\b": "the ParamStore is global",
    r"\b(?:get_param_store|PyroParam)\b": "the ParamStore is global",
    r"\bJitTrace\w*": "programs are not compiled",
    r"\b(?:import|from) (?:cloud)?pickle\b": "loading a pickle runs code",
    r"\btorch\.(?:load|save)\b": "loading a pickle runs code",
}

ENUMERATION = (
    "from pyro.infer import config_enumerate",
    "from pyro.infer.traceenum_elbo import _compute_model_factors",
)
MODEL_LINES = 120
FUNCTION_LINES = 60


def relative(path):
    return str(path.relative_to(ROOT))


def code_without_text(source: str) -> str:
    """The source without its docstrings and comments, which may name what is forbidden."""
    return ast.unparse(WithoutDocstrings().visit(ast.parse(source)))


class WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else node


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_forbidden(path):
    code = code_without_text(path.read_text(encoding="utf-8"))
    if path.name == "_pyro.py":  # of pyro.infer, only what sums discrete sites out
        code = "\n".join(line for line in code.splitlines() if line not in ENUMERATION)
    found = [f"{p} ({why})" for p, why in FORBIDDEN.items() if re.search(p, code)]
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_pyros_internals_stay_in_one_module(path):
    inside = re.search(r"\bpyro\.(?:poutine|ops|util|nn)\b", path.read_text(encoding="utf-8"))
    assert path.name == "_pyro.py" or not inside


def test_every_folder_is_a_package():
    """The import rules do not see what is in a folder without ``__init__.py``."""
    folders = {path.parent for path in SOURCES}
    assert not [relative(folder) for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize(
    "line",
    [
        "from pyro.infer import SVI",
        "pyro.param('a', 1)",
        "store = pyro.get_param_store()",
        "import pickle",
        "torch.load('x')",
        "JitTrace_ELBO()",
    ],
)
def test_the_forbidden_is_seen(line):
    assert any(re.search(pattern, code_without_text(line)) for pattern in FORBIDDEN)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_function_is_too_long(path):
    long = [f"{n.name}: {n.end_lineno - n.lineno + 1}" for n in functions(path)]
    assert not [entry for entry in long if int(entry.rsplit(" ", 1)[1]) > FUNCTION_LINES]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "cli.py"], ids=relative)
def test_only_the_command_line_prints(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    printing = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not printing


@pytest.mark.parametrize("path", MODEL_FILES, ids=relative)
def test_a_model_file_reads_like_a_slide(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert len(text.splitlines()) <= MODEL_LINES
    assert ".. math::" in docstring, "the generative process in LaTeX is missing"
    assert re.search(r"\b(1[89]|20)\d\d\b", docstring), "the source (authors, year) is missing"


def test_a_model_file_is_named_as_its_model():
    from probgen.program import model_classes

    own = {n: c for n, c in model_classes().items() if c.__module__.startswith("probgen.")}
    assert sorted(own) == [path.stem for path in MODEL_FILES]
    for name, cls in own.items():
        assert re.sub(r"[^a-z0-9]", "", name) == cls.__name__.lower()


def test_import_is_light():
    heavy = ["torch", "pyro", "numpy", "scipy", "pandas", "polars", "pyarrow"]
    heavy += ["matplotlib", "arviz", "sklearn", "pgmpy"]
    script = (
        "import sys, probgen, probgen.cli; probgen.cli.parser().format_help(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    assert probgen.__all__[0] == "__version__"
    for name in probgen.__all__[1:]:
        assert inspect.getdoc(getattr(probgen, name)), name


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.asname: (statement.module, alias.name) for statement in block.body for alias in statement.names}
    assert seen == probgen.LAZY


def test_a_function_wins_over_a_module_of_its_name():
    import importlib

    module = importlib.import_module("probgen.program")
    assert probgen.program is module.program


def test_imports_run_one_way():
    pytest.importorskip("importlinter", reason="import-linter is not installed (extra: test)")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
