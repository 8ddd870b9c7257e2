"""Every command in the README is run: as it stands, or by what stands for it here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from raylab.spec.study_file import parse_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)
# The demo is run by way of the quick study; making an environment is what `make` did before this
# test; clusters are described in test_cluster_files.py, and started in cluster/test_submit.py.
CLUSTER = README[README.index("## On a cluster") : README.index("## What is where")]
ELSEWHERE = {
    "make demo",
    *(command for command in COMMANDS if f"\n$ {command}\n" in CLUSTER),
    "python3.11 -m venv .venv",
    ".venv/bin/pip install -c constraints.txt -e '.[dev]'",
}


@pytest.mark.slow
def test_readme_commands_in_order_all_succeed(tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    ran = [command for command in COMMANDS if command not in ELSEWHERE]
    assert any(command.startswith("raylab run") for command in ran)
    for command in ran:
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, (command, done.stderr)
    for example in EXAMPLES:
        # What a notebook would show of the last line is printed here.
        *lines, last = [line for line in example.splitlines() if line]
        code = "\n".join([*lines, f"print({last.partition('  #')[0]})"])
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0 and done.stdout.strip(), (example, done.stderr)


def test_readme_has_three_examples_for_a_notebook():
    assert len(EXAMPLES) == 3 and all("raylab.open(" in example for example in EXAMPLES)


def test_readme_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile


def test_readme_demo_target_runs_the_demo_study():
    assert "raylab run jobs/demo/study.yaml" in (ROOT / "Makefile").read_text()


def test_readme_study_is_a_valid_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    study = parse_study(text, Path("study.yaml"))
    assert study.seeds == (42, 100)


def test_readme_architecture_names_every_module():
    section = README[README.index("## Architecture") :]
    for module in (ROOT / "raylab").rglob("*.py"):
        if module.name != "__init__.py":
            assert module.name in section, module


def test_readme_names_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = [*project["dependencies"], *(name for extra in extras for name in extra)]
    names = [re.match(r"[a-z0-9.-]+", name).group() for name in needed]
    section = README[README.index("## What each dependency") : README.index("## Limits")]
    pins = (ROOT / "constraints.txt").read_text()
    for name in names:
        assert name in section, name
        assert f"\n{name}==" in pins, name
