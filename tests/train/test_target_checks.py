"""What an adapter of a study cannot reach is said by `plan`, in PEFT's place or before it."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import HrmTextConfig, Mamba2Config, PhimoeConfig

from raylab.errors import ModelError
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from tests.architectures import random_model, save_adapter, tiny_model
from tests.chats import tiny_tokenizer
from tests.commands import exit_status
from tests.studies import D0, write_jsonl

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 400}
_ATTENTION = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: tiny_model("llama", 0, torch.float32, vocab_size=400),
    "mamba2": lambda: random_model(
        Mamba2Config(**_SIZES, state_size=4, num_heads=8, head_dim=8, n_groups=1), 0, torch.float32
    ),
    "phimoe": lambda: random_model(
        PhimoeConfig(**_SIZES, **_ATTENTION, num_local_experts=4), 0, torch.float32
    ),
    "hrm_text": lambda: random_model(HrmTextConfig(**_SIZES, **_ATTENTION), 0, torch.float32),
}


def study_over(folder, architecture, targets):
    """A study over a tiny model in `folder` whose adapters have these `target_modules`."""
    MODELS[architecture]().save_pretrained(folder / "base")
    tiny_tokenizer("llama").save_pretrained(folder / "base")
    write_jsonl(folder / "d0.jsonl", D0)
    values = {
        "name": "targets",
        "base_models": {"tiny": {"path": "base"}},
        "data": {"D0": {"path": "d0.jsonl"}},
        "seeds": [42],
        "lora": {"target_modules": targets, "dropout": 0},
        "evaluation": {"prompts": 0},
        "recipes": {"sft": {"method": "sft", "data": "D0"}},
    }
    (folder / "study.yaml").write_text(json.dumps(values))
    return folder / "study.yaml"


@pytest.mark.parametrize(
    ("architecture", "targets", "named"),
    [
        ("llama", ["elsewhere"], "elsewhere"),
        ("llama", ["q_proj", "elsewhere"], "elsewhere"),
        ("llama", ["input_layernorm"], "not supported"),
        ("mamba2", "all-linear", "out_proj"),
        ("phimoe", "all-linear", "mlp.router"),
        ("hrm_text", "all-linear", "through Chunk"),
    ],
)
def test_targets_that_cannot_be_trained_or_reduced_are_refused_by_plan(
    tmp_path, capsys, architecture, targets, named
):
    assert exit_status("plan", study_over(tmp_path, architecture, targets)) == 2
    message = capsys.readouterr().err
    assert named in message
    assert "target_modules" in message


@pytest.mark.parametrize(
    ("architecture", "targets", "reached"),
    [
        ("llama", ["q_proj", "embed_tokens"], "embed_tokens, self_attn.q_proj"),
        ("phimoe", ["q_proj", "o_proj"], "self_attn.o_proj, self_attn.q_proj"),
        ("mamba2", ["in_proj"], "mixer.in_proj"),
    ],
)
def test_targets_that_are_reached_are_printed_by_plan(
    tmp_path, capsys, architecture, targets, reached
):
    assert exit_status("plan", study_over(tmp_path, architecture, targets)) == 0
    assert f"target_modules [{', '.join(targets)}] reaches {reached}" in capsys.readouterr().out


def test_router_that_gives_several_tensors_fails_in_pefts_forward():
    model = get_peft_model(MODELS["phimoe"](), LoraConfig(target_modules="all-linear"))
    with pytest.raises(AttributeError, match="tuple"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_adapter_of_weights_that_loading_splits_is_not_read(tmp_path):
    MODELS["hrm_text"]().save_pretrained(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", tmp_path / "base")
    with pytest.raises(ModelError, match="does not fit the base model"):
        Adapter.open(adapter, Checkpoint(tmp_path / "base"))
