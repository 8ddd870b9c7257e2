"""What `raylab run` of a small study costs: `python jobs/bench_run.py --before CHECKOUT`.

Runs the quick study (or `--study`) by the code of another checkout and by this one, in turns, each
into an OUT of its own, and prints a Markdown table: seconds, and seconds of all processors by all
of its processes, Ray's daemons and workers too; the medians of all turns, each turn on standard
error. Last, the tables whose values differ; what a run's clock says is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylab.parquet import read_parquet

HERE = Path(__file__).resolve().parents[1]
QUICK = HERE / "jobs" / "demo" / "study-quick.yaml"
LOOK_SECONDS = 0.05
OF_ONE_RUN = {"started", "seconds", "tokens_per_second", "peak_memory_bytes"}
"""Columns that no two runs share."""


@dataclass(frozen=True)
class Cost:
    """One run: wall seconds, and seconds of all processors by it and its descendants."""

    seconds: float
    processor: float


def processes() -> dict[int, tuple[int, float]]:
    """(parent, seconds of processors so far) of every process of this machine."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[int(folder.name)] = int(fields[1]), used
    return found


def look(root: int, used: dict[int, float]) -> None:
    """Note in `used` what `root` and its descendants have used; the last look at each counts."""
    found = processes()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    # Of a process whose parent has ended, an earlier look knows whose it is.
    waiting = [root, *(pid for pid in used if pid in found)]
    while waiting:
        pid = waiting.pop()
        if pid in found:
            used[pid] = max(used.get(pid, 0.0), found[pid][1])
            waiting += [child for child in children.get(pid, ()) if child not in used]


def cost_of(command: Sequence[str], environment: dict[str, str], directory: Path) -> Cost:
    """Run `command`. Ends the bench with its words where it fails."""
    used: dict[int, float] = {}
    with tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=err
        )
        while child.poll() is None:
            look(child.pid, used)
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - start
        if child.returncode:
            err.seek(0)
            sys.exit(f"{' '.join(command)}\n{err.read().decode(errors='replace')[-2000:]}")
    return Cost(seconds, sum(used.values()))


def run(code: Path, study: Path, out: Path) -> Cost:
    """`raylab run` by the code in a checkout."""
    # Workers import raylab as the driver does.
    environment = {**os.environ, "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "raylab", "run", str(study), "--out", str(out)]
    return cost_of(command, environment, out.parent)


def differing(one: Path, other: Path) -> Iterator[str]:
    """The tables of two OUTs whose values differ, with the columns."""
    for file in sorted((one / "tables").glob("*.parquet")):
        a, b = read_parquet(file), read_parquet(other / "tables" / file.name)
        names = [name for name in a.column_names if name in b.column_names]
        # As text, so that NaN is NaN.
        columns = [n for n in names if str(a[n].to_pylist()) != str(b[n].to_pylist())]
        if columns := [name for name in columns if name not in OF_ONE_RUN]:
            yield f"{file.stem}: {', '.join(columns)}"


def lines(before: Path, study: Path, turns: int) -> Iterator[str]:
    """The table and what differs, a line at a time."""
    found: dict[Path, list[Cost]] = {before.resolve(): [], HERE: []}
    with tempfile.TemporaryDirectory(prefix="bench-run-") as work:
        for turn in range(turns):
            for place, code in enumerate(found):
                cost = run(code, study, Path(work) / f"{turn}-{place}")
                found[code].append(cost)
                print(f"{code}: {cost}", file=sys.stderr, flush=True)
        yield "| raylab run | before | now | ratio |"
        yield "|---|---:|---:|---:|"
        for what in ("seconds", "processor"):
            old, new = (
                statistics.median(getattr(cost, what) for cost in costs) for costs in found.values()
            )
            yield f"| {what} | {old:.1f} | {new:.1f} | {new / old:.2f} |"
        differ = list(differing(Path(work) / "0-0", Path(work) / "0-1"))
        yield f"\ntables that differ: {'; '.join(differ) or 'none'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--study", type=Path, default=QUICK)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    for text in lines(given.before, given.study.resolve(), given.turns):
        print(text, flush=True)
