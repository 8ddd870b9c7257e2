"""A trial and its child whose OUT is an object store that fails, from training to another node."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from raylab.cluster.study_context import prepare
from raylab.results.table_rows import read_results, trial_rows
from raylab.store.attempt_state import write_progress
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import damaged_files, read_attempts, read_progress, read_records
from tests.object_store import QUICK
from tests.store.faults import some
from tests.train.conftest import STUDY_TEXT, Bench, study_of

RECIPES = """
recipes:
  sft-d1: {method: sft, data: D1}
  stacked: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1, chain: stack}
"""
FAULTS = ("slow_down", "internal", "dropped", "answer_lost", "answer_cut")
WEIGHTS = "adapter_model.safetensors"
FETCH = f"""
import hashlib, sys
from raylab.store.references import find_model
for adapter in find_model(sys.argv[1]).location.adapters:
    print(adapter, hashlib.sha256((adapter / {WEIGHTS!r}).read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_trials_on_s3_that_fails_are_sound_and_fetched_elsewhere(
    s3_out, proxy, scratch, trained, tmp_path
):
    remote = Bench(study_of(STUDY_TEXT, RECIPES), s3_out)
    with proxy.failing(some(0.2, 5, FAULTS)):
        prepared = prepare(remote.study, s3_out)
        prepared.write_study()
        records = [remote.run(recipe) for recipe in ("sft-d1", "stacked")]
    assert sum(proxy.injected.values()) > 5
    store = Store(s3_out)
    assert read_records(store) == ({record.id: record for record in records}, [])
    for record, trial in zip(records, prepared.trials, strict=True):
        assert damaged_files(store, trial.folder, record) == []
        assert [attempt.cause for attempt in read_attempts(store, trial.folder)] == [None]
    assert [row["status"] for row in trial_rows(read_results(prepared.trials, store))] == [
        "done",
        "done",
    ]

    first = f"adapter/{WEIGHTS}"
    for record, recipe in zip(records, ("sft-d1", "stacked"), strict=True):
        assert record.files[first].sha256 == sha256(trained.adapter_bytes(recipe))

    places = prepared.places({record.id: record for record in records})
    place = places["demo.stacked.s42"]
    assert all(study_scratch(store) in adapter.parents for adapter in place.adapters)
    expected = [record.files[first].sha256 for record in records]
    assert [sha256((a / WEIGHTS).read_bytes()) for a in place.adapters] == expected

    with proxy.failing(some(0.2, 6, FAULTS)):
        elsewhere = fetched(f"{s3_out}#demo.stacked.s42", tmp_path / "elsewhere")
    assert [line.split()[1] for line in elsewhere] == expected
    assert all(line.startswith(str(tmp_path / "elsewhere")) for line in elsewhere)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def fetched(reference, scratch):
    """What another process finds, with a scratch space of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FETCH, reference],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "RAYLAB_SCRATCH": str(scratch),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_progress_that_cannot_be_stored_is_no_end_of_training(s3_out, proxy, caplog):
    store = Store(s3_out, replace(QUICK, stop_after=60))
    begun = time.monotonic()
    with proxy.failing(lambda request: "internal"):
        write_progress(store, "folder", {"step": 1, "steps": 2})
    assert time.monotonic() - begun < 5
    assert "the progress was not stored" in caplog.text
    write_progress(store, "folder", {"step": 2, "steps": 2})
    assert read_progress(Store(s3_out), "folder")["step"] == 2
