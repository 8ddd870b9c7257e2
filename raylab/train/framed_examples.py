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
from functools import cached_property
from typing import Any

from datasets import Dataset

from raylab.spec.data.framing import (
    FramingError,
    Learn,
    framer_of_tokenizer,
    tokenise_with,
)
from raylab.spec.data.rows import Row, Turn
from raylab.spec.identity import fingerprint
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
    def _framed(self) -> Dataset:
        """The tokens of every row, the first and the end of what is learned. Raises DataError."""
        return self.examples.map(
            self._columns,
            with_indices=True,
            remove_columns=[CONVERSATION],
            load_from_cache_file=False,
            # The cache of trials holds the result; datasets would hash the tokenizer for its own.
            new_fingerprint=fingerprint(["framed", self.examples._fingerprint]),
            desc="Framing",
        )

    def _columns(self, example: dict[str, str], index: int) -> dict[str, Any]:
        row, learn = _row_of(example[CONVERSATION])
        try:
            sides = [self.framer.frame(row, learn).tokens(self.tokenise)]
            if row.rejected:
                other = row._replace(turns=(*row.turns[:-1], row.rejected))
                sides.append(self.framer.frame(other).tokens(self.tokenise))
        except FramingError as error:
            raise unframed_row_error(index + 1, row.chat, error) from error
        # The last tokens of a prompt may join those of either answer.
        first = min(side.mask.index(1) for side in sides)
        found: dict[str, Any] = {
            "first": first,
            "end": max(len(side.mask) - side.mask[::-1].index(1) for side in sides),
            "joined": any(side.joined for side in sides),
        }
        chosen, *rejected = sides
        if not rejected:
            return {"input_ids": chosen.ids, "completion_mask": chosen.mask, **found}
        return {
            "prompt_ids": chosen.ids[:first],
            "chosen_ids": chosen.ids[first:],
            "rejected_ids": rejected[0].ids[first:],
            **found,
        }

    @property
    def sft(self) -> Dataset:
        """What trl's SFT takes, uncut."""
        return self._framed.select_columns(["input_ids", "completion_mask"])

    @property
    def dpo(self) -> Dataset:
        """What trl's DPO makes of preferences: those whose prompt leaves room for an answer."""
        columns = self._framed.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
        fitting = (i for i, first in enumerate(self._framed["first"]) if first < self.max_length)
        return columns.select(list(fitting))

    @property
    def counts(self) -> ExampleCounts:
        """How many of them are trained on, cut, and left out."""
        learned = list(zip(self._framed["first"], self._framed["end"], strict=True))
        fitting = [end for first, end in learned if first < self.max_length]
        cut = sum(end > self.max_length for end in fitting)
        return ExampleCounts(
            len(fitting), cut, len(learned) - len(fitting), sum(self._framed["joined"])
        )
