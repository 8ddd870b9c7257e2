"""What it costs to hold deltas against the base model's directions, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from raylab.errors import StudyError
from raylab.plan.directions import check_directions, directions_costs
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.spec.models import ResolvedModel
from raylab.spec.study_file import load_study
from tests.conftest import QUICK_STUDY
from tests.studies import make_inputs, make_study

DEMO = QUICK_STUDY.parent / "base"
SHAPES = {(192, 192): 8, (64, 192): 8, (512, 192): 8, (192, 512): 4}
"""Four layers: queries and outputs, keys and values, gate and up, down."""


def planned(**changes):
    study = make_study(**{"seeds": [42], "spectra": "base", **changes})
    inputs = make_inputs(study)
    bases = {
        name: replace(found, directory=DEMO, source=str(DEMO))
        for name, found in inputs.base_models.items()
    }
    inputs = replace(inputs, base_models=bases)
    return study, inputs, plan_trials(study, inputs)


def test_costs_are_none_where_they_are_not_asked_for():
    assert directions_costs(*planned(spectra="delta")) == []
    assert load_study(QUICK_STUDY).base_directions is not None


def test_costs_count_every_matrix_of_all_trials_once():
    study, inputs, trials = planned()
    [cost] = directions_costs(study, inputs, trials)
    assert (cost.base_model, cost.models) == ("tiny", len(trials))
    assert dict(cost.matrices) == SHAPES
    flop = sum(n * (2 * min(s) ** 2 * max(s) + 9 * min(s) ** 3) for s, n in SHAPES.items())
    assert math.isclose(cost.flop, flop)
    each = sum(n * (s[0] * s[1] + 2 * min(s) ** 2) for s, n in SHAPES.items())
    assert cost.entries == len(trials) * each
    assert cost.bytes == sum(n * 8 * min(s) * (min(s) + 1) for s, n in SHAPES.items())
    assert "28 decompositions (8 of 192 x 192" in cost.line and "6.2 MB in OUT" in cost.line
    assert cost.document["bytes"] == cost.bytes


def test_costs_of_chosen_modules_count_these_alone():
    [cost] = directions_costs(*planned(lora={"target_modules": ["q_proj", "down_proj"]}))
    assert dict(cost.matrices) == {(192, 192): 4, (192, 512): 4}


def test_costs_count_merged_and_finished_adapters_by_the_layers_of_their_models(tmp_path):
    config = {"peft_type": "LORA", "target_modules": ["v_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    changes = {
        "recipes": {
            "one": {"method": "sft", "data": "D0", "lora": {"target_modules": ["q_proj"]}},
            "two": {"method": "sft", "data": "D0", "lora": {"target_modules": ["down_proj"]}},
        },
        "models": {"done": {"path": str(tmp_path), "base_model": "tiny"}},
        "merges": {
            "small": {"method": "linear", "models": ["one", "done"], "as": "adapter"},
            "whole": {"method": "linear", "models": ["one", "two"]},
        },
    }
    study, inputs, trials = planned(**changes)
    found = ResolvedModel("done", "content:done", tmp_path, "done")
    inputs = replace(inputs, models={"done": found})
    merges = plan_merges(study, inputs, trials)
    [cost] = directions_costs(study, inputs, [*trials, *merges])
    assert cost.models == 4  # Two trials, the finished adapter, and the merge that is one.
    assert dict(cost.matrices) == {(192, 192): 4, (64, 192): 4, (192, 512): 4}
    entries = {s: s[0] * s[1] + 2 * min(s) ** 2 for s in cost.matrices}
    times = {(192, 192): 2, (64, 192): 2, (192, 512): 1}
    assert cost.entries == sum(4 * times[shape] * each for shape, each in entries.items())


def test_costs_of_a_base_model_that_is_not_there_are_unknown():
    study = make_study(seeds=[42], spectra="base")
    inputs = make_inputs(study)
    unknown = ResolvedModel("tiny", "hub:nobody", None, "nobody/nothing")
    inputs = replace(inputs, base_models=dict.fromkeys(inputs.base_models, unknown))
    trials = plan_trials(study, inputs)
    check_directions(study, inputs, trials)
    [cost] = directions_costs(study, inputs, trials)
    assert (cost.matrices, cost.bytes, cost.document["matrices"]) == (None, None, None)
    assert cost.line == "directions of tiny: unknown until it is downloaded"


def test_top_beyond_a_tensor_that_a_trial_adapts_is_refused_by_its_name():
    check_directions(*planned(spectra={"base": {"top": 64}}))
    with pytest.raises(StudyError) as caught:
        check_directions(*planned(spectra={"base": {"top": 65}}))
    message = str(caught.value)
    assert "top 65; self_attn.k_proj of tiny is 64 x 192" in message
    assert "at most 64" in message
    check_directions(
        *planned(spectra={"base": {"top": 65}}, lora={"target_modules": ["down_proj"]})
    )


@pytest.mark.parametrize(
    "wrong", [{"base": {"top": 0}}, {"base": {"epsilon": 1}}, {"base": {"k": 3}}, "all"]
)
def test_spectra_of_another_form_are_refused(wrong):
    with pytest.raises((StudyError, ValueError), match="spectra"):
        make_study(spectra=wrong)
