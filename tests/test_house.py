"""The laws of the house, read off the source."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "raylab").rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in MODULES]
MAY_TORCH = ("raylab/train/", "raylab/reduce/", "raylab/cluster/", "raylab/store/tensors/")
HEAVY = ("torch", "ray", "transformers", "datasets", "pandas")
BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar,
    ast.Match, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
)  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parsed(name):
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def imports(name):
    """(module imported, whether inside a function) for every import, wherever it stands."""
    package = name.removesuffix(".py").removesuffix("/__init__").split("/")
    package = package if name.endswith("__init__.py") else package[:-1]
    found = []

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                start = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*start, *([child.module] if child.module else [])])
                found.append((module, inside))
                found.extend((f"{module}.{alias.name}", inside) for alias in child.names)
            else:
                visit(child, inside or isinstance(child, FUNCTIONS))

    visit(parsed(name), False)
    return found


def is_below(module, package):
    return module == package or module.startswith(package + ".")


def depth(node):
    """The deepest nesting of blocks below `node`; an elif is as deep as its if."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            is_elif = isinstance(node, ast.If) and field == "orelse" and len(value) == 1
            is_elif = is_elif and isinstance(child, ast.If)
            own = isinstance(child, BLOCKS) and not is_elif
            deepest = max(deepest, own + depth(child))
    return deepest


def test_modules_raylab_are_found():
    assert {"raylab/cli.py", "raylab/errors.py", "raylab/spec/study.py"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_imports_ray_only_cluster(name):
    if not name.startswith("raylab/cluster/"):
        assert not [module for module, _ in imports(name) if is_below(module, "ray")]


@pytest.mark.parametrize("name", NAMES)
def test_imports_cluster_only_cli_and_notebook_inside_functions(name):
    if name.startswith("raylab/cluster/"):
        return
    found = [inside for module, inside in imports(name) if is_below(module, "raylab.cluster")]
    assert all(found) if name in ("raylab/cli.py", "raylab/notebook.py") else not found


@pytest.mark.parametrize("name", NAMES)
def test_imports_torch_only_where_weights_are(name):
    if not name.startswith(MAY_TORCH):
        assert not [module for module, _ in imports(name) if is_below(module, "torch")]


@pytest.mark.parametrize("name", NAMES)
def test_module_has_docstring(name):
    assert (ast.get_docstring(parsed(name)) or "").strip()


@pytest.mark.parametrize("name", NAMES)
def test_module_length_at_most_320_lines(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 320


@pytest.mark.parametrize("name", NAMES)
def test_function_nesting_below_four(name):
    functions = [node for node in ast.walk(parsed(name)) if isinstance(node, FUNCTIONS)]
    assert {f.name: depth(f) for f in functions if depth(f) >= 4} == {}


def loaded_by(modules, unwanted):
    code = f"import sys, json, {', '.join(modules)}\n"
    code += f"print(json.dumps([m for m in {list(unwanted)!r} if m in sys.modules]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_plan_and_cli_loads_nothing_heavy():
    light = ["raylab.cli", "raylab.plan.trials", "raylab.spec.loading", "raylab.plan.cache"]
    assert loaded_by(light, HEAVY) == []


def test_importing_raylab_and_the_verb_table_loads_nothing_heavy():
    assert loaded_by(["raylab", "raylab.report.table_view", "raylab.store.queries"], HEAVY) == []


def test_importing_report_loads_neither_torch_nor_ray():
    found = [name for name in NAMES if name.startswith("raylab/report/")]
    modules = [name.removesuffix(".py").removesuffix("/__init__") for name in found]
    assert loaded_by([m.replace("/", ".") for m in modules], ("torch", "ray")) == []


def test_depth_of_known_code_is_counted():
    code = "def f():\n if a:\n  pass\n elif b:\n  for c in d:\n   while e:\n    with g: pass\n"
    assert depth(ast.parse(code).body[0]) == 4
