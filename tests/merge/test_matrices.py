"""Methods of task matrices, against the papers' definitions on whole matrices in float64."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raylab.errors import InputError, ModelError, NonFiniteError
from raylab.merge.backend import CPU
from raylab.merge.inputs import plan_merge
from raylab.merge.matrices import RULES, merge_factors, merge_matrices, merged_product
from raylab.merge.merge import merge_models
from raylab.merge.model_rows import ModelRows
from raylab.merge.record import summary_lines
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_settings import spots_of
from raylab.spec.merges import request_merge
from raylab.spec.output_tokenizer import asked_tokenizer
from raylab.spec.tensor_settings import settings_of
from tests.merge.models import made, place
from tests.merge.test_adapter_out import deltas
from tests.oracles import matrix_merging as oracle

W = [1.0, -0.5, 2.0]
CASES = [
    ("tsv", {}, lambda m, f: oracle.tsv(m, [1, 1, 1])),
    ("tsv", {"weights": W, "parameters": {"k": 2}}, lambda m, f: oracle.tsv(m, W, 2)),
    ("iso_c", {"weights": W}, lambda m, f: oracle.iso_c(m, W)),
    ("iso_cts", {"weights": W}, lambda m, f: oracle.iso_cts(m, W)),
    ("iso_cts", {"parameters": {"common": 0.3}}, lambda m, f: oracle.iso_cts(m, [1, 1, 1], 0.3)),
    ("knots_ties", {"weights": W, "density": 1.0}, lambda m, f: oracle.knots_ties(m, W, 1.0)),
    ("knots_ties", {"density": 0.3}, lambda m, f: oracle.knots_ties(m, [1, 1, 1], 0.3)),
    ("core_ties", {"weights": W, "density": 0.4},
     lambda m, f: oracle.core(f, lambda c: oracle.ties(c, W, 0.4))),
    ("core_ties", {"density": 1.0},
     lambda m, f: oracle.core(f, lambda c: oracle.ties(c, [1, 1, 1], 1.0))),
    ("core_tsv", {"weights": W}, lambda m, f: oracle.core(f, lambda c: oracle.tsv(c, W))),
    ("core_iso_c", {}, lambda m, f: oracle.core(f, lambda c: oracle.iso_c(c, [1, 1, 1]))),
]  # fmt: skip
METHODS_OF_MATRICES = [name for name, row in METHODS.items() if row.combines == "matrices"]


def test_every_method_has_a_rule_and_a_case():
    assert {*METHODS_OF_MATRICES} == {*RULES} == {case[0] for case in CASES}


@pytest.fixture(scope="module")
def three(tmp_path_factory, demo_base):
    """Adapters of ranks 4, 2 and 3; the second and third leave up_proj."""
    folder = tmp_path_factory.mktemp("three")
    for seed, (rank, targets) in enumerate(
        [(4, ["q_proj", "up_proj"]), (2, ["q_proj"]), (3, ["q_proj"])]
    ):
        save_adapter(folder / str(seed), demo_base, seed, r=rank, target_modules=targets)
    return [folder / str(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def whole(demo_base, three):
    """The task matrices of the three, as PEFT reads them."""
    return matrices(demo_base, three)


def save_adapter(folder, base, seed, std=0.05, **config):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(lora_alpha=16, **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(folder)
    return folder


def request_of(method, base, paths, **options):
    return request_merge(method, [str(p) for p in paths], base=str(base), **options)


def products(method, base, paths, **options):
    """{tensor: the merged task matrix before lambda, float64}."""
    request = request_of(method, base, paths, **options)
    plan = plan_merge(request, list(map(place, paths)), base)
    rows = ModelRows(plan, CPU)
    found = {n: merged_product(rows, n) for n in plan.shapes if plan.models_of(n)}
    heights = {n: plan.shapes[n][0] for n in found}
    return {n: p.rows(0, heights[n]).reshape(heights[n], -1) for n, p in found.items()}


def matrices(base, paths):
    """{tensor: the task matrix of every model}, zeros where a model leaves it."""
    each = [deltas(base, path) for path in paths]
    shapes = {name: delta.shape for found in each for name, delta in found.items()}
    zero = {name: torch.zeros(shape).double() for name, shape in shapes.items()}
    return {f"{n}.weight": [{**zero, **d}[n].numpy() for d in each] for n in shapes}


def factors(paths):
    """{tensor: (B, A) of every model that changes it}, with the scale in B."""
    found = {}
    for path in paths:
        config = json.loads((path / "adapter_config.json").read_text())
        tensors = load_file(path / "adapter_model.safetensors")
        for key in (k for k in tensors if "lora_A" in k):
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            up = tensors[key.replace("lora_A", "lora_B")].double().numpy()
            pair = config["lora_alpha"] / config["r"] * up, tensors[key].double().numpy()
            found.setdefault(name, []).append(pair)
    return found


def near(left, right, tolerance=1e-9):
    size = np.linalg.norm(right)
    assert np.linalg.norm(left - right) <= tolerance * size or not size


@pytest.mark.parametrize(("method", "options", "function"), CASES)
def test_factors_of_adapters_give_what_the_papers_define_on_whole_matrices(
    demo_base, three, whole, method, options, function
):
    found, pairs = products(method, demo_base, three, **options), factors(three)
    assert found.keys() == whole.keys()
    for name in [n for n in found if "q_proj" in n][:2]:
        near(found[name], function(whole[name], pairs[name]))


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts"])
def test_layer_that_two_models_leave_is_merged_with_zeros(demo_base, three, whole, method):
    found = products(method, demo_base, three)
    name = next(name for name in found if "up_proj" in name)
    near(found[name], getattr(oracle, method)(whole[name], [1, 1, 1]))


DENSE = [
    ("tsv", {"weights": [1.0, 0.5]}, lambda m: oracle.tsv(m, [1.0, 0.5])),
    ("iso_c", {"scaling": 0.5}, lambda m: 0.5 * oracle.iso_c(m, [1, 1])),
    ("iso_cts", {"weights": [1.0, 2.0]}, lambda m: oracle.iso_cts(m, [1.0, 2.0])),
]


@pytest.mark.parametrize(("method", "options", "function"), DENSE)
def test_checkpoints_are_merged_by_their_whole_matrices(tmp_path, method, options, function):
    base, others, paths = made(tmp_path, dtype=torch.float32)
    request = request_of(method, paths[0], paths[1:], **options)
    record = merge_models(request, list(map(place, paths[1:])), paths[0], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    weights = options.get("weights", [1.0, 1.0])
    for name, start in base.items():
        moves = [(other[name] - start).double().numpy() for other in others]
        if start.ndim == 2:
            wanted = function(moves)
        else:
            wanted = sum(w * m for w, m in zip(weights, moves, strict=True)) / 2
            wanted = wanted * options.get("scaling", 1.0)
        np.testing.assert_allclose(
            found[name].double().numpy(), start + wanted, rtol=1e-6, atol=1e-7
        )
    assert "kept" not in record["models"][0]
    assert summary_lines(record)[0].startswith(method)


def drawn_factors(seed, ranks=(3, 2, 4), rows=30, columns=40):
    random = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(rows, r, generator=random).double(),
            torch.randn(r, columns, generator=random).double(),
        )
        for r in ranks
    ]


def settings(method, models, weights=None, **options):
    """What a request has for one layer."""
    request = request_merge(method, ["m"] * models, base="b", weights=weights, **options)
    return settings_of(request, spots_of(["layer"]))["layer"]


def by_rule(method, pairs, weights=None, **options):
    """The merged matrix of a method, given factors."""
    up, down = merge_factors(method, pairs, settings(method, len(pairs), weights, **options))
    return (up @ down).numpy()


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts"])
@pytest.mark.parametrize("seed", range(3))
def test_factors_and_their_products_give_one_result(method, seed):
    pairs, weights = drawn_factors(seed), [1.0, 0.5, -2.0]
    products = [up @ down for up, down in pairs]
    up, down = merge_matrices(method, products, settings(method, 3, weights))
    near(by_rule(method, pairs, weights), (up @ down).numpy())


@pytest.mark.parametrize("method", METHODS_OF_MATRICES)
@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_models_does_not_matter(method, seed):
    pairs, weights = drawn_factors(seed), [1.0, 0.5, -2.0]
    one = by_rule(method, pairs, weights)
    other = by_rule(method, pairs[::-1], weights[::-1])
    near(one, other)


def options_of(method):
    return {"density": 1.0} if METHODS[method].elects else {}


BACK = [m for m in METHODS_OF_MATRICES if "iso" not in m]


@pytest.mark.parametrize("method", BACK)
@pytest.mark.parametrize("models", [1, 2, 3])
def test_equal_models_are_the_model(method, models):
    pairs = drawn_factors(1, ranks=(3,)) * models
    near(by_rule(method, pairs, **options_of(method)), (pairs[0][0] @ pairs[0][1]).numpy())


@pytest.mark.parametrize("method", ["iso_c", "iso_cts", "core_iso_c"])
def test_one_model_has_its_singular_vectors_and_their_mean_singular_value(method):
    ((up, down),) = drawn_factors(1, ranks=(5,))
    u, s, v = oracle.svd((up @ down).numpy())
    near(by_rule(method, [(up, down)]), s.mean() * u @ v)


def test_core_space_changes_neither_iso_c_nor_tsv_of_as_many_singular_values():
    pairs, weights = drawn_factors(4), [1.0, 0.5, -2.0]
    near(by_rule("core_iso_c", pairs, weights), by_rule("iso_c", pairs, weights))
    of_core = by_rule("core_tsv", pairs, weights)
    near(of_core, by_rule("tsv", pairs, weights, parameters={"k": 3}))
    assert np.linalg.norm(of_core - by_rule("tsv", pairs, weights)) > 1e-3


@pytest.mark.parametrize("method", METHODS_OF_MATRICES)
def test_untrained_adapters_move_nothing(method):
    pairs = [(0 * up, down) for up, down in drawn_factors(2)]
    assert not by_rule(method, pairs).any()


def merged(out, method, base, paths, output=None, threads=2, **options):
    request = request_of(method, base, paths, output=output, **options)
    return merge_models(request, list(map(place, paths)), base, out, threads=threads)


@pytest.mark.parametrize("method", METHODS_OF_MATRICES)
def test_merge_to_an_adapter_is_exact_and_moves_the_base_as_the_whole_model(
    tmp_path, demo_base, three, method
):
    record = merged(tmp_path / "out", method, demo_base, three, AdapterOutput(), scaling=0.5)
    assert record["adapter"]["exact"] and record["adapter"]["relative_error"] == 0
    assert all("kept" not in row for row in record["models"])
    ranks = {name: row["rank"] for name, row in record["adapter"]["tensors"].items()}
    assert max(ranks.values()) <= 4 + 2 + 3
    merged(tmp_path / "whole", method, demo_base, three, scaling=0.5, dtype="float32")
    whole, base = (load_file(p / "model.safetensors") for p in (tmp_path / "whole", demo_base))
    found, exact = deltas(demo_base, tmp_path / "out"), products(method, demo_base, three)
    assert {f"{name}.weight" for name in found} == exact.keys()
    for name, delta in found.items():
        near(delta.numpy(), 0.5 * exact[f"{name}.weight"], 2e-7)
        start = base[f"{name}.weight"].double()
        assert torch.allclose(start + delta, whole[f"{name}.weight"].double(), rtol=1e-6, atol=1e-7)
    others = base.keys() - exact.keys()
    assert others and all(torch.equal(whole[n], base[n].float()) for n in others)


@pytest.mark.parametrize("asked", [AdapterOutput(rank=2), AdapterOutput(energy=0.8)])
def test_smaller_adapter_is_the_best_approximation(tmp_path, demo_base, three, asked):
    record = merged(tmp_path / "out", "iso_cts", demo_base, three, asked)
    exact = products("iso_cts", demo_base, three)
    for name, row in record["adapter"]["tensors"].items():
        squares = np.linalg.svd(exact[name], compute_uv=False) ** 2
        kept = squares[: row["rank"]].sum() / squares.sum()
        assert row["relative_error"] == pytest.approx(
            math.sqrt(max(0, 1 - kept)), rel=1e-6, abs=1e-7
        )
        assert asked.energy is None or kept >= asked.energy - 1e-12
    assert not record["adapter"]["exact"]


@pytest.mark.parametrize("output", [None, AdapterOutput()])
@pytest.mark.parametrize("method", ["tsv", "knots_ties", "core_ties"])
def test_threads_do_not_change_a_byte(tmp_path, demo_base, three, method, output):
    for threads in (1, 3):
        merged(tmp_path / str(threads), method, demo_base, three, output, threads)
    for file in (tmp_path / "1").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "3" / file.name).read_bytes()


def test_adapter_and_checkpoint_together_are_merged_by_whole_matrices(
    tmp_path, demo_base, three, whole
):
    merged(tmp_path / "whole", "linear", demo_base, three[1:2], dtype="float32")
    found = products("iso_c", demo_base, [three[0], tmp_path / "whole"])
    base, other = (load_file(p / "model.safetensors") for p in (demo_base, tmp_path / "whole"))
    for name in [n for n in found if "q_proj" in n][:2]:
        second = (other[name] - base[name].float()).double().numpy()
        # A checkpoint's rounding has small singular values, whose vectors are less certain.
        near(found[name], oracle.iso_c([whole[name][0], second], [1, 1]), 1e-6)


@pytest.mark.parametrize("method", [m for m in RULES if METHODS[m].inputs == "factors"])
def test_whole_model_is_refused_by_a_method_of_factors(tmp_path, demo_base, three, method):
    with pytest.raises(ModelError, match="is a whole model, and has no factors") as caught:
        merged(tmp_path / "out", method, demo_base, [three[0], demo_base])
    assert "merge them by tsv" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_more_than_factors_is_refused_with_what_it_is(tmp_path, demo_base, three):
    other = save_adapter(tmp_path / "dora", demo_base, 1, target_modules=["q_proj"], use_dora=True)
    with pytest.raises(ModelError, match="DoRA"):
        merged(tmp_path / "out", "core_ties", demo_base, [three[0], other])
    merged(tmp_path / "out", "tsv", demo_base, [three[0], other])


def test_factor_that_is_no_number_is_refused_and_leaves_nothing(tmp_path, demo_base, three):
    broken = save_adapter(tmp_path / "broken", demo_base, 1, target_modules=["q_proj"])
    file = broken / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = math.nan
    save_file(tensors, file)
    for output in (None, AdapterOutput()):
        with pytest.raises(NonFiniteError, match="q_proj"):
            merged(tmp_path / "out", "tsv", demo_base, [three[0], broken], output)
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("tsv", {"density": 0.5}, "density"),
        ("knots_ties", {"scope": "tensor"}, "scope"),
        ("core_iso_c", {"seed": 1}, "seed"),
        ("iso_cts", {"parameters": {"common": 1.5}}, "common"),
        ("tsv", {"parameters": {"k": 0.5}}, "k"),
    ],
)
def test_setting_that_a_method_does_not_use_is_refused(method, options, named):
    with pytest.raises(InputError, match=named):
        request_merge(method, ["a", "b"], base="base", **options)


def test_tokenizer_beside_a_method_of_factors_is_refused(tmp_path, demo_base, three):
    with pytest.raises(InputError, match="no rows of tokens"):
        merged(tmp_path / "out", "core_ties", demo_base, three, tokenizer=asked_tokenizer("union"))


def test_gpu_is_refused(tmp_path):
    with pytest.raises(InputError, match="runs on the CPU"):
        merge_models(
            request_merge("tsv", ["a", "b"], base="c"), [], None, tmp_path / "out", device="cuda"
        )
