"""How models differ in what they predict: the stage over Ray against transformers and PEFT."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from pyarrow import parquet
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from raylab.cluster import functions
from raylab.cluster.actors import ActorPool
from raylab.cluster.functions import TABLES_OF_FUNCTIONS, cut, deal, write_functions
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.reduce.shard_cache import CachingExecutor
from raylab.spec.data.rows import is_held_out
from raylab.store.merged_parents import merged_directory
from raylab.train.evaluate.function_job import FunctionJob, Usage
from tests.cluster.whole import context_of
from tests.conftest import DATA, DEMO
from tests.oracles.functions import cka_of_blocks, softmax, token_divergences

pytestmark = pytest.mark.cluster

BASE = DEMO / "base"
MODELS = ("demo.sft-d0.s42", "demo.sft-d1.s42", "demo.child.s42", "demo")
OTHERS = ("wide", "short")
PAIRS = [(a, b) for i, a in enumerate(MODELS) for b in MODELS[i + 1 :]]


class InThisProcess:
    """The executor without Ray. Each call has an opened job of its own, as actors have."""

    def __init__(self):
        self.jobs, self.shards = [], 0

    def __call__(self, job, calls):
        self.jobs += [job] if not any(job is known for known in self.jobs) else []
        self.shards = len(calls)
        for index, call in reversed(list(enumerate(calls))):
            yield index, getattr(job.open(), call.method)(*call.arguments)


def _path(context):
    return Path(context.store.root)


def rows_of(out, table):
    return parquet.read_table(out / "tables" / f"{table}.parquet").to_pylist()


def bytes_of(out):
    return {name: (out / "tables" / f"{name}.parquet").read_bytes() for name in TABLES_OF_FUNCTIONS}


@pytest.fixture
def copy(finished, tmp_path):
    """(the study's text, a copy of its store from which nothing was compared)."""
    text, context, _ = finished
    shutil.copytree(context.store.root, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "reduced")
    return text, tmp_path / "copy"


def compared(text, out, **options):
    """(the executor, the forward passes, what was said) of one run of the stage."""
    executor, said = InThisProcess(), []
    passes = write_functions(context_of(text, out), executor, said.append, **options)
    return executor, passes, said


def plain(checkpoint, adapter):
    """A model by transformers and PEFT alone, in 4 bits as the study trains."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, quantization_config=settings
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


@pytest.fixture(scope="module")
def oracle(finished, tmp_path_factory):
    """By model: a function from (ids, length of the prompt) to logits and hidden states."""
    out, base = _path(finished[1]), BASE
    folders = {name: next((out / "trials").glob(f"{name}-*")) for name in MODELS[:3]}
    merged = tmp_path_factory.mktemp("merged")
    parent = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    parent = PeftModel.from_pretrained(parent, folders[MODELS[1]] / "adapter")
    parent.merge_and_unload().save_pretrained(merged)
    models = {name: plain(base, folders[name] / "adapter") for name in MODELS[:2]}
    models[MODELS[2]] = plain(merged, folders[MODELS[2]] / "adapter")
    models[MODELS[3]] = plain(base, None)

    def ask(name, ids, prompt):
        with torch.no_grad():
            found = models[name](torch.tensor([ids]), output_hidden_states=True)
        states = [one[0, prompt:].double().numpy() for one in found.hidden_states]
        return found.logits[0, prompt - 1 : -1].double().numpy(), states

    samples = {}
    for name, folder in folders.items():
        lines = (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
        samples[name] = [json.loads(line) for line in lines if line]
    return ask, samples


def framed(tokenizer, prompt, answer):
    """(ids, length of the prompt) of a question and its answer."""
    asked = [{"role": "user", "content": prompt}]
    before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = [*asked, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(whole, tokenize=False)
    prompt_ids = tokenizer(before, add_special_tokens=False)["input_ids"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt_ids)] == prompt_ids
    return ids, len(prompt_ids)


def held_out(tokenizer, name):
    """The first four held-out answers of a data set, in the order of its file."""
    rows = [json.loads(line) for line in (DATA / f"{name.lower()}.jsonl").open(encoding="utf-8")]
    kept = [row for row in rows if is_held_out(row["prompt"], 0.2)][:4]
    return [framed(tokenizer, row["prompt"], row["completion"]) for row in kept]


def own(tokenizer, samples):
    """The greedy answers of a model, whose end is a token where it ended."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    found = []
    for sample in samples:
        asked = [{"role": "user", "content": sample["prompt"]}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(before, add_special_tokens=False)["input_ids"]
        found.append((prompt + sample["token_ids"] + [end] * sample["stopped"], len(prompt)))
    return found


def expected_row(ask, a, b, answers):
    values = [token_divergences(ask(a, *one)[0], ask(b, *one)[0]) for one in answers]
    return np.concatenate(values, axis=1)


def test_functions_over_ray_are_those_of_plain_models(finished, oracle):
    _, context, _ = finished
    ask, samples = oracle
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    found = rows_of(_path(context), "functions")
    by_key = {(r["a"], r["b"], r["answers"], r["data"]): r for r in found}
    sources = {("held_out", d): held_out(tokenizer, d) for d in ("D0", "D1")}
    asked = {"demo.sft-d0.s42": "D0", "demo.sft-d1.s42": "D1", "demo.child.s42": "D0"}
    expected = {}
    for a, b in PAIRS:
        owners = [name for name in (a, b) if name in samples]
        data = "+".join(dict.fromkeys(asked[name] for name in owners))
        answers = [one for name in owners for one in own(tokenizer, samples[name])]
        for (kind, name), some in {**sources, ("own", data): answers}.items():
            expected[a, b, kind, name] = expected_row(ask, a, b, some), len(some)
    assert set(by_key) == set(expected)
    for key, (values, prompts) in expected.items():
        row = by_key[key]
        assert (row["prompts"], row["tokens"]) == (prompts, values.shape[1])
        columns = ("kl_ab", "kl_ba", "js", "top1_agreement", "l_next")
        measured = [row[column] for column in columns]
        np.testing.assert_allclose(measured, values.mean(axis=1), rtol=1e-6, err_msg=str(key))


def test_parents_that_were_merged_for_the_stage_are_deleted(finished):
    _, context, _ = finished
    parent = next(t for t in context.trials if t.name == "demo.sft-d1.s42")
    assert not merged_directory(context.store, parent.id).exists()


def test_cka_over_ray_is_that_of_plain_models(finished, oracle):
    _, context, _ = finished
    ask, _ = oracle
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    rows = rows_of(_path(context), "cka")
    assert len(rows) == len(PAIRS) * 2 * 5
    for data in ("D0", "D1"):
        answers = held_out(tokenizer, data)
        states = {name: [ask(name, *one)[1] for one in answers] for name in MODELS}
        for row in (row for row in rows if row["data"] == data):
            layers = [
                np.concatenate([one[row["layer"]] for one in states[side]])
                for side in (row["a"], row["b"])
            ]
            expected = cka_of_blocks([layers[0]], [layers[1]])
            assert row["tokens"] == len(layers[0])
            assert row["cka"] == pytest.approx(expected, rel=1e-6)
            assert (row["cka"] == 1.0) == (row["layer"] == 0)


def test_differing_tokens_over_ray_are_those_of_plain_models(finished, oracle):
    _, context, _ = finished
    ask, _ = oracle
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    rows = rows_of(_path(context), "differing_tokens")
    assert {row["comparison"] for row in rows} == {
        "demo.sft-d0.s42~demo.sft-d1.s42",
        "demo.child.s42~demo",
    }
    for comparison in {row["comparison"] for row in rows}:
        a, b = comparison.split("~")
        mine = [r for r in rows if (r["comparison"], r["data"]) == (comparison, "D1")]
        mine = [r for r in mine if r["answers"] == "held_out"]
        expected = []
        for ids, prompt in held_out(tokenizer, "D1"):
            p, q = softmax(ask(a, ids, prompt)[0]), softmax(ask(b, ids, prompt)[0])
            kl = token_divergences(ask(a, ids, prompt)[0], ask(b, ids, prompt)[0])[0]
            for at, token in enumerate(ids[prompt:]):
                tops = [tokenizer.decode([one[at].argmax()]) for one in (p, q)]
                text = tokenizer.decode([token])
                expected.append((kl[at], at, text, p[at, token], q[at, token], *tops))
        expected = sorted(expected, key=lambda one: -one[0])[:20]
        assert len(mine) == len(expected)
        for row, (kl, at, text, p_a, p_b, *tops) in zip(mine, expected, strict=True):
            assert row["kl"] == pytest.approx(kl, rel=1e-6)
            assert (row["position"], row["token"]) == (at, text)
            assert (row["p_a"], row["p_b"]) == pytest.approx((p_a, p_b), rel=1e-5)
            assert [row["top_a"], row["top_b"]] == tops


def test_functions_have_the_same_bits_for_any_number_of_shards(copy, finished, monkeypatch):
    text, out = copy
    monkeypatch.setattr(functions, "PASSES_A_SHARD", 1)
    monkeypatch.setattr(functions, "BLOCK_TOKENS", 25)
    tables = []
    for count in (1, 2, 3, 50):
        shutil.rmtree(out / "reduced", ignore_errors=True)
        executor, _, _ = compared(text, out, workers=count)
        tables.append((executor.shards, bytes_of(out)))
    assert [count for count, _ in tables[:3]] == [1, 2, 3]
    assert all(found == tables[0][1] for _, found in tables[1:])


def test_functions_in_this_process_have_the_bits_of_actors(copy, finished):
    text, out = copy
    compared(text, out)
    assert bytes_of(out) == bytes_of(_path(finished[1]))


def test_functions_that_are_there_are_not_compared_again(copy):
    text, out = copy
    first, passes, said = compared(text, out)
    assert len(first.jobs) == 1
    # Held-out answers, 4 of each of 2 data sets, and 4 own ones of 3 models, through 4 models.
    assert passes == (2 * 4 + 3 * 4) * 4
    assert said == [f"comparing what 4 models of demo predict: {passes} forward passes"]
    before = bytes_of(out)
    again, passes, said = compared(text, out)
    assert (again.jobs, passes, said) == ([], 0, [])
    assert bytes_of(out) == before


def test_functions_of_a_stage_that_was_killed_go_on_where_it_was(copy, monkeypatch):
    text, out = copy
    monkeypatch.setattr(functions, "PASSES_A_SHARD", 1)
    context = context_of(text, out)

    class Killed(InThisProcess):
        def __call__(self, job, calls):
            for number, result in enumerate(super().__call__(job, calls)):
                if calls[0].method == "compare" and number == 2:
                    raise KeyboardInterrupt
                yield result

    def attempt(executor):
        cached = CachingExecutor.in_store(context.store, executor, functions._key)
        write_functions(context, cached, lambda _: None, workers=4)
        return cached

    with pytest.raises(KeyboardInterrupt):
        attempt(Killed())
    again = InThisProcess()
    # Four calls that framed the answers, and the two that compared.
    assert attempt(again).found == 6
    assert again.shards > 0
    tables = bytes_of(out)
    shutil.rmtree(out / "reduced")
    compared(text, out)
    assert bytes_of(out) == tables


def test_functions_whose_actor_is_killed_while_it_compares_have_the_same_bits(
    two_gpus, copy, finished
):
    text, out = copy
    context, pool, killed = context_of(text, out), ActorPool(max_actors=1), []
    parent = next(trial for trial in context.trials if trial.name == "demo.sft-d1.s42")

    def kill(process):
        # Models are loaded, and asked, after all parents are merged.
        while not merged_directory(context.store, parent.id).exists():
            time.sleep(0.02)
        os.kill(process, signal.SIGKILL)
        killed.append(process)

    def execute(job, calls):
        if calls[0].method == "compare":
            process = ray.get(pool.actors[0].process.remote())
            threading.Thread(target=kill, args=(process,), daemon=True).start()
        yield from pool(job, calls)

    try:
        write_functions(context, execute, lambda _: None)
        assert killed and ray.get(pool.actors[0].process.remote()) not in killed
    finally:
        pool.close()
    assert bytes_of(out) == bytes_of(_path(finished[1]))


def test_functions_of_one_model_more_leave_the_pairs_that_are_there(copy):
    text, out = copy
    fewer = text.replace("  sft-d0: {method: sft, data: D0}\n", "")
    fewer = fewer.replace("  - pair: [sft-d0, sft-d1]\n", "")
    compared(fewer, out)
    executor, _, _ = compared(text, out)
    [job] = executor.jobs
    assert {pair for usage in job.usages for pair in usage.pairs} == {
        pair for pair in PAIRS if "demo.sft-d0.s42" in pair
    }
    tables = bytes_of(out)
    shutil.rmtree(out / "reduced")
    compared(text, out)
    assert bytes_of(out) == tables


def test_functions_under_other_names_in_another_order_are_turned_round(copy):
    text, out = copy
    compared(text, out)
    before = {(r["a"], r["b"], r["answers"], r["data"]): r for r in rows_of(out, "functions")}
    renamed = text.replace("  sft-d0: {method: sft, data: D0}\n", "").replace(
        "  bad:", "  last: {method: sft, data: E0}\n  bad:"
    )
    renamed = renamed.replace("D0:", "E0:").replace("chosen: D0", "chosen: E0")
    renamed = renamed.replace("[sft-d0, sft-d1]", "[sft-d1, last]")
    executor, _, _ = compared(renamed, out)
    # The comparison is new the other way round, and is asked for its tokens alone.
    assert {pair for job in executor.jobs for usage in job.usages for pair in usage.pairs} == {
        ("demo.sft-d1.s42", "demo.last.s42")
    }
    after = {(r["a"], r["b"], r["answers"], r["data"]): r for r in rows_of(out, "functions")}
    assert len(after) == len(before)
    old = before["demo.sft-d0.s42", "demo.sft-d1.s42", "held_out", "D0"]
    new = after["demo.sft-d1.s42", "demo.last.s42", "held_out", "E0"]
    assert (new["kl_ab"], new["kl_ba"]) == (old["kl_ba"], old["kl_ab"])
    assert [new[k] for k in ("js", "l_next", "tokens")] == [
        old[k] for k in ("js", "l_next", "tokens")
    ]


def test_functions_of_finished_models_and_of_those_that_cannot_be_loaded(copy, tmp_path):
    text, out = copy
    adapter = next((out / "trials").glob("demo.sft-d1.s42-*")) / "adapter"
    broken = shutil.copytree(adapter, tmp_path / "broken")
    config = json.loads((broken / "adapter_config.json").read_text())
    (broken / "adapter_config.json").write_text(json.dumps({**config, "r": config["r"] + 1}))
    models = f"""
models:
  same: {{path: {adapter}, base_model: demo}}
  whole: {{path: {BASE}, base_model: demo}}
  broken: {{path: {broken}, base_model: demo}}
"""
    _, _, said = compared(text + models, out)
    [line] = [line for line in said if "broken" in line]
    assert "broken is not compared by its predictions" in line
    rows = rows_of(out, "functions")
    assert not any("broken" in (row["a"], row["b"]) for row in rows)
    for row in rows:
        if {row["a"], row["b"]} == {"demo.sft-d1.s42", "same"}:
            measured = [row[k] for k in ("kl_ab", "kl_ba", "js", "top1_agreement", "l_next")]
            assert measured == [0.0, 0.0, 0.0, 1.0, 0.0]
        if {row["a"], row["b"]} == {"demo", "whole"}:
            assert 0 < row["kl_ab"] < 0.5
            assert row["answers"] == "held_out"
    same = [r for r in rows_of(out, "cka") if {r["a"], r["b"]} == {"demo.sft-d1.s42", "same"}]
    assert same and all(row["cka"] == 1.0 for row in same)
    assert not any("broken" in (row["a"], row["b"]) for row in rows_of(out, "cka"))


@pytest.mark.parametrize("form", ["model", "adapter"])
def test_functions_of_a_merge_are_those_of_what_was_saved(copy, oracle, form):
    text, out = copy
    text += f"\nmerges:\n  mean: {{method: linear, models: [sft-d0, sft-d1], as: {form}}}\n"
    context = context_of(text, out)
    [merge] = context.merges
    trials = {trial.name: trial for trial in context.trials}
    run_merge(MergeTask(context.study, merge, trials, {}, context.inputs.rows, BASE, str(out)))
    compared(text, out)
    ask, _ = oracle
    folder = next((out / "trials").glob("demo.mean.s42-*"))
    if form == "model":
        saved = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype="auto").eval()
    else:
        saved = plain(BASE, folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    answers = held_out(tokenizer, "D1")
    values = []
    for ids, prompt in answers:
        with torch.no_grad():
            logits = saved(torch.tensor([ids])).logits[0, prompt - 1 : -1].double().numpy()
        values.append(token_divergences(logits, ask("demo.sft-d1.s42", ids, prompt)[0]))
    expected = np.concatenate(values, axis=1).mean(axis=1)
    sides = ("demo.sft-d1.s42", "demo.mean.s42")
    [row] = [
        row
        for row in rows_of(out, "functions")
        if (row["a"], row["b"], row["data"]) == (*sides, "D1") and row["answers"] == "held_out"
    ]
    measured = [row[k] for k in ("kl_ba", "kl_ab", "js", "top1_agreement", "l_next")]
    np.testing.assert_allclose(measured, expected, rtol=1e-6)
    own_rows = [r for r in rows_of(out, "functions") if (r["a"], r["b"]) == sides]
    assert {(row["answers"], row["data"]) for row in own_rows} == {
        ("held_out", "D0"),
        ("held_out", "D1"),
        ("own", "D1+D0"),
    }


def test_functions_of_other_vocabularies_and_depths_are_null_or_have_no_rows(copy, tmp_path):
    text, out = copy
    wide = AutoModelForCausalLM.from_pretrained(BASE, dtype="auto")
    wide.resize_token_embeddings(wide.config.vocab_size + 8)
    wide.save_pretrained(tmp_path / "wide")
    short = AutoModelForCausalLM.from_pretrained(BASE, dtype="auto", num_hidden_layers=2)
    short.save_pretrained(tmp_path / "short")
    names = "".join(
        f"  {n}: {{path: {tmp_path / n}, base_model: demo}}\n" for n in ("wide", "short")
    )
    compared(f"{text}\nmodels:\n{names}", out)
    rows = {frozenset((r["a"], r["b"])): r for r in rows_of(out, "functions")}
    apart = rows[frozenset(("wide", "demo"))]
    assert apart["tokens"] > 0
    measured = ("kl_ab", "kl_ba", "js", "top1_agreement", "l_next")
    assert [apart[name] for name in measured] == [None] * 5
    assert rows[frozenset(("short", "demo"))]["kl_ab"] > 0
    pairs = {frozenset((r["a"], r["b"])) for r in rows_of(out, "cka")}
    assert frozenset(("wide", "demo")) in pairs
    assert not any("short" in pair for pair in pairs)


def test_functions_that_are_not_asked_for_leave_empty_tables(copy):
    text, out = copy
    compared(text, out)
    off = text.replace("functions: true", "functions: false")
    executor, passes, _ = compared(off, out)
    assert (executor.jobs, passes) == ([], 0)
    assert [rows_of(out, name) for name in TABLES_OF_FUNCTIONS] == [[], [], []]
    context = context_of(text, out)
    assert context_of(off, out).evaluation == context.evaluation
    assert [t.id for t in context_of(off, out).trials] == [t.id for t in context.trials]


def test_functions_of_a_study_that_says_nothing_of_them_are_compared_once_more(copy):
    text, out = copy
    off = text.replace("functions: true", "functions: false")
    compared(off, out)
    silent = text.replace("functions: true, ", "")
    assert silent != text
    # So that a store which was finished without them is gone through again.
    found = [context_of(one, out).results_identity() for one in (off, silent, text)]
    assert found[0] != found[1] == found[2]
    _, passes, said = compared(silent, out)
    assert said == [f"comparing what 4 models of demo predict: {passes} forward passes"]
    tables = bytes_of(out)
    assert compared(text, out)[1] == 0
    assert bytes_of(out) == tables


def test_functions_of_a_study_without_held_out_answers_are_not_spoken_of(copy):
    text, out = copy
    silent = text.replace("functions: true, ", "").replace("prompts: 4", "prompts: 0")
    off = silent.replace("evaluation: {", "evaluation: {functions: false, ")
    assert compared(silent, out)[1:] == (0, [])
    assert [rows_of(out, name) for name in TABLES_OF_FUNCTIONS] == [[], [], []]
    found = [context_of(one, out).results_identity() for one in (off, silent)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("tokens", "most", "expected"),
    [
        ([], 5, []),
        ([0, 0], 5, [(0, 2)]),
        ([3, 3], 100, [(0, 2)]),
        ([10, 10, 10], 10, [(0, 1), (1, 2), (2, 3)]),
        ([1, 100, 1], 51, [(0, 2), (2, 3)]),
        ([100], 10, [(0, 1)]),
    ],
)
def test_answers_are_cut_into_blocks_of_about_equal_tokens(tokens, most, expected):
    assert cut(tokens, most) == expected


def framed_as(tokens, a_pass=0.0, a_token=0.0):
    """What a shard says of answers with so many tokens."""
    seconds = [[a_pass] * len(of_usage) for of_usage in tokens]
    sizes = {"logits": 2, "states": 3}
    return {"tokens": tokens, "seconds": seconds, "pair_seconds": a_token, **sizes}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_blocks_are_dealt_once_each(count):
    usages = tuple(Usage((None,) * n, (("a", "b"),)) for n in (5, 9, 1))
    job = FunctionJob(None, None, {}, {}, {}, usages, "")
    framed = framed_as([[200] * 5, [40] * 9, [7]])
    shards = deal(job, framed, count, 1 << 30)
    assert len(shards) == min(count, 4)
    places = sorted(
        (usage, at) for shard in shards for usage, first, stop in shard for at in range(first, stop)
    )
    assert places == [(number, at) for number, n in enumerate((5, 9, 1)) for at in range(n)]


def test_shards_keep_no_more_bytes_than_they_may():
    usages = tuple(Usage((None,) * 8, (("a", "b"),), (), states) for states in (False, True))
    job = FunctionJob(None, None, {}, {}, {}, usages, "")
    framed = framed_as([[512] * 8] * 2)
    # Sixteen blocks: what two models say of 512 tokens, half of them with states.
    whole = 8 * 512 * 2 * (2 + 2 + 3)
    assert [len(deal(job, framed, 1, -(-whole // n))) for n in (1, 2, 3, 100)] == [1, 2, 3, 16]
    assert len(deal(job, framed, 2, whole)) == 2


def test_shards_take_no_longer_than_they_may():
    usages = (Usage((None,) * 8, (("a", "b"), ("a", "c"))),)
    job = FunctionJob(None, None, {}, {}, {}, usages, "")
    # Eight blocks of one answer each: three models, and 512 tokens of two pairs.
    for a_pass, a_token, expected in ((1 / 24, 0, 1), (1 / 12, 0, 2), (0, 1 / 2048, 4), (9, 9, 8)):
        framed = framed_as(
            [[512] * 8], functions.SHARD_SECONDS * a_pass, functions.SHARD_SECONDS * a_token
        )
        assert len(deal(job, framed, 1, 1 << 40)) == expected
