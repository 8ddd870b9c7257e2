"""Checkpoints and adapters as other tools leave them: empty tensors, quantised weights."""

from __future__ import annotations

import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GptOssConfig

from raylab.errors import ModelError
from raylab.spec.study import Quantization
from raylab.train.model import load_base
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from raylab.weights.export import concatenate
from tests.architectures import save_adapter, save_tiny, tiny_model
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


BF16 = torch.bfloat16
NF4_WIDTH = 80
"""A multiple of 16 and not of 64, where bitsandbytes on AVX512 goes wrong for whole matrices."""
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The values of MXFP4's codes (OCP Microscaling Formats 1.0, table 5)."""


def in_bitsandbytes(directory, full, **settings):
    """`full` quantised by bitsandbytes and saved by transformers; its weights by numpy."""
    config = BitsAndBytesConfig(bnb_4bit_quant_type="nf4", **settings)
    model = AutoModelForCausalLM.from_pretrained(
        full, quantization_config=config, dtype="auto", device_map="cpu"
    )
    model.save_pretrained(directory)
    files = load_file(directory / "model.safetensors")
    expected = load_file(full / "model.safetensors")
    for name in [name for name in files if name.endswith("proj.weight")]:
        shape, stem = expected[name].shape, name.removesuffix(".weight")
        if f"{stem}.SCB" in files:
            scales = files[f"{stem}.SCB"].numpy().astype(np.float64) / 127
            values = files[name].numpy() * scales[:, None]
        else:
            packed = files[name].numpy().reshape(-1)
            codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)
            table = files[f"{name}.quant_map"].numpy().astype(np.float64)
            scales = np.repeat(files[f"{name}.absmax"].numpy().astype(np.float64), 64)
            values = (table[codes] * scales[: codes.size]).reshape(shape)
        expected[name] = torch.from_numpy(values).to(torch.float32).to(BF16)
    return expected


def in_fp8(directory, full):
    """`full` as DeepSeek-V3 and others store it: codes, and a scale for each 128 x 128 block."""
    expected = load_file(full / "model.safetensors")
    files = dict(expected)
    for name in [name for name in expected if name.endswith("proj.weight")]:
        weight = expected[name].float()
        rows, columns = (-(-extent // 128) for extent in weight.shape)
        codes, scales = (
            torch.empty(weight.shape, dtype=torch.float8_e4m3fn),
            torch.empty(rows, columns),
        )
        for row, column in itertools.product(range(rows), range(columns)):
            at = (slice(128 * row, 128 * row + 128), slice(128 * column, 128 * column + 128))
            scales[row, column] = weight[at].abs().max() / 448
            codes[at] = (weight[at] / scales[row, column]).to(torch.float8_e4m3fn)
        files |= {name: codes, f"{name}_scale_inv": scales}
        each = np.kron(scales.numpy(), np.ones((128, 128), np.float32))
        values = codes.float().numpy() * each[: weight.shape[0], : weight.shape[1]]
        expected[name] = torch.from_numpy(values).to(BF16)
    settings = {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
    }
    quantised(directory, full, files, settings)
    return expected


def in_mxfp4(directory, full):
    """`full`, a tiny gpt-oss, as OpenAI stores it: blocks of 32 codes with a power of two."""
    draws = np.random.default_rng(3)
    expected = load_file(full / "model.safetensors")
    files = dict(expected)
    for name in [name for name in expected if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = expected[name].shape
        codes = draws.integers(0, 16, (experts, outputs, inputs // 32, 32), dtype=np.uint8)
        scales = draws.integers(118, 124, (experts, outputs, inputs // 32), dtype=np.uint8)
        blocks = codes[..., ::2] | (codes[..., 1::2] << 4)
        del files[name]
        files[f"{name}_blocks"] = torch.from_numpy(np.ascontiguousarray(blocks))
        files[f"{name}_scales"] = torch.from_numpy(scales)
        values = E2M1[codes] * 2.0 ** (scales.astype(np.float64) - 127)[..., None]
        values = values.reshape(experts, outputs, inputs).transpose(0, 2, 1)
        expected[name] = torch.from_numpy(np.ascontiguousarray(values)).to(BF16)
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens"]
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": [*skipped, "lm_head"]}
    quantised(directory, full, files, settings)
    return expected


def quantised(directory, full, files, settings):
    directory.mkdir()
    save_file(files, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((full / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))


def gpt_oss(directory):
    config = GptOssConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        layer_types=["full_attention"],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    AutoModelForCausalLM.from_config(config, dtype=BF16).save_pretrained(directory)


QUANTISED = {
    "bitsandbytes, 4 bits": lambda to, full: in_bitsandbytes(to, full, load_in_4bit=True),
    "bitsandbytes, 8 bits": lambda to, full: in_bitsandbytes(to, full, load_in_8bit=True),
    "fp8": in_fp8,
    "mxfp4": in_mxfp4,
}


@pytest.fixture(scope="module")
def full_models(tmp_path_factory):
    """The directories of a tiny model in full precision, by method."""
    llama, oss = tmp_path_factory.mktemp("llama"), tmp_path_factory.mktemp("oss")
    sizes = {"hidden_size": NF4_WIDTH, "intermediate_size": 144}
    tiny_model("llama", 0, BF16, **sizes).save_pretrained(llama)
    gpt_oss(oss)
    return {name: oss if name == "mxfp4" else llama for name in QUANTISED}


@pytest.mark.parametrize("method", QUANTISED)
def test_quantised_checkpoint_is_compared_and_merged_as_its_codes_times_scales(
    tmp_path, capsys, monkeypatch, full_models, method
):
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    full, path = full_models[method], tmp_path / "quantised"
    expected = QUANTISED[method](path, full)
    assert "--dequantize" in refused(capsys, "diff", path, full)
    assert exit_status("diff", path, full, "--dequantize", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    start = load_file(full / "model.safetensors")
    squares = [float((expected[n].double() - start[n].double()).square().sum()) for n in start]
    assert document["numel"] == sum(tensor.numel() for tensor in start.values())
    assert document["norms"]["l2"] == pytest.approx(math.sqrt(sum(squares)), rel=1e-6)
    (copy,) = (tmp_path / "scratch" / "dequantized").glob("quantised-*[0-9a-f]")
    made = load_file(copy / "model.safetensors")
    assert {name: tensor.shape for name, tensor in made.items()} == {
        name: tensor.shape for name, tensor in start.items()
    }
    assert all(torch.equal(made[name], expected[name]) for name in start)
    words = ("merge", "linear", "--model", path, "--model", full, "--out", tmp_path / "out")
    assert "--dequantize" in refused(capsys, *words)
    assert exit_status(*words, "--dequantize") == 0
    assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    for name, tensor in expected.items():
        mean = (tensor.double() + start[name].double()) / 2
        assert torch.equal(merged[name], mean.to(BF16)), name


def test_scales_of_activations_beside_quantised_weights_change_no_weight(
    tmp_path, capsys, monkeypatch, full_models
):
    """As `activation_scheme: static` and static compressed-tensors have them."""
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    path, out = tmp_path / "quantised", tmp_path / "out"
    expected = in_fp8(path, full_models["fp8"])
    files = load_file(path / "model.safetensors")
    layers = [name.removesuffix(".weight") for name in files if name.endswith("proj.weight")]
    ends = ("input_scale", "activation_scale", "k_scale", "input_zero_point")
    files |= {f"{layer}.{end}": torch.ones(1) for layer in layers for end in ends}
    save_file(files, path / "model.safetensors", {"format": "pt"})
    assert exit_status("merge", "linear", "--model", path, "--dequantize", "--out", out) == 0
    made = load_file(out / "model.safetensors")
    assert {*made} == {*expected}
    assert all(torch.equal(made[name], expected[name]) for name in expected)


COMPRESSED = {"group": "pack-quantized", "channel": "int-quantized", "tensor": "float-quantized"}


def in_compressed_tensors(directory, full, strategy):
    """`full` as llm-compressor stores it: 4-bit codes in groups, int8 by channel, fp8 by tensor."""
    expected = load_file(full / "model.safetensors")
    files = dict(expected)
    for name in [name for name in expected if name.endswith("proj.weight")]:
        stem, weight = name.removesuffix(".weight"), expected[name].float()
        rows, columns = weight.shape
        if strategy == "group":
            scales = (weight.view(rows, -1, 16).abs().amax(-1) / 7).to(BF16)
            each = scales.float().repeat_interleave(16, 1)
            codes = (weight / each).round().clamp(-8, 7)
            nibbles = (codes + 8).numpy().astype(np.int64).reshape(rows, columns // 8, 8)
            packed = (nibbles << (4 * np.arange(8))).sum(-1).astype(np.uint32).view(np.int32)
            del files[name]
            files[f"{stem}.weight_packed"] = torch.from_numpy(packed)
            files[f"{stem}.weight_shape"] = torch.tensor([rows, columns])
        elif strategy == "channel":
            scales = (weight.abs().amax(-1, keepdim=True) / 127).to(BF16)
            each = scales.float()
            codes = (weight / each).round().clamp(-128, 127)
            files[name] = codes.to(torch.int8)
        else:
            scales = (weight.abs().max().view(1) / 448).to(BF16)
            each = scales.float()
            codes = (weight / each).to(torch.float8_e4m3fn)
            files[name] = codes
            files[f"{stem}.input_scale"] = torch.ones(1, dtype=BF16)
        files[f"{stem}.weight_scale"] = scales
        expected[name] = (codes.to(BF16) * each.to(BF16)).to(BF16)
    weights = {
        "num_bits": 4 if strategy == "group" else 8,
        "type": "float" if strategy == "tensor" else "int",
        "strategy": strategy,
        "group_size": 16 if strategy == "group" else None,
        "symmetric": True,
        "dynamic": False,
    }
    static = weights if strategy == "tensor" else None
    group = {"targets": ["Linear"], "weights": weights, "input_activations": static}
    settings = {
        "quant_method": "compressed-tensors",
        "format": COMPRESSED[strategy],
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group | {"format": COMPRESSED[strategy]}},
    }
    quantised(directory, full, files, settings)
    return expected


@pytest.mark.parametrize("strategy", COMPRESSED)
def test_compressed_tensors_are_merged_as_their_codes_times_scales(
    tmp_path, monkeypatch, full_models, strategy
):
    pytest.importorskip("compressed_tensors")
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    path, out = tmp_path / "quantised", tmp_path / "out"
    expected = in_compressed_tensors(path, full_models["fp8"], strategy)
    assert exit_status("merge", "linear", "--model", path, "--dequantize", "--out", out) == 0
    made = load_file(out / "model.safetensors")
    assert {*made} == {*expected}
    for name, weight in expected.items():
        assert torch.equal(made[name], weight), name
    assert "quantization_config" not in json.loads((out / "config.json").read_text())


NOT_HERE = {
    "gptq": {"quant_method": "gptq", "bits": 4},
    "awq": {"quant_method": "awq", "bits": 4},
    "hqq": {"quant_method": "hqq"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    "unknown": {"group_size": 64, "bits": 4},
}


@pytest.mark.parametrize("method", NOT_HERE)
def test_quantised_checkpoint_that_is_not_undone_here_is_refused_with_the_way_out(
    tmp_path, capsys, monkeypatch, base, method
):
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    path = tmp_path / "quantised"
    shutil.copytree(base, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(
        json.dumps(config | {"quantization_config": NOT_HERE[method]})
    )
    for words in (("diff", path, base), ("diff", path, base, "--dequantize")):
        message = refused(capsys, *words)
        assert method in message
        assert "it was made from" in message
    if method == "compressed-tensors":
        assert "pip install compressed-tensors" in message
    assert not (tmp_path / "scratch").exists()


QUANTISED_BASES = {
    "gptq": ({"quantization_config": NOT_HERE["gptq"]}, "gptq"),
    "awq": ({"quantization_config": NOT_HERE["awq"]}, "awq"),
    "bitsandbytes": ({"quantization_config": {"load_in_4bit": True}}, "--dequantize --out"),
    "fp8": ({"quantization_config": {"quant_method": "fp8"}}, "--dequantize --out"),
    "mlx": ({"quantization": {"group_size": 64, "bits": 4}}, "unknown"),
    "a part": ({"text_config": {"quantization_config": NOT_HERE["gptq"]}}, "gptq"),
}


@pytest.mark.parametrize("kind", QUANTISED_BASES)
def test_quantised_base_model_of_a_study_is_refused_by_plan_and_at_a_training(
    tmp_path, capsys, base, kind
):
    study = write_study_folder(tmp_path)
    shutil.rmtree(tmp_path / "base")
    shutil.copytree(base, tmp_path / "base")
    fields, named = QUANTISED_BASES[kind]
    config = json.loads((base / "config.json").read_text()) | fields
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    (tmp_path / "base/tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    message = refused(capsys, "plan", study)
    assert "the base model tiny is quantised already" in message
    assert named in message
    assert "it was made from" in message
    with pytest.raises(ModelError, match="quantised already"):
        load_base(tmp_path / "base", Quantization())


def test_advice_for_a_quantised_base_model_writes_one_in_full_precision(
    tmp_path, monkeypatch, full_models
):
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    path, out = tmp_path / "quantised", tmp_path / "out"
    expected = in_fp8(path, full_models["fp8"])
    assert exit_status("merge", "linear", "--model", path, "--dequantize", "--out", out) == 0
    made = load_file(out / "model.safetensors")
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_quantised_checkpoint_that_lacks_a_weight_is_refused_and_leaves_nothing(
    tmp_path, capsys, monkeypatch, full_models
):
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    path = tmp_path / "quantised"
    in_fp8(path, full_models["fp8"])
    files = load_file(path / "model.safetensors")
    del files["model.norm.weight"]
    save_file(files, path / "model.safetensors", {"format": "pt"})
    message = refused(capsys, "diff", path, full_models["fp8"], "--dequantize")
    assert "1 not in the files: model.norm.weight" in message
    assert not list((tmp_path / "scratch" / "dequantized").glob("quantised-*[0-9a-f]"))


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("F8_E8M0", 8), ("F8_E4M3FNUZ", 8)],
)
def test_codes_of_quantised_weights_are_named_with_their_dtype(tmp_path, capsys, base, dtype, bits):
    header = {"w": {"dtype": dtype, "shape": [8, 4], "data_offsets": [0, 4 * bits]}}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + b"\0" * (4 * bits)
    path = tmp_path / "codes"
    path.mkdir()
    (path / "model.safetensors").write_bytes(content)
    message = refused(capsys, "diff", path, base)
    assert f"raylab reads no {dtype}" in message
    assert "dequantise" in message
    assert "fetch" not in message
