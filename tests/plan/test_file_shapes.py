"""Shapes of base models of any architecture: the entries of their files, as transformers counts."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BloomConfig,
    Gemma3Config,
    Gemma3TextConfig,
    GptOssConfig,
    GraniteMoeConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from raylab.plan.file_shapes import shape_of_base, shape_of_files
from raylab.plan.resources import _base_sizes, disk_lines, gpu_demands
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.models import ResolvedModel
from raylab.spec.study_file import load_study
from raylab.spec.weight_files import shapes_of
from tests.multimodal import MULTIMODAL, save_multimodal
from tests.studies import write_study_folder

_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_COMMON = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    **_IDS,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
DENSE = {
    "qwen3": lambda: Qwen3Config(**_COMMON, head_dim=16),
    "phi3": lambda: Phi3Config(**_COMMON),
    "gemma3_text": lambda: Gemma3TextConfig(**_COMMON, head_dim=16),
    "opt": lambda: OPTConfig(
        vocab_size=96,
        hidden_size=64,
        ffn_dim=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=64,
        max_position_embeddings=64,
        **_IDS,
    ),
    "bloom": lambda: BloomConfig(vocab_size=96, hidden_size=64, n_layer=2, n_head=4, **_IDS),
}
MIXTURES = {
    "mixtral": lambda: MixtralConfig(**_COMMON, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_COMMON, **_EXPERTS, head_dim=16),
    "qwen2_moe": lambda: Qwen2MoeConfig(**_COMMON, **_EXPERTS, shared_expert_intermediate_size=40),
    "gpt_oss": lambda: GptOssConfig(
        **_COMMON,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        layer_types=["full_attention"] * 2,
    ),
    "granite_moe": lambda: GraniteMoeConfig(**_COMMON, num_local_experts=4, num_experts_per_tok=2),
}
EVERY = DENSE | MIXTURES


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Type -> (the model, its directory)."""
    found = {}
    for name, config in EVERY.items():
        model = AutoModelForCausalLM.from_config(config(), dtype=torch.bfloat16)
        directory = tmp_path_factory.mktemp(name)
        model.save_pretrained(directory)
        found[name] = model, directory
    return found


def local(directory):
    return ResolvedModel("tiny", "content:0", directory, "tiny")


def linears_of(model):
    """The linear layers that bitsandbytes quantises and that adapters of all-linear reach."""
    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


@pytest.mark.parametrize("name", EVERY)
def test_entries_and_linear_layers_are_those_of_the_model(saved, name):
    model, directory = saved[name]
    shape = shape_of_base(local(directory))
    linears = linears_of(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.linear_numel == sum(m.weight.numel() for m in linears)
    sides = sum(m.in_features + m.out_features for m in linears)
    assert shape.adapter_numel(8) == 8 * sides
    assert (shape.layers, shape.hidden, shape.vocabulary) == (2, 64, 96)
    assert shape.tied is bool(model.config.tie_word_embeddings)


@pytest.mark.parametrize("name", MIXTURES)
def test_token_of_a_mixture_goes_through_the_chosen_experts(saved, name):
    model, directory = saved[name]
    shape = shape_of_base(local(directory))
    routed = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert routed
    assert shape.active == shape.parameters - routed // 2
    width = 48 if name.startswith("qwen") else 80
    assert shape.intermediate == 2 * width + (40 if name == "qwen2_moe" else 0)


def test_files_that_are_no_part_of_the_model_are_not_counted(saved, tmp_path):
    model, directory = saved["qwen3"]
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(directory / "model.safetensors")
    save_file(weights, tmp_path / "consolidated.safetensors")
    (tmp_path / "original").mkdir()
    save_file(weights, tmp_path / "original" / "model.safetensors")
    save_file({"state": torch.ones(1000)}, tmp_path / "optimizer.safetensors")
    whole, _ = _base_sizes(local(tmp_path))
    assert whole == sum(2 * p.numel() for p in model.parameters())
    assert shape_of_base(local(tmp_path)).parameters == sum(p.numel() for p in model.parameters())


def test_shards_that_the_index_names_are_counted(saved, tmp_path):
    model, _ = saved["mixtral"]
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    save_file({"x": torch.ones(1000)}, tmp_path / "consolidated.safetensors")
    assert _base_sizes(local(tmp_path))[0] == sum(2 * p.numel() for p in model.parameters())


def test_stored_tied_head_counts_once(saved, tmp_path):
    model, directory = saved["opt"]
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"] = model.get_input_embeddings().weight.detach().clone()
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    assert shape_of_base(local(tmp_path)).parameters == sum(p.numel() for p in model.parameters())


def test_model_with_images_has_the_numbers_of_its_text_config(tmp_path):
    text = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    whole = Gemma3Config(
        text_config={**_COMMON, **text, "head_dim": 16},
        vision_config=vision,
        mm_tokens_per_image=4,
    )
    model = AutoModelForImageTextToText.from_config(whole, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    shape = shape_of_base(local(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.layers, shape.hidden, shape.heads, shape.head_size) == (2, 64, 4, 16)
    assert shape.linear_numel == sum(m.weight.numel() for m in linears_of(model))
    parts = ("vision_tower", "multi_modal_projector")
    idle = sum(p.numel() for n, p in model.named_parameters() if any(part in n for part in parts))
    assert shape.active == shape.parameters - idle
    assert {linear.name for linear in shape.linears} >= {"self_attn.q_proj", "mlp.down_proj"}
    # As published: what equals the default of the class is left out.
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"):
        config["text_config"].pop(key)
    found = shape_of_files(config, shapes_of(tmp_path))
    default = Gemma3TextConfig()
    assert found.heads == default.num_attention_heads
    assert found.head_size == default.head_dim


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "qwen3", "hidden_size": "many"},
        {"model_type": "none", "hidden_size": 64, "num_hidden_layers": 2},
        {"model_type": "qwen3", "quantization_config": {"quant_method": "gptq"}},
    ],
)
def test_config_that_lacks_a_value_gives_no_shape(saved, config):
    _, directory = saved["qwen3"]
    assert shape_of_files(config, shapes_of(directory)) is None


@pytest.mark.parametrize("architecture", MULTIMODAL)
def test_entries_of_a_model_with_images_are_those_of_transformers(tmp_path, architecture):
    save_multimodal(tmp_path, architecture)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    shape = shape_of_base(local(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.linear_numel == sum(m.weight.numel() for m in linears_of(model))
    assert (shape.layers, shape.hidden, shape.heads) == (2, 32, 4)


@pytest.mark.parametrize("kind", ["mixture", "with images"])
def test_plan_of_a_local_base_tells_its_memory(saved, tmp_path, kind):
    study = write_study_folder(tmp_path)
    shutil.rmtree(tmp_path / "base")
    if kind == "mixture":
        shutil.copytree(saved["qwen3_moe"][1], tmp_path / "base")
    else:
        save_multimodal(tmp_path / "base", "gemma3")
    template = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(template))
    inputs = read_inputs(load_study(study))
    demands = gpu_demands(load_study(study), inputs, plan_trials(load_study(study), inputs))
    assert demands
    assert all(row.memory and row.hours and row.is_here for row in demands)
    lines = list(disk_lines(load_study(study), inputs, plan_trials(load_study(study), inputs)))
    assert "unknown" not in " ".join(lines)
