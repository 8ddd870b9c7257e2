"""The checks of `check_gpu`: what they make is what they say, and they see what is wrong."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module", autouse=True)
def _jobs_on_the_path():
    sys.path.insert(0, str(JOBS))
    yield
    sys.path.remove(str(JOBS))


class Findings:
    """A report that keeps what it is told: claims by name, figures, parts left out."""

    def __init__(self, setting):
        from gpu_checks.report import Report

        self.claims, self.figures, self.left_out, self.found = {}, {}, [], {}
        self.report = Report(self._take, setting)

    def _take(self, event):
        kind, content = event
        if kind == "claim":
            self.claims[content["what"]] = content["holds"]
            self.found[content["what"]] = content["found"]
        elif kind == "figure":
            self.figures[content["what"]] = content["value"]
        elif kind == "left out":
            self.left_out.append(content["what"])


@pytest.fixture
def setting(tmp_path, _jobs_on_the_path):
    from gpu_checks.report import Setting

    return Setting("cpu", False, tmp_path, time.monotonic() + 600)


@pytest.fixture
def findings(setting):
    return Findings(setting)


def test_documents_that_part_are_told_apart_but_for_seconds_and_device():
    from gpu_checks.comparing import differences

    one = {"l1": 1.5, "rows": [{"n": 1}, {"n": 2}], "seconds": 1.0, "device": "cpu"}
    same = {**one, "seconds": 9.0, "device": "cuda"}
    assert differences(one, same) == []
    assert differences(one, {**one, "l1": np.nextafter(1.5, 2)}) != []
    assert differences(one, {**one, "rows": [{"n": 1}, {"n": 3}]}) == ["rows[1].n: 2, 3"]
    assert differences(one, {**one, "rows": [{"n": 1}]}) != []
    assert differences(one, {k: v for k, v in one.items() if k != "l1"}) == ["l1: 1.5, None"]
    near = {"norms": {"relative_l2": 0.1, "l2": 1.0}}
    assert differences(near, {"norms": {"relative_l2": 0.1 * (1 + 1e-13), "l2": 1.0}}) == []
    assert differences(near, {"norms": {"relative_l2": 0.1 * (1 + 1e-11), "l2": 1.0}}) != []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_models_of_two_seeds_differ_in_the_linear_layers_alone(dtype, tmp_path):
    from gpu_checks.inputs import DTYPES, TINY, write_model

    files = [write_model(tmp_path / str(i), TINY, dtype, i) for i in range(3)]
    base, one, two = (load_file(path / "model.safetensors") for path in files)
    linear = {f"{name}.weight" for name, _ in TINY.linear()}
    for name, values in base.items():
        assert values.dtype == DTYPES[dtype]
        assert torch.equal(values, one[name]) == torch.equal(one[name], two[name])
        assert torch.equal(values, one[name]) == (name not in linear)


def test_large_pair_has_the_shapes_and_differs_everywhere(tmp_path):
    from bench_models import bytes_of
    from gpu_checks.inputs import TINY, entries_of, write_large_pair

    a, b = write_large_pair(tmp_path, TINY, "cpu")
    one, two = (
        {k: v for f in path.glob("*.safetensors") for k, v in load_file(f).items()}
        for path in (a, b)
    )
    assert {name: tuple(value.shape) for name, value in one.items()} == TINY.shapes()
    assert bytes_of(a, b) == pytest.approx(2 * 2 * entries_of(TINY), rel=0.01)
    for name, values in one.items():
        assert (values != two[name]).float().mean() > 0.5, name


def test_numbers_that_are_not_numpys_are_named(tmp_path):
    from gpu_checks.inputs import TINY, write_model
    from gpu_checks.reduction import _against_numpy, document_of

    a, b = (write_model(tmp_path / str(i), TINY, "bfloat16", i) for i in (1, 2))
    document = document_of(a, b, "cpu")
    assert _against_numpy(document, a, b) == []
    document["norms"]["l2"] *= 1 + 1e-9
    document["densities"][2]["threshold"] = np.nextafter(
        np.float32(document["densities"][2]["threshold"]), np.float32(1)
    )
    wrong = _against_numpy(document, a, b)
    assert [text.split()[0] for text in wrong] == ["l2", "threshold"]


def test_quantised_codes_that_differ_are_counted_and_placed(findings):
    from gpu_checks.quantisation import _against_each_other, _weight, quantised

    shape = (33, 50)
    one, other = (quantised(_weight(shape, "bfloat16"), "cpu", True) for _ in range(2))
    _against_each_other(findings.report, "same", {shape: one}, {shape: other})
    assert findings.claims and set(findings.claims.values()) == {True}, findings.found
    other.codes[7] ^= 1
    other.stored[0] += 1
    _against_each_other(findings.report, "other", {shape: one}, {shape: other})
    assert findings.claims["other: the GPU's values are the CPU's"]
    for name in ("codes", "constants"):
        what = f"other: the GPU's {name} are the CPU's"
        assert not findings.claims[what]
        assert findings.found[what].startswith("1 differ in 33x50, of 1650 entries")


def test_codes_that_are_not_the_nearest_are_counted(findings):
    from gpu_checks.quantisation import _against_definition, _weight, quantised

    weight = _weight((100, 96), "float32")
    found = quantised(weight, "cpu", False)
    made = {(100, 96): weight}
    _against_definition(findings.report, "right", made, {(100, 96): found})
    found.codes[5] ^= 4
    found.absmax[3] *= 1.001
    _against_definition(findings.report, "wrong", made, {(100, 96): found})
    assert [*findings.claims.values()] == [True, True, False, False]


def test_empty_model_reads_as_zeros_and_takes_no_room(tmp_path):
    from gpu_checks.shapes import SMALL, WIDE, write_empty_model
    from transformers import AutoModelForCausalLM

    for name, config in SMALL.items():
        path = write_empty_model(tmp_path / name, config)
        _, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
    wide = write_empty_model(tmp_path / "wide", WIDE["llama-8b"]) / "model.safetensors"
    assert wide.stat().st_size > 16e9
    assert wide.stat().st_blocks * 512 < 1e6
    with safe_open(wide, "pt") as file:
        assert not file.get_slice("model.layers.31.mlp.up_proj.weight")[:2].any()


def test_wide_shapes_are_those_of_the_plan_at_full_width():
    from gpu_checks.shapes import SMALL, WIDE

    from raylab.plan.model_shapes import shape_of

    assert set(SMALL) == {*WIDE} - {"llama-8b"}
    for name, config in WIDE.items():
        shape = shape_of(config)
        assert shape.layers == (32 if name == "llama-8b" else 2)
        assert shape.hidden >= 3584
    assert 7.9e9 < shape_of(WIDE["llama-8b"]).parameters < 8.1e9


def test_memory_that_is_far_from_its_estimate_does_not_hold(findings, setting):
    from gpu_checks.memory import Combination, _compared

    from raylab.plan.memory import Memory

    estimate = Memory(1, 1, 1, 1, 1, 1, {"training": 1000, "reference": 500})
    one = Combination("llama", "dpo", True, 512)
    found = {"training": 1100, "reference": 700}
    shares = [*_compared(findings.report, one, estimate, found, setting)]
    assert [round(share, 3) for share in shares] == [-0.091, -0.286]
    assert [*findings.claims.values()] == [True, False]


def test_combinations_on_a_gpu_begin_with_the_large_model_and_name_all_once(tmp_path):
    from gpu_checks.memory import combinations
    from gpu_checks.report import Setting
    from gpu_checks.shapes import WIDE

    found = combinations(Setting("cuda", False, tmp_path, 0.0))
    assert len(found) == len(set(found)) == len(WIDE) * 2 * 2 * 2
    assert [one.architecture for one in found[:2]] == ["llama-8b"] * 2
    assert {one.architecture for one in found[:8]} == set(WIDE)


def test_checkpoint_in_bf16_and_entries_that_stay_are_seen(findings, tmp_path):
    from gpu_checks.training import Seen, _check_checkpoint

    early = {"x.lora_A.weight": torch.ones(10, 20), "x.lora_B.weight": torch.zeros(20, 10)}
    final = {name: value + 1 for name, value in early.items()}
    float32, bf16 = {torch.float32}, {torch.bfloat16}
    right = Seen(tmp_path, {"t": 1}, {"t": early}, {"t": float32})
    _check_checkpoint(findings.report, "right", right, "t", final)
    assert [*findings.claims.values()] == [True] * 3
    final["x.lora_A.weight"][0, :3] = 1.0
    wrong = Seen(tmp_path, {"t": 1}, {"t": early}, {"t": float32 | bf16})
    _check_checkpoint(findings.report, "wrong", wrong, "t", final)
    assert [*findings.claims.values()][3:] == [False, False, True]


def test_trainings_that_part_are_placed(findings, tmp_path):
    from gpu_checks.repeatability import _compare
    from safetensors.torch import save_file

    class Trained:
        def __init__(self, name, loss, change):
            self.folder, self.loss = tmp_path / name, loss
            self.folder.mkdir()
            weights = {"a": torch.ones(4), "b": torch.ones(4)}
            weights["b"][2] += change
            save_file(weights, self.adapter("sft"))

        def adapter(self, recipe):
            return self.folder / "adapter.safetensors"

        def history(self, recipe):
            return [
                {"step": s, "loss": 1.0 + (s == 2) * self.loss, "grad_norm": 1.0} for s in (1, 2)
            ]

    one, same, other = Trained("1", 0, 0), Trained("2", 0, 0), Trained("3", 0.5, 0.2)
    assert _compare(findings.report, "same", one, same, "sft")
    assert not _compare(findings.report, "other", one, other, "sft")
    said = findings.found["other"]
    assert "loss parts at step 2: 1.0, 1.5" in said
    assert "1 of 2 parameters differ, the first b, the largest relative L2 1.0e-01 in b" in said


def test_long_rows_are_longer_than_asked_for(tmp_path):
    import json

    from gpu_checks.bases import DEMO, long_rows
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    lines = long_rows(tmp_path, 3, 512)["D0"].read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        assert len(tokenizer(json.loads(line)["completion"])["input_ids"]) > 512


def test_copy_rate_of_files_on_a_cpu_is_that_of_reading(tmp_path):
    from gpu_checks.reduction_rates import copy_rate

    (tmp_path / "x").write_bytes(b"x" * (1 << 20))
    assert copy_rate([tmp_path / "x"], "cpu") > 1e6
