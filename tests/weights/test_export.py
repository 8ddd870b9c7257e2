"""A chain as one adapter or a whole model, against PEFT's reading and merging of its adapters."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.store.references import ModelLocation
from raylab.weights.export import concatenate, largest_difference, write_merged
from tests.architectures import ARCHITECTURES, merged_by_peft, save_adapter

EPSILON = 2.0**-23
HALF = {
    "llama": ["q_proj", "down_proj"],
    "qwen2": ["q_proj", "down_proj"],
    "mistral": ["v_proj"],
    "gpt_neox": ["query_key_value"],
    "gemma2": ["o_proj", "up_proj"],
}


def deltas(base, adapter):
    """{module: delta in float64} as PEFT holds the factors and scales."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter)
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            up, down = module.lora_B["default"].weight, module.lora_A["default"].weight
            found[name] = module.scaling["default"] * (up.double() @ down.double()).detach()
    return found


@pytest.fixture(scope="module")
def llama(bases):
    return bases["llama", torch.bfloat16]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exports_of_a_chain_equal_peft(bases, tmp_path, architecture):
    """The one adapter has the sum of the deltas; the whole model has the bits of PEFT's merge."""
    base = bases[architecture, torch.bfloat16]
    parent = save_adapter(tmp_path / "parent", base, 1, r=8, lora_alpha=10)
    child = save_adapter(
        tmp_path / "child", base, 2, r=3, lora_alpha=7, target_modules=HALF[architecture]
    )
    (tmp_path / "one").mkdir()
    concatenate([parent, child], tmp_path / "one")
    parts, one = [deltas(base, parent), deltas(base, child)], deltas(base, tmp_path / "one")
    assert set(one) == set(parts[0]) > set(parts[1])
    for module, delta in one.items():
        summed = sum(part[module] for part in parts if module in part)
        assert (delta - summed).abs().max() <= 2 * EPSILON * summed.abs().max()
    assert largest_difference([parent, child], tmp_path / "one") <= 2 * EPSILON

    out = tmp_path / "out"
    out.mkdir()
    write_merged(ModelLocation((parent, child), base=base), out, threads=2, most_bytes=60_000)
    assert len(list(out.glob("model-*.safetensors"))) > 1
    expected = merged_by_peft(base, parent, child)
    found = AutoModelForCausalLM.from_pretrained(out, dtype="auto").state_dict()
    for name, weight in found.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, expected[name]), name


def test_concatenated_adapter_of_power_of_two_scales_is_exact(llama, tmp_path):
    chain = [
        save_adapter(tmp_path / str(seed), llama, seed, r=8, lora_alpha=128) for seed in (1, 2, 3)
    ]
    (tmp_path / "one").mkdir()
    concatenate(chain, tmp_path / "one")
    # Exact but for the order in which float64 adds up.
    assert largest_difference(chain, tmp_path / "one") < 1e-14


def test_concatenated_adapter_answers_as_both_adapters_at_once(bases, tmp_path):
    base = bases["qwen2", torch.float32]
    parent = save_adapter(tmp_path / "parent", base, 1, use_rslora=True)
    child = save_adapter(tmp_path / "child", base, 2, r=2)
    (tmp_path / "one").mkdir()
    concatenate([parent, child], tmp_path / "one")
    ids = torch.arange(3, 40)[None]
    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), parent)
    both.load_adapter(child, "child")
    both.base_model.set_adapter(["default", "child"])
    one = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "one")
    with torch.no_grad():
        expected, found = both.eval()(ids).logits, one.eval()(ids).logits
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_adapter_with_more_than_factors_is_refused(llama, tmp_path):
    plain = save_adapter(tmp_path / "plain", llama, 1)
    dora = save_adapter(tmp_path / "dora", llama, 2, use_dora=True)
    with pytest.raises(ModelError, match="more than LoRA on linear layers"):
        concatenate([plain, dora], tmp_path)


def test_whole_model_without_its_base_is_refused(tmp_path):
    with pytest.raises(ModelError, match="needs the base model's weights"):
        write_merged(ModelLocation((tmp_path,)), tmp_path, threads=1)
