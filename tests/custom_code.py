"""A tiny causal model whose code lies beside its weights, as on a hub.

As usual for such models, it has packed projections, names of its own, an untied head, and code in
two modules. Its variants hide their head, have no trunk, or scale their logits.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.chats import tiny_tokenizer

CONFIGURATION = """
from transformers import PretrainedConfig


class ParrotConfig(PretrainedConfig):
    model_type = "parrot"

    def __init__(self, vocab_size=272, hidden_size=64, num_hidden_layers=2, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**kwargs)
"""

MODELING = """
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

from .configuration_parrot import ParrotConfig


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.packed_qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x, mask):
        q, k, v = self.packed_qkv(self.norm(x)).chunk(3, -1)
        scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
        x = x + self.out(scores.masked_fill(~mask, -1e4).softmax(-1) @ v)
        return x + self.down(torch.tanh(self.gate(self.norm(x))))


class Trunk(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_in = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        x = self.embed_in(input_ids)
        length = input_ids.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[None]
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, :].bool()
        for layer in self.layers:
            x = layer(x, mask)
        return BaseModelOutput(last_hidden_state=x)


class ParrotForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = ParrotConfig
    base_model_prefix = "transformer"
    _no_split_modules = ["Block"]

    def __init__(self, config):
        super().__init__(config)
        self.transformer = Trunk(config)
        self.embed_out = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.transformer.embed_in

    def get_output_embeddings(self):
        return self.embed_out

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        hidden = self.transformer(input_ids, attention_mask).last_hidden_state
        logits = self.embed_out(hidden) * 1.0
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
"""

VARIANTS = {
    "plain": ("", ""),
    "hidden head": ("return self.embed_out\n", "return None\n"),
    "no trunk": ('base_model_prefix = "transformer"', 'base_model_prefix = "model"'),
    "scaled logits": ("* 1.0", "* 3.0"),
}
"""The text of the code that each variant replaces, and its replacement."""

LINEAR = ("packed_qkv", "out", "gate", "down")


def save_parrot(directory: Path, variant: str = "plain", seed: int = 0) -> Path:
    """The model with its code and a chat tokenizer, saved at `directory`, which is returned."""
    directory.mkdir(parents=True)
    # transformers keeps one model class for each config class in a process: each has its own.
    (directory / "configuration_parrot.py").write_text(f"# {variant}{CONFIGURATION}")
    (directory / "modeling_parrot.py").write_text(MODELING.replace(*VARIANTS[variant]))
    tokenizer = tiny_tokenizer("gpt_neox", template="plain")
    tokenizer.save_pretrained(directory)
    values = {
        "architectures": ["ParrotForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_parrot.ParrotConfig",
            "AutoModelForCausalLM": "modeling_parrot.ParrotForCausalLM",
        },
        "model_type": "parrot",
        "dtype": "bfloat16",
        "vocab_size": 272,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    (directory / "config.json").write_text(json.dumps(values, indent=1))
    save_file(_weights(seed), directory / "model.safetensors", {"format": "pt"})
    return directory


def _weights(seed: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)

    def draw(*shape: int, centre: float = 0.0) -> torch.Tensor:
        return (centre + 0.05 * torch.randn(shape, generator=draws)).to(torch.bfloat16)

    found = {"transformer.embed_in.weight": draw(272, 64), "embed_out.weight": draw(272, 64)}
    shapes = {"packed_qkv": (192, 64), "out": (64, 64), "gate": (128, 64), "down": (64, 128)}
    for layer in range(2):
        stem = f"transformer.layers.{layer}"
        found |= {f"{stem}.{name}.weight": draw(*shape) for name, shape in shapes.items()}
        found[f"{stem}.norm.weight"] = draw(64, centre=1.0)
        found[f"{stem}.norm.bias"] = draw(64)
    return found
