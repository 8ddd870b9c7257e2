"""Records: last, atomic, and never trusted when damaged."""

import errno
import json
import math
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.errors import StoreError
from raylab.store.filesystem import Store
from raylab.store.records import (
    Attempt,
    Record,
    damaged_files,
    finite_or_none,
    folders_by_id,
    named_likelihoods,
    read_attempts,
    read_progress,
    read_record,
    read_records,
    trial_key,
    write_attempt,
    write_json,
    write_record,
)

FOLDER = "tiny.a.s1-0123456789abcdef"


def make_record(**changes):
    values = {
        "name": "tiny.a.s1", "id": "0123456789abcdef", "identity": {"seed": 1}, "data": {},
        "evaluation": "e", "versions": {"torch": "2"}, "metrics": {"l1": 0.1, "note": "日本語"},
    }  # fmt: skip
    return Record(**{**values, **changes})


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "out"))
    store.write(trial_key(FOLDER, "adapter", "weights"), b"12345678")
    store.write(trial_key(FOLDER, "samples.jsonl"), b"{}\n")
    return store


def test_record_written_reads_back_sealed(store):
    sealed = write_record(store, FOLDER, make_record())
    assert set(sealed.files) == {"adapter/weights", "samples.jsonl"}
    assert sealed.files["adapter/weights"].size == 8
    records, damaged = read_records(store)
    assert (records, damaged) == ({sealed.id: sealed}, [])
    assert damaged_files(store, FOLDER, sealed) == []
    assert read_record(store, FOLDER) == sealed


def test_record_of_one_folder_that_is_absent_or_damaged_is_none(store):
    assert read_record(store, FOLDER) is None
    write_record(store, FOLDER, make_record())
    store.write(trial_key(FOLDER, "samples.jsonl"), b"longer")
    assert read_record(store, FOLDER) is None
    store.write(trial_key(FOLDER, "record.json"), b'{"name": "tiny')
    assert read_record(store, FOLDER) is None


def test_record_sealed_again_is_the_same(store):
    once = write_record(store, FOLDER, make_record())
    assert write_record(store, FOLDER, make_record()) == once


def test_record_absent_after_crash_is_not_done(store):
    assert read_records(store) == ({}, [])


@pytest.mark.parametrize("call", [0, 1])
def test_record_crash_while_writing_leaves_none(call, store, monkeypatch):
    def crash(*_args):
        raise KeyboardInterrupt if call else OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises((StoreError, KeyboardInterrupt)):
        write_record(store, FOLDER, make_record())
    monkeypatch.undo()
    assert read_records(store) == ({}, [])
    assert sorted(store.files(trial_key(FOLDER))) == ["adapter/weights", "samples.jsonl"]


def test_record_is_written_after_every_file_was_measured(store, monkeypatch):
    order = []
    read, write = Store.read, Store.write
    monkeypatch.setattr(Store, "read", lambda s, k: (order.append(k), read(s, k))[1])
    monkeypatch.setattr(Store, "write", lambda s, k, d: (order.append(k), write(s, k, d))[1])
    write_record(store, FOLDER, make_record())
    assert order[-1] == trial_key(FOLDER, "record.json")
    assert len(order) == 3


def test_record_unmeasurable_file_means_no_record(store, monkeypatch):
    def fail(_self, key):
        raise StoreError(f"{key} cannot be read")

    monkeypatch.setattr(Store, "read", fail)
    with pytest.raises(StoreError):
        write_record(store, FOLDER, make_record())
    assert not store.exists(trial_key(FOLDER, "record.json"))


@pytest.mark.parametrize("content", [b"1234567", b"123456789", b"", None])
def test_record_file_of_wrong_size_is_named_damaged(content, store):
    sealed = write_record(store, FOLDER, make_record())
    if content is None:
        store.delete(trial_key(FOLDER, "adapter", "weights"))
    else:
        store.write(trial_key(FOLDER, "adapter", "weights"), content)
    records, damaged = read_records(store)
    assert records == {}
    [problem] = damaged
    assert FOLDER in problem
    assert "adapter/weights" in problem
    assert damaged_files(store, FOLDER, sealed) == ["adapter/weights"]


def test_record_changed_byte_of_equal_size_is_named(store):
    sealed = write_record(store, FOLDER, make_record())
    store.write(trial_key(FOLDER, "adapter", "weights"), b"12345679")
    assert damaged_files(store, FOLDER, sealed) == ["adapter/weights"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"name": 1}', b"null"])
def test_record_not_readable_is_named_damaged(content, store):
    store.write(trial_key(FOLDER, "record.json"), content)
    records, damaged = read_records(store)
    assert records == {}
    assert len(damaged) == 1
    assert FOLDER in damaged[0]


WRONG = {
    "name": 7, "id": None, "identity": [], "data": {"D0": 1}, "evaluation": {}, "versions": "2",
    "metrics": [], "files": {"adapter/weights": {"size": "eight", "sha256": "0"}},
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG)
def test_record_field_of_wrong_type_is_named_damaged(field, store):
    sealed = write_record(store, FOLDER, make_record())
    write_json(store, trial_key(FOLDER, "record.json"), sealed.model_dump() | {field: WRONG[field]})
    records, [problem] = read_records(store)
    assert records == {}
    assert FOLDER in problem
    assert field in problem
    assert read_record(store, FOLDER) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_record_cut_anywhere_is_named_damaged_and_whole_again_when_redone(data):
    with tempfile.TemporaryDirectory() as directory:
        store = Store(directory)
        store.write(trial_key(FOLDER, "adapter", "weights"), b"12345678")
        sealed = write_record(store, FOLDER, make_record())
        whole = store.read(trial_key(FOLDER, "record.json"))
        cut = data.draw(st.integers(0, len(whole.rstrip()) - 1))
        store.write(trial_key(FOLDER, "record.json"), whole[:cut])
        assert (read_records(store)[0], len(read_records(store)[1])) == ({}, 1)
        write_record(store, FOLDER, make_record())
        assert read_records(store) == ({sealed.id: sealed}, [])


def test_record_in_a_folder_of_its_id_is_sound_whatever_its_name(store):
    sealed = write_record(store, FOLDER, make_record(name="tiny.b.s1"))
    assert read_records(store) == ({sealed.id: sealed}, [])
    assert read_records(store).sound[sealed.id].folder == FOLDER
    assert read_record(store, FOLDER) == sealed
    assert b"folder" not in store.read(trial_key(FOLDER, "record.json"))


def test_folders_are_found_by_id_and_nothing_else_is(store):
    second = FOLDER.replace("tiny.a", "tiny.b")
    for folder in (second, FOLDER, "no-id", "-0123456789abcdef", "a-0123456789ABCDEF"):
        store.write(trial_key(folder, "log.txt"), b"")
    assert folders_by_id(store) == {"0123456789abcdef": FOLDER}


def test_likelihoods_get_the_names_of_the_same_rows():
    metrics = {"l1": 1.0, "likelihoods": {"D0": {"n": 0}, "D1": {"n": 1}, "D2": {"n": 2}}}
    record = make_record(metrics=metrics, held_out={"D0": "aa", "D1": "bb"})
    named = named_likelihoods(record, {"D1": "aa", "new": "bb", "twin": "bb", "more": "cc"})
    assert named["l1"] == 1.0
    assert list(named["likelihoods"].items()) == [
        ("D1", {"n": 0}), ("new", {"n": 1}), ("twin", {"n": 1}), ("D2", {"n": 2}),
    ]  # fmt: skip
    without = make_record()
    assert named_likelihoods(without, {"D1": "aa"}) == without.metrics


def test_record_of_another_trial_is_named_damaged(store):
    sealed = write_record(store, FOLDER, make_record(id="f" * 16))
    records, [problem] = read_records(store)
    assert records == {}
    assert FOLDER in problem
    assert f"{sealed.name}-{sealed.id}" in problem
    assert read_record(store, FOLDER) is None


@pytest.mark.parametrize("name", ["../other/weights", "/etc/hostname", "adapter", ""])
def test_record_that_names_a_file_elsewhere_is_damaged(name, store):
    store.write(trial_key("other", "weights"), b"12345678")
    sealed = write_record(store, FOLDER, make_record())
    entry = sealed.files["adapter/weights"]
    write_json(
        store,
        trial_key(FOLDER, "record.json"),
        sealed.model_copy(update={"files": {name: entry}}).model_dump(),
    )
    records, [problem] = read_records(store)
    assert records == {}
    assert "is gone" in problem


def test_record_of_one_folder_is_that_of_all(store):
    assert read_record(store, FOLDER) is None
    sealed = write_record(store, FOLDER, make_record())
    assert read_record(store, FOLDER) == sealed == read_records(store)[0][sealed.id]
    assert read_record(store, "none-1") is None


def test_record_one_damaged_leaves_the_others(store):
    write_record(store, FOLDER, make_record())
    store.write(trial_key("bad-1", "record.json"), b"{")
    store.write(trial_key("unfinished-2", "log.txt"), b"")
    records, damaged = read_records(store)
    assert list(records) == ["0123456789abcdef"]
    assert len(damaged) == 1


def test_record_leaves_out_what_goes_on_changing(store):
    write_attempt(store, FOLDER, Attempt(attempt=1, cause="oom"))
    write_json(store, trial_key(FOLDER, "progress.json"), {"time": 1})
    write_record(store, FOLDER, make_record())
    sealed = write_record(store, FOLDER, make_record())
    assert set(sealed.files) == {"adapter/weights", "samples.jsonl"}


@pytest.mark.parametrize("name", [".part-abc", "adapter/.part-abc"])
def test_record_leaves_out_the_remains_of_a_killed_writer(name, store):
    store.write(trial_key(FOLDER, name), b"half")
    sealed = write_record(store, FOLDER, make_record())
    assert set(sealed.files) == {"adapter/weights", "samples.jsonl"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_record_not_finite_metric_is_refused_and_leaves_none(value, store):
    with pytest.raises(ValueError, match="JSON"):
        write_record(store, FOLDER, make_record(metrics={"l1": value}))
    assert not store.exists(trial_key(FOLDER, "record.json"))
    assert finite_or_none(value) is None


def test_finite_or_none_other_values_pass():
    assert [finite_or_none(v) for v in (1.5, 0, "x", None)] == [1.5, 0, "x", None]


def test_write_json_is_plain_and_sorted(store):
    write_json(store, "x.json", {"b": "日本語", "a": 1})
    text = store.read("x.json").decode()
    assert json.loads(text) == {"a": 1, "b": "日本語"}
    assert "日本語" in text
    assert text.index('"a"') < text.index('"b"')


def test_attempts_read_in_order_of_number(store):
    for number in (10, 2, 1):
        write_attempt(store, FOLDER, Attempt(attempt=number, message=f"m{number}", gpus=("0",)))
    found = read_attempts(store, FOLDER)
    assert [attempt.attempt for attempt in found] == [1, 2, 10]
    assert found[0].gpus == ("0",)
    assert read_attempts(store, "none-1") == []


def test_progress_reads_or_is_none(store):
    assert read_progress(store, FOLDER) is None
    write_json(store, trial_key(FOLDER, "progress.json"), {"time": 1.5})
    assert read_progress(store, FOLDER) == {"time": 1.5}


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b"\xff", b'{"attempt": "one"}', b'{"cause": 1}']
)
def test_attempt_that_is_damaged_still_counts_and_says_so(text, store):
    write_attempt(store, FOLDER, Attempt(attempt=1, cause="oom"))
    store.write(trial_key(FOLDER, "attempts", "2.json"), text)
    store.write(trial_key(FOLDER, "attempts", "notes.json"), b"{}")
    first, second = read_attempts(store, FOLDER)
    assert (first.attempt, first.cause) == (1, "oom")
    assert (second.attempt, second.cause) == (2, "error")
    assert "damaged" in second.message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"time": "now"}'])
def test_progress_that_is_damaged_is_none(text, store):
    store.write(trial_key(FOLDER, "progress.json"), text)
    assert read_progress(store, FOLDER) is None
