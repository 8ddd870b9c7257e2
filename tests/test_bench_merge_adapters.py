"""The bench of merges through factors: what it prints of a small layer; no time is judged."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from raylab.merge.matrices import RULES

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_merge_adapters")
    sys.path.remove(str(JOBS))


def test_small_bench_prints_every_method_beside_whole_matrices(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_merge_adapters.py", "--small"])
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda count: None)
    bench.main()
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "`" in line]
    assert [(line[0].strip(" `"), int(line[1])) for line in lines] == [
        (method, models) for models in (4, 8) for method in RULES
    ]
    apart = [float(line[5]) for line in lines if line[5].strip()]
    assert len(apart) == 6 and max(apart) < 1e-9


def test_large_bench_bounds_the_whole_way_by_measured_decompositions(bench, monkeypatch):
    monkeypatch.setattr(bench, "decomposition", lambda shape: 100.0)
    rows = {row.method: row.whole for row in bench.rows_of((20, 12), [4], 2, large=True)}
    assert rows.keys() == RULES.keys()
    assert (rows["tsv"], rows["iso_c"], rows["iso_cts"], rows["core_ties"]) == (400, 100, 500, None)


def test_decomposition_of_a_layer_takes_time(bench):
    assert bench.decomposition((20, 12)) > 0
