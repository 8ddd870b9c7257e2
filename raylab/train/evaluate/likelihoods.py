"""How likely a model finds the held-out answers of every data set.

Model: a prompt and its answer, framed by the chat template, are one sequence. The tokens of the
answer are those after the framed prompt, with the end of the turn. A value is the sum of their
log-probabilities in float64 over all answers of a data set, divided by the number of tokens. So
two answers to the same prompts, as in D0 and D1, can be compared.
Invariant: nothing is learned and no random state moves. A value depends on the model and on the
answers alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from raylab.spec.data.framing import common_prefix
from raylab.spec.data.held_out import Prompts
from raylab.spec.data.rows import Row
from raylab.store.phase import LIKELIHOODS, Tell, silent
from raylab.store.records import finite_or_none
from raylab.train.chat import tokens_of
from raylab.train.random_state import preserved_random_state

_BATCH = 4
"""Sequences scored at once: fewer than a training step of DPO holds."""


@dataclass(frozen=True)
class Likelihood:
    """The held-out answers of one data set; `cut` counts those that did not fit max_length."""

    answers: int
    tokens: int
    log_probability: float | None
    """The mean over tokens, in nats."""
    cut: int = 0

    def as_row(self) -> dict[str, Any]:
        """As the record and the table of likelihoods hold it."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class FramedAnswer:
    """Token ids, of which the first `prompt` are the prompt's; `cut`: some did not fit."""

    ids: tuple[int, ...]
    prompt: int
    cut: bool = False

    @property
    def start(self) -> int:
        """The place of the first answer token that is predicted; nothing predicts the first id."""
        return max(1, self.prompt)


def measure_likelihoods(
    model: Any,
    tokenizer: Any,
    answers: Mapping[str, Prompts],
    max_length: int,
    tell: Tell = silent,
) -> dict[str, Likelihood]:
    """The likelihood of held-out rows by data set, over at most `max_length` tokens a row."""
    was_training = model.training
    model.eval()
    found: dict[str, Likelihood] = {}
    done, count = 0, sum(map(len, answers.values()))
    with preserved_random_state(), torch.no_grad():
        for name, rows in answers.items():
            sequences = [framed_answer(tokenizer, row, max_length) for row in rows]
            values: list[float] = []
            for first in range(0, len(sequences), _BATCH):
                tell(LIKELIHOODS, done + first, count)
                values += _score(model, sequences[first : first + _BATCH])
            done += len(sequences)
            mean = math.fsum(values) / len(values) if values else None
            cut = sum(sequence.cut for sequence in sequences)
            found[name] = Likelihood(len(sequences), len(values), mean, cut)
    model.train(was_training)
    return found


def framed_answer(tokenizer: Any, row: Row, max_length: int) -> FramedAnswer:
    """The prompt of `row` and its answer as one sequence of at most `max_length` tokens."""
    tools = row.tools_given
    prompt = tokens_of(tokenizer, row.chat, True, tools)
    whole = tokens_of(tokenizer, [*row.chat, row.turns[-1].message], False, tools)
    shared = common_prefix(prompt, whole)
    return FramedAnswer(tuple(whole[:max_length]), shared, cut=len(whole) > max_length)


def _score(model: Any, batch: Sequence[FramedAnswer]) -> list[float]:
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
        # The logits at one token predict the next.
        start, stop = sequence.start, len(sequence.ids)
        predicted = logits[row, start - 1 : stop - 1].float().log_softmax(-1).cpu()
        values += predicted.gather(1, ids[row, start:stop, None]).flatten().tolist()
    return values
