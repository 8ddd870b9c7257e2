"""Pieces cover every row once, and memory for them is used again."""

from types import SimpleNamespace

import pytest
import torch

from raylab.reduce.merge_rows import ModelRows, pieces_of

SHAPES = {"wide": (3000, 1000), "vector": (700_000,), "scalar": (), "deep": (300, 10, 20)}


PLAN = SimpleNamespace(shapes=SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_pieces_cover_every_row_once_in_order(name):
    found = pieces_of(PLAN, [name])
    ends = [0, *(stop for _, _, stop in found)]
    assert [start for _, start, _ in found] == ends[:-1]
    assert ends[-1] == (SHAPES[name][0] if len(SHAPES[name]) > 1 else 1)


def test_rows_taken_memory_is_used_again():
    rows = ModelRows(PLAN)
    large = rows.take("x", (4, 5), torch.float32)
    assert rows.take("x", (10,), torch.float32).data_ptr() == large.data_ptr()
    assert rows.take("y", (10,), torch.float32).data_ptr() != large.data_ptr()
    assert rows.take("x", (30,), torch.float32).numel() == 30
