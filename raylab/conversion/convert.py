"""A data set's answers in another style: one file becomes another.

Model: a style is a row of CONVERTERS, a function of a text. The column that is rewritten is the
one that is named, or else the answers of the file's format: in a conversation the last turn, so
that the prompts stay the same and both files make pairs.
Invariant: the new file has the kind, rows, columns and order of the old one, and differs in that
column alone; it appears whole or not at all, and replaces an existing file only on request.
"""

from __future__ import annotations

import copy
import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from raylab.conversion.ojousama import ojousama
from raylab.errors import DataError, InputError
from raylab.parquet import read_parquet
from raylab.spec.data.dataset import read_data_set
from raylab.spec.data.describe import data_set
from raylab.spec.data.formats import FORMATS, format_of, option
from raylab.spec.data.places import read_records
from raylab.spec.data.readers import Record
from raylab.spec.scoring.styles import STYLES, in_style
from raylab.spec.sources import DataSet

Values = dict[str, Any]

CONVERTERS: dict[str, Callable[[str], str]] = {"ojousama": ojousama}

# The part of each format that holds the answers: texts, or messages whose last one is an answer.
ANSWERS = {
    "text": "completion",
    "kto": "completion",
    "alpaca": "output",
    "dolly": "response",
    "messages": "messages",
    "sharegpt": "messages",
}


@dataclass(frozen=True)
class Converted:
    """Counts of converted answers; rates are None where the style has no ending rule."""

    rows: int
    rewritten: int
    unchanged: tuple[str, ...]
    """The places of rows that stayed as they were."""
    style_before: float | None
    style_after: float | None


def convert_file(
    source: Path,
    out: Path,
    style: str,
    column: str | None = None,
    *,
    force: bool = False,
    **fields: str | None,
) -> Converted:
    """Write `source` to `out` with its answers in `style`. Raises InputError or DataError.

    `column` is that of the answers; without it, it is that of the file's format, for which `fields`
    are the other fields of a study's data set.
    """
    convert = CONVERTERS.get(style)
    if convert is None:
        raise InputError("no such style can be made", found=style, expected=", ".join(CONVERTERS))
    _check_out(source, out, force)
    data = data_set(source, fields)
    records = _records(source)
    column = column or _answers(data, records)
    before = [_get(record, column) for record in records]
    after = [convert(text) for text in before]
    rows = [_put(r.values, column, t) for r, t in zip(records, after, strict=True)]
    _write(source, out, rows)
    same = [r.place for r, a, b in zip(records, before, after, strict=True) if a == b]
    rates = [_rate(texts, style) for texts in (before, after)]
    return Converted(len(rows), len(rows) - len(same), tuple(same), *rates)


def _check_out(source: Path, out: Path, force: bool) -> None:
    if source.suffix.lower() not in WRITERS and not source.is_dir():
        raise InputError(
            "files of this kind are read and not written",
            found=source,
            expected=f"a file that ends in {', '.join(WRITERS)}",
            todo="unpack it, or write it as one of these",
        )
    if out.suffix.lower() != source.suffix.lower():
        raise InputError(
            "the new file is of another kind",
            found=out,
            expected=f"a name ending in {source.suffix}",
        )
    if out.exists() and not force:
        raise InputError(
            "the new file is there already", found=out, todo="name another, or give --force"
        )
    if not out.parent.is_dir():
        raise InputError("there is no such directory", found=out.parent, todo="make it")


def _records(source: Path) -> list[Record]:
    if source.is_dir():
        raise DataError("one file is converted at a time", found=source, expected="a file")
    records, problems = read_records(str(source), DataSet(path=str(source)))
    if problems:
        found = "; ".join(f"row {p.place}: {p.what}" if p.place else p.what for p in problems[:5])
        raise DataError(f"{source} cannot be read", found=found, expected="rows in UTF-8")
    return records


def _answers(data: DataSet, records: Sequence[Record]) -> str:
    """The column of the answers. Raises DataError where a row's last turn is not its answer."""
    source = str(data.path)
    form, problem = format_of(data, dict.fromkeys(c for r in records for c in r.values), option)
    if form is None or form not in ANSWERS:
        raise DataError(
            f"it is not clear where the answers of {source} are",
            found=problem or f"the format {form}",
            expected=f"one of the formats {', '.join(ANSWERS)}",
            todo="name the column of the answers with --completion",
        )
    found = read_data_set(source, data, option)
    if found.problems:
        raise DataError(f"{source} has unusable rows", found="; ".join(found.problems))
    column = FORMATS[form].names(data)[ANSWERS[form]]
    rows = dict(zip(found.places, found.rows, strict=True))
    for record in records:
        row = rows.get(record.place)  # None: the record says that it is not learned.
        if row and _get(record, column) != row.completion:
            raise DataError(
                f"the last turn of a row of {source} is not the answer that is learned",
                found=f"row {record.place}",
                expected="rows that end with the learned answer, a text",
            )
    return column


def _place(value: Any) -> tuple[Any, str] | None:
    """The last message of a cell and the name of its text; None: the cell holds no messages."""
    message = value[-1] if isinstance(value, list) and value else value
    names = [n for n in ("content", "value", "text") if isinstance(message, dict) and n in message]
    return (message, names[0]) if names else None


def _get(record: Record, column: str) -> str:
    value = record.values.get(column)
    there = _place(value)
    text = there[0][there[1]] if there else value
    if not isinstance(text, str):
        raise DataError(
            f"the column {column!r} holds no text",
            found=f"row {record.place}: {value!r:.80}",
            expected="a text in every row",
        )
    return text


def _put(values: Values, column: str, text: str) -> Values:
    changed = copy.deepcopy(values[column])
    if there := _place(changed):
        there[0][there[1]] = text
    return {**values, column: changed if there else text}


def _rate(texts: Sequence[str], style: str) -> float | None:
    if style not in STYLES or not texts:
        return None
    return sum(in_style(text, style) for text in texts) / len(texts)


def _write(source: Path, out: Path, rows: Sequence[Values]) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        WRITERS[source.suffix.lower()](source, partial, rows)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_json_lines(source: Path, out: Path, rows: Sequence[Values]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    out.write_text("".join(lines), encoding="utf-8", newline="\n")


def _write_json(source: Path, out: Path, rows: Sequence[Values]) -> None:
    out.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _write_csv(source: Path, out: Path, rows: Sequence[Values]) -> None:
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(source: Path, out: Path, rows: Sequence[Values]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=read_parquet(source).schema)
    parquet.write_table(table, out)


WRITERS: dict[str, Callable[[Path, Path, Sequence[Values]], None]] = {
    ".jsonl": _write_json_lines,
    ".json": _write_json,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
