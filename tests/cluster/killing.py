"""A study on a cluster of three nodes, and hands that kill what runs it.

Model: a driver is `raylab run` in a process of its own; `Driver` starts it, looks at what the store
says of its trials, and kills processes by their ids.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raylab.store.attempt_state import RunningAttempt, read_running
from raylab.store.columns import VOLATILE
from raylab.store.filesystem import Store
from raylab.store.records import read_attempts, read_progress
from raylab.store.tables import read_table

HEAD, WORKER = "ray start --head --port=6379", "ray start --address=HEAD:6379"
RAYLAB = str(Path(sys.executable).parent / "raylab")
TABLES = ("trials", "samples", "norms", "densities", "curve", "pairs", "spectra", "chains", "audit")
RECIPES = """
recipes:
  sft-d0: {method: sft, data: D0}
  sft-d1: {method: sft, data: D1}
  child: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1}
comparisons:
  - pair: [sft-d0, sft-d1]
  - base: [child]
resources: {checkpoint_seconds: 0}
"""
_PATIENCE = 400.0


def stable(out: Path) -> dict[str, list[dict[str, object]]]:
    """The tables, without what may differ between two runs of a study."""
    found = {}
    for name in TABLES:
        table = read_table(Store(str(out)), name)
        kept = [column for column in table.column_names if column not in VOLATILE]
        found[name] = table.select(kept).to_pylist()
    return found


@dataclass
class Driver:
    """One `raylab run` on a cluster, and the store that it writes."""

    study: Path
    out: Path
    environment: dict[str, str]
    address: str

    @contextlib.contextmanager
    def started(self, *, local: bool = False) -> Iterator[subprocess.Popen[str]]:
        """The driver at work, with a Ray of its own if `local`; killed if it still runs."""
        command = [RAYLAB, "run", str(self.study), "--out", str(self.out)]
        address = [] if local else ["--address", self.address]
        with (self.out.parent / "driver.log").open("a") as log:
            driver = subprocess.Popen(
                [*command, *address],
                env=self.environment, stdout=log, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
            try:
                yield driver
            finally:
                driver.kill()
                driver.wait()

    def finish(self, driver: subprocess.Popen[str]) -> None:
        """Wait for its end, which has to be a good one."""
        assert driver.wait(_PATIENCE) == 0, (self.out.parent / "driver.log").read_text()

    def folders(self) -> list[str]:
        """The folders of trials so far."""
        return Store(str(self.out)).names("trials")

    def running(self, step: int) -> list[tuple[str, RunningAttempt]]:
        """(folder, attempt) of trials that have kept a checkpoint of `step` or later."""
        store = Store(str(self.out))
        found = []
        for folder in self.folders():
            progress, attempt = read_progress(store, folder), read_running(store, folder)
            if progress and attempt and progress.get("checkpoint", 0) >= step:
                found.append((folder, attempt))
        return found

    def wait(self, ready: Callable[[], object], driver: subprocess.Popen[str]) -> None:
        """Until `ready` gives something; the driver has to live until then."""
        deadline = time.monotonic() + _PATIENCE
        while not ready():
            assert driver.poll() is None, (self.out.parent / "driver.log").read_text()
            assert time.monotonic() < deadline, "it did not come so far in time"
            time.sleep(0.05)

    def step(self, folder: str) -> int:
        """The last step that the trial told of."""
        progress = read_progress(Store(str(self.out)), folder)
        return progress["step"] if progress else 0

    def resumed(self, folder: str) -> list[int]:
        """The steps from which later attempts of the trial went on."""
        log = (self.out / "trials" / folder / "log.txt").read_text()
        return [int(step) for step in re.findall(r"goes on from step (\d+)", log)]

    def causes(self) -> list[str | None]:
        """The causes of all attempts, in the order of trials."""
        store = Store(str(self.out))
        return [a.cause for folder in self.folders() for a in read_attempts(store, folder)]


def kill(process: int) -> None:
    """End a process as the kernel would."""
    os.kill(process, signal.SIGKILL)
