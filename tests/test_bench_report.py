"""The bench of reports: its made-up study is one that raylab reads; no time is judged."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from raylab.report.findings.every_finding import find_all
from raylab.report.study_tables import Tables
from raylab.store.filesystem import Store
from raylab.store.tables import read_tables

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_report")
    sys.path.remove(str(JOBS))


def test_made_up_study_has_findings_and_a_report_of_its_own(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "SEEDS", range(2))
    study = bench.made_up(tmp_path)
    found = find_all(Tables(read_tables(Store(str(tmp_path)))))
    factors = {row["factor"] for row in found["effects"].frames["effects"]}
    assert {"method", "data", "learning_rate"} <= factors
    assert len(found["similarity"].frames["similarity"]) == 40 * 39 / 2
    cost = bench.report(JOBS.parent, study, tmp_path)
    assert (tmp_path / "report" / "report.html").stat().st_size > 1e5
    assert cost.seconds > 0 and cost.memory > 50e6


def test_best_has_the_least_times_and_the_highest_peak(bench):
    costs = [bench.Cost(3.0, 2.0, 10), bench.Cost(2.0, 2.5, 20)]
    assert bench.best(costs) == bench.Cost(2.0, 2.0, 20)
    assert bench.line("x", costs[0], "y") == "| x | 3.0 | 2.0 | 0 MB | y |"
