"""What to propose where a name is not known.

Model: a misspelled name is near to a known one in its letters. A name with another value
(`sft.learning_rate=1e-4`) is no misspelling of the names that there are: those are listed, the
nearest by value first. Names that are equally near are all proposed.
Invariant: no name is proposed in place of one with other values.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable

from raylab.number_format import either
from raylab.spec.swept_names import by_value, shape_of, values_of

_CUTOFF = 0.5
_MOST_LISTED = 12
_SEPARATORS = re.compile(r"[._\-=]")


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The message that there is no `name` among the names `known`."""
    return f"there is no {kind} {name!r}; {hint(name, known)}"


def hint(name: str, known: Collection[str]) -> str:
    """`did you mean x?`, or else the names that there are."""
    near = close_names(name, known)
    if near:
        return f"did you mean {either(near)}?"
    return f"known: {listed(name, known) or 'none'}"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names that `name` may be a misspelling of, all of them equally near."""
    wanted = values_of(name)
    names = [item for item in known if values_of(item) == wanted]
    longer = [n for n in names if n.startswith(name) and _SEPARATORS.match(n, len(name))]
    if longer and name:
        return longer
    rates = {item: _likeness(name, item) for item in names}
    best = max(rates.values(), default=0.0)
    return [n for n, rate in rates.items() if rate == best and rate >= _CUTOFF]


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """The names of the same sweep by the distance of their values, then the others by letters."""
    return sorted(known, key=lambda item: _distance(name, item))


def listed(name: str, known: Iterable[str]) -> str:
    """The known names as a text, the nearest to `name` first; the number of those left out."""
    names = nearest_first(name, known)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _likeness(name: str, other: str) -> float:
    one, two = by_value(name), by_value(other)
    return difflib.SequenceMatcher(None, two, one).ratio()


def _distance(name: str, other: str) -> tuple[float, float]:
    if shape_of(name) != shape_of(other) or not values_of(name):
        return math.inf, 1 - _likeness(name, other)
    pairs = zip(values_of(name), values_of(other), strict=False)
    return sum(_apart(a, b) for a, b in pairs), 0.0


def _apart(a: float, b: float) -> float:
    """The ratio of two positive numbers as a logarithm; the difference of any others."""
    return abs(math.log(a / b)) if a > 0 and b > 0 else abs(a - b)
