"""A chain as one adapter: its delta is the sum, as PEFT itself reads all of them."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.weights.chain_export import concatenate, largest_difference
from tests.architectures import ARCHITECTURES, save_adapter, save_tiny

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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_concatenated_adapter_has_the_sum_of_the_chains_deltas(tmp_path, architecture):
    base = save_tiny(tmp_path / "base", architecture)
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


def test_concatenated_adapter_of_power_of_two_scales_is_exact(tmp_path):
    base = save_tiny(tmp_path / "base", "llama")
    chain = [
        save_adapter(tmp_path / str(seed), base, seed, r=8, lora_alpha=128) for seed in (1, 2, 3)
    ]
    (tmp_path / "one").mkdir()
    concatenate(chain, tmp_path / "one")
    # Exact but for the order in which float64 adds up.
    assert largest_difference(chain, tmp_path / "one") < 1e-14


def test_concatenated_adapter_answers_as_both_adapters_at_once(tmp_path):
    base = save_tiny(tmp_path / "base", "llama", dtype=torch.float32)
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


def test_adapter_with_more_than_factors_is_refused(tmp_path):
    base = save_tiny(tmp_path / "base", "llama")
    plain = save_adapter(tmp_path / "plain", base, 1)
    dora = save_adapter(tmp_path / "dora", base, 2, use_dora=True)
    with pytest.raises(ModelError, match="more than LoRA on linear layers"):
        concatenate([plain, dora], tmp_path)
