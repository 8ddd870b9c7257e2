"""What a study cannot merge to an adapter is refused by `raylab plan`, before anything trains."""

from __future__ import annotations

import json

import pytest
import torch

from tests.architectures import save_adapter, save_tiny, tiny_model
from tests.chats import tiny_tokenizer
from tests.commands import exit_status
from tests.mixtures import save_mixture
from tests.studies import D0, write_jsonl

Q = {"target_modules": ["q_proj"]}


def study(folder, models=(), targets="all-linear", base=None, **merge):
    """A study over a tiny model in `folder`, with a merge of its recipe and of `models`."""
    (base or tiny_model("llama", 0, torch.float32, vocab_size=400)).save_pretrained(folder / "base")
    tiny_tokenizer("llama").save_pretrained(folder / "base")
    write_jsonl(folder / "d0.jsonl", D0)
    values = {
        "name": "merging",
        "base_models": {"tiny": {"path": "base"}},
        "data": {"D0": {"path": "d0.jsonl"}},
        "seeds": [42],
        "lora": {"target_modules": targets, "dropout": 0},
        "evaluation": {"prompts": 0},
        "recipes": {"sft": {"method": "sft", "data": "D0"}},
        "models": {name: {"path": name, "base_model": "tiny"} for name in models},
        "merges": {"m": {"method": "linear", "models": ["sft", *models], "as": "adapter", **merge}},
    }
    (folder / "study.yaml").write_text(json.dumps(values))
    return folder / "study.yaml"


def refused(file, capsys):
    """What `raylab plan` says, with the status of bad input."""
    assert exit_status("plan", file) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("lora", "named"),
    [
        ({**Q, "use_dora": True}, "DoRA"),
        ({**Q, "modules_to_save": ["norm"]}, "saved whole"),
        ({"target_modules": ["embed_tokens"]}, "LoRA on an embedding"),
    ],
)
def test_finished_adapter_of_more_than_factors_is_refused(tmp_path, capsys, lora, named):
    file = study(tmp_path, ["other"])
    save_adapter(tmp_path / "other", tmp_path / "base", **lora)
    message = refused(file, capsys)
    assert "other is more than LoRA on linear layers" in message and named in message


def test_finished_checkpoint_is_refused(tmp_path, capsys):
    file = study(tmp_path, ["whole"])
    tiny_model("llama", 1, torch.float32, vocab_size=400).save_pretrained(tmp_path / "whole")
    assert "whole is a whole model" in refused(file, capsys)


@pytest.mark.parametrize("method", ["core_ties", "knots_ties"])
def test_finished_checkpoint_is_refused_by_a_method_of_factors(tmp_path, capsys, method):
    file = study(tmp_path, ["whole"], **{"method": method, "as": "model"})
    tiny_model("llama", 1, torch.float32, vocab_size=400).save_pretrained(tmp_path / "whole")
    message = refused(file, capsys)
    assert "whole is a whole model" in message and "by tsv" in message


def test_trial_of_more_than_linear_layers_is_refused_by_a_method_of_factors(tmp_path, capsys):
    targets = ["embed_tokens", "q_proj"]
    file = study(tmp_path, targets=targets, **{"method": "core_tsv", "as": "model"})
    assert "by tsv, iso_c or ties" in refused(file, capsys)


@pytest.mark.parametrize("form", ["model", "adapter"])
def test_methods_of_matrices_are_planned_with_their_parameters(tmp_path, form):
    merge = {"method": "tsv", "as": form, "parameters": {"k": 2}, "lambda": 0.5}
    assert exit_status("plan", study(tmp_path, **merge)) == 0


def test_finished_adapter_of_another_base_is_refused(tmp_path, capsys):
    file = study(tmp_path, ["foreign"])
    other = save_tiny(tmp_path / "other", "gpt_neox")
    save_adapter(tmp_path / "foreign", other)
    assert "does not fit the base model" in refused(file, capsys)


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"]])
def test_trial_that_adapts_more_than_linear_layers_is_refused(tmp_path, capsys, targets):
    message = refused(study(tmp_path, targets=targets), capsys)
    assert "tiny.sft.s42 will be more than LoRA on linear layers" in message
    assert "embed_tokens" in message


def test_trial_that_adapts_experts_is_refused(tmp_path, capsys):
    file = study(tmp_path)
    save_mixture(tmp_path / "mixture", "mixtral")
    values = json.loads(file.read_text())
    values["base_models"]["tiny"]["path"] = "mixture"
    file.write_text(json.dumps(values))
    assert "mlp.experts" in refused(file, capsys)


def test_plain_adapters_are_planned(tmp_path):
    file = study(tmp_path, ["other"])
    save_adapter(tmp_path / "other", tmp_path / "base", r=3)
    assert exit_status("plan", file) == 0
