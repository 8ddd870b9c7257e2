"""The lines of a merge for the terminal say what its method uses, and count what it counts."""

from __future__ import annotations

import pytest

from raylab.merge.merge import merge_named
from raylab.merge.record import summary_lines
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import request_merge
from tests.merge.mergekit_models import save_models


@pytest.mark.parametrize(
    ("method", "first", "model"),
    [
        ("ties", "ties: scope global, lambda 1", "weight 1, density 0.2, num_keep 103, "),
        ("dare_linear", "dare_linear: seed 0, lambda 1", "weight 1, density 0.2, kept "),
        ("task_arithmetic", "task_arithmetic: lambda 1", "weight 1, 164 of 516 entries not zero"),
        ("linear", "linear", "weight 1, 496 of 516 entries not zero"),
        ("nearswap", "nearswap: t 0.01", "164 of 516 entries not zero"),
        ("model_stock", "model_stock: filter_wise 0", "164 of 516 entries not zero"),
        ("tsv", "tsv: lambda 1, k 0", "weight 1"),
    ],
)
def test_lines_of_a_merge_say_what_its_method_uses(tmp_path, method, first, model):
    save_models(tmp_path)
    row = METHODS[method]
    models = [str(tmp_path / name) for name in ("first", "second")[: row.most or 2]]
    base = None if row.of == "values" else str(tmp_path / "base")
    parameters = {"t": 0.01} if method == "nearswap" else {}
    request = request_merge(method, models, base=base, parameters=parameters)
    said = summary_lines(merge_named(request, tmp_path / "out"))
    assert said[0] == first
    assert said[1].startswith(f"  {models[0]}: {model}")
