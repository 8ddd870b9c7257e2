"""Data formats: each gives the columns of a data set their meaning; a row of FORMATS.

Model: a format names the columns that it needs and reads a record into a row. The format of a
data set is the one that its study names; else the one whose columns are all there. Of two
formats, where one needs all that the other needs and more, it is the one that needs more; two
that are left are an ambiguity for the study to decide. Columns that a study names stand in for
those that a format would look for. A conversation may begin with a system prompt and have
several turns; the last answer alone is learned.
Invariant: a row that is returned has no empty text, and its turns alternate from user to
assistant; nothing is guessed from what the texts say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from raylab.spec.data.rows import Row, Turn
from raylab.spec.sources import COLUMNS, DataSet

_SURROGATE = re.compile("[\ud800-\udfff]")

Values = Mapping[str, Any]
"""A record's values by their part in a format, not by the names of columns."""


Spelling = Callable[[str], str]
"""How a user writes a field of a data set."""


class RowError(ValueError):
    """A record is no row: everything wrong with it, without its place."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


@dataclass(frozen=True)
class Format:
    """How rows are written: the part of each column, and the name it has unless a study says."""

    columns: Mapping[str, str]
    read: Callable[[Values], Row]
    optional: Mapping[str, str]
    example: str

    @property
    def parts(self) -> set[str]:
        """Everything that it can read."""
        return {*self.columns, *self.optional}

    def names(self, data: DataSet) -> dict[str, str]:
        """The column for each part that is needed, in this data set."""
        return {part: getattr(data, part, None) or name for part, name in self.columns.items()}

    def row(self, data: DataSet, values: Mapping[str, Any]) -> Row:
        """The row that `values` is, by column. Raises RowError."""
        wanted = {**self._optional(data), **self.names(data)}
        try:
            row = self.read({part: values.get(name) for part, name in wanted.items()})
        except RowError as error:
            raise RowError(*(_by_column(problem, wanted) for problem in error.problems)) from None
        if not all(map(_is_unicode, row.texts)):
            raise RowError("half a character (a lone surrogate) is in a text")
        if data.key is None:
            return row
        key = values.get(data.key)
        if key is None or isinstance(key, (dict, list)):
            raise RowError(f"{data.key} is no key")
        return row._replace(key=str(key))

    def _optional(self, data: DataSet) -> dict[str, str]:
        return {part: getattr(data, part, None) or name for part, name in self.optional.items()}


def _is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8; JSON escapes can hold text that cannot."""
    return _SURROGATE.search(text) is None


def _by_column(problem: str, columns: Mapping[str, str]) -> str:
    """The same problem of a part, with its column in place of it."""
    part, space, rest = problem.partition(" ")
    return f"{columns.get(part, part)}{space}{rest}"


def study_field(name: str) -> str:
    """A field of a data set as a study has it."""
    return f"`{name}:`"


def option(name: str) -> str:
    """A field of a data set as the command line has it."""
    return f"`--{name}`"


def format_of(
    data: DataSet, columns: Collection[str], called: Spelling = study_field
) -> tuple[str | None, str]:
    """(the name of the format of a data set with `columns`, or None; the problems)."""
    named = [part for part in COLUMNS if getattr(data, part) is not None]
    possible = [
        name
        for name, form in FORMATS.items()
        if name == data.format or (data.format is None and {*named} <= form.parts)
    ]
    fitting = [n for n in possible if {*FORMATS[n].names(data).values()} <= {*columns}]
    best = [n for n in fitting if not any(_less(n, other) for other in fitting)]
    if len(best) == 1:
        lacks_key = data.key is not None and data.key not in columns
        missing = [f"{data.key!r} ({called('key')})"] if lacks_key else []
    elif len(possible) == 1:
        names = FORMATS[possible[0]].names(data)
        missing = [
            repr(c) + (f" ({called(part)})" if part in named else "")
            for part, c in names.items()
            if c not in columns
        ]
    else:
        return None, _undecided(best, possible, columns, called)
    elsewhere = [part for part in named if part not in FORMATS[possible[0]].parts]
    if elsewhere:
        return None, f"the format {possible[0]} has no part {' and '.join(map(called, elsewhere))}"
    there = f"; it has the columns {', '.join(columns)}"
    lacking = f"it lacks the column {' and '.join(missing)}{there}" if missing else ""
    return (None if missing else best[0]), lacking


def _less(name: str, other: str) -> bool:
    return {*FORMATS[name].columns.values()} < {*FORMATS[other].columns.values()}


def _undecided(
    best: list[str], possible: list[str], columns: Collection[str], called: Spelling
) -> str:
    there = f"its columns are {', '.join(columns)}"
    if best:
        return f"{there}, which fit {' and '.join(best)}: say which with {called('format')}"
    needs = [f"{n} {', '.join(map(repr, FORMATS[n].columns.values()))}" for n in possible]
    return (
        f"{there}, which fit no format ({'; '.join(needs)}): "
        f"name columns, as in {called('prompt')} and {called('completion')}"
    )


# The formats


def _text(values: Values) -> Row:
    return _checked(values["prompt"], values["completion"])


def _alpaca(values: Values) -> Row:
    prompt, more = values["instruction"], values["input"]
    if isinstance(prompt, str) and isinstance(more, str) and more.strip():
        prompt = f"{prompt}\n\n{more}"
    row = _checked(prompt, values["output"], names=("instruction", "output"))
    return row._replace(turns=(*_system(values), *row.turns))


def _messages(values: Values) -> Row:
    return _conversation(_turns(values["messages"], "role", "content"))


def _sharegpt(values: Values) -> Row:
    row = _conversation(_turns(values["messages"], "from", "value"))
    return row._replace(turns=(*_system(values), *row.turns))


def _sharegpt_preference(values: Values) -> Row:
    asked = _turns(values["messages"], "from", "value")
    answers = [_turns([values[part]], "from", "value") for part in ("chosen", "rejected")]
    chosen, rejected = (_conversation([*asked, *answer]) for answer in answers)
    turns = (*_system(values), *chosen.turns)
    return chosen._replace(turns=turns, rejected=rejected.turns[-1])


def _preference(values: Values) -> Row:
    chosen, rejected = values["chosen"], values["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _preferred(values)
    return _checked(values["prompt"], chosen, rejected, ("prompt", "chosen"))


def _preferred(values: Values) -> Row:
    """Two conversations that part in their last answer; a single answer follows `prompt`."""
    chosen, rejected = (_turns(values[part], "role", "content") for part in ("chosen", "rejected"))
    if len(chosen) == len(rejected) == 1 and isinstance(values["prompt"], str):
        first = [Turn("user", values["prompt"])]
        chosen, rejected = first + chosen, first + rejected
    if chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected answer different conversations")
    return _conversation(chosen)._replace(rejected=_conversation(rejected).turns[-1])


ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model"), "assistant"),
    "system": "system",
}


def _turns(value: Any, role: str, text: str) -> list[Turn]:
    if not isinstance(value, list) or not value:
        raise RowError("the conversation is no list of turns")
    for turn in value:
        if not isinstance(turn, dict) or not isinstance(turn.get(text), str):
            raise RowError(f"a turn is no object with {role!r} and {text!r}")
        if not isinstance(turn.get(role), str) or turn[role] not in ROLES:
            raise RowError(
                f"a turn is of the role {turn.get(role)!r}, not one of {', '.join(ROLES)}"
            )
    return [Turn(ROLES[turn[role]], turn[text]) for turn in value]


def _conversation(turns: list[Turn]) -> Row:
    spoken = turns[1:] if turns[0].role == "system" else turns
    roles = ["user", "assistant"] * ((len(spoken) + 1) // 2)
    if len(spoken) < 2 or [turn.role for turn in spoken] != roles:
        raise RowError(
            f"the turns are {', '.join(turn.role for turn in turns)}; "
            "expected user and assistant in turn, ending with assistant"
        )
    if any(not turn.text.strip() for turn in turns):
        raise RowError("a turn is empty")
    return Row(tuple(turns))


def _system(values: Values) -> tuple[Turn, ...]:
    system = values.get("system")
    return (Turn("system", system),) if isinstance(system, str) and system.strip() else ()


def _checked(
    prompt: Any,
    completion: Any,
    rejected: Any = None,
    names: tuple[str, str] = ("prompt", "completion"),
) -> Row:
    """The row of these values. Raises RowError where one is no text, or is empty."""
    texts = {names[0]: prompt, names[1]: completion}
    if names[1] == "chosen":
        texts["rejected"] = rejected
    problems = [
        f"{name} is {'empty' if isinstance(text, str) else 'not text'}"
        for name, text in texts.items()
        if not isinstance(text, str) or not text.strip()
    ]
    if problems:
        raise RowError(*problems)
    return Row.of(prompt, completion, rejected=rejected)


def _format(
    columns: str, read: Callable[[Values], Row], example: str, optional: str = ""
) -> Format:
    """`columns` and `optional`: parts, or part=column where the column has another name."""
    split = [[pair.partition("=") for pair in text.split()] for text in (columns, optional)]
    needed, more = ({part: name or part for part, _, name in pairs} for pairs in split)
    return Format(needed, read, more, example)


FORMATS: dict[str, Format] = {
    "text": _format("prompt completion", _text, '{"prompt": "...", "completion": "..."}'),
    "preference": _format(
        "chosen rejected",
        _preference,
        '{"prompt": "...", "chosen": "...", "rejected": "..."}',
        optional="prompt",
    ),
    "messages": _format(
        "messages", _messages, '{"messages": [{"role": "user", "content": "..."}, ...]}'
    ),
    "sharegpt": _format(
        "messages=conversations",
        _sharegpt,
        '{"conversations": [{"from": "human", "value": "..."}, ...]}',
        optional="system",
    ),
    "sharegpt-preference": _format(
        "messages=conversations chosen rejected",
        _sharegpt_preference,
        '{"conversations": [...], "chosen": {"from": "gpt", "value": "..."}, "rejected": {...}}',
        optional="system",
    ),
    "alpaca": _format(
        "instruction output",
        _alpaca,
        '{"instruction": "...", "input": "...", "output": "..."}',
        optional="input system",
    ),
}
