"""The bench of merges: what it asks of both programs, and what it prints; no time is judged."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from raylab.spec.mergekit import read_mergekit

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(JOBS))
    yield importlib.import_module("bench_merge")
    sys.path.remove(str(JOBS))


@pytest.fixture
def tiny(bench):
    models = importlib.import_module("bench_models")
    return models.Llama(hidden=64, intermediate=96, key_value=32, layers=2, vocabulary=40)


def test_every_configuration_is_one_that_raylab_reads(bench, tmp_path):
    found = bench.configurations("base", "a", "b")
    assert {"ties", "linear", "slerp", "passthrough", "sce"} <= found.keys()
    for method, config in found.items():
        file = tmp_path / f"{method}.yaml"
        file.write_text(json.dumps(config))
        assert read_mergekit(file).method == method


def test_versus_runs_both_in_turns_on_one_file(bench, monkeypatch, tmp_path):
    commands = []

    def measured(command):
        commands.append(command)
        (tmp_path / "out").mkdir()
        is_ours = command[1] == "merge"
        return bench.Run(2.0, 10, "", 3.0, 40) if is_ours else bench.Run(30.0, 40, "", 50.0, 60)

    monkeypatch.setattr(bench, "measured", measured)
    found = bench.versus("linear", {"merge_method": "linear"}, tmp_path, Path("mergekit-yaml"), 2)
    assert [command[1] == "merge" for command in commands] == [True, False, False, True]
    assert all(str(tmp_path / "linear.yaml") in command for command in commands)
    assert bench.line(found) == (
        "| linear | 2.0 (3.0) | 0 MB | 0 MB | 30.0 (50.0) | 0 MB | 0 MB | 1/15.0 | 1/4.0, 1/1.5 |"
    )


def test_bench_of_a_tiny_model_prints_a_line_for_the_method(bench, tiny, tmp_path, capsys):
    words = ["--methods", "ties", "--directory", str(tmp_path), "--turns", "1"]
    options = bench.parsed(words)
    options.model, options.mergekit = tiny, None
    bench.bench(options)
    table = capsys.readouterr().out.splitlines()
    assert [row for row in table if row.startswith("| ties |")]
    assert not list(tmp_path.iterdir())


def test_large_pair_is_merged_beside_a_copy_that_reads_all_and_writes_one(bench, tiny, tmp_path):
    base, tuned = (bench.write_checkpoint(tmp_path / name, tiny, i) for i, name in enumerate("ab"))
    options = bench.parsed(["--large", str(base), str(tuned)])
    *_, copied, merged = bench.lines(tmp_path, options)
    assert copied.startswith("| read 0.0 GB") and "times reading" in merged
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_large_pair_that_is_not_named_is_made(bench, tiny, tmp_path):
    options = bench.parsed(["--large"])
    options.large_model = tiny
    assert "times reading" in list(bench.lines(tmp_path, options))[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"base", "a"}


def test_copy_writes_as_many_bytes_as_the_first_checkpoint_has(bench, tiny, tmp_path):
    made = [bench.write_checkpoint(tmp_path / name, tiny) for name in "ab"]
    bench.measured(bench.python(bench.COPY, tmp_path / "out", *made))
    assert (tmp_path / "out").stat().st_size == bench.bytes_of(made[0])
