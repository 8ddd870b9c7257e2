"""The likelihood of answers, held against one forward pass for each answer, in float64."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.spec.data.rows import Row
from raylab.train.evaluate.likelihoods import measure_likelihoods
from tests.conftest import DEMO

PAIRS = tuple(
    Row.of(f"質問{i}ですか？", answer)
    for i, answer in enumerate(
        ("空は青いです。", "はい。", "一年は十二か月ですわ。", "そうですの。", "いいえ、違います。")
    )
)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(DEMO / "base")


def rendered(tokenizer, prompt, answer):
    """(ids of prompt and answer, how many are the prompt's), by way of the template's text."""
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    asked = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole.startswith(asked)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole, asked)]
    return ids[0], len(ids[1])


def one_by_one(model, tokenizer, pairs):
    values = []
    for prompt, answer in ((row.prompt, row.completion) for row in pairs):
        ids, start = rendered(tokenizer, prompt, answer)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        chances = logits.log_softmax(-1)
        values += [float(chances[at - 1, ids[at]]) for at in range(start, len(ids))]
    return sum(values) / len(values), len(values)


def test_likelihoods_are_means_over_the_answers_tokens_alone(model, tokenizer):
    found = measure_likelihoods(model, tokenizer, {"D0": PAIRS, "D1": PAIRS[:2]}, 1024)
    for name, pairs in (("D0", PAIRS), ("D1", PAIRS[:2])):
        mean, tokens = one_by_one(model, tokenizer, pairs)
        assert found[name].log_probability == pytest.approx(mean, abs=1e-5)
        assert (found[name].answers, found[name].tokens, found[name].cut) == (
            len(pairs), tokens, 0,
        )  # fmt: skip


def test_likelihoods_count_the_end_of_the_turn(model, tokenizer):
    ids, _ = rendered(tokenizer, *PAIRS[0][:2])
    assert tokenizer.eos_token_id in ids


def test_likelihoods_of_answers_beyond_max_length_are_cut_and_counted(model, tokenizer):
    lengths = [rendered(tokenizer, row.prompt, row.completion) for row in PAIRS[:2]]
    room = lengths[0][1] + 1
    found = measure_likelihoods(model, tokenizer, {"D0": PAIRS[:1]}, room)["D0"]
    assert (found.tokens, found.cut) == (1, 1)


def test_likelihoods_where_prompts_fill_the_room_are_null(model, tokenizer):
    found = measure_likelihoods(model, tokenizer, {"D0": PAIRS[:1]}, 2)["D0"]
    assert (found.tokens, found.log_probability, found.cut) == (0, None, 1)
