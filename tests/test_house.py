"""The laws of the house, read off the source."""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "raylab").rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in MODULES]
MAY_TORCH = tuple(f"raylab/{name}/" for name in ("weights", "train", "reduce", "merge", "cluster"))
# Each package imports only packages that stand before it.
ORDER = (
    "errors", "imports", "number_format", "compiled", "parquet", "spec", "store", "conversion",
    "plan", "results", "weights", "train", "reduce", "merge", "publish", "report", "cluster",
    "notebook", "cli", "__main__",
)  # fmt: skip
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
    assert {"raylab/cli/__init__.py", "raylab/errors.py", "raylab/spec/study.py"} <= set(NAMES)


def imported(name, package):
    """The modules below `package` that the file `name` imports."""
    return [module for module, _ in imports(name) if is_below(module, package)]


def test_imports_ray_only_cluster():
    others = [name for name in NAMES if not name.startswith("raylab/cluster/")]
    assert {name: imported(name, "ray") for name in others if imported(name, "ray")} == {}


def test_imports_cluster_only_cli_and_notebook_inside_functions():
    wrong = []
    for name in NAMES:
        if name.startswith("raylab/cluster/"):
            continue
        found = [inside for module, inside in imports(name) if is_below(module, "raylab.cluster")]
        may = name.startswith("raylab/cli/") or name == "raylab/notebook.py"
        if found and not (may and all(found)):
            wrong.append(name)
    assert wrong == []


def test_imports_torch_only_where_weights_are():
    others = [name for name in NAMES if not name.startswith(MAY_TORCH)]
    assert {name: imported(name, "torch") for name in others if imported(name, "torch")} == {}


def package_of(module):
    """`raylab.store.records` -> `store`."""
    return module.split(".")[1] if "." in module else module


def test_imports_run_downwards():
    places = {package: place for place, package in enumerate(ORDER)}
    upward = {}
    for name in NAMES:
        own = package_of(name.removesuffix(".py").replace("/", "."))
        if own in ("__init__", "raylab"):
            continue
        used = {package_of(module) for module, _ in imports(name) if module.startswith("raylab.")}
        used &= places.keys()
        above = sorted(used_one for used_one in used if places[used_one] > places[own])
        if above:
            upward[name] = above
    assert upward == {}


def test_modules_have_docstrings():
    assert [name for name in NAMES if not (ast.get_docstring(parsed(name)) or "").strip()] == []


def test_modules_have_at_most_300_lines():
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in NAMES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_functions_nest_blocks_below_four():
    deep = {}
    for name in NAMES:
        functions = [node for node in ast.walk(parsed(name)) if isinstance(node, FUNCTIONS)]
        found = [f.name for f in functions if depth(f) >= 4]
        if found:
            deep[name] = found
    assert deep == {}


def loaded_by(modules, unwanted):
    code = f"import sys, json, {', '.join(modules)}\n"
    code += f"print(json.dumps([m for m in {list(unwanted)!r} if m in sys.modules]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_plan_and_cli_loads_nothing_heavy():
    light = ["raylab.cli", "raylab.plan.trials", "raylab.spec.study_file", "raylab.plan.cache"]
    assert loaded_by(light, HEAVY) == []


def test_importing_raylab_and_the_verb_table_loads_nothing_heavy():
    light = ["raylab", "raylab.report.terminal.table_view", "raylab.store.table_query"]
    assert loaded_by(light, HEAVY) == []


def test_importing_merges_and_differences_loads_no_torch():
    unwanted = ("torch", "transformers", "peft")
    assert loaded_by(["raylab.merge.merge", "raylab.reduce.diff"], unwanted) == []


def test_importing_report_loads_neither_torch_nor_ray_nor_transformers():
    found = [name for name in NAMES if name.startswith("raylab/report/")]
    modules = [name.removesuffix(".py").removesuffix("/__init__") for name in found]
    unwanted = ("torch", "ray", "transformers", "datasets")
    assert loaded_by([m.replace("/", ".") for m in modules], unwanted) == []


def test_depth_of_known_code_is_counted():
    code = "def f():\n if a:\n  pass\n elif b:\n  for c in d:\n   while e:\n    with g: pass\n"
    assert depth(ast.parse(code).body[0]) == 4
