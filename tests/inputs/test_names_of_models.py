"""Models and adapters whose names differ between files, memory and other ways of saving."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config

from raylab.cluster import reduction, stages
from raylab.errors import ModelError
from raylab.reduce.job import InProcess
from raylab.reduce.passes import task_vector_norms
from raylab.spec.study import Quantization
from raylab.store.tables import read_table, rows_of
from raylab.train.attempts import quiet_libraries
from raylab.train.model import load_base
from raylab.train.trial import TrialTask, run_trial
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.adapter import Adapter
from raylab.weights.memory_names import auto_class_of
from tests.architectures import save_adapter, save_random, save_tiny
from tests.chats import tiny_tokenizer
from tests.commands import exit_status
from tests.multimodal import CAUSAL, MULTIMODAL, save_multimodal
from tests.train.test_architectures import study_over

FLOAT32 = torch.float32
TRAINED = [(name, "AutoModelForImageTextToText") for name in MULTIMODAL]
TRAINED += [(name, "AutoModelForCausalLM") for name in CAUSAL]
TRAINED += [(name, "AutoModel") for name in MULTIMODAL]


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory):
    root = tmp_path_factory.mktemp("multimodal")
    return {name: save_multimodal(root / name, name) for name in MULTIMODAL}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("llama") / "base", "llama", dtype=FLOAT32)


@pytest.fixture(scope="module")
def llama_adapter(llama, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("llama") / "adapter", llama)


@pytest.fixture
def diff(capfd):
    """Runs `raylab diff`: the document, or the message of an exit status 2."""

    def run(*words, fails=False):
        status = exit_status("diff", *map(str, words), "--json")
        said = capfd.readouterr()
        assert status == (2 if fails else 0), said.err
        return said.err if fails else {**json.loads(said.out), "stderr": said.err}

    return run


def whole(adapter, name):
    shape = adapter.shapes[name]
    return torch.cat([adapter.rows(name, *bounds) for bounds in row_tiles.tiles(shape)])


def trained_by_peft(base, directory, auto_class, seed=1):
    """An adapter over all linear layers of the model that `auto_class` loads, saved at
    `directory`; the deltas of PEFT's merge in float64, by the names of the base model's files.

    The file's name of a parameter is that of the tensor with its bytes: weights are random.
    """
    model = getattr(transformers, auto_class).from_pretrained(base, dtype="auto")
    files = {t.numpy().tobytes(): n for n, t in load_file(base / "model.safetensors").items()}
    names = {n: files.get(p.detach().numpy().tobytes()) for n, p in model.named_parameters()}
    before = {name: p.detach().double() for name, p in model.named_parameters()}
    lora = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear")
    peft_model = get_peft_model(model, lora)
    save_random(peft_model, directory, seed)
    merged = dict(peft_model.merge_and_unload().named_parameters())
    deltas = {names[name]: merged[name].detach().double() - before[name] for name in before}
    return {name: delta for name, delta in deltas.items() if delta.any()}


@pytest.mark.parametrize(("architecture", "auto_class"), TRAINED)
def test_adapter_of_a_multimodal_base_has_the_deltas_of_peft_under_the_names_of_its_files(
    multimodal, tmp_path, architecture, auto_class
):
    base = multimodal[architecture]
    expected = trained_by_peft(base, tmp_path, auto_class)
    adapter = Adapter.open(tmp_path, Checkpoint(base))
    assert {*adapter.names} == {*expected}
    assert sum("language_model" in n or n.startswith("model.layers") for n in expected) >= 12
    for name, delta in expected.items():
        found = whole(adapter, name).reshape(delta.shape)
        assert torch.allclose(found.double(), delta, atol=1e-6), name


@pytest.mark.parametrize(("architecture", "auto_class"), [
    ("gemma3", "AutoModelForCausalLM"), ("qwen2_5_vl", "AutoModelForImageTextToText"),
])  # fmt: skip
def test_diff_of_a_multimodal_adapter_and_its_base_is_the_norm_of_the_merge(
    multimodal, tmp_path, diff, architecture, auto_class
):
    base = multimodal[architecture]
    expected = trained_by_peft(base, tmp_path / "a", auto_class)
    found = diff(tmp_path / "a", base, "--base", base)
    flat = np.concatenate([delta.numpy().ravel() for delta in expected.values()])
    assert found["norms"]["l2"] == pytest.approx(np.linalg.norm(flat), rel=1e-5)
    assert found["numel"] == found["accounting"]["compared"] == flat.size


def test_adapters_of_two_classes_of_one_base_are_compared_over_the_same_tensors(
    multimodal, tmp_path, diff
):
    base = multimodal["qwen3_5"]
    one = trained_by_peft(base, tmp_path / "a", "AutoModelForCausalLM", seed=1)
    two = trained_by_peft(base, tmp_path / "b", "AutoModelForImageTextToText", seed=2)
    found = diff(tmp_path / "a", tmp_path / "b", "--base", base)
    squares = sum(float(((one.get(n, 0) - two[n]) ** 2).sum()) for n in two)
    assert {*one} < {*two}
    assert found["norms"]["l2"] == pytest.approx(squares**0.5, rel=1e-5)


def test_checkpoints_of_one_model_under_older_and_newer_names_do_not_differ(
    multimodal, tmp_path, diff
):
    base = multimodal["llava"]
    files = load_file(base / "model.safetensors")
    newer = tmp_path / "newer"
    shutil.copytree(base, newer)
    renamed = {
        name.replace("language_model.lm_head", "lm_head")
        .replace("language_model.model.", "model.language_model.")
        .replace("multi_modal_projector", "model.multi_modal_projector"): tensor
        for name, tensor in files.items()
    }
    renamed = {n.replace("vision_tower", "model.vision_tower"): t for n, t in renamed.items()}
    moved = next(name for name in renamed if name.endswith("0.mlp.up_proj.weight"))
    renamed[moved] = renamed[moved] + 0.5
    save_file(renamed, newer / "model.safetensors", metadata={"format": "pt"})
    found = diff(base, newer)
    assert found["norms"]["l1"] == pytest.approx(0.5 * renamed[moved].numel(), rel=1e-5)
    numel = sum(tensor.numel() for tensor in files.values())
    assert found["accounting"]["compared"] == found["numel"] == numel
    back = diff(newer, base, "--base", base)
    assert back["base"]["l2_a"] == pytest.approx(found["norms"]["l2"])
    assert back["base"]["l2_b"] == 0


def renamed(path, directory, change):
    """A copy of the adapter at `path` whose keys are `change` of what they were."""
    shutil.copytree(path, directory)
    tensors = load_file(path / "adapter_model.safetensors")
    save_file(
        {change(key): t for key, t in tensors.items()}, directory / "adapter_model.safetensors"
    )
    return directory


PREFIX = "base_model.model."
SAVED_OTHERWISE = {
    "AutoModel": lambda key: key.replace("model.model.model.", "model.model."),
    "prefix twice": lambda key: PREFIX + key,
    "prefix thrice": lambda key: PREFIX * 2 + key,
    "no prefix": lambda key: key.removeprefix(PREFIX),
    "no prefix, AutoModel": lambda key: key.removeprefix(PREFIX + "model."),
    "another model around it": lambda key: key.replace(PREFIX, PREFIX + "model."),
    "DataParallel": lambda key: "module." + key,
    "torch.compile": lambda key: key.replace(PREFIX, PREFIX + "_orig_mod."),
    "compiled layers": lambda key: key.replace(".mlp.", "._orig_mod.mlp."),
    "FSDP": lambda key: key.replace(".self_attn", "._fsdp_wrapped_module.self_attn"),
    "checkpointing": lambda key: key.replace(".self_attn", "._checkpoint_wrapped_module.self_attn"),
    "name of the adapter": lambda key: key.replace(".weight", ".default.weight"),
    "language model in a model": lambda key: key.replace("model.layers", "language_model.layers"),
}  # fmt: skip


@pytest.mark.parametrize("way", SAVED_OTHERWISE)
@pytest.mark.parametrize("with_base", [True, False])
def test_diff_of_an_adapter_and_its_renamed_copy_is_zero(
    llama, llama_adapter, tmp_path, diff, way, with_base
):
    copy = renamed(llama_adapter, tmp_path / "copy", SAVED_OTHERWISE[way])
    options = ("--base", llama) if with_base else ()
    there, back = diff(llama_adapter, copy, *options), diff(copy, llama_adapter, *options)
    alone = diff(llama_adapter, llama_adapter)
    for found in (there, back):
        assert found["norms"]["l2"] == 0
        assert found["numel"] == found["accounting"]["compared"] == alone["numel"]
    if with_base:
        assert there["base"]["l2_a"] == there["base"]["l2_b"] > 0


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gpt2"])
def test_adapter_saved_by_peft_on_auto_model_is_read_as_peft_merges_it(tmp_path, architecture):
    base = tmp_path / "base"
    if architecture == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64)
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
    else:
        save_tiny(base, architecture, dtype=FLOAT32)
    expected = trained_by_peft(base, tmp_path / "a", "AutoModel")
    adapter = Adapter.open(tmp_path / "a", Checkpoint(base))
    assert {*adapter.names} == {*expected}
    for name, delta in expected.items():
        assert torch.allclose(whole(adapter, name).double(), delta, atol=1e-6), name


def test_adapter_over_files_that_lack_the_prefix_of_the_class_is_read(tmp_path):
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=64)
    AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    files = load_file(tmp_path / "base" / "model.safetensors")
    assert "h.0.attn.c_attn.weight" in files
    save_adapter(tmp_path / "a", tmp_path / "base", target_modules=["c_attn"])
    adapter = Adapter.open(tmp_path / "a", Checkpoint(tmp_path / "base"))
    assert adapter.names == tuple(f"h.{layer}.attn.c_attn.weight" for layer in (0, 1))


def test_part_that_only_one_adapter_changes_follows_the_names_of_the_rest(llama, tmp_path, diff):
    one = save_adapter(tmp_path / "one", llama, 1, target_modules=["q_proj"])
    two = save_adapter(tmp_path / "two", llama, 2, target_modules=["q_proj", "down_proj"])
    copy = renamed(two, tmp_path / "copy", SAVED_OTHERWISE["AutoModel"])
    expected = diff(one, two)
    for found in (diff(one, copy), diff(copy, one), diff(one, copy, "--base", llama)):
        assert found["numel"] == expected["numel"]
        assert found["norms"]["l2"] == expected["norms"]["l2"]


def test_adapters_without_a_common_tensor_are_an_error_that_names_both(llama, tmp_path, diff):
    one = save_adapter(tmp_path / "one", llama, 1, target_modules=["q_proj"])
    two = save_adapter(tmp_path / "two", llama, 2, target_modules=["down_proj"])
    for options in ((), ("--base", llama)):
        said = diff(one, two, *options, fails=True)
        assert "no tensor in common" in said and "--missing skip" in said
        assert "layers.0.self_attn.q_proj" in said and "layers.0.mlp.down_proj" in said
    found = diff(one, two, "--missing", "skip")
    sides = [diff(path, path)["numel"] for path in (one, two)]
    counted = found["accounting"]
    assert found["stderr"].count("\n") == 1 and "no tensor in common" in found["stderr"]
    assert [counted["only_in_a"], counted["only_in_b"], counted["compared"]] == [*sides, 0]
    norms = [diff(path, llama, "--base", llama)["norms"]["l2"] for path in (one, two)]
    assert found["norms"]["l2"] == pytest.approx(np.hypot(*norms))


def test_names_that_could_mean_two_tensors_are_an_error_that_names_them(tmp_path):
    shapes = {"model.language_model.layers.0.q_proj", "language_model.layers.0.q_proj"}
    base = tmp_path / "base"
    base.mkdir()
    tensors = {f"{name}.weight": torch.zeros(4, 4) for name in shapes}
    save_file(tensors, base / "model.safetensors")
    tensors = {
        f"{PREFIX}layers.0.q_proj.lora_A.weight": torch.ones(2, 4),
        f"{PREFIX}layers.0.q_proj.lora_B.weight": torch.ones(4, 2),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="fit more than one tensor") as caught:
        Adapter.open(tmp_path, Checkpoint(base))
    assert all(name in str(caught.value) for name in shapes)


def test_adapter_of_a_vision_tower_is_no_adapter_of_a_text_model(llama, llama_adapter, tmp_path):
    def change(key):
        return key.replace("model.layers", "vision_tower.layers")

    copy = renamed(llama_adapter, tmp_path / "copy", change)
    with pytest.raises(ModelError, match="does not fit the base model"):
        Adapter.open(copy, Checkpoint(llama))


def test_adapter_keys_of_two_adapters_in_one_file_are_refused(llama_adapter, tmp_path):
    def change(key):
        return key.replace(".weight", f".{'one' if '.0.' in key else 'two'}.weight")

    copy = renamed(llama_adapter, tmp_path / "copy", change)
    with pytest.raises(ModelError, match=r"one adapter in a file"):
        Adapter.open(copy)


def test_models_of_equal_names_and_other_leading_parts_need_no_transformers(
    llama, llama_adapter, tmp_path
):
    copy = renamed(llama_adapter, tmp_path / "copy", SAVED_OTHERWISE["AutoModel"])
    code = (
        "import sys; from pathlib import Path; from raylab.weights import Checkpoint;"
        "from raylab.weights.adapter import Adapter;"
        f"base = Checkpoint(Path({str(llama)!r}));"
        f"Checkpoint(Path({str(llama)!r}), base);"
        f"Adapter.open(Path({str(copy)!r}), base);"
        "print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("architecture", MULTIMODAL)
def test_base_that_reads_images_is_loaded_for_training_by_the_class_that_knows_it(
    multimodal, architecture
):
    model = load_base(multimodal[architecture], Quantization(bits=16, compute_dtype="float32"))
    expected = "AutoModelForCausalLM" if architecture in CAUSAL else "AutoModelForImageTextToText"
    assert auto_class_of(multimodal[architecture]) == expected
    loaded = getattr(transformers, expected).from_pretrained(multimodal[architecture])
    assert type(model) is type(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gemma3", "mistral3"])
def test_trial_over_a_base_that_reads_images_is_reduced(multimodal, tmp_path, architecture):
    base = tmp_path / architecture
    shutil.copytree(multimodal[architecture], base)
    tiny_tokenizer("llama").save_pretrained(base)
    study = study_over(tmp_path, **{architecture: str(base)})
    made = stages.prepare(study, str(tmp_path / "out"))
    trials = {trial.name: trial for trial in made.trials}
    for recipe in ("sft", "merged"):
        trial, rows = trials[f"{architecture}.{recipe}.s42"], made.inputs.rows
        task = TrialTask(made.study, trial, trials, rows, base, made.store.uri)
        with quiet_libraries():
            run_trial(task, task_vector_norms, lambda progress: None)
    _, causes = reduction.write_reduction(made, InProcess(), lambda text: None)
    assert causes == {}
    rows = [row for row in rows_of(read_table(made.store, "norms")) if row["level"] == "all"]
    found = {row["comparison"]: row["l2"] for row in rows if row["view"] == "delta"}
    trial = f"{architecture}.sft.s42"
    folder = Path(made.store.root) / "trials" / trials[trial].folder / "adapter"
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    squares = sum(
        float((scale * tensors[key.replace("lora_A", "lora_B")].double() @ down.double()).norm())
        ** 2
        for key, down in tensors.items()
        if "lora_A" in key
    )
    assert found[f"{trial}~{architecture}"] == pytest.approx(squares**0.5, rel=1e-5)
