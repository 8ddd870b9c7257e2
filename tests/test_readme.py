"""The README and the pages of docs/: every command is run, every name in them exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from raylab.spec.study import Study
from raylab.spec.study_file import parse_study
from tests.commands import exit_status

ROOT = Path(__file__).parents[1]
# In the order in which a newcomer reads them; they share one folder and one OUT.
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("study", "data", "cluster", "report", "gpu")),
)
TEXT = {name: (ROOT / name).read_text() for name in PAGES}
README = TEXT["README.md"]
# The demo is run by way of the quick study; making an environment is what `make` did before this
# test; clusters are described in test_cluster_files.py, and started in cluster/test_submit.py; a
# bundle is made in test_offline_bundle.py. All checks of a GPU take minutes.
ELSEWHERE = re.compile(
    r"make demo|python3\.11 -m venv|\.venv/bin/pip|ray (job|start|up|get-auth)|export RAY_|kubectl"
    r"|pip list|jobs/offline_bundle|bash bundle|python -m raylab"
    r"|python jobs/check_gpu\.py$"
)


def blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT[name], re.S)


def commands(name):
    lines = [line for block in blocks(name, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines]


def run(command):
    """Run one command of a page: raylab in this process, everything else in a shell."""
    words = shlex.split(command)
    if words[0] != "raylab" or ">" in words:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            command, shell=True, env=environment, capture_output=True, timeout=300
        )
        assert done.returncode == 0, (command, done.stderr)
        return
    assert exit_status(*words[1:]) == 0, command


@pytest.mark.slow
def test_commands_and_examples_of_all_pages_in_order_succeed(
    quick, local_ray, tmp_path, monkeypatch
):
    # `raylab run` of the quick study has been run as a user does, into a folder of its own.
    shutil.copytree(quick[0], tmp_path / "runs" / "quick")
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    wanted = dict.fromkeys(c for name in PAGES for c in commands(name) if not ELSEWHERE.match(c))
    assert any(command.startswith("raylab run") for command in wanted)
    for command in wanted:
        run(command)
    for example in blocks("docs/report.md", "python"):
        exec(compile(example, "docs/report.md", "exec"), {})


def test_report_page_has_three_examples_for_a_notebook():
    found = blocks("docs/report.md", "python")
    assert len(found) == 3 and all("raylab.open(" in example for example in found)


def test_readme_has_at_most_12_kb():
    assert len(README.encode()) <= 12 * 1024


def test_pages_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for text in TEXT.values():
        for target in re.findall(r"`make ([\w-]+)`", text):
            assert f"\n{target}:" in makefile, target


def test_readme_demo_target_runs_the_demo_study():
    assert "raylab run jobs/demo/study.yaml" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", ["README.md", "docs/study.md"])
def test_example_of_a_study_is_valid(name):
    text, *fields = blocks(name, "yaml")
    seeds = parse_study(text, Path("study.yaml")).seeds
    assert list(map(str, seeds)) == ["42", "100"]
    yaml = YAML(typ="safe")
    for form in (form for block in fields for form in _forms(block)):
        assert Study.model_validate(yaml.load(text) | yaml.load(form))


def _forms(block):
    """A field in another form: the whole block, or each line of one without indented lines."""
    if re.search("^ ", block, re.MULTILINE):
        return [block]
    return [line.partition("    ")[0] for line in block.splitlines() if ":" in line]


def test_pages_name_only_files_that_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for name in re.findall(r"`((?:raylab|jobs|tests|docs)/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in (ROOT / "raylab").iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"`{folder.name}/`" in text, folder.name


def test_architecture_names_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = [*project["dependencies"], *(name for extra in extras for name in extra)]
    names = [re.match(r"[a-z0-9.-]+", name).group() for name in needed]
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text[text.index("## Dependencies") : text.index("## Speed")]
    pins = (ROOT / "constraints.txt").read_text()
    for name in names:
        assert name in section, name
        assert f"\n{name}==" in pins, name


def test_architecture_walk_names_functions_that_exist_in_at_most_15_steps():
    text = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\d+\. `([\w/.]+)`: `(\w+)`", text, re.M)
    assert 10 <= len(steps) <= 15
    for file, name in steps:
        tree = ast.parse((ROOT / file).read_text())
        defined = [node.name for node in tree.body if hasattr(node, "name")]
        assert name in defined, f"{file} has no {name}"
