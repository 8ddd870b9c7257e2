"""Files -> records: column names and values, each with its place.

Model: a reader is a row of READERS, by the ending of a file's name; behind that a text may have
the ending of a compression. Files are read by the standard library and pyarrow, which are quick to
load.
Invariant: a value is the one in the file, never guessed (no dates, no numbers from a CSV); a
place is the number of a row from 1 (in JSON lines that of the line); everything that cannot be
read is a Problem, not only the first.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

NOT_THERE = "the file is not there"


class Record(NamedTuple):
    """One row of a file: its values by column."""

    place: str
    values: dict[str, Any]


class Problem(NamedTuple):
    """An error of a row and its place; `place` is empty for the file as a whole."""

    what: str
    place: str = ""


Found = Iterator[Record | Problem]


COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Endings behind that of a text file, and what pyarrow calls the compression."""


def kind_of(path: Path) -> str:
    """The ending that says how a file is read; of a compressed file the one before the last."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSED:
        endings.pop()
    return endings[-1] if endings else ""


def read_file(path: Path) -> Found:
    """The records of a file, and what cannot be read of it."""
    reader = READERS.get(kind_of(path))
    packed = path.suffix.lower() in COMPRESSED
    if reader is None or (packed and reader in BINARY):
        known = f"{', '.join(READERS)} (texts also with {', '.join(COMPRESSED)})"
        yield Problem(f"the file is of an unknown kind; expected {known}")
    elif not path.is_file():
        yield Problem(NOT_THERE)
    else:
        try:
            yield from reader(path)
        except UnicodeDecodeError as error:
            yield Problem(f"the file is not UTF-8 ({error.reason} at byte {error.start})")
        except (csv.Error, OSError) as error:
            yield Problem(f"the file cannot be read: {error}")


def _open(path: Path, newline: str | None = None) -> TextIO:
    """A text file, unpacked where it is compressed."""
    compression = COMPRESSED.get(path.suffix.lower())
    if compression is None:
        return path.open(encoding="utf-8-sig", newline=newline)
    from raylab.spec.data.arrow_files import unpacked

    stream = unpacked(path, compression)
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)


def _read_json_lines(path: Path) -> Found:
    # pyarrow's reader would guess dates, limit the length of a line, and count rows from 0.
    with _open(path) as lines:
        yield from _records(lines)


def _records(lines: Iterable[str]) -> Found:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _record(number, line)


def _record(number: int, line: str) -> Record | Problem:
    try:
        value = _OBJECTS.decode(line)
    except (ValueError, RecursionError) as error:
        return Problem(f"no JSON ({str(error.args[0]).split(': line')[0]})", str(number))
    return _object(number, value)


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object. Raises ValueError where a name is there twice: one would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the field {twice!r} twice")
    return found


_OBJECTS = json.JSONDecoder(object_pairs_hook=_fields)


def _object(number: int, value: Any) -> Record | Problem:
    if isinstance(value, dict):
        return Record(str(number), value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return Problem(
            'no JSON object but a list; expected the columns by name, as in {"messages": [...]} '
            "(a list of rows is a file of the ending .json)", str(number)
        )  # fmt: skip
    return Problem("no JSON object", str(number))


def _read_json(path: Path) -> Found:
    """A list of rows, one row, or JSON lines, which many tools write with this ending."""
    with _open(path) as file:
        text = file.read()
    try:
        values = json.loads(text, object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        lines = text.split("\n")
        first = next((line for line in lines if line.strip()), "")
        if isinstance(_record(1, first), Record):
            yield from _records(lines)
        else:
            yield Problem(f"the file is no JSON: {error}")
        return
    if isinstance(values, dict):
        lists = [name for name, value in values.items() if _is_rows(value)]
        if lists and (len(lists) == len(values) or "data" in lists):
            names = " and ".join(map(repr, lists))
            yield Problem(
                f"the file is one object whose field {names} holds the rows; expected the "
                "list of rows itself, or one row a line"
            )
            return
        if _are_columns(values):
            yield Problem(
                f"the file is one object of columns ({', '.join(values)}); expected a list of rows "
                "(pandas writes it with `orient='records'`)"
            )
            return
        values = [values]
    if not isinstance(values, list):
        yield Problem(f"the file is no list of rows: {values!r:.60}")
        return
    for number, value in enumerate(values, 1):
        yield _object(number, value)


def _is_rows(value: Any) -> bool:
    """Whether a field of an object holds rows, and not the turns of one row."""
    is_list = isinstance(value, list) and all(isinstance(v, dict) for v in value)
    return is_list and bool(value) and not any("role" in v or "from" in v for v in value)


def _are_columns(row: dict[str, Any]) -> bool:
    """Whether an object holds columns: lists of texts, or objects whose fields are row numbers."""
    columns = list(row.values())
    lists = all(isinstance(c, list) and all(isinstance(v, str) for v in c) for c in columns)
    numbered = all(isinstance(c, dict) and c and all(map(str.isdigit, c)) for c in columns)
    return len(columns) > 1 and (lists or numbered)


def _read_csv(path: Path) -> Found:
    csv.field_size_limit(sys.maxsize)
    with _open(path, newline="") as lines:
        reader = csv.reader(lines, strict=True)
        names = next(reader, [])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield Problem(f"the header has {', '.join(map(repr, twice))} twice")
            return
        if len(names) == 1 and (other := next((c for c in "\t;|" if c in names[0]), None)):
            yield Problem(f"the header has {other!r} between its columns; expected commas")
            return
        rows = (row for row in reader if row)
        for number, row in enumerate(rows, 1):
            if len(row) == len(names):
                yield Record(str(number), dict(zip(names, row, strict=True)))
            else:
                what = f"{len(row)} values, where the header has {len(names)},"
                yield Problem(what, str(number))


def _read_parquet(path: Path) -> Found:
    # pyarrow takes longer to load than most studies take to plan.
    from raylab.spec.data.arrow_files import rows_of_parquet

    return _numbered(rows_of_parquet(path))


def _read_arrow(path: Path) -> Found:
    from raylab.spec.data.arrow_files import rows_of_arrow

    return _numbered(rows_of_arrow(path))


def _numbered(rows: Iterable[dict[str, Any]]) -> Found:
    for number, values in enumerate(rows, 1):
        yield Record(str(number), values)


BINARY = (_read_parquet, _read_arrow)
READERS: dict[str, Callable[[Path], Found]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".jsonlines": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
