"""Pieces cover every row once, and an adapter's are the tiles of the reduction."""

from types import SimpleNamespace

import pytest
import torch

from raylab.plan.shards import tiles
from raylab.reduce.merge_rows import ModelRows, pieces_of

SHAPES = {"wide": (3000, 1000), "vector": (700_000,), "scalar": (), "deep": (300, 10, 20)}


def plan_of(*is_checkpoint):
    sides = [SimpleNamespace(is_checkpoint=flag) for flag in is_checkpoint]
    return SimpleNamespace(shapes=SHAPES, sides=sides, models_of=lambda _: list(range(len(sides))))


@pytest.mark.parametrize("sides", [(True, True), (True, False), ()])
def test_pieces_cover_every_row_once_in_order(sides):
    for name, shape in SHAPES.items():
        found = list(pieces_of(plan_of(*sides), [name]))
        ends = [0, *(stop for _, _, stop in found)]
        assert [start for _, start, _ in found] == ends[:-1]
        assert ends[-1] == (shape[0] if len(shape) > 1 else 1)


def test_pieces_of_adapters_are_whole_tiles_and_of_checkpoints_smaller():
    adapters, checkpoints = (list(pieces_of(plan_of(f), ["wide"])) for f in (False, True))
    assert [(start, stop) for _, start, stop in adapters] == list(tiles(SHAPES["wide"]))
    assert len(checkpoints) > len(adapters)


def test_rows_taken_memory_is_used_again():
    rows = ModelRows(plan_of())
    large = rows.take("x", (4, 5), torch.float32)
    assert rows.take("x", (10,), torch.float32).data_ptr() == large.data_ptr()
    assert rows.take("y", (10,), torch.float32).data_ptr() != large.data_ptr()
    assert rows.take("x", (30,), torch.float32).numel() == 30
