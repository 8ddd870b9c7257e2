"""Describes a data set before anything is trained on it.

Model: a file is read as a study reads it. The description counts the rows and their lengths (in
characters, and in a tokenizer's tokens without its chat template), repeated prompts, and the styles
and scripts of the answers, shows the first row as it is learned, and lists everything that a study
would refuse or warn about; with a tokenizer also what its chat template makes of them. Two files
are also matched as preference pairs. Quantiles are values that occur (nearest rank).
Invariant: nothing is written, and no large library is loaded unless a tokenizer is given.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from raylab.errors import InputError
from raylab.number_format import plural
from raylab.spec.data.dataset import Rows, read_data_set
from raylab.spec.data.example import example_of
from raylab.spec.data.formats import FORMATS, option
from raylab.spec.data.framing import Framer, Learn, framer_of_tokenizer
from raylab.spec.data.pairs import problems_of_two_sets
from raylab.spec.data.prepared import DEFAULT_DATE, prepared
from raylab.spec.data.rows import Row, rows_fingerprint
from raylab.spec.data.shapes import Findings, examine, shapes_of
from raylab.spec.data.warnings import find_warnings
from raylab.spec.scoring.styles import STYLES, in_style
from raylab.spec.sources import DataSet

Measure = Callable[[str], int]
_NO_TEMPLATE = "the tokenizer has no chat template, so the example is shown by turns"
SCRIPTS = ("japanese", "han", "latin", "other", "none")

_BLOCKS = (
    ("kana", "\u3041", "\u30ff"),
    ("kana", "\uff66", "\uff9f"),
    ("han", "\u3400", "\u9fff"),
    ("han", "\uf900", "\ufaff"),
    ("han", "\U00020000", "\U0003ffff"),
    ("latin", "A", "\u024f"),
    ("latin", "\uff21", "\uff5a"),
)


def describe_files(
    files: Sequence[Path], tokenizer: str | None = None, **columns: Sequence[str] | None
) -> dict[str, Any]:
    """The document of `raylab data describe`.

    `columns` are fields of a study's data set: each once for all files, or once for each file. An
    empty text stands for a field that is not given. Raises InputError.
    """
    asked = [data_set(file, given) for file, given in zip(files, _by_file(files, columns),
                                                          strict=True)]  # fmt: skip
    reader = load_tokenizer(tokenizer) if tokenizer else None
    found = [read_data_set(str(data.path), data, option) for data in asked]
    described = [
        {"file": str(file), **describe(rows, reader)}
        for file, rows in zip(files, found, strict=True)
    ]
    pairs = {"pairs": _pairs(files, found)} if len(files) == 2 else {}
    return {"files": described, **pairs}


def data_set(file: Path, given: Mapping[str, str | None]) -> DataSet:
    """A file as a data set, with the fields that options give. Raises InputError."""
    form = given.get("format")
    if form and form not in FORMATS:
        raise InputError(
            "there is no such format",
            found=f"--format {form}",
            expected=", ".join(FORMATS),
        )
    return DataSet.model_validate({"path": str(file), **{k: v for k, v in given.items() if v}})


def _by_file(
    files: Sequence[Path], columns: Mapping[str, Sequence[str] | None]
) -> list[dict[str, str | None]]:
    """The fields of each file."""
    fields: list[dict[str, str | None]] = [{} for _ in files]
    for name, given in columns.items():
        values = list(given or [""])
        if len(values) not in (1, len(files)):
            raise InputError(
                f"--{name} does not match the files",
                found=f"{len(values)} times for {plural(len(files), 'file')}",
                expected="once for all files, or once for each in their order",
                todo=f'write --{name} "" for a file that needs none',
            )
        each = values if len(values) == len(files) else values * len(files)
        for field, value in zip(fields, each, strict=True):
            field[name] = value or None
    return fields


class ModelReader(NamedTuple):
    """A model's eyes: how long a text is in its tokens, and how its template frames a row."""

    length: Measure
    framer: Framer | None
    """None: the tokenizer has no chat template."""


def describe(
    found: Rows, reader: ModelReader | None = None, learn: Learn = "last"
) -> dict[str, Any]:
    """The description of one data set, with `reader` also as a model reads it.

    `learn` says which answers are learned where the data marks none.
    """
    rows = found.rows
    measures: dict[str, Measure] = {"characters": len}
    framing, framer = Findings(), None
    if reader:
        measures["tokens"], framer = reader
        framing = Findings(notes=(_NO_TEMPLATE,))
    if framer and rows:
        framing = examine(framer, shapes_of(rows, found.places), learn)
    answers = [row.completion for row in rows]
    scripts = [script_of(text) for text in answers]
    prompts = Counter(row.asked for row in rows)
    return {
        "format": found.format,
        "rows": len(rows),
        "fingerprint": rows_fingerprint(rows),
        "distinct_prompts": len(prompts),
        "repeated_prompts": len(rows) - len(prompts),
        "distinct_answers": len({*answers}),
        "several_turns": sum(any(t.role == "user" for t in row.earlier) for row in rows),
        "lengths": {
            name: {part: spread([measure(t) for t in texts]) for part, texts in _parts(rows)}
            for name, measure in measures.items()
        },
        "styles": {style: _share([in_style(t, style) for t in answers]) for style in STYLES},
        "scripts": {name: _share([script == name for script in scripts]) for name in SCRIPTS},
        "example": example_of(rows[0], found.places[0], framer, learn) if rows else None,
        "problems": [*found.problems, *(f"the chat template: {said}" for said in framing.problems)],
        "warnings": [*found.notes, *find_warnings(rows, found.places), *framing.notes],
    }


def spread(values: Sequence[int]) -> dict[str, int]:
    """min, median, 95 % and max of `values`, each of them one of the values."""
    ordered = sorted(values)
    at = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: ordered[max(0, math.ceil(q * len(ordered)) - 1)] for name, q in at.items()}


def _parts(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    parts = {
        "prompt": [row.prompt for row in rows],
        "answer": [row.completion for row in rows],
        "rejected": [row.rejected.text for row in rows if row.rejected],
        "whole row": [
            "".join([*(t.text for t in r.earlier), r.prompt, r.completion]) for r in rows
        ],
    }
    return [(name, texts) for name, texts in parts.items() if texts]


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _pairs(files: Sequence[Path], found: Sequence[Rows]) -> dict[str, Any]:
    a, b = found
    names = (str(files[0]), str(files[1]))
    problems = problems_of_two_sets(a.rows, b.rows, names, (a.places, b.places))
    return {"rows": 0 if problems else len(a.rows), "problems": problems}


def load_tokenizer(directory: str, day: datetime.date = DEFAULT_DATE) -> ModelReader:
    """How the model at `directory` reads, on a `day`. Raises InputError if it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            "the tokenizer cannot be loaded",
            found=f"{directory}: {str(error).splitlines()[0]:.200}",
            expected="a model's directory, or a Hugging Face id that was downloaded",
        ) from error
    own = tokenizer.chat_template
    if isinstance(own, dict):
        tokenizer.chat_template = {name: prepared(text, day) for name, text in own.items()}
    elif own is not None:
        tokenizer.chat_template = prepared(own, day)
    return ModelReader(
        lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        framer_of_tokenizer(tokenizer) if own is not None else None,
    )


def script_of(text: str) -> str:
    """The script of `text`, one of SCRIPTS.

    Each letter belongs to a script by its Unicode block; digits, punctuation and symbols are not
    letters. A text is `japanese` if it has kana, and kana and kanji are at least half of its
    letters. `han` is kanji without kana; `none` is a text without letters.
    """
    counts = Counter(
        next((name for name, first, last in _BLOCKS if first <= letter <= last), "other")
        for letter in text
        if letter.isalpha()
    )
    if not counts:
        return "none"
    if counts["kana"] and 2 * (counts["kana"] + counts["han"]) >= counts.total():
        return "japanese"
    return max(("han", "latin", "other"), key=lambda script: counts[script])
