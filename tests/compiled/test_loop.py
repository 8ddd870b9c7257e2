"""Compiled loops: their machine code gives what Python gives, is kept, and runs without numba."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from raylab import compiled
from raylab.compiled import machine_code, njit, types
from raylab.merge import compiled_steps
from raylab.reduce.intrinsics import as_bits, on_stack

PACKAGE = Path(compiled.__file__).parents[1]
FLOATS = types.Array(types.float32, 1, "C", readonly=True)
SIXTEEN = 16
LOOPS = """
import sys
import numpy as np
from raylab.compiled import njit, types

@njit()
def twice(value):
    return 2 * value

@njit(types.float64(types.float64[::1]))
def total(values):
    found = 0.0
    for i in range(values.size):
        found += twice(values[i])
    return found
"""
ALL_LOOPS = """
import sys
from importlib import import_module
from pathlib import Path
import raylab
from raylab.compiled import Loop

package, found = Path(raylab.__file__).parent, 0
for file in (*(package / "reduce").glob("*.py"), *(package / "merge").glob("*.py")):
    if "njit(" in file.read_text():
        module = import_module(f"raylab.{file.parent.name}.{file.stem}")
        own = [v for v in vars(module).values() if isinstance(v, Loop)]
        for loop in (loop for loop in own if loop.function.__module__ == module.__name__):
            found += len([loop._load(place) for place in range(len(loop.signatures))])
print(found, "numba" in sys.modules)
"""


@njit()
def _square(value: float) -> float:
    return value * value


@njit(types.float64(FLOATS, types.int32, types.float32, types.boolean))
def _norm(values: np.ndarray, every: int, scale: float, is_square: bool) -> float:
    total = 0.0
    for i in range(0, values.size, every):
        value = np.float64(values[i]) * scale
        total += _square(value) if is_square else abs(value)
    return total


@njit([types.int64(types.float32[::1]), types.int64(types.float64[:, ::1])])
def _size(values: np.ndarray) -> int:
    return values.size * values.itemsize


@njit(types.int64(types.int64))
def _fibonacci(number: int) -> int:
    return number if number < 2 else _fibonacci(number - 1) + _fibonacci(number - 2)


@njit(types.int64(types.int64, types.int64))
def _quotient(one: int, other: int) -> int:
    return one // other


@njit(types.void(FLOATS, types.int32[::1]))
def _reversed_bits(values: np.ndarray, found: np.ndarray) -> None:
    memory = on_stack(SIXTEEN, np.int32)
    for i in range(SIXTEEN):
        memory[i] = as_bits(values[i])
    for i in range(SIXTEEN):
        found[i] = memory[SIXTEEN - 1 - i]


def test_loop_takes_numbers_and_arrays_and_calls_other_loops():
    values = np.arange(-5, 5, dtype=np.float32)
    values.flags.writeable = False
    assert _norm(values, 2, 0.5, True) == float(((values[::2] * 0.5) ** 2).sum())
    assert _norm(values, 3, np.float32(2), False) == float(np.abs(values[::3] * 2).sum())
    assert _norm(values[:0], 1, 1.0, False) == 0


def test_loop_with_signatures_takes_the_one_that_fits():
    assert _size(np.zeros(3, np.float32)) == 12
    assert _size(np.zeros((2, 3))) == 48


def test_loop_calls_itself():
    assert [_fibonacci(n) for n in range(10)] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


def test_loop_works_in_memory_of_the_stack():
    values, found = np.random.default_rng(1).normal(size=16).astype(np.float32), np.empty(16, "i4")
    _reversed_bits(values, found)
    assert found.tolist() == values.view(np.int32)[::-1].tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(8, np.float32)[::2], [0.0],
        np.zeros(17, np.uint8)[1:].view(np.float32),
    ],
)  # fmt: skip
def test_array_of_another_dtype_shape_or_layout_is_refused(wrong):
    with pytest.raises(TypeError):
        _norm(wrong, 1, 1.0, False)


def test_array_that_a_loop_writes_to_must_be_writeable():
    found = np.zeros(16, np.int32)
    found.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        _reversed_bits(np.zeros(16, np.float32), found)


def test_loop_that_ends_with_an_exception_raises():
    assert _quotient(7, 2) == 3
    with pytest.raises(ArithmeticError, match="_quotient"):
        _quotient(7, 0)


def test_loop_without_a_signature_cannot_be_called_by_python():
    with pytest.raises(TypeError, match="signature"):
        _square(2.0)
    with pytest.raises(TypeError, match="loops alone"):
        as_bits(1.0)


@pytest.fixture
def totals(tmp_path):
    """Runs a loop in processes that keep code in `tmp_path`: its result, and whether numba was
    there."""
    (tmp_path / "kept_loops.py").write_text(LOOPS)
    code = (
        "import numpy as np, sys, kept_loops\n"
        "print(kept_loops.total(np.arange(10.0)), 'numba' in sys.modules)"
    )
    environment = {
        "PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }

    def run(**more: str) -> str:
        command, env = [sys.executable, "-c", code], {**environment, **more}
        return subprocess.run(
            command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        ).stdout.strip()

    return run


def test_second_process_runs_kept_code_without_numba(totals, tmp_path):
    assert [totals(), totals()] == ["90.0 True", "90.0 False"]
    (kept,) = tmp_path.glob("loops-*/*")
    assert kept.name == "kept_loops.total.0.o"


def test_damaged_code_is_made_and_kept_anew(totals, tmp_path):
    totals()
    (kept,) = tmp_path.glob("loops-*/*")
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        kept.write_bytes(damaged)
        assert totals() == "90.0 True"
        assert kept.read_bytes() == whole
    assert totals() == "90.0 False"


def test_code_that_cannot_be_linked_is_made_anew(totals, tmp_path):
    totals()
    (kept,) = tmp_path.glob("loops-*/*")
    kept.write_bytes(sha256(b"no object file").digest() + b"no object file")
    assert totals() == "90.0 True"


def test_code_that_others_may_have_written_is_made_and_kept_anew(totals, tmp_path):
    totals()
    (kept,) = tmp_path.glob("loops-*/*")
    kept.chmod(0o666)
    assert totals() == "90.0 True"
    assert kept.stat().st_mode & 0o777 == 0o644 & ~umask()
    kept.unlink()
    os.mkfifo(kept)
    assert [totals(), totals()] == ["90.0 True", "90.0 False"]


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.parametrize(
    ("owner", "mode", "package", "trusted"),
    [
        (os.geteuid(), 0o644, 0o644, True), (0, 0o444, 0o644, True), (4242, 0o644, 0o644, True),
        (4343, 0o644, 0o644, False), (os.geteuid(), 0o664, 0o644, False),
        (os.geteuid(), 0o646, 0o664, False), (os.geteuid(), 0o664, 0o664, True),
        (os.geteuid(), 0o666, 0o777, True),
    ],
)  # fmt: skip
def test_code_is_trusted_by_owner_and_permissions(owner, mode, package, trusted):
    def file_of(owner, mode):
        return os.stat_result([stat.S_IFREG | mode, 1, 1, 1, owner, 0, 0, 0, 0, 0])

    assert machine_code.is_trusted(file_of(owner, mode), file_of(4242, package)) == trusted


def test_loop_runs_where_nothing_can_be_kept(totals, tmp_path):
    (tmp_path / "file").touch()
    assert totals(NUMBA_CACHE_DIR=str(tmp_path / "file")) == "90.0 True"


def test_loop_runs_where_a_user_turns_numba_off(totals):
    off = {"NUMBA_DISABLE_JIT": "1"}
    assert [totals(**off), totals(**off)] == ["90.0 True", "90.0 False"]


def test_all_loops_of_the_package_run_without_numba():
    """None needs numba's memory or Python's objects, which only a process with numba has."""
    for _ in ("compiled where it was not", "loaded"):
        command = [sys.executable, "-c", ALL_LOOPS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    count, is_numba_there = done.stdout.split()
    assert int(count) > 40
    assert is_numba_there == "False"


def test_machine_code_lies_in_the_directory_of_its_sources():
    compiled_steps.trim(np.zeros(4, np.float32), 1.0)
    files = [f for name in ("compiled", "reduce", "merge") for f in (PACKAGE / name).glob("*.py")]
    assert machine_code.directory().parent == PACKAGE / "__pycache__"
    assert (machine_code.directory() / "raylab.merge.compiled_steps._trim.0.o").is_file()
    changed = machine_code.digest_of(files[1:], "")
    assert machine_code.digest_of(files, "") == machine_code.digest_of(files[::-1], "") != changed


def test_digest_changes_with_any_byte_or_name_of_a_file_and_with_what_made_it(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1\n")
    other.write_text("b = 2\n")
    found = {machine_code.digest_of([one, other], "")}
    found.add(machine_code.digest_of([one, other], "another CPU"))
    other.write_text("b = 3\n")
    found.add(machine_code.digest_of([one, other], ""))
    other.rename(tmp_path / "third.py")
    found.add(machine_code.digest_of([one, tmp_path / "third.py"], ""))
    assert len(found) == 4


def test_modules_take_njit_from_compiled_alone():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "numba":
                names = {alias.name for alias in node.names}
                if names & {"njit", "jit", "vectorize"} and file.parent.name != "compiled":
                    wrong.append(str(file))
    assert wrong == []


def test_code_and_constants_of_a_loop_are_kept_together(monkeypatch):
    # LLVM's older linker (llvmlite 0.50.0) ends the process where they lie 2 GB apart.
    asked: dict[str, bool] = {}
    known = machine_code._llvm().create_lljit_compiler
    monkeypatch.setattr(
        machine_code._llvm(),
        "create_lljit_compiler",
        lambda *given, **options: asked.update(options) or known(*given, **options),
    )
    machine_code._linker.__wrapped__()
    assert asked == {"use_jit_link": True}
