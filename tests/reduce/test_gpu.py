"""A reduction as on a GPU, its operations on this CPU, against the CPU's loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from raylab.errors import DeviceMemoryError, InputError, NonFiniteError
from raylab.reduce import gpu as module
from raylab.reduce import gpu_sums, job, passes
from raylab.reduce.diff import DiffRequest, diff
from raylab.reduce.gpu import Gpu
from raylab.reduce.gpu_sums import Sums
from raylab.reduce.histogram import bits_below, exact_sums, norms_of
from raylab.reduce.job import InProcess, Job, gpu_for
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import BASE, Pair
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation, find_model
from raylab.weights.alignment import Tolerance
from raylab.weights.views import View
from tests.oracles.torch_histogram import bucket_moments, candidates, extremes
from tests.reduce.models import (
    Q0,
    UP0,
    on_gpu,
    random_factors,
    random_weights,
    write_adapter,
    write_checkpoint,
)

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
DENSITIES = (0.01, 0.2, 0.5, 1.0)
TILE = 24 * 23
TABLES = ("norms", "densities", "curve", "pairs")


def checkpoints(path, dtype):
    """A base model and three others, one of them near it, so that many differences tie."""
    made = {"base": random_weights(0, dtype)}
    for seed, name in enumerate(("near", "far", "half"), 1):
        other = random_weights(seed, dtype)
        step = 1e-2 if name == "near" else 1.0
        made[name] = {n: (t + step * (other[n] - t)).to(dtype) for n, t in made["base"].items()}
    made["half"][Q0] = made["base"][Q0].clone()
    for name, tensors in made.items():
        write_checkpoint(path / name, tensors)
    return {n: ModelLocation(checkpoint=path / n, base=path / "base") for n in made if n != "base"}


def adapters(path):
    """Two adapters and a chain of both over one base model."""
    write_checkpoint(path / "base", random_weights(0))
    one = write_adapter(path / "one", random_factors(1))
    two = write_adapter(path / "two", random_factors(2, (Q0, UP0), rank=40), rank=40)
    chains = {"one": (one,), "two": (two,), "both": (one, two)}
    return {name: ModelLocation(adapters=c, base=path / "base") for name, c in chains.items()}


def tables_of(places, shards=2, **options):
    names = list(places)
    pairs = [Pair(f"{a}~{b}", a, b) for a, b in itertools.pairwise(names)]
    pairs.append(Pair("to the base", names[0], BASE))
    base = next(iter(places.values())).base
    job = Job(places | {BASE: ModelLocation()}, tuple(pairs), base, vectors=tuple(names), **options)
    return reduce_pairs(job, DENSITIES, InProcess(), shards)


def assert_equal(mine, cpu, within=0.0):
    """Rows of all tables; whole numbers and texts are equal, others `within` a relative error."""
    for table in TABLES:
        rows, expected = getattr(mine, table), getattr(cpu, table)
        assert len(rows) == len(expected) > 0
        for row, other in zip(rows, expected, strict=True):
            assert list(row) == list(other)
            for key, value in row.items():
                if key in ("relative_l2", "cosine") and value is not None:
                    assert value == pytest.approx(other[key], rel=1e-9, abs=max(1e-12, within))
                elif isinstance(value, float) and within:
                    assert value == pytest.approx(other[key], rel=within, abs=1e-30), (table, key)
                else:
                    assert value == other[key], (table, key)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shards", [1, 3])
def test_gpu_checkpoints_have_the_numbers_of_the_cpu(tmp_path, monkeypatch, dtype, shards):
    places = checkpoints(tmp_path, dtype)
    cpu = tables_of(places, shards)
    on_gpu(monkeypatch, TILE)
    assert_equal(tables_of(places, shards), cpu)


def test_gpu_whose_sample_errs_reads_again_and_changes_nothing(tmp_path, monkeypatch):
    places = checkpoints(tmp_path, torch.float32)
    cpu = tables_of(places)
    on_gpu(monkeypatch, TILE)
    monkeypatch.setattr(passes, "foresee", lambda *_: (0x3F80,))
    monkeypatch.setattr(passes, "guess", lambda *_: 0x3F800000)
    found = tables_of(places)
    assert found.passes > 1
    assert found.bytes_read_again > 0
    assert_equal(found, cpu)


def test_gpu_adapters_and_chains_are_within_a_millionth_of_the_cpu(tmp_path, monkeypatch):
    places = adapters(tmp_path)
    cpu = tables_of(places)
    on_gpu(monkeypatch, TILE)
    found = tables_of(places)
    for table in ("norms", "densities"):
        for row, other in zip(getattr(found, table), getattr(cpu, table), strict=True):
            for key in ("l1", "l2"):
                assert row[key] == pytest.approx(other[key], rel=1e-6)
    for row, other in zip(found.densities, cpu.densities, strict=True):
        one, two = np.float32([row["threshold"], other["threshold"]])
        assert abs(int(one.view(np.int32)) - int(two.view(np.int32))) <= 1


@pytest.mark.parametrize("view", ["merged", "dequantized"])
def test_gpu_views_have_the_bits_of_the_cpu(tmp_path, monkeypatch, view):
    """PEFT's rounding and the 4 bits are the CPU's, so the numbers are."""
    places = adapters(tmp_path)
    shown = View(view, Quantization() if view == "dequantized" else None)
    cpu = tables_of(places, view=shown)
    on_gpu(monkeypatch, TILE)
    # Row tiles of another height may round other products.
    monkeypatch.setattr(module, "TILE_ENTRIES", 1 << 18)
    assert_equal(tables_of(places, view=shown), cpu)


def test_gpu_finds_nan_and_leaves_it_out_where_asked(tmp_path, monkeypatch):
    tensors = random_weights(1)
    tensors[UP0][3, 5] = math.nan
    one = find_model(str(write_checkpoint(tmp_path / "one", tensors)))
    two = find_model(str(write_checkpoint(tmp_path / "two", random_weights(2))))
    skip = DiffRequest(one, two, tolerance=Tolerance(non_finite="skip"))
    cpu = diff(skip).document
    on_gpu(monkeypatch, TILE)
    with pytest.raises(NonFiniteError, match="not finite") as caught:
        job = Job({"a": one.location, "b": two.location}, (Pair("p", "a", "b"),))
        reduce_pairs(job, DENSITIES, InProcess())
    assert UP0 in str(caught.value)
    found = diff(skip).document
    assert found["accounting"]["non_finite"] == 1
    for key in ("numel", "norms", "densities", "layers"):
        assert found[key] == cpu[key]


@pytest.mark.parametrize("second", [None, *DTYPES])
@pytest.mark.parametrize("first", DTYPES)
def test_gpu_sums_of_any_dtypes_equal_plain_torch(monkeypatch, first, second):
    monkeypatch.setattr(gpu_sums, "_TORCH_ENTRIES", 700)
    torch.manual_seed(1)
    scale = 10.0 ** torch.randint(-6, 3, (3, 1000))
    a = (torch.randn(3, 1000) * scale).to(first)
    b = None if second is None else (a.float() + 0.01 * torch.randn(3, 1000) * scale).to(second)
    if b is not None:
        b[:, ::7] = a[:, ::7].to(second)
    exact = a.float() if b is None else a.float() - b.float()
    wanted = sorted({int(x) >> 16 for x in exact.abs().view(torch.int32)[:, 14:17].flatten()} | {0})
    gpu = Gpu(torch.device("cpu"), None)
    sums = Sums.empty(gpu.device, wanted, 2, bits_below(1e-5))
    gpu.add(a, b, sums, 1)
    moments, found = bucket_moments(exact), extremes(exact, 1e-5)
    assert 0 < found.moved < found.nonzero
    assert np.array_equal(sums.magnitudes().moments, moments)
    [(tensor, norms, ends)] = sums.by_tensor()
    assert (tensor, norms, ends) == (1, norms_of(moments, found), found)
    assert (norms.l1_exact, norms.l2_exact) == exact_sums(moments)
    counted, expected = sums.candidates(wanted), candidates(exact, wanted)
    for bucket in wanted:
        for mine, other in zip(counted[bucket], expected[bucket], strict=True):
            assert mine.tolist() == other.tolist()


def test_gpu_whose_memory_does_not_suffice_says_what_to_do(tmp_path, monkeypatch):
    """Not even a real allocation of so much: torch raises the same error on a CPU's behalf."""
    places = checkpoints(tmp_path, torch.bfloat16)
    on_gpu(monkeypatch, TILE)

    def allocate(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")

    monkeypatch.setattr(Gpu, "add", allocate)
    with pytest.raises(DeviceMemoryError) as caught:
        tables_of(places)
    assert "Tried to allocate 2.00 GiB. (tiles" in str(caught.value)
    assert "--device cpu" in str(caught.value)


def test_shards_are_planned_without_a_gpu(tmp_path, monkeypatch):
    """A driver plans shards for actors, and the GPUs of its machine are theirs."""
    places = checkpoints(tmp_path, torch.bfloat16)
    monkeypatch.setattr(job, "gpu_for", lambda *_: pytest.fail("a GPU was taken"))
    asked = []

    def execute(_, calls):
        asked.extend(calls)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        reduce_pairs(Job(places, (Pair("p", "near", "far"),)), DENSITIES, execute)
    assert {call.method for call in asked} == {"sample"}


def test_gpu_tiles_depend_on_the_number_of_models_alone():
    gpu = Gpu(torch.device("cpu"), None)
    assert [gpu.tile_entries(n) for n in (1, 32, 33, 64, 320)] == [
        1 << 25, 1 << 25, 1 << 24, 1 << 24, (1 << 25) // 10,
    ]  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_that_is_not_there_is_an_input_error():
    with pytest.raises(InputError, match="no GPU"):
        gpu_for("cuda", 1, False)
    assert gpu_for("auto", 1 << 40, True) is None
    assert gpu_for("cpu", 1 << 40, True) is None


def test_gpu_is_chosen_where_the_work_is_large(monkeypatch):
    monkeypatch.setattr(job, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "own_gpu", lambda: "the GPU")
    assert gpu_for("auto", 1 << 20, True) is None
    assert gpu_for("auto", 1 << 26, True) == "the GPU"
    assert gpu_for("auto", 1 << 26, False) is None
    assert gpu_for("auto", 1 << 30, False) == "the GPU"
    assert gpu_for("cuda", 1, False) == "the GPU"
