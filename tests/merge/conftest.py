"""Adapters to be merged."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="package")
def adapters(tmp_path_factory, demo_base):
    """Two LoRA adapters of the demo's base model, of different rank, targets and seed."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, (rank, targets) in enumerate([(4, ["q_proj", "up_proj"]), (2, ["q_proj"])]):
        model = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
        config = LoraConfig(r=rank, lora_alpha=16, target_modules=targets)
        model = get_peft_model(model, config)
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        model.save_pretrained(folder / str(seed))
    return [folder / "0", folder / "1"]
