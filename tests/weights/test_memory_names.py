"""The names that transformers' loader gives to the tensors of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig

from raylab.errors import ModelError
from raylab.weights.memory_names import AUTO_CLASSES, names_in_memory
from tests.architectures import ARCHITECTURES, save_tiny
from tests.multimodal import CAUSAL, MULTIMODAL, save_multimodal

CAUSAL_LM, IMAGE_TEXT = AUTO_CLASSES
LOADED = [(name, IMAGE_TEXT) for name in MULTIMODAL] + [(name, CAUSAL_LM) for name in CAUSAL]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("multimodal")
    return {name: save_multimodal(root / name, name) for name in MULTIMODAL}


@pytest.mark.parametrize(("architecture", "auto_class"), LOADED)
def test_names_of_multimodal_files_are_those_under_which_the_class_has_the_values(
    saved, architecture, auto_class
):
    directory = saved[architecture]
    files = load_file(directory / "model.safetensors")
    model = getattr(transformers, auto_class).from_pretrained(directory, dtype="auto")
    state = model.state_dict()
    found = names_in_memory(directory, files, auto_class)
    assert found.class_name == type(model).__name__
    assert {*found.in_memory} | found.not_loaded == {*files}
    for name, named in found.in_memory.items():
        assert torch.equal(state[named], files[name]), name
        assert found.in_files[named] == name
        assert found.shapes[named] == tuple(files[name].shape)
    untied = {*state} - {"lm_head.weight"}
    assert {*found.in_memory.values()} >= untied, "every parameter comes from a file"


def test_names_of_qwen3_5_for_text_leave_out_what_reads_images(saved):
    files = load_file(saved["qwen3_5"] / "model.safetensors")
    found = names_in_memory(saved["qwen3_5"], files)
    assert found.not_loaded == {name for name in files if name.startswith("model.visual.")}
    layer = "layers.1.self_attn.q_proj.weight"
    assert found.in_memory[f"model.language_model.{layer}"] == f"model.{layer}"


def test_names_of_gpt_neox_call_the_head_lm_head(tmp_path):
    directory = save_tiny(tmp_path / "base", "gpt_neox", dtype=torch.float32)
    found = names_in_memory(directory, load_file(directory / "model.safetensors"))
    assert found.in_memory["embed_out.weight"] == "lm_head.weight"


def test_names_of_an_older_class_are_renamed_to_those_of_today(saved):
    files = load_file(saved["gemma3"] / "model.safetensors")
    found = names_in_memory(saved["gemma3"], files)
    layer = "layers.0.mlp.up_proj.weight"
    assert found.renamed(f"language_model.model.{layer}") == f"model.language_model.{layer}"
    assert found.renamed(f"model.{layer}") is None


def test_names_of_stacked_experts_come_with_their_sources_in_order(tmp_path):
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=11,
        vocab_size=32,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    files = load_file(tmp_path / "model.safetensors")
    found = names_in_memory(tmp_path, files)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    computed = found.computed[name]
    assert computed.targets == (name,)
    experts = "model.layers.0.block_sparse_moe.experts"
    gates, ups = computed.sources.values()
    assert gates == tuple(f"{experts}.{expert}.w1.weight" for expert in range(11))
    assert ups == tuple(f"{experts}.{expert}.w3.weight" for expert in range(11))
    taken = {
        source for made in found.computed.values() for s in made.sources.values() for source in s
    }
    assert taken | {*found.in_memory} == {*files}
    stacked = [torch.stack([files[name] for name in names]) for names in (gates, ups)]
    assert torch.equal(torch.cat(stacked, dim=1), model.state_dict()[name])


def test_names_of_an_unknown_architecture_are_refused(tmp_path):
    save_file({"w.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "of another world"}))
    with pytest.raises(ModelError, match="cannot say what the model's tensors are called"):
        names_in_memory(tmp_path, ["w.weight"])


def test_architectures_of_the_documentation_are_those_of_the_tests():
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    section = text[text.index("## Architectures") : text.index("## Adapters of other trainers")]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    named = "".join(rows).lower().replace(" ", "").replace(".", "_").replace("-", "_")
    tested = (*ARCHITECTURES, *MULTIMODAL, "mixtral", "gpt2")
    expected = [name.replace("_", "") for name in tested]
    assert [name for name in expected if name not in named.replace("_", "")] == []
