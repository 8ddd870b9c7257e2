"""The rows of data sets: read, checked, split and fingerprinted.

Model: a data set is a list of rows (prompt, completion). Files are read by the standard
library and pyarrow, hub data sets by `datasets`. Whether a prompt is held out depends on its
text alone, so D0, D1 and their concatenation hold out the same prompts, whatever the order of
rows or the seed.
Invariant: a data set that is returned has at least one row, and no empty text; everything wrong
with a file comes in one DataError with row numbers (from 1), before anything trains.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from raylab.errors import DataError
from raylab.spec.identity import fingerprint
from raylab.spec.study import DataSet, Study

_MOST_NAMED = 5

Columns = dict[str, list[Any]]


class Row(NamedTuple):
    """One example: what is asked, and the answer."""

    prompt: str
    completion: str


class Pair(NamedTuple):
    """One preference: what is asked, the preferred answer, and the other."""

    prompt: str
    chosen: str
    rejected: str


def load_rows(study: Study) -> dict[str, list[Row]]:
    """The rows of every data set of `study`, by name. Raises DataError."""
    plain = {name: _read(name, data) for name, data in study.data.items() if data.concat is None}
    joined = {
        name: [row for part in data.concat for row in plain[part]]
        for name, data in study.data.items()
        if data.concat is not None
    }
    return {name: {**plain, **joined}[name] for name in study.data}


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """16 hex digits that stand for the texts of `rows` in their order."""
    return fingerprint([list(row) for row in rows])


def is_held_out(prompt: str, share: float) -> bool:
    """Whether `prompt` is kept from training: SHA-256 of its text, read as a fraction of 1."""
    digest = hashlib.sha256(prompt.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """(training rows, held-out rows), each in the order of `rows`."""
    training = [row for row in rows if not is_held_out(row.prompt, share)]
    held_out = [row for row in rows if is_held_out(row.prompt, share)]
    return training, held_out


def align(chosen: Sequence[Row], rejected: Sequence[Row], names: tuple[str, str]) -> list[Pair]:
    """Preference pairs of two data sets by prompt, in the order of `chosen`.

    Raises DataError where a prompt stands in one of them only, stands twice, or where both
    answers are equal.
    """
    problems = _unaligned(chosen, rejected, names)
    other = {row.prompt: row.completion for row in rejected}
    pairs = [
        Pair(row.prompt, row.completion, other[row.prompt]) for row in chosen if row.prompt in other
    ]
    equal = [pair.prompt for pair in pairs if pair.chosen == pair.rejected]
    problems += _listed("the same answer is chosen and rejected for", equal)
    if problems:
        raise DataError(
            f"the data sets {names[0]} (chosen) and {names[1]} (rejected) do not make pairs",
            found="; ".join(problems),
            expected="the same prompts in both, each once, with different answers",
        )
    return pairs


def _unaligned(chosen: Sequence[Row], rejected: Sequence[Row], names: tuple[str, str]) -> list[str]:
    problems = []
    for rows, others, name in ((chosen, rejected, names[0]), (rejected, chosen, names[1])):
        there = {row.prompt for row in others}
        problems += _listed(f"only in {name}:", [r.prompt for r in rows if r.prompt not in there])
        seen: set[str] = set()
        twice = [r.prompt for r in rows if r.prompt in seen or seen.add(r.prompt)]  # type: ignore[func-returns-value]
        problems += _listed(f"twice in {name}:", twice)
    return problems


def _listed(what: str, items: Sequence[Any]) -> list[str]:
    if not items:
        return []
    named = ", ".join(repr(item) for item in items[:_MOST_NAMED])
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return [f"{what} {named}{more}"]


def _read(name: str, data: DataSet) -> list[Row]:
    place = str(data.hub or data.path)
    table = _read_hub(name, data) if data.hub else _read_file(name, Path(place))
    wanted = (data.prompt, data.completion)
    if not any(table.values()):
        raise DataError(f"data set {name} is empty", found=place, expected="at least one row")
    missing = [column for column in wanted if column not in table]
    if missing:
        raise DataError(
            f"data set {name} lacks the column {' and '.join(map(repr, missing))}",
            found=f"{place}: columns {', '.join(table)}",
            expected=f"{wanted[0]!r} and {wanted[1]!r}",
            todo=f"name the columns with `prompt:` and `completion:` under data.{name}",
        )
    _check_texts(name, place, {column: table[column] for column in wanted})
    return [Row(*texts) for texts in zip(*(table[column] for column in wanted), strict=True)]


def _check_texts(name: str, place: str, columns: Columns) -> None:
    problems: list[str] = []
    for column, values in columns.items():
        no_text = [row for row, value in enumerate(values, 1) if not isinstance(value, str)]
        empty = [row for row, value in enumerate(values, 1) if value == "" or _blank(value)]
        problems += _listed(f"{column} is not text in rows", no_text)
        problems += _listed(f"{column} is empty in rows", empty)
    if problems:
        raise DataError(
            f"data set {name} has unusable rows",
            found=f"{place}: {'; '.join(problems)}",
            expected="a text that is not empty in every row",
            todo="mend or remove these rows (counted from 1)",
        )


def _blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _read_file(name: str, path: Path) -> Columns:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"data set {name} is of an unknown kind",
            found=str(path),
            expected=f"a file ending in {', '.join(_READERS)}",
        )
    if not path.is_file():
        raise DataError(
            f"data set {name} is not there", found=str(path), expected="a file that can be read"
        )
    try:
        return reader(path)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"data set {name} cannot be read", found=f"{path}: {error}", expected="rows in UTF-8"
        ) from error


def _read_json_lines(path: Path) -> Columns:
    # pyarrow's reader would guess dates, limit the length of a line, and count rows from 0.
    with path.open(encoding="utf-8-sig") as lines:
        rows = [_json_object(path, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    names = dict.fromkeys(key for row in rows for key in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        value = error
    if not isinstance(value, dict):
        raise DataError(
            "a row is no JSON object",
            found=f"{path}, row {number}: {value!r:.200}",
            expected="one object with text in each line",
        )
    return value


def _read_csv(path: Path) -> Columns:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        names = next(reader, [])
        rows = [row for row in reader if row]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(
                "a row has too many or too few values",
                found=f"{path}, row {number}: {len(row)}",
                expected=f"{len(names)}, as in the header",
            )
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _read_parquet(path: Path) -> Columns:
    from raylab.store.tables import read_parquet

    table = read_parquet(path)
    return {name: table.column(name).to_pylist() for name in table.column_names}


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_hub(name: str, data: DataSet) -> Columns:
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
    return {column: list(rows[column]) for column in rows.column_names}
