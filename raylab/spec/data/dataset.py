"""Reads and checks the data sets of a study; one message lists the errors of all of them.

Model: files or a hub give records, the format makes rows of them, then the pairs that recipes
ask for are tried. A row that cannot be trained on is an error; a suspicious one a warning.
Invariant: all data sets are read and all pairs tried before an error is raised, so that one
DataError lists every problem with row numbers (from 1), before anything trains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raylab.errors import DataError
from raylab.spec.data.formats import FORMATS, RowError, Spelling, format_of, study_field
from raylab.spec.data.pairs import listed, problems_of_one_set, problems_of_two_sets
from raylab.spec.data.readers import NOT_THERE, Problem, Record, read_records
from raylab.spec.data.rows import Row
from raylab.spec.data.warnings import find_warnings
from raylab.spec.recipes import expand_recipes
from raylab.spec.sources import DataSet
from raylab.spec.study import Study


class Rows(NamedTuple):
    """A data set as read: its rows, the places of its rows, and its problems."""

    rows: list[Row]
    places: list[str]
    problems: list[str]
    format: str | None = None


@dataclass(frozen=True)
class LoadedData:
    """The rows of every data set of a study, by name, and the warnings about them."""

    rows: Mapping[str, Sequence[Row]] = field(repr=False)
    warnings: tuple[str, ...] = ()


def load_data(study: Study, tell: Callable[[int, int], None] = lambda done, of: None) -> LoadedData:
    """Read and check every data set of `study`. Raises one DataError for all problems.

    `tell` hears how many data sets were read, of how many.
    """
    sets = read_sets(study, tell)
    _raise(problems_of(study, sets))
    warnings = [
        f"data set {_called(study, name)}: {line}"
        for name, lines in warnings_of(study, sets).items()
        for line in lines
    ]
    return LoadedData({name: found.rows for name, found in sets.items()}, tuple(warnings))


def read_sets(
    study: Study, tell: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Rows]:
    """Every data set of `study` as read, with its problems, by name."""
    plain: dict[str, Rows] = {}
    asked = {name: data for name, data in study.data.items() if data.concat is None}
    for name, data in asked.items():
        tell(len(plain), len(asked))
        plain[name] = read_data_set(name, data)
    joined = {n: _joined(data.concat, plain) for n, data in study.data.items() if data.concat}
    return {name: {**plain, **joined}[name] for name in study.data}


def problems_of(study: Study, sets: Mapping[str, Rows]) -> dict[str, str]:
    """The problems of each data set and of each pairing that a recipe asks for."""
    own = {_called(study, n): "; ".join(sets[n].problems) for n in sets if sets[n].problems}
    return {**own, **pair_problems(study, sets)}


def warnings_of(study: Study, sets: Mapping[str, Rows]) -> dict[str, list[str]]:
    """The warnings about the rows of each data set that is not a concatenation."""
    longest = _longest(study)
    return {
        name: find_warnings(sets[name].rows, sets[name].places, longest.get(name))
        for name, data in study.data.items()
        if data.concat is None
    }


def load_rows(study: Study) -> dict[str, Sequence[Row]]:
    """The rows of every data set of `study`, by name. Raises DataError."""
    return dict(load_data(study).rows)


def read_data_set(name: str, data: DataSet, called: Spelling = study_field) -> Rows:
    """The rows and problems of one data set that is not a concatenation.

    `called` gives the fields of `data` the names that its user wrote them by.
    """
    records, unread = read_records(name, data)
    wrong: dict[str, list[str]] = defaultdict(list)
    for problem in unread:
        wrong[problem.what].append(problem.place)
    columns = dict.fromkeys(column for record in records for column in record.values)
    form, lacking = format_of(data, columns, called) if records else (None, "")
    rows, places = [], []
    for record in records if form else ():
        row = _row(form, data, record)
        if isinstance(row, Row):
            rows.append(row)
            places.append(record.place)
            continue
        for problem in row:
            wrong[problem.what].append(problem.place)
    problems = [lacking] if lacking else []
    for what, where in wrong.items():
        problems += listed(f"{what} in rows", where) if any(where) else [what]
    return Rows(rows, places, problems, form)


def _row(form: str | None, data: DataSet, record: Record) -> Row | list[Problem]:
    assert form is not None
    try:
        return FORMATS[form].row(data, record.values)
    except RowError as error:
        return [Problem(what, record.place) for what in error.problems]


def _joined(names: Sequence[str] | None, plain: Mapping[str, Rows]) -> Rows:
    parts = [(name, plain[name]) for name in names or ()]
    rows = [row for _, part in parts for row in part.rows]
    places = [f"{name}:{place}" for name, part in parts for place in part.places]
    return Rows(rows, places, [])


def pair_problems(study: Study, sets: Mapping[str, Rows]) -> dict[str, str]:
    """The problems of each pairing that a recipe asks for; each pairing is tried once."""
    found: dict[str, str] = {}
    tried: set[frozenset[str]] = set()
    for recipe in study.recipes.values():
        names = list(recipe.data_sets.values())
        incomplete = any(
            sets[name].problems for n in names for name in (study.data[n].concat or (n,))
        )
        if recipe.method != "dpo" or incomplete or frozenset(names) in tried:
            continue
        tried.add(frozenset(names))
        if problems := _unpaired(names, sets):
            found[" and ".join(names) + " as pairs"] = "; ".join(problems)
    return found


def _unpaired(names: Sequence[str], sets: Mapping[str, Rows]) -> list[str]:
    if len(names) == 1:
        (only,) = names
        return problems_of_one_set(sets[only].rows, only, sets[only].places)
    chosen, rejected = (sets[name] for name in names)
    return problems_of_two_sets(
        chosen.rows, rejected.rows, (names[0], names[1]), (chosen.places, rejected.places)
    )


def _longest(study: Study) -> dict[str, int]:
    """The largest max_length that each plain data set is cut at."""
    found: dict[str, int] = {}
    for variant in expand_recipes(study).values():
        for used in variant.data_sets.values():
            for name in study.data[used].concat or (used,):
                found[name] = max(found.get(name, 0), variant.training.max_length)
    return found


def _called(study: Study, name: str) -> str:
    return f"{name} ({study.data[name].hub or study.data[name].path})"


def _raise(problems: Mapping[str, str]) -> None:
    if problems:
        raise DataError(
            "the data cannot be used for training",
            found="\n    ".join(f"{where}: {what}" for where, what in problems.items()),
            expected="in every row a prompt and an answer; in pairs each prompt once on both "
            "sides, with different answers",
            todo="; ".join(_todo(problems.values())),
        )


def _todo(problems: Collection[str]) -> Iterator[str]:
    """What helps against the problems: a file that is not there has no rows to mend."""
    if any(what == NOT_THERE for what in problems):
        yield (
            "put the file there, or mend its `path`, which starts from the study's folder; "
            "`raylab data convert` makes a set of answers in another style"
        )
    if any(what != NOT_THERE for what in problems):
        yield (
            "mend or remove these rows (counted from 1); `raylab data describe FILE` shows "
            "a file, `raylab data convert` rewrites answers in another style"
        )
