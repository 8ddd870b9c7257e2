"""Small Llamas with tokenizers of their own: the vocabularies that merges bring together."""

from __future__ import annotations

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

WORDS = ("the", "cat", "dog", "saw", "a", "bird", "and", "ran")


def tokenizer_of(words=WORDS, added=()):
    """Whole words with ids in order, then what was added."""
    vocabulary = {word: id for id, word in enumerate(("<unk>", "<s>", "</s>", *words))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.add_tokens(list(added))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def saved_llama(
    directory, tokenizer, seed, *, rows=None, tied=False, dtype=torch.float32, near=None
):
    """A random Llama of two layers with `rows` rows of tokens, those of the tokenizer by default.
    `near`: a model from which tensors of the same shape moved. Entries are multiples of 1/1024."""
    random = np.random.default_rng(seed)
    config = LlamaConfig(
        vocab_size=rows or len(tokenizer),
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    start = AutoModelForCausalLM.from_pretrained(near).state_dict() if near else {}
    for name, parameter in model.state_dict().items():
        drawn = np.round(random.standard_normal(tuple(parameter.shape)) * 64) / 256
        parameter.copy_(torch.from_numpy(drawn))
        if name in start and start[name].shape == parameter.shape:
            parameter.mul_(0.25).add_(start[name])
    model.to(dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def saved_adapter(directory, base, seed, tokenizer=None, **options):
    """A LoRA adapter over `base`, with factors that are not zero."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    options.setdefault("target_modules", ["q_proj", "up_proj"])
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, **options))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_A" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    return directory
