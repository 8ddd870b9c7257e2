"""What a data set holds, before anything is trained on it.

Model: a file is read as a study would read it; of its rows are told: how many, how long (in
characters, and in a tokenizer's tokens without its chat template), which prompts come again, in
which style and script the answers are, and everything that a study would refuse or warn about.
Two files are also tried as pairs. Quantiles are values that occur (nearest rank).
Invariant: nothing is written, and nothing heavy is loaded unless a tokenizer is asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import InputError
from raylab.spec.data.dataset import Rows, read_data_set
from raylab.spec.data.formats import FORMATS
from raylab.spec.data.pairs import aligned_problems
from raylab.spec.data.rows import Row, rows_fingerprint
from raylab.spec.data.scripts import SCRIPTS, script_of
from raylab.spec.data.warnings import warnings_of
from raylab.spec.scoring.styles import STYLES, in_style
from raylab.spec.sources import DataSet

Measure = Callable[[str], int]


def describe_files(
    files: Sequence[Path], tokenizer: str | None = None, **columns: Any
) -> dict[str, Any]:
    """The document of `raylab data describe`; `columns` are fields of a study's data set."""
    form = columns.get("format")
    if form is not None and form not in FORMATS:
        raise InputError("there is no such format", found=form, expected=", ".join(FORMATS))
    measures: dict[str, Measure] = {"characters": len}
    if tokenizer is not None:
        measures["tokens"] = _tokens(tokenizer)
    found = [read_data_set(str(f), DataSet(path=str(f), **columns)) for f in files]
    described = [
        {"file": str(file), **describe(rows, measures)}
        for file, rows in zip(files, found, strict=True)
    ]
    pairs = {"pairs": _pairs(files, found)} if len(files) == 2 else {}
    return {"files": described, **pairs}


def describe(found: Rows, measures: dict[str, Measure]) -> dict[str, Any]:
    """What there is to say of one data set; the measures of length by name."""
    rows = found.rows
    answers = [row.completion for row in rows]
    scripts = [script_of(text) for text in answers]
    prompts = Counter((row.prompt, row.earlier) for row in rows)
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
        "problems": found.problems,
        "warnings": warnings_of(rows, found.places),
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
        "rejected": [row.rejected for row in rows if row.rejected is not None],
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
    problems = aligned_problems(a.rows, b.rows, names, (a.places, b.places))
    return {"rows": 0 if problems else len(a.rows), "problems": problems}


def _tokens(directory: str) -> Measure:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            "the tokenizer cannot be loaded",
            found=f"{directory}: {str(error).splitlines()[0]:.200}",
            expected="a model's directory, or a Hugging Face id that was downloaded",
        ) from error
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
