"""The store: whole or not at all."""

import os

import pytest

from raylab.errors import OutError, StoreError
from raylab.store import filesystem as paths
from raylab.store.filesystem import Store, scratch_space


@pytest.fixture(params=["directory", "uri"])
def store(request, tmp_path):
    out = tmp_path / "out"
    return Store(str(out) if request.param == "directory" else out.as_uri())


def test_write_then_read_gives_the_bytes(store):
    store.write("a/b/c.bin", b"\x00\xff")
    assert store.read("a/b/c.bin") == b"\x00\xff"
    assert (store.size("a/b/c.bin"), store.exists("a/b/c.bin")) == (2, True)
    assert (store.size("no"), store.exists("no")) == (None, False)


@pytest.mark.parametrize("broken", ["fsync", "replace", "write"])
def test_write_that_fails_leaves_old_content(broken, store, monkeypatch):
    store.write("a/file", b"old")

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif broken == "replace":
        monkeypatch.setattr(paths.Path, "replace", fail)
    else:
        monkeypatch.setattr(os, "fdopen", fail)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.write("a/file", b"new content")
    assert caught.value.exit_status == 1
    monkeypatch.undo()
    assert store.read("a/file") == b"old"
    assert list(store.files("")) == ["a/file"] or list(store.files("a")) == ["file"]


def test_write_interrupted_leaves_old_content_and_nothing_else(store, monkeypatch):
    store.write("a/file", b"old")

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write("a/file", b"new")
    monkeypatch.undo()
    assert store.read("a/file") == b"old"
    assert store.names("a") == ["file"]


def test_write_is_on_disk_before_it_is_renamed(store, monkeypatch):
    order = []
    fsync, replace = os.fsync, paths.Path.replace
    monkeypatch.setattr(os, "fsync", lambda f: (order.append("fsync"), fsync(f))[1])
    monkeypatch.setattr(
        paths.Path, "replace", lambda s, t: (order.append("replace"), replace(s, t))[1]
    )
    store.write("file", b"x")
    assert order[:2] == ["fsync", "replace"]


def test_read_absent_raises_with_address(store):
    with pytest.raises(StoreError, match="no/such"):
        store.read("no/such")


def test_delete_file_folder_and_absent(store):
    store.write("a/b", b"1")
    store.write("a/c", b"2")
    store.delete("a/b")
    assert store.names("a") == ["c"]
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_link_to_nothing_is_not_listed_and_a_link_to_a_folder_is_only_unlinked(tmp_path):
    store = Store(str(tmp_path / "out"))
    store.write("a/b", b"1")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"2")
    (tmp_path / "out" / "a" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "out" / "a" / "folder").symlink_to(tmp_path / "kept")
    assert store.names("a") == ["b", "folder"]
    assert store.sizes("a") == {"b": 1, "folder/file": 1}
    store.delete("a/folder")
    assert (tmp_path / "kept" / "file").exists()
    assert store.names("a") == ["b"]


def test_names_and_files_are_sorted_and_relative(store):
    for key in ("t/z", "t/a/2", "t/a/1", "t/b"):
        store.write(key, b"")
    assert store.names("t") == ["a", "b", "z"]
    assert list(store.files("t")) == ["a/1", "a/2", "b", "z"]
    assert (store.names("no"), list(store.files("no"))) == ([], [])


def test_upload_then_local_gives_the_files(store, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x").write_bytes(b"1")
    (source / "y").write_bytes(b"2")
    store.upload(source, "up")
    there = store.local("up", tmp_path / "scratch")
    assert (there / "sub" / "x").read_bytes() == b"1"
    assert (there / "y").read_bytes() == b"2"


def test_reopened_from_its_uri_is_the_same(store):
    store.write("a", b"1")
    assert Store(store.uri).read("a") == b"1"


def test_prepare_creates_and_leaves_nothing(store):
    store.prepare()
    assert store.names("") == []
    assert os.path.isdir(store.root)  # noqa: PTH112


def test_prepare_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutError) as caught:
        Store(str(tmp_path / "file" / "out")).prepare()
    assert caught.value.exit_status == 2
    assert str(tmp_path / "file" / "out") in str(caught.value)


def test_open_alone_writes_nothing(tmp_path):
    Store(str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["nonsense://x/y", "file://relative/path"])
def test_open_unknown_address_is_refused(out):
    with pytest.raises(OutError, match="OUT"):
        Store(out)


def test_open_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("runs/x").root == str(tmp_path / "runs" / "x")


def test_scratch_space_follows_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path))
    assert scratch_space() == tmp_path
