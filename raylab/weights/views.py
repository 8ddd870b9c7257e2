"""One model under a view: what training changed, what is saved, or what 4-bit training held.

Model: a location is where a model's parameters are stored, and a view is the meaning of a
difference. With W the base model's weights, W' the weights that the model's last training started
from (W with all adapters but the last merged in), D the delta of that training, and h what
training holds of its start (4 bits):

    view          values                              delta (its task vector)
    delta         a checkpoint's own; else None       sum of the chain's D; checkpoint - W
    merged        round(W' + D)                       values - W
    dequantized   round(h(W') + D)                    values - round(h(W))

A checkpoint's values are its own under every view, and its task vector is checkpoint - W. Adapters
over a base of their own are read as a checkpoint too. The base model itself is a location without
adapters: its D is zero. Adapters are computed with torch, which a checkpoint does without.
Invariant: rows depend on the tensor and their bounds alone, given one BLAS thread; any number of
threads may read them. A model that lacks what its view needs (weights, quantisation settings) is
refused when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raylab.errors import ModelError
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.weights.checkpoint import Checkpoint, CountedWeights, StoredWeights, Weights
from raylab.weights.safetensors_reader import Rows, Shape, matrix_shape

if TYPE_CHECKING:
    import torch

    from raylab.weights.adapter import Adapter
    from raylab.weights.adapter_parts import Factors


@dataclass(frozen=True)
class View:
    """The meaning of a difference; `dequantized` needs the `quantization` of the training."""

    name: Literal["delta", "merged", "dequantized"] = "delta"
    quantization: Quantization | None = None


DELTA = View()


class ViewedModel:
    """One model under a view."""

    def __init__(
        self,
        location: ModelLocation,
        view: View = DELTA,
        base: Checkpoint | None = None,
        like: ViewedModel | None = None,
    ) -> None:
        """Open the model at `location`; `base` is its base model where that is already open.

        Tensors are called as in the base model's files; without it, as in the model `like`.
        Reads headers only. Raises ModelError for a model that cannot be read, does not fit
        the base model, or needs something that is missing.
        """
        if base is None and location.base is not None:
            base = Checkpoint(location.base)
        self._base = CountedWeights(base) if base else None
        named = base or (like.checkpoint if like else None)
        self._checkpoint = Checkpoint(location.checkpoint, named) if location.checkpoint else None
        own: StoredWeights | None = self._checkpoint
        if location.is_whole and location.base:
            from raylab.weights.added_weights import AddedWeights

            own = AddedWeights(Checkpoint(location.base, named), location.adapters)
        self._own = CountedWeights(own) if own else None
        self._adapters: tuple[Adapter, ...] = ()
        self._before: Weights | None = None
        self._origin: Weights | None = None
        if self._own is None and (location.adapters or view != DELTA):
            from raylab.weights.adapter_chain import called_as, open_chain, starts

            self._adapters = open_chain(location.adapters, view, self._base)
            self._before, self._origin = starts(self._adapters, view, self._base)
            if base is None and like is not None:
                self._adapters = called_as(like.shapes, self._adapters)
        sources = [self._own] if self._own else self._adapters
        self.shapes: Mapping[str, Shape] = {
            name: shape for source in sources for name, shape in source.shapes.items()
        }

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that it is; None for adapters and the base model."""
        return self._checkpoint

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Its adapters, the oldest first; none of a checkpoint and of the base model."""
        return self._adapters

    @property
    def has_values(self) -> bool:
        """Whether it has weights of its own under this view."""
        return self._own is not None or self._before is not None

    @property
    def is_checkpoint(self) -> bool:
        """Whether it has weights of its own under every view."""
        return self._own is not None

    @property
    def bytes_read(self) -> int:
        """Bytes of checkpoints read so far, counted at every read."""
        return sum(weights.bytes_read for weights in (self._own, self._base) if weights)

    def changes(self, name: str) -> bool:
        """Whether it has rows of its own of the parameter `name`, also where that is tied here."""
        if self._own is not None:
            return name in self.shapes or self._own.is_alias(name)
        return any(adapter.changes(name) for adapter in self._adapters)

    def is_tied(self, name: str) -> bool:
        """Whether `name` is only another name of a parameter here."""
        weights = self._own or self._base
        return name not in self.shapes and weights is not None and weights.is_alias(name)

    def untied_names(self, alias: str, partner: str) -> set[str]:
        """The names under which `alias`, which its base model ties to `partner`, is a weight of
        its own here; none where it is tied here as well."""
        if self._own is not None:
            name = self._own.stored_name(alias)
            return {name} if name and name != partner and partner in self.shapes else set()
        found = {adapter.untied_name(alias, partner) for adapter in self._adapters}
        return {name for name in found if name}

    def stored(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) of a checkpoint as `Checkpoint.stored` gives them."""
        assert self._own is not None
        return self._own.stored(name, start, stop)

    def values(self, name: str, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of the model's own weights, 2-D, in their dtype; not to be written to.

        None where it has no weights under this view, or not this tensor.
        """
        if self._own is not None:
            return self._own.raw(name, start, stop) if self.changes(name) else None
        if self._before is None or self._before.stored_name(name) is None:
            return None
        return self._with_last(name, start, stop, self._before.raw(name, start, stop))

    def saved(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of a whole model to be saved, in the base model's dtype: each adapter
        is added and rounded. Of two tied weights each has its own change, as PEFT's forward pass
        has it; all others are those of PEFT's merge."""
        if self._own is not None:
            return self._own.raw(name, start, stop)
        assert self._base is not None
        rows = self._base.raw(name, start, stop)
        for adapter in self._adapters:
            rows = adapter.merged_apart(name, start, stop, rows)
        return rows

    def delta(self, name: str, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of the task vector, 2-D, float32; None where it touches none of them.

        Raises ModelError for a checkpoint whose base model has no such rows.
        """
        if not self.changes(name):
            return None
        if self._own is not None:
            mine = self._own.raw(name, start, stop).float()
            return mine - self._rows_of_base(name, start, stop)
        if self._before is None or self._origin is None:
            return self._sum_of_deltas(name, start, stop)
        before = self._before.raw(name, start, stop)
        is_first = self._before is self._origin
        origin = before if is_first else self._origin.raw(name, start, stop)
        mine = self._with_last(name, start, stop, before)
        return mine.float() - origin.to(mine.dtype).float()

    def factors(self, name: str) -> Factors | None:
        """The factors of the delta, where it is the delta of one plain LoRA layer."""
        found = self.plain_factors(name)
        return found[0] if len(found) == 1 else None

    def plain_factors(self, name: str) -> tuple[Factors, ...]:
        """The factors of each adapter of the chain, where the delta is the sum of their products;
        none where it is something else."""
        touching = [adapter for adapter in self._adapters if adapter.changes(name)]
        is_sum = self._before is None and all(name in own.low_rank for own in touching)
        if not touching or not is_sum:
            return ()
        from raylab.weights.adapter_parts import Factors

        return tuple(Factors(*adapter.factors(name)) for adapter in touching)

    def _with_last(self, name: str, start: int, stop: int, rows: torch.Tensor) -> torch.Tensor:
        """`rows` with the last delta added, rounded to the base model's dtype."""
        assert self._base is not None
        if self._adapters:
            rows = self._adapters[-1].merged(name, start, stop, rows)
        from raylab.weights.torch_rows import TORCH_DTYPES

        return rows.to(TORCH_DTYPES[self._base.dtype(name)])

    def _sum_of_deltas(self, name: str, start: int, stop: int) -> torch.Tensor:
        first, *others = (adapter for adapter in self._adapters if adapter.changes(name))
        total = first.rows(name, start, stop)
        for adapter in others:
            total += adapter.rows(name, start, stop)
        return total

    def _rows_of_base(self, name: str, start: int, stop: int) -> torch.Tensor:
        if self._base is None:
            raise ModelError(
                "a checkpoint has no base model to be compared with",
                expected="the base model's weights on this machine",
                todo="name the base model: --base, or base_model in a study",
            )
        mine, theirs = _shape_of(self._own, name), _shape_of(self._base, name)
        assert mine is not None
        if theirs is None or theirs[1:] != mine[1:] or stop > matrix_shape(theirs)[0]:
            raise ModelError(
                f"{name} differs in shape from the base model's",
                found=f"{mine}, {theirs or 'not'} in the base model",
                expected="one shape",
            )
        return self._base.raw(name, start, stop).float()


def _shape_of(weights: Weights | None, name: str) -> Shape | None:
    """The shape of a parameter by any of its names; None where it is not there."""
    if weights is None or not (name in weights.shapes or weights.is_alias(name)):
        return None
    return weights.shapes[weights.stored_name(name) or name]
