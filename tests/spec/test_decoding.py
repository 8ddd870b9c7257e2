"""Decoding settings that come with a model: which would change an answer, and where they lie."""

from __future__ import annotations

import json

import pytest
from transformers import GenerationConfig

from raylab.errors import ModelError
from raylab.plan.cache import DECODE_AGAIN, plan_states
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.decoding import SET_ASIDE, set_aside, set_aside_of
from raylab.spec.study_file import parse_study
from raylab.store.records import Record
from tests.commands import exit_status
from tests.studies import D0, write_checkpoint, write_jsonl

QWEN = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "repetition_penalty": 1.05,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "transformers_version": "4.43.1",
}
"""As Qwen2.5's checkpoints come."""


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (QWEN, ["repetition_penalty"]),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}, []),
        ({"num_beams": 1, "length_penalty": 2.0, "early_stopping": True}, []),
        ({"num_beams": 4, "length_penalty": 2.0}, ["length_penalty", "num_beams"]),
        ({"forced_bos_token_id": 0}, ["forced_bos_token_id"]),
        ({"min_new_tokens": 3, "min_length": 2}, ["min_length", "min_new_tokens"]),
        ({"suppress_tokens": [], "bad_words_ids": None, "repetition_penalty": 1}, []),
        ({"max_length": 4096, "max_new_tokens": 2048, "use_cache": True}, []),
    ],
)  # fmt: skip
def test_settings_that_change_an_answer_are_named(settings, names):
    assert list(set_aside(settings)) == names


def test_settings_of_transformers_itself_change_no_answer():
    defaults = GenerationConfig._get_default_generation_params()
    assert set_aside(GenerationConfig().to_dict()) == {}
    assert set_aside(defaults) == {}


def test_settings_of_an_older_checkpoint_are_in_its_config(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "repetition_penalty": 1.2}')
    assert set_aside_of(tmp_path) == {"repetition_penalty": 1.2}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert set_aside_of(tmp_path) == {}
    (tmp_path / "generation_config.json").write_text("[1]")
    with pytest.raises(ModelError, match="no JSON"):
        set_aside_of(tmp_path)


@pytest.fixture
def study(tmp_path):
    write_checkpoint(tmp_path / "base")
    (tmp_path / "base" / "generation_config.json").write_text(json.dumps(QWEN))
    write_jsonl(tmp_path / "d0.jsonl", D0)
    (tmp_path / "study.yaml").write_text(
        f"name: x\nbase_models: {{b: {{path: {tmp_path}/base, chat_template: chatml}}}}\n"
        f"data: {{D0: {{path: {tmp_path}/d0.jsonl}}}}\nseeds: [1]\n"
        "recipes: {sft: {method: sft, data: D0}}\n"
    )
    return tmp_path / "study.yaml"


def test_plan_names_the_settings_that_are_set_aside_once(study, capsys):
    assert exit_status("plan", study, "--out", study.parent / "out") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "set aside" in line]
    assert "the base model b" in line and "repetition_penalty 1.05" in line


def test_answers_that_followed_such_settings_are_asked_again_and_newer_ones_are_not(study):
    parsed = parse_study(study.read_text(), study)
    inputs = read_inputs(parsed)
    (trial,) = plan_trials(parsed, inputs)
    record = Record(
        name=trial.name, id=trial.id, identity=dict(trial.identity), data={}, evaluation="e",
        versions={}, metrics={},
    )  # fmt: skip

    def state(metrics, own=inputs.own_decoding):
        records = {trial.id: record.model_copy(update={"metrics": metrics})}
        (found,) = plan_states([trial], records, "e", own)
        return found

    assert inputs.own_decoding == {"b"}
    assert (state({}).state, state({}).why) == ("to run", DECODE_AGAIN)
    assert state({SET_ASIDE: {"repetition_penalty": 1.05}}).state == "cached"
    assert state({}, own=()).state == "cached"
