"""Aligns two models: which of their entries are compared, and a count of all others.

Model: the union of both models' parameters is aligned, each name once. Tensors that both have in
one shape are compared. A tensor that one model has and the other ties to another of its own is
compared with that one. Other tensors are an error that names them, unless a `Tolerance` says how
to treat them.
Invariant: compared + tied + only_in_a + only_in_b + cropped + skipped + non_finite is the number
of entries of the union, a tensor of two shapes counting with the larger. Of two adapters, all
entries that either changes are compared, with zero for the other; only where no tensor is changed
by both are they counted as those that one side has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from raylab.errors import ModelError
from raylab.weights import Checkpoint
from raylab.weights.safetensors_reader import Shape
from raylab.weights.views import ViewedModel

_NAMED = 5


@dataclass(frozen=True)
class Tolerance:
    """How to treat tensors that only one model has, tensors of two shapes (crop: compare the
    rows that both vocabularies have), and entries that are not finite."""

    missing: Literal["error", "skip"] = "error"
    mismatch: Literal["error", "crop", "skip"] = "error"
    non_finite: Literal["error", "skip"] = "error"


STRICT = Tolerance()


@dataclass(frozen=True)
class EntryCounts:
    """How many entries were compared, and how many were not, by reason."""

    compared: int = 0
    tied: int = 0
    only_in_a: int = 0
    only_in_b: int = 0
    cropped: int = 0
    skipped: int = 0
    non_finite: int = 0

    def as_row(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)

    def without(self, non_finite: int, in_a: int = 0) -> EntryCounts:
        """The same counts, with `non_finite` of the entries measured not counted.

        in_a: how many of them lie in tensors of a, for two adapters that share none.
        """
        if self.compared:
            return replace(self, compared=self.compared - non_finite, non_finite=non_finite)
        only_in_a, only_in_b = self.only_in_a - in_a, self.only_in_b - (non_finite - in_a)
        return replace(self, only_in_a=only_in_a, only_in_b=only_in_b, non_finite=non_finite)


@dataclass(frozen=True)
class _Entries:
    """The tensors of a whole model: parameters, aliases of them, and tensors that are neither.

    weights: where another name of a parameter is looked up.
    """

    shapes: Mapping[str, Shape]
    tied: Mapping[str, Shape]
    skipped: Mapping[str, Shape]
    weights: Checkpoint

    def with_aliases(self, other: _Entries) -> _Entries:
        """The same, with a parameter under each name that is one of `other` and an alias here."""
        names = [n for n in other.shapes if n not in self.shapes and self.weights.is_alias(n)]
        partners = {name: self.weights.stored_name(name) or name for name in names}
        found = {name: self.shapes[partner] for name, partner in partners.items()}
        return replace(self, shapes={**self.shapes, **found})


def align(
    a: ViewedModel,
    b: ViewedModel,
    tolerance: Tolerance,
    base: Checkpoint | None = None,
    universe: Literal["compared", "model"] = "compared",
) -> tuple[dict[str, Shape], EntryCounts]:
    """(the shapes over which two models are compared, the counts of all entries).

    Adapters are compared over the tensors that either targets; where no tensor is in both, that
    has to be asked for by `missing`, and the counts say which side has them. Against a checkpoint,
    or in the universe of the model, they are the whole of `base`. Raises ModelError.
    """
    changed = _union([model for model in (a, b) if not model.checkpoint])
    if universe == "compared" and _are_disjoint(a, b):
        if tolerance.missing == "error":
            _refuse_disjoint(a, b)
        return changed, EntryCounts(
            only_in_a=_size(a.shapes, a.shapes), only_in_b=_size(b.shapes, b.shapes)
        )
    if universe == "compared" and not a.checkpoint and not b.checkpoint:
        return changed, EntryCounts(compared=_size(changed, changed))
    return _align_whole_models(_entries(a, changed, base), _entries(b, changed, base), tolerance)


def _are_disjoint(a: ViewedModel, b: ViewedModel) -> bool:
    """Whether both are adapters, and no tensor is changed by both."""
    both = not a.checkpoint and not b.checkpoint and a.shapes and b.shapes
    return bool(both) and not a.shapes.keys() & b.shapes.keys()


def _refuse_disjoint(a: ViewedModel, b: ViewedModel) -> None:
    named = (f"{', '.join(sorted(side.shapes)[:2])} ({len(side.shapes)})" for side in (a, b))
    raise ModelError(
        "the two adapters change no tensor in common",
        found="; ".join(f"{key}: {names}" for key, names in zip("ab", named, strict=True)),
        expected="adapters of one base model that change the same tensors",
        todo="name the base model (--base), which says what their names mean; if they are meant "
        "to change different tensors, `--missing skip` takes what one lacks as unchanged by it",
    )


def _entries(model: ViewedModel, changed: Mapping[str, Shape], base: Checkpoint | None) -> _Entries:
    if model.checkpoint:
        own = model.checkpoint
        return _Entries(own.shapes, own.tied, own.skipped, own)
    if base is None:
        raise ModelError(
            "an adapter and a checkpoint are compared over their base model",
            expected="the base model's weights",
            todo="name the base model: --base BASE, a checkpoint directory",
        )
    tied = {name: shape for name, shape in base.tied.items() if name not in changed}
    return _Entries({**base.shapes, **changed}, tied, base.skipped, base)


def _align_whole_models(
    a: _Entries, b: _Entries, tolerance: Tolerance
) -> tuple[dict[str, Shape], EntryCounts]:
    a, b = a.with_aliases(b), b.with_aliases(a)
    only_a, only_b = (sorted(set(x.shapes) - set(y.shapes)) for x, y in ((a, b), (b, a)))
    if tolerance.missing == "error":
        _refuse_missing(a, b, only_a, only_b)
    common = sorted(set(a.shapes) & set(b.shapes))
    unlike = [name for name in common if a.shapes[name] != b.shapes[name]]
    shapes = {name: a.shapes[name] for name in common if name not in unlike}
    cropped, skipped = _crop_or_skip(a, b, unlike, tolerance, shapes)
    parameters = {*a.shapes, *b.shapes}
    tied = _larger(a.tied, b.tied, parameters)
    others = _larger(a.skipped, b.skipped, parameters | set(tied))
    return shapes, EntryCounts(
        compared=_size(shapes, shapes),
        tied=sum(tied.values()),
        only_in_a=_size(a.shapes, only_a),
        only_in_b=_size(b.shapes, only_b),
        cropped=cropped,
        skipped=skipped + sum(others.values()),
    )


def _larger(
    a: Mapping[str, Shape], b: Mapping[str, Shape], known: Collection[str]
) -> dict[str, int]:
    """The entries of every tensor in `a` or `b` that is not among the `known` ones."""
    return {
        name: max(math.prod(of[name]) for of in (a, b) if name in of)
        for name in {**a, **b}
        if name not in known
    }


def _size(shapes: Mapping[str, Shape], names: Sequence[str] | Mapping[str, Shape]) -> int:
    return sum(math.prod(shapes[name]) for name in names)


def _union(models: Sequence[ViewedModel]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for model in models:
        for name, shape in model.shapes.items():
            if shapes.setdefault(name, shape) != shape:
                raise ModelError(
                    f"{name} has two shapes",
                    found=f"{shapes[name]} in a, {shape} in b",
                    expected="adapters of one base model",
                )
    return shapes


def _refuse_missing(a: _Entries, b: _Entries, only_a: Sequence[str], only_b: Sequence[str]) -> None:
    common = [name for name in a.shapes if name in b.shapes]
    alone = _size(a.shapes, only_a) + _size(b.shapes, only_b)
    both = max(_size(a.shapes, common), _size(b.shapes, common))
    if alone > both:
        todo = (
            f"compare models of one architecture: to skip these tensors would leave out {alone:,} "
            f"of {alone + both:,} entries ({alone / (alone + both):.0%})"
        )
    else:
        todo = "`--missing skip` leaves them out, and counts them"
    for names, where in ((only_a, "only a has"), (only_b, "only b has")):
        if names:
            raise ModelError(
                f"{where} {len(names)} tensors",
                found=", ".join(names[:_NAMED]),
                expected="the same tensors in both models",
                todo=todo,
            )


def _crop_or_skip(
    a: _Entries,
    b: _Entries,
    unlike: Sequence[str],
    tolerance: Tolerance,
    shapes: dict[str, Shape],
) -> tuple[int, int]:
    """(entries cropped, entries skipped) of the tensors `unlike`, which have two shapes.

    Adds the cropped tensors to `shapes`.
    """
    cropped = skipped = 0
    todo = _advice_of_two_shapes(a, b, unlike, _size(shapes, shapes))
    for name in unlike:
        left, right = a.shapes[name], b.shapes[name]
        larger = max(math.prod(left), math.prod(right))
        rows_differ = len(left) > 1 and left[1:] == right[1:]
        if tolerance.mismatch == "crop" and rows_differ:
            shapes[name] = min(left, right)
            cropped += larger - math.prod(shapes[name])
        elif tolerance.mismatch == "skip":
            skipped += larger
        else:
            raise ModelError(
                f"{name} has two shapes",
                found=f"{left} in a, {right} in b",
                expected="one shape"
                + (", or more rows in one" if tolerance.mismatch == "crop" else ""),
                todo=todo,
            )
    return cropped, skipped


def _advice_of_two_shapes(a: _Entries, b: _Entries, unlike: Sequence[str], same: int) -> str:
    """What to do about the tensors `unlike`; nothing is advised that loses the larger part.

    same: the entries of the tensors that have one shape.
    """
    apart = kept = 0
    for name in unlike:
        left, right = a.shapes[name], b.shapes[name]
        apart += max(math.prod(left), math.prod(right))
        if len(left) > 1 and left[1:] == right[1:]:
            kept += math.prod(min(left, right))
    advice = []
    if apart - kept <= same + kept:
        advice.append("`--mismatch crop` compares the rows that both have")
    if apart <= same:
        advice.append("`--mismatch skip` leaves the tensor out")
    return ", ".join(advice) or (
        f"compare models of one architecture: {len(unlike)} tensors of {apart:,} entries have two "
        f"shapes, and {same:,} entries have one"
    )


def check_base(shapes: Mapping[str, Shape], base: Checkpoint) -> None:
    """Raise ModelError where two checkpoints are compared over more than their base model has."""
    known = {name: base.shapes[partner] for name, partner in base.aliases.items()}
    known |= base.shapes
    lacking = [
        f"{name} {shape}, {known.get(name, 'not')} in the base model"
        for name, shape in sorted(shapes.items())
        if not _holds(known.get(name), shape)
    ]
    if lacking:
        raise ModelError(
            "the base model lacks entries that are compared",
            found=f"{'; '.join(lacking[:_NAMED])} ({len(lacking)} in all)",
            expected="the base model of both, with their tensors in their shapes",
            todo="without --base the two models are compared alone",
        )


def _holds(shape: Shape | None, wanted: Shape) -> bool:
    if shape is None or len(shape) < 2:
        return shape == wanted
    return shape[1:] == wanted[1:] and shape[0] >= wanted[0]
