"""Merges of the modules of a model: text decoder, vision tower and projector apart."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig

from raylab.errors import ModelError
from raylab.merge.merge import merge_named
from raylab.spec.mergekit import read_mergekit
from tests.merge.mergekit_models import merged_by_mergekit
from tests.multimodal import tiny_multimodal

MODULES = """
merge_method: linear
modules:
  text_decoder:
    slices:
      - sources:
          - {model: FOLDER/a, layer_range: [0, 2], parameters: {weight: 0.3}}
          - {model: FOLDER/b, layer_range: [0, 2], parameters: {weight: 0.7}}
      - sources:
          - {model: FOLDER/a, layer_range: [1, 2], parameters: {weight: 1}}
          - {model: FOLDER/b, layer_range: [0, 1], parameters: {weight: 0.25}}
  vision_tower:
    models:
      - {model: FOLDER/b, parameters: {weight: 0.1}}
      - {model: FOLDER/a}
    parameters: {weight: 0.6}
  multi_modal_projector:
    models:
      - {model: FOLDER/b}
      - {model: FOLDER/a}
parameters: {weight: 0.5}
dtype: float32
"""
LAYERS = "language_model.model.layers"
EXPECTED = {
    "language_model.model.embed_tokens.weight": [(0.3, "a", None), (0.7, "b", None)],
    "language_model.lm_head.weight": [(0.8, "a", None), (0.2, "b", None)],
    f"{LAYERS}.1.mlp.up_proj.weight": [(0.3, "a", 1), (0.7, "b", 1)],
    f"{LAYERS}.2.mlp.up_proj.weight": [(0.8, "a", 1), (0.2, "b", 0)],
    "vision_tower.patch_conv.weight": [(6 / 7, "a", None), (1 / 7, "b", None)],
    "multi_modal_projector.linear_1.weight": [(0.5, "a", None), (0.5, "b", None)],
}


def written(folder, text, architecture="mistral3"):
    for seed, name in enumerate("ab"):
        tiny_multimodal(architecture, seed).save_pretrained(folder / name)
    file = folder / "merge.yaml"
    file.write_text(text.replace("FOLDER", str(folder)))
    return file


def test_modules_are_merged_by_their_own_slices_models_and_parameters(tmp_path):
    merge_named(read_mergekit(written(tmp_path, MODULES)), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    models = {name: load_file(tmp_path / name / "model.safetensors") for name in "ab"}
    for name, terms in EXPECTED.items():
        total = torch.zeros_like(found[name], dtype=torch.float64)
        for weight, model, layer in terms:
            own = name if layer is None else f"{LAYERS}.{layer}.mlp.up_proj.weight"
            total += weight * models[model][own].double()
        torch.testing.assert_close(found[name].double(), total, rtol=0, atol=1e-7, msg=name)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    counts = [config[part]["num_hidden_layers"] for part in ("text_config", "vision_config")]
    assert counts == [3, 1]
    _, loaded = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(loaded.values())


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("architecture", ["mistral3", "qwen2_5_vl"])
def test_modules_are_what_mergekit_writes(tmp_path, architecture):
    file = written(tmp_path, MODULES, architecture)
    theirs = merged_by_mergekit(file, tmp_path / "theirs")
    merge_named(read_mergekit(file), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == theirs.keys()
    for name, values in theirs.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)


WHOLE = "  WHICH:\n    models: [{model: FOLDER/a}, {model: FOLDER/b}]\n"
SLICES = "slices: [{sources: [{model: FOLDER/a, layer_range: [0, 1]}]}]\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("modules:\n" + WHOLE.replace("WHICH", "default"), "default"),
        (
            "modules:\n"
            + WHOLE.replace("WHICH", "text_decoder")
            + WHOLE.replace("WHICH", "vision_tower"),
            "modules: multi_modal_projector, vision_tower, text_decoder",
        ),
        (SLICES, "modules: multi_modal_projector, vision_tower, text_decoder"),
    ],
)
def test_modules_that_the_model_does_not_have_are_refused(tmp_path, text, named):
    text = f"merge_method: linear\nparameters: {{weight: 1}}\n{text}"
    with pytest.raises(ModelError) as refused:
        merge_named(read_mergekit(written(tmp_path, text)), tmp_path / "out")
    assert named in refused.value.message
    assert not (tmp_path / "out").exists()


def test_modules_of_a_model_of_text_are_one(tmp_path):
    config = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, vocab_size=16,
                         num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
    for name in "ab":
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
    text = "merge_method: linear\nparameters: {weight: 1}\nmodules:\n"
    file = tmp_path / "merge.yaml"
    whole = WHOLE.replace("FOLDER", str(tmp_path))
    file.write_text(text + whole.replace("WHICH", "default"))
    assert merge_named(read_mergekit(file), tmp_path / "out")["tensors_merged"] == 12
    file.write_text(text + whole.replace("WHICH", "text_decoder"))
    with pytest.raises(ModelError, match="modules: default"):
        merge_named(read_mergekit(file), tmp_path / "other")
