"""Pieces cover every row once, and buffers for them are used again."""

from types import SimpleNamespace

import pytest
import torch

from raylab.merge.inputs import MergePlan, ModelRows
from raylab.weights.row_tiles import tiles

SHAPES = {"wide": (3000, 1000), "vector": (700_000,), "scalar": (), "deep": (300, 10, 20)}


def plan_of(*has_values):
    models = [SimpleNamespace(has_values=each) for each in has_values]
    return SimpleNamespace(shapes=SHAPES, models=models, models_of=lambda name: range(len(models)))


PLAN = plan_of(True, True)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("has_values", [(True, True), (True, False)])
def test_pieces_cover_every_row_once_in_order(name, has_values):
    found = MergePlan.pieces(plan_of(*has_values), [name])
    ends = [0, *(stop for _, _, stop in found)]
    assert [start for _, start, _ in found] == ends[:-1]
    assert ends[-1] == (SHAPES[name][0] if len(SHAPES[name]) > 1 else 1)


def test_pieces_of_an_adapter_are_the_tiles_of_comparisons():
    found = [rows for _, *rows in MergePlan.pieces(plan_of(True, False), ["wide"])]
    assert found == list(map(list, tiles(SHAPES["wide"])))


def test_buffer_is_used_again_and_grows():
    rows = ModelRows(PLAN)
    large = rows.buffer("x", (4, 5), torch.float32)
    assert rows.buffer("x", (10,), torch.float32).data_ptr() == large.data_ptr()
    assert rows.buffer("y", (10,), torch.float32).data_ptr() != large.data_ptr()
    assert rows.buffer("x", (30,), torch.float32).numel() == 30
