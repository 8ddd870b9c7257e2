"""Checkpoints and adapters as other tools leave them: empty tensors, quantised weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.errors import ModelError
from raylab.weights import Adapter, Checkpoint
from raylab.weights.export import concatenate
from tests.architectures import save_adapter, save_tiny
from tests.commands import exit_status
from tests.studies import write_study_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The directory of a tiny model."""
    return save_tiny(tmp_path_factory.mktemp("base"), "llama", 0, torch.float32)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, base):
    """The directory of an adapter over it."""
    return save_adapter(tmp_path_factory.mktemp("adapter"), base)


def emptied(source, target, file, wanted):
    """A copy of `source` in which the tensors that `wanted` is in have no entries, as ZeRO-3
    leaves them."""
    shutil.copytree(source, target)
    tensors = load_file(target / file)
    changed = {n: t.new_empty(0) if wanted in n else t for n, t in tensors.items()}
    save_file(changed, target / file, {"format": "pt"})
    return target


def refused(capsys, *arguments):
    """The message of a command that ends with 2."""
    assert exit_status(*arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("wanted", ["q_proj", "weight", "norm"])
def test_empty_tensors_of_a_checkpoint_are_named_with_the_way_out(tmp_path, capsys, base, wanted):
    path = emptied(base, tmp_path / "zero", "model.safetensors", wanted)
    merged = ("merge", "linear", "--model", path, "--model", base, "--out", tmp_path / "out")
    for command in (("diff", path, base), ("diff", base, path), merged):
        message = refused(capsys, *command)
        assert "without entries" in message
        assert wanted in message
        assert "(0,)" in message
        assert "zero_to_fp32" in message
        assert "stage3_gather_16bit_weights_on_model_save" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wanted", ["lora_A", "lora_B", "lora"])
def test_empty_tensors_of_an_adapter_are_named_with_the_way_out(
    tmp_path, capsys, base, adapter, wanted
):
    path = emptied(adapter, tmp_path / "zero", "adapter_model.safetensors", wanted)
    out = tmp_path / "out"
    merged = ("merge", "task_arithmetic", "--base", base, "--model", path, "--out", out)
    for command in (("diff", path, adapter), ("diff", path, adapter, "--base", base), merged):
        message = refused(capsys, *command)
        assert "without entries" in message
        assert "zero_to_fp32" in message
    assert not out.exists()
    out.mkdir()
    with pytest.raises(ModelError, match="without entries"):
        concatenate([adapter, path], out)


@pytest.mark.parametrize("where", ["base model", "finished adapter"])
def test_empty_tensors_are_found_by_plan(tmp_path, capsys, base, adapter, where):
    study = write_study_folder(tmp_path)
    shutil.rmtree(tmp_path / "base")
    source = emptied(base, tmp_path / "base", "model.safetensors", "q_proj")
    if where == "finished adapter":
        shutil.rmtree(source)
        shutil.copytree(base, source)
        emptied(adapter, tmp_path / "own", "adapter_model.safetensors", "lora_B")
        values = json.loads(study.read_text())
        values["models"] = {"own": {"path": "own", "base_model": "tiny"}}
        study.write_text(json.dumps(values))
    (tmp_path / "base" / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    message = refused(capsys, "plan", study)
    assert "without entries" in message
    assert "zero_to_fp32" in message


def test_tensor_without_entries_beside_whole_ones_is_counted(tmp_path, base):
    path = emptied(base, tmp_path / "zero", "model.safetensors", "q_proj")
    with pytest.raises(ModelError, match=r"2 of 21 tensors"):
        Checkpoint(path)


def test_whole_adapter_is_not_refused(base, adapter):
    assert Adapter.open(adapter, Checkpoint(base)).names
