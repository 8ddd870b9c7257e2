"""The bench of commands runs each of them by two checkouts; no time is judged."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_commands")
    sys.path.remove(str(JOBS))


def test_bench_prints_a_line_for_each_command_with_its_ratios(bench):
    shown = list(bench.lines(JOBS.parent, None, 1, 40))
    assert [line.split(" | ")[0] for line in shown[2:]] == [
        "| --help", "| schema", "| plan the demo", "| plan 40 rows", "| diff tiny models",
        "| diff tiny models one thread", "| merge task_arithmetic tiny models",
        "| merge ties tiny models",
    ]  # fmt: skip
    ratios = [float(line.split("|")[-3]) for line in shown[2:]]
    assert all(ratio > 0 for ratio in ratios)


def test_command_that_fails_ends_the_bench_with_its_message(bench, tmp_path):
    with pytest.raises(SystemExit, match="cannot be read"):
        bench.in_turns({"now": JOBS.parent}, ["plan", "none.yaml"], tmp_path, 1)
