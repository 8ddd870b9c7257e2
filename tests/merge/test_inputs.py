"""Pieces cover every row once."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from raylab.merge.arrangement import arrange
from raylab.merge.inputs import MergePlan
from raylab.spec.merges import request_merge
from raylab.weights.row_tiles import tiles

SHAPES = {"wide": (3000, 1000), "vector": (700_000,), "scalar": (), "deep": (300, 10, 20)}


def plan_of(*has_values):
    models = tuple(
        SimpleNamespace(has_values=each, changes=SHAPES.__contains__) for each in has_values
    )
    template = SimpleNamespace(shapes=SHAPES)
    request = request_merge("task_arithmetic", ["model"] * len(models), base="base")
    arrangement = arrange(request, template, models, SHAPES)
    return MergePlan(request, models, template, Path(), arrangement, {})


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("has_values", [(True, True), (True, False)])
@pytest.mark.parametrize("entries", [1, 5000, 1 << 24])
def test_pieces_cover_every_row_once_in_order(name, has_values, entries):
    found = plan_of(*has_values).pieces([name], entries)
    ends = [0, *(stop for _, _, stop in found)]
    assert [start for _, start, _ in found] == ends[:-1]
    assert ends[-1] == (SHAPES[name][0] if len(SHAPES[name]) > 1 else 1)


def test_pieces_of_an_adapter_are_the_tiles_of_comparisons():
    found = [rows for _, *rows in plan_of(True, False).pieces(["wide"], 1 << 24)]
    assert found == list(map(list, tiles(SHAPES["wide"])))


def test_pieces_of_checkpoints_have_the_entries_asked_for():
    found = plan_of(True, True).pieces(["wide"], 10_000)
    assert {stop - start for _, start, stop in found} == {10}


def test_entries_of_checkpoints_counts_every_model_of_tensors_without_adapters():
    size = 3000 * 1000 + 700_000 + 1 + 300 * 10 * 20
    assert plan_of(True, True).entries_of_checkpoints == 2 * size
    assert plan_of(True, False).entries_of_checkpoints == 0
