"""A number of a merge that may differ by tensor: a weight, a density, or a parameter of a method.

Model: a setting is one number, or parts in order. A part has points, and may have a filter: a text
that the names of its tensors contain. The first part that a tensor fits gives its number. One point
is the number itself. Several points are a gradient: they lie evenly over the layers of a model, the
first at the first layer and the last at the last layer, and layers between two points have values
between them; of flags they have the one before. A tensor outside the layers (embedding, final norm,
head) has the first point, and the only layer of a model has the last one. All this is as in
mergekit 0.1.5.
Invariant: a number depends on the setting and on the tensors' names alone. It is exact in the
decimals that were written, and rounded once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from raylab.errors import InputError
from raylab.spec.layer_names import layer_name


@dataclass(frozen=True)
class Spot:
    """Where a tensor stands: its name as filters see it, (number, count) of its layer, None outside
    the layers, and the slice of the output that it is in, where that has slices."""

    name: str
    layer: tuple[int, int] | None = None
    slice: int | None = None


def spots_of(tensors: Collection[str]) -> dict[str, Spot]:
    """The spot of every tensor of a model that has `tensors`."""
    found = {tensor: name for tensor in tensors if (name := layer_name(tensor))}
    counts: dict[str, int] = {}
    for name in found.values():
        counts[name.stack] = max(counts.get(name.stack, 0), name.number + 1)
    layers = {tensor: (name.number, counts[name.stack]) for tensor, name in found.items()}
    return {tensor: Spot(tensor, layers.get(tensor)) for tensor in tensors}


@dataclass(frozen=True)
class Part:
    """The points for tensors whose names contain `filter`, in the slice `slice`; None: for all.
    written: the file and line that it is from, for errors; empty if it is from no file."""

    points: tuple[float, ...]
    filter: str | None = None
    slice: int | None = None
    written: str = field(default="", compare=False)

    @property
    def is_for_all(self) -> bool:
        """Whether it gives the number of every tensor."""
        return self.filter is None and self.slice is None

    def is_for(self, spot: Spot) -> bool:
        """Whether the part gives the number of a tensor, if no part before it does."""
        is_there = self.slice is None or self.slice == spot.slice
        return is_there and (self.filter is None or self.filter in spot.name)

    @property
    def place(self) -> str:
        """What it is for, in words."""
        words = [] if self.slice is None else [f"slice {self.slice + 1}"]
        return " ".join([*words, self.filter] if self.filter else words) or "*"

    def __str__(self) -> str:
        points = ", ".join(_text(point) for point in self.points)
        return points if len(self.points) == 1 else f"[{points}]"


def _text(point: float) -> str:
    return str(point).lower() if isinstance(point, bool) else f"{point:g}"


@dataclass(frozen=True)
class Varying:
    """A setting of several numbers."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        if len(self.parts) == 1 and self.parts[0].is_for_all:
            return str(self.parts[0])
        return ", ".join(f"{part.place}: {part}" for part in self.parts)


Setting = float | Varying
"""Numbers and flags are given as they are, where they are the same for all tensors."""


def setting_of(parts: Sequence[Part]) -> Setting:
    """The setting with these parts, without those that no tensor reaches."""
    reached: list[Part] = []
    for part in parts:
        reached.append(part)
        if part.is_for_all:
            break
    if len(reached) == 1 and reached[0].is_for_all and len(reached[0].points) == 1:
        return reached[0].points[0]
    return Varying(tuple(reached))


def points_of(setting: Setting) -> list[float]:
    """All numbers that a setting is made of."""
    if isinstance(setting, Varying):
        return [point for part in setting.parts for point in part.points]
    return [setting]


@dataclass(frozen=True)
class Asked:
    """One setting, what it is called in errors, and the tensors that it is for."""

    what: str
    setting: Setting
    spots: Mapping[str, Spot]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those of a setting of several numbers."""
        return self.setting.parts if isinstance(self.setting, Varying) else ()


def numbers_of(asked: Sequence[Asked]) -> list[dict[str, float]]:
    """The number of every tensor, for each of the settings: one kind of setting of all models.

    Raises InputError where a part matches no tensor of any model that has it, a gradient has more
    points than there are layers, or a tensor has no number.
    """
    for part in dict.fromkeys(part for one in asked for part in one.parts):
        _check_part(part, [one for one in asked if part in one.parts])
    return [
        {tensor: _number(one, spot) for tensor, spot in one.spots.items()}
        if isinstance(one.setting, Varying)
        else dict.fromkeys(one.spots, one.setting)
        for one in asked
    ]


def _number(asked: Asked, spot: Spot) -> float:
    part = next((part for part in asked.parts if part.is_for(spot)), None)
    if part is None:
        raise InputError(
            f"{asked.what} says nothing of a tensor",
            found=f"{asked.setting}, and no filter matches {spot.name}",
            expected="a value without a filter at the end",
        )
    return _value(part.points, spot.layer)


def _check_part(part: Part, asked: Sequence[Asked]) -> None:
    spots = [spot for one in asked for spot in one.spots.values()]
    what = f"{part.written}: {asked[0].what}" if part.written else asked[0].what
    mine = [spot for spot in spots if part.is_for(spot)]
    if not mine:
        raise InputError(
            f"{what} has a filter that matches no tensor",
            found=part.place,
            expected=f"a part of a tensor's name, such as {spots[0].name if spots else 'none'}",
            todo="correct the filter, or remove it",
        )
    most = max((spot.layer[1] for spot in mine if spot.layer), default=1)
    if len(part.points) > most:
        raise InputError(
            f"{what} is a gradient with more points than layers",
            found=f"{len(part.points)} points for {most} layers",
            expected=f"at most {most} points",
        )


def _value(points: Sequence[float], layer: tuple[int, int] | None) -> float:
    if layer is None or len(points) == 1:
        return points[0]
    number, count = layer
    place = Fraction(number, count - 1) * (len(points) - 1) if count > 1 else len(points) - 1
    before = int(place)
    if any(isinstance(point, bool) for point in points):
        return points[before]
    after, share = min(before + 1, len(points) - 1), place - before
    low, high = Fraction(str(points[before])), Fraction(str(points[after]))
    return float(low + (high - low) * share)
