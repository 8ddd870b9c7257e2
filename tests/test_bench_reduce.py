"""The bench: what it makes, how it measures, what it prints; tiny sizes, and no time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module", autouse=True)
def _jobs_on_the_path():
    sys.path.insert(0, str(JOBS))
    yield
    sys.path.remove(str(JOBS))


@pytest.fixture(scope="module")
def models(_jobs_on_the_path):
    import bench_models

    return bench_models


@pytest.fixture(scope="module")
def measure(_jobs_on_the_path):
    import bench_measure

    return bench_measure


@pytest.fixture
def tiny(models):
    return models.Llama(hidden=64, intermediate=96, key_value=32, layers=2, vocabulary=40)


def loaded(directory):
    return {k: v for f in sorted(directory.glob("*.safetensors")) for k, v in load_file(f).items()}


def test_half_b_has_half_a_billion_parameters_and_its_shapes_are_llamas(models, tiny):
    from transformers import AutoModelForCausalLM, LlamaConfig

    count = sum(int(np.prod(shape)) for shape in models.HALF_B.shapes().values())
    assert count == 501_007_872
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**tiny.config()))
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert tiny.shapes() == expected


def test_checkpoint_is_sharded_indexed_and_bf16(models, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_SHARD_BYTES", 20_000)
    monkeypatch.setattr(models, "_CHUNK", 1000)
    directory = models.write_checkpoint(tmp_path / "base", tiny)
    index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 3
    for name, file in index.items():
        with safe_open(directory / file, "pt") as opened:
            assert name in opened.keys()  # noqa: SIM118
    weights = loaded(directory)
    assert {name: tuple(value.shape) for name, value in weights.items()} == tiny.shapes()
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    down = weights["model.layers.1.mlp.down_proj.weight"].float()
    assert 0.018 < down.std() < 0.022
    assert len(down.unique()) > 1000  # no chunk repeats another


def test_trained_checkpoints_differ_a_little_and_leave_some_tensors_alone(models, tiny, tmp_path):
    base, a, b = (
        loaded(models.write_checkpoint(tmp_path / str(seed), tiny, seed)) for seed in (0, 1, 2)
    )
    linear = {f"{name}.weight" for name, _ in tiny.linear()}
    for name in tiny.shapes():
        first, second = a[name].float() - base[name].float(), b[name].float() - base[name].float()
        assert bool(first.any()) == bool(second.any()) == (name in linear)
        if name in linear:
            assert 0.002 < first.norm() / base[name].float().norm() < 0.008
            # Two trainings have nothing in common with each other or with the weights.
            for other in (second, base[name].float()):
                cosine = torch.cosine_similarity(first.flatten(), other.flatten(), dim=0)
                assert abs(cosine) < 0.15


def test_adapter_changes_all_linear_layers(models, tiny, tmp_path):
    directory = models.write_adapter(tmp_path / "x", tiny, 1)
    factors = loaded(directory)
    for name, (rows, columns) in tiny.linear():
        assert factors.pop(f"base_model.model.{name}.lora_A.weight").shape == (8, columns)
        assert factors.pop(f"base_model.model.{name}.lora_B.weight").shape == (rows, 8)
    assert not factors
    assert json.loads((directory / "adapter_config.json").read_text())["r"] == 8


def test_adapters_of_8b_are_below_200_mb(models):
    entries = sum(8 * (rows + columns) for _, (rows, columns) in models.EIGHT_B.linear())
    assert 2 * 4 * entries < 200e6


def test_measured_child_shows_its_time_output_and_own_memory(measure):
    code = "import time; held = bytearray(b'x' * (150 << 20)); time.sleep(0.2); print(len(held))"
    run = measure.measured([sys.executable, "-c", code])
    assert run.output == f"{150 << 20}\n"
    assert 0.2 < run.seconds < 20
    assert 150 << 20 < run.memory < 400 << 20


def test_best_of_runs_is_the_fastest_with_the_highest_peak(measure):
    runs = [measure.Run(2.0, 5, "a"), measure.Run(1.0, 3, "b"), measure.Run(3.0, 4, "c")]
    assert measure.best(iter(runs)) == measure.Run(1.0, 5, "b")


def test_measured_grandchild_counts_and_mapped_files_do_not(measure, tmp_path):
    file = tmp_path / "mapped"
    file.write_bytes(b"x" * (100 << 20))
    inner = f"""
import mmap, time
with open({str(file)!r}, "rb") as opened:
    mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    total = sum(mapped[i] for i in range(0, len(mapped), 4096))
    held = bytearray(b"x" * (50 << 20))
    time.sleep(0.2)
"""
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    memory = measure.measured([sys.executable, "-c", outer]).memory
    assert 50 << 20 < memory < 140 << 20


def test_measured_child_shows_its_processor_time_and_mapped_files_as_resident(measure, tmp_path):
    file = tmp_path / "mapped"
    file.write_bytes(b"x" * (100 << 20))
    code = f"""
import mmap, time
with open({str(file)!r}, "rb") as opened:
    mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    total = sum(mapped[i] for i in range(0, len(mapped), 4096))
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
"""
    run = measure.measured([sys.executable, "-c", code])
    assert run.resident > run.memory + (90 << 20)
    assert 0.3 < run.processor < 20


def test_measured_child_that_fails_ends_the_bench_with_its_words(measure):
    with pytest.raises(SystemExit, match="no such thing"):
        measure.measured([sys.executable, "-c", "raise ValueError('no such thing')"])


def test_plain_script_gives_what_numpy_gives(models, measure, tiny, tmp_path):
    a, b = (models.write_checkpoint(tmp_path / str(seed), tiny, seed) for seed in (1, 2))
    said = measure.measured(measure.python(measure.PLAIN, a, b, 0.1)).output.split()
    one, two = loaded(a), loaded(b)
    diff = np.concatenate([(one[n].float() - two[n].float()).numpy().ravel() for n in one])
    ordered = np.sort(np.abs(diff.astype(np.float64)))[::-1]
    assert float(said[1]) == pytest.approx(ordered.sum(), rel=1e-4)
    assert float(said[3]) == pytest.approx(np.sqrt((ordered**2).sum()), rel=1e-4)
    assert float(said[5]) == pytest.approx(ordered[int(0.1 * ordered.size) - 1], rel=1e-6)


def test_reading_script_prints_seconds(models, measure, tiny, tmp_path):
    a = models.write_checkpoint(tmp_path / "a", tiny)
    assert 0 < float(measure.measured(measure.python(measure.READ, a, a)).output) < 10


def test_extrapolation_follows_its_assumptions_by_hand(_jobs_on_the_path):
    import bench_paper

    found = bench_paper.extrapolated(models=20, parameters=8e9, gpus=8)
    assert found.read_bytes == 21 * 16e9
    assert found.reading == pytest.approx(21 * 16e9 / (8 * bench_paper.READ_PER_GPU))
    assert found.minutes == pytest.approx(max(found.reading, found.comparing) / 60, rel=0.2)
    larger = bench_paper.extrapolated(models=20, parameters=8e9, gpus=64)
    assert larger.reading == pytest.approx(found.reading / 8)
    text = bench_paper.extrapolation()
    assert text.count("\n") == 5
    assert "| 100 models of 70B | 64 | 14.26 TB |" in text


@pytest.fixture
def bench(_jobs_on_the_path):
    import bench_reduce

    return bench_reduce


def test_rows_of_workers_are_compared_with_the_first(bench, measure, monkeypatch):
    def measured_diff(a, b, threads, repeat):
        return bench.Inside(measure.Run(9.0, 7, ""), 6.0 / threads, {})

    monkeypatch.setattr(bench, "measured_diff", measured_diff)
    first, second = bench.worker_rows("adapters", Path("a"), Path("b"), [1, 2], 1)
    assert first == bench.Row("adapters, 1 thread, inside", 6.0, 7, "1.00 times as fast as 1")
    assert second == bench.Row("adapters, 2 threads, inside", 3.0, 7, "2.00 times as fast as 1")


@pytest.mark.slow
def test_bench_of_tiny_models_prints_every_row(bench, tiny, tmp_path, capsys):
    options = bench.parsed(["--repeat", "1", "--workers", "--directory", str(tmp_path), "--json"])
    options.model, options.adapted = tiny, replace(tiny, layers=1)
    bench.bench(options)
    found = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["reading both once"]["seconds"] < rows["plain script"]["seconds"]
    few, many = (
        next(row["remark"] for what, row in rows.items() if what.startswith(count))
        for count in ("2 comp", "20 comp")
    )
    assert few.split()[0] == many.split()[0]
    assert {"cpu", "cores", "torch"} <= set(found["machine"])
    assert not list(tmp_path.iterdir())


def test_bench_starts_from_any_working_directory(tmp_path):
    command = [sys.executable, str(JOBS / "bench_reduce.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--workers" in done.stdout


def test_large_pair_is_read_from_the_disk_and_subtracted(models, tiny, tmp_path):
    import bench_reduce

    a, b = (models.write_checkpoint(tmp_path / name, tiny, n) for n, name in enumerate("ab"))
    rows = list(bench_reduce.large_rows(a, b))
    assert [row.what.rpartition(",")[2].strip() for row in rows] == ["1 thread", "2 threads"] * 2
    assert all(row.seconds > 0 for row in rows)
    assert "of reading with 2" in rows[-1].remark
