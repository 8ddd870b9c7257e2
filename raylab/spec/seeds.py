"""The seeds of a training: one number for everything, or one for each source of randomness.

Model: a training draws random numbers for three things. `init`: the start of A, and of all else
that is drawn before the first step. `order`: the order of the rows. `dropout`: all other noise of
training. A study gives numbers, which stand for all three, or lists for each that are crossed, or
single combinations; what is not given follows `init`.
Invariant: seeds whose three numbers are one are that number in every name, identity and column.
No two seeds of a list are equal, and none has two names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from raylab.spec.proposals import unknown

PARTS = ("init", "order", "dropout")
COLUMNS = ("seed_init", "seed_order", "seed_dropout")
"""The columns of tables that hold them, beside `seed`."""
SUFFIX = r"\.s-?\d+(?:o\d+)?(?:d\d+)?"
"""A regular expression for the end of a trial's name."""
Level = int | str
"""Seeds where numbers and texts stand: the number of tied seeds, or the text of others."""
_LARGEST = (1 << 32) - 1
"""numpy takes no larger seed."""


@dataclass(frozen=True, order=True)
class Seeds:
    """What the randomness of one training follows from."""

    init: int
    order: int
    dropout: int

    @classmethod
    def of(cls, init: int, order: int | None = None, dropout: int | None = None) -> Seeds:
        """Seeds of which those that are not given follow `init`."""
        return cls(init, init if order is None else order, init if dropout is None else dropout)

    def __str__(self) -> str:
        """As names of trials have it: 42, or 42o7d9 for init 42, order 7 and dropout 9."""
        order = f"o{self.order}" if self.order != self.init else ""
        return f"{self.init}{order}{f'd{self.dropout}' if self.dropout != self.init else ''}"

    @property
    def is_tied(self) -> bool:
        """Whether the three are one number."""
        return self.init == self.order == self.dropout

    def shares(self, other: Seeds) -> bool:
        """Whether anything in two trainings follows from one number."""
        return any(a == b for a, b in zip(astuple(self), astuple(other), strict=True))

    @property
    def suffix(self) -> str:
        """The end of a trial's name."""
        return f".s{self}"

    @property
    def level(self) -> Level:
        """The number where the three are one, else the text."""
        return self.init if self.is_tied else str(self)

    @property
    def columns(self) -> dict[str, int | None]:
        """The columns of tables: `seed` is null where the three are not one."""
        apart = dict(zip(COLUMNS, astuple(self), strict=True))
        return {"seed": self.init if self.is_tied else None, **apart}

    @property
    def identity(self) -> dict[str, int]:
        """The fields of a trial's identity."""
        if self.is_tied:
            return {"seed": self.init}
        return {f"seed.{part}": seed for part, seed in asdict(self).items()}


def seeds_of(columns: Mapping[str, Any]) -> Seeds | None:
    """The seeds of a row of a table, which may be older than the three columns."""
    found = [columns.get(name) for name in COLUMNS]
    if None not in found:
        return Seeds(*(int(seed) for seed in found if seed is not None))
    return None if columns.get("seed") is None else Seeds.of(int(columns["seed"]))


def seeds_of_identity(identity: Mapping[str, Any]) -> Seeds | None:
    """The seeds of a trial's identity; None for anything else's."""
    found = dict(zip(COLUMNS, (identity.get(f"seed.{part}") for part in PARTS), strict=True))
    return seeds_of({**found, "seed": identity.get("seed")})


def parse_seed(found: Any) -> Seeds:
    """One number, or a mapping of one number for each part. Raises ValueError."""
    if isinstance(found, Seeds):
        return found
    if not isinstance(found, Mapping):
        return Seeds.of(_number(found))
    return Seeds.of(**{part: _number(seed, part) for part, seed in _parts(found)})


def crossed(found: Any) -> Any:
    """All combinations of a mapping of lists; anything else as it is. Raises ValueError."""
    if found is None or isinstance(found, str | int | float):
        raise ValueError("seeds are a list of numbers, [42, 100], or lists that are crossed: "
                         "{init: [42, 100], order: [42, 100]}")  # fmt: skip
    if not isinstance(found, Mapping):
        return found
    lists = {part: [_number(seed, part) for seed in _listed(of)] for part, of in _parts(found)}
    seeds = []
    for init in lists["init"]:
        others = (lists.get(part, [init]) for part in PARTS[1:])
        seeds += [Seeds(init, *rest) for rest in itertools.product(*others)]
    return seeds


def _check_list(seeds: tuple[Seeds, ...]) -> tuple[Seeds, ...]:
    if not seeds:
        raise ValueError("give at least 1 seed")
    if len(set(seeds)) != len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ValueError(f"the seeds must be distinct, and {twice} is there twice")
    return seeds


def _parts(found: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for part in found:
        if part not in PARTS:
            raise ValueError(unknown("source of randomness", str(part), PARTS))
    if found.get("init") is None:
        raise ValueError("`init` is missing: what is not given follows it")
    return ((part, seed) for part, seed in found.items() if seed is not None)


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _number(found: Any, part: str = "") -> int:
    at = f"; `{part}` has {found!r}" if part else ""
    if isinstance(found, list | tuple | Mapping):
        raise ValueError(f"a seed has one number for each part; lists are crossed by themselves: "
                         f"{{init: [...], order: [...]}}{at}")  # fmt: skip
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _LARGEST:
        raise ValueError(f"a seed is a whole number from 0 to {_LARGEST}{at}")
    return found


def _written(seeds: Seeds | None) -> int | dict[str, int] | None:
    """The shortest form that `parse_seed` reads as the same."""
    if seeds is None:
        return None
    if seeds.is_tied:
        return seeds.init
    parts = asdict(seeds).items()
    return {part: seed for part, seed in parts if part == "init" or seed != seeds.init}


_NUMBER = {"type": "integer", "minimum": 0, "maximum": _LARGEST}
_ONE = {
    "anyOf": [
        _NUMBER,
        {
            "type": "object",
            "properties": dict.fromkeys(PARTS, _NUMBER),
            "required": ["init"],
            "additionalProperties": False,
        },
    ]
}
_LIST = {"type": "array", "items": _NUMBER, "minItems": 1, "uniqueItems": True}
_MANY = {
    "anyOf": [
        {"type": "array", "items": _ONE, "minItems": 1, "uniqueItems": True},
        {
            "type": "object",
            "properties": {part: {"anyOf": [_LIST, _NUMBER]} for part in PARTS},
            "required": ["init"],
            "additionalProperties": False,
        },
    ]
}

Seed = Annotated[
    Seeds,
    BeforeValidator(parse_seed),
    PlainSerializer(_written),
    WithJsonSchema(_ONE),
]
"""The seeds of one training, as a field of a study."""
SeedList = Annotated[
    tuple[Seed, ...],
    BeforeValidator(crossed),
    AfterValidator(_check_list),
    PlainSerializer(lambda seeds: [_written(seed) for seed in seeds]),
    WithJsonSchema(_MANY),
]
"""Distinct seeds, as a field of a study."""
