"""Models whose tokenizers give one token two ids are not merged row by row."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, models, trainers

from raylab.errors import ModelError
from raylab.plan.trials import read_inputs
from raylab.spec.study_file import load_study
from raylab.spec.vocabularies import Side, check_vocabularies, clashes, vocabulary_of
from tests.architectures import save_adapter, save_tiny
from tests.commands import exit_status
from tests.studies import write_study_folder

WORDS = [f"w{i}" for i in range(40)]


def word_level(directory, words, added=()):
    """A tokenizer.json of whole words, as the library tokenizers writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: id for id, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def swapped(words, one=17, other=18):
    found = list(words)
    found[one], found[other] = found[other], found[one]
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The directory of a tiny model without a tokenizer."""
    return save_tiny(tmp_path_factory.mktemp("model"), "llama", 0, torch.float32)


def with_tokenizer(model, directory, words=WORDS, added=()):
    shutil.copytree(model, directory, dirs_exist_ok=True)
    return word_level(directory, words, added)


def merge(base, out, *paths):
    places = [word for path in paths for word in ("--model", path)]
    return exit_status("merge", "task_arithmetic", "--base", base, *places, "--out", out)


def test_merge_of_models_whose_tokens_have_other_ids_is_refused_with_these(tmp_path, capsys, model):
    base = with_tokenizer(model, tmp_path / "base")
    same = with_tokenizer(model, tmp_path / "same")
    other = with_tokenizer(model, tmp_path / "other", swapped(WORDS))
    assert merge(base, tmp_path / "out", same, other) == 2
    message = capsys.readouterr().err
    assert "2 tokens have different ids" in message
    assert "'w17' is 17 and 18" in message
    assert str(other) in message
    assert not (tmp_path / "out").exists()
    assert merge(base, tmp_path / "out", same) == 0


def test_merge_of_two_models_without_a_base_is_refused_too(tmp_path, capsys, model):
    one = with_tokenizer(model, tmp_path / "one")
    other = with_tokenizer(model, tmp_path / "other", swapped(WORDS))
    words = ("merge", "linear", "--model", one, "--model", other, "--out", tmp_path / "out")
    assert exit_status(*words) == 2
    assert "'w17' is 17 and 18" in capsys.readouterr().err


def test_merge_of_models_that_added_two_tokens_under_one_id_is_refused(tmp_path, capsys, model):
    base = with_tokenizer(model, tmp_path / "base")
    one = with_tokenizer(model, tmp_path / "one", added=["<call>"])
    other = with_tokenizer(model, tmp_path / "other", added=["<think>"])
    assert merge(base, tmp_path / "out", one, other) == 2
    assert "40 is '<call>' and '<think>'" in capsys.readouterr().err
    assert merge(base, tmp_path / "out", one) == 0


@pytest.mark.parametrize("kind", ["saves its embedding", "leaves the embedding alone"])
def test_adapter_counts_where_it_has_rows_of_tokens(tmp_path, capsys, model, kind):
    base = with_tokenizer(model, tmp_path / "base")
    saved = ["embed_tokens"] if kind == "saves its embedding" else None
    adapter = save_adapter(
        tmp_path / "adapter", model, target_modules=["q_proj"], modules_to_save=saved
    )
    word_level(adapter, swapped(WORDS))
    status = merge(base, tmp_path / "out", adapter)
    assert status == (2 if saved else 0)
    assert ("different ids" in capsys.readouterr().err) is bool(saved)


def test_diff_warns_that_rows_are_compared_by_id(tmp_path, capsys, model):
    one = with_tokenizer(model, tmp_path / "one")
    other = with_tokenizer(model, tmp_path / "other", swapped(WORDS))
    assert exit_status("diff", one, other, "--json") == 0
    printed = capsys.readouterr()
    assert "2 tokens have different ids" in printed.err
    assert "compared by id" in printed.err
    assert json.loads(printed.out)["norms"]["nonzero"] == 0
    assert exit_status("diff", one, one) == 0
    assert "tokens" not in capsys.readouterr().err


def test_merge_in_a_study_is_refused_by_plan(tmp_path, capsys, model):
    finished = {name: {"path": name, "base_model": "tiny"} for name in ("near", "far")}
    merges = {"both": {"method": "task_arithmetic", "models": ["near", "far"]}}
    study = write_study_folder(tmp_path, models=finished, merges=merges)
    shutil.rmtree(tmp_path / "base")
    template = '{"chat_template": "{{ messages }}"}'
    for name, words in (("base", WORDS), ("near", WORDS), ("far", swapped(WORDS))):
        directory = with_tokenizer(model, tmp_path / name, words)
        (directory / "tokenizer_config.json").write_text(template)
    assert exit_status("plan", study) == 2
    assert "'w17' is 17 and 18" in capsys.readouterr().err


def test_comparison_in_a_study_warns_that_rows_are_compared_by_id(tmp_path, capsys, model):
    finished = {name: {"path": name, "base_model": "tiny"} for name in ("near", "far")}
    study = write_study_folder(tmp_path, models=finished)
    shutil.rmtree(tmp_path / "base")
    template = '{"chat_template": "{{ messages }}"}'
    for name, words in (("base", WORDS), ("near", WORDS), ("far", swapped(WORDS))):
        directory = with_tokenizer(model, tmp_path / name, words)
        (directory / "tokenizer_config.json").write_text(template)
    warnings = read_inputs(load_study(study)).warnings
    about = [warning for warning in warnings if "tokens have different ids" in warning]
    assert [warning.split(" (")[0] for warning in about] == [
        "2 tokens have different ids in the base model tiny and far",
        "2 tokens have different ids in near and far",
    ]


def bytes_of(number):
    """A number as protocol buffers write it."""
    found = []
    while True:
        found.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(found)


def field(number, content):
    return bytes([number << 3 | 2]) + bytes_of(len(content)) + content


def sentencepiece(words):
    """A SentencePiece model: pieces with text, score and type, and a trainer's settings."""
    pieces = (field(1, field(1, w.encode()) + b"\x15\x00\x00\x80\xbf\x18\x01") for w in words)
    return b"".join(pieces) + field(2, b"\x18\x02")


FILES = {
    "vocab.json": lambda words: json.dumps({w: i for i, w in enumerate(words)}).encode(),
    "vocab.txt": lambda words: "\n".join(words).encode(),
    "tokenizer.model": sentencepiece,
}


@pytest.mark.parametrize("name", FILES)
def test_vocabulary_of_every_kind_of_file_is_its_tokens_in_order(tmp_path, name):
    words = [*WORDS, "▁語", "<0x0A>"]
    for folder, order in (("a", words), ("b", swapped(words)), ("c", [*words, "more"])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(FILES[name](order))
    (tmp_path / "c" / "added_tokens.json").write_text(json.dumps({"<new>": 99}))
    assert vocabulary_of(tmp_path / "a") == {word: id for id, word in enumerate(words)}
    assert len(clashes(tmp_path / "a", tmp_path / "b")) == 2
    assert clashes(tmp_path / "a", tmp_path / "c") == []
    assert vocabulary_of(tmp_path / "c")["<new>"] == 99


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_vocabulary_of_a_trained_tokenizer_is_the_librarys(tmp_path, kind):
    model, trainer = {
        "bpe": (models.BPE(), trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>"])),
        "unigram": (
            models.Unigram(),
            trainers.UnigramTrainer(vocab_size=40, special_tokens=["<s>"], unk_token="<s>"),
        ),
    }[kind]
    tokenizer = Tokenizer(model)
    tokenizer.train_from_iterator(["one two three four", "five six seven"] * 5, trainer)
    tokenizer.add_tokens(["<added>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert vocabulary_of(tmp_path) == tokenizer.get_vocab(with_added_tokens=True)


def test_vocabulary_that_is_missing_or_no_such_file_says_nothing_or_is_named(tmp_path):
    (tmp_path / "none").mkdir()
    assert vocabulary_of(tmp_path / "none") is None
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    check_vocabularies(Side("none", tmp_path / "none"), [Side("odd", tmp_path / "odd")])
    (tmp_path / "odd" / "tokenizer.json").write_text('{"model": {"vocab": 3}}')
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        vocabulary_of(tmp_path / "odd")
