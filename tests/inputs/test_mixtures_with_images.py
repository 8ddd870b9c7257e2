"""Mixtures of experts that read images as well: their adapters, their layouts, their 4 bits."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from raylab.spec.study import Quantization
from raylab.train.model import load_base
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from raylab.weights.memory_names import names_in_memory
from raylab.weights.quantized_base import HeldWeights
from tests.architectures import save_random
from tests.commands import exit_status
from tests.mixtures import EXPERTS, MIXTURES_WITH_IMAGES, save_mixture_with_images

WHOLE, TEXT, TRUNK = "AutoModelForImageTextToText", "AutoModelForCausalLM", "AutoModel"
LORA = {
    "experts": {"target_modules": ["q_proj"], "target_parameters": [*EXPERTS]},
    "all-linear": {"target_modules": "all-linear"},
}
TRAINED = [(name, auto_class) for name in MIXTURES_WITH_IMAGES for auto_class in (WHOLE, TRUNK)]
TRAINED += [("qwen3_5_moe", TEXT)]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixtures")
    return {name: save_mixture_with_images(root / name, name) for name in MIXTURES_WITH_IMAGES}


def load(directory, auto_class=WHOLE):
    return getattr(transformers, auto_class).from_pretrained(directory, dtype="auto")


@pytest.mark.parametrize("kind", LORA)
@pytest.mark.parametrize(("architecture", "auto_class"), TRAINED)
def test_merge_of_an_adapter_of_a_mixture_with_images_is_that_of_peft(
    bases, tmp_path, architecture, auto_class, kind
):
    base, adapter, out = bases[architecture], tmp_path / "adapter", tmp_path / "out"
    lora = LoraConfig(r=3, lora_alpha=12, **LORA[kind])
    save_random(get_peft_model(load(base, auto_class), lora), adapter, 1)
    words = ("merge", "linear", "--base", base, "--model", adapter, "--out", out)
    assert exit_status(*words) == 0
    merged = load(out, auto_class).state_dict()
    expected = PeftModel.from_pretrained(load(base, auto_class), adapter).merge_and_unload()
    for name, weight in expected.state_dict().items():
        # Of GLM's convolution PEFT adds up the product in another order.
        tolerance = 1e-7 if weight.dim() > 3 else 0
        assert torch.allclose(merged[name], weight, rtol=0, atol=tolerance), name
    before, after = (load_file(place / "model.safetensors") for place in (base, out))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {*Adapter.open(adapter, Checkpoint(base)).names}
    is_expert = any(".experts." in name for name in changed)
    assert is_expert == (kind == "experts" or architecture == "glm4v_moe")


@pytest.mark.parametrize("architecture", MIXTURES_WITH_IMAGES)
def test_stacked_experts_beside_images_are_compared_with_experts_of_their_own_files(
    bases, tmp_path, capsys, architecture
):
    base, stacked = bases[architecture], tmp_path / "stacked"
    stacked.mkdir()
    weights = {name: weight + 0.01 for name, weight in load(base).state_dict().items()}
    save_file(weights, stacked / "model.safetensors", {"format": "pt"})
    (stacked / "config.json").write_text((base / "config.json").read_text())
    numel = sum(weight.numel() for weight in weights.values())
    for one, two in ((base, stacked), (stacked, base)):
        assert exit_status("diff", one, two, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["accounting"]["compared"] == numel
        assert found["norms"]["l2"] == pytest.approx(0.01 * numel**0.5, rel=1e-3)


def turned(directory, base):
    """The model at `base` with its experts as (experts, inputs, outputs), as Qwen published it."""
    directory.mkdir()
    weights = load_file(base / "model.safetensors")
    changed = {
        name: weight.transpose(1, 2).contiguous() if weight.dim() == 3 else weight
        for name, weight in weights.items()
    }
    save_file(changed, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text((base / "config.json").read_text())
    return directory


def test_experts_of_files_that_loading_turns_are_those_of_the_same_model(bases, tmp_path, capsys):
    base = bases["qwen3_vl_moe"]
    published = turned(tmp_path / "published", base)
    same = load(base).state_dict()
    assert all(torch.equal(w, same[name]) for name, w in load(published).state_dict().items())
    for one, two in ((base, published), (published, base)):
        assert exit_status("diff", one, two, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        numel = sum(weight.numel() for weight in load_file(base / "model.safetensors").values())
        assert (found["accounting"]["compared"], found["norms"]["l2"]) == (numel, 0)


def test_adapter_over_files_that_loading_turns_is_merged_as_peft_merges_it(bases, tmp_path):
    published = turned(tmp_path / "published", bases["qwen3_vl_moe"])
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    lora = LoraConfig(r=3, lora_alpha=12, **LORA["experts"])
    save_random(get_peft_model(load(published), lora), adapter, 1)
    words = ("merge", "linear", "--base", published, "--model", adapter, "--out", out)
    assert exit_status(*words) == 0
    merged = load(out).state_dict()
    expected = PeftModel.from_pretrained(load(published), adapter).merge_and_unload()
    for name, weight in expected.state_dict().items():
        assert torch.allclose(merged[name], weight, atol=1e-7), name


@pytest.mark.parametrize("architecture", ["qwen3_vl_moe", "glm4v_moe"])
def test_training_of_a_mixture_with_images_holds_experts_in_its_compute_dtype(bases, architecture):
    base = bases[architecture]
    checkpoint = Checkpoint(base)
    held = HeldWeights(checkpoint, Quantization())
    model = load_base(base, Quantization())
    quantised = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, Linear4bit)}
    in_memory = names_in_memory(base, checkpoint.shapes, WHOLE).in_memory
    seen = 0
    for name, shape in checkpoint.shapes.items():
        if ".mlp." not in name or len(shape) == 1:
            continue
        rounded = checkpoint.raw(name, 0, shape[0]).to(torch.bfloat16).float()
        is_exact = torch.equal(held.raw(name, 0, shape[0]), rounded)
        assert is_exact != (in_memory.get(name) in quantised), name
        seen += is_exact
    assert seen >= 4
