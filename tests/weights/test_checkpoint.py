"""Whole models: which files, which tensors, and each parameter once."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.weights import Checkpoint
from tests.architectures import ARCHITECTURES, tiny_model

BF16 = torch.bfloat16
INDEX = "model.safetensors.index.json"


def sharded(directory, **shards):
    """Shards of the given tensors and an index that names them; `directory`."""
    directory.mkdir(exist_ok=True)
    weight_map = {}
    for name, tensors in shards.items():
        save_file(tensors, directory / f"{name}.safetensors")
        weight_map |= dict.fromkeys(tensors, f"{name}.safetensors")
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return directory


def edit_index(directory, **changes):
    file = directory / INDEX
    weight_map = json.loads(file.read_text())["weight_map"] | changes
    file.write_text(json.dumps({"weight_map": {k: v for k, v in weight_map.items() if v}}))


def ones(*shape, dtype=BF16):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_checkpoint_every_parameter_once_as_transformers_counts(bases, architecture):
    checkpoint = Checkpoint(bases[architecture, BF16])
    model = AutoModelForCausalLM.from_pretrained(bases[architecture, BF16], dtype="auto")
    parameters = dict(model.named_parameters())
    assert {checkpoint.stored_name(name) for name in parameters} == set(checkpoint.shapes)
    for name, parameter in parameters.items():
        stored = checkpoint.stored_name(name)
        assert checkpoint.shapes[stored] == tuple(parameter.shape)
        raw = checkpoint.raw(stored, 0, parameter.shape[0] if parameter.dim() > 1 else 1)
        assert torch.equal(raw.reshape(parameter.shape), parameter)


def test_checkpoint_shards_are_read_by_index(tmp_path):
    sharded(tmp_path, one={"a": ones(2, 3)}, two={"b": ones(4), "c": ones(1, 1)})
    save_file({"z": ones(1)}, tmp_path / "consolidated.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.shapes == {"a": (2, 3), "b": (4,), "c": (1, 1)}
    assert checkpoint.raw("b", 0, 1).shape == (1, 4)


def test_checkpoint_links_as_the_hub_keeps_them_are_read(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    sharded(blobs, one={"a": ones(2, 3)})
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert list(Checkpoint(snapshot).shapes) == ["a"]


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "..", "sub/one", 3, "a\0b"])
def test_checkpoint_index_outside_its_directory_is_refused(tmp_path, name):
    edit_index(sharded(tmp_path, one={"a": ones(2)}), b=name)
    with pytest.raises(ModelError, match="outside its directory"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"b": "gone.safetensors"}, "gone.safetensors"),
        ({"b": "one.safetensors"}, "do not agree\n.*b"),
        ({"a": "two.safetensors"}, "do not agree\n.*a"),
        ({"a": None}, "do not agree\n.*a"),
    ],
)
def test_checkpoint_index_that_does_not_hold_is_refused(tmp_path, changes, named):
    sharded(tmp_path, one={"a": ones(2), "c": ones(2)}, two={"d": ones(3)})
    edit_index(tmp_path, **changes)
    with pytest.raises(ModelError, match=named):
        Checkpoint(tmp_path)


def test_checkpoint_tensor_in_two_files_is_refused(tmp_path):
    sharded(tmp_path, one={"a": ones(2), "b": ones(2)}, two={"a": ones(2)})
    with pytest.raises(ModelError, match=r"two files of .* hold the tensor a"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_checkpoint_pickles_alone_are_refused_with_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match=rf"pickles.*\n.*{name}(.*\n)*.*save_pretrained"):
        Checkpoint(tmp_path)


def test_checkpoint_without_weights_is_refused(tmp_path):
    save_file({"a": ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"no weights found\n.*other.safetensors"):
        Checkpoint(tmp_path)
    with pytest.raises(ModelError, match="no weights found"):
        Checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float8_e4m3fn, torch.int8, torch.uint8, torch.bool]
)
def test_checkpoint_other_dtype_is_refused_by_name(tmp_path, dtype):
    tensors = {"good": ones(2), "odd.weight": torch.zeros(2, dtype=dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"odd\.weight") as caught:
        Checkpoint(tmp_path)
    assert caught.value.exit_status == 2
    assert "good" not in str(caught.value)


def test_checkpoint_quantised_already_is_refused(tmp_path):
    save_file({"w": ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"load_in_4bit": true}}')
    with pytest.raises(ModelError, match="quantised already"):
        Checkpoint(tmp_path)


def test_checkpoint_buffers_of_old_gpt_neox_are_no_parameters(tmp_path):
    attention = "gpt_neox.layers.0.attention"
    tensors = {
        f"{attention}.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
        f"{attention}.masked_bias": torch.tensor(-torch.inf).half(),
        f"{attention}.rotary_emb.inv_freq": torch.ones(4),
        f"{attention}.dense.bias": ones(4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert list(checkpoint.shapes) == [f"{attention}.dense.bias"]
    assert len(checkpoint.skipped) == 3


def test_checkpoint_real_bias_named_like_a_mask_is_a_parameter(tmp_path):
    save_file({"h.attn.bias": ones(4)}, tmp_path / "model.safetensors")
    assert list(Checkpoint(tmp_path).shapes) == ["h.attn.bias"]


def tied(directory, architecture, head, change=0.0, **config):
    """A tied model that stores its head as well, `change` added to the head's last row."""
    model = tiny_model(architecture, tie_word_embeddings=True)
    model.save_pretrained(directory)
    weights = load_file(directory / "model.safetensors")
    embedding = next(name for name in weights if "embed" in name)
    weights[head] = weights[embedding].clone()
    weights[head][-1] += change
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    file = directory / "config.json"
    changed = json.loads(file.read_text()) | config
    file.write_text(json.dumps({k: v for k, v in changed.items() if v is not None}))
    return embedding


HEADS = [
    ("llama", "lm_head.weight"),
    ("gpt_neox", "embed_out.weight"),
    ("gemma2", "lm_head.weight"),
]


@pytest.mark.parametrize(("architecture", "head"), HEADS)
def test_checkpoint_stored_head_of_tied_model_is_an_alias(tmp_path, architecture, head):
    embedding = tied(tmp_path, architecture, head)
    checkpoint = Checkpoint(tmp_path)
    assert dict(checkpoint.tied) == {head: (160, 64)}
    assert head not in checkpoint.shapes
    assert checkpoint.stored_name("lm_head.weight") == embedding
    assert checkpoint.is_alias(head)
    assert not checkpoint.is_alias(embedding)
    rows = checkpoint.raw(embedding, 0, 160)
    assert torch.equal(rows, checkpoint.raw(head, 0, 160))


def test_checkpoint_tied_model_that_stores_its_head_alone_names_the_embedding_alias(tmp_path):
    embedding = tied(tmp_path, "llama", "lm_head.weight")
    weights = load_file(tmp_path / "model.safetensors")
    del weights[embedding]
    save_file(weights, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert "lm_head.weight" in checkpoint.shapes
    assert checkpoint.stored_name(embedding) == "lm_head.weight"
    assert checkpoint.is_alias(embedding)
    assert not checkpoint.tied


def test_checkpoint_gemma2_is_tied_where_its_config_does_not_say(tmp_path):
    tied(tmp_path, "gemma2", "lm_head.weight", tie_word_embeddings=None)
    assert list(Checkpoint(tmp_path).tied) == ["lm_head.weight"]


def test_checkpoint_llama_is_not_tied_where_its_config_does_not_say(tmp_path):
    tied(tmp_path, "llama", "lm_head.weight", tie_word_embeddings=None)
    assert not Checkpoint(tmp_path).tied


def test_checkpoint_alias_that_differs_is_an_error_when_its_rows_are_read(tmp_path):
    embedding = tied(tmp_path, "llama", "lm_head.weight", change=1.0)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.raw(embedding, 0, 159)
    with pytest.raises(ModelError, match=r"lm_head\.weight.*not the same"):
        checkpoint.raw(embedding, 100, 160)


def test_checkpoint_alias_of_not_a_number_is_the_same(tmp_path):
    embedding = tied(tmp_path, "llama", "lm_head.weight")
    weights = load_file(tmp_path / "model.safetensors")
    for name in (embedding, "lm_head.weight"):
        weights[name][3, 4] = torch.nan
    save_file(weights, tmp_path / "model.safetensors")
    assert Checkpoint(tmp_path).raw(embedding, 0, 160)[3, 4].isnan()


def test_checkpoint_alias_of_another_shape_is_refused(tmp_path):
    tied(tmp_path, "llama", "lm_head.weight")
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:100].clone()
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        Checkpoint(tmp_path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=5)
    | st.just("one.safetensors"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "weight_map", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory):
    """A checkpoint of one shard, whose index a test may overwrite."""
    return sharded(tmp_path_factory.mktemp("one"), one={"a": ones(2, 3)})


@settings(max_examples=200, deadline=None)
@given(index=json_values, text=st.none() | st.binary(max_size=30))
def test_checkpoint_any_index_is_read_or_refused(one_shard, index, text):
    directory = one_shard
    (directory / INDEX).write_bytes(json.dumps(index).encode() if text is None else text)
    try:
        checkpoint = Checkpoint(directory)
    except ModelError:
        return
    assert index["weight_map"] == {"a": "one.safetensors"}
    assert checkpoint.raw("a", 0, 2).tolist() == [[1, 1, 1], [1, 1, 1]]
