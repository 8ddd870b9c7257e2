"""Merges whose layers are those of models in another order."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

from raylab.errors import InputError, ModelError
from raylab.merge.backend import CPU
from raylab.merge.inputs import plan_merge
from raylab.merge.merge import merge_named, write_merge
from raylab.merge.named_models import find_named
from raylab.merge.record import summary_lines
from raylab.merge.torch_backend import torch_backend
from raylab.spec.mergekit import read_mergekit
from tests.merge.models import saved as directory
from tests.oracles import matrix_merging

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def saved(folder, seed, config):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, values in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(values, 1.0, 0.1)
    model.save_pretrained(folder)
    return model


def llama(layers=4, **changes):
    return LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=False, **{**SMALL, **changes})


def merged(tmp_path, text, **options):
    file = tmp_path / "merge.yaml"
    file.write_text(text.replace("FOLDER", str(tmp_path)))
    record = merge_named(read_mergekit(file), tmp_path / "out", **options)
    return record, load_file(tmp_path / "out" / "model.safetensors")


STACKED = """
slices:
  - sources: [{model: FOLDER/a, layer_range: [0, 3]}]
  - sources: [{model: FOLDER/b, layer_range: [1, 5]}]
  - sources: [{model: FOLDER/a, layer_range: [2, 4]}]
  - sources: [{model: FOLDER/b, layer_range: [4, 6]}]
merge_method: passthrough
"""
ORDER = [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3), ("b", 4), ("a", 2), ("a", 3),
         ("b", 4), ("b", 5)]  # fmt: skip


def test_slices_of_passthrough_compute_the_layers_in_their_order(tmp_path):
    models = {"a": saved(tmp_path / "a", 1, llama(4)), "b": saved(tmp_path / "b", 2, llama(6))}
    record, _ = merged(tmp_path, STACKED)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert found.config.num_hidden_layers == len(found.model.layers) == 11

    expected = models["a"]
    layers = torch.nn.ModuleList([models[name].model.layers[number] for name, number in ORDER])
    expected.model.layers, expected.config.num_hidden_layers = layers, len(layers)
    expected.model.norm, expected.lm_head = models["b"].model.norm, models["b"].lm_head
    tokens = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        theirs = expected(tokens, use_cache=False).logits
        mine = found(tokens, use_cache=False).logits
    assert torch.equal(theirs, mine)
    assert float(mine.float().std()) > 0.01

    names = [str(tmp_path / name) for name, _ in ORDER]
    assert [row["from"] for row in record["layers"]] == [
        [{"model": name, "layer": number}] for name, (_, number) in zip(names, ORDER, strict=True)
    ]
    assert record["outside"] == {
        "model.embed_tokens.weight": [str(tmp_path / "a")],
        "model.norm.weight": [str(tmp_path / "b")],
        "lm_head.weight": [str(tmp_path / "b")],
    }
    assert f"  model.layers 3-6: {tmp_path / 'b'} 1-4" in summary_lines(record)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| model.layers 7–8 | `{tmp_path / 'a'}` 2–3 |" in card


def test_slices_have_the_same_bytes_with_any_number_of_threads(tmp_path):
    for seed, name in enumerate(("a", "b", "base")):
        saved(tmp_path / name, seed, llama(4))
    text = """
slices:
  - sources:
      - {model: FOLDER/base, layer_range: [0, 3]}
      - {model: FOLDER/a, layer_range: [0, 3]}
      - {model: FOLDER/b, layer_range: [1, 4], parameters: {weight: 0.25}}
  - sources:
      - {model: FOLDER/base, layer_range: [1, 3]}
      - {model: FOLDER/a, layer_range: [2, 4]}
merge_method: dare_ties
base_model: FOLDER/base
parameters: {weight: 0.5, density: 0.5}
"""
    first = merged(tmp_path, text, threads=1)[1]
    (tmp_path / "out").rename(tmp_path / "first")
    second = merged(tmp_path, text, threads=3)[1]
    assert all(torch.equal(values, second[name]) for name, values in first.items())
    assert len(first) == len(second) == 5 * 9 + 3


def test_slices_of_adapters_are_those_of_the_whole_models(tmp_path, demo_base, adapters):
    """Base rows at other layers than the adapter's, and layers that an adapter leaves."""
    text = """
slices:
  - sources:
      - {model: BASE, layer_range: [0, 2]}
      - {model: BASE+ADAPTER, layer_range: [1, 3]}
merge_method: METHOD
base_model: BASE
parameters: {weight: 0.5}
dtype: float32
"""
    start = load_file(demo_base / "model.safetensors")
    text = text.replace("BASE", str(demo_base)).replace("ADAPTER", str(adapters[0]))
    _, found = merged(tmp_path, text.replace("METHOD", "task_arithmetic"))
    model = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
    whole = PeftModel.from_pretrained(model, adapters[0]).merge_and_unload().state_dict()
    for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "input_layernorm"):
        for layer in (0, 1):
            base = start[f"model.layers.{layer}.{name}.weight"].double()
            other = whole[f"model.layers.{layer + 1}.{name}.weight"].double()
            mine = found[f"model.layers.{layer}.{name}.weight"].double()
            assert torch.allclose(mine, base + 0.5 * (other - base), rtol=0, atol=1e-6)
            assert not torch.allclose(mine, base, rtol=0, atol=1e-4)


def test_slices_of_adapters_have_the_same_bytes_on_any_device(tmp_path, demo_base, adapters):
    file = tmp_path / "merge.yaml"
    file.write_text(f"""
slices:
  - sources:
      - {{model: {demo_base}, layer_range: [0, 2]}}
      - {{model: {demo_base}+{adapters[0]}, layer_range: [1, 3]}}
      - {{model: {demo_base}+{adapters[1]}, layer_range: [0, 2]}}
merge_method: ties
base_model: {demo_base}
parameters: {{weight: 0.5, density: 0.5}}
""")
    request = read_mergekit(file)
    named = find_named(request)
    plan = plan_merge(request, named.locations, named.base)
    found = []
    for name, backend in (("cpu", CPU), ("torch", torch_backend(torch.device("cpu")))):
        write_merge(plan, backend, tmp_path / name)
        found.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(values, found[1][name]) for name, values in found[0].items())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(1, 4)).filter(
            lambda part: part[1] + part[2] <= 4
        ),
        min_size=1,
        max_size=5,
    )
)
def test_slices_of_any_order_are_the_layers_of_their_models(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("order")
    models = {}
    for offset, name in enumerate("ab"):
        models[name] = {
            f"h.{i}.{end}": torch.full((2, 3), float(100 * offset + 10 * i + place))
            for i in range(4)
            for place, end in enumerate(("a.weight", "b.weight"))
        }
        models[name] |= {"wte.weight": torch.full((2, 3), float(offset))}
        models[name] |= {"norm.weight": torch.full((3,), float(offset))}
        directory(folder / name, models[name], n_layer=4)
    lines = [
        f"  - sources: [{{model: {folder}/{name}, layer_range: [{first}, {first + count}]}}]"
        for name, first, count in parts
    ]
    file = folder / "merge.yaml"
    file.write_text("\n".join(["merge_method: passthrough", "slices:", *lines]))
    record = merge_named(read_mergekit(file), folder / "out")
    order = [(name, first + i) for name, first, count in parts for i in range(count)]
    expected = {
        f"h.{place}.{end}": models[name][f"h.{number}.{end}"]
        for place, (name, number) in enumerate(order)
        for end in ("a.weight", "b.weight")
    }
    expected["wte.weight"] = models[order[0][0]]["wte.weight"]
    expected["norm.weight"] = models[order[-1][0]]["norm.weight"]
    found = load_file(folder / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(values, found[name]) for name, values in expected.items())
    assert json.loads((folder / "out" / "config.json").read_text())["n_layer"] == len(order)
    froms = [(row["from"][0]["model"][-1], row["from"][0]["layer"]) for row in record["layers"]]
    assert froms == order


def test_slices_say_of_every_layer_what_its_own_config_says(tmp_path):
    config = Gemma2Config(num_hidden_layers=4, sliding_window=4, **SMALL)
    for seed, name in enumerate("ab"):
        saved(tmp_path / name, seed, config)
        # As older files are: the class makes the list by position.
        file = tmp_path / name / "config.json"
        old = json.loads(file.read_text())
        kinds = old.pop("layer_types")
        file.write_text(json.dumps(old))
    text = """
slices:
  - sources: [{model: FOLDER/a, layer_range: [0, 3]}]
  - sources: [{model: FOLDER/b, layer_range: [0, 4]}]
merge_method: passthrough
"""
    merged(tmp_path, text)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["layer_types"] == [*kinds[:3], *kinds]
    assert written["num_hidden_layers"] == 7
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found.config.layer_types == written["layer_types"]


@pytest.mark.parametrize(("ranges", "fits"), [("[0, 3]", True), ("[1, 3] [0, 1]", False)])
def test_slices_of_layers_of_several_kinds_keep_their_places(tmp_path, ranges, fits):
    """Dense and expert layers, which the config tells apart by their places alone."""
    tensors = {f"model.layers.{i}.mlp.experts.weight": torch.ones(4, 2) for i in (1, 2)}
    tensors |= {"model.layers.0.mlp.up.weight": torch.ones(2, 2)}
    tensors |= {"model.embed_tokens.weight": torch.ones(3, 2)}
    directory(tmp_path / "a", tensors, model_type="of_no_library", num_hidden_layers=3)
    sources = "".join(
        f"  - sources: [{{model: FOLDER/a, layer_range: {one}]}}]\n" for one in ranges.split("] ")
    ).replace("]]", "]")
    text = f"merge_method: passthrough\nslices:\n{sources}"
    if fits:
        assert merged(tmp_path, text)
        return
    with pytest.raises(ModelError, match="layers of several kinds"):
        merged(tmp_path, text)


ONE = "slices:\n  - sources: [{model: FOLDER/a, layer_range: RANGE}]\nmerge_method: passthrough\n"
TWO = """
slices:
  - sources:
      - {model: FOLDER/a, layer_range: [0, 2]}
      - {model: FOLDER/OTHER, layer_range: [2, 4]}
merge_method: linear
parameters: {weight: WEIGHT}
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (ONE.replace("RANGE", "[2, 5]"), "has no layer 4"),
        (ONE.replace("RANGE", "[5, 6]"), "within [0, 4]"),
        (ONE.replace("RANGE", "[0, 2]") + "parameters: {scale: [1, 2, 3]}",
         "3 points for 2 layers"),
        (ONE.replace("RANGE", "[0, 2]") + "parameters: {scale: {filter: layers.3, value: 1}}",
         "matches no tensor"),
        (TWO.replace("OTHER", "wide"), "does not fit the others of its slice"),
        (TWO.replace("OTHER", "biased"), "_proj.bias, in the others: none"),
        (TWO.replace("OTHER", "b").replace("WEIGHT", "[{filter: layers.3., value: 0}, {value: 1}]"),
         ""),
        (TWO.replace("OTHER", "b").replace("WEIGHT", "{filter: mlp, value: 1}"),
         "says nothing of a tensor"),
        (TWO.replace("OTHER", "b").replace("WEIGHT", "0"), "not all 0"),
    ],
)  # fmt: skip
def test_slices_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, text, named):
    configs = {
        "a": llama(4),
        "b": llama(6),
        "wide": llama(4, intermediate_size=32),
        "biased": llama(4, attention_bias=True),
    }
    for name in (name for name in configs if f"FOLDER/{name}," in text):
        saved(tmp_path / name, 0, configs[name])
    if not named:  # The control: a filter sees the names of the models' own tensors.
        assert merged(tmp_path, text)
        return
    with pytest.raises((InputError, ModelError)) as refused:
        merged(tmp_path, text.replace("WEIGHT", "1"))
    assert named in refused.value.message
    assert not (tmp_path / "out").exists()


SPECTRAL = """
slices:
  - sources:
      - {model: FOLDER/base, layer_range: [0, 2]}
      - {model: FOLDER/a, layer_range: [0, 2]}
      - {model: FOLDER/b, layer_range: [0, 2], parameters: {weight: 0.5}}
  - sources:
      - {model: FOLDER/base, layer_range: [0, 1]}
      - {model: FOLDER/a, layer_range: [1, 2]}
      - {model: FOLDER/b, layer_range: [0, 1]}
base_model: FOLDER/base
merge_method: METHOD
parameters: {weight: 1.0}
"""


def test_slices_of_a_method_of_matrices_take_the_matrices_of_their_layers(tmp_path):
    for seed, name in enumerate(("base", "a", "b")):
        saved(tmp_path / name, seed, llama(2))
    _, found = merged(tmp_path, SPECTRAL.replace("METHOD", "iso_c"), threads=2)
    base, a, b = (load_file(tmp_path / n / "model.safetensors") for n in ("base", "a", "b"))
    tensor = "model.layers.{}.mlp.up_proj.weight"
    places = [(0, 0, 0, 0.5), (1, 1, 1, 0.5), (0, 1, 0, 1.0)]
    for number, (own, first, second, weight) in enumerate(places):
        start = base[tensor.format(own)].double().numpy()
        moves = [a[tensor.format(first)].double().numpy() - start]
        moves.append(b[tensor.format(second)].double().numpy() - start)
        wanted = start + matrix_merging.iso_c(moves, [1.0, weight])
        mine = found[tensor.format(number)].double().numpy()
        assert abs(mine - wanted).max() <= 1e-6 * abs(wanted).max()


@pytest.mark.parametrize("method", ["core_iso_c", "knots_ties"])
def test_slices_that_move_layers_are_refused_by_a_method_of_factors(tmp_path, method):
    for seed, name in enumerate(("base", "a", "b")):
        saved(tmp_path / name, seed, llama(2))
    with pytest.raises((InputError, ModelError), match="one layer of the base model"):
        merged(tmp_path, SPECTRAL.replace("METHOD", method))
