"""Merges on a device: the bytes and the record are those of the compiled loops on the CPU.

What runs on a GPU runs here on torch's CPU device as well, and on a GPU where there is one.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.gpu_checks.allocations import peak_of
from raylab.errors import DeviceMemoryError, InputError, NonFiniteError
from raylab.merge import backend as backends
from raylab.merge import torch_steps
from raylab.merge.backend import CPU, LARGE_WORK, choose
from raylab.merge.inputs import plan_merge
from raylab.merge.merge import merge_models, write_merge
from raylab.merge.merger import Merger
from raylab.merge.model_rows import ModelRows
from raylab.merge.thread_memory import ThreadMemory
from raylab.merge.torch_backend import torch_backend
from raylab.merge.torch_memory import TorchMemory
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
from raylab.weights import row_tiles
from raylab.weights.row_tiles import Workers
from tests.merge.models import NAMES, made, near, place, saved

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
OPTIONS = [
    ("ties", {"density": 0.2, "weights": [1.0, 0.5, 2.0]}),
    ("ties", {"density": 1.0, "normalize": False}),
    ("ties", {"density": 0.01, "scaling": 1.7}),
    ("ties", {"scope": "tensor", "density": 0.3, "weights": [0.3, 0.0, 1.0]}),
    ("breadcrumbs", {"density": 0.4, "parameters": {"gamma": 0.2}}),
    ("breadcrumbs_ties", {"scope": "tensor", "density": 0.3, "parameters": {"gamma": 0.1}}),
    ("dare_ties", {"density": 0.3, "seed": 4, "weights": [1.0, 0.5, 0.5]}),
    ("dare_linear", {"density": 0.6, "seed": 2**63 + 1}),
    ("della", {"density": 0.3, "seed": 4, "weights": [1.0, 0.5, 0.5]}),
    ("della_linear", {"density": 0.6, "parameters": {"epsilon": 0.3}}),
    ("task_arithmetic", {"weights": [0.5, -0.25, 1.0], "scaling": 2.0}),
    ("task_arithmetic", {"normalize": True, "weights": [0.5, 0.25, 3.0]}),
    ("linear", {"weights": [1.0, 3.0, 0.5]}),
]

ON_BOTH = [name for name, row in METHODS.items() if row.combines == "entries"]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def backend(request):
    """Steps in torch, in small pieces and smaller blocks."""
    return replace(torch_backend(torch.device(request.param)), entries=11)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(torch_steps, "BLOCK", 7)


def planned(method, paths, **options):
    """A merge of `paths[1:]` over `paths[0]`."""
    names = [str(path) for path in paths[1:]]
    request = request_merge(method, names, base=str(paths[0]), **options)
    return plan_merge(request, [place(path) for path in paths[1:]], paths[0])


def both(folder, plan, backend, threads=2):
    """The two outputs: compiled on the CPU, and by `backend`."""
    write_merge(plan, CPU, folder / "compiled", threads=threads)
    write_merge(plan, backend, folder / "torch", threads=threads)
    return folder / "compiled", folder / "torch"


def assert_same(compiled, other, device):
    """Every byte of every file but the record, and of the record all but the device."""
    files = sorted(path.name for path in compiled.iterdir() if path.name != "merge.json")
    assert "model.safetensors" in files
    assert sorted(path.name for path in other.iterdir()) == sorted([*files, "merge.json"])
    for name in set(files) - {"README.md"}:
        assert (other / name).read_bytes() == (compiled / name).read_bytes(), name
    card = (compiled / "README.md").read_text().replace("compiled", "torch")
    assert (other / "README.md").read_text() == card
    records = [json.loads((out / "merge.json").read_text()) for out in (compiled, other)]
    assert [record.pop("device") for record in records] == ["cpu", device]
    assert records[0] == records[1]


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("kind", ["normal", "sparse", "tied", "tiny", "adversarial"])
@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_merge_any_method_dtype_and_values_gives_the_same_bytes(
    tmp_path, backend, kind, dtype, method, options
):
    _, _, paths = made(tmp_path, kind, dtype, models=3)
    assert_same(*both(tmp_path, planned(method, paths, **options), backend), backend.name)


def test_methods_are_all_compared():
    assert {method for method, _ in OPTIONS} == set(ON_BOTH)


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_merge_adapters_and_checkpoints_give_the_same_bytes(
    tmp_path, monkeypatch, backend, demo_base, adapters, method, options
):
    monkeypatch.setattr(torch_steps, "BLOCK", 1 << 11)
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 1 << 12)
    whole = Path(shutil.copytree(demo_base, tmp_path / "whole"))
    moved = near(load_file(demo_base / "model.safetensors"), 5, "sparse")
    save_file(moved, whole / "model.safetensors", metadata={"format": "pt"})
    plan = planned(method, [demo_base, whole, *adapters], **options)
    # `linear` takes every model into every tensor, so that no tensor is without an adapter.
    assert (plan.entries_of_checkpoints == 0) == (method == "linear")
    backend = replace(backend, entries=1 << 13)
    assert_same(*both(tmp_path, plan, backend, threads=3), backend.name)


def test_merge_adapters_alone_copy_what_they_leave(
    tmp_path, monkeypatch, backend, demo_base, adapters
):
    monkeypatch.setattr(torch_steps, "BLOCK", 1 << 16)
    plan = planned("task_arithmetic", [demo_base, *adapters])
    backend = replace(backend, entries=1 << 20)
    assert_same(*both(tmp_path, plan, backend, threads=1), backend.name)


@pytest.mark.parametrize("method", ON_BOTH)
def test_merge_non_finite_values_have_the_same_message(tmp_path, backend, method):
    _, others, paths = made(tmp_path)
    others[1]["b.weight"][1, 2] = math.nan
    save_file(others[1], paths[2] / "model.safetensors")
    plan = planned(method, paths)
    messages = []
    for each in (CPU, backend):
        with pytest.raises(NonFiniteError, match=r"m2: b\.weight") as found:
            write_merge(plan, each, tmp_path / "out")
        messages.append(found.value.message)
    assert messages[0] == messages[1]
    assert not (tmp_path / "out").exists()


def test_merge_overflow_has_the_same_message(tmp_path, backend):
    _, _, paths = made(tmp_path, dtype=torch.float16)
    plan = planned("task_arithmetic", paths, scaling=1e6)
    messages = []
    for each in (CPU, backend):
        with pytest.raises(NonFiniteError, match=r"the merged a\.weight, as F16,") as found:
            write_merge(plan, each, tmp_path / "out", threads=1)
        messages.append(found.value.message)
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("device", "entries", "has_gpu", "chosen"),
    [
        ("auto", LARGE_WORK, True, "cuda"),
        ("auto", LARGE_WORK - 1, True, "cpu"),
        ("auto", LARGE_WORK, False, "cpu"),
        ("cpu", LARGE_WORK, True, "cpu"),
        ("cuda", 1, True, "cuda"),
    ],
)
def test_choose_takes_a_gpu_where_it_is_asked_for_or_the_work_is_large(
    device, entries, has_gpu, chosen
):
    assert choose(device, entries, has_gpu=has_gpu) == chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_merge_on_a_gpu_that_is_not_there_is_refused_and_writes_nothing(tmp_path):
    _, _, paths = made(tmp_path)
    before = sorted(tmp_path.iterdir())
    request = request_merge("ties", [str(paths[1])], base=str(paths[0]))
    place = [ModelLocation(checkpoint=paths[1])]
    with pytest.raises(InputError, match="no GPU") as refused:
        merge_models(request, place, paths[0], tmp_path / "out", device="cuda")
    assert refused.value.exit_status == 2
    assert sorted(tmp_path.iterdir()) == before


@GPU
def test_merge_of_much_work_takes_the_gpu_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "LARGE_WORK", 1)
    _, _, paths = made(tmp_path)
    request = request_merge("ties", [str(paths[1])], base=str(paths[0]))
    place = [ModelLocation(checkpoint=paths[1])]
    assert merge_models(request, place, paths[0], tmp_path / "out")["device"] == "cuda"


def test_backend_memory_that_does_not_suffice_is_one_message(tmp_path):
    backend = torch_backend(torch.device("cpu"))
    with pytest.raises(DeviceMemoryError, match="--device cpu") as found, backend.in_use():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore")
    assert (found.value.cause, found.value.exit_status) == ("oom", 1)
    assert "More" not in found.value.message


class Sink:
    """Takes rows in the place of files."""

    def write_rows(self, name, start, rows):
        self.written = rows.size


@pytest.mark.parametrize("models", [1, 2, 5])
def test_piece_in_flight_takes_the_memory_that_the_backend_states(tmp_path, monkeypatch, models):
    entries, block = 1 << 18, 1 << 16
    monkeypatch.setattr(torch_steps, "BLOCK", block)
    tensors = [{"a": torch.full((512, 512), 1.0 + i).bfloat16()} for i in range(models + 1)]
    paths = [saved(tmp_path / f"m{i}", tensor) for i, tensor in enumerate(tensors)]
    plan = planned("dare_ties", paths, density=0.5)
    backend = torch_backend(torch.device("cpu"))
    sink = Sink()
    merger = Merger(ModelRows(plan, backend), (), {}, sink)
    _, peak = peak_of(lambda: merger.write(("a", 0, 512)))
    assert sink.written == entries
    on_device, pinned = (6 * models + 24) * entries + 90 * block, (2 * models + 4) * entries
    assert 0.7 * (on_device + pinned) < peak <= on_device + pinned


def test_buffer_is_used_again_and_grows():
    for memory, address in (
        (TorchMemory(torch.device("cpu")), torch.Tensor.data_ptr),
        (ThreadMemory(), lambda values: values.ctypes.data),
    ):
        large = memory.buffer("x", (4, 5), "F32")
        assert address(memory.buffer("x", (10,), "F32")) == address(large)
        assert address(memory.buffer("y", (10,), "F32")) != address(large)
        assert address(memory.buffer("x", (10,), "F64")) != address(large)
        assert tuple(memory.buffer("x", (30,), "F32").shape) == (30,)


def test_rows_to_a_staged_device_and_back_are_copies():
    memory = TorchMemory(torch.device("cpu"))
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    moved = memory.to_device("a", rows)
    back = memory.to_host("a", moved)
    assert memory.numbers([torch.tensor(5), 3]) == [5, 3]
    assert back.tolist() == rows.flatten().tolist()
    assert len({rows.ctypes.data, moved.data_ptr()}) == 2


def test_rows_on_the_cpu_stay_where_they_lie():
    memory, rows = ThreadMemory(), np.arange(6, dtype=np.uint16).reshape(2, 3)
    moved = memory.to_device("a", rows)
    assert moved.shape == (6,) and moved.ctypes.data == rows.ctypes.data
    assert memory.to_host("a", moved) is moved
    assert memory.numbers([np.int64(5), 3]) == [5, 3]


def test_workers_raise_the_first_pieces_error_after_all_work_has_ended():
    at_work, done = [], []

    def work(piece):
        at_work.append(piece)
        if piece in (2, 5):
            raise InputError(f"piece {piece}")
        done.append(piece)

    with Workers(3) as workers:
        with pytest.raises(InputError, match="piece 2"):
            workers.each(range(100), work)
        seen = len(at_work)
        workers.each([1000], work)
    assert at_work[seen:] == [1000] and done[-1] == 1000
