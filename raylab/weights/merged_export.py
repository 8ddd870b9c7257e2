"""A trial as a whole model: its adapters merged into the base model, written shard by shard.

Model: the view `merged` gives the rows (each adapter of a chain is added in float32 and rounded
to the base model's dtype, one after the other); threads write them at their places.
Invariant: the weights have the bits of PEFT's merge, one adapter after the other, on a CPU; no
tensor is ever held whole.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from raylab.errors import ModelError
from raylab.store.references import Place
from raylab.weights import Checkpoint
from raylab.weights.checkpoint_writer import MOST_BYTES, CheckpointWriter, TensorPlan, copy_beside
from raylab.weights.row_tiles import Piece, columns_of, in_threads, tiles
from raylab.weights.safetensors_file import DTYPE_NAMES
from raylab.weights.views import Side, View


def write_merged(place: Place, directory: Path, threads: int, most_bytes: int = MOST_BYTES) -> None:
    """Write the model at `place` into `directory`, with the base model's config and tokenizer.

    Raises ModelError where the base model is not on this machine, OutError and StoreError.
    """
    if place.base is None:
        raise ModelError(
            "a merged model needs the base model's weights",
            expected="the base model on this machine",
            todo="download it, or publish the adapter without --merged",
        )
    template = Checkpoint(place.base)
    side = Side(place, View("merged"), template)
    shapes = template.shapes
    plans = [
        TensorPlan(name, DTYPE_NAMES[template.raw(name, 0, 0).dtype], shape)
        for name, shape in shapes.items()
    ]
    pieces = [(name, *rows) for name, shape in shapes.items() for rows in tiles(shape)]
    with CheckpointWriter(directory, plans, most_bytes) as writer:
        in_threads(pieces, partial(_write, side, writer), threads)
    copy_beside(place.base, directory)


def _write(side: Side, writer: CheckpointWriter, piece: Piece) -> None:
    name, start, stop = piece
    rows = side.values(name, start, stop)
    assert rows is not None, "the view has weights of its own"
    offset = start * columns_of(rows.shape) * rows.element_size()
    data = rows.contiguous().reshape(-1).view(torch.uint8)
    writer.write(name, offset, data.numpy().data)
