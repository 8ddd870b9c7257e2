"""Preference pairs: from two aligned data sets, or from one that has both answers.

Model: a row of one data set and a row of the other make a pair where their keys are equal: the
column that the study names, or else the user's text. The two answers of a pair must differ; the
prompt and the turns before it must be the same. One data set may have several pairs of a prompt.
Invariant: every row of both data sets is in one pair, in the order of the chosen ones, or every
problem is listed with the places of its rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from raylab.errors import DataError
from raylab.spec.data.rows import Row

_MOST_NAMED = 5


def pairs_of(data_sets: Mapping[str, str], rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The preference pairs of a recipe's data sets (chosen and rejected, or data).

    Raises DataError.
    """
    if "data" in data_sets:
        return pairs_of_one_set(rows[data_sets["data"]], data_sets["data"])
    names = (data_sets["chosen"], data_sets["rejected"])
    return align(rows[names[0]], rows[names[1]], names)


def pairs_of_one_set(rows: Sequence[Row], name: str) -> list[Row]:
    """`rows` as pairs. Raises DataError where a row has no rejected answer."""
    _raise(
        f"the data set {name} does not make pairs", problems_of_one_set(rows, name, numbered(rows))
    )
    return list(rows)


def align(chosen: Sequence[Row], rejected: Sequence[Row], names: tuple[str, str]) -> list[Row]:
    """The preferences of two data sets by key, in the order of `chosen`. Raises DataError."""
    problems = problems_of_two_sets(chosen, rejected, names, (numbered(chosen), numbered(rejected)))
    what = f"the data sets {names[0]} (chosen) and {names[1]} (rejected) do not make pairs"
    _raise(what, problems)
    other = {_key(row): row.turns[-1] for row in rejected}
    return [row._replace(rejected=other[_key(row)]) for row in chosen]


def problems_of_one_set(rows: Sequence[Row], name: str, places: Sequence[str]) -> list[str]:
    """Why rows that bring their rejected answers do not make pairs."""
    lacking = [place for row, place in zip(rows, places, strict=True) if row.rejected is None]
    equal = [
        place
        for row, place in zip(rows, places, strict=True)
        if row.rejected and row.rejected[:3] == row.turns[-1][:3]
    ]
    return [
        *listed(f"no rejected answer in {name} in rows", lacking),
        *listed(f"the same answer is chosen and rejected in {name} in rows", equal),
    ]


def problems_of_two_sets(
    chosen: Sequence[Row],
    rejected: Sequence[Row],
    names: tuple[str, str],
    places: tuple[Sequence[str], Sequence[str]],
) -> list[str]:
    """Why rows of two data sets do not make pairs, with the places of the rows in each."""
    sides = [
        {_key(row): (row, place) for row, place in zip(rows, where, strict=True)}
        for rows, where in zip((chosen, rejected), places, strict=True)
    ]
    problems: list[str] = [
        f"{line} (`data:` takes pairs of one data set; `completion:` names one side of it)"
        for rows, name, where in zip((chosen, rejected), names, places, strict=True)
        for line in listed(
            f"an answer of {name} has a rejected one beside it in rows",
            [place for row, place in zip(rows, where, strict=True) if row.rejected],
        )
    ]
    for rows, there, name, where in zip(
        (chosen, rejected), sides[::-1], names, places, strict=True
    ):
        only = [
            f"{place} {_key(row)!r:.60}"
            for row, place in zip(rows, where, strict=True)
            if _key(row) not in there
        ]
        problems += listed(f"only in {name}: rows", only)
        problems += [
            f"{line} (which of them makes a pair is ambiguous; a `key:` column decides)"
            for line in listed(f"twice in {name}: rows", _twice(rows, where))
        ]
    return problems + [text for items in _differing(*sides) for text in listed(*items)]


_Side = Mapping[str, tuple[Row, str]]


def _differing(chosen: _Side, rejected: _Side) -> Iterator[tuple[str, list[str]]]:
    both = [(chosen[key], rejected[key]) for key in chosen if key in rejected]
    other = [f"{at} and {there}" for (row, at), (match, there) in both if row.asked != match.asked]
    same = [
        f"{at} {row.prompt!r:.60}"
        for (row, at), (match, _) in both
        if row.turns[-1][:3] == match.turns[-1][:3]
    ]
    yield "the prompts differ (chosen and rejected) in rows", other
    yield "the same answer is chosen and rejected in rows", same


def _key(row: Row) -> str:
    return row.user_text if row.key is None else row.key


def _twice(rows: Sequence[Row], places: Sequence[str]) -> list[str]:
    counts = Counter(map(_key, rows))
    return [
        f"{place} {_key(row)!r:.60}"
        for row, place in zip(rows, places, strict=True)
        if counts[_key(row)] > 1
    ]


def repeated(rows: Sequence[Row], places: Sequence[str]) -> list[str]:
    """The places of rows that repeat the prompt and the earlier turns of a row before them."""
    first: dict[tuple[object, ...], str] = {}
    found = []
    for row, place in zip(rows, places, strict=True):
        if row.asked in first:
            found.append(f"{place} (as {first[row.asked]})")
        else:
            first[row.asked] = place
    return found


def numbered(rows: Sequence[Row]) -> list[str]:
    """The places of `rows` by number, from 1."""
    return [str(number) for number in range(1, len(rows) + 1)]


def listed(what: str, items: Sequence[str]) -> list[str]:
    """One line that starts with `what` and names the first items; no line without items."""
    if not items:
        return []
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return [f"{what} {', '.join(items[:_MOST_NAMED])}{more}"]


def _raise(what: str, problems: Sequence[str]) -> None:
    if problems:
        raise DataError(
            what,
            found="; ".join(problems),
            expected="the same prompts on both sides, each once, with different answers",
        )
