"""A store on S3: its whole contract, while the way to a real server fails again and again."""

from __future__ import annotations

import json
import logging
import pickle
import time

import pytest

from raylab.errors import OutError, StoreError
from raylab.store.filesystem import Store, study_scratch
from raylab.store.object_store import MAX_SINGLE_UPLOAD
from raylab.store.records import (
    RECORD,
    Record,
    damaged_files,
    read_record,
    read_records,
    trial_key,
    write_record,
)
from raylab.store.retry import RetryPolicy
from raylab.store.tables import read_table, write_table
from raylab.store.uri import reject_credentials
from tests.object_store import QUICK, uri_through
from tests.store.faults import some

LOUD = ("slow_down", "internal", "dropped", "answer_lost", "answer_cut")
BIG = bytes(range(256)) * (12_000_000 // 256)
FOLDER = "tiny.a.s1-0123456789abcdef"
IMPATIENT = RetryPolicy(
    stop_after=1.5,
    first_wait=0.05,
    longest_wait=0.3,
    connect_timeout=1,
    request_timeout=1,
    max_attempts=1,
)


def record_of(**changes):
    values = {
        "name": "tiny.a.s1", "id": "0123456789abcdef", "identity": {}, "data": {},
        "evaluation": "e", "versions": {}, "metrics": {"l1": 0.1},
    }  # fmt: skip
    return Record(**{**values, **changes})


def whole_contract(store, tmp_path):
    """Every operation of a store, each held against what it must give."""
    store.prepare()
    assert store.names("") == []
    for key, data in {"a/x": b"1", "a/b/y": b"22", "a/z": b"", "日本/語.txt": b"3"}.items():
        store.write(key, data)
        assert store.read(key) == data
    store.write("big", BIG)
    assert store.read("big") == BIG
    store.write("big", b"small again")
    assert (store.read("big"), store.size("big")) == (b"small again", 11)
    assert (store.exists("a/x"), store.exists("a"), store.exists("none")) == (True, True, False)
    assert (store.size("a/b/y"), store.size("none")) == (2, None)
    assert (store.read_if_there("a/b/y"), store.read_if_there("none")) == (b"22", None)
    assert (store.names("a"), store.names("none")) == (["b", "x", "z"], [])
    assert list(store.files("a")) == ["b/y", "x", "z"]
    assert store.sizes("a") == {"b/y": 2, "x": 1, "z": 0}
    store.delete("a/x")
    store.delete("a/x")
    assert store.names("a") == ["b", "z"]
    store.delete("a")
    assert not store.exists("a/b/y")
    _directories(store, tmp_path)
    _records_and_tables(store)
    assert Store(store.uri, QUICK).read("big") == b"small again"


def _directories(store, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True, exist_ok=True)
    (source / "sub" / "w").write_bytes(b"weights")
    (source / "c").write_bytes(b"{}")
    store.upload(source, "up")
    there = store.local("up", tmp_path / "scratch")
    assert (there / "sub" / "w").read_bytes() == b"weights"
    assert (there / "c").read_bytes() == b"{}"


def _records_and_tables(store):
    store.write(trial_key(FOLDER, "adapter", "weights"), b"12345678")
    store.write(trial_key(FOLDER, "samples.jsonl"), b"{}\n")
    assert read_records(store) == ({}, [])
    sealed = write_record(store, FOLDER, record_of())
    assert set(sealed.files) == {"adapter/weights", "samples.jsonl"}
    assert read_records(store) == ({sealed.id: sealed}, [])
    assert read_record(store, FOLDER) == sealed
    assert damaged_files(store, FOLDER, sealed) == []
    table = write_table(store, "attempts", [{"trial_id": "x", "attempt": 1, "seconds": 0.5}])
    assert read_table(store, "attempts") == table


def test_contract_without_faults_holds(remote, tmp_path):
    whole_contract(remote, tmp_path)


@pytest.mark.parametrize("seed", [0, 1])
def test_contract_while_a_third_of_all_requests_fail_holds(seed, remote, proxy, tmp_path):
    with proxy.failing(some(0.33, seed, LOUD)):
        whole_contract(remote, tmp_path)
    assert sum(proxy.injected.values()) > 20
    assert set(proxy.injected) == set(LOUD)


@pytest.mark.parametrize("data", [b"x" * 100, BIG], ids=["small", "big"])
@pytest.mark.parametrize("kind", ["internal", "dropped"])
def test_outage_in_the_middle_of_a_write_is_survived(kind, data, remote, proxy, behind):
    remote.write("key", b"old")
    begun = []

    def outage(request):
        if request.operation in ("put", "upload_part"):
            begun.append(time.monotonic())
        return kind if begun and time.monotonic() - begun[0] < 2 else None

    with proxy.failing(outage):
        remote.write("key", data)
    assert proxy.injected[kind] > 2
    assert behind.read("key") == data


@pytest.mark.parametrize("kind", ["slow_down", "dropped"])
@pytest.mark.parametrize("verb", ["read", "written", "listed", "deleted"])
def test_endless_outage_is_one_error_within_the_patience(verb, kind, s3_out, proxy):
    store = Store(s3_out, IMPATIENT)
    doing = {
        "read": lambda: store.read("a/b"),
        "written": lambda: store.write("a/b", b"new"),
        "listed": lambda: store.names("a"),
        "deleted": lambda: store.delete("a/b"),
    }[verb]
    started = time.monotonic()
    with proxy.failing(lambda request: kind), pytest.raises(StoreError) as caught:
        doing()
    assert 0.5 < time.monotonic() - started < IMPATIENT.stop_after + 1
    message = str(caught.value)
    assert message.startswith(f"s3://{store.root}/a")
    assert f"cannot be {verb}" in message
    assert "tried" in message and "expected: " in message and "to do: " in message
    assert caught.value.exit_status == 1
    assert len(proxy.seen) > 2


def test_silent_server_is_left_after_the_answers_patience(s3_out, proxy):
    store = Store(s3_out, IMPATIENT)
    started = time.monotonic()
    with proxy.failing(lambda request: "silent"), pytest.raises(StoreError, match="cannot be read"):
        store.read("a")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("size", [10, MAX_SINGLE_UPLOAD, MAX_SINGLE_UPLOAD + 1, len(BIG)])
@pytest.mark.parametrize("at", ["create_upload", "upload_part", "complete_upload", "put"])
@pytest.mark.parametrize("kind", ["denied", "internal"])
def test_write_that_fails_leaves_the_old_object(kind, at, size, s3_out, proxy, behind):
    """Of all its ways to fail: pyarrow closes a stream, which completes it, on any way out."""
    store = Store(s3_out, RetryPolicy(stop_after=0, max_attempts=1))
    store.write("key", b"old")
    reached = at in (
        ("put",)
        if size <= MAX_SINGLE_UPLOAD
        else ("create_upload", "upload_part", "complete_upload")
    )
    with proxy.failing(lambda request: kind if request.operation == at else None):
        if reached:
            with pytest.raises(StoreError):
                store.write("key", BIG[:size])
        else:
            store.write("key", BIG[:size])
    assert behind.read("key") == (b"old" if reached else BIG[:size])


def test_write_whose_last_part_fails_leaves_the_old_object(s3_out, proxy, behind):
    store = Store(s3_out, RetryPolicy(stop_after=0, max_attempts=1))
    store.write("key", b"old")
    refusing = proxy.failing(lambda r: "denied" if "partNumber=2" in r.path else None)
    with refusing, pytest.raises(StoreError):
        store.write("key", BIG)
    assert proxy.operations()["upload_part"] == 2
    assert behind.read("key") == b"old"


@pytest.mark.parametrize("verb", ["read", "write", "names", "delete", "exists"])
def test_access_denied_is_said_at_once(verb, remote, proxy):
    remote.write("a/b", b"1")
    arguments = {"write": ("a/b", b"2")}.get(verb, ("a/b",))
    with proxy.failing(lambda request: "denied"), pytest.raises(StoreError) as caught:
        getattr(remote, verb)(*arguments)
    assert len(proxy.seen) == 1
    assert "access is denied" in str(caught.value)
    assert remote.read("a/b") == b"1"


def test_absent_bucket_is_said_at_once(proxy, credentials):
    uri = uri_through(proxy.port, "x").replace("s3://bucket", "s3://no-such-bucket")
    with proxy.failing(), pytest.raises(OutError, match="no such bucket") as caught:
        Store(uri, QUICK).prepare()
    assert len(proxy.seen) <= 3
    assert caught.value.exit_status == 2


def test_absent_key_is_no_fault(remote, proxy):
    with proxy.failing():
        assert not remote.exists("none")
        assert remote.read_if_there("none") is None
        with pytest.raises(StoreError, match="none cannot be read"):
            remote.read("none")
    assert len(proxy.seen) <= 4


def test_long_outage_is_warned_of_once_for_an_operation(s3_out, proxy, caplog):
    caplog.set_level(logging.WARNING, "raylab.store")
    with proxy.failing(lambda r: "slow_down" if r.number < 8 else None):
        Store(s3_out, QUICK).write("a", b"1")
    assert [record.message.count("is tried again") for record in caplog.records] == [1]


def test_requests_of_small_writes_and_listings_are_few(remote, proxy):
    with proxy.failing():
        for index in range(30):
            remote.write(trial_key(f"t{index}", f"{index}.json"), b"1")
    assert proxy.operations() == {"put": 30}
    with proxy.failing():
        assert len(remote.sizes("trials")) == len(remote.names("trials")) == 30
    assert proxy.operations() == {"get": 2}


def test_records_are_found_with_one_listing_and_one_read_each(remote, proxy):
    for index in range(5):
        name, trial_id = f"tiny.a.s{index}", f"{index:016x}"
        remote.write(trial_key(f"{name}-{trial_id}", "adapter", "weights"), b"1234")
        write_record(remote, f"{name}-{trial_id}", record_of(name=name, id=trial_id))
    with proxy.failing():
        records, damaged = read_records(remote)
    assert (len(records), damaged) == (5, [])
    assert proxy.operations() == {"get": 1 + 5, "head": 5}


def test_object_cut_short_is_named_damaged(remote):
    remote.write(trial_key(FOLDER, "adapter", "weights"), b"12345678")
    sealed = write_record(remote, FOLDER, record_of())
    remote.write(trial_key(FOLDER, "adapter", "weights"), b"1234")
    records, damaged = read_records(remote)
    assert records == {}
    assert "adapter/weights has 4 bytes, not 8" in damaged[0]
    assert damaged_files(remote, FOLDER, sealed) == ["adapter/weights"]
    remote.write(trial_key(FOLDER, RECORD), json.dumps({"name": "x"}).encode()[:-3])
    assert "record.json" in read_records(remote)[1][0]
    assert read_record(remote, FOLDER) is None


def test_scratch_of_two_stores_is_apart(s3_out, scratch):
    one, two = Store(s3_out), Store(s3_out.replace("?", "/other?"))
    assert study_scratch(one) == study_scratch(Store(one.uri))
    assert study_scratch(one) != study_scratch(two)
    assert study_scratch(one).parent == scratch


SECRETS = [
    "s3://AKIA:hidden@bucket/x",
    "s3://AKIA:hid/den@bucket/x?region=us-east-1",
    "s3://AKIA:1/hidden@bucket/x",
    "s3://hidden@bucket/x",
    "hf://hidden@datasets/user/name/x",
    "s3://bucket/x?access_key=AKIA&secret_key=hidden",
    "s3://bucket/x?session_token=hidden",
    "s3://bucket/x?endpoint_override=AKIA:hidden@localhost:1&region=us-east-1",
    "s3://AKIA%3Ahidden@bucket/x",
    "S3://AKIA:hidden@bucket/x",
    "gs://user:hidden@bucket/x",
    "file://user:hidden@/tmp/x",
    "hdfs://user:hidden@host:8020/x",
    "hdfs://user:hid/den@host:8020/x",
    "hdfs://user%3Ahidden@host/x",
    "abfs://container:hidden@account.dfs.core.windows.net/x",
    "abfs://:hidden@account.blob.core.windows.net/container/x",
    "abfss://container@account.dfs.core.windows.net/x?client_secret=hidden",
    "gcs://bucket/x?credentials=hidden",
]
ADDRESSES = [
    "hdfs://host:1/p",
    "hdfs://user@host:8020/p",
    "hdfs://[2001:db8::1]:8020/p",
    "viewfs://cluster/p",
    "gcs://bucket/p",
    "abfs://container@account.dfs.core.windows.net/p",
    "abfss://container@account.dfs.core.windows.net/p?credential_kind=environment",
    "abfs://account@localhost:10000/container/p?enable_tls=false",
    "hf://datasets/user/name@main/p",
    "s3://bucket/mail@home?endpoint_override=localhost:9000&scheme=http",
    "file://host/tmp/x:y",
]


@pytest.mark.parametrize("out", SECRETS)
def test_address_with_credentials_is_refused_and_not_repeated(out):
    with pytest.raises(OutError) as caught:
        Store(out)
    for words in (
        str(caught.value),
        repr(caught.value),
        str(pickle.loads(pickle.dumps(caught.value))),
    ):
        assert not any(part in words for part in ("AKIA", "hidden", "hid/den"))
    assert caught.value.exit_status == 2
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_with_a_port_or_a_name_holds_no_credentials(address):
    reject_credentials(address)


@pytest.mark.parametrize("out", ["s3://localhost:9000/bucket/x", "gs://bucket:1/x"])
def test_port_of_a_bucket_is_refused_as_a_port(out):
    with pytest.raises(OutError, match="a bucket has no port") as caught:
        Store(out)
    assert "endpoint_override=" in str(caught.value)


def test_address_of_a_scheme_without_a_store_is_refused_with_those_that_have_one():
    with pytest.raises(OutError) as caught:
        Store("ftp://host:21/x")
    for scheme in ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "hf"):
        assert f"{scheme}://" in str(caught.value)


def test_address_of_azure_and_google_opens_without_a_request():
    assert Store("gcs://anonymous@bucket/x").root == "bucket/x"
    place = "abfs://container@account.dfs.core.windows.net/x?credential_kind=anonymous"
    assert Store(place).root == "container/x"


def test_model_behind_credentials_is_refused_and_not_repeated():
    from raylab.store.references import find_model

    for reference in ("s3://AKIA:hidden@bucket/x#a", "s3://AKIA:hidden@bucket/x"):
        with pytest.raises(OutError) as caught:
            find_model(reference)
        assert "hidden" not in str(caught.value)


def test_addresses_without_credentials_open():
    assert Store("s3://bucket/a/b?region=us-east-1").root == "bucket/a/b"
    assert Store("gs://anonymous@bucket/x").root == "bucket/x"
    assert Store("s3://bucket/x?region=eu-west-1").address("k") == "s3://bucket/x/k"
    assert Store("file:///tmp/x").address("k") == "/tmp/x/k"
