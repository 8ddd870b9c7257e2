"""`raylab merge` as a user meets it: exit statuses, one message, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.cli import main


@pytest.fixture
def models(tmp_path):
    """base, first and second in a directory of their own."""
    folder = tmp_path / "models"
    for seed, name in enumerate(["base", "first", "second"]):
        random = torch.Generator().manual_seed(seed)
        tensors = {"a.weight": torch.randn(20, 10, generator=random).bfloat16()}
        (folder / name).mkdir(parents=True)
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.fixture
def adapters(models):
    """base, and two adapters of rank 3 of its one layer."""
    found = [models / "base"]
    for seed in (5, 6):
        random = torch.Generator().manual_seed(seed)
        down, up = (torch.randn(shape, generator=random) for shape in ((3, 10), (20, 3)))
        stem = "base_model.model.a"
        factors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        (models / str(seed)).mkdir()
        save_file(factors, models / str(seed) / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6}
        (models / str(seed) / "adapter_config.json").write_text(json.dumps(config))
        found.append(models / str(seed))
    return found


def raylab(capsys, *words):
    """(exit status, standard output, standard error)."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    output = capsys.readouterr()
    return end.value.code, output.out, output.err


def test_merge_ties_writes_a_checkpoint_and_says_what_it_did(models, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--base", models / "base", "--model", models / "first", "--model", models / "second"]
    words += ["--weight", "1", "--weight", "0.5", "--density", "0.3", "--lambda", "2"]
    status, output, _ = raylab(capsys, "merge", "ties", *words, "--out", out)
    record = json.loads((out / "merge.json").read_text())
    assert status == 0
    assert "ties: scope global, lambda 2" in output
    assert "weight 0.5, density 0.3, num_keep 60, threshold 1." in output
    assert f"kept {record['models'][1]['kept']} of 200" in output
    assert str(out) in output
    assert [row["weight"] for row in record["models"]] == [1.0, 0.5]
    assert record["models"][0]["kept"] >= 60
    assert load_file(out / "model.safetensors")["a.weight"].dtype == torch.bfloat16
    assert {path.name for path in out.iterdir()} == {
        "README.md", "config.json", "merge.html", "merge.json", "model.safetensors"
    }  # fmt: skip


def test_merge_json_prints_the_record_and_nothing_else(models, tmp_path, capsys):
    words = ["--model", models / "first", "--model", models / "second", "--set", "t=0.5"]
    out = tmp_path / "out"
    status, output, _ = raylab(capsys, "merge", "slerp", *words, "--out", out, "--json")
    assert status == 0
    assert json.loads(output) == json.loads((out / "merge.json").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["no merge method is given", "--config FILE"]),
        (["slerp", "--model", "a", "--model", "b"], ["slerp needs t", "--set t=NUMBER"]),
    ],
)
def test_merge_without_what_it_needs_says_how_to_give_it(tmp_path, capsys, words, said):
    status, _, error = raylab(capsys, "merge", *words, "--out", tmp_path / "out")
    assert status == 2
    assert [text for text in said if text not in error] == []


def test_merge_page_stands_beside_a_model_that_loads(models, tmp_path, capsys):
    words = ["--base", models / "base", "--model", models / "first", "--lang", "ja"]
    out = tmp_path / "out"
    status, _, error = raylab(capsys, "merge", "ties", *words, "--out", out)
    assert (status, error) == (0, f"page: {out}/merge.ja.html\n")
    assert "TIES-Merging" in (out / "merge.ja.html").read_text(encoding="utf-8")
    assert "merge.ja.html" not in json.loads((out / "merge.json").read_text())["files"]
    status, output, _ = raylab(capsys, "diff", out, models / "base", "--json")
    assert (status, json.loads(output)["numel"]) == (0, 200)


def test_merge_config_and_options_give_the_same_weights(models, tmp_path, capsys):
    file = tmp_path / "merge.yaml"
    entries = [{"model": str(models / name)} for name in ("first", "second")]
    common = {"weight": 1.0, "density": 0.4, "lambda": 0.5}
    config = {"merge_method": "ties", "base_model": str(models / "base"), "models": entries}
    file.write_text(json.dumps({**config, "parameters": common, "dtype": "bfloat16"}))
    status, output, _ = raylab(capsys, "merge", "--config", file, "--out", tmp_path / "one")
    assert status == 0
    assert "scope tensor, lambda 0.5" in output
    words = ["--base", models / "base", "--model", models / "first", "--model", models / "second"]
    words += ["--density", "0.4", "--lambda", "0.5", "--scope", "tensor", "--max-shard-gb", "1"]
    raylab(capsys, "merge", "ties", *words, "--out", tmp_path / "two")
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two


def test_merge_linear_needs_no_base(models, tmp_path, capsys):
    words = ["--model", models / "first", "--model", models / "second", "--out", tmp_path / "out"]
    assert raylab(capsys, "merge", "linear", *words)[0] == 0
    first, second, mean = (
        load_file(folder / "model.safetensors")["a.weight"].double()
        for folder in (models / "first", models / "second", tmp_path / "out")
    )
    assert torch.equal(mean, ((first + second) / 2).bfloat16().double())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["soup", "--base", "base", "--model", "first"], "soup"),
        (["--base", "base", "--model", "first"], "merge method"),
        (["ties", "--model", "first"], "needs the base model"),
        (["ties", "--base", "base"], "needs models"),
        (["ties", "--base", "base", "--model", "first", "--density", "0"], "density"),
        (["ties", "--base", "base", "--model", "first", "--density", "x"], "density"),
        (
            ["ties", "--base", "base", "--model", "first", "--weight", "1", "--weight", "2"],
            "weights",
        ),
        (["ties", "--base", "base", "--model", "first", "--scope", "row"], "scope"),
        (["ties", "--base", "base", "--model", "nowhere"], "nowhere"),
        (["ties", "--base", "nowhere", "--model", "first"], "nowhere"),
        (["linear", "--model", "first", "--lambda", "2"], "lambda"),
        (["--config", "merge.yaml", "--density", "0.3"], "density"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_merge_wrong_input_is_one_message_and_writes_nothing(
    models, tmp_path, capsys, monkeypatch, words, named
):
    monkeypatch.chdir(models)
    status, output, error = raylab(capsys, "merge", *words, "--out", tmp_path / "out")
    assert (status, output) == (2, "")
    assert named in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == [models]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_merge_device_cuda_without_a_gpu_is_one_message_and_writes_nothing(
    models, tmp_path, capsys
):
    words = ["--base", models / "base", "--model", models / "first", "--out", tmp_path / "out"]
    status, output, error = raylab(capsys, "merge", "ties", *words, "--device", "cuda")
    assert (status, output) == (2, "")
    assert "no GPU" in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == [models]


@pytest.mark.parametrize("words", [[], ["--device", "cpu"], ["--device", "auto"]])
def test_merge_record_says_which_device_was_used(models, tmp_path, capsys, words):
    out = tmp_path / "out"
    models = ["--base", models / "base", "--model", models / "first"]
    status, output, _ = raylab(capsys, "merge", "ties", *models, "--out", out, *words)
    assert (status, json.loads((out / "merge.json").read_text())["device"]) == (0, "cpu")
    assert "cuda" not in output


def test_merge_existing_out_is_refused(models, tmp_path, capsys):
    words = ["--base", models / "base", "--model", models / "first", "--out", models / "second"]
    before = (models / "second" / "model.safetensors").read_bytes()
    status, _, error = raylab(capsys, "merge", "ties", *words)
    assert status == 2
    assert "there already" in error
    assert (models / "second" / "model.safetensors").read_bytes() == before


LOADED = """
import sys
from raylab.cli import main
try:
    main(sys.argv[1:])
finally:
    print(sorted({"transformers", "peft", "ray", "pandas", "datasets"} & set(sys.modules)))
"""


def test_merge_loads_none_of_the_slow_libraries(models, tmp_path):
    words = ["merge", "ties", "--base", models / "base", "--model", models / "first"]
    command = [sys.executable, "-c", LOADED, *map(str, words), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_merge_as_an_adapter_writes_factors_a_page_and_what_was_lost(adapters, tmp_path, capsys):
    base, *models = adapters
    words = ["--base", base, "--model", models[0], "--model", models[1], "--as", "adapter"]
    out = tmp_path / "out"
    status, output, _ = raylab(capsys, "merge", "ties", *words, "--rank", "2", "--out", out)
    assert status == 0
    assert "an adapter of 60 parameters, rank at most 2, relative error 0." in output
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "merge.html"}
    assert {path.name for path in out.iterdir()} == {*names, "merge.json"}
    assert "relative error" in (out / "README.md").read_text()
    status, output, _ = raylab(capsys, "diff", out, models[0], "--base", base, "--json")
    assert (status, json.loads(output)["numel"]) == (0, 200)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rank", "4"], "only an adapter has a rank"),
        (["--as", "lora"], "another form"),
        (["--as", "adapter", "--max-shard-gb", "4"], "--max-shard-gb 4 beside --as adapter"),
        (["--as", "adapter", "--energy", "nan"], "energy of an adapter is out of range"),
    ],
)
def test_merge_as_what_cannot_be_is_one_message(adapters, tmp_path, capsys, words, message):
    base, *models = adapters
    given = ["--base", base, "--model", models[0], *words, "--out", tmp_path / "out"]
    status, _, error = raylab(capsys, "merge", "ties", *given)
    assert (status, message in error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_merge_of_a_checkpoint_as_an_adapter_is_refused(models, tmp_path, capsys):
    given = ["--base", models / "base", "--model", models / "first", "--as", "adapter"]
    status, _, error = raylab(capsys, "merge", "linear", *given, "--out", tmp_path / "out")
    assert (status, "--as model" in error, (tmp_path / "out").exists()) == (2, True, False)
