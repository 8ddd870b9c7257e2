"""A run of rows of one tensor, as every model has it.

Model: `Models` holds the open models of a reduction, the shapes over which they are compared and
the GPU, if there is one. A `Tile` reads each model's rows when they are first asked for, and keeps
them while the comparisons of this tile are made.
Invariant: however many comparisons name a model, its rows are read once per tile. The
difference of two models that have values is float32(a) - float32(b); else it is the difference
of their task vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from raylab.errors import ModelError
from raylab.reduce.differences import Difference, LowRankDifference, finite
from raylab.reduce.entries import Entries
from raylab.reduce.lora_product import MOST_RANK, ProductRows, Terms, product
from raylab.reduce.masks import ALL_PAIRS, Related
from raylab.spec.study import TOLERANCE, Quantization
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.safetensors_reader import Rows, Shape
from raylab.weights.views import ViewedModel

if TYPE_CHECKING:
    import torch

    from raylab.reduce.gpu import Gpu

BASE = ""


@dataclass(frozen=True)
class Pair:
    """A comparison as the reduction sees it: two keys of the models."""

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Models:
    """Open models by key, BASE being the base model's own weights where they are at hand."""

    sides: Mapping[str, ViewedModel]
    shapes: Mapping[str, Shape]
    base: ViewedModel | None = None
    weights: Checkpoint | None = None
    """The base model itself, whatever the view."""
    trained: Mapping[str, ModelLocation] = field(default_factory=dict)
    """The locations of the models whose details are asked for."""
    related: Related = ALL_PAIRS
    """The pairs and groups of models that are related."""
    quantization: Quantization | None = None
    skip_non_finite: bool = False
    count_untouched: bool = False
    tolerance: float = TOLERANCE
    """An entry above it moved."""
    gpu: Gpu | None = None
    """Where tiles are moved to; None: they stay on the CPU."""

    @property
    def device(self) -> torch.device:
        """Where tiles are."""
        import torch

        return self.gpu.device if self.gpu else torch.device("cpu")

    def moved(self, rows: torch.Tensor) -> torch.Tensor:
        """`rows` where tiles are."""
        return self.gpu.load(rows) if self.gpu else rows

    @property
    def bytes_read(self) -> int:
        """Bytes of weights read so far."""
        opened = [*self.sides.values(), *([self.base] if self.base else [])]
        return sum(side.bytes_read for side in opened)

    def has_values(self, key: str) -> bool:
        """Whether differences with this model are of values, not of task vectors."""
        side = self.base if key == BASE else self.sides[key]
        return side is not None and side.has_values

    def is_tied(self, key: str, name: str) -> bool:
        """Whether `name` is only another name of a parameter of this model."""
        side = self.base if key == BASE else self.sides[key]
        return side is not None and side.is_tied(name)

    def plain(self, key: str, name: str) -> Terms | None:
        """The factors of which a model's delta of the tensor `name` is the sum of products; none
        where it leaves the tensor alone, None where its delta is something else."""
        side = None if key == BASE else self.sides[key]
        if side is None:
            return ()
        if side.has_values:
            return None
        return (side.plain_factors(name) or None) if side.changes(name) else ()

    def terms(self, key: str, name: str) -> Terms | None:
        """The same, None too where products are not best formed where they are used: on a GPU, and
        of a rank so large that BLAS forms them."""
        found = None if self.gpu else self.plain(key, name)
        is_small = all(factors.rank <= MOST_RANK for factors in found or ())
        return found if is_small else None

    def reference(self, b: str) -> str | None:
        """Whose weights a difference with `b` is relative to: b's own where it is a checkpoint."""
        if b != BASE and self.sides[b].checkpoint:
            return b
        return BASE if self.base else None


class Tile:
    """Rows [start, stop) of the tensor `name`. Belongs to one thread."""

    def __init__(self, models: Models, name: str, start: int, stop: int) -> None:
        """Nothing is read yet."""
        self._models, self._where = models, (name, start, stop)
        self._stored: dict[str, Rows | None] = {}
        self._values: dict[str, torch.Tensor | None] = {}
        self._deltas: dict[str, torch.Tensor | None] = {}

    @property
    def numel(self) -> int:
        """How many entries it has."""
        name, start, stop = self._where
        shape = self._models.shapes[name]
        columns = shape[1:] if len(shape) > 1 else shape
        return (stop - start) * prod(columns)

    def stored(self, key: str) -> Rows | None:
        """The weights of a checkpoint as its file has them, where these are all that is needed:
        on the CPU, with every entry counted."""
        models = self._models
        side = models.base if key == BASE else models.sides[key]
        if models.gpu or models.skip_non_finite or side is None or not side.is_checkpoint:
            return None
        if key not in self._stored:
            has_rows = side.changes(self._where[0])
            if not has_rows and key != BASE:
                self._refuse_missing(key)
            self._stored[key] = side.stored(*self._where) if has_rows else None
        return self._stored[key]

    def values(self, key: str) -> torch.Tensor | None:
        """The model's own weights in their dtype; None where it has none under this view."""
        if key not in self._values:
            self._values[key] = self._read(key)
        return self._values[key]

    def _read(self, key: str) -> torch.Tensor | None:
        stored = self.stored(key)
        if stored is not None:
            from raylab.weights.torch_rows import as_torch

            return as_torch(stored)
        side = self._models.base if key == BASE else self._models.sides[key]
        rows = side.values(*self._where) if side else None
        if rows is None and key != BASE:
            self._refuse_missing(key)
        return None if rows is None else self._models.moved(rows)

    def _refuse_missing(self, key: str) -> None:
        """A checkpoint has all of its model: a tensor that it lacks is not zero."""
        own, name = self._models.sides[key].checkpoint, self._where[0]
        if own is not None and not own.is_alias(name):
            raise ModelError(
                f"{key} lacks a tensor that it is compared over",
                found=name,
                expected="the tensors of its base model, and of the models beside it",
            )

    def delta(self, key: str) -> torch.Tensor | None:
        """Rows of the task vector, float32; None where the model does not touch the tensor."""
        if key not in self._deltas:
            self._deltas[key] = self._delta(key)
        return self._deltas[key]

    def _delta(self, key: str) -> torch.Tensor | None:
        if key == BASE:
            return None
        values = self.values(key)
        start = None if values is None else self.values(BASE)
        if values is not None and start is not None:
            return values.float() - start.float()
        name, *rows = self._where
        gpu, terms = self._models.gpu, self._models.terms(key, name)
        if terms:
            return product(terms, *rows)
        chain = self._models.plain(key, name) if gpu else None
        if gpu and chain:
            first, *others = (gpu.product(factors, *rows) for factors in chain)
            return sum(others, first)
        found = self._models.sides[key].delta(*self._where)
        return None if found is None else self._models.moved(found)

    def rows(self, key: str) -> torch.Tensor | ProductRows | None:
        """The same as `delta`, not multiplied out where it is best formed where it is used."""
        name, *rows = self._where
        terms = self._models.terms(key, name)
        return ProductRows(terms, *rows) if terms else self.delta(key)

    def difference(self, a: str, b: str) -> Difference | LowRankDifference | None:
        """a - b; None where neither touches the tensor and untouched ones do not count."""
        found = self._difference(a, b)
        if found is None and self._models.count_untouched:
            import torch

            return Difference(torch.zeros(self.numel, device=self._models.device))
        return finite(found) if found and self._models.skip_non_finite else found

    def _difference(self, a: str, b: str) -> Difference | LowRankDifference | None:
        if self._models.is_tied(a, self._where[0]) and self._models.is_tied(b, self._where[0]):
            return None  # Counted under its partner's name.
        name, *rows = self._where
        one, other = self._models.terms(a, name), self._models.terms(b, name)
        if one is not None and other is not None:
            return LowRankDifference(one, other, *rows) if one or other else None
        for read in (self.stored, self.values):
            left, right = read(a), read(b)
            if left is not None and right is not None:
                return Difference(left, right)
        first, second = self.delta(a), self.delta(b)
        if first is None:
            return None if second is None else Difference(-second)
        return Difference(first, second)

    def references(self, pairs: Sequence[Pair]) -> Iterator[tuple[str, Entries]]:
        """(key, weights) of every model that a difference here is relative to."""
        for key in dict.fromkeys(self._models.reference(pair.b) for pair in pairs):
            stored = None if key is None else self.stored(key)
            values = None if key is None or stored is not None else self.values(key)
            if key is not None and stored is not None:
                yield key, stored
            elif key is not None and values is not None:
                yield key, self._counted(values, [p for p in pairs if self._is_of(p, key)])

    def _is_of(self, pair: Pair, reference: str) -> bool:
        return self._models.reference(pair.b) == reference

    def _counted(self, values: torch.Tensor, pairs: Sequence[Pair]) -> torch.Tensor:
        """The entries of `values` where the differences of `pairs` are not left out."""
        if not self._models.skip_non_finite:
            return values
        import torch

        kept = torch.ones_like(values, dtype=torch.bool)
        for pair in pairs:
            found = self._difference(pair.a, pair.b)
            if found is not None:
                kept &= torch.isfinite(found.values())
        return values[kept]
