"""Checkpoints appear whole or not at all, and safetensors reads what was laid out."""

import json
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from raylab.errors import OutError, StoreError
from raylab.weights import checkpoint_writer as checkpoints
from raylab.weights.checkpoint_writer import (
    CheckpointWriter,
    TensorSpec,
    copy_config_files,
    layout_files,
)

PLANS = [
    TensorSpec("a", "BF16", (3, 5)),
    TensorSpec("b", "F32", (2, 2)),
    TensorSpec("c", "U8", (3,)),
    TensorSpec("empty", "F16", (0, 4)),
    TensorSpec("scalar", "F32", ()),
]
DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "U8": torch.uint8, "F16": torch.float16}


def written(directory, most_bytes):
    tensors = {p.name: torch.full(p.shape, 3, dtype=DTYPES[p.dtype]) for p in PLANS}
    with CheckpointWriter(directory, PLANS, most_bytes) as writer:
        for name, values in reversed(tensors.items()):
            data = values.flatten().view(torch.uint8).numpy().data
            middle = len(data) // 2
            writer.write(name, middle, data[middle:])
            writer.write(name, 0, data[:middle])
    return tensors


@pytest.mark.parametrize("most_bytes", [1, 40, 10**6])
def test_write_any_dtypes_in_any_order_is_read_by_safetensors(tmp_path, most_bytes):
    tensors = written(tmp_path, most_bytes)
    read = {}
    for file in tmp_path.glob("*.safetensors"):
        read |= load_file(file)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[n], v) and read[n].dtype == v.dtype for n, v in tensors.items())


def test_write_one_file_has_no_index_and_says_pt(tmp_path):
    written(tmp_path, 10**6)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_write_many_files_have_an_index_of_all_tensors(tmp_path):
    written(tmp_path, 40)
    index = json.loads((tmp_path / checkpoints.INDEX).read_text())
    assert index["metadata"] == {"total_size": 30 + 16 + 3 + 4}
    assert index["weight_map"] == {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
        "c": "model-00002-of-00002.safetensors",
        "empty": "model-00002-of-00002.safetensors",
        "scalar": "model-00002-of-00002.safetensors",
    }


def test_layout_files_wider_dtypes_come_first_and_all_are_aligned():
    (plan,) = layout_files(PLANS)
    widths = {"a": 2, "b": 4, "c": 1, "empty": 2, "scalar": 4}
    assert all(plan.begins[name] % width == 0 for name, width in widths.items())
    assert len(plan.header) % 8 == 0


def test_write_missing_bytes_are_noticed(tmp_path):
    with (
        pytest.raises(AssertionError, match="bytes were not written"),
        CheckpointWriter(tmp_path, PLANS),
    ):
        pass


def test_write_without_room_is_refused_before_a_file_is_made(tmp_path, monkeypatch):
    free = SimpleNamespace(free=100)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: free)
    with pytest.raises(OutError, match="does not fit") as refused:
        CheckpointWriter(tmp_path, PLANS)
    assert "100 bytes free" in refused.value.message
    assert list(tmp_path.iterdir()) == []


def test_write_disk_that_fails_raises_store_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "pwrite", full)
    with pytest.raises(StoreError, match="No space left"), CheckpointWriter(tmp_path, PLANS):
        pass


def test_write_disk_that_takes_a_part_is_asked_again(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(checkpoints.os, "pwrite", lambda h, data, at: pwrite(h, data[:5], at))
    tensors = written(tmp_path, 10**6)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], tensors["a"])


def test_copy_config_files_takes_what_belongs_to_a_model_and_no_weights(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    wanted = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer.model",
              "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
              "vocab.json", "merges.txt", "modeling_x.py", "LICENSE",
              "additional_chat_templates/tool.jinja"]  # fmt: skip
    left = ["README.md", "model.safetensors", "model.safetensors.index.json", "optimizer.pt"]
    target.mkdir()
    for name in wanted + left:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    copy_config_files(source, target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == set(wanted)
    assert (target / "config.json").read_text() == "config.json"
