"""An evaluation names the decoding settings of the model that it did not follow."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from raylab.spec.data.rows import Row
from raylab.spec.decoding import SET_ASIDE
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
