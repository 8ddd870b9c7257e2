"""BASE+ADAPTER over another base model than the merge's: one whole model, exactly."""

import json
import os

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from raylab.errors import InputError, ModelError
from raylab.merge.merge import merge_named
from raylab.merge.named_models import find_named
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.mergekit import read_mergekit
from raylab.spec.merges import request_merge
from raylab.spec.output_tokenizer import asked_tokenizer
from tests.merge.extended import WORDS, saved_adapter, saved_llama, tokenizer_of
from tests.merge.models import drawn, saved
from tests.merge.test_mergekit_settings import merged_by_mergekit


def models(folder, *, tied=False, **options):
    """A base model, another one, and an adapter over the other."""
    tokenizer = tokenizer_of()
    base = saved_llama(folder / "base", tokenizer, 1, tied=tied)
    other = saved_llama(folder / "other", tokenizer, 2, tied=tied, near=base)
    return base, other, saved_adapter(folder / "adapter", other, 3, **options)


def peft_merged(base, adapter):
    """PEFT's own merge in float32; of a tied model by its forward pass's two weights."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def merged(out, method, names, **options):
    record = merge_named(request_merge(method, names, **options), out)
    return record, load_file(out / "model.safetensors")


@pytest.mark.parametrize(
    "options",
    [{}, {"target_modules": ["q_proj", "embed_tokens"]}, {"modules_to_save": ["lm_head"]}],
)
def test_merge_adapter_over_another_base_is_the_sum_of_both(tmp_path, options):
    base, other, adapter = models(tmp_path, **options)
    name = f"{other}+{adapter}"
    record, found = merged(tmp_path / "out", "passthrough", [name], base=str(base))
    wanted = peft_merged(other, adapter)
    assert record["models"][0]["model"] == name
    for key, values in found.items():
        torch.testing.assert_close(values, wanted[key], rtol=0, atol=2**-22, msg=key)
        assert (values - load_file(base / "model.safetensors")[key]).abs().max() > 0.01


def test_merge_adapter_over_another_base_has_the_task_vector_of_the_whole(tmp_path):
    base, other, adapter = models(tmp_path)
    request = {"base": str(base), "weights": [0.5], "density": 0.3, "scope": "global"}
    whole = saved_whole(tmp_path / "whole", other, peft_exact(other, adapter))
    _, found = merged(tmp_path / "one", "ties", [f"{other}+{adapter}"], **request)
    _, wanted = merged(tmp_path / "two", "ties", [str(whole)], **request)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def peft_exact(base, adapter):
    """float32(base + scale B A), each sum of two numbers rounded once, from the files."""
    values = load_file(base / "model.safetensors")
    factors = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for key, down in factors.items():
        if ".lora_A." not in key:
            continue
        up = factors[key.replace("lora_A", "lora_B")]
        name = key.removeprefix("base_model.model.").replace(".lora_A", "")
        delta = (config["lora_alpha"] / config["r"]) * (up @ down)
        values[name] = (values[name].double() + delta.double()).float()
    return values


def saved_whole(directory, like, tensors):
    model = AutoModelForCausalLM.from_pretrained(like)
    model.load_state_dict(tensors)
    model.save_pretrained(directory)
    return directory


def test_merge_adapter_named_over_the_merges_own_base_is_the_adapter(tmp_path):
    _, other, adapter = models(tmp_path)
    options = {"base": str(other), "density": 0.5}
    _, found = merged(tmp_path / "one", "ties", [f"{other}/../other+{adapter}"], **options)
    _, wanted = merged(tmp_path / "two", "ties", [str(adapter)], **options)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_merge_linear_of_two_adapters_over_two_bases_needs_no_base(tmp_path):
    base, other, adapter = models(tmp_path)
    second = saved_adapter(tmp_path / "second", base, 5)
    names = [f"{other}+{adapter}", f"{base}+{second}"]
    _, found = merged(tmp_path / "out", "linear", names)
    one, two = peft_merged(other, adapter), peft_merged(base, second)
    for key, values in found.items():
        torch.testing.assert_close(values, (one[key] + two[key]) / 2, rtol=0, atol=2**-22)


def test_merge_adapter_over_another_tied_base_moves_the_embedding_alone(tmp_path):
    base, other, adapter = models(tmp_path, tied=True, target_modules=["embed_tokens"])
    record, found = merged(tmp_path / "out", "passthrough", [f"{other}+{adapter}"], base=str(base))
    # PEFT's forward pass leaves the head as it was, though the base ties it to the embedding.
    start = load_file(other / "model.safetensors")["model.embed_tokens.weight"]
    assert record["untied"] == ["lm_head.weight"]
    assert torch.equal(found["lm_head.weight"], start)
    assert (found["model.embed_tokens.weight"] - start).abs().max() > 0.01


def test_merge_yaml_names_an_adapter_over_another_base(tmp_path):
    base, other, adapter = models(tmp_path)
    file = tmp_path / "merge.yaml"
    config = {
        "merge_method": "task_arithmetic",
        "base_model": {"model": {"path": str(base)}},
        "models": [{"model": {"model": str(other), "lora": str(adapter)}}],
        "parameters": {"weight": 1.0},
    }
    file.write_text(json.dumps(config))
    assert [i.model for i in read_mergekit(file).inputs] == [f"{other}+{adapter}"]
    merge_named(read_mergekit(file), tmp_path / "out")
    found, wanted = load_file(tmp_path / "out/model.safetensors"), peft_merged(other, adapter)
    for key, values in found.items():
        torch.testing.assert_close(values, wanted[key], rtol=0, atol=2**-21)


def test_merge_whole_model_as_an_adapter_is_refused(tmp_path):
    base, other, _ = models(tmp_path)
    with pytest.raises(ModelError, match="is no adapter over a base model"):
        merge_named(request_merge("ties", [f"{base}+{other}"], base=str(base)), tmp_path / "out")


def test_merge_directory_with_a_plus_is_itself(tmp_path):
    _, other, _ = models(tmp_path)
    other.rename(tmp_path / "c++")
    _, found = merged(tmp_path / "out", "passthrough", [str(tmp_path / "c++")])
    assert torch.equal(
        found["model.norm.weight"],
        load_file(tmp_path / "c++/model.safetensors")["model.norm.weight"],
    )


def test_merge_to_an_adapter_over_another_base_is_refused(tmp_path):
    base, other, adapter = models(tmp_path)
    request = request_merge(
        "task_arithmetic", [f"{other}+{adapter}"], base=str(base), output=AdapterOutput()
    )
    with pytest.raises(ModelError, match="and has no factors"):
        merge_named(request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_merge_other_base_whose_tokens_have_other_ids_is_refused(tmp_path):
    base, _, _ = models(tmp_path)
    other = saved_llama(tmp_path / "turned", tokenizer_of(WORDS[::-1]), 4)
    adapter = saved_adapter(tmp_path / "turned_adapter", other, 5)
    request = request_merge("linear", [f"{other}+{adapter}"], base=str(base))
    with pytest.raises(ModelError, match="tokens have different ids"):
        merge_named(request, tmp_path / "out")
    with pytest.raises(InputError, match="no weights of its own"):
        merge_named(request_merge("linear", [str(adapter)]), tmp_path / "out")


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties"])
def test_merge_adapter_over_another_base_gives_what_mergekit_writes(tmp_path, method):
    base, other, adapter = models(tmp_path)
    file = tmp_path / "merge.yaml"
    config = {
        "merge_method": method,
        "base_model": str(base),
        "models": [{"model": f"{other}+{adapter}"}, {"model": str(other)}],
        "parameters": {"weight": 0.5},
        "dtype": "float32",
    }
    file.write_text(json.dumps(config))
    merge_named(read_mergekit(file), tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    cache = ("--lora-merge-cache", str(tmp_path / "cache"))
    theirs = merged_by_mergekit(file, tmp_path / "theirs", *cache)
    assert found.keys() == theirs.keys()
    for name, values in theirs.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)


def over_a_base_with_an_adapter(folder):
    """(base, adapter over it, two models) and the file that merges these over both."""
    base, other, adapter = models(folder)
    third = saved_llama(folder / "third", tokenizer_of(), 4, near=other)
    text = f"""
merge_method: task_arithmetic
base_model: {{model: {other}, lora: {adapter}}}
models:
  - {{model: {base}, parameters: {{weight: 0.5}}}}
  - {{model: {third}, parameters: {{weight: 0.25}}}}
  - {{model: {other}+{adapter}, parameters: {{weight: 3}}}}
dtype: float32
"""
    (folder / "merge.yaml").write_text(text)
    return other, adapter, (base, third), folder / "merge.yaml"


def test_merge_over_a_base_with_an_adapter_starts_from_both(tmp_path, scratch):
    other, adapter, others, file = over_a_base_with_an_adapter(tmp_path)
    record = merge_named(read_mergekit(file), tmp_path / "out")
    assert record["base"] == f"{other}+{adapter}"
    start = {name: v.double() for name, v in peft_exact(other, adapter).items()}
    one, two = (load_file(folder / "model.safetensors") for folder in others)
    for name, values in load_file(tmp_path / "out/model.safetensors").items():
        at = start[name]
        wanted = at + 0.5 * (one[name].double() - at) + 0.25 * (two[name].double() - at)
        torch.testing.assert_close(values.double(), wanted, rtol=0, atol=2**-22, msg=name)
    (made,) = [place for place in (scratch / "whole_bases").iterdir() if place.is_dir()]
    before = (made / "model.safetensors").stat().st_mtime_ns
    request = request_merge("linear", [str(others[0])], base=f"{other}+{adapter}")
    assert find_named(request).base == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
def test_merge_over_a_base_with_an_adapter_is_what_mergekit_writes(tmp_path, scratch):
    *_, file = over_a_base_with_an_adapter(tmp_path)
    merge_named(read_mergekit(file), tmp_path / "out")
    cache = ("--lora-merge-cache", str(tmp_path / "cache"))
    theirs = merged_by_mergekit(file, tmp_path / "theirs", *cache)
    found = load_file(tmp_path / "out/model.safetensors")
    for name, values in theirs.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)


@pytest.mark.parametrize("name", ["", " ", "+adapter", "../base+", "+"])
def test_merge_of_an_empty_name_is_refused_wherever_it_stands(tmp_path, monkeypatch, name):
    saved(tmp_path / "base", drawn(0))
    monkeypatch.chdir(tmp_path / "base")
    request = request_merge("linear", [name, "../base"])
    with pytest.raises(ModelError, match="a model has no name"):
        merge_named(request, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizer_without_a_name_is_refused():
    with pytest.raises(InputError, match="a tokenizer has no name"):
        asked_tokenizer(" ")
