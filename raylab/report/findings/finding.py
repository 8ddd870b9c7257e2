"""The answer that tables give to one question, before any words.

Model: a finding is a function of a study's tables. Its sentences are keys with values, which
`raylab.report.words` says in a language; its frames are tables of plain values, from which every
number of its sentences, grids and figures is taken.
Invariant: nothing is read, written or drawn here; the same tables give the same findings. A value
that was not measured is None, never zero; a finding without an answer has a sentence that says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from raylab.report.study_tables import Rows

Grade = Literal["", "good", "fair", "bad", "unknown"]
MOST_ANSWERS = 2
"""Sentences of an answer, where there is one base model."""


@dataclass(frozen=True)
class Sentence:
    """One statement: the key of its words, the values in them, and how good it is.

    `head` is the key of its subject, where that stands before it; a value may be a sentence.
    """

    key: str
    values: Mapping[str, Any] = field(default_factory=dict)
    grade: Grade = ""
    head: str = ""


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    `answer` is one or two sentences for each base model, `details` are the others. `cautions` say
    what limits the results of the study. `frames` are the finding's numbers, rows by table.
    """

    key: str
    answer: tuple[Sentence, ...] = ()
    details: tuple[Sentence, ...] = ()
    cautions: tuple[Sentence, ...] = ()
    frames: Mapping[str, Rows] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """All that it says, the answer first."""
        return (*self.answer, *self.details, *self.cautions)

    @classmethod
    def of(
        cls,
        key: str,
        sentences: Sequence[Sentence],
        frames: Mapping[str, Rows],
        cautions: Sequence[Sentence] = (),
    ) -> Finding:
        """A finding whose first sentences are its answer: two, or one for each base model."""
        counted: Counter[object] = Counter()
        bases = len({one.values.get("model") for one in sentences})
        answer: list[Sentence] = []
        details: list[Sentence] = []
        for one in sentences:
            base = one.values.get("model")
            is_first = counted[base] < (1 if bases > 1 else MOST_ANSWERS)
            (answer if is_first else details).append(one)
            counted[base] += 1
        return cls(key, tuple(answer), tuple(details), tuple(cautions), frames)

    def without_base_model(self) -> Finding:
        """The same, for a study of one base model: no sentence names it."""

        def unnamed(sentences: Sequence[Sentence]) -> tuple[Sentence, ...]:
            return tuple(
                replace(one, values={**one.values, "model": None}) if "model" in one.values else one
                for one in sentences
            )

        return replace(
            self,
            answer=unnamed(self.answer),
            details=unnamed(self.details),
            cautions=unnamed(self.cautions),
        )
