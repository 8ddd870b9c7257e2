"""Loops are compiled ahead in a process of its own, where no machine code is there."""

from __future__ import annotations

from raylab.cluster.compile_ahead import compile_ahead


def test_compile_ahead_without_machine_code_starts_a_process_that_loads_the_loops(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    started = compile_ahead(tmp_path)
    assert started.wait(timeout=300) == 0


def test_compile_ahead_with_machine_code_or_another_place_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert compile_ahead(tmp_path) is None
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (tmp_path / "__pycache__" / "loops-0123").mkdir(parents=True)
    assert compile_ahead(tmp_path) is None


def test_compile_ahead_knows_where_raylab_keeps_its_machine_code():
    from raylab.compiled import cache_directory

    assert cache_directory([]).match("raylab/__pycache__/loops-*")
