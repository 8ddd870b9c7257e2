"""The parameters of a merge method beside weights, densities and lambda: their bounds and values.

Model: a method has rows by name, each with a default, a kind and bounds. Given values are checked
against them; what is not given has its default.
Invariant: checked parameters have a value for every row, in the rows' order, and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from raylab.errors import InputError
from raylab.number_format import either
from raylab.spec.merge_settings import Setting, Varying, points_of
from raylab.spec.proposals import close_names

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Parameter = float | int | bool
"""A value of a method's own parameter."""


@dataclass(frozen=True)
class ParameterRow:
    """One parameter of a method. default None: it has to be given.

    kind: number, whole (a whole number) or flag; low and high: the bounds of a number, both
    allowed. by_model: each model may have its own value. needs: a flag, and the value at which this
    one has an effect.
    """

    default: Parameter | None
    kind: Literal["number", "whole", "flag"] = "number"
    low: float = -math.inf
    high: float = math.inf
    by_model: bool = False
    needs: tuple[str, bool] | None = None

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        if self.kind == "flag":
            return "true or false"
        noun = "a number" if self.kind == "number" else "a whole number"
        if math.isinf(self.high):
            return noun
        return f"{noun} of {self.low:g} to {self.high:g}"

    def allows(self, setting: Setting) -> bool:
        """Whether it takes all numbers of `setting`. Whole numbers have no gradient."""
        parts = setting.parts if isinstance(setting, Varying) else ()
        if self.kind == "whole" and any(len(part.points) > 1 for part in parts):
            return False
        return all(self._allows(point) for point in points_of(setting))

    def exact(self, setting: Setting) -> Setting:
        """The same, its numbers as they are computed with."""
        if self.kind != "number":
            return setting
        if isinstance(setting, Varying):
            parts = (replace(p, points=tuple(map(float, p.points))) for p in setting.parts)
            return Varying(tuple(parts))
        return float(setting)

    def _allows(self, value: object) -> bool:
        if isinstance(value, bool) or self.kind == "flag":
            return isinstance(value, bool) and self.kind == "flag"
        kinds = int if self.kind == "whole" else int | float
        if not isinstance(value, int | float) or not isinstance(value, kinds):
            return False
        # Python compares whole numbers of any size, which no float64 need hold.
        is_within = self.low <= value <= self.high
        return is_within and (self.kind == "whole" or math.isfinite(value))


def checked_parameters(
    method: str, rows: Mapping[str, ParameterRow], given: Mapping[str, Setting]
) -> dict[str, Setting]:
    """A value for every one of `method`'s `rows`, in their order. Raises InputError where one is
    unknown, missing or out of its bounds."""
    for name in given:
        if name not in rows:
            close = close_names(name, rows)
            raise InputError(
                f"{method} has no parameter {name}",
                found=f"{name}: {given[name]}",
                expected=", ".join(rows) or f"{method} has no parameters of its own",
                todo=f"did you mean {either(close)}?" if close else "",
            )
    found: dict[str, Setting] = {}
    for name, row in rows.items():
        value = given.get(name, row.default)
        if value is None:
            raise InputError(
                f"{method} needs {name}",
                found="none",
                expected=row.expected,
                todo=f"`--set {name}=NUMBER`, in a file `parameters: {{{name}: NUMBER}}`",
            )
        if not row.allows(value):
            raise InputError(f"{method}'s {name} is wrong", found=str(value), expected=row.expected)
        found[name] = row.exact(value)
    for name, row in rows.items():
        is_idle = row.needs is not None and found[row.needs[0]] is (not row.needs[1])
        if is_idle and row.needs and name in given and given[name] != row.default:
            needed, at = row.needs
            raise InputError(
                f"{method}'s {name} has no effect",
                found=f"{needed}: {str(not at).lower()}",
                expected=f"{needed}: {str(at).lower()}, or no {name}",
            )
    return found


def parsed_parameters(texts: list[str] | None) -> dict[str, Parameter] | None:
    """Parameters as a command line has them, NAME=VALUE each. Raises InputError."""
    found: dict[str, Parameter] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        words = {"true": True, "false": False}
        if not equals or not name or name in found:
            raise InputError(
                "a parameter is a name and a value",
                found=text,
                expected="NAME=VALUE, each name once",
            )
        is_whole = re.fullmatch(r"[+-]?[0-9]+", value) is not None
        number = float(value) if _NUMBER.fullmatch(value) else math.nan
        if value not in words and not math.isfinite(number):
            raise InputError(
                f"the parameter {name} is no number",
                found=value,
                expected="a number, true or false",
            )
        found[name] = words[value] if value in words else int(value) if is_whole else number
    return found or None


def check_probabilities(method: str, densities: Iterable[float], epsilon: float) -> None:
    """Raise InputError where the probabilities from density - epsilon to density + epsilon, by
    which `method` keeps entries, leave (0, 1); a density of 0 or 1 has no others."""
    for density in densities:
        if density not in (0, 1) and not epsilon < density < 1 - epsilon:
            raise InputError(
                f"{method} keeps entries with probabilities of density - epsilon to + epsilon",
                found=f"density {density:g}, epsilon {epsilon:g}",
                expected="probabilities between 0 and 1, or a density of 1",
            )
