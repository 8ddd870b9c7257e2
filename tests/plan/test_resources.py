"""GPU memory and hours of a study: rows, the longest lengths that fit, and warnings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn
from transformers import AutoModelForCausalLM

from raylab.number_format import size
from raylab.plan.merges import plan_merges
from raylab.plan.resources import CARDS, disk_lines, gpu_demands, too_large
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.models import ResolvedModel
from raylab.spec.study_file import parse_study
from tests.studies import D0, make_inputs, make_study

ELYZA = "elyza/Llama-3-ELYZA-JP-8B"
GB = 10**9


def planned(source=ELYZA, **changes):
    study = make_study(seeds=[1], held_out=0, **changes)
    found = make_inputs(study)
    bases = {name: ResolvedModel(name, "hub:x", None, source) for name in study.base_models}
    inputs = replace(found, base_models=bases)
    return study, inputs, plan_trials(study, inputs)


def test_gpu_demands_group_trials_by_method_and_settings():
    study, inputs, trials = planned()
    rows = gpu_demands(study, inputs, trials)
    assert [(row.method, row.trials) for row in rows] == [("sft", 2), ("dpo", 3)]
    assert all(set(row.fits["plain"]) == {str(card) for card in CARDS} for row in rows)
    assert rows[1].memory > rows[0].memory
    assert rows[0].document["parameters"] == 8030261248


def test_gpu_demands_hours_follow_from_characters():
    recipes = {"only": {"method": "sft", "data": "D0"}}
    study, inputs, trials = planned(recipes=recipes)
    tokens = sum(len(prompt) + len(answer) + 32 for prompt, answer in D0)
    seconds = 4 * 8030261248 * tokens * 3 / (312e12 * 0.3)
    assert gpu_demands(study, inputs, trials)[0].hours == pytest.approx(seconds / 3600)


def test_gpu_demands_of_unknown_model_are_unknown():
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


def test_merged_adapters_take_the_room_of_their_ranks(study_text, demo_base):
    """Linear layers of the base model by transformers; 4 bytes for each row and column."""
    recipes = """
recipes:
  a: {method: sft, data: D0}
  b: {method: sft, data: D1, lora: {r: 3}, parent: a}
merges:
  sum: {method: linear, models: [a, b], as: adapter}
  cut: {method: ties, models: [a, b], as: adapter, rank: 5}
"""
    study = parse_study(study_text + recipes, Path("study.yaml"))
    inputs = read_inputs(study)
    trials = plan_trials(study, inputs)
    (line,) = disk_lines(study, inputs, [*trials, *plan_merges(study, inputs, trials)])
    model = AutoModelForCausalLM.from_pretrained(demo_base)
    linear = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"]
    sides = sum(m.in_features + m.out_features for m in linear)
    assert f", 2 merged adapters {size(4 * ((8 + 8 + 3) + 5) * sides)}" in line
