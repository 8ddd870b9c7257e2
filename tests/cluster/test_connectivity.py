"""The loss along lines: the stage against merged checkpoints, its parts, and its rows."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.cluster import connectivity
from raylab.cluster.connectivity import deal, write_connectivity
from raylab.cluster.line_parts import mean_loss, with_barrier
from raylab.errors import StudyError
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.spec.data.rows import is_held_out
from raylab.train.attempts import quiet_libraries
from tests.cluster.whole import context_of
from tests.conftest import DATA, DEMO, STUDY
from tests.lora_files import random_adapter

BASE = DEMO / "base"
LINES = """
models:
  one: {{path: {folder}/one, base_model: demo}}
  two: {{path: {folder}/two, base_model: demo}}
  same: {{path: {folder}/same, base_model: demo}}
  dora: {{path: {folder}/dora, base_model: demo}}
  whole: {{path: {base}, base_model: demo}}
connectivity:
  - {{pair: [one, two], points: {points}}}
"""
OTHERS = """
  - {pair: [one, same], points: 4}
  - {pair: [two, one], points: 3}
  - {pair: [one, whole], points: 3}
  - {pair: [two, dora], points: 3}
"""


class InThisProcess:
    """The executor without Ray. Each call has an opened job of its own, as actors have."""

    def __init__(self):
        self.tasks = 0

    def __call__(self, job, calls):
        for index, call in reversed(list(enumerate(calls))):
            self.tasks += len(call.arguments[0])
            yield index, getattr(job.open(), call.method)(*call.arguments)


def layers_of_base():
    """The (outputs, inputs) of the modules that the adapters change."""
    model = AutoModelForCausalLM.from_pretrained(BASE)
    names = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
    modules = dict(model.named_modules())
    return {name: tuple(modules[name].weight.shape) for name in names}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two adapters of different ranks, one of them twice, and one of DoRA."""
    folder = tmp_path_factory.mktemp("adapters")
    layers = layers_of_base()
    random_adapter(folder / "one", layers, rank=4, seed=1, size=0.4)
    random_adapter(folder / "two", layers, rank=7, seed=2, size=0.4)
    shutil.copytree(folder / "one", folder / "same")
    random_adapter(folder / "dora", layers, seed=3, use_dora=True)
    file = folder / "dora/adapter_model.safetensors"
    magnitudes = {
        f"base_model.model.{name}.lora_magnitude_vector": np.ones(outputs, np.float32)
        for name, (outputs, _) in layers.items()
    }
    save_file({**load_file(file), **magnitudes}, file)
    return folder


def text_of(folder, points=5, others="", bits=16):
    text = STUDY.format(base=BASE, demo=DEMO)
    text = text.replace("compute_dtype: float32", f"bits: {bits}, compute_dtype: float32")
    return text + LINES.format(folder=folder, base=BASE, points=points) + others


def evaluated(text, out, **options):
    """(the rows, the number of tasks, the forward passes, what was said) of one run."""
    executor, said = InThisProcess(), []
    passes = write_connectivity(context_of(text, out), executor, said.append, **options)
    rows = parquet.read_table(Path(out) / "tables/connectivity.parquet").to_pylist()
    return rows, executor.tasks, passes, said


def framed(tokenizer, row):
    """(ids, length of the prompt) of a question and its answer, by the tokenizer alone."""
    asked = [{"role": "user", "content": row["prompt"]}]
    before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = [*asked, {"role": "assistant", "content": row["completion"]}]
    whole = tokenizer.apply_chat_template(whole, tokenize=False)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    return ids, len(tokenizer(before, add_special_tokens=False)["input_ids"])


def held_out(name):
    """The first four held-out rows of a data set, in the order of its file."""
    rows = [json.loads(line) for line in (DATA / f"{name.lower()}.jsonl").open(encoding="utf-8")]
    return [row for row in rows if is_held_out(row["prompt"], 0.2)][:4]


def merged_loss(folder, shares, data, checkpoint):
    """(loss, tokens, answers) of a checkpoint that is really merged, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    weights = model.state_dict()
    for name, share in shares.items():
        tensors = load_file(folder / name / "adapter_model.safetensors")
        for key in (key for key in tensors if key.endswith("lora_A.weight")):
            up = tensors[key.replace("lora_A", "lora_B")].astype(np.float64)
            delta = 2.0 * up @ tensors[key].astype(np.float64)
            target = key.removeprefix("base_model.model.").replace(".lora_A", "")
            weights[target] += torch.from_numpy(share * delta).float()
    model.load_state_dict(weights)
    model.save_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    total, tokens = 0.0, 0
    for row in held_out(data):
        ids, prompt = framed(tokenizer, row)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, prompt - 1 : -1].double()
        wanted = torch.tensor(ids[prompt:])
        total += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        tokens += len(wanted)
    return total / tokens, tokens, len(held_out(data))


def test_losses_are_those_of_merged_checkpoints(adapters, tmp_path):
    rows, _, passes, _ = evaluated(text_of(adapters), tmp_path / "out")
    assert passes == 5 * 2 * 4
    keys = [(row["a"], row["b"], row["data"], row["t"]) for row in rows]
    steps = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert keys == [("one", "two", data, t) for data in ("D0", "D1") for t in steps]
    assert {row["model"] for row in rows} == {"demo"}
    expected = {}
    for row in rows:
        shares = {"one": 1 - row["t"], "two": row["t"]}
        found = merged_loss(adapters, shares, row["data"], tmp_path / "merged")
        assert (row["tokens"], row["answers"]) == found[1:]
        assert row["loss"] == pytest.approx(found[0], abs=1e-5)
        assert row["message"] is None
        expected.setdefault(row["data"], []).append(found[0])
    assert np.ptp(expected["D0"]) > 0.05
    for data, losses in expected.items():
        line = [losses[0] + t * (losses[-1] - losses[0]) for t in steps]
        barrier = max(loss - straight for loss, straight in zip(losses, line, strict=True))
        of_data = [row for row in rows if row["data"] == data]
        assert {row["barrier"] for row in of_data} == {of_data[0]["barrier"]}
        assert of_data[0]["barrier"] == pytest.approx(barrier, abs=2e-5)
        np.testing.assert_allclose([row["straight"] for row in of_data], line, atol=2e-5)


def test_table_depends_on_no_number_of_workers_and_on_nothing_that_is_there(
    adapters, tmp_path, monkeypatch
):
    text = text_of(adapters, bits=4)
    one, tasks, passes, said = evaluated(text, tmp_path / "one")
    assert (tasks, passes) == (10, 40) and any("40 forward passes" in line for line in said)
    monkeypatch.setattr(connectivity, "PASSES_A_SHARD", 4)
    assert evaluated(text, tmp_path / "five", workers=5)[0] == one
    # Nothing is missing any more, and then four points of nine are.
    assert evaluated(text, tmp_path / "one") == (one, 0, 0, [])
    nine, tasks, passes, _ = evaluated(text_of(adapters, points=9, bits=4), tmp_path / "one")
    assert (tasks, passes) == (8, 32)
    kept = {row["t"]: row["loss"] for row in one if row["data"] == "D0"}
    assert {row["t"]: row["loss"] for row in nine if row["data"] == "D0"}.items() >= kept.items()


def test_rows_of_what_cannot_be_evaluated_have_the_reason(adapters, tmp_path):
    rows, _, _, said = evaluated(text_of(adapters, others=OTHERS), tmp_path / "out")
    by_line = {}
    for row in rows:
        by_line.setdefault((row["a"], row["b"], row["data"]), []).append(row)
    assert len(by_line) == 5 * 2
    # Equal models are one model, whatever the share.
    equal = by_line["one", "same", "D0"]
    assert len(equal) == 4 and {row["loss"] for row in equal} == {equal[0]["loss"]}
    assert {row["barrier"] for row in equal} == {0.0}
    # The line back has the same points.
    there = {row["t"]: row["loss"] for row in by_line["one", "two", "D1"]}
    back = {row["t"]: row["loss"] for row in by_line["two", "one", "D1"]}
    assert back == {0.0: there[1.0], 0.5: there[0.5], 1.0: there[0.0]}
    for name, reason in (("whole", "checkpoint"), ("dora", "weights")):
        other = "one" if name == "whole" else "two"
        first, middle, last = by_line[other, name, "D0"]
        assert first["loss"] is not None and first["message"] is None
        for row in (middle, last):
            assert row["loss"] is row["tokens"] is None
            assert reason in row["message"] and "\n" not in row["message"]
        assert {row["barrier"] for row in (first, middle, last)} == {None}
        assert any(reason in line for line in said)


def test_line_to_a_merge_that_is_an_adapter_has_the_losses_of_its_models_together(
    adapters, tmp_path
):
    merge = "{method: task_arithmetic, models: [one, two], weights: [0.5, 0.5]"
    merges = f"merges:\n  both: {merge}, as: adapter}}\n  whole_both: {merge}}}\n"
    others = "  - {pair: [one, both], points: 3}\n  - {pair: [one, whole_both], points: 3}\n"
    text, out = text_of(adapters, others=others) + merges, tmp_path / "out"
    context = context_of(text, out)
    finished = {name: adapters / name for name in ("one", "two")}
    for planned in context.merges:
        rows = context.inputs.rows
        task = MergeTask(context.study, planned, {}, finished, rows, Path(BASE), str(out))
        with quiet_libraries():
            run_merge(task)
    rows, _, _, _ = evaluated(text, out)
    for row in (row for row in rows if row["b"] == "demo.both"):
        shares = {"one": 1 - row["t"] / 2, "two": row["t"] / 2}
        loss = merged_loss(adapters, shares, row["data"], tmp_path / "merged")[0]
        assert row["loss"] == pytest.approx(loss, abs=1e-5)
    assert len([row for row in rows if row["b"] == "demo.both"]) == 2 * 3
    messages = {row["message"] for row in rows if row["b"] == "demo.whole_both"}
    assert messages == {"a merge that is a whole model has no adapter"}


def test_model_that_is_not_done_has_rows(adapters, tmp_path):
    recipes = "recipes:\n  sft: {method: sft, data: D0}\n"
    text = text_of(adapters, others="  - {pair: [sft, one], points: 3}\n") + recipes
    rows = [row for row in evaluated(text, tmp_path / "out")[0] if row["a"] == "demo.sft.s42"]
    assert len(rows) == 2 * 3
    assert {row["message"] for row in rows} == {"demo.sft.s42 is not done"}
    assert {(row["loss"], row["straight"], row["barrier"]) for row in rows} == {(None,) * 3}


def test_study_without_lines_has_an_empty_table(adapters, tmp_path):
    text = text_of(adapters).partition("connectivity:")[0]
    assert evaluated(text, tmp_path / "out") == ([], 0, 0, [])


def test_line_without_held_out_rows_is_refused_before_anything_is_written(adapters, tmp_path):
    text = text_of(adapters).replace("held_out: 0.2", "held_out: 0.0")
    with pytest.raises(StudyError, match="a data set has none"):
        context_of(text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def rows_with(losses):
    last = len(losses) - 1
    return [{"t": k / last, "loss": loss} for k, loss in enumerate(losses)]


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=20))
def test_barrier_is_the_most_above_the_straight_line(losses):
    found = with_barrier(rows_with(losses))
    last = len(losses) - 1
    above = [
        loss - ((last - k) * losses[0] + k * losses[-1]) / last for k, loss in enumerate(losses)
    ]
    assert found[0]["barrier"] == pytest.approx(max(above), abs=1e-12)
    assert found[0]["barrier"] >= 0 and found[0]["excess"] == found[-1]["excess"] == 0


def test_barrier_of_equal_losses_is_zero_and_of_missing_ones_none():
    assert {row["barrier"] for row in with_barrier(rows_with([0.1] * 7))} == {0.0}
    inner = with_barrier(rows_with([1.0, None, 2.0]))
    assert [row["straight"] for row in inner] == [1.0, 1.5, 2.0]
    assert [row["excess"] for row in inner] == [0.0, None, 0.0]
    assert {row["barrier"] for row in inner} == {None}
    end = with_barrier(rows_with([None, 1.0, 2.0]))
    assert {(row["straight"], row["excess"], row["barrier"]) for row in end} == {(None,) * 3}


def test_mean_loss_of_values_that_are_not_finite_is_not_finite():
    assert mean_loss([1.0, 2.0], 4) == 0.75
    assert math.isnan(mean_loss([1.0, math.inf, -math.inf], 4))
    assert mean_loss([], 0) is None


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(1, 8))
def test_deal_hands_out_every_task_once_in_runs(passes, workers):
    shards = deal(passes, workers)
    assert [place for shard in shards for place in shard] == list(range(len(passes)))
    assert all(shards)
    largest = max(sum(passes[place] for place in shard) for shard in shards)
    assert largest <= max(connectivity.PASSES_A_SHARD * 2, connectivity.MOST_PASSES) + max(passes)
