"""Adapters merged to one adapter, against PEFT's reading of it and NumPy's decomposition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raylab.errors import InputError, ModelError, NonFiniteError
from raylab.merge.merge import merge_models
from raylab.spec.adapter_output import AdapterOutput, adapter_output
from raylab.spec.merge_settings import Part, Varying
from raylab.spec.merges import request_merge
from raylab.store.references import ModelLocation
from tests.merge.models import place
from tests.oracles import merging as oracle

EPSILON = 2.0**-23
TIES = {"density": 0.3, "scope": "tensor"}


def merged(out, method, base, models, output=None, threads=2, **options):
    """The record of the merge of `models` over `base` to an adapter in `out`."""
    places = [p if isinstance(p, ModelLocation) else place(p) for p in models]
    names = [str(number) for number in range(len(models))]
    request = request_merge(
        method, names, base=str(base), output=output or AdapterOutput(), **options
    )
    return merge_models(request, places, base, out, threads=threads)


def loaded(base, adapter):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter) if adapter else model


def deltas(base, adapter):
    """{module: delta in float64} as PEFT holds factors and scales."""
    found = {}
    for name, module in loaded(base, adapter).named_modules():
        if "default" in getattr(module, "lora_A", {}):
            up, down = module.lora_B["default"].weight, module.lora_A["default"].weight
            product = module.scaling["default"] * (up.double() @ down.double())
            found[name.removeprefix("base_model.model.")] = product.detach()
    return found


def summed(base, adapters, factors):
    """{module: the sum of the adapters' deltas, each times its factor}."""
    total = {}
    for adapter, factor in zip(adapters, factors, strict=True):
        for name, delta in deltas(base, adapter).items():
            total[name] = total.get(name, 0) + factor * delta
    return total


def elected(base, adapters, density):
    """{module: delta of TIES per tensor}, by the oracle."""
    found, result = [deltas(base, adapter) for adapter in adapters], {}
    for name in found[0]:
        own = [d[name].float().numpy() for d in found if name in d]
        kept = []
        for delta in own:
            limit = oracle.threshold([delta], density)[1]
            kept.append(np.where(np.abs(delta) >= limit, delta, 0).astype(np.float64))
        sign = np.sign(sum(kept))
        agrees = [(np.sign(k) == sign) & (k != 0) for k in kept]
        count = np.maximum(sum(a.astype(int) for a in agrees), 1)
        result[name] = sum(np.where(a, k, 0) for a, k in zip(agrees, kept, strict=True)) / count
    return result


def by_config(config, down):
    """The scale of vLLM, SGLang and text-generation-inference."""
    return config["lora_alpha"] / config["r"]


def by_rows(config, down):
    """The scale of llama.cpp and TensorRT-LLM."""
    return config["lora_alpha"] / down.shape[0]


def read_by(rule, adapter):
    """{module: delta in float64} as a server reads it: two fields of the config, and A and B."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors, found = load_file(adapter / "adapter_model.safetensors"), {}
    assert not {*config} & {"rank_pattern", "alpha_pattern", "use_rslora", "modules_to_save"}
    for name, down in tensors.items():
        module, is_down, _ = name.partition(".lora_A.weight")
        if is_down:
            up = tensors[f"{module}.lora_B.weight"]
            assert (down.shape[0], up.shape[1]) == (config["r"], config["r"])
            product = rule(config, down) * (up.double() @ down.double())
            found[module.removeprefix("base_model.model.")] = product
    return found


def tensor_of(module):
    return f"{module}.weight"


@pytest.mark.parametrize(
    ("method", "options", "factors"),
    [
        ("task_arithmetic", {"weights": [0.3, -1.7], "scaling": 1.1}, [0.33, -1.87]),
        ("linear", {"weights": [1, 3]}, [0.25, 0.75]),
        ("linear", {}, [0.5, 0.5]),
    ],
)
def test_sum_of_adapters_is_an_adapter_that_peft_loads_with_the_merged_delta(
    tmp_path, demo_base, adapters, method, options, factors
):
    record = merged(tmp_path / "out", method, demo_base, adapters, **options)
    found, exact = deltas(demo_base, tmp_path / "out"), summed(demo_base, adapters, factors)
    assert found.keys() == exact.keys()
    for name, delta in exact.items():
        assert (found[name] - delta).abs().max() <= 4 * EPSILON * delta.abs().max(), name
    ranks = {row["rank"] for row in record["adapter"]["tensors"].values()}
    assert (ranks, record["adapter"]["exact"]) == ({4, 6}, True)
    assert record["adapter"]["relative_error"] == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 6)
    assert config["target_modules"] == ["q_proj", "up_proj"]


@pytest.mark.parametrize("rule", [by_config, by_rows])
@pytest.mark.parametrize(
    ("method", "output", "options"),
    [
        ("task_arithmetic", AdapterOutput(), {"weights": [0.3, -1.7]}),
        ("linear", AdapterOutput(energy=0.9), {}),
        ("ties", AdapterOutput(energy=0.7), TIES),
    ],
)
def test_servers_that_read_no_patterns_have_the_delta_of_peft(
    tmp_path, demo_base, adapters, rule, method, output, options
):
    record = merged(tmp_path / "out", method, demo_base, adapters, output, **options)
    ranks = {row["rank"] for row in record["adapter"]["tensors"].values()}
    assert len(ranks) > 1 and max(ranks) == record["adapter"]["r"]
    served, loaded_by_peft = (read_by(rule, tmp_path / "out"), deltas(demo_base, tmp_path / "out"))
    assert served.keys() == loaded_by_peft.keys()
    for name, delta in loaded_by_peft.items():
        assert torch.equal(served[name], delta), name
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert record["adapter"]["parameters"] == sum(tensor.numel() for tensor in saved.values())


def test_weights_that_differ_by_layer_are_in_the_factors(tmp_path, demo_base, adapters):
    weight = Varying((Part((3.0,), "q_proj"), Part((0.5,))))
    merged(tmp_path / "out", "task_arithmetic", demo_base, adapters, weights=[weight, 1.0])
    found = deltas(demo_base, tmp_path / "out")
    first, both = (summed(demo_base, adapters, [w, 1]) for w in (0.5, 3))
    for name, delta in found.items():
        exact = both[name] if "q_proj" in name else first[name]
        assert (delta - exact).abs().max() <= 4 * EPSILON * exact.abs().max(), name


def test_forward_pass_with_the_adapter_is_that_of_the_base_with_the_delta(
    tmp_path, demo_base, adapters
):
    merged(tmp_path / "out", "task_arithmetic", demo_base, adapters, weights=[1, 0.5])
    plain = loaded(demo_base, None)
    tokens = torch.arange(3, 23)[None]
    with torch.no_grad():
        before = plain(tokens).logits
        found = loaded(demo_base, tmp_path / "out")(tokens).logits
        for name, delta in summed(demo_base, adapters, [1, 0.5]).items():
            plain.get_parameter(tensor_of(name)).add_(delta.float())
        expected = plain(tokens).logits
    assert (found - expected).abs().max() < 1e-4 * (expected - before).abs().max()


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_other_methods_are_written_as_the_best_approximation_of_their_delta(
    tmp_path, demo_base, adapters, rank
):
    asked = AdapterOutput(rank=rank)
    record = merged(tmp_path / "out", "ties", demo_base, adapters, asked, **TIES)
    found, lost, energy = deltas(demo_base, tmp_path / "out"), 0.0, 0.0
    for name, delta in elected(demo_base, adapters, 0.3).items():
        u, values, v = np.linalg.svd(delta, full_matrices=False)
        best = (u[:, :rank] * values[:rank]) @ v[:rank]
        error = np.linalg.norm(delta - best) / np.linalg.norm(delta)
        row = record["adapter"]["tensors"][tensor_of(name)]
        assert (row["rank"], row["relative_error"]) == (rank, pytest.approx(error, rel=1e-6))
        measured = np.linalg.norm(delta - found[name].numpy()) / np.linalg.norm(delta)
        assert measured == pytest.approx(error, rel=1e-5)
        lost, energy = lost + (values[rank:] ** 2).sum(), energy + (values**2).sum()
    assert record["adapter"]["relative_error"] == pytest.approx((lost / energy) ** 0.5, rel=1e-6)
    assert record["adapter"]["exact"] is False


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.99])
@pytest.mark.parametrize(
    ("method", "options"), [("ties", TIES), ("task_arithmetic", {})], ids=["whole", "factors"]
)
def test_energy_gives_each_tensor_the_smallest_rank_that_keeps_it(
    tmp_path, demo_base, adapters, energy, method, options
):
    asked = AdapterOutput(energy=energy)
    record = merged(tmp_path / "out", method, demo_base, adapters, asked, **options)
    exact = (
        elected(demo_base, adapters, 0.3)
        if method == "ties"
        else {name: d.numpy() for name, d in summed(demo_base, adapters, [1, 1]).items()}
    )
    for name, delta in exact.items():
        squares = np.linalg.svd(delta, compute_uv=False) ** 2
        enough = [
            r for r in range(1, len(squares) + 1) if squares[:r].sum() >= energy * squares.sum()
        ]
        row = record["adapter"]["tensors"][tensor_of(name)]
        assert row["rank"] == enough[0], name
        kept = squares[enough[0] :].sum() / squares.sum()
        assert row["relative_error"] ** 2 == pytest.approx(kept, rel=1e-6, abs=1e-12)


def test_sum_of_a_smaller_rank_is_the_best_approximation_through_its_factors(
    tmp_path, demo_base, adapters
):
    record = merged(tmp_path / "out", "linear", demo_base, adapters, AdapterOutput(rank=2))
    found = deltas(demo_base, tmp_path / "out")
    for name, delta in summed(demo_base, adapters, [0.5, 0.5]).items():
        values = np.linalg.svd(delta.numpy(), compute_uv=False)
        error = np.sqrt((values[2:] ** 2).sum())
        assert float((found[name] - delta).norm()) == pytest.approx(error, rel=1e-5)
        row = record["adapter"]["tensors"][tensor_of(name)]
        assert row["relative_error"] == pytest.approx(error / np.linalg.norm(values), rel=1e-6)


def test_sum_of_a_larger_rank_than_its_own_has_its_own(tmp_path, demo_base, adapters):
    record = merged(tmp_path / "out", "linear", demo_base, adapters, AdapterOutput(rank=5))
    ranks = {row["rank"] for row in record["adapter"]["tensors"].values()}
    assert (ranks, record["adapter"]["exact"]) == ({4, 5}, False)


@pytest.mark.parametrize("method", ["ties", "dare_ties", "dare_linear"])
def test_adapter_of_the_full_rank_moves_the_base_as_the_merged_checkpoint_does(
    tmp_path, demo_base, adapters, method
):
    asked = AdapterOutput(energy=1.0)
    merged(tmp_path / "out", method, demo_base, adapters, asked, density=0.4)
    request = request_merge(method, ["0", "1"], base=str(demo_base), density=0.4)
    merge_models(request, list(map(place, adapters)), demo_base, tmp_path / "whole")
    whole, base = (load_file(p / "model.safetensors") for p in (tmp_path / "whole", demo_base))
    for name, delta in deltas(demo_base, tmp_path / "out").items():
        start = base[tensor_of(name)].double()
        near = whole[tensor_of(name)].double()
        # Half a step of bfloat16, whose significand has 8 bits.
        assert torch.allclose(start + delta, near, rtol=2**-8, atol=1e-6), name


def test_ranks_are_the_sum_of_the_models_where_nothing_is_asked(tmp_path, demo_base, adapters):
    record = merged(tmp_path / "out", "ties", demo_base, adapters)
    found = {name: row["rank"] for name, row in record["adapter"]["tensors"].items()}
    assert {rank for name, rank in found.items() if "q_proj" in name} == {6}
    assert {rank for name, rank in found.items() if "up_proj" in name} == {4}


@pytest.mark.parametrize("output", [AdapterOutput(), AdapterOutput(energy=0.9)])
@pytest.mark.parametrize("method", ["ties", "linear"])
def test_threads_do_not_change_a_byte(tmp_path, demo_base, adapters, method, output):
    for threads in (1, 3):
        merged(tmp_path / str(threads), method, demo_base, adapters, output, threads)
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "merge.json"} <= names
    for name in names - {"README.md"}:  # Its title is the folder's.
        one, three = ((tmp_path / folder / name).read_bytes() for folder in ("1", "3"))
        assert one == three, name


def test_chain_of_adapters_counts_as_their_sum(tmp_path, demo_base, adapters):
    chain = ModelLocation(adapters=tuple(adapters), base=demo_base)
    models = [chain, adapters[1]]
    merged(tmp_path / "out", "task_arithmetic", demo_base, models, weights=[2, 1])
    found = deltas(demo_base, tmp_path / "out")
    for name, delta in summed(demo_base, [*adapters, adapters[1]], [2, 2, 1]).items():
        assert (found[name] - delta).abs().max() <= 4 * EPSILON * delta.abs().max(), name


def test_layer_that_cancels_out_has_factors_of_zeros(tmp_path, demo_base, adapters):
    models = [adapters[1], adapters[1]]
    asked = AdapterOutput(energy=0.9)
    record = merged(tmp_path / "zero", "task_arithmetic", demo_base, models, asked, weights=[0, 0])
    assert {row["rank"] for row in record["adapter"]["tensors"].values()} == {1}
    assert record["adapter"]["relative_error"] == 0
    assert all(not delta.any() for delta in deltas(demo_base, tmp_path / "zero").values())


def saved(folder, base, **config):
    """A new adapter with `config`, saved."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=2, **config)).save_pretrained(folder)
    return folder


def test_checkpoint_among_the_models_is_refused_by_name(tmp_path, demo_base, adapters):
    with pytest.raises(ModelError, match="1 is a whole model") as caught:
        merged(tmp_path / "out", "linear", demo_base, [adapters[0], demo_base])
    assert "--as model" in str(caught.value)


def test_dtype_that_factors_do_not_have_is_refused(tmp_path, demo_base, adapters):
    with pytest.raises(InputError, match="float32"):
        merged(tmp_path / "out", "linear", demo_base, adapters, dtype="bfloat16")


def test_rank_beyond_a_tensor_gives_it_its_full_rank(tmp_path, demo_base, adapters):
    asked = AdapterOutput(rank=10**6)
    record = merged(tmp_path / "out", "ties", demo_base, adapters, asked, **TIES)
    for name, delta in elected(demo_base, adapters, 0.3).items():
        row = record["adapter"]["tensors"][tensor_of(name)]
        assert row["rank"] == min(delta.shape) and row["relative_error"] < 1e-7


@pytest.mark.parametrize("method", ["ties", "linear"])
def test_factor_that_is_no_number_is_refused_and_leaves_nothing(
    tmp_path, demo_base, adapters, method
):
    broken = saved(tmp_path / "broken", demo_base, target_modules=["q_proj"])
    file = broken / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(NonFiniteError, match="q_proj"):
        merged(tmp_path / "out", method, demo_base, [adapters[0], broken])
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("other", None, None), "another form"),
        ((None, 4, None), "only an adapter"),
        (("model", None, 0.9), "only an adapter"),
        (("adapter", 4, 0.9), "exclude"),
        (("adapter", 0, None), "at least 1"),
        (("adapter", None, 1.5), "out of range"),
        (("adapter", None, float("nan")), "out of range"),
    ],
)
def test_output_that_means_nothing_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        adapter_output(*words)
