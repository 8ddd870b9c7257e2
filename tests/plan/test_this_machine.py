"""What a study costs on a machine without a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylab.plan.this_machine import (
    CPU_EFFICIENCY,
    dtype_warning,
    has_gpu,
    matmul_rate,
    time_here,
)
from raylab.plan.trials import plan_trials
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Quantization
from raylab.store.records import Record
from tests.studies import D0, make_inputs, make_study

PARAMETERS = 8030261248


def planned(source="elyza/Llama-3-ELYZA-JP-8B", **changes):
    recipes = {"only": {"method": "sft", "data": "D0"}}
    study = make_study(seeds=[1, 2], held_out=0, recipes=recipes, **changes)
    found = make_inputs(study)
    bases = {name: ResolvedModel(name, "hub:x", None, source) for name in study.base_models}
    inputs = replace(found, base_models=bases)
    return study, inputs, plan_trials(study, inputs)


def record_of(trial, **metrics):
    return Record(
        name=trial.name, id=trial.id, identity=dict(trial.identity), data={}, evaluation="x",
        versions={}, metrics=metrics,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "visible", "expected"),
    [
        (None, None, False),
        ("nvidiactl", None, False),
        ("nvidia0", None, True),
        ("nvidia0", "0,1", True),
        ("nvidia0", "", False),
        ("nvidia0", "-1", False),
        ("kfd", None, True),
    ],
)
def test_has_gpu_by_device_files_unless_they_are_hidden(
    file, visible, expected, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if file:
        (tmp_path / file).touch()
    assert has_gpu(tmp_path) is expected


def test_dtype_warning_says_what_to_set_and_is_silent_for_float32():
    assert "quantization: {compute_dtype: float32}" in dtype_warning(Quantization())
    assert "computes in bfloat16" in dtype_warning(Quantization())
    assert dtype_warning(Quantization(compute_dtype="float32")) is None


def test_time_here_without_finished_trials_follows_from_the_rate_measured(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("raylab.plan.this_machine.matmul_rate", lambda: 2e11)
    study, inputs, trials = planned()
    tokens = sum(len(prompt) + len(answer) + 32 for prompt, answer in D0)
    found = time_here(study, inputs, trials, {})
    # Two trials at once on two cores, so that both end when one does, at half of the rate.
    seconds = 4 * PARAMETERS * tokens * 3 / (1e11 * CPU_EFFICIENCY)
    assert found.seconds == pytest.approx(seconds)
    assert (found.by, found.at_once, found.trials, found.flops) == ("matmul", 2, 2, 2e11)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    alone = time_here(study, inputs, trials, {})
    assert alone.seconds == pytest.approx(seconds)  # One after the other, each at the whole rate.


def test_time_here_with_a_finished_trial_follows_from_it(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    study, inputs, (done, missing) = planned()
    record = record_of(done, seconds=50.0, steps=18, tokens_per_second=177.0)
    found = time_here(study, inputs, [missing], {done.id: record})
    assert (found.by, found.seconds, found.tokens_per_second) == ("trials", 50.0, 177.0)


def test_time_here_of_another_dtype_prefers_trials_of_its_own(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    records = {}
    for dtype, seconds in (("bfloat16", 300.0), ("float32", 100.0)):
        study, inputs, (done, _) = planned(quantization={"compute_dtype": dtype})
        identity = {**done.identity, "lora.r": 4}  # Not equivalent, so that work counts.
        records[dtype] = record_of(done, seconds=seconds, steps=18).model_copy(
            update={"identity": identity, "id": dtype}
        )
    found = time_here(study, inputs, [done], records)
    assert found.seconds == pytest.approx(100.0)


def test_time_here_of_unknown_shapes_is_unknown_and_of_nothing_is_none():
    study, inputs, trials = planned(source="somebody/else")
    assert time_here(study, inputs, trials, {}).seconds is None
    assert time_here(study, inputs, [], {}) is None


def test_matmul_rate_is_a_rate_that_a_processor_can_have():
    assert 1e8 < matmul_rate() < 1e15
