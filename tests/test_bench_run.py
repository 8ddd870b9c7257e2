"""The bench of a run counts processes as the system does; no time is judged."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

JOBS = Path(__file__).parents[1] / "jobs"
BUSY = """
import subprocess, sys, time
if sys.argv[1:]:
    children = [subprocess.Popen([sys.executable, __file__]) for _ in range(2)]
    sys.exit(sum(child.wait() for child in children))
while time.process_time() < 0.5:
    pass
time.sleep(0.3)
"""


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_run")
    sys.path.remove(str(JOBS))


def test_cost_of_a_command_holds_its_childrens_processor_seconds(bench, tmp_path):
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    cost = bench.cost_of([sys.executable, str(script), "two"], dict(os.environ), tmp_path)
    assert cost.processor > 0.9
    assert cost.seconds > 0


def test_command_that_fails_ends_the_bench_with_its_words(bench, tmp_path):
    with pytest.raises(SystemExit, match="no such study"):
        bench.cost_of(
            [sys.executable, "-c", "raise SystemExit('no such study')"], dict(os.environ), tmp_path
        )


def test_tables_that_differ_are_named_but_for_what_the_clock_says(bench, tmp_path):
    rows = {"name": ["a", "b"], "l2": [1.0, float("nan")], "seconds": [1.0, 2.0]}
    for place in ("one", "other"):
        (tmp_path / place / "tables").mkdir(parents=True)
        pa.parquet.write_table(pa.table(rows), tmp_path / place / "tables" / "trials.parquet")
    one, other = tmp_path / "one", tmp_path / "other"
    assert list(bench.differing(one, other)) == []
    shutil.copytree(other, tmp_path / "third")
    changed = pa.table(rows | {"l2": [1.0, 2.0], "seconds": [3.0, 2.0]})
    pa.parquet.write_table(changed, tmp_path / "third" / "tables" / "trials.parquet")
    assert list(bench.differing(one, tmp_path / "third")) == ["trials: l2"]
