"""What a study asks of GPUs: rows, the longest lengths that fit, hours, and warnings."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from raylab.plan.memory import Workload, estimate_memory, longest_fit, usable
from raylab.plan.model_shapes import published, shape_of
from raylab.plan.resources import CARDS, gpu_demands, too_large
from raylab.plan.trials import plan_trials
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Evaluation, Lora, Quantization, Training
from tests.studies import D0, make_inputs, make_study

ELYZA, GEMMA = "elyza/Llama-3-ELYZA-JP-8B", "google/gemma-2-9b-it"
GB = 10**9


def need(hub=ELYZA, method="sft", **training):
    shape = shape_of(published()[hub])
    return Workload(shape, method, Quantization(), Lora(), Training(**training), Evaluation())


def planned(source=ELYZA, **changes):
    study = make_study(seeds=[1], held_out=0, **changes)
    found = make_inputs(study)
    bases = {name: ResolvedModel(name, "hub:x", None, source) for name in study.base_models}
    inputs = replace(found, base_models=bases)
    return study, inputs, plan_trials(study, inputs)


def test_memory_of_a_llama_of_8b_has_the_parts_that_its_config_gives():
    memory = estimate_memory(need())
    linear = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    assert memory.weights == linear // 2
    assert memory.constants == linear // 64 * 4
    assert memory.unquantised == 2 * (2 * 128256 * 4096 + 65 * 4096)
    assert memory.optimizer == 2 * memory.gradients == 2 * memory.adapters
    assert memory.phase == "training"


def test_memory_nested_constants_take_a_byte_and_a_two_hundred_and_fifty_sixth():
    double = replace(need(), quantization=Quantization(double=True))
    blocks = estimate_memory(need()).constants / 4
    assert estimate_memory(double).constants == pytest.approx(blocks * (1 + 4 / 256), rel=1e-3)


@pytest.mark.parametrize("hub", published())
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_longest_fit_fits_and_the_next_step_does_not(hub, method):
    for checkpointing in (False, True):
        asked = need(hub, method, gradient_checkpointing=checkpointing)
        longest = longest_fit(asked, 40 * GB)
        peaks = [
            estimate_memory(
                replace(asked, training=asked.training.model_copy(update={"max_length": length}))
            ).peak
            for length in (longest, longest + 64)
        ]
        assert peaks[0] <= usable(40 * GB)
        assert peaks[1] > usable(40 * GB) or longest + 64 > asked.shape.positions


def test_longest_fit_is_none_where_weights_alone_are_too_large():
    assert longest_fit(need(), 5 * GB) is None


def test_gemma_9b_of_the_original_takes_more_than_a_card_of_24_gb():
    assert estimate_memory(need(GEMMA)).peak > 24 * GB
    assert longest_fit(need(GEMMA, gradient_checkpointing=True), 24 * GB) >= 1024


def test_demands_group_trials_by_method_and_settings():
    study, inputs, trials = planned()
    rows = gpu_demands(study, inputs, trials)
    assert [(row.method, row.trials) for row in rows] == [("sft", 2), ("dpo", 3)]
    assert all(set(row.fits["plain"]) == {str(card) for card in CARDS} for row in rows)
    assert rows[1].memory > rows[0].memory
    assert rows[0].document["parameters"] == 8030261248


def test_demands_hours_follow_from_characters():
    recipes = {"only": {"method": "sft", "data": "D0"}}
    study, inputs, trials = planned(recipes=recipes)
    tokens = sum(len(prompt) + len(answer) + 32 for prompt, answer in D0)
    seconds = 4 * 8030261248 * tokens * 3 / (312e12 * 0.3)
    assert gpu_demands(study, inputs, trials)[0].hours == pytest.approx(seconds / 3600)


def test_demands_of_unknown_model_are_unknown():
    study, inputs, trials = planned(source="somebody/else")
    assert {
        (row.memory, row.hours, row.parameters) for row in gpu_demands(study, inputs, trials)
    } == {(None, None, None)}
    assert list(too_large(study, inputs, trials, 1)) == []


def test_too_large_warns_of_what_will_not_fit_and_of_nothing_else():
    study, inputs, trials = planned()
    assert list(too_large(study, inputs, trials, 80 * GB)) == []
    (warning,) = too_large(study, inputs, trials, 40 * GB)
    assert re.match(r"warning: tiny, dpo: about 42\.\d GB at its peak \(training\)", warning)
    assert len(list(too_large(study, inputs, trials, 24 * GB))) == 2


def test_too_large_takes_the_share_of_a_gpu():
    study, inputs, trials = planned(resources={"gpus": 0.25})
    assert len(list(too_large(study, inputs, trials, 80 * GB))) == 2
