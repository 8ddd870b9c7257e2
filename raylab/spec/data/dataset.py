"""Reads and checks the data sets of a study; one message lists the errors of all of them.

Model: files or a hub give records, the format makes rows of them, then the pairs that recipes
ask for are tried. A row that cannot be trained on is an error; a suspicious one a warning.
Invariant: all data sets are read and all pairs tried before an error is raised, so that one
DataError lists every problem with row numbers (from 1), before anything trains.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raylab.errors import DataError
from raylab.imports import loading
from raylab.spec.data.advice import carries_meaning
from raylab.spec.data.cells import Cells, LeftOut, RowError, Unread, is_said
from raylab.spec.data.formats import FORMATS, Spelling, format_of, left_over, study_field
from raylab.spec.data.pairs import listed, problems_of_one_set, problems_of_two_sets
from raylab.spec.data.places import beside, read_records
from raylab.spec.data.readers import NOT_THERE, Record
from raylab.spec.data.rows import LoadedRows, Row
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
    notes: Sequence[str] = ()
    """What the data set says and its rows do not: for warnings."""


@dataclass(frozen=True)
class LoadedData:
    """The rows of every data set of a study, by name, and the warnings about them."""

    rows: Mapping[str, Sequence[Row]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    places: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    """The place of each row in its file, counted from 1."""


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
    places = {name: found.places for name, found in sets.items()}
    plain = {n: LoadedRows(sets[n].rows) for n, data in study.data.items() if data.concat is None}
    joined = {
        name: LoadedRows.joined([plain[part] for part in data.concat])
        for name, data in study.data.items()
        if data.concat
    }
    rows = {name: {**plain, **joined}[name] for name in sets}
    return LoadedData(rows, tuple(warnings), places)


def read_sets(
    study: Study, tell: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Rows]:
    """Every data set of `study` as read, with its problems, by name."""
    plain: dict[str, Rows] = {}
    asked = {name: data for name, data in study.data.items() if data.concat is None}
    with loading():
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
        name: [
            *sets[name].notes,
            *find_warnings(sets[name].rows, sets[name].places, longest.get(name)),
        ]
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
    problems = _in_rows((problem.what, problem.place) for problem in unread)
    columns = dict.fromkeys(column for record in records for column in record.values)
    form, lacking = format_of(data, columns, called) if records else (None, "")
    if form is None:
        return Rows([], [], [*([lacking] if lacking else []), *problems])
    meant, unused = left_over(form, data, columns)
    problems += [
        carries_meaning(column, form, FORMATS[form].parts, called)
        for column in meant
        if any(is_said(record.values.get(column)) for record in records)
    ]
    found = _read(form, data, columns, records)
    return found._replace(
        problems=[*problems, *found.problems],
        notes=[*beside(data), *_named("columns that are not used", unused), *found.notes],
    )


def _read(form: str, data: DataSet, columns: Collection[str], records: Sequence[Record]) -> Rows:
    """The rows of `records` in a format, and what is wrong with the others."""
    taken, unread = FORMATS[form].taken(data, columns), Unread()
    cells = ((record.place, Cells(record.values, taken, unread)) for record in records)
    found = Rows([], [], [], form)
    wrong: list[tuple[str, str]] = []
    left: list[tuple[str, str]] = []
    remarks: list[tuple[str, str]] = []
    for place, outcome in FORMATS[form].rows(cells, data.key):
        remarks += [(remark, place) for remark in unread.remarks]
        unread.remarks.clear()
        if isinstance(outcome, RowError):
            wrong += [(problem, place) for problem in outcome.problems]
        elif isinstance(outcome, LeftOut):
            left.append((f"not learned, because {outcome}:", place))
        else:
            found.rows.append(outcome)
            found.places.append(place)
    problems, none = _in_rows(wrong), _in_rows(left)
    if left and not found.rows and not problems:
        problems = ["no row is left to learn", *none]
    counted = [f"{len(left)} of {len(records)} records are left out", *none] if left else []
    fields = _named("fields of turns that are not used", unread.fields)
    return found._replace(
        problems=problems, notes=[*fields, *["; ".join(counted)] * bool(left), *_in_rows(remarks)]
    )


def _in_rows(found: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each thing that was found, with its places; without them: of the file."""
    places: dict[str, list[str]] = defaultdict(list)
    for what, place in found:
        places[what].append(place)
    return [
        line
        for what, where in places.items()
        for line in (listed(f"{what} in rows", where) if any(where) else [what])
    ]


def _named(what: str, names: Collection[str]) -> list[str]:
    return [f"{what}: {', '.join(name or repr(name) for name in names)}"] if names else []


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
            expected="in every row a prompt and an answer; in pairs of two sets each prompt once "
            "on both sides; different answers",
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
