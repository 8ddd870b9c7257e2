"""The lazy readers: rows as PEFT computes them, refusals by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from raylab.errors import ModelError
from raylab.store.tensors import Adapter, Checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model with a random adapter of patterns and rsLoRA, saved by PEFT."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
    )
    lora = LoraConfig(
        r=4,
        lora_alpha=12,
        target_modules="all-linear",
        rank_pattern={"q_proj": 2},
        alpha_pattern={"mlp.up_proj": 5},
        use_rslora=True,
    )
    model = get_peft_model(LlamaForCausalLM(config), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(path)
    return model, path


def test_adapter_rows_equal_peft_delta_weight_bit_for_bit(trained):
    model, path = trained
    adapter = Adapter.open(path)
    modules = dict(model.base_model.model.named_modules())
    assert len(adapter.names) == 14
    for name in adapter.names:
        expected = modules[name.removesuffix(".weight")].get_delta_weight("default").detach()
        assert adapter.shapes[name] == tuple(expected.shape)
        assert torch.equal(adapter.rows(name, 0, expected.shape[0]), expected), name


def edited(path, tmp_path, **changes):
    copy = tmp_path / "copy"
    copy.mkdir()
    config = json.loads((path / "adapter_config.json").read_text()) | changes
    (copy / "adapter_config.json").write_text(json.dumps(config))
    save_file(load_file(path / "adapter_model.safetensors"), copy / "adapter_model.safetensors")
    return copy


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_adapter_with_unread_part_is_refused_by_name(trained, tmp_path, changes, named):
    with pytest.raises(ModelError, match=named):
        Adapter.open(edited(trained[1], tmp_path, **changes))


def test_adapter_with_lone_factor_is_refused(trained, tmp_path):
    copy = edited(trained[1], tmp_path)
    tensors = load_file(copy / "adapter_model.safetensors")
    tensors.pop(next(key for key in tensors if "lora_A" in key))
    save_file(tensors, copy / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="pairs"):
        Adapter.open(copy)


@pytest.mark.parametrize("cut", [0, 4, 100])
def test_checkpoint_truncated_file_is_refused(tmp_path, cut):
    save_file({"w": np.ones((8, 8), np.float32)}, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:cut])
    with pytest.raises(ModelError, match="cannot be read"):
        Checkpoint(tmp_path)


def test_checkpoint_index_outside_its_directory_is_refused(tmp_path):
    index = {"weight_map": {"w": "../model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside its directory"):
        Checkpoint(tmp_path)


def test_checkpoint_rows_of_vector_and_matrix_are_float32(tmp_path):
    weights = {"w": np.arange(12, dtype=np.float16).reshape(4, 3), "b": np.ones(5, np.float32)}
    save_file(weights, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert torch.equal(checkpoint.rows("w", 1, 3), torch.tensor([[3.0, 4, 5], [6, 7, 8]]))
    assert checkpoint.rows("b", 0, 1).shape == (1, 5)


def test_checkpoint_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no weights"):
        Checkpoint(tmp_path)
