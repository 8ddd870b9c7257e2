"""Merges of models with other vocabularies: rows follow tokens, and the output's tokenizer fits.

The oracle is `tests.oracles.token_rows`, float64, by the text of a token; where RAYLAB_MERGEKIT
names a mergekit-yaml, that runs over the same files too. NUMBERS are what mergekit 0.1.5 gave
(torch on a CPU, December 2026): the first column of the embedding, times 2^14, by token.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.errors import ModelError
from raylab.merge.merge import merge_named
from raylab.spec.merge_methods import METHODS
from raylab.spec.mergekit import read_mergekit
from raylab.spec.merges import request_merge
from raylab.spec.output_tokenizer import OutputTokenizer
from tests.merge.extended import WORDS, saved_adapter, saved_llama, tokenizer_of
from tests.merge.test_mergekit_settings import merged_by_mergekit
from tests.oracles.token_rows import completed, padding

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
MODELS = ["ONE", "TWO"]


def listed(*models, **parameters):
    return [{"model": model, "parameters": parameters} for model in models]


TASK = {
    "merge_method": "task_arithmetic",
    "base_model": "BASE",
    "models": listed("ONE", weight=0.5) + listed("TWO", weight=0.75),
}
LINEAR = {"merge_method": "linear", "models": listed("ONE", weight=1.0) + listed("TWO", weight=3.0)}
CASES = {
    "union": {**TASK, "tokenizer_source": "union"},
    "base": {**TASK, "tokenizer_source": "base"},
    "model": {**TASK, "tokenizer_source": "TWO"},
    "padded": {**TASK, "tokenizer": {"source": "union", "pad_to_multiple_of": 8}},
    "ties": {
        **TASK,
        "merge_method": "ties",
        "models": listed("ONE", weight=0.5, density=0.5) + listed("TWO", weight=0.8, density=0.7),
        "tokenizer_source": "union",
    },
    "linear": {**LINEAR, "tokenizer_source": "union"},
    "linear_with_base": {**LINEAR, "base_model": "BASE", "parameters": {"weight": 2.0},
                         "tokenizer_source": "union"},
    "slerp": {
        "merge_method": "slerp",
        "base_model": "ONE",
        "models": listed("ONE", "TWO"),
        "parameters": {"t": 0.25},
        "tokenizer_source": "union",
    },
    "asked": {
        **TASK,
        "tokenizer": {
            "source": "union",
            "tokens": {
                "<one>": {"source": "ONE"},
                "<two>": {"source": {"kind": "zero"}},
                "<new>": {"source": {"kind": "model_token", "model": "TWO", "token": "cat"}},
                "<newer>": {"source": {"kind": "model_token", "model": "ONE", "token_id": 5}},
                "dog": {"source": "TWO", "force": True},
            },
        },
    },
}  # fmt: skip
NUMBERS = {
    "union": {
        "<unk>": 6320, "<s>": -2432, "</s>": 2560, "the": 5888, "cat": 7488, "dog": -4464,
        "saw": -3728, "a": 4496, "bird": 2000, "and": 2016, "ran": -1952, "<base>": 1856,
        "<one>": 4608, "<both>": 2848, "<two>": 0, "<2>": -3264,
    },
    "base": {
        "<unk>": 6320, "<s>": -2432, "</s>": 2560, "the": 5888, "cat": 7488, "dog": -4464,
        "saw": -3728, "a": 4496, "bird": 2000, "and": 2016, "ran": -1952, "<base>": 1856,
    },
    "model": {
        "<unk>": 6320, "<s>": -2432, "</s>": 2560, "the": 5888, "cat": 7488, "dog": -4464,
        "saw": -3728, "a": 4496, "bird": 2000, "and": 2016, "ran": -1952, "<both>": 2848,
        "<two>": 0, "<2>": -3264,
    },
    "padded": {
        "<unk>": 6320, "<s>": -2432, "</s>": 2560, "the": 5888, "cat": 7488, "dog": -4464,
        "saw": -3728, "a": 4496, "bird": 2000, "and": 2016, "ran": -1952, "<base>": 1856,
        "<one>": 4608, "<both>": 2848, "<two>": 0, "<2>": -3264,
    },
    "ties": {
        "<unk>": 8384, "<s>": -3520, "</s>": 1984, "the": 2653.539, "cat": 5715.693, "dog": 1024,
        "saw": -2363.077, "a": 9728, "bird": 832, "and": 3584, "ran": -915.693, "<base>": 1856,
        "<one>": 4608, "<both>": 5632, "<two>": 0, "<2>": -3264,
    },
    "linear": {
        "<unk>": 6480, "<s>": -2352, "</s>": 2048, "the": 4144, "cat": 6000, "dog": -5984,
        "saw": -1200, "a": 3008, "bird": 1536, "and": 1936, "ran": -864, "<one>": 4608,
        "<both>": 3776, "<two>": 0, "<2>": -3264,
    },
    "linear_with_base": {
        "<unk>": 4789.333, "<s>": -1077.333, "</s>": 1429.333, "the": -949.333, "cat": 3488,
        "dog": -5674.667, "saw": 10.667, "a": 3264, "bird": 1301.333, "and": 181.333,
        "ran": 490.667, "<base>": 1856, "<one>": 4608, "<both>": 3157.333, "<two>": 0,
        "<2>": -3264,
    },
    "slerp": {
        "<unk>": 3538.218, "<s>": -198.726, "</s>": 2633.585, "the": -1266.113, "cat": 6087.03,
        "dog": -1952.399, "saw": -6374.145, "a": 8752.595, "bird": 2739.959, "and": -1399.161,
        "ran": -1268.095, "<one>": 5597.808, "<both>": 362.646, "<two>": 0, "<2>": -3965.114,
    },
    "asked": {
        "<unk>": 6320, "<s>": -2432, "</s>": 2560, "the": 5888, "cat": 7488, "dog": -8320,
        "saw": -3728, "a": 4496, "bird": 2000, "and": 2016, "ran": -1952, "<base>": 1856,
        "<one>": 4608, "<two>": 0, "<both>": 2848, "<2>": -3264, "<new>": 6528, "<newer>": 1024,
    },
}  # fmt: skip


def models(folder, *, tied=False):
    """BASE with rows beyond its tokenizer; ONE and TWO with tokens of their own, of which both have
    one, at other ids; TWO's words in another order."""
    base = saved_llama(folder / "BASE", tokenizer_of(added=["<base>"]), 1, rows=16, tied=tied)
    one = tokenizer_of(added=["<one>", "<both>"])
    two = tokenizer_of(WORDS[::-1], added=["<both>", "<two>", "<2>"])
    saved_llama(folder / "ONE", one, 2, near=base, tied=tied)
    saved_llama(folder / "TWO", two, 3, rows=20, near=base, tied=tied)
    return [folder / name for name in ("BASE", *MODELS)]


def written(folder, config):
    text = json.dumps({**config, "dtype": "float32"})
    for name in ("BASE", *MODELS):
        text = text.replace(f'"{name}"', json.dumps(str(folder / name)))
    (folder / "merge.yaml").write_text(text)
    return folder / "merge.yaml"


def by_token(folder, name=EMBED):
    """{token: row} of a checkpoint, float64."""
    tensors = load_file(folder / "model.safetensors")
    rows = tensors.get(name, tensors[EMBED]).double().numpy()
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    return {token: rows[id] for token, id in vocabulary.items() if id < len(rows)}


def expected(case, folder, tokens, name=EMBED):
    """The merged rows, by the definitions of the methods."""
    base, one, two = (by_token(folder / model, name) for model in ("BASE", *MODELS))
    asked = None
    if case == "asked":
        asked = {"<one>": (one["<one>"], False), "<two>": (np.zeros(8), False),
                 "<new>": (two["cat"], False), "<newer>": (one["dog"], False),
                 "dog": (two["dog"], True)}  # fmt: skip
    if case == "linear":
        first, second = completed(tokens, [one, two])
        return {t: (first[t] + 3 * second[t]) / 4 for t in tokens}
    start, first, second = completed(tokens, [base, one, two], base, asked)
    if case == "linear_with_base":
        return {t: (first[t] + 3 * second[t] + 2 * start[t]) / 6 for t in tokens}
    return {
        t: start[t] + 0.5 * (first[t] - start[t]) + 0.75 * (second[t] - start[t]) for t in tokens
    }


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("case", [c for c in CASES if c not in ("ties", "slerp")])
def test_merge_rows_follow_their_tokens(tmp_path, case, tied):
    models(tmp_path, tied=tied)
    merge_named(read_mergekit(written(tmp_path, CASES[case])), tmp_path / "out")
    for name in (EMBED,) if tied else (EMBED, HEAD):
        found = by_token(tmp_path / "out", name)
        wanted = expected(case, tmp_path, found, name)
        for token, row in found.items():
            np.testing.assert_allclose(row, wanted[token], rtol=0, atol=2**-22, err_msg=token)


@pytest.mark.parametrize("case", CASES)
def test_merge_rows_of_tokens_give_mergekits_numbers(tmp_path, case):
    models(tmp_path)
    merge_named(read_mergekit(written(tmp_path, CASES[case])), tmp_path / "out")
    found = {t: row[0] * 2**14 for t, row in by_token(tmp_path / "out").items()}
    assert found == pytest.approx(NUMBERS[case], abs=2**14 * 2**-20)


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("case", CASES)
def test_merge_rows_of_tokens_give_what_mergekit_writes(tmp_path, case):
    models(tmp_path)
    file = written(tmp_path, CASES[case])
    merge_named(read_mergekit(file), tmp_path / "out")
    mergekits = merged_by_mergekit(file, tmp_path / "theirs")
    found = load_file(tmp_path / "out/model.safetensors")
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in mergekits.items()}
    for name, values in mergekits.items():
        if case == "ties" and name != EMBED:
            continue  # Entries that tie at a threshold all stay, as tests.merge.test_peers says.
        if name not in (EMBED, HEAD):
            torch.testing.assert_close(found[name], values, rtol=0, atol=2**-20, msg=name)
            continue
        mine, theirs = by_token(tmp_path / "out", name), by_token(tmp_path / "theirs", name)
        assert mine.keys() == theirs.keys()
        for token, row in theirs.items():
            np.testing.assert_allclose(mine[token], row, rtol=0, atol=2**-20, err_msg=token)


def test_merge_tokens_named_beside_base_are_new_where_mergekit_reads_rows_of_padding(tmp_path):
    # mergekit adds <one> to the tokenizer of the base model itself, so that row 12 of its matrix,
    # which belongs to no token, becomes its row of <one>: 4608 is 5904 there.
    models(tmp_path)
    config = {**TASK, "tokenizer": {"source": "base", "tokens": {"<one>": {"source": "ONE"}}}}
    record = merge_named(read_mergekit(written(tmp_path, config)), tmp_path / "out")
    found = by_token(tmp_path / "out")
    np.testing.assert_array_equal(found["<one>"], by_token(tmp_path / "ONE")["<one>"])
    assert found["<one>"][0] * 2**14 == 4608
    assert record["tokenizer"]["filled"] == {"asked": 1, "only": 1, "base": 0, "mean": 0, "zero": 0}


def test_merge_union_keeps_the_ids_of_the_first_and_adds_the_others_in_order(tmp_path):
    models(tmp_path)
    record = merge_named(read_mergekit(written(tmp_path, CASES["padded"])), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    start = AutoTokenizer.from_pretrained(tmp_path / "BASE").get_vocab()
    added = {"<one>": 12, "<both>": 13, "<two>": 14, "<2>": 15}
    assert tokenizer.get_vocab() == {**start, **added}
    assert tokenizer("the cat<two> saw <one>")["input_ids"] == [3, 4, 14, 6, 12]
    assert record["tokenizer"]["rows"] == 16
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["vocab_size"] == 16


def test_merge_record_accounts_for_every_row(tmp_path):
    models(tmp_path)
    config = {**TASK, "tokenizer": {"source": "union", "pad_to_multiple_of": 64}}
    found = merge_named(read_mergekit(written(tmp_path, config)), tmp_path / "out")["tokenizer"]
    assert (found["tokens"], found["rows"], found["padding"], found["added"]) == (16, 64, 48, 4)
    assert found["in_all"] == 11
    assert found["filled"] == {"asked": 0, "only": 4, "base": 0, "mean": 1, "zero": 0}
    assert found["examples"] == {"only": ["<base>", "<one>", "<two>", "<2>"], "mean": ["<both>"]}
    rows = {row["model"].rpartition("/")[2]: row for row in found["models"]}
    numbers = {name: [row[k] for k in ("rows", "tokens", "only", "used", "left_out")]
               for name, row in rows.items()}  # fmt: skip
    assert numbers == {
        "BASE": [16, 12, 1, 12, 4], "ONE": [13, 13, 1, 13, 0], "TWO": [20, 14, 2, 14, 6],
    }  # fmt: skip
    written_rows = load_file(tmp_path / "out/model.safetensors")[EMBED].double().numpy()
    tokens = by_token(tmp_path / "out")
    members = [by_token(tmp_path / name) for name in ("BASE", *MODELS)]
    complete = completed(tokens, members, members[0])
    start, first, second = (padding(rows, tokens) for rows in complete)
    wanted = start + 0.5 * (first - start) + 0.75 * (second - start)
    np.testing.assert_allclose(written_rows[16:], np.tile(wanted, (48, 1)), rtol=0, atol=2**-22)


@pytest.mark.parametrize("threads", [1, 3])
def test_merge_rows_of_tokens_have_the_same_bytes_for_any_threads(tmp_path, threads, monkeypatch):
    models(tmp_path)
    request = read_mergekit(written(tmp_path, CASES["padded"]))
    merge_named(request, tmp_path / "out")
    monkeypatch.setattr("raylab.weights.row_tiles.TILE_ENTRIES", 24)
    merge_named(request, tmp_path / "other", threads=threads)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "other")]
    assert files[0] == files[1]


@pytest.mark.parametrize("source", ["union", "base", "TWO"])
def test_merge_answers_of_shared_tokens_are_those_of_the_definition(tmp_path, source):
    """The logits of the merged model, by transformers, are those of a model whose rows the oracle
    merged, in the order of the words."""
    folder = tmp_path
    models(folder)
    merge_named(
        read_mergekit(written(folder, {**TASK, "tokenizer_source": source})), folder / "out"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    words = [*WORDS]
    wanted = load_file(folder / "out/model.safetensors")
    parts = [load_file(folder / name / "model.safetensors") for name in ("BASE", *MODELS)]
    for name in wanted:
        if name not in (EMBED, HEAD):
            start, one, two = (part[name].double() for part in parts)
            wanted[name] = (start + 0.5 * (one - start) + 0.75 * (two - start)).float()
            continue
        rows = expected("union", folder, words, name)
        wanted[name] = torch.from_numpy(np.stack([rows[word] for word in words])).float()
    directory = folder / "reference"
    directory.mkdir()
    save_file(wanted, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "BASE/config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": len(words)}))
    prompt = ["the", "bird", "saw", "a", "cat"]
    ids = {word: tokenizer.get_vocab()[word] for word in words}
    found, reference = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)(
            input_ids=torch.tensor([numbers])
        ).logits[0]
        for place, numbers in (
            (folder / "out", tokenizer(" ".join(prompt))["input_ids"]),
            (directory, [words.index(word) for word in prompt]),
        )
    )
    torch.testing.assert_close(found[:, [ids[w] for w in words]], reference, rtol=0, atol=1e-5)
    eos = AutoModelForCausalLM.from_pretrained(folder / "out").config.eos_token_id
    assert tokenizer.convert_ids_to_tokens(eos) == "</s>"


def test_merge_models_of_more_rows_than_tokens_are_refused_until_a_tokenizer_is_named(tmp_path):
    """One vocabulary, and matrices of 11 and 24 rows, as 128256 and 128320 are met."""
    base = saved_llama(tmp_path / "base", tokenizer_of(), 1)
    wide = saved_llama(tmp_path / "wide", tokenizer_of(), 2, rows=24, near=base)
    options = {"base": str(base), "density": 1.0}
    with pytest.raises(ModelError, match="--tokenizer") as refused:
        merge_named(request_merge("ties", [str(wide)], **options), tmp_path / "out")
    assert "(24, 8)" in refused.value.message
    asked = request_merge("ties", [str(wide)], **options, tokenizer=OutputTokenizer("base"))
    record = merge_named(asked, tmp_path / "out")["tokenizer"]
    found, own = load_file(tmp_path / "out/model.safetensors"), by_token(wide)
    assert found[EMBED].shape == (11, 8)
    np.testing.assert_array_equal(found[EMBED][4].double(), own["cat"])
    assert [row["left_out"] for row in record["models"]] == [0, 13]
    assert (record["in_all"], record["rows"]) == (11, 11)


def adapter_by_hand(base, adapter, name):
    """The rows of an adapter that saves `name` whole, or some of its rows, by id."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    rows = load_file(base / "model.safetensors")[name].double().numpy()
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    if f"{stem}.weight" in tensors:
        return tensors[f"{stem}.weight"].double().numpy()
    config = json.loads((adapter / "adapter_config.json").read_text())
    rows = rows.copy()
    rows[config["trainable_token_indices"]["embed_tokens"]] = (
        tensors[f"{stem}.token_adapter.trainable_tokens_delta"].double().numpy()
    )
    return rows


@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": {"embed_tokens": [12, 13]}},
    ],
)
def test_merge_adapter_that_trained_rows_of_padding_brings_its_tokens(tmp_path, options):
    """Its tokens lie in rows that belong to no token of the base model."""
    base, one, _ = models(tmp_path)
    tokenizer = tokenizer_of(added=["<base>", "<mine>", "<both>"])
    adapter = saved_adapter(tmp_path / "adapter", base, 5, tokenizer, **options)
    request = request_merge(
        "task_arithmetic",
        [str(adapter), str(one)],
        base=str(base),
        weights=[0.5, 0.75],
        tokenizer=OutputTokenizer("union"),
    )
    record = merge_named(request, tmp_path / "out")["tokenizer"]
    found = by_token(tmp_path / "out")
    rows = adapter_by_hand(base, adapter, EMBED)
    mine = {token: rows[id] for token, id in tokenizer.get_vocab().items()}
    start, first, second = completed(found, [by_token(base), mine, by_token(one)], by_token(base))
    for token, row in found.items():
        wanted = start[token] + 0.5 * (first[token] - start[token])
        wanted = wanted + 0.75 * (second[token] - start[token])
        np.testing.assert_allclose(row, wanted, rtol=0, atol=2**-21, err_msg=token)
    assert {"<mine>", "<both>", "<one>"} <= found.keys()
    assert [row["only"] for row in record["models"]] == [0, 1, 1]


def test_merge_plain_adapter_leaves_rows_to_the_others(tmp_path):
    base, _, _ = models(tmp_path)
    adapter = saved_adapter(tmp_path / "adapter", base, 5)
    request = request_merge(
        "task_arithmetic", [str(adapter)], base=str(base), tokenizer=OutputTokenizer("base")
    )
    merge_named(request, tmp_path / "out")
    found, start = by_token(tmp_path / "out"), by_token(base)
    assert all(np.array_equal(found[token], start[token]) for token in found)
    assert len(found) == 12


def test_merge_adapter_over_another_base_brings_that_ones_tokens(tmp_path):
    base, one, _ = models(tmp_path)
    adapter = saved_adapter(tmp_path / "adapter", one, 5, target_modules=["embed_tokens", "q_proj"])
    request = request_merge(
        "linear", [f"{one}+{adapter}", str(base)], tokenizer=OutputTokenizer("union")
    )
    merge_named(request, tmp_path / "out")
    factors = load_file(adapter / "adapter_model.safetensors")
    stem = "base_model.model.model.embed_tokens.lora_embedding_"
    delta = 2 * (factors[f"{stem}B"] @ factors[f"{stem}A"]).T.double().numpy()
    ids = AutoTokenizer.from_pretrained(one).get_vocab()
    mine = {token: row + delta[ids[token]] for token, row in by_token(one).items()}
    first, second = completed({**mine, **by_token(base)}, [mine, by_token(base)])
    for token, row in by_token(tmp_path / "out").items():
        wanted = (first[token] + second[token]) / 2
        np.testing.assert_allclose(row, wanted, rtol=0, atol=2**-21, err_msg=token)


def permuted(folder, model, order):
    """A copy of a model of `WORDS` whose words have the ids of `order`."""
    tokenizer = tokenizer_of(order)
    tensors = load_file(model / "model.safetensors")
    start = AutoTokenizer.from_pretrained(model).get_vocab()
    ids = tokenizer.get_vocab()
    rows = [start[token] for token in sorted(ids, key=ids.__getitem__)]
    for name in (EMBED, HEAD):
        tensors[name] = tensors[name][rows].contiguous()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text((model / "config.json").read_text())
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Three models of one vocabulary, and a copy of the last with its words in another order."""
    folder = tmp_path_factory.mktemp("alike")
    base = saved_llama(folder / "base", tokenizer_of(), 1)
    two = saved_llama(folder / "two", tokenizer_of(), 3, near=base)
    saved_llama(folder / "one", tokenizer_of(), 2, near=base)
    permuted(folder / "turned", two, [*WORDS[3:], *WORDS[:3]])
    return folder


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].inputs != "factors"])
def test_merge_by_any_method_does_not_depend_on_the_ids_of_a_model(tmp_path, alike, method):
    row = METHODS[method]
    names = ["one"] if row.most == 1 else ["one", "two"]
    base = str(alike / "base") if row.of != "values" else None
    parameters = {"t": 0.3} if "t" in row.parameters else {}
    found = []
    for turned in (False, True):
        models = [name if not turned or name == "one" else "turned" for name in names]
        request = request_merge(
            method,
            [str(alike / model) for model in models],
            base=base,
            parameters=parameters,
            tokenizer=OutputTokenizer("base") if turned else None,
        )
        merge_named(request, tmp_path / str(turned))
        found.append((tmp_path / str(turned) / "model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_merge_head_that_one_model_unties_follows_its_tokens(tmp_path):
    base = saved_llama(tmp_path / "BASE", tokenizer_of(added=["<base>"]), 1, tied=True)
    one = tokenizer_of(added=["<one>", "<both>"])
    two = tokenizer_of(WORDS[::-1], added=["<both>", "<two>"])
    saved_llama(tmp_path / "ONE", one, 2, near=base, tied=True)
    saved_llama(tmp_path / "TWO", two, 3)
    file = written(tmp_path, CASES["union"])
    record = merge_named(read_mergekit(file), tmp_path / "out")
    assert record["untied"] == [HEAD]
    for name in (EMBED, HEAD):
        found = by_token(tmp_path / "out", name)
        wanted = expected("union", tmp_path, found, name)
        for token, row in found.items():
            np.testing.assert_allclose(row, wanted[token], rtol=0, atol=2**-22, err_msg=token)


def test_merge_slices_of_models_with_other_tokens_have_rows_of_all(tmp_path):
    """The embedding is the first slice's, the head the last one's. mergekit asks the models of a
    slice alone, and gives the other's tokens zeros there."""
    models(tmp_path)
    config = {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": "ONE", "layer_range": [0, 2]}]},
            {"sources": [{"model": "TWO", "layer_range": [1, 2]}]},
        ],
        "tokenizer_source": "union",
    }
    record = merge_named(read_mergekit(written(tmp_path, config)), tmp_path / "out")
    assert record["tokenizer"]["filled"]["only"] == 3
    for name, place in ((EMBED, 0), (HEAD, 1)):
        found = by_token(tmp_path / "out", name)
        members = [by_token(tmp_path / model, name) for model in MODELS]
        wanted = completed(found, members)[place]
        assert all(np.array_equal(row, wanted[token]) for token, row in found.items())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (model.config.num_hidden_layers, model.config.vocab_size) == (3, 15)
