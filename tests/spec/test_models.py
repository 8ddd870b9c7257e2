"""Base models: known by content or commit; safetensors only."""

import json
import shutil

import pytest

from raylab.errors import ModelError
from raylab.spec.models import resolve, tokenizer_directory
from raylab.spec.study import BaseModelRef
from raylab.spec.weight_files import tensor_shapes
from tests.studies import write_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def found(directory):
    return resolve("tiny", BaseModelRef(path=str(directory)))


def refused(directory):
    with pytest.raises(ModelError) as caught:
        found(directory)
    message = str(caught.value)
    assert "tiny" in message
    assert str(directory) in message
    return message


def test_identity_moved_and_renamed_is_equal(tmp_path):
    one = found(write_checkpoint(tmp_path / "one"))
    shutil.move(tmp_path / "one", tmp_path / "elsewhere")
    two = resolve("other", BaseModelRef(path=str(tmp_path / "elsewhere")))
    assert one.identity == two.identity
    assert not one.provisional


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_identity_one_byte_changed_differs(file, tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    (directory / "tokenizer.json").write_text("{}")
    before = found(directory).identity
    content = bytearray((directory / file).read_bytes())
    content[-1] ^= 1
    (directory / file).write_bytes(bytes(content))
    assert found(directory).identity != before


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer.model", "modeling_x.py"])
def test_identity_file_added_differs(file, tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    before = found(directory).identity
    (directory / file).write_text("x")
    assert found(directory).identity != before


def test_identity_beside_files_do_not_matter(tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    before = found(directory).identity
    (directory / "README.md").write_text("x")
    assert found(directory).identity == before


def test_directory_absent_is_named(tmp_path):
    assert "safetensors" in refused(tmp_path / "nothing")


def test_directory_with_pickles_alone_is_refused_with_a_way_out(tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    message = refused(directory)
    assert "pytorch_model.bin" in message
    assert "save_pretrained" in message


def test_directory_without_config_is_refused(tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    (directory / "config.json").unlink()
    assert "config" in refused(directory)


def test_hub_with_commit_is_final():
    got = resolve("m", BaseModelRef(hub="org/name", revision=COMMIT))
    assert got.identity == f"hub:org/name@{COMMIT}"
    assert (got.provisional, got.revision, got.source) == (False, COMMIT, "org/name")


def test_hub_without_commit_is_provisional(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    got = resolve("m", BaseModelRef(hub="org/name"))
    assert (got.provisional, got.directory) == (True, None)


def test_hub_in_cache_is_final_and_found(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--name"
    snapshot = write_checkpoint(folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    got = resolve("m", BaseModelRef(hub="org/name"))
    assert (got.provisional, got.directory, got.revision) == (False, snapshot, COMMIT)


def test_weights_shapes_reads_headers(tmp_path):
    directory = write_checkpoint(tmp_path / "one")
    assert sorted(tensor_shapes(directory)) == [("bias", (3,), 12), ("layer.weight", (4, 3), 48)]


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", b"\xff" * 16, (4).to_bytes(8, "little") + b"nope", (3).to_bytes(8, "little")],
)
def test_weights_shapes_damaged_file_is_named(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        list(tensor_shapes(tmp_path))


def test_weights_shapes_metadata_is_no_tensor(tmp_path):
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert list(tensor_shapes(tmp_path)) == []


def test_tokenizer_of_a_hub_model_whose_weights_are_elsewhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40
    place = BaseModelRef(hub="me/model", revision=commit)
    folder = tmp_path / "models--me--model" / "snapshots" / commit
    assert tokenizer_directory(resolve("m", place)) is None
    folder.mkdir(parents=True)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ 1 }}"}')
    assert resolve("m", place).directory is None
    assert tokenizer_directory(resolve("m", place)) == folder
