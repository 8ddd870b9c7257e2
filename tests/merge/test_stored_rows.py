"""Tensors that a merge takes from a file as they are: their bytes, counts, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from raylab.errors import NonFiniteError
from raylab.merge.merge import merge_models
from raylab.merge.stored_rows import count_stored
from raylab.spec.merges import request_merge
from tests.merge.models import drawn, place, saved

DTYPES = {torch.bfloat16: np.uint16, torch.float16: np.float16, torch.float32: np.float32}


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).tolist()


def passed_through(tmp_path, folder):
    request = request_merge("passthrough", [str(folder)])
    record = merge_models(request, [place(folder)], None, tmp_path / "out")
    return load_file(tmp_path / "out" / "model.safetensors"), record


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.lists(st.floats(width=16, allow_nan=True, allow_infinity=True), max_size=40),
    st.integers(0, 1 << 16),
)
def test_count_stored_any_rows_are_those_of_float64(dtype, values, more):
    tensor = torch.tensor([*values, *[0.0, 1.0] * (more // 2)], dtype=torch.float64).to(dtype)
    truth = tensor.double().numpy()
    stored = tensor.view(torch.uint16) if dtype == torch.bfloat16 else tensor
    non_finite, nonzero = count_stored(stored.numpy())
    assert (non_finite, nonzero) == (np.sum(~np.isfinite(truth)), np.sum(truth != 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_merge_passthrough_has_the_model_s_own_bits_and_counts(tmp_path, dtype):
    values = drawn(1, dtype=dtype)
    values["a.weight"][0, :3] = torch.tensor([0.0, -0.0, 1e-30]).to(dtype)
    found, record = passed_through(tmp_path, saved(tmp_path / "m", values))
    assert {n: bits(t) for n, t in found.items()} == {n: bits(t) for n, t in values.items()}
    (row,) = record["models"]
    assert row["kept"] == sum(int(np.count_nonzero(t.double().numpy())) for t in values.values())
    assert row["numel"] == sum(t.numel() for t in values.values())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_merge_passthrough_not_finite_is_refused_and_nothing_is_left(tmp_path, dtype, wrong):
    values = drawn(1, dtype=dtype)
    values["norm.weight"][3] = wrong
    folder = saved(tmp_path / "m", values)
    with pytest.raises(NonFiniteError, match=r"norm\.weight"):
        passed_through(tmp_path, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


ALONE = """
import sys
from pathlib import Path
from raylab.merge.merge import merge_models
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
model, out = map(Path, sys.argv[1:])
request = request_merge("passthrough", [str(model)])
merge_models(request, [ModelLocation(checkpoint=model)], None, out)
print(*{"numba", "llvmlite", "torch"} & {*sys.modules})
"""


def test_merge_passthrough_loads_no_compiled_loop(tmp_path):
    (tmp_path / "m").mkdir()
    save_file(drawn(1), tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "llama"}')
    command = [sys.executable, "-c", ALONE, tmp_path / "m", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
