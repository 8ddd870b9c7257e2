"""A number of a merge that may differ by tensor: a weight or a density.

Model: a setting is one number, or parts in order. A part has points, and may have a filter: a text
that the names of its tensors contain. The first part that a tensor fits gives its number. One point
is the number itself. Several points are a gradient: they lie evenly over the layers of a model, the
first at the first layer and the last at the last layer, and layers between two points have values
between them. A tensor outside the layers (embedding, final norm, head) has the first point, and the
only layer of a model has the last one. All this is as in mergekit 0.1.5.
Invariant: a number depends on the setting and on the tensors' names alone. It is exact in the
decimals that were written, and rounded once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from raylab.errors import InputError

_LAYER = re.compile(r"^(.*?)\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """The points for tensors whose names contain `filter`; None: for all tensors."""

    points: tuple[float, ...]
    filter: str | None = None

    def is_for(self, tensor: str) -> bool:
        """Whether the part gives the number of `tensor`, if no part before it does."""
        return self.filter is None or self.filter in tensor

    def __str__(self) -> str:
        points = ", ".join(f"{point:g}" for point in self.points)
        return points if len(self.points) == 1 else f"[{points}]"


@dataclass(frozen=True)
class Varying:
    """A setting of several numbers."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        if len(self.parts) == 1 and self.parts[0].filter is None:
            return str(self.parts[0])
        return ", ".join(f"{part.filter or '*'}: {part}" for part in self.parts)


Setting = float | Varying


def setting_of(parts: Sequence[Part]) -> Setting:
    """The setting with these parts, without those that no tensor reaches."""
    reached: list[Part] = []
    for part in parts:
        reached.append(part)
        if part.filter is None:
            break
    if len(reached) == 1 and reached[0].filter is None and len(reached[0].points) == 1:
        return reached[0].points[0]
    return Varying(tuple(reached))


def points_of(setting: Setting) -> list[float]:
    """All numbers that a setting is made of."""
    if isinstance(setting, Varying):
        return [point for part in setting.parts for point in part.points]
    return [setting]


def numbers_of(setting: Setting, tensors: Collection[str], what: str) -> dict[str, float]:
    """The number of every tensor of a model that has `tensors`.

    Raises InputError, which calls the setting `what`, where a filter matches no tensor, a gradient
    has more points than the model has layers, or a tensor has no number.
    """
    if not isinstance(setting, Varying):
        return dict.fromkeys(tensors, setting)
    layers = _layers_of(tensors)
    _check_parts(setting, tensors, layers, what)
    found: dict[str, float] = {}
    for tensor in tensors:
        part = next((part for part in setting.parts if part.is_for(tensor)), None)
        if part is None:
            raise InputError(
                f"{what} says nothing of a tensor",
                found=f"{setting}, and no filter matches {tensor}",
                expected="a value without a filter at the end",
            )
        found[tensor] = _value(part.points, layers.get(tensor))
    return found


def _layers_of(tensors: Collection[str]) -> dict[str, tuple[int, int]]:
    """(number of its layer, number of layers beside it) of every tensor that is in a layer."""
    found = {tensor: match for tensor in tensors if (match := _LAYER.match(tensor))}
    counts: dict[str, int] = {}
    for match in found.values():
        stack, number = match.group(1), int(match.group(2))
        counts[stack] = max(counts.get(stack, 0), number + 1)
    return {t: (int(match.group(2)), counts[match.group(1)]) for t, match in found.items()}


def _check_parts(
    setting: Varying, tensors: Collection[str], layers: Mapping[str, tuple[int, int]], what: str
) -> None:
    for part in setting.parts:
        mine = [tensor for tensor in tensors if part.is_for(tensor)]
        if not mine:
            raise InputError(
                f"{what} has a filter that matches no tensor",
                found=part.filter,
                expected=f"a part of a tensor's name, such as {next(iter(tensors), 'none')}",
            )
        most = max((layers[tensor][1] for tensor in mine if tensor in layers), default=1)
        if len(part.points) > most:
            raise InputError(
                f"{what} is a gradient with more points than layers",
                found=f"{len(part.points)} points for {most} layers",
                expected=f"at most {most} points",
            )


def _value(points: Sequence[float], layer: tuple[int, int] | None) -> float:
    if layer is None:
        return points[0]
    number, count = layer
    place = Fraction(number, count - 1) * (len(points) - 1) if count > 1 else len(points) - 1
    before = int(place)
    after, share = min(before + 1, len(points) - 1), place - before
    low, high = Fraction(str(points[before])), Fraction(str(points[after]))
    return float(low + (high - low) * share)
