"""What one `raylab` command costs, by the code of any checkout of this repository.

Model: the command runs in a process of its own, imports included, with the checkout first on the
path of imports. Python's caches of compiled modules are made by a run that is not counted.
A small process starts it: Linux counts the memory of whoever starts a process in its peak.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MERGED = "merged"
"""The folder, beside which commands run, that a merge writes to."""

_STARTER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
seconds = time.perf_counter() - start
child.returncode = os.waitstatus_to_exitcode(status)
processor = used.ru_utime + used.ru_stime
print(json.dumps([child.returncode, seconds, processor, used.ru_maxrss << 10]))
"""
"""Prints the exit status of a command and its Cost."""


@dataclass(frozen=True)
class Cost:
    """One command: wall seconds, seconds of all processors, peak resident bytes."""

    seconds: float
    processor: float
    memory: int


def command(code: Path, words: Sequence[str], directory: Path, cores: int | None = None) -> Cost:
    """`raylab` with `words` by the code in a checkout, on so many cores (None: all that there are).
    Ends the bench with its words where it fails."""
    line = [sys.executable, "-m", "raylab", *words]
    if cores:
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        line = ["taskset", "--cpu-list", ",".join(map(str, chosen)), *line]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    shutil.rmtree(directory / MERGED, ignore_errors=True)  # A merge writes into a new folder.
    with tempfile.TemporaryFile() as err:
        started = [sys.executable, "-S", "-c", _STARTER, *line]
        done = subprocess.run(
            started, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=err, check=True
        )
        status, *cost = json.loads(done.stdout)
        if status:
            err.seek(0)
            sys.exit(f"{' '.join(line)}\n{err.read().decode(errors='replace')[-2000:]}")
    return Cost(*cost)


def best(costs: Sequence[Cost]) -> Cost:
    """The least time of each kind, and the highest peak."""
    return Cost(
        min(cost.seconds for cost in costs),
        min(cost.processor for cost in costs),
        max(cost.memory for cost in costs),
    )


def in_turns(
    codes: Mapping[str, Path],
    words: Sequence[str],
    directory: Path,
    turns: int,
    cores: int | None = None,
) -> dict[str, Cost]:
    """The best of `turns` runs by each checkout, run one after the other."""
    for code in codes.values():
        command(code, words, directory, cores)
    found: dict[str, list[Cost]] = {name: [] for name in codes}
    for _ in range(turns):
        for name, code in codes.items():
            found[name].append(command(code, words, directory, cores))
    return {name: best(costs) for name, costs in found.items()}
