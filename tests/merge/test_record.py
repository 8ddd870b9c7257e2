"""The files of a merge are on the disk and hashed when its record is written."""

from __future__ import annotations

import hashlib

import pytest

from raylab.merge import record


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_files_have_their_size_and_sha256_whatever_the_block(tmp_path, monkeypatch, block):
    monkeypatch.setattr(record, "_BLOCK", block)
    contents = {
        "a.safetensors": b"x" * 100,
        "sub/b.json": b"{}",
        "empty": b"",
        "c": bytes(range(256)),
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = record.flushed_files(tmp_path)
    assert {name: (entry.size, entry.sha256) for name, entry in found.items()} == {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }


def test_what_is_done_meanwhile_is_done_once_and_its_error_is_raised(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    called = []
    record.flushed_files(tmp_path, lambda: called.append(1))
    assert called == [1]

    def fail():
        raise OSError("no library")

    with pytest.raises(OSError, match="no library"):
        record.flushed_files(tmp_path, fail)
