"""Examples that raylab frames itself: several learned answers, tools, reasoning, tool calls.

Model: a row travels to the trainer as one text, JSON: columns of a table would give every tool call
the arguments of all others, as nulls. `raylab.spec.data.framing` makes tokens of it. trl takes SFT
examples as `input_ids` with a `completion_mask`, and cuts them; DPO's trainer takes the tokens of a
prompt and of both answers.
Invariant: a row whose last answer alone is learned, and that is nothing but texts, has the tokens
that trl itself would make of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from datasets import Dataset

from raylab.spec.data.framing import (
    FramingError,
    Learn,
    Tokens,
    framer_of_tokenizer,
    tokenise_with,
)
from raylab.spec.data.rows import Row, Turn
from raylab.train.chat import ExampleCounts, unframed_row_error

CONVERSATION = "conversation"
"""The column of examples that raylab frames."""


def conversation_of(row: Row, learn: Learn, with_rejected: bool) -> dict[str, str]:
    """The example of `row`; `learn`: which answers are learned where the data marks none."""
    rejected = row.rejected if with_rejected else None
    values = {"turns": row.turns, "rejected": rejected, "tools": row.tools, "learn": learn}
    return {CONVERSATION: json.dumps(values, ensure_ascii=False)}


def _row_of(text: str) -> tuple[Row, Learn]:
    values = json.loads(text)
    rejected = values["rejected"] and Turn(*values["rejected"])
    turns = tuple(Turn(*turn) for turn in values["turns"])
    return Row(turns, rejected, tools=values["tools"]), values["learn"]


class FramedExamples:
    """The examples of a data set as tokens, made when they are asked for."""

    def __init__(self, examples: Dataset, tokenizer: Any, max_length: int) -> None:
        self.examples, self.max_length = examples, max_length
        self.framer, self.tokenise = framer_of_tokenizer(tokenizer), tokenise_with(tokenizer)

    @cached_property
    def _framed(self) -> list[tuple[Tokens, Tokens | None]]:
        """The tokens of every row, and those with its rejected answer. Raises DataError."""
        return [self._tokens(row, number) for number, row in enumerate(self.examples, 1)]

    def _tokens(self, example: dict[str, str], number: int) -> tuple[Tokens, Tokens | None]:
        row, learn = _row_of(example[CONVERSATION])
        try:
            found = self.framer.frame(row, learn).tokens(self.tokenise)
            if row.rejected is None:
                return found, None
            other = row._replace(turns=(*row.turns[:-1], row.rejected))
            return found, self.framer.frame(other).tokens(self.tokenise)
        except FramingError as error:
            raise unframed_row_error(number, row.chat, error) from error

    @property
    def sft(self) -> Dataset:
        """What trl's SFT takes."""
        return Dataset.from_list(
            [{"input_ids": one.ids, "completion_mask": one.mask} for one, _ in self._framed]
        )

    @property
    def dpo(self) -> Dataset:
        """What trl's DPO makes of preferences: those whose prompt leaves room for an answer."""
        pairs = [pair for pair in self._pairs() if len(pair["prompt_ids"]) < self.max_length]
        if not pairs:
            return Dataset.from_dict({"prompt_ids": [], "chosen_ids": [], "rejected_ids": []})
        return Dataset.from_list(pairs)

    def _pairs(self) -> Iterator[dict[str, list[int]]]:
        for one, other in self._framed:
            assert other, "a row of a pair has a rejected answer"
            # The last tokens of a prompt may join those of either answer.
            shared = min(one.mask.index(1), other.mask.index(1))
            yield {
                "prompt_ids": one.ids[:shared],
                "chosen_ids": one.ids[shared:],
                "rejected_ids": other.ids[shared:],
            }

    @property
    def counts(self) -> ExampleCounts:
        """How many of them are trained on, cut, and left out."""
        cut = dropped = joined = 0
        for pair in self._framed:
            sides = [side for side in pair if side]
            joined += any(side.joined for side in sides)
            if min(side.mask.index(1) for side in sides) >= self.max_length:
                dropped += 1
            else:
                ends = [len(side.mask) - side.mask[::-1].index(1) for side in sides]
                cut += max(ends) > self.max_length
        return ExampleCounts(len(self._framed) - dropped, cut, dropped, joined)
