"""The bench of trials: its arithmetic by hand, its scripts for real; no time is judged."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.study_file import load_study

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_trials")
    sys.path.remove(str(JOBS))


def trained(bench, seconds, memory, inside, training, adapter=b"same"):
    return bench.Trained(bench.Run(seconds, memory, ""), inside, training, 102, adapter)


def test_overhead_is_of_the_best_of_each_side(bench):
    plain = [trained(bench, 20.0, 7, 10.0, 9.0), trained(bench, 22.0, 5, 9.5, 8.0)]
    ours = [trained(bench, 21.0, 8, 12.0, 8.8), trained(bench, 25.0, 9, 11.0, 8.4)]
    rows = list(bench.compared(plain, ours))
    assert [(row.seconds, row.memory) for row in rows] == [
        (20.0, 7), (21.0, 9), (9.5, None), (11.0, None), (8.0, None), (8.4, None),
    ]  # fmt: skip
    assert [row.remark for row in rows[1::2]] == ["+5.0%", "+15.8%", "+5.0%"]
    assert rows[0].remark == "102 steps; all adapters have the same bytes"


def test_overhead_of_another_training_says_so(bench):
    plain, ours = trained(bench, 2, 7, 1, 1), trained(bench, 2, 7, 1, 1, b"other")
    assert "DIFFER" in next(bench.compared([plain], [ours])).remark


def test_gaps_are_from_each_end_to_the_next_first_step_less_the_step(bench):
    found = [
        bench.Timed("second", 105.0, 3.0, 0.75, 0.25),
        bench.Timed("first", 100.0, 4.0, 2.0, 0.25),
        bench.Timed("third", 108.5, 3.0, 0.5, 0.25),
    ]
    assert bench.gaps(found) == ([1.0, 0.5], [0.5, 0.25])


def test_schedule_is_held_against_its_simulation(bench):
    times = {"root": (10.0, 4.0), "child": (15.0, 5.0), "other": (10.5, 6.0)}
    found = [bench.Timed(name, *time, 1.0, 0.1) for name, time in times.items()]
    parents = {"root": None, "child": "root", "other": None}
    measured, simulated = bench.scheduled(found, parents)
    assert (measured.seconds, measured.remark) == (10.0, "25.0% idle")
    assert simulated.seconds == 9.0
    assert simulated.remark == "16.7% idle; no schedule ends before 9 s"


@pytest.mark.parametrize(("recipes", "seeds", "count"), [("EIGHT", 1, 8), ("FOUR", 250, 1000)])
def test_studies_of_the_bench_are_valid(bench, tmp_path, demo_base, recipes, seeds, count):
    training = sys.modules["bench_training"]
    kinds = getattr(training, recipes)
    file = training.write_study(tmp_path / "s.yaml", kinds, 1, seeds=range(seeds), base=demo_base)
    study = load_study(file)
    trials = plan_trials(study, read_inputs(study))
    assert len({trial.id for trial in trials}) == count
    assert study.resources.checkpoint_seconds == 60


def test_memory_alone_leaves_out_descendants(bench):
    measure = sys.modules["bench_measure"]
    inner = "held = bytearray(b'x' * (100 << 20)); import time; time.sleep(0.3)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    assert measure.measured([sys.executable, "-c", outer], alone=True).memory < 60 << 20


def test_bench_starts_from_any_working_directory(tmp_path):
    command = [sys.executable, str(JOBS / "bench_trials.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--seconds" in done.stdout


@pytest.mark.long
@pytest.mark.cluster
def test_bench_of_short_trainings_prints_every_row(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(JOBS.parent), *sys.path]))
    monkeypatch.setenv("RAYLAB_SCRATCH", "")
    words = "--seconds 0.3 --repeat 1 --epochs 0.1 --parts overhead gaps --json --directory"
    bench.bench(bench.parsed([*words.split(), str(tmp_path)]))
    found = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["trl alone, whole command"]["remark"].endswith("adapters have the same bytes")
    assert rows["raylab, whole command"]["seconds"] > rows["raylab, after the imports"]["seconds"]
    (gap,) = (row for what, row in rows.items() if what.startswith("one trial's end"))
    assert gap["seconds"] > 0
    assert "of 5;" in gap["remark"]
    assert {"cpu", "cores", "trl", "ray"} <= set(found["machine"])
    assert not list(tmp_path.iterdir())
