"""The answer that tables give to one question, before any words.

Model: a finding is a function of a study's tables. Its sentences are keys with values, which
`raylab.report.words` says in a language; its frames are tables of plain values, from which every
number of its sentences, grids and figures is taken.
Invariant: nothing is read, written or drawn here; the same tables give the same findings. A value
that was not measured is None, never zero; a finding without an answer has a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from raylab.report.study_tables import Rows

Grade = Literal["", "good", "fair", "bad", "unknown"]


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

    `headline` is for the first screen, `sentences` for the section, `caveats` for what the
    answer rests on; `frames` are its numbers, rows by table.
    """

    key: str
    headline: tuple[Sentence, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    caveats: tuple[Sentence, ...] = ()
    frames: Mapping[str, Rows] = field(default_factory=dict)
