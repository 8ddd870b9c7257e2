"""The cache of compiled loops: never the code of other sources."""

from __future__ import annotations

import ast
from pathlib import Path

from raylab import compiled
from raylab.merge import compiled_steps
from raylab.reduce import histogram_numba

PACKAGE = Path(compiled.__file__).parent


def test_cache_directory_changes_with_any_byte_or_name_of_a_file(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1\n")
    other.write_text("b = 2\n")
    before = compiled.cache_directory([one, other])
    assert compiled.cache_directory([other, one]) == before
    other.write_text("b = 3\n")
    changed = compiled.cache_directory([one, other])
    assert changed != before
    other.rename(tmp_path / "third.py")
    assert compiled.cache_directory([one, tmp_path / "third.py"]) not in (before, changed)


def test_loops_are_cached_in_the_directory_of_their_sources():
    files = [*(PACKAGE / "reduce").glob("*.py"), *(PACKAGE / "merge").glob("*.py")]
    expected = compiled.cache_directory(files)
    for loop in (compiled_steps._trim, histogram_numba._squares_bf16):
        # numba offers no public name for the place of a function's cache (0.68.1).
        assert (
            Path(loop._cache.cache_path).parent == expected
            or expected in Path(loop._cache.cache_path).parents
        )


def test_modules_take_njit_from_compiled_alone():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "numba":
                names = {alias.name for alias in node.names}
                if names & {"njit", "jit", "vectorize"} and file.name != "compiled.py":
                    wrong.append(str(file))
    assert wrong == []
