"""Mixtures of experts: adapters of stacked experts, in every layout of the base model's files."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.merge.merge import merge_models
from raylab.reduce.histogram import Norms
from raylab.reduce.job import Job, open_models
from raylab.reduce.row_block import Pair
from raylab.spec.merges import request_merge
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.train.model import load_base
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.adapter import Adapter
from raylab.weights.alignment import EntryCounts, Tolerance, align
from raylab.weights.export import write_merged
from raylab.weights.memory_names import names_in_memory
from raylab.weights.quantized_base import HeldWeights
from raylab.weights.views import ViewedModel
from tests.architectures import merged_by_peft, save_adapter, save_random
from tests.mixtures import EXPERTS, MIXTURES, save_mixture, tiny_mixture

BF16 = torch.bfloat16


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """(architecture, dtype) -> a tiny model as transformers saves it."""
    root = tmp_path_factory.mktemp("mixtures")
    return {
        (name, dtype): save_mixture(root / f"{name}-{dtype}", name, 0, dtype)
        for name in MIXTURES
        for dtype in (torch.float32, BF16)
    }


def save_stacked(directory, base):
    """The model at `base` with its experts stacked in the file, as they are in memory."""
    directory.mkdir()
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text((base / "config.json").read_text())
    return directory


def whole(adapter, name):
    """The delta of one tensor in its shape."""
    shape = adapter.shapes[name]
    rows = [adapter.rows(name, *bounds) for bounds in row_tiles.tiles(shape)]
    return torch.cat(rows).reshape(shape)


LORA = {
    "all-linear": {},
    "patterns": {
        "use_rslora": True,
        "rank_pattern": {r".*\.down_proj": 3},
        "alpha_pattern": {r".*1\.mlp\.experts\.down_proj": 5, "q_proj": 7},
    },
    "experts by name": {"target_modules": ["q_proj"], "target_parameters": [*EXPERTS]},
    "one parameter": {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj"]},
}


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("kind", LORA)
@pytest.mark.parametrize("architecture", MIXTURES)
def test_merged_model_has_the_bits_of_peft(bases, tmp_path, architecture, kind, dtype, stacked):
    base = bases[architecture, dtype]
    if stacked:
        base = save_stacked(tmp_path / "stacked", base)
    adapter = save_adapter(tmp_path / "adapter", base, **LORA[kind])
    (tmp_path / "merged").mkdir()
    write_merged(ModelLocation(adapters=(adapter,), base=base), tmp_path / "merged", threads=1)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").state_dict()
    expected, before = merged_by_peft(base, adapter), load_file(base / "model.safetensors")
    assert set(load_file(tmp_path / "merged" / "model.safetensors")) == set(before)
    for name, weight in merged.items():
        assert torch.equal(weight, expected[name]), name
    changed = Adapter.open(adapter, Checkpoint(base)).names
    experts = ("experts", "input_linear", "output_linear")  # Granite's files have the last two.
    assert any(part in name for name in changed for part in experts) == (
        "target_parameters" in LORA[kind] or architecture in {"mixtral", "qwen3_moe", "olmoe"}
    )


@pytest.mark.parametrize("architecture", MIXTURES)
def test_delta_of_every_expert_is_that_of_pefts_forward(bases, tmp_path, architecture):
    """The forward pass uses another product than the merge: its factors, expert by expert."""
    base = save_stacked(tmp_path / "stacked", bases[architecture, torch.float32])
    adapter = save_adapter(tmp_path / "adapter", base, target_parameters=[*EXPERTS], r=3)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    opened, seen = Adapter.open(adapter, Checkpoint(base)), 0
    for module in model.modules():
        if type(module).__name__ != "ParamWrapper" or module.num_experts == 1:
            continue
        left, right, scale = module.get_delta_factors("default")
        own = module.get_param()
        name = next(n for n, p in model.base_model.model.named_parameters() if p is own)
        name = name.replace(".base_layer", "")
        expected = scale * torch.matmul(left.double(), right.double())
        assert torch.allclose(whole(opened, name).double(), expected, atol=1e-6), name
        seen += 1
    assert seen == 4


def test_experts_in_files_of_their_own_have_the_delta_of_stacked_ones(bases, tmp_path):
    base = bases["mixtral", torch.float32]
    stacked = save_stacked(tmp_path / "stacked", base)
    adapter = save_adapter(tmp_path / "adapter", base)
    apart, together = (Adapter.open(adapter, Checkpoint(place)) for place in (base, stacked))
    stem = "model.layers.1"
    for expert in range(4):
        gate, up, down = (
            whole(apart, f"{stem}.block_sparse_moe.experts.{expert}.{part}.weight")
            for part in ("w1", "w3", "w2")
        )
        both = whole(together, f"{stem}.mlp.experts.gate_up_proj")[expert]
        assert torch.equal(torch.cat([gate, up]), both)
        assert torch.equal(down, whole(together, f"{stem}.mlp.experts.down_proj")[expert])
    assert apart.low_rank == set(apart.names)


def test_adapter_of_experts_without_base_says_that_it_needs_it(bases, tmp_path):
    adapter = save_adapter(tmp_path, bases["mixtral", torch.float32])
    with pytest.raises(ModelError, match=r"target_parameters(.*\n)*.*--base"):
        Adapter.open(adapter)


@pytest.mark.parametrize(
    "targets",
    [["mlp.experts.down_proj"], ["gate.weight", "down_proj"], ["gate.weight", "elsewhere.weight"]],
)
def test_parameters_that_may_be_several_need_the_base(bases, tmp_path, targets):
    """Experts, a name without its module, a name that nothing in the file explains."""
    base = bases["qwen3_moe", torch.float32]
    lora = {"target_modules": ["q_proj"], "target_parameters": targets}
    adapter = save_adapter(tmp_path, base, **lora)
    with pytest.raises(ModelError, match=r"--base"):
        Adapter.open(adapter)
    assert Adapter.open(adapter, Checkpoint(base)).names


def test_adapter_of_the_trunk_alone_is_read_under_the_names_of_the_whole(bases, tmp_path):
    base = bases["qwen3_moe", torch.float32]
    adapter = save_adapter(tmp_path / "adapter", base)
    renamed = tmp_path / "renamed"
    shutil.copytree(adapter, renamed)
    tensors = load_file(adapter / "adapter_model.safetensors")
    shorter = {
        k.replace("base_model.model.model.", "base_model.model."): t for k, t in tensors.items()
    }
    save_file(shorter, renamed / "adapter_model.safetensors")
    one, two = (Adapter.open(place, Checkpoint(base)) for place in (adapter, renamed))
    assert one.names == two.names
    assert all(torch.equal(whole(one, name), whole(two, name)) for name in one.names)


@pytest.mark.parametrize("change", ["rank", "one pair missing", "a third pair"])
def test_adapter_of_experts_that_does_not_fit_is_refused_by_name(bases, tmp_path, change):
    base = bases["qwen3_moe", torch.float32]
    adapter = save_adapter(tmp_path, base)
    file, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    tensors = load_file(file)
    if change == "rank":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"rank_pattern": {}}))
    elif change == "one pair missing":
        tensors = {k: t for k, t in tensors.items() if "1.mlp.experts.base_layer" not in k}
    else:
        inner = {k: t for k, t in tensors.items() if "experts.base_layer" in k}
        tensors |= {
            k.replace("base_layer", "base_layer.base_layer"): t + 0 for k, t in inner.items()
        }
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"layers\.\d\.mlp\.experts"):
        Adapter.open(adapter, Checkpoint(base))


def test_matrix_among_target_parameters_is_read_as_peft_merges_it(tmp_path):
    """A router that is no linear layer, in bfloat16: PEFT rounds its delta before adding it."""
    base = save_mixture(tmp_path / "base", "granitemoe", 0, BF16)
    lora = {"target_modules": ["q_proj"], "target_parameters": ["router.weight"]}
    adapter = save_adapter(tmp_path / "adapter", base, **lora)
    expected = merged_by_peft(base, adapter)
    opened, before = Adapter.open(adapter, Checkpoint(base)), Checkpoint(base)
    routers = [name for name in opened.names if "router" in name]
    assert len(routers) == 2
    for name in routers:
        rows = before.raw(name, 0, 4)
        merged = opened.merged(name, 0, 4, rows)
        assert torch.equal(merged, expected[name.replace("router.layer", "router")])
        assert not torch.equal(merged, rows)
    # A name with its module and the factors of one matrix need no base model.
    alone, memory = Adapter.open(adapter), {n: n.replace("router.layer", "router") for n in routers}
    assert {*memory.values()} <= {*alone.names}
    for name, named in memory.items():
        assert torch.equal(whole(alone, named), whole(opened, name))


def test_model_of_one_wide_expert_is_told_apart_by_its_class_not_by_its_shape(tmp_path):
    """gpt-oss has experts as wide as the model: rows and columns look alike, and are not."""
    model = tiny_mixture("gpt_oss", intermediate_size=32)
    model.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["experts.down_proj"])
    save_random(get_peft_model(model, lora), tmp_path / "adapter", 1)
    expected = merged_by_peft(tmp_path / "base", tmp_path / "adapter")
    before = load_file(tmp_path / "base" / "model.safetensors")
    opened = Adapter.open(tmp_path / "adapter", Checkpoint(tmp_path / "base"))
    name = "model.layers.0.mlp.experts.down_proj"
    assert opened.shapes[name] == (4, 32, 32)
    delta = expected[name] - before[name]
    assert torch.allclose(whole(opened, name), delta, atol=1e-6)
    assert not torch.allclose(whole(opened, name), delta.transpose(1, 2), atol=1e-3)


def moved(base, directory, seed=3):
    """The model at `base` with every weight moved a little, as transformers saves it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=draws))
    model.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("stacked", ["a", "b", "neither", "both"])
@pytest.mark.parametrize("architecture", ["mixtral", "qwen3_moe", "granitemoe"])
def test_stacked_experts_are_compared_with_experts_of_their_own_files(
    bases, tmp_path, architecture, stacked, with_base
):
    one = bases[architecture, torch.float32]
    two = moved(one, tmp_path / "two")
    places = {"a": one, "b": two}
    for side in places:
        if stacked in (side, "both"):
            places[side] = save_stacked(tmp_path / f"stacked-{side}", places[side])
    base = one if with_base else None
    location = {side: ModelLocation(checkpoint=place) for side, place in places.items()}
    job = Job(location, (Pair("", "a", "b"),), base)
    opened = open_models(job.places, job.view, base)[0]
    shapes, counts = align(opened["a"], opened["b"], Tolerance())
    found = sum(job.open().measure(sorted(shapes), {}, {}).norms[""].values(), Norms())
    truth = [
        AutoModelForCausalLM.from_pretrained(place, dtype="auto").state_dict()
        for place in (one, two)
    ]
    squares = [
        float((truth[0][n].double() - truth[1][n].double()).square().sum()) for n in truth[0]
    ]
    assert found.l2 == pytest.approx(math.sqrt(math.fsum(squares)), rel=1e-6)
    numel = sum(tensor.numel() for tensor in truth[0].values())
    assert counts.as_row() == EntryCounts(compared=numel).as_row()


def test_merge_of_stacked_experts_has_the_layout_of_its_base(bases, tmp_path):
    """The linear merge of one model with itself is that model, in the base model's files."""
    base = bases["mixtral", torch.float32]
    two = moved(base, tmp_path / "two")
    stacked = save_stacked(tmp_path / "stacked", two)
    request = request_merge("linear", [str(stacked)] * 2, base=str(base), weights=[0.5, 0.5])
    places = [ModelLocation(checkpoint=stacked)] * 2
    merge_models(request, places, base, tmp_path / "merged")
    made, wanted = (load_file(place / "model.safetensors") for place in (tmp_path / "merged", two))
    assert set(made) == set(wanted)
    for name, tensor in made.items():
        assert torch.allclose(tensor, wanted[name], atol=1e-7), name


def test_experts_of_several_dtypes_are_not_stacked_and_are_named(bases, tmp_path):
    base = bases["mixtral", torch.float32]
    stacked = save_stacked(tmp_path / "stacked", base)
    mixed = tmp_path / "mixed"
    shutil.copytree(base, mixed)
    tensors = load_file(mixed / "model.safetensors")
    name = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    save_file(tensors | {name: tensors[name].to(BF16)}, mixed / "model.safetensors")
    places = [ModelLocation(checkpoint=place) for place in (stacked, mixed)]
    one = ViewedModel(places[0])
    two = ViewedModel(places[1], like=one)
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.experts\.gate_up_proj"):
        align(one, two, Tolerance())


def test_skipping_experts_is_not_advised_where_they_are_the_larger_part(bases, tmp_path):
    base = bases["mixtral", torch.float32]
    without = tmp_path / "without"
    shutil.copytree(base, without)
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    save_file(kept, without / "model.safetensors")
    lost = sum(t.numel() for n, t in tensors.items() if n not in kept)
    one, two = (ViewedModel(ModelLocation(checkpoint=place)) for place in (base, without))
    with pytest.raises(ModelError) as caught:
        align(one, two, Tolerance())
    assert f"leave out {lost:,} of" in caught.value.todo and "--missing" not in caught.value.todo


def test_adapter_of_an_older_transformers_with_a_layer_for_each_expert_is_read(bases, tmp_path):
    """Experts were linear layers once; PEFT stacks such an adapter when it loads it."""
    base = bases["mixtral", torch.float32]
    draws = torch.Generator().manual_seed(4)
    tensors = {}
    for layer in range(2):
        stem = f"base_model.model.model.layers.{layer}"
        modules = {f"{stem}.self_attn.q_proj": (32, 32), f"{stem}.block_sparse_moe.gate": (4, 32)}
        for expert in range(4):
            own = f"{stem}.block_sparse_moe.experts.{expert}"
            modules |= {f"{own}.w1": (48, 32), f"{own}.w3": (48, 32), f"{own}.w2": (32, 48)}
        for module, (rows, columns) in modules.items():
            tensors[f"{module}.lora_A.weight"] = torch.randn(3, columns, generator=draws) / 10
            tensors[f"{module}.lora_B.weight"] = torch.randn(rows, 3, generator=draws) / 10
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6}
    config["target_modules"] = ["q_proj", "gate", "w1", "w2", "w3"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "merged").mkdir()
    write_merged(ModelLocation(adapters=(adapter,), base=base), tmp_path / "merged", threads=1)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").state_dict()
    expected = merged_by_peft(base, adapter)
    for name, weight in merged.items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name
    changed = Adapter.open(adapter, Checkpoint(base)).names
    assert len(changed) == len(tensors) // 2


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("architecture", ["mixtral", "qwen2_moe", "gpt_oss", "granitemoe"])
def test_training_in_4_bits_holds_experts_and_routers_in_its_compute_dtype(
    bases, tmp_path, architecture, stacked
):
    base = bases[architecture, torch.float32]
    if stacked:
        base = save_stacked(tmp_path / "stacked", base)
    checkpoint = Checkpoint(base)
    held = HeldWeights(checkpoint, Quantization())
    model = load_base(base, Quantization())
    quantised = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert quantised and not any("experts.gate_up_proj" in name for name in quantised)
    in_memory = names_in_memory(base, checkpoint.shapes).in_memory
    for name, shape in checkpoint.shapes.items():
        if len(shape) == 1 or "embed" in name or "lm_head" in name:
            continue
        height = shape[0]
        found = held.raw(name, 0, height)
        rounded = checkpoint.raw(name, 0, height).to(BF16).float()
        assert torch.equal(found, rounded) != (in_memory.get(name) in quantised), name
