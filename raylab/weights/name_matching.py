"""Which tensor a name means that another model's files do not have.

Model: three reasons are known why two places call one tensor otherwise, and they are tried in this
order. (1) Leading parts differ: `layers.0...` for `model.layers.0...`, as PEFT saves an adapter of
AutoModel. (2) The class in memory has other names than the files (`raylab.weights.memory_names`).
(3) Both. An adapter takes the names of its base model's files, or, without a base model, those of
the adapter that it is compared with; a checkpoint takes those of the base model or the other side.
Invariant: no two names become one, and layers keep their numbers. What fits as it is stays as it
is; then transformers is not imported. An adapter's name that could mean two tensors is an error
that names them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from raylab.errors import ModelError
from raylab.weights.memory_names import AUTO_CLASSES, MemoryNames
from raylab.weights.safetensors_reader import Shape

if TYPE_CHECKING:
    from raylab.weights.checkpoint import Weights

Wanted = Mapping[str, Shape | None]
"""Names and their shapes; None fits any shape."""
_TRUNKS = {
    "backbone", "base_model", "gpt_neox", "language_model", "llm", "model", "module", "text_model",
    "transformer",
}  # fmt: skip
"""Modules that hold a whole language model. Other words name a part of their own: what belongs to
an encoder, a vision tower or a prediction head is no tensor of another part."""
_NAMED = 3


class _Change(NamedTuple):
    """The leading parts that a name loses, and those that it gets instead."""

    lost: tuple[str, ...]
    added: tuple[str, ...]


class WeightsByOtherNames:
    """Weights that also know the names that an adapter has for them."""

    def __init__(self, weights: Weights, wanted: Wanted) -> None:
        """`wanted`: the adapter's names. Raises ModelError as `stored_names`."""
        self._weights, self._names = weights, stored_names(wanted, weights)
        self.shapes, self.raw = weights.shapes, weights.raw
        self.is_alias, self.names_in_memory = weights.is_alias, weights.names_in_memory

    def stored_name(self, name: str) -> str | None:
        """As `Weights.stored_name`."""
        return self._weights.stored_name(self._names.get(name, name))


def stored_names(wanted: Wanted, base: Weights) -> dict[str, str]:
    """The name in the base model's files of every name that they do not have as it is.

    A name whose tensor is not found is left out. Raises ModelError where one could mean several.
    """
    missing = {name: s for name, s in wanted.items() if not _fits(s, base, name)}
    if not missing:
        return {}
    taken = {base.stored_name(name) for name in wanted if name not in missing}
    free = {name: shape for name, shape in base.shapes.items() if name not in taken}
    ambiguous: ModelError | None = None
    try:
        found = by_leading_parts(missing, free)
    except ModelError as error:  # The class in memory has fewer tensors than the files.
        found, ambiguous = {}, error
    for auto_class in AUTO_CLASSES:
        if len(found) == len(missing):
            break
        try:
            names = base.names_in_memory(auto_class)
        except ModelError:  # Not a class that transformers has: names stay as they are.
            continue
        found = max(found, _through_memory(missing, base, names), key=len)
    if ambiguous and not found:
        raise ambiguous
    return found


def _fits(shape: Shape | None, base: Weights, name: str) -> bool:
    stored = base.stored_name(name)
    return stored is not None and shape in (None, base.shapes[stored])


def _through_memory(missing: Wanted, base: Weights, names: MemoryNames) -> dict[str, str]:
    """The file's names of `missing`, names in memory or in an older class, perhaps with other
    leading parts. Raises ModelError."""
    found: dict[str, str] = {}
    for name, shape in missing.items():
        renamed = names.renamed(name)
        stored = [names.in_files.get(known) for known in (name, renamed) if known]
        fitting = [own for own in stored if own and shape in (None, base.shapes.get(own))]
        if fitting:
            found[name] = fitting[0]
    others = {name: shape for name, shape in missing.items() if name not in found}
    taken = set(found.values())
    free = {
        known: base.shapes[own]
        for known, own in names.in_files.items()
        if own not in taken and own in base.shapes
    }
    matched = by_leading_parts(others, free)
    return found | {name: names.in_files[known] for name, known in matched.items()}


def names_of_checkpoint(
    mine: Mapping[str, Shape],
    theirs: Mapping[str, Shape],
    my_memory: Callable[[str], MemoryNames],
    their_memory: Callable[[str], MemoryNames],
) -> dict[str, str]:
    """The name in another checkpoint of each tensor of `mine` that is in `theirs`, by other names.

    The last two say what a class of transformers calls the tensors of the two checkpoints.
    """
    try:
        found = by_leading_parts(mine, theirs)
    except ModelError:  # What stays apart is said where the two are aligned.
        found = {}
    for auto_class in AUTO_CLASSES:
        if len(found) == min(len(mine), len(theirs)):
            break
        try:
            own, other = my_memory(auto_class), their_memory(auto_class)
        except ModelError:
            continue
        named = {name: other.in_files.get(own.in_memory.get(name, ""), "") for name in mine}
        through = {name: file for name, file in named.items() if file in theirs}
        found = max(found, through, key=len)
    return found


def names_of_adapter(mine: Mapping[str, Shape], theirs: Mapping[str, Shape]) -> dict[str, str]:
    """The names that an adapter's tensors have in another adapter, where leading parts differ.

    What only one of them changes follows, where all others change in one way. Raises ModelError.
    """
    only_mine = {name: shape for name, shape in mine.items() if name not in theirs}
    only_theirs = {name: shape for name, shape in theirs.items() if name not in mine}
    found = by_leading_parts(only_mine, only_theirs)
    changes = {_change(name, other) for name, other in found.items()}
    if len(changes) == 1 and (change := changes.pop()):
        lost, added = (".".join((*parts, "")) for parts in change)
        for name in only_mine.keys() - found.keys():
            other = added + name.removeprefix(lost)
            if name.startswith(lost) and other not in (*mine, *found.values()):
                found[name] = other
    return found


def by_leading_parts(wanted: Wanted, known: Mapping[str, Shape]) -> dict[str, str]:
    """The one of `known` that each name of `wanted` means if leading parts differ.

    Parts that hold a whole language model may be added, removed or change places. A name that fits
    several takes the one that a single change gives to all of these. Names that fit none are left
    out. Raises ModelError where more than one change fits, or two names become one.
    """
    candidates = {name: found for name, found in _candidates(wanted, known).items() if found}
    sure = {name: next(iter(c.values())) for name, c in candidates.items() if len(c) == 1}
    several = {name: found for name, found in candidates.items() if len(found) > 1}
    if several:
        changes = set.intersection(*(set(found) for found in several.values()))
        used = {change for name in sure for change in candidates[name]} & changes
        changes = used or changes
        if len(changes) != 1:
            _refuse_ambiguous({name: found.values() for name, found in several.items()})
        (change,) = changes
        sure |= {name: found[change] for name, found in several.items()}
    counts = Counter(sure.values())
    doubled = {name: own for name, own in sure.items() if counts[own] > 1}
    if doubled:
        _refuse_ambiguous({name: [own] for name, own in doubled.items()})
    return sure


def _candidates(wanted: Wanted, known: Mapping[str, Shape]) -> dict[str, dict[_Change, str]]:
    """For each name, by change, the known names that it could mean."""
    by_ending: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in known:
        by_ending[_ending(name)].append(name)
    found: dict[str, dict[_Change, str]] = {}
    for name, shape in wanted.items():
        changed = {
            change: other for other in by_ending[_ending(name)] if (change := _change(name, other))
        }
        fitting = {c: other for c, other in changed.items() if shape in (None, known[other])}
        found[name] = fitting or changed  # A tensor of another shape is said where it is used.
    return found


def _ending(name: str) -> tuple[str, ...]:
    """What leading parts never change: the numbers, and the last module and parameter."""
    parts = name.split(".")
    return (*filter(str.isdigit, parts), *parts[-2:])


def _change(name: str, other: str) -> _Change | None:
    """How `name` becomes `other` by its leading parts; None if other parts differ as well."""
    own, wanted = name.split("."), other.split(".")
    same = 0
    while same < min(len(own), len(wanted)) and own[-1 - same] == wanted[-1 - same]:
        same += 1
    lost, added = own[: len(own) - same], wanted[: len(wanted) - same]
    is_same = same > 1 and {*lost, *added} <= _TRUNKS
    return _Change(tuple(lost), tuple(added)) if is_same else None


def _refuse_ambiguous(several: Mapping[str, Iterable[str]]) -> None:
    name = min(several)
    raise ModelError(
        "names of the adapter fit more than one tensor",
        found=f"{name}: {_listed(several[name])} ({len(several)} names in all)",
        expected="names of the class that was trained, or the one base model that has them",
        todo="name the base model: --base, or base_model in a study",
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_NAMED]) + (", ..." if len(ordered) > _NAMED else "")
