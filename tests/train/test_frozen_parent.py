"""A parent's adapter that stays beside its child, against PEFT's own forward pass."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from raylab.train.model import attach_frozen

MODELS = {
    # GPT-2 keeps the weights of its layers transposed; c_proj is square.
    "gpt2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64)),
        ["c_attn", "c_proj", "c_fc"],
    ),
    "llama": (
        lambda: LlamaForCausalLM(
            LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, vocab_size=64)
        ),
        ["q_proj", "o_proj", "down_proj"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_frozen_parent_has_the_logits_of_peft(tmp_path, kind):
    make, targets = MODELS[kind]
    torch.manual_seed(0)
    base = make().eval()
    base.save_pretrained(tmp_path / "base")
    trained = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    trained.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(12).reshape(2, 6)
    expected = (
        PeftModel.from_pretrained(
            type(base).from_pretrained(tmp_path / "base"), tmp_path / "adapter"
        )
        .eval()(input_ids=ids)
        .logits
    )
    model = type(base).from_pretrained(tmp_path / "base").eval()
    before = model(input_ids=ids).logits
    attach_frozen(model, tmp_path / "adapter")
    found = model(input_ids=ids).logits
    assert (found - before).abs().max() > 1e-2
    assert torch.allclose(found, expected, atol=1e-5)
