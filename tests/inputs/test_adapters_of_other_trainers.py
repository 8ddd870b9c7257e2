"""Adapters that other trainers saved: read as the trainer itself merges them, or refused by name.

tests/inputs/data/mlx_lm was made by mlx-lm 0.32.2 with mlx 0.32.4 on a CPU: a base model of
transformers, adapters of `linear_to_lora_layers` with random factors, saved as its trainer saves
them, and the weights after its own `fuse`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.errors import ModelError
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from tests.architectures import edited_adapter, save_adapter, save_tiny
from tests.commands import exit_status

MLX = Path(__file__).parent / "data" / "mlx_lm"
BASE = MLX / "base"
KINDS = ("lora", "dora", "embed")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("llama") / "base", "llama", dtype=torch.float32)


@pytest.fixture(scope="module")
def peft_adapter(llama, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("llama") / "adapter", llama)


def fused(kind):
    """(weights after mlx-lm's fuse, weights before)."""
    return load_file(MLX / kind / "fused.safetensors"), load_file(BASE / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_mlx_adapter_has_the_deltas_and_weights_that_mlx_lm_fuses(kind):
    after, before = fused(kind)
    adapter = Adapter.open(MLX / kind, Checkpoint(BASE))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {*adapter.names} == changed and len(changed) in (4, 14)
    for name in adapter.names:
        rows = before[name].shape[0]
        delta = adapter.rows(name, 0, rows).double()
        assert torch.allclose(delta, after[name].double() - before[name].double(), atol=1e-6), name
        merged = adapter.merged(name, 0, rows, before[name])
        assert torch.allclose(merged, after[name], atol=1e-6), name


@pytest.mark.parametrize("kind", ["lora", "embed"])
def test_diff_of_an_mlx_adapter_needs_no_base_and_has_the_norm_of_what_was_fused(kind, capfd):
    after, before = fused(kind)
    flat = [(after[name].double() - before[name].double()).numpy().ravel() for name in before]
    assert exit_status("diff", MLX / kind, BASE, "--base", BASE, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["norms"]["l2"] == pytest.approx(np.linalg.norm(np.concatenate(flat)), rel=1e-5)
    assert exit_status("diff", MLX / "lora", MLX / kind, "--json") == 0
    assert json.loads(capfd.readouterr().out)["accounting"]["compared"] > 0


def test_merge_of_an_mlx_adapter_is_the_model_that_mlx_lm_fuses(tmp_path):
    out = tmp_path / "out"
    words = ("--base", BASE, "--model", MLX / "lora", "--out", out)
    assert exit_status("merge", "linear", *words) == 0
    after, _ = fused("lora")
    merged = load_file(out / "model.safetensors")
    assert {*merged} == {*after}
    assert all(torch.allclose(merged[name], after[name], atol=1e-6) for name in after)


def test_mlx_adapter_of_dora_without_base_is_refused():
    with pytest.raises(ModelError, match="depends on the base model's weights"):
        Adapter.open(MLX / "dora")


REFUSED = {
    "full": ({"fine_tune_type": "full"}, "fine_tune_type: full"),
    "alpha": ({"lora_parameters": {"rank": 2, "scale": 6.0, "alpha": 16}}, "alpha"),
    "unknown": ({"of_a_later_version": 1}, "of_a_later_version"),
    "no scale": ({"lora_parameters": {"rank": 2}}, "a rank or a scale"),
    "scale": ({"lora_parameters": {"rank": 2, "scale": "6"}}, "a rank or a scale"),
    "no parameters": ({"lora_parameters": None}, "a rank or a scale"),
    "rank": ({"lora_parameters": {"rank": 3, "scale": 6.0}}, "do not fit"),
    "half": ({"drop": "layers.0.self_attn.q_proj.lora_b"}, "q_proj do not fit"),
    "dora": ({"fine_tune_type": "dora"}, "with DoRA m"),
    "weight": ({"add": {"model.norm.weight": torch.ones(8)}}, "model.norm.weight"),
    "experts": (
        {
            "add": {
                "model.layers.0.mlp.switch_mlp.up_proj.lora_a": torch.ones(4, 2, 8),
                "model.layers.0.mlp.switch_mlp.up_proj.lora_b": torch.ones(4, 12, 2),
            }
        },
        "switch_mlp.up_proj do not fit",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mlx_adapter_with_parts_that_are_not_read_is_refused_by_name(tmp_path, case):
    changes, named = REFUSED[case]
    copy = edited_adapter(MLX / "lora", tmp_path / "copy", "adapters.safetensors", **changes)
    with pytest.raises(ModelError, match=named) as caught:
        Adapter.open(copy, Checkpoint(BASE))
    assert caught.value.exit_status == 2
    if "do not fit" in named or case in ("full", "alpha", "weight"):
        assert "mlx_lm.fuse" in caught.value.todo


def test_mlx_adapter_of_another_base_is_refused_by_name(llama):
    with pytest.raises(ModelError, match="does not fit the base model"):
        Adapter.open(MLX / "lora", Checkpoint(llama))


def torchtune(source, directory, **config):
    """As FullModelHFCheckpointer of torchtune 0.6.1 writes an epoch: five fields, PEFT's keys."""
    shutil.copytree(source, directory)
    old = json.loads((directory / "adapter_config.json").read_text())
    kept = {key: old[key] for key in ("r", "lora_alpha", "target_modules", "peft_type")}
    kept |= {"base_model_name_or_path": "org/model"} | config
    (directory / "adapter_config.json").write_text(json.dumps(kept))
    (directory / "adapter_model.pt").write_bytes(b"a pickle in torchtune's own layout")
    return directory


def of_unsloth(source, directory):
    shutil.copytree(source, directory)
    config = json.loads((directory / "adapter_config.json").read_text())
    named = "transformers.models.llama.modeling_llama"
    config["auto_mapping"] = {"base_model_class": "LlamaForCausalLM", "parent_library": named}
    config["auto_mapping"]["unsloth_fixed"] = True
    pattern = r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)"
    config |= {"target_modules": pattern, "exclude_modules": None, "task_type": "CAUSAL_LM"}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def of_wrapped_layers(source, directory):
    """With the wrapper of torch's activation checkpointing, as a state dict has it."""
    shutil.copytree(source, directory)
    tensors = load_file(source / "adapter_model.safetensors")
    wrapped = {
        k.replace(".mlp.", "._checkpoint_wrapped_module.mlp."): t for k, t in tensors.items()
    }
    save_file(wrapped, directory / "adapter_model.safetensors")
    return directory


@pytest.mark.parametrize("trainer", [torchtune, of_unsloth, of_wrapped_layers])
def test_adapter_in_the_layout_of_peft_is_read_whatever_trainer_wrote_it(
    llama, peft_adapter, tmp_path, trainer
):
    expected = Adapter.open(peft_adapter, Checkpoint(llama))
    found = Adapter.open(trainer(peft_adapter, tmp_path / "copy"), Checkpoint(llama))
    assert found.names == expected.names
    for name in found.names:
        rows = found.shapes[name][0]
        assert torch.equal(found.rows(name, 0, rows), expected.rows(name, 0, rows))


@pytest.mark.parametrize("pickle", ["adapter_0.pt", "adapter_model.pt"])
def test_torchtune_adapter_of_pickles_alone_is_refused_with_what_to_run(
    peft_adapter, tmp_path, pickle
):
    copy = torchtune(peft_adapter, tmp_path / "copy")
    (copy / "adapter_model.safetensors").unlink()
    (copy / "adapter_model.pt").rename(copy / pickle)
    with pytest.raises(ModelError, match="pickles") as caught:
        Adapter.open(copy)
    assert "safe_serialization: True" in caught.value.todo


def test_torchtune_adapter_of_dora_is_refused_since_its_config_does_not_say_so(llama, tmp_path):
    made = save_adapter(tmp_path / "made", llama, use_dora=True)
    with pytest.raises(ModelError, match="use_dora: False"):
        Adapter.open(torchtune(made, tmp_path / "copy"), Checkpoint(llama))


def test_adapter_config_of_an_unknown_trainer_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"rank": 8, "alpha": 16}))
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="no peft_type") as caught:
        Adapter.open(tmp_path)
    assert "docs/models.md" in caught.value.todo
