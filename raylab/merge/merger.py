"""Merges pieces: some rows of one tensor, from the models' rows to bytes of the output.

Model: a thread reads each model's rows, trims or drops their entries, combines them, adds them to
the base, rounds, and writes. A tensor that no model changes is copied, and so is one that is a
model's as it is: where its dtype stays, the bytes of the file. For an adapter the combined
rows are handed out before they are added to the base (`delta`). Where a method combines matrices, a
thread merges a whole tensor first. What a step counts (entries
kept, entries that are not finite) comes to the host with the rows, at the end of the piece.
Invariant: the steps are those of `raylab.merge.steps`, on whichever device, in one order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raylab.merge.compiled_blocks import KEPT, NON_FINITE, merge_words
from raylab.merge.compiled_rank_merge import MOST_COLUMNS, merge_ranked
from raylab.merge.model_rows import ModelRows, refuse_non_finite
from raylab.merge.proof import Proof
from raylab.merge.record import Kept
from raylab.merge.step_settings import StepSettings
from raylab.merge.steps import Count, Entries
from raylab.merge.stored_rows import carried_over, copied, count_stored
from raylab.merge.trim import Trims, counter
from raylab.merge.whole_tensors import Concluded, combine, rows_of
from raylab.store.phase import MERGING, Tell
from raylab.weights.checkpoint_writer import CheckpointWriter
from raylab.weights.row_tiles import Piece, Workers, columns_of

if TYPE_CHECKING:
    from raylab.merge.matrices import Product


class Merger:
    """Merges one piece after another; threads share it. `kept` counts the entries that stayed."""

    def __init__(
        self,
        rows: ModelRows,
        trims: Sequence[Trims],
        concluded: Concluded,
        writer: CheckpointWriter | None = None,
        rescaling: Mapping[tuple[int, str], float] | None = None,
    ) -> None:
        """`writer`: of the whole model; None where only `delta` is called. `rescaling`: by model
        and tensor what kept entries are multiplied by, where the request restores a norm."""
        self._settings = StepSettings(rows, trims, concluded, rescaling or {})
        self._concluded = concluded
        self._rows, self._trims, self._writer = rows, trims, writer
        self._plan, self._steps = rows.plan, rows.backend.steps
        self._request = rows.plan.request
        self._lock = threading.Lock()
        self._products: dict[str, Product] = {}
        self.kept: Kept = Kept()
        self.proofs: dict[str, Proof] = {}
        """By tensor, who counts its entries before they are trimmed."""

    def write(self, piece: Piece) -> None:
        """Merge or copy the rows of one piece. Raises NonFiniteError, StoreError."""
        self._writer_of_model.write_rows(piece[0], piece[1], self._rows_of(piece))

    def write_draft(self, piece: Piece) -> None:
        """The same, of a tensor that may be merged again; see `CheckpointWriter.draft_rows`."""
        self._writer_of_model.draft_rows(piece[0], piece[1], self._rows_of(piece))

    def _rows_of(self, piece: Piece) -> np.ndarray:
        models = self._plan.models_of(piece[0])
        if not models:
            return copied(self._rows, piece)
        carried = carried_over(self._rows, piece, models)
        if carried is None:
            return self._merged(piece, models)
        self._settle(piece, models, count_stored(carried))
        return carried

    @property
    def _writer_of_model(self) -> CheckpointWriter:
        assert self._writer is not None
        return self._writer

    @property
    def counts(self) -> Kept | None:
        """`kept`; None where the method looks at no entries."""
        return None if self._request.row.combines == "matrices" else self.kept

    def write_all(self, workers: Workers, tell: Tell) -> None:
        """Merge or copy every tensor of the output; see `write`."""
        done = counter(tell, MERGING, len(self._plan.shapes))
        # Within a file the digest follows the pieces. What thresholds were counted in last is still
        # in the page cache, where it does not hold all models.
        files = self._writer_of_model.tensors_of_files()[:: -1 if any(self._trims) else 1]
        pieces = [piece for file in files for piece in self._rows.pieces(file)]
        if self._request.row.combines == "matrices":
            # Imports torch, before the first thread starts.
            from raylab.merge.matrices import merged_product

            firsts = [piece for piece in pieces if piece[1] == 0]
            workers.each(firsts, lambda piece: self._write_tensor(piece[0], merged_product), done)
        else:
            workers.each(pieces, self._rows.reading_ahead(pieces, self.write), done)

    def _write_tensor(self, name: str, merged: Callable[[ModelRows, str], Product]) -> None:
        """Merge or copy one tensor, whose matrices are `merged` first."""
        if self._plan.models_of(name):
            self._products[name] = merged(self._rows, name)
        for piece in self._rows.pieces([name]):
            self.write(piece)
        self._products.pop(name, None)

    def delta(self, piece: Piece) -> np.ndarray:
        """What the merge adds to the base model's rows, float64 (entries,) on the host, valid until
        the thread's next call. Raises NonFiniteError, StoreError."""
        models, memory, request = self._plan.models_of(piece[0]), self._rows.memory, self._request
        base, _ = self._rows.base(piece)
        moves, counts = self._moves(piece, models, base)
        if request.of_values:
            moves -= base
        moves *= self._plan.settings[piece[0]].scaling
        on_host = memory.to_host("moves", moves)
        self._settle(piece, models, memory.numbers(counts))
        return on_host

    def _merged(self, piece: Piece, models: Sequence[int]) -> np.ndarray:
        """The merged rows, (entries,) in the output's dtype, on the host."""
        by_blocks = self._by_blocks(piece, models)
        if by_blocks is not None:
            return by_blocks
        name, memory = piece[0], self._rows.memory
        dtype, (base, _) = self._plan.dtypes[name], self._rows.base(piece)
        moves, counts = self._moves(piece, models, base)
        if self._request.of_values:
            base[:] = 0
        scaling = self._plan.settings[name].scaling
        merged = memory.buffer("merged", base.shape, dtype)
        overflows = self._steps.add_to_base(base, moves, scaling, merged)
        on_host = memory.to_host("merged", merged)
        *found, overflow = memory.numbers([*counts, overflows])
        self._settle(piece, models, found)
        refuse_non_finite(overflow, f"the merged {name}, as {dtype},")
        return on_host

    def _by_blocks(self, piece: Piece, models: Sequence[int]) -> np.ndarray | None:
        """The same in one loop, where all are bfloat16 on the CPU, and entries are treated one by
        one, or by rank in their rows; None elsewhere."""
        name, memory, settings = piece[0], self._rows.memory, self._settings
        combining = settings.combining(name, models)
        columns = columns_of(self._plan.shapes[name])
        is_wide = self._request.row.keeps == "by_rank" and columns > MOST_COLUMNS
        if not combining or self._plan.dtypes[name] != "BF16" or is_wide:
            return None
        words = self._rows.words(piece)
        if not words:
            return None
        merged = memory.buffer("merged", words.base.shape, "BF16")
        how = combining, self._plan.settings[name].scaling, memory, merged
        first = piece[1] * columns
        if self._request.row.keeps == "by_rank":
            overflow, counts = merge_ranked(words, first, settings.draws(name, models), *how)
        else:
            overflow, counts = merge_words(words, first, settings.keeping(name, models), *how)
        if proof := self.proofs.get(name):
            for model, found in zip(models, counts.tolist(), strict=True):
                proof.add(model, found)
        self._settle(piece, models, [*counts[:, NON_FINITE].tolist(), *counts[:, KEPT].tolist()])
        refuse_non_finite(overflow, f"the merged {name}, as BF16,")
        return merged

    def _moves(
        self, piece: Piece, models: Sequence[int], base: Entries
    ) -> tuple[Entries, list[Count]]:
        """What is added to the base, before lambda, float64 (entries,) on the device; and for each
        model, how many entries are not finite, then for each, how many it keeps."""
        rows, memory = self._rows, self._rows.memory
        if product := self._products.get(piece[0]):
            moves = memory.buffer("moves", base.shape, "F64")
            moves[:] = product.rows(*piece[1:])
            return moves, [0] * (2 * len(models))
        deltas = memory.buffer("rows", (len(models), *base.shape), "F32")
        each = list(zip(deltas, models, strict=True))
        non_finite = [rows.fill(delta, model, piece) for delta, model in each]
        moves = memory.buffer("moves", base.shape, "F64")
        if self._request.row.combines == "tensors":
            found = self._concluded.get(piece[0])
            combine(rows_of(rows, piece, deltas, base, moves), found)
        kept_rows = deltas
        if self._request.row.keeps == "by_rank":
            kept_rows = memory.buffer("scaled rows", deltas.shape, "F64")
        if proof := self.proofs.get(piece[0]):
            for delta, model in each:
                proof.count(model, delta)
        kept = [
            self.keep(delta, model, piece, scaled)
            for (delta, model), scaled in zip(each, kept_rows, strict=True)
        ]
        if self._request.row.combines == "entries":
            self._combine(piece[0], kept_rows, models, moves)
        return moves, [*non_finite, *kept]

    def _settle(self, piece: Piece, models: Sequence[int], counts: Sequence[int]) -> None:
        """Refuse entries that are not finite, and add up what was kept; `counts`: of `_moves`."""
        self._rows.check_finite(piece, models, counts[: len(models)])
        with self._lock:
            for model, count in zip(models, counts[len(models) :], strict=True):
                self.kept[model, piece[0]] += count

    def keep(
        self, delta: Entries, model: int, piece: Piece, scaled: Entries | None = None
    ) -> Count:
        """Set the entries that the method does not keep to zero; how many are not zero. scaled:
        float64 (entries,), what is left over its probability, where a method keeps by rank."""
        request, (name, start, _) = self._request, piece
        if request.row.keeps == "by_rank":
            if scaled is None:
                scaled = self._rows.memory.buffer("scaled", delta.shape, "F64")
            return self._keep_by_rank(delta, model, piece, scaled)
        if request.row.trims:
            trim = self._trims[model][name]
            return self._steps.trim(delta, trim.threshold, trim.upper)
        if request.row.keeps == "random":
            key, limit = self._settings.stream(model, name)
            first = start * columns_of(self._plan.shapes[name])
            return self._steps.drop(delta, key, first, limit)
        return self._steps.count_nonzero(delta)

    def _keep_by_rank(self, delta: Entries, model: int, piece: Piece, scaled: Entries) -> Count:
        (name, start, _), memory = piece, self._rows.memory
        draws = self._settings.draws(name, [model])
        limits = memory.to_device("limits", draws.limits[0])
        shares = memory.to_device("shares", draws.divisors[0])
        first = start * columns_of(self._plan.shapes[name])
        return self._steps.drop_by_rank(delta, draws.keys[0], first, limits, shares, scaled)

    def _combine(self, name: str, deltas: Entries, models: Sequence[int], moves: Entries) -> None:
        """Write what is added to the base, before lambda, into `moves`."""
        found = self._settings.combining(name, models)
        assert found
        if found.how == "disjoint":
            weights = found.factors, found.weights
            self._steps.disjoint_merge(deltas, *weights, found.normalizes, moves)
        else:
            self._steps.weighted_sum(deltas, found.factors, found.bound, moves)
