"""Files and hub data sets -> records: column names and values, each with its place.

Model: a reader is a row of READERS, by the ending of a file's name. Files are read by the
standard library and pyarrow, which are quick to load; hub data sets by `datasets`. A directory
is its files in the order of their names, all of one kind.
Invariant: a value is the one in the file, never guessed (no dates, no numbers from a CSV); a
place is the number of a row from 1 (in JSON lines that of the line), behind the file's name
where a directory is read; everything that cannot be read is a Problem, not only the first.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raylab.errors import DataError
from raylab.parquet import read_parquet
from raylab.spec.sources import DataSet

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


def read_records(name: str, data: DataSet) -> tuple[list[Record], list[Problem]]:
    """All rows of the data set `name`, and everything that could not be read of it."""
    place = str(data.hub or data.path)
    found = list(_read_hub(name, data) if data.hub else _read_path(Path(place)))
    records = [item for item in found if isinstance(item, Record)]
    problems = [item for item in found if isinstance(item, Problem)]
    if not found:
        problems = [Problem("it is empty")]
    return records, problems


def _read_path(path: Path) -> Found:
    if not path.is_dir():
        yield from _read_file(path)
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        found = f"files of {', '.join(kinds)}" if kinds else "no file of a known kind"
        yield Problem(f"the directory holds {found}; expected one kind of {', '.join(READERS)}")
        return
    for file in files:
        for item in _read_file(file):
            yield item._replace(place=f"{file.name}:{item.place}" if item.place else file.name)


def _read_file(path: Path) -> Found:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        yield Problem(f"the file is of an unknown kind; expected {', '.join(READERS)}")
    elif not path.is_file():
        yield Problem(NOT_THERE)
    else:
        try:
            yield from reader(path)
        except UnicodeDecodeError as error:
            yield Problem(f"the file is not UTF-8 ({error.reason} at byte {error.start})")
        except (pa.ArrowException, csv.Error, OSError) as error:
            yield Problem(f"the file cannot be read: {error}")


def _read_json_lines(path: Path) -> Found:
    # pyarrow's reader would guess dates, limit the length of a line, and count rows from 0.
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _record(number, line)


def _record(number: int, line: str) -> Record | Problem:
    try:
        value = json.loads(line)
    except ValueError as error:
        return Problem(f"no JSON ({error.args[0].split(': line')[0]})", str(number))
    return _object(number, value)


def _object(number: int, value: Any) -> Record | Problem:
    if isinstance(value, dict):
        return Record(str(number), value)
    return Problem("no JSON object", str(number))


def _read_json(path: Path) -> Found:
    text = path.read_text(encoding="utf-8-sig")
    try:
        values = json.loads(text)
    except ValueError as error:
        yield Problem(f"the file is no JSON: {error}")
        return
    if not isinstance(values, list):
        yield Problem(f"the file is no list of rows: {values!r:.60}")
        return
    for number, value in enumerate(values, 1):
        yield _object(number, value)


def _read_csv(path: Path) -> Found:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        names = next(reader, [])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield Problem(f"the header has {', '.join(map(repr, twice))} twice")
            return
        rows = (row for row in reader if row)
        for number, row in enumerate(rows, 1):
            if len(row) == len(names):
                yield Record(str(number), dict(zip(names, row, strict=True)))
            else:
                what = f"{len(row)} values, where the header has {len(names)},"
                yield Problem(what, str(number))


def _read_parquet(path: Path) -> Found:
    table = read_parquet(path)
    for number, values in enumerate(table.to_pylist(), 1):
        yield Record(str(number), values)


READERS: dict[str, Callable[[Path], Found]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(name: str, data: DataSet) -> Found:
    import datasets

    try:
        rows = datasets.load_dataset(data.hub, revision=data.revision, split=data.split)
    except Exception as error:
        raise DataError(
            f"data set {name} cannot be loaded from the hub",
            found=f"{data.hub}: {type(error).__name__}: {error}",
            expected=f"a data set with the split {data.split!r}",
            todo="check the id, the network, and HF_TOKEN for a gated one",
        ) from error
    for number, values in enumerate(rows, 1):
        yield Record(str(number), dict(values))
