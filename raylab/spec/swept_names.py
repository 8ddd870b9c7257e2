"""How the values of a sweep are written in names, and names that mean the same.

Model: a training of a swept recipe is named `<recipe>.<parameter>=<value>`, with the value as the
study file writes it (3e-4, 0.0003). A number of a file is a WrittenFloat, which keeps its
spelling; every other float has the form of `number_format.exact_setting`. `by_value` maps a name
to a text in which every value has one form, so that two spellings of one value are one name.
Invariant: a spelling changes no value, and no identity. `by_value` of a name without values is
the name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import WrapValidator

from raylab.number_format import exact_setting, setting

_DIGITS = r"\d+(?:_\d+)*"
_NUMBER = rf"[-+]?(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"(?<==)(?:{_NUMBER}|true|false)(?=$|[.~-])", re.IGNORECASE)
_RATE = re.compile(rf"(?<!parent)\.learning_rate=({_NUMBER})(?=$|[.~-])")
_POINT = re.compile(r"\.(?:parent\.)*(?:lora\.)?[a-z]\w*=")


class WrittenFloat(float):
    """A float that a file writes in its own way: its text is that of the file."""

    text: str

    def __new__(cls, value: float, text: str) -> WrittenFloat:
        """`value`, written as `text`."""
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        return float(self), self.text

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _kept(value: Any, validate: Any) -> Any:
    return value if isinstance(value, WrittenFloat) else validate(value)


SweptValue = Annotated[bool | int | float | str, WrapValidator(_kept)]
"""A value of a sweep; a WrittenFloat stays one."""


def with_spelling(value: Any, text: str) -> Any:
    """A float with its spelling `text`; any other value, and what is no plain number, as it is."""
    if type(value) is not float or not _VALUE.fullmatch(f"={text}", 1):
        return value
    return WrittenFloat(value, text)


def written(value: object) -> str:
    """The text of a swept value in a name."""
    if isinstance(value, bool):
        return str(value).lower()
    return exact_setting(value) if type(value) is float else str(value)


def by_value(name: str) -> str:
    """`name` with every value in one form: equal for names that differ in spelling alone."""
    return _VALUE.sub(lambda found: _one_form(found.group()), name)


def are_equal(one: object, other: object) -> bool:
    """Whether two swept values are one value."""
    return by_value(f"={written(one)}") == by_value(f"={written(other)}")


def no_distinct_values(values: Sequence[object]) -> str:
    """What is wrong with the values of one parameter of a sweep; empty if they are distinct."""
    if values and len({by_value(f"={written(value)}") for value in values}) == len(values):
        return ""
    return f"give distinct values (found {list(values)!r})"


def values_of(name: str) -> tuple[float, ...]:
    """The numbers among the values in `name`, in order."""
    texts = (found for found in _VALUE.findall(name) if found.lower() not in ("true", "false"))
    return tuple(map(float, texts))


def shape_of(name: str) -> str:
    """`name` without its values: equal for two points of one sweep."""
    return _VALUE.sub("", name)


def without_point(name: str) -> str | None:
    """The recipe of a name of a swept training; None for any other name."""
    found = _POINT.search(name)
    return name[: found.start()] if found else None


def rate_text(name: str, rate: float | None) -> str:
    """The learning rate of the model `name`: as its name writes it, or else as a setting."""
    found = _RATE.search(name)
    text = found.group(1) if found else ""
    return text if text and float(text) == rate else setting(rate)


def _one_form(text: str) -> str:
    return text.lower() if text.lower() in ("true", "false") else repr(float(text))
