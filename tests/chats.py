"""Tiny tokenizers that frame chats as the five families do, and models to go with them.

A vocabulary of 256 bytes, a few merges, and the special tokens of its family. The template is one
of `raylab.spec.data.templates.NAMED`, with or without the markers of the assistant's answers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from raylab.spec.data.templates import NAMED
from tests.architectures import tiny_model

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {
        "template": "llama-3",
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
        "others": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    "qwen2": {
        "template": "chatml",
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "others": ["<|im_start|>"],
    },
    "mistral": {"template": "mistral", "bos": "<s>", "eos": "</s>"},
    "gpt_neox": {"template": "instruct-ja", "eos": "<|endoftext|>", "pad": "<|padding|>"},
    "gemma2": {
        "template": "gemma",
        "bos": "<bos>",
        "eos": "<eos>",
        "pad": "<pad>",
        "others": ["<start_of_turn>", "<end_of_turn>"],
    },
}
"""The tokenizers of Llama and Mistral have no pad token. The answers of Llama and Gemma do not end
in their end-of-sequence token."""

_ENDS_OF_TEMPLATES = {"exaone": ["[|endofturn|]"]}
"""Special tokens that a template needs which is of none of FAMILIES."""

_MERGES = [
    *(("u", "s"), ("us", "e"), ("use", "r")),
    *(("m", "o"), ("d", "e"), ("de", "l"), ("mo", "del")),
    ("Ċ", "Ċ"),
]


def without_markers(template: str) -> str:
    """The same template without markers of answers, as most models have it."""
    return re.sub(r"{% (end)?generation %}", "", template)


def tiny_tokenizer(family: str, markers: bool = False, **changes: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of one of FAMILIES; `changes` replace parts of its row."""
    row = {"bos": None, "pad": None, "others": [], **FAMILIES[family], **changes}
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*symbols, *("".join(pair) for pair in _MERGES)]
    known = {symbol: index for index, symbol in enumerate(vocabulary)}
    inner = Tokenizer(models.BPE(vocab=known, merges=_MERGES))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = {f"{key}_token": row[key] for key in ("bos", "eos", "pad") if row[key]}
    others = [*row["others"], *_ENDS_OF_TEMPLATES.get(row["template"], [])]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, additional_special_tokens=others, **special
    )
    template = NAMED[row["template"]] if row["template"] else None
    if template is not None:
        tokenizer.chat_template = template if markers else without_markers(template)
    return tokenizer


def save_base(directory: Path, family: str, tokenizer: Any = None, seed: int = 0) -> Path:
    """A tiny base model of `family` with its tokenizer, saved at `directory`."""
    tokenizer = tokenizer or tiny_tokenizer(family)
    model = tiny_model(
        family,
        seed,
        torch.bfloat16,
        vocab_size=-(-len(tokenizer) // 8) * 8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
