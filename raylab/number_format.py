"""Numbers as text, written in the same way everywhere.

Model: a measured value has four significant digits, a count has all of its digits, a rate is a
percentage with at most one decimal. A value that was not measured is a dash.
Invariant: the text depends on the value alone. Only None becomes a dash.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

MISSING = "–"
_DIGITS, _SHORT_DIGITS = 4, 3
_TIME_UNITS = ((3 * 86400, "d", 86400), (100 * 60, "h", 3600), (100, "min", 60), (0, "s", 1))
"""From how many seconds on a unit is used, its name, and its seconds."""


def number(value: float | None) -> str:
    """A measured value with four significant digits: 2.200, 277400, 1.235e7."""
    return _rounded(value, _DIGITS, "")


def short(value: float | None) -> str:
    """A measured value for reading, with at most three significant digits: 2.2, 1,240, 1.24e7."""
    mantissa, mark, exponent = _rounded(value, _SHORT_DIGITS, ",").partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + mark + exponent


def _rounded(value: float | None, digits: int, group: str) -> str:
    """A value with so many significant digits; `group` stands between groups of three."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if not -4 <= int(exponent) < 6:
        return f"{mantissa}e{int(exponent)}"
    decimals = digits - 1 - int(exponent)
    return f"{round(value, decimals):{group}.{max(decimals, 0)}f}"


def count(value: int | None) -> str:
    """A count with every digit, in groups of three."""
    return MISSING if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    """A share as a percentage: 97 %, 62.5 %."""
    if value is None:
        return MISSING
    percent = f"{100 * value:.1f}".removesuffix(".0")
    return f"{percent} %"


def setting(value: float | str | None) -> str:
    """A value that a user chose, as people write it: 1e-5, 0.3, 128; a text as it is."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    text = f"{value:g}"
    if 0 < abs(value) < 1e-3 and "e" not in text:
        digits = max(len(text.partition(".")[2].lstrip("0")) - 1, 0)
        text = f"{value:.{digits}e}"
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text


def exact_setting(value: float) -> str:
    """The same with as many digits as the value has."""
    text = setting(value)
    return text if float(text) == value else repr(value)


def size(value: float) -> str:
    """Bytes with three significant digits: 4.33 MB, 85 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def duration(seconds: float | None) -> str:
    """Seconds with one decimal below a hundred, whole ones above."""
    if seconds is None:
        return MISSING
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}"


def clock(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds: 0:05, 12:30, 1:02:30, 3 d 02:10."""
    if seconds is None:
        return MISSING
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24:02}:{minute:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def long_time(seconds: float | None) -> str:
    """Seconds as people say them, with two digits or more: under 1 s, 42 s, 12 min, 3.4 h, 5 d."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return "0 s" if seconds == 0 else "under 1 s"
    unit, factor = next((name, of) for least, name, of in _TIME_UNITS if seconds >= least)
    value = seconds / factor
    text = f"{value:.1f}" if value < 10 else f"{value:,.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def listing(items: Iterable[object]) -> str:
    """a, b and c."""
    texts = [str(item) for item in items]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def either(items: Iterable[object]) -> str:
    """a, b or c."""
    return " or ".join(listing(items).rsplit(" and ", 1))


def plural(amount: int, noun: str) -> str:
    """1 trial, 2 trials."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"
