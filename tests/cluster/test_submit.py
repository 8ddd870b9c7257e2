"""Studies that `ray job submit` submits, by docs/cluster.md, to a cluster with a token.

Three are submitted at once: one that succeeds, one of which a trial fails, one that is not there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.cluster.nodes import Nodes
from tests.conftest import DEMO, STUDY
from tests.test_readme import ROOT, commands

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

COMMANDS = commands("docs/cluster.md")
OUT = "/shared/quick"
STUDY_FILE = "jobs/demo/study-quick.yaml"
BAD = "recipes:\n  bad: {method: sft, data: D1, training: {learning_rate: 1e30}}\n"
# What connected() passes on to workers as well: given twice, and no conflict.
VARIABLES, GIVEN = '{"env_vars":{', '"HF_HUB_OFFLINE":"1",'


def command_of(beginning):
    """The one command of docs/cluster.md that begins so."""
    (command,) = (each for each in COMMANDS if each.startswith(beginning))
    return command


RUN, REDUCE = (each for each in COMMANDS if each.startswith("ray job submit"))


@dataclass(frozen=True)
class Submitted:
    """What a shell has of a job: the command's exit status and what it printed."""

    status: int
    log: str


def submit(nodes: Nodes, checkout: Path, command: str) -> Submitted:
    """Run one of the commands of docs/cluster.md after its exports, the dashboard's port aside."""
    exports = (each.removeprefix("export ") for each in COMMANDS if each.startswith("export "))
    told = dict(each.split("=") for each in exports)
    assert told.keys() == {"RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS"}
    told["RAY_API_SERVER_ADDRESS"] = nodes.dashboard
    done = subprocess.run(
        shlex.split(command),
        cwd=checkout,
        env={**nodes.environment, **told},
        capture_output=True,
        text=True,
        timeout=400,
    )
    return Submitted(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The parts of the repository that a job needs, with a tenth of the demo's data."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("raylab", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (folder / "jobs" / "demo" / "data").glob("*.jsonl"):
        rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join(rows[::10]))
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A directory that every node sees."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def submitted(three_nodes, checkout, shared):
    """The three, by name."""
    study = shared / "bad.yaml"
    study.write_text(STUDY.format(base=DEMO / "base", demo=DEMO) + BAD)
    out = RUN.replace(OUT, str(shared / "bad"))
    commands = {
        "quick": RUN.replace(OUT, str(shared / "quick")),
        "bad": out.replace(STUDY_FILE, str(study)).replace(VARIABLES, VARIABLES + GIVEN),
        "none": RUN.replace(STUDY_FILE, "jobs/demo/none.yaml"),
    }
    with ThreadPoolExecutor() as threads:
        found = threads.map(
            lambda command: submit(three_nodes, checkout, command), commands.values()
        )
    return dict(zip(commands, found, strict=True))


def tables(out):
    return {name: read_table(Store(str(out)), name).to_pylist() for name in ("norms", "densities")}


def test_submitted_study_shows_progress_and_tables_and_succeeds(submitted, shared):
    status, log = submitted["quick"].status, submitted["quick"].log
    assert status == 0, log
    assert "2 of 2 trials to train" in log
    assert re.search(r"\[0/2\] demo\.sft-d1\.s42  starts", log)
    assert re.search(r"\[2/2\] demo\.dpo-d0-after-sft-d1\.s42  done in", log)
    assert "2 trials: 2 done" in log
    assert "3 comparisons measured" in log
    assert f"report: {shared}/quick/report/report.html" in log
    assert (shared / "quick" / "report" / "report.html").exists()


def test_submitted_study_log_holds_no_warning_and_no_traceback(submitted):
    log = submitted["quick"].log
    assert not re.search(r"warning|traceback|deprecat|no GPU", log.partition("entrypoint")[2], re.I)


def test_submitted_study_with_a_failing_trial_fails_with_its_tables(submitted):
    status, log = submitted["bad"].status, submitted["bad"].log
    assert status == 1
    assert "failed with exit code 1" in log
    assert "1 trial: 1 failed" in log
    assert "non_finite: the loss is not finite" in log
    assert "Traceback" not in log


def test_submitted_study_that_is_not_there_fails_with_one_message(submitted):
    status, log = submitted["none"].status, submitted["none"].log
    assert status == 1
    assert "failed with exit code 2" in log
    assert "raylab: the study file jobs/demo/none.yaml cannot be read" in log
    assert "found: not there: jobs/demo/none.yaml" in log
    assert "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1" in log
    assert "Traceback" not in log


def test_submitted_study_whose_data_git_ignores_says_which_file_did_not_travel(
    three_nodes, checkout, shared
):
    """The log is that of the same command without Ray, and says what is peculiar to a job."""
    folder = checkout / "mine"
    folder.mkdir()
    (folder / "secret.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    text = STUDY.format(base=DEMO / "base", demo=DEMO).replace(
        "data:\n", "data:\n  mine: {path: secret.jsonl}\n", 1
    )
    (folder / "study.yaml").write_text(text + "recipes:\n  a: {method: sft, data: mine}\n")
    (checkout / ".gitignore").write_text("*.jsonl\n")
    try:
        found = submit(three_nodes, checkout, RUN.replace(STUDY_FILE, "mine/study.yaml"))
    finally:
        (checkout / ".gitignore").unlink()
    assert found.status == 1
    assert "failed with exit code 2" in found.log
    assert "the file is not there" in found.log
    assert "to do: put the file there" in found.log and "mend or remove" not in found.log
    assert "found: not there: mine/secret.jsonl" in found.log


def test_submitted_reduction_gives_the_same_tables(submitted, three_nodes, checkout, shared):
    out = shared / "quick"
    before = tables(out)
    (out / "tables" / "norms.parquet").unlink()
    found = submit(three_nodes, checkout, REDUCE.replace(OUT, str(out)))
    assert found.status == 0, found.log
    assert "of 3 comparisons" in found.log
    assert tables(out) == before
