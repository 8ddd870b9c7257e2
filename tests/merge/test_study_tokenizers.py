"""Merges of a study whose models extended their vocabularies: rows follow tokens, as in `merge`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from raylab.cluster import reduction
from raylab.cluster.study_context import prepare
from raylab.errors import StudyError
from raylab.merge.merge import merge_named
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.job import InProcess
from raylab.spec.merges import request_merge
from raylab.spec.output_tokenizer import OutputTokenizer
from raylab.spec.study_file import load_study, parse_study, study_text
from raylab.store.tables import read_table
from raylab.train.attempts import quiet_libraries
from raylab.train.finished_model import FinishedTask, ask_finished_model
from tests.architectures import save_adapter, tiny_model
from tests.chats import tiny_tokenizer
from tests.commands import exit_status
from tests.studies import D0, write_jsonl

EMBED = "model.embed_tokens.weight"
MERGES = {
    "joined": {"method": "linear", "models": ["plain", "chat"], "tokenizer": "union"},
    "own": {"method": "linear", "models": ["plain", "chat"], "tokenizer": "chat"},
    "kept": {"method": "linear", "models": ["plain", "chat"], "tokenizer": "base"},
    "mixed": {"method": "task_arithmetic", "models": ["sft", "chat"], "tokenizer": "union"},
    "plain_sum": {"method": "task_arithmetic", "models": ["sft", "plain"]},
}


def saved(folder: Path, seed: int, added=()) -> None:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.add_tokens(list(added))
    model = tiny_model("llama", seed, torch.float32, vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_study(folder: Path, **changes) -> Path:
    write_jsonl(folder / "d0.jsonl", D0)
    study = {
        "name": "extended",
        "base_models": {"tiny": {"path": "base"}},
        "data": {"D0": {"path": "d0.jsonl"}},
        "held_out": 0.5,
        "seeds": [42],
        "evaluation": {"prompts": 2, "max_new_tokens": 4, "functions": False},
        "recipes": {"sft": {"method": "sft", "data": "D0"}},
        "models": {n: {"path": n, "base_model": "tiny"} for n in ("plain", "chat")},
        "merges": MERGES,
        **changes,
    }
    (folder / "study.yaml").write_text(json.dumps(study))
    return folder / "study.yaml"


def linked(folder, tmp_path, **changes):
    """The same models in another study."""
    for name in ("base", "plain", "chat"):
        (tmp_path / name).symlink_to(folder / name)
    return write_study(tmp_path, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study over a base model, and two finished models, one of which has two tokens more."""
    found = tmp_path_factory.mktemp("extended")
    saved(found / "base", 0)
    saved(found / "plain", 1)
    saved(found / "chat", 2, ["<think>", "</think>"])
    write_study(found)
    return found


@pytest.fixture
def context(folder, tmp_path, scratch):
    return prepare(load_study(folder / "study.yaml"), str(tmp_path / "out"))


def run(context, name):
    """(the record of a merge, the folder of its weights)."""
    merge = next(m for m in context.merges if m.merge == name)
    places = {n: found.directory for n, found in context.inputs.models.items()}
    base, rows = context.inputs.base_models["tiny"].directory, context.inputs.rows
    with quiet_libraries():
        record = run_merge(
            MergeTask(context.study, merge, {}, places, rows, base, context.store.uri)
        )
    return record, Path(context.store.root) / "trials" / merge.folder / "merged"


@pytest.mark.parametrize(
    ("name", "source"), [("joined", "union"), ("own", "chat"), ("kept", "base")]
)
def test_merge_with_a_tokenizer_has_the_bytes_and_the_account_of_the_command(
    context, folder, tmp_path, name, source
):
    record, merged = run(context, name)
    models, asked = [str(folder / n) for n in ("plain", "chat")], folder / source
    request = request_merge(
        "linear", models, base=str(folder / "base"),
        tokenizer=OutputTokenizer(str(asked) if source == "chat" else source),
    )  # fmt: skip
    by_hand = merge_named(request, tmp_path / "by-hand")
    ours, theirs = (load_file(f / "model.safetensors") for f in (merged, tmp_path / "by-hand"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    account = json.loads((merged / "merge.json").read_text())["tokenizer"]
    counted = ("tokens", "rows", "padding", "in_all", "filled")
    assert [account[key] for key in counted] == [by_hand["tokenizer"][key] for key in counted]
    is_longer = name != "kept"
    assert (record.metrics["l2"] is None) == is_longer
    assert ("<think>" in AutoTokenizer.from_pretrained(merged).get_vocab()) == is_longer
    rows = len((merged.parent / "samples.jsonl").read_text().splitlines())
    assert rows == 2


def test_row_of_a_token_that_one_model_has_is_its_row_in_a_mean(context, folder):
    _, merged = run(context, "joined")
    ours, chat = (load_file(f / "model.safetensors")[EMBED] for f in (merged, folder / "chat"))
    ids = AutoTokenizer.from_pretrained(merged).get_vocab()
    theirs = AutoTokenizer.from_pretrained(folder / "chat").get_vocab()
    for token in ("<think>", "</think>"):
        assert np.array_equal(ours[ids[token]], chat[theirs[token]])


def test_tokenizer_is_of_the_identity_only_where_a_merge_names_one(context):
    found = {merge.merge: merge.identity for merge in context.merges}
    chat = context.inputs.models["chat"].identity
    assert {name: one.get("merge.tokenizer") for name, one in found.items()} == {
        "joined": "union", "own": chat, "kept": "base", "mixed": "union", "plain_sum": None,
    }  # fmt: skip
    assert not any("tokenizer" in key for key in found["plain_sum"])


def test_plan_says_the_tokens_and_rows_of_each_tokenizer(folder, capsys):
    assert exit_status("plan", folder / "study.yaml", "--json") == 0
    found = {row["merges"][0]: row for row in json.loads(capsys.readouterr().out)["tokenizers"]}
    size = len(tiny_tokenizer("llama"))
    assert {name: (row["tokens"], row["rows"], row["moved"]) for name, row in found.items()} == {
        "tiny.joined": (size + 2, size + 2, 0),
        "tiny.own": (size + 2, size + 2, 0),
        "tiny.kept": (size, size, 0),
        "tiny.mixed.s42": (size + 2, size + 2, 0),
    }
    assert exit_status("plan", folder / "study.yaml") == 0
    told = capsys.readouterr().out
    assert f"tokenizer union of tiny.joined: {size + 2} tokens in {size + 2} rows; no comp" in told
    assert f"tokenizer base of tiny.kept: {size} tokens in {size} rows; the tokens of tiny" in told


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        ({"tokenizer": "uniom"}, "did you mean union"),
        ({"tokenizer": "sft"}, "tokenizer of a merge"),
        ({"tokenizer": "union", "as": "adapter"}, "an adapter has the tokenizer of its base model"),
    ],
)
def test_tokenizer_that_a_merge_cannot_have_is_refused_at_its_line(folder, merge, words):
    text = write_study(folder).read_text()
    document = json.loads(text)
    document["merges"] = {"wrong": {"method": "linear", "models": ["plain"], **merge}}
    with pytest.raises(StudyError, match=r"merges\.wrong\.tokenizer") as caught:
        parse_study(json.dumps(document, indent=1), folder / "study.yaml")
    assert words in str(caught.value)


def test_tokenizer_that_is_not_there_is_refused_before_anything_trains(folder, tmp_path, capsys):
    saved(tmp_path / "base", 0)
    saved(tmp_path / "plain", 1)
    saved(tmp_path / "chat", 2, ["<think>"])
    (tmp_path / "chat" / "tokenizer.json").write_text("{}")
    assert exit_status("plan", write_study(tmp_path)) == 2
    assert "tokenizer.json" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"comparisons": [{"base": ["chat"]}], "merges": {}}, ("chat~tiny", "--mismatch crop")),
        ({"comparisons": [{"pair": ["sft", "chat"]}], "merges": {}}, ("tiny.sft.s42~chat",)),
        (
            {"merges": {"sum": {"method": "linear", "models": ["sft", "chat"]}}},
            ("the merge tiny.sum.s42", "give the merge a `tokenizer:`"),
        ),
        (
            {"merges": {**MERGES, "sum": {"method": "linear", "models": ["plain", "chat"]}}},
            ("the merge tiny.sum ",),
        ),
    ],
)
def test_model_with_other_rows_that_are_taken_by_id_is_refused_before_anything_is_written(
    folder, tmp_path, capsys, verb, changes, words
):
    out = tmp_path / "out"
    assert exit_status(verb, linked(folder, tmp_path, **changes), "--out", out) == 2
    told = capsys.readouterr().err
    size = len(tiny_tokenizer("llama"))
    assert "the model chat has other rows of tokens than its base model" in told
    assert f"({size + 2}, 64), ({size}, 64) in the base model" in told
    assert all(word in told for word in words)
    assert not out.exists()


def test_model_with_other_rows_that_no_comparison_takes_is_planned(folder, tmp_path):
    compared = [{"base": ["sft", "plain"]}]
    assert exit_status("plan", linked(folder, tmp_path, merges={}, comparisons=compared)) == 0
    everything = [{"base": "all"}]
    assert exit_status("plan", write_study(tmp_path, comparisons=everything)) == 0


def test_adapter_that_saves_an_embedding_of_other_rows_is_refused(folder, tmp_path, capsys):
    (tmp_path / "base").symlink_to(folder / "base")
    saves = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    save_adapter(tmp_path / "longer", folder / "chat", **saves)
    save_adapter(tmp_path / "same", folder / "plain", **saves)
    compared = {"merges": {}, "comparisons": [{"base": "all"}]}
    for name, status in (("longer", 2), ("same", 0)):
        models = {name: {"path": name, "base_model": "tiny"}}
        assert exit_status("plan", write_study(tmp_path, models=models, **compared)) == status
    assert "the model longer has other rows of tokens" in capsys.readouterr().err


ASKED = {
    "source": "union",
    "pad_to_multiple_of": 8,
    "tokens": {
        "<think>": {"source": "plain"},
        "<new>": {"source": {"kind": "model_token", "model": "chat", "token": "</think>"}},
        "<by-id>": {"source": {"kind": "model_token", "model": "base", "token_id": 5}},
        "<zero>": {"source": {"kind": "zero"}},
        "</think>": {"source": {"kind": "zero"}, "force": True},
    },
}


def test_mapping_of_a_tokenizer_gives_the_rows_that_it_names(folder, tmp_path, scratch):
    tokens = {**ASKED["tokens"], "<think>": {"source": "chat", "force": True}}
    merge = {"method": "linear", "models": ["plain", "chat"], "weights": [3, 1]}
    merges = {"asked": {**merge, "tokenizer": {**ASKED, "tokens": tokens}}}
    study = load_study(linked(folder, tmp_path, merges=merges))
    context = prepare(study, str(tmp_path / "out"))
    _, merged = run(context, "asked")
    places = {"base": "base", "plain": "plain", "chat": "chat", "out": merged}
    rows = {n: load_file(folder / p / "model.safetensors")[EMBED] for n, p in places.items()}
    ids = AutoTokenizer.from_pretrained(merged).get_vocab()
    theirs = AutoTokenizer.from_pretrained(folder / "chat").get_vocab()
    assert len(rows["out"]) % 8 == 0 and len(rows["out"]) >= max(ids.values()) + 1
    for token, wanted in {
        "<think>": rows["chat"][theirs["<think>"]],
        "</think>": torch.zeros(64),
        "<new>": rows["chat"][theirs["</think>"]],
        "<by-id>": rows["base"][5],
        "<zero>": torch.zeros(64),
    }.items():
        assert torch.equal(rows["out"][ids[token]], wanted), token
    shared = ids["a"]
    wanted = (3 * rows["plain"][shared].double() + rows["chat"][shared].double()) / 4
    assert torch.equal(rows["out"][shared], wanted.float())


def test_mapping_of_a_tokenizer_gives_the_bytes_of_mergekits_file(folder, tmp_path, scratch):
    tokens = {k: v for k, v in ASKED["tokens"].items() if k not in ("<think>", "<by-id>")}
    asked = {**ASKED, "tokens": tokens}
    merges = {
        "asked": {"method": "task_arithmetic", "models": ["plain", "chat"], "tokenizer": asked}
    }
    context = prepare(load_study(linked(folder, tmp_path, merges=merges)), str(tmp_path / "out"))
    _, merged = run(context, "asked")
    text = json.dumps(asked).replace('"chat"', json.dumps(str(folder / "chat")))
    models = [{"model": str(folder / n), "parameters": {"weight": 1}} for n in ("plain", "chat")]
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(folder / "base"),
        "models": models,
    }
    file = tmp_path / "merge.yaml"
    file.write_text(json.dumps({**document, "tokenizer": json.loads(text)}))
    assert exit_status("merge", "--config", file, "--out", tmp_path / "by-hand") == 0
    ours, theirs = (load_file(f / "model.safetensors") for f in (merged, tmp_path / "by-hand"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_mapping_that_says_no_more_than_a_source_has_the_id_of_the_source(folder, tmp_path):
    merge = {"method": "linear", "models": ["plain", "chat"]}
    asked = {
        "name": "union",
        "mapping": {},
        "spelled": {"source": "union", "tokens": {}, "pad_to_multiple_of": 1},
        "padded": {"pad_to_multiple_of": 8},
        "listed": {"tokens": {"<a>": {}, "<b>": {}}},
        "in another order": {"tokens": {"<b>": {}, "<a>": {}}},
        "with a row": {"tokens": {"<a>": {"source": "chat"}, "<b>": {}}},
        "forced": {"tokens": {"<a>": {"source": "chat", "force": True}, "<b>": {}}},
    }
    merges = {f"m{i}": {**merge, "tokenizer": one} for i, one in enumerate(asked.values())}
    study = load_study(linked(folder, tmp_path, merges=merges))
    again = parse_study(study_text(study), tmp_path / "again.yaml")
    ids = []
    for one in (study, again):
        inputs = read_inputs(one)
        planned = plan_merges(one, inputs, plan_trials(one, inputs))
        ids.append(dict(zip(asked, [merge.id for merge in planned], strict=True)))
    assert ids[0] == ids[1]
    assert ids[0].pop("mapping") == ids[0].pop("spelled") == ids[0]["name"]
    assert len({*ids[0].values()}) == len(ids[0]) == 6


def test_sweep_keeps_the_mapping_of_a_tokenizer(folder, tmp_path, capsys):
    merge = {"method": "linear", "models": ["plain", "chat"], "tokenizer": ASKED}
    tokens = {"<think>": {"source": "chat"}}
    merge |= {"tokenizer": {**ASKED, "tokens": tokens}, "sweep": {"weight": [0.25, 0.5]}}
    file = linked(folder, tmp_path, merges={"m": merge})
    assert exit_status("plan", file, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["tokenizers"]
    assert found["merges"] == ["tiny.m.weight=0.25", "tiny.m.weight=0.5"]
    assert found["rows"] % 8 == 0 and found["rows"] > found["tokens"]


@pytest.mark.parametrize(
    ("asked", "place", "words"),
    [
        ({"source": "uniom"}, "source", "did you mean union"),
        ({"padding": 8}, "padding", "is not a known field; known here: pad_to_multiple_of"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of", "greater than or equal to 1"),
        ({"tokens": {"<a>": {"source": "sft"}}}, "tokens.<a>.source", "model of the merge 'sft'"),
        ({"tokens": {"<a>": {"force": True}}}, "tokens.<a>", "`force` takes a `source`"),
        (
            {"tokens": {"<a>": {"source": {"kind": "zero", "model": "chat"}}}},
            "tokens.<a>.source",
            "kind zero takes no model",
        ),
        (
            {"tokens": {"<a>": {"source": {"kind": "model_token", "model": "chat"}}}},
            "tokens.<a>.source",
            "takes a `model`, and `token` or `token_id`",
        ),
    ],
)
def test_mapping_of_a_tokenizer_that_is_wrong_is_refused_at_its_line(folder, asked, place, words):
    merge = {"method": "linear", "models": ["plain", "chat"], "tokenizer": asked}
    document = json.loads((folder / "study.yaml").read_text()) | {"merges": {"wrong": merge}}
    with pytest.raises(StudyError) as caught:
        parse_study(json.dumps(document, indent=1), folder / "study.yaml")
    assert f"merges.wrong.tokenizer.{place}: " in str(caught.value)
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_row_of_a_token_that_its_model_has_not_is_refused_before_anything_trains(
    folder, tmp_path, capsys
):
    merge = {"method": "linear", "models": ["plain", "chat"], "tokenizer": ASKED}
    assert exit_status("plan", linked(folder, tmp_path, merges={"m": merge})) == 2
    assert "the row of the token '<think>' is to come from one that plain has" in (
        capsys.readouterr().err
    )


def test_status_shows_finished_models_that_merges_take_after_trials_and_merges(folder, capsys):
    assert exit_status("status", folder / "study.yaml", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["trials"]
    assert [row["name"] for row in rows if row["kind"] == "finished model"] == ["plain", "chat"]
    assert [row["kind"] for row in rows] == ["trial"] + 5 * ["merge"] + 2 * ["finished model"]
    assert exit_status("status", folder / "study.yaml") == 0
    assert "1 trial, 5 merges and 2 finished models: 8 pending" in capsys.readouterr().out


def test_models_with_other_rows_are_asked_and_no_comparison_takes_them(context, folder):
    base = context.inputs.base_models["tiny"].directory
    (chat,) = [model for model in context.finished_parents if model.name == "chat"]
    task = FinishedTask(
        context.study, chat, folder / "chat", context.inputs.rows, base, context.store.uri
    )
    with quiet_libraries():
        assert ask_finished_model(task).metrics["answers"]["greedy"]["count"] == 2
    run(context, "joined")
    said = []
    _, causes = reduction.write_reduction(context, InProcess(), said.append)
    assert causes == {}
    assert any("tiny.joined cannot be reduced" in line for line in said)
    assert read_table(context.store, "kept_of").to_pylist() == []
