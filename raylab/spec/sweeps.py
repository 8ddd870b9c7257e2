"""Sweeps: what recipes and merges of a study have in common where they sweep settings.

Model: a sweep gives values for each of some settings; a point has one value for each. What the
study file names stands for a variant at every point, and a variant is called after its point.
Invariant: points come in the order of the file, the last setting fastest. Without a sweep there is
one point, without settings, and one variant, of the name in the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from raylab.spec.swept_names import by_value, written


class Named(Protocol):
    """A variant, with its name."""

    @property
    def name(self) -> str:
        """The name at its point."""


OfSweep = TypeVar("OfSweep", bound=Named)


def points_of_sweep(sweep: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values of `sweep`, by setting."""
    for values in itertools.product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))


def name_at(name: str, point: Mapping[str, Any]) -> str:
    """The name of the variant of `name` at `point`: NAME.SETTING=VALUE."""
    return ".".join([name, *(f"{key}={written(value)}" for key, value in point.items())])


def variants_named(
    name: str, known: Collection[str], expand: Callable[[str], Iterable[OfSweep]]
) -> list[OfSweep]:
    """The variants with the name `name`: all of one of the `known` names, as `expand` gives them,
    or one variant, whose values may be spelled in any way."""
    if name in known:
        return list(expand(name))
    stems = [stem for stem in known if name.startswith(f"{stem}.")]
    wanted = by_value(name)
    found = (variant for stem in stems for variant in expand(stem))
    return [variant for variant in found if by_value(variant.name) == wanted]
