"""What may be merged to an adapter: each kind of adapter, against PEFT's merge of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from transformers import AutoModel, GPT2Config

from raylab.errors import ModelError
from raylab.merge.merge import merge_models
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_settings import Part, Varying
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
from tests.architectures import (
    edited_adapter,
    merged_by_peft,
    random_model,
    save_adapter,
    save_tiny,
)
from tests.mixtures import save_mixture

NEAR = 1e-5
Q = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama", dtype=torch.float32)


def merged(out, base, adapters, method="task_arithmetic", **options):
    """The record of the merge of the adapters over `base` to an adapter in `out`."""
    names = [path.name for path in adapters]
    request = request_merge(method, names, base=str(base), **{"output": AdapterOutput()} | options)
    places = [ModelLocation(adapters=(path,)) for path in adapters]
    return merge_models(request, places, base, out, threads=1)


def moved(base, *adapters):
    """{tensor: how far PEFT's merge of the adapters moves it}, of those that move."""
    before, after = merged_by_peft(base), merged_by_peft(base, *adapters)
    deltas = {name: after[name].double() - before[name].double() for name in before}
    return {name: delta for name, delta in deltas.items() if delta.any()}


def assert_near(found, exact):
    assert found.keys() == exact.keys()
    for name, delta in exact.items():
        assert (found[name] - delta).abs().max() <= NEAR * delta.abs().max(), name


PLAIN = {"r": 3, "target_modules": ["q_proj", "down_proj"]}
KINDS = {
    "another rank": {"r": 6, "target_modules": ["q_proj"]},
    "another layer": {"target_modules": ["k_proj", "up_proj"]},
    "rsLoRA": {"r": 5, "use_rslora": True, "target_modules": ["q_proj"]},
    "patterns": {
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 7},
        "alpha_pattern": {"v_proj": 40},
    },
    "pissa": {"init_lora_weights": "pissa", "target_modules": ["q_proj"]},
    "olora": {"init_lora_weights": "olora", "target_modules": ["q_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_of_factors_alone_is_added_as_peft_merges_it(base, tmp_path, kind):
    one = save_adapter(tmp_path / "one", base, 1, **PLAIN)
    other = save_adapter(tmp_path / "other", base, 2, **KINDS[kind])
    record = merged(tmp_path / "out", base, [one, other], weights=[1, 2])
    exact, twice = moved(base, one), moved(base, other)
    for name, delta in twice.items():
        exact[name] = exact.get(name, 0) + 2 * delta
    assert_near(moved(base, tmp_path / "out"), exact)
    assert record["adapter"]["exact"] is True


def renamed(source, copy, change):
    """A copy of an adapter whose tensors are called by `change` of their names."""
    copy.mkdir()
    tensors = load_file(source / "adapter_model.safetensors")
    save_file({change(n): t for n, t in tensors.items()}, copy / "adapter_model.safetensors")
    config = (source / "adapter_config.json").read_text()
    (copy / "adapter_config.json").write_text(config)
    return copy


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: "base_model.model." + name,
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.replace("model.layers", "model._orig_mod.layers"),
        lambda name: name.replace("model.model.", "model."),
    ],
    ids=["no prefix", "prefix twice", "name of the adapter", "wrapper", "AutoModel"],
)
def test_adapter_of_a_wrapped_model_is_added_under_the_names_that_peft_loads(
    base, tmp_path, change
):
    one = save_adapter(tmp_path / "one", base, 1, **PLAIN)
    other = save_adapter(tmp_path / "other", base, 2, **PLAIN)
    merged(tmp_path / "plain", base, [one, other])
    merged(tmp_path / "out", base, [one, renamed(other, tmp_path / "wrapped", change)])
    plain, found = (load_file(tmp_path / d / "adapter_model.safetensors") for d in ("plain", "out"))
    assert plain.keys() == found.keys()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_adapters_of_one_trunk_keep_the_names_of_the_trunk(base, tmp_path):
    trunk = AutoModel.from_pretrained(base)
    trunk.save_pretrained(tmp_path / "trunk")
    one = save_adapter(tmp_path / "one", base, 1, **PLAIN)
    short = renamed(one, tmp_path / "short", lambda name: name.replace("model.model.", "model."))
    merged(tmp_path / "out", base, [short, short])
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.layers.") for name in names)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_adapters_of_layers_that_are_kept_transposed_are_added_as_peft_merges_them(
    tmp_path, method
):
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=90, n_positions=40)
    random_model(config, 0, torch.float32).save_pretrained(tmp_path / "base")
    lora = {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}
    paths = [save_adapter(tmp_path / f"{s}", tmp_path / "base", s, r=3, **lora) for s in (1, 2)]
    if method == "ties":  # Of one adapter that keeps everything: the adapter.
        record = merged(tmp_path / "out", tmp_path / "base", paths[:1], "ties", density=1.0)
        exact = moved(tmp_path / "base", paths[0])
    else:
        record = merged(tmp_path / "out", tmp_path / "base", paths)
        first, second = (moved(tmp_path / "base", path) for path in paths)
        exact = {name: first[name] + second[name] for name in first}
    assert_near(moved(tmp_path / "base", tmp_path / "out"), exact)
    assert record["adapter"]["relative_error"] < 1e-6


def test_adapter_of_mlx_becomes_one_that_peft_loads(base, tmp_path):
    draws, source = np.random.default_rng(0), tmp_path / "mlx"
    a, b = (draws.normal(0, 0.1, shape).astype(np.float32) for shape in ((64, 4), (4, 64)))
    source.mkdir()
    save_arrays({f"{Q}.lora_a": a, f"{Q}.lora_b": b}, source / "adapters.safetensors")
    settings = {"rank": 4, "scale": 3.0, "dropout": 0.0}
    config = {"fine_tune_type": "lora", "lora_parameters": settings, "num_layers": 1}
    (source / "adapter_config.json").write_text(json.dumps(config))
    merged(tmp_path / "out", base, [source])
    exact = torch.from_numpy(3.0 * (a.astype(np.float64) @ b.astype(np.float64)).T)
    assert_near(moved(base, tmp_path / "out"), {f"{Q}.weight": exact})


def test_adapter_of_the_head_is_added_without_the_copy_that_peft_saves_of_it(base, tmp_path):
    lora = {"target_modules": ["q_proj", "lm_head"]}
    saved = save_adapter(tmp_path / "saved", base, 2, **lora)
    with pytest.raises(ModelError, match=r"save_embedding_layers\): lm_head"):
        merged(tmp_path / "out", base, [saved])
    plain = edited_adapter(saved, tmp_path / "plain", drop="base_layer.weight")
    merged(tmp_path / "out", base, [plain, plain], weights=[1, 2])
    exact = {name: 3 * delta for name, delta in moved(base, plain).items()}
    assert "lm_head.weight" in exact
    assert_near(moved(base, tmp_path / "out"), exact)


MORE = {
    "DoRA": {"use_dora": True},
    "saved whole": {"modules_to_save": ["norm"]},
    "LoRA on an embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "trained tokens": {"trainable_token_indices": {"embed_tokens": [1, 2]}},
    "lora_bias": {"target_modules": ["q_proj"], "lora_bias": True, "init_lora_weights": False},
}


@pytest.mark.parametrize("kind", MORE)
def test_adapter_of_more_than_factors_is_refused_by_what_it_has_more(tmp_path, kind):
    base = save_tiny(tmp_path / "base", "qwen2", dtype=torch.float32)
    plain = save_adapter(tmp_path / "plain", base, 1, **PLAIN)
    other = save_adapter(tmp_path / "other", base, 2, **{"target_modules": ["q_proj"]} | MORE[kind])
    with pytest.raises(ModelError, match=kind) as caught:
        merged(tmp_path / "out", base, [plain, other])
    assert "other is more than LoRA" in str(caught.value) and "--as model" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "plain", "other"}


def test_adapter_of_experts_is_refused_by_its_parameters(tmp_path):
    base = save_mixture(tmp_path / "base", "mixtral")
    lora = {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]}
    other = save_adapter(tmp_path / "other", base, 2, lora_dropout=0.0, **lora)
    with pytest.raises(ModelError, match="target_parameters"):
        merged(tmp_path / "out", base, [other])


def test_tensor_of_which_a_merge_keeps_nothing_gets_no_factors(base, tmp_path):
    paths = [save_adapter(tmp_path / f"{s}", base, s, **PLAIN) for s in (1, 2)]
    only_q = Varying((Part((1.0,), "q_proj"), Part((0.0,))))
    merged(tmp_path / "out", base, paths, "ties", density=[only_q, only_q], scope="tensor")
    assert {name.split(".")[-2] for name in moved(base, tmp_path / "out")} == {"q_proj"}


def test_mean_of_values_that_moves_the_base_too_is_refused(base, tmp_path):
    """Half of one model plus a quarter of another takes a quarter of every tensor away."""
    paths = [save_adapter(tmp_path / f"{seed}", base, seed, **PLAIN) for seed in (1, 2)]
    with pytest.raises(ModelError, match="scales tensors that no adapter changes"):
        merged(tmp_path / "out", base, paths, "linear", weights=[0.5, 0.25], normalize=False)
    assert not (tmp_path / "out").exists()


def test_sum_of_values_whose_weights_sum_to_one_is_exact(base, tmp_path):
    paths = [save_adapter(tmp_path / f"{seed}", base, seed, **PLAIN) for seed in (1, 2)]
    weights = {"weights": [1.5, -0.5], "normalize": False}
    record = merged(tmp_path / "out", base, paths, "linear", **weights)
    first, second = (moved(base, path) for path in paths)
    assert_near(moved(base, tmp_path / "out"), {n: 1.5 * first[n] - 0.5 * second[n] for n in first})
    assert record["adapter"]["exact"] is True


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("org/model", "org/model"),
        ("demo", "demo"),
        (None, "org/of-inputs"),
        ("runs/mine#demo", "org/of-inputs"),
    ],
)
def test_base_model_is_called_as_asked_but_for_a_place_on_this_machine(
    base, tmp_path, named, expected
):
    paths = [save_adapter(tmp_path / f"{seed}", base, seed, **PLAIN) for seed in (1, 2)]
    for path in paths:
        file = path / "adapter_config.json"
        config = json.loads(file.read_text()) | {"base_model_name_or_path": "org/of-inputs"}
        file.write_text(json.dumps(config))
    output = AdapterOutput()
    request = request_merge("linear", ["1", "2"], base=named or str(base), output=output)
    places = [ModelLocation(adapters=(path,)) for path in paths]
    merge_models(request, places, base, tmp_path / "out", threads=1)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == expected
