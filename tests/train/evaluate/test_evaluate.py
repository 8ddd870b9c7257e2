"""An evaluation names the decoding settings of the model that it did not follow."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from raylab.plan.cache import DECODE_AGAIN, plan_states, questions_of
from raylab.spec.data.rows import Row
from raylab.spec.decoding import SET_ASIDE
from raylab.store.records import read_records, write_record
from raylab.train.evaluate.evaluate import evaluate_model
from raylab.train.model import load_tokenizer
from tests.conftest import DEMO
from tests.studies import make_study

ROWS = {"D0": [Row.of("空は？", "青いです。")], "D1": [Row.of("空は？", "青いですわ。")]}


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.5, "num_beams": 2}])
def test_settings_that_are_set_aside_are_in_the_metrics_and_in_the_log(settings, capsys):
    model = AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    study = make_study(evaluation={"max_new_tokens": 4, "likelihoods": False})
    tokenizer = load_tokenizer(DEMO / "base")
    found = evaluate_model(model, tokenizer, study, ROWS, ROWS["D0"], 1)
    assert found.metrics.get(SET_ASIDE, {}) == settings
    assert ("num_beams 2, repetition_penalty 1.5" in capsys.readouterr().out) == bool(settings)


def test_prompts_asked_beside_have_rates_and_answers_as_if_they_were_a_models_own():
    model = AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)
    asked = {"max_new_tokens": 4, "likelihoods": False, "sampled": 1, "style": "ojousama"}
    study, tokenizer = make_study(evaluation=asked), load_tokenizer(DEMO / "base")
    others = (Row.of("海は？", "広いですわ。"), Row.of("猫は？", "好きです。"))
    found = evaluate_model(model, tokenizer, study, ROWS, ROWS["D0"], 1, beside={"x": others})
    alone = evaluate_model(model, tokenizer, study, ROWS, others, 1)
    own = evaluate_model(model, tokenizer, study, ROWS, ROWS["D0"], 1)
    wanted = {kind: alone.metrics["answers"][kind] for kind in ("greedy", "sampled")}
    assert found.metrics["asked"] == {"x": wanted}
    assert found.beside == alone.samples and len(found.beside) == 4
    assert found.samples == own.samples
    assert {k: v for k, v in found.metrics.items() if k != "asked"} == own.metrics


def test_trial_over_a_base_with_decoding_settings_is_asked_once_and_then_cached(bench, copied_base):
    file = copied_base / "generation_config.json"
    settings = {"repetition_penalty": 1.5, "min_new_tokens": 5}
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    made = bench(
        evaluation="prompts: 2, likelihoods: false, every_epochs: null",
        base=f"{DEMO}/base->{copied_base}",
        rows="epochs: 1->epochs: 0.1",
    )
    record = made.run("sft-d1")
    assert record.metrics[SET_ASIDE] == dict(sorted(settings.items()))
    log = (made.folder("sft-d1") / "log.txt").read_text()
    assert "min_new_tokens 5, repetition_penalty 1.5" in log

    def state():
        questions = questions_of(made.study, made.inputs.rows)
        planned = [made.task("sft-d1").trial]
        (found,) = plan_states(
            planned, read_records(made.store)[0], questions.id, made.inputs.own_decoding
        )
        return found

    assert made.inputs.own_decoding == {"demo"}
    assert state().state == "cached"
    old = {key: value for key, value in record.metrics.items() if key != SET_ASIDE}
    write_record(made.store, record.folder, record.model_copy(update={"metrics": old}))
    assert (state().state, state().why) == ("to run", DECODE_AGAIN)
    adapter = made.adapter_bytes("sft-d1")
    assert made.run("sft-d1").metrics[SET_ASIDE] == record.metrics[SET_ASIDE]
    assert state().state == "cached"
    assert made.adapter_bytes("sft-d1") == adapter
