"""A submitted study that `ray job stop` stops in mid-step, with Ray's own 3 s and with more."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from raylab.cli.job import STOP_WAIT
from raylab.store.attempt_state import read_running
from raylab.store.checkpoints import read_latest
from raylab.store.filesystem import Store
from raylab.store.records import read_progress
from tests.cluster.test_submit import OUT, RUN, STUDY_FILE
from tests.conftest import DEMO, STUDY
from tests.test_readme import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.long]

_PATIENCE = 240.0
RECIPES = """
recipes:
  one: {method: sft, data: D1}
  two: {method: sft, data: D0}
  three: {method: dpo, chosen: D0, rejected: D1, parent: one}
resources: {checkpoint_seconds: 0}
"""


class Job:
    """Jobs of one study on one store."""

    def __init__(self, nodes, folder: Path) -> None:
        self._environment = {**nodes.environment, "RAY_API_SERVER_ADDRESS": nodes.dashboard}
        self._checkout = folder / "checkout"
        for name in ("raylab", "jobs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self._checkout / name, ignore=ignored)
        self.study, self.out = folder / "study.yaml", folder / "out"
        text = STUDY.replace("batch_size: 4", "batch_size: 1").replace("epochs: 1", "epochs: 40")
        text = text.replace("prompts: 4", "prompts: 2, likelihoods: false, every_epochs: null")
        self.study.write_text(text.format(base=DEMO / "base", demo=DEMO) + RECIPES)
        self.store = Store(str(self.out))

    def ray(self, *words: str) -> str:
        done = subprocess.run(
            ["ray", "job", *words],
            cwd=self._checkout,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, name: str, wait: str | None) -> None:
        command = RUN.replace(OUT, str(self.out)).replace(STUDY_FILE, str(self.study))
        if wait is None:
            command = re.sub(r"--runtime-env-json '.*?' ", "", command)
        words = shlex.split(command)[2:]
        assert (STOP_WAIT in command) == (wait is not None)
        self.ray(*words[:1], "--no-wait", "--submission-id", name, *words[1:])

    def wait_for(self, is_there, name: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not is_there():
            assert time.monotonic() < deadline, self.ray("logs", name)
            time.sleep(0.1)

    def steps(self) -> dict[str, int]:
        """The last step that each trial told of."""
        found = {}
        for folder in self.store.names("trials"):
            step = (read_progress(self.store, folder) or {}).get("step")
            if step and read_running(self.store, folder):
                found[folder] = step
        return found

    def stop(self, name: str) -> None:
        said = self.ray("stop", name)
        assert f"Job '{name}' was stopped" in re.sub(r"\x1b\[[0-9;]*m", "", said), said


@pytest.fixture(scope="module")
def job(three_nodes, tmp_path_factory):
    return Job(three_nodes, tmp_path_factory.mktemp("stop"))


def test_job_that_is_stopped_in_mid_step_with_rays_own_patience_loses_one_interval(job):
    """An interval is one step here. Whatever the driver had time for, the next job goes on."""
    job.submit("short", None)
    job.wait_for(lambda: len([s for s in job.steps().values() if s >= 3]) == 2, "short")
    before = job.steps()
    job.stop("short")
    kept = {folder: read_latest(job.store, folder).step for folder in before}
    assert all(kept[folder] >= step - 1 for folder, step in before.items()), (before, kept)
    assert "`ray job stop` gives this job 3 s" in job.ray("logs", "short")


def test_job_that_is_stopped_in_mid_step_saves_and_starts_nothing(job):
    job.submit("long", "600")
    log = lambda: job.ray("logs", "long")  # noqa: E731
    job.wait_for(lambda: len(job.steps()) == 2 and "starts" in log(), "long")
    goes_on = {f: read_latest(job.store, f).step for f in job.steps()}
    job.stop("long")
    said = log()
    assert "gives this job" not in said and "Traceback" not in said
    after = said[said.index("stopping: trials save") :]
    assert "starts" not in after
    kept = {f: read_latest(job.store, f) for f in goes_on}
    assert all(kept[f].step >= step for f, step in goes_on.items())
    for latest in kept.values():
        assert f"stopped; it goes on from step {latest.step} of {latest.steps}" in after
    assert "raylab: interrupted; the same command goes on from here" in after
    assert [read_running(job.store, f) for f in kept] == [None, None]
    shown = status_of(job)
    assert {row["message"] for row in shown if row["message"]} == {k.text for k in kept.values()}
    assert {row["status"] for row in shown} == {"pending"}


def status_of(job) -> list[dict]:
    done = subprocess.run(
        ["raylab", "status", str(job.study), "--out", str(job.out), "--json"],
        env=job._environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["trials"]
