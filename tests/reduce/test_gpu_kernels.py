"""The kernels in numba's CUDA simulator, which has to be chosen before numba is imported.

One test runs this file again in a process with the simulator; there the others run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ON = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
simulated = pytest.mark.skipif(not ON, reason="runs in the process with the simulator")
THREADS = 16
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(ON, reason="runs the others")
def test_kernels_in_the_simulator_pass_every_test_of_this_file():
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "8 passed, 1 skipped" in done.stdout


@pytest.fixture(scope="module")
def gpu():
    from raylab.reduce.gpu import Gpu
    from raylab.reduce.gpu_kernels import compiled

    # Threads of a block are threads of Python here, which have to take turns often.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield Gpu(torch.device("cpu"), compiled(THREADS))
    sys.setswitchinterval(before)


def entries(seed, size, spread):
    """Two models whose entries lie some decades apart, and are equal in every fifth place."""
    draws = np.random.default_rng(seed)
    scale = 10.0 ** draws.integers(-spread, spread + 1, size)
    a = (draws.standard_normal(size) * scale).astype(np.float32)
    b = (a * (1 + 1e-3 * draws.standard_normal(size))).astype(np.float32)
    b[::5] = a[::5]
    return torch.from_numpy(a), torch.from_numpy(b)


def assert_sums(gpu, a, b):
    """The sums of a - b, and the counts in some of its buckets, are those of plain torch."""
    from raylab.reduce.gpu_sums import Sums
    from raylab.reduce.histogram import bits_below, norms_of
    from tests.oracles.torch_histogram import bucket_moments, candidates, extremes

    exact = a.float() if b is None else a.float() - b.float()
    wanted = sorted({int(x) >> 16 for x in exact.abs().view(torch.int32)[:9]} | {0})
    tolerance = float(exact.abs().median())
    sums = Sums.empty(gpu.device, wanted, 1, bits_below(tolerance))
    gpu.add(a, b, sums, 0)
    moments, found = bucket_moments(exact), extremes(exact, tolerance)
    assert np.array_equal(sums.magnitudes().moments, moments)
    assert list(sums.by_tensor()) == [(0, norms_of(moments, found), found)]
    counted, expected = sums.candidates(wanted), candidates(exact, wanted)
    for bucket in wanted:
        for mine, other in zip(counted[bucket], expected[bucket], strict=True):
            assert mine.tolist() == other.tolist()


@simulated
@pytest.mark.parametrize("spread", [0, 3])
def test_kernel_of_float32_equals_plain_torch(gpu, spread):
    assert_sums(gpu, *entries(spread, 900, spread))


@simulated
def test_kernel_of_bf16_equals_plain_torch(gpu):
    a, b = entries(1, 900, 2)
    assert_sums(gpu, a.to(torch.bfloat16), b.to(torch.bfloat16))


@simulated
def test_kernel_of_magnitudes_outside_the_table_equals_plain_torch(gpu):
    """The table reaches 16 powers of two down; subnormal and far smaller ones go by it."""
    a, _ = entries(2, 120, 0)
    a[::2] *= 1e-20
    a[::6] = 1e-42
    assert_sums(gpu, a, None)


@simulated
def test_kernel_whose_glance_misses_the_largest_equals_plain_torch(gpu):
    a = torch.full((300,), 1e-30)
    a[[7, 111]] = torch.tensor([3e38, -2.5])
    assert_sums(gpu, a, None)


@simulated
def test_kernel_of_several_blocks_equals_plain_torch(gpu, monkeypatch):
    """Mostly zeros, which are counted by each thread, so that two blocks end soon."""
    from raylab.reduce.gpu_kernels import TAKEN

    a = torch.zeros(TAKEN + 500)
    a[:: TAKEN // 90] = torch.randn(len(a[:: TAKEN // 90]))
    assert_sums(gpu, a, None)


@simulated
def test_kernel_finds_what_is_not_finite(gpu):
    from raylab.reduce.gpu_sums import Sums
    from raylab.reduce.histogram import INFINITY

    for bad in (float("nan"), float("inf"), -float("inf")):
        a = torch.tensor([1.0, bad, 2.0])
        sums = Sums.empty(gpu.device, (), 1)
        gpu.add(a, None, sums, 0)
        [(_, _, extremes)] = sums.by_tensor()
        assert extremes.largest >= INFINITY


@simulated
def test_kernel_of_products_equals_whole_numbers_and_blas(gpu):
    """The simulator rounds twice where a GPU fuses, so whole numbers are compared exactly."""
    from raylab.weights.adapter_parts import Factors

    torch.manual_seed(0)
    whole = Factors(torch.randint(-9, 9, (5, 37)).float(), torch.randint(-9, 9, (11, 5)).float(), 2)
    assert torch.equal(gpu.product(whole, 2, 9), 2 * whole.up[2:9] @ whole.down)
    some = Factors(torch.randn(8, 37), torch.randn(11, 8), 0.5)
    assert torch.allclose(gpu.product(some, 0, 11), 0.5 * some.up @ some.down, atol=1e-5)
