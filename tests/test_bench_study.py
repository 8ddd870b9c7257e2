"""The bench of a study's reduction, two checkouts side by side; no time is judged."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_study")
    sys.path.remove(str(JOBS))


@pytest.mark.slow
def test_bench_of_this_checkout_beside_itself_prints_every_row(bench, tmp_path):
    asked = ["--models", "3", "--turns", "1", "--threads", "1", "--no-warm"]
    options = bench.parsed([*asked, "--before", str(JOBS.parent), "--directory", str(tmp_path)])
    options.model = replace(options.model, hidden=64, intermediate=96, key_value=32)
    printed = list(bench.lines(options))
    whats = [line.split("|")[1].strip() for line in printed[2:]]
    calls = ["- sample", "- measure", "- collect", "- relate"]
    assert whats == ["before, 1 thread", *calls, "now, 1 thread", *calls]
    [now] = [line for line in printed if line.startswith("| now")]
    assert "cosines at most 0.0e+00 apart" in now
    assert not list(tmp_path.iterdir())


def test_median_of_calls_takes_unknown_ones_for_nothing(bench):
    runs = [{"seconds": {"all": [n, 2 * n]}} for n in (3.0, 1.0, 2.0)]
    assert (bench.median(runs, "all", 0), bench.median(runs, "all", 1)) == (2.0, 4.0)
    assert bench.median(runs, "mask", 0) == 0.0
