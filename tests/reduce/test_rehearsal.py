"""A rehearsal runs the loops that a reduction of adapters runs, and leaves no file."""

from __future__ import annotations

import tempfile

import pytest

from raylab.compiled.loop import Loop
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.rehearsal import rehearse
from raylab.reduce.row_block import Pair
from raylab.store.references import ModelLocation
from tests.reduce.models import random_factors, write_adapter

MODELS = ("one", "two", "three")


@pytest.fixture
def loops(monkeypatch):
    """The loops that Python has called, with the place of the signature."""
    called: set[tuple[str, int]] = set()
    run = Loop._run

    def noted(self, place, words_of, words):
        called.add((f"{self.function.__module__}.{self.__name__}", place))
        return run(self, place, words_of, words)

    monkeypatch.setattr(Loop, "_run", noted)
    return called


def test_loops_of_a_reduction_of_adapters_are_those_of_a_rehearsal(loops, tmp_path):
    rehearse()
    rehearsed = set(loops)
    loops.clear()
    places = {
        name: ModelLocation(
            adapters=(write_adapter(tmp_path / name, random_factors(seed, rank=seed), rank=seed),)
        )
        for seed, name in enumerate(MODELS, 2)
    }
    pairs = (Pair("one~two", "one", "two"), Pair("three~one", "three", "one"))
    job = Job(places, pairs, vectors=MODELS, groups=(MODELS, MODELS[:2]), device="cpu")
    found = reduce_pairs(job, [0.1, 0.2, 1], InProcess(), subspaces=True, phi=True)
    assert found.pairs
    assert found.kept_by
    assert loops == rehearsed


def test_rehearsal_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rehearse().norms
    assert not list(tmp_path.iterdir())
