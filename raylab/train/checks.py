"""What a trained model says: is it Japanese, does it stop, does it repeat itself, in which style?

Model: the model answers held-out prompts greedily; each answer is judged by pure functions, and
a rate is the share of answers for which one of them holds. Every rate is a row in RATES.
Invariant: asking changes nothing: it runs after training, in eval mode, without gradients, and
restores every random state; an answer never depends on which prompts share its batch's size.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from raylab.spec.rows import Row
from raylab.spec.styles import in_style
from raylab.train.random import preserved_random_state

_BATCH = 16
_NGRAM = 4


@dataclass(frozen=True)
class Sample:
    """One answer: tokens counts those generated, without the end-of-sequence token."""

    prompt: str
    answer: str
    expected: str
    tokens: int
    stopped: bool

    def as_row(self) -> dict[str, Any]:
        """The sample as a row of the samples table, without the trial's columns."""
        return asdict(self)


def is_japanese(text: str) -> bool:
    """At least half of the letters are kana or kanji, and at least one is kana."""
    letters = [character for character in text if character.isalpha()]
    kana = sum("\u3041" <= character <= "\u30ff" for character in letters)
    kanji = sum("CJK UNIFIED" in unicodedata.name(character, "") for character in letters)
    return kana > 0 and 2 * (kana + kanji) >= len(letters)


def repeated_share(text: str) -> float:
    """1 - distinct / all character 4-grams: 0 where none comes twice, near 1 for a loop."""
    grams = [text[i : i + _NGRAM] for i in range(len(text) - _NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repeats(text: str) -> bool:
    """Whether more than 30 % of its 4-grams have been said before."""
    return repeated_share(text) > 0.3


RATES: dict[str, Callable[[Sample], bool]] = {
    "japanese_rate": lambda sample: is_japanese(sample.answer),
    "stopped_rate": lambda sample: sample.stopped,
    "repetition_rate": lambda sample: repeats(sample.answer),
}


def rates(samples: Sequence[Sample], style: str | None) -> dict[str, float | None]:
    """Every rate over `samples`, their distinct share and mean length in characters.

    All are None where nothing was asked, and `style_rate` where the study names no style.
    """
    if not samples:
        empty = (*RATES, "style_rate", "distinct_rate", "answer_length")
        return dict.fromkeys(empty)
    count = len(samples)
    found: dict[str, float | None] = {
        name: sum(rule(sample) for sample in samples) / count for name, rule in RATES.items()
    }
    answers = [sample.answer for sample in samples]
    found["style_rate"] = sum(in_style(a, style) for a in answers) / count if style else None
    found["distinct_rate"] = len(set(answers)) / count
    found["answer_length"] = sum(map(len, answers)) / count
    return found


def ask(
    model: Any, tokenizer: Any, questions: Sequence[Row | tuple[str, str]], max_new_tokens: int
) -> list[Sample]:
    """Greedy answers of `model` to `questions`, rows or (prompt, expected answer)."""
    samples: list[Sample] = []
    was_training = model.training
    model.eval()
    with preserved_random_state(), torch.no_grad():
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            samples += _ask_batch(model, tokenizer, batch, max_new_tokens)
    model.train(was_training)
    return samples


def _ask_batch(
    model: Any, tokenizer: Any, batch: Sequence[Row | tuple[str, str]], max_new_tokens: int
) -> list[Sample]:
    chats = [Row(*question).chat for question in batch]
    inputs = tokenizer.apply_chat_template(
        chats,
        add_generation_prompt=True,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        return_dict=True,
    ).to(model.device)
    output = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    answers = output[:, inputs["input_ids"].shape[1] :].tolist()
    stops = _stop_tokens(model, tokenizer)
    return [
        _sample(tokenizer, question, answer, stops)
        for question, answer in zip(batch, answers, strict=True)
    ]


def _stop_tokens(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


def _sample(
    tokenizer: Any, question: Row | tuple[str, str], answer: list[int], stops: set[int]
) -> Sample:
    length = next((i for i, token in enumerate(answer) if token in stops), len(answer))
    text = tokenizer.decode(answer[:length], skip_special_tokens=True).strip()
    return Sample(question[0], text, question[1], length, stopped=length < len(answer))
