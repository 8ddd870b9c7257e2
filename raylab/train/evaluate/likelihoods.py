"""How likely a model finds answers that it did not see: those of every data set, held out.

Model: a prompt and its answer, framed by the chat template, are one sequence; the answer's tokens
are those after what the template makes of the prompt alone, the end of the turn among them. A
value is the sum of their log-probabilities in float64, over all answers of a data set, divided by
how many they are: so D0 and D1, two answers to the same prompts, can be set side by side.
Invariant: nothing is learned, no random state moves, and a value depends on the model and on the
answers alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from raylab.spec.data.held_out import Questions
from raylab.spec.data.rows import Row
from raylab.store.records import finite_or_none
from raylab.train.chat import common, tokens_of
from raylab.train.random_state import preserved_random_state

_BATCH = 4
"""Sequences scored at once: fewer than a training step of DPO holds."""


@dataclass(frozen=True)
class Likelihood:
    """Of the held-out answers of one data set; `cut`: answers that did not fit max_length."""

    answers: int
    tokens: int
    log_probability: float | None
    """The mean over tokens, in nats."""
    cut: int = 0

    def as_row(self) -> dict[str, Any]:
        """As the record and the table of likelihoods hold it."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class _Sequence:
    ids: tuple[int, ...]
    prompt: int
    cut: bool


def likelihoods(
    model: Any, tokenizer: Any, answers: Mapping[str, Questions], max_length: int
) -> dict[str, Likelihood]:
    """The likelihood of held-out rows by data set, in tokens up to `max_length`."""
    was_training = model.training
    model.eval()
    with preserved_random_state(), torch.no_grad():
        found = {
            name: _likelihood(model, [_sequence(tokenizer, row, max_length) for row in rows])
            for name, rows in answers.items()
        }
    model.train(was_training)
    return found


def _sequence(tokenizer: Any, row: Row, max_length: int) -> _Sequence:
    answer = {"role": "assistant", "content": row.completion}
    asked = tokens_of(tokenizer, row.chat, True)
    whole = tokens_of(tokenizer, [*row.chat, answer], False)
    return _Sequence(tuple(whole[:max_length]), common(asked, whole), cut=len(whole) > max_length)


def _likelihood(model: Any, sequences: Sequence[_Sequence]) -> Likelihood:
    values: list[float] = []
    for first in range(0, len(sequences), _BATCH):
        values += _score(model, sequences[first : first + _BATCH])
    mean = math.fsum(values) / len(values) if values else None
    return Likelihood(len(sequences), len(values), mean, sum(s.cut for s in sequences))


def _score(model: Any, batch: Sequence[_Sequence]) -> list[float]:
    """The log-probability of every answer token of `batch`."""
    longest = max(len(sequence.ids) for sequence in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(batch):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        mask[row, : len(sequence.ids)] = 1
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    values: list[float] = []
    for row, sequence in enumerate(batch):
        # The token at `at` is foretold at the one before; the very first by none.
        start, stop = max(1, sequence.prompt), len(sequence.ids)
        foretold = logits[row, start - 1 : stop - 1].float().log_softmax(-1).cpu()
        values += foretold.gather(1, ids[row, start:stop, None]).flatten().tolist()
    return values
