"""The tokenizer that a merge writes: it splits text as its models' do, and its configs fit."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from raylab.cli import main
from raylab.errors import InputError, ModelError
from raylab.merge.inputs import plan_merge
from raylab.merge.merge import merge_named
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merges import request_merge
from raylab.spec.output_tokenizer import OutputTokenizer
from tests.merge.extended import WORDS, saved_adapter, saved_llama, tokenizer_of
from tests.merge.models import place
from tests.merge.models import saved as saved_tensors

EMBED = "model.embed_tokens.weight"
TEXT = "the cat<|b|> saw word_b<|a|> and ran"


def bytes_bpe(added, size=300):
    """A byte-level BPE of a few words."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([" ".join(WORDS)] * 9, trainer)
    made.add_tokens(list(added))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def union(folder, *models, **options):
    request = request_merge(
        "linear", [str(model) for model in models], tokenizer=OutputTokenizer(**options)
    )
    record = merge_named(request, folder / "out")
    return record["tokenizer"], AutoTokenizer.from_pretrained(folder / "out")


def command(*words):
    """The exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main([*words])
    return ended.value.code


def named_class(directory, name):
    """Let a tokenizer be loaded by a class of transformers."""
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": name}))


@pytest.mark.parametrize("loader", ["PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer"])
def test_merge_union_of_byte_level_bpe_splits_text_as_its_models_do(tmp_path, loader):
    special = AddedToken("<|b|>", special=True, lstrip=True, normalized=False)
    one = saved_llama(tmp_path / "one", bytes_bpe(["<|a|>"]), 1)
    two = saved_llama(tmp_path / "two", bytes_bpe([special, "word_b"]), 2, near=one)
    for model in (one, two):
        named_class(model, loader)
    record, tokenizer = union(tmp_path, one, two)
    tokens = tokenizer.tokenize(TEXT)
    assert {"<|a|>", "<|b|>", "word_b"} <= {*tokens}
    own = AutoTokenizer.from_pretrained(two).tokenize(TEXT.replace("<|a|>", ""))
    assert [token for token in tokens if token != "<|a|>"] == own
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == "the cat<|b|> saw word_b<|a|> and ran"
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    assert added["<|b|>"].lstrip and added["<|b|>"].special and not added["word_b"].special
    assert (record["added"], "literal" in record) == (2, False)
    in_file = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json")).get_vocab_size()
    rows = load_file(tmp_path / "out/model.safetensors")[EMBED]
    assert in_file == record["rows"] == len(rows)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_merge_union_takes_the_tokenizer_whose_words_include_the_others(tmp_path):
    """The second model's vocabulary has more words, which its algorithm alone can build."""
    one = saved_llama(tmp_path / "one", bytes_bpe(["<|a|>"], 262), 1)
    two = saved_llama(tmp_path / "two", bytes_bpe(["<|b|>"], 275), 2, near=one)
    record, tokenizer = union(tmp_path, one, two)
    own = AutoTokenizer.from_pretrained(two)
    assert tokenizer.tokenize("the cat saw the dog") == own.tokenize("the cat saw the dog")
    assert tokenizer.get_vocab() == {**own.get_vocab(), "<|a|>": len(own)}
    assert (record["added"], "literal" in record) == (1, False)


def test_merge_union_of_words_that_no_tokenizer_includes_says_so(tmp_path, capsys):
    one = saved_llama(tmp_path / "one", tokenizer_of(WORDS[:6]), 1)
    two = saved_llama(tmp_path / "two", tokenizer_of(WORDS[3:]), 2, near=one)
    options = ["--model", str(one), "--model", str(two), "--tokenizer", "union"]
    assert command("merge", "linear", *options, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "2 words of other tokenizers are added tokens" in said
    assert "11 tokens (union): 6 in all models, 5 in one model alone" in said
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("the cat and ran") == ["the", "cat", "and", "ran"]
    card = (tmp_path / "out/README.md").read_text()
    assert "- Tokenizer: `union`, 11 tokens in 11 rows, 6 of them in all models" in card


def test_merge_configs_have_the_ids_of_the_model_whose_tokenizer_it_is(tmp_path):
    base = saved_llama(tmp_path / "base", tokenizer_of(), 1)
    chat = tokenizer_of(WORDS[::-1], added=["<|end|>"])
    chat.eos_token = "<|end|>"
    model = saved_llama(tmp_path / "chat", chat, 2, near=base)
    settings = {"eos_token_id": [2, 11], "bos_token_id": 1, "pad_token_id": 11, "max_length": 5}
    (model / "generation_config.json").write_text(json.dumps(settings))
    request = request_merge(
        "task_arithmetic", [str(model)], base=str(base), tokenizer=OutputTokenizer(str(model))
    )
    merge_named(request, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["eos_token_id"], config["bos_token_id"], config["vocab_size"]) == (11, 1, 12)
    generation = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 11] and generation["pad_token_id"] == 11
    assert "max_length" not in generation
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|end|>"


def test_merge_older_files_name_the_added_tokens_too(tmp_path):
    one = saved_llama(tmp_path / "one", tokenizer_of(added=["<a>"]), 1)
    two = saved_llama(tmp_path / "two", tokenizer_of(added=["<b>"]), 2, near=one)
    (one / "added_tokens.json").write_text(json.dumps({"<a>": 11}))
    file = one / "tokenizer_config.json"
    decoder = {"11": {"content": "<a>", "special": False}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "added_tokens_decoder": decoder}))
    union(tmp_path, one, two)
    config = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"]["12"]["content"] == "<b>"
    assert json.loads((tmp_path / "out/added_tokens.json").read_text()) == {"<a>": 11, "<b>": 12}


def test_merge_nested_config_has_the_number_of_rows_where_it_stands(tmp_path):
    one = saved_llama(tmp_path / "one", tokenizer_of(), 1)
    two = saved_llama(tmp_path / "two", tokenizer_of(added=["<b>"]), 2, near=one)
    config = json.loads((one / "config.json").read_text())
    rows = config.pop("vocab_size")
    nested = {"text_config": {"vocab_size": rows}, "vision_config": {"vocab_size": 3}}
    (one / "config.json").write_text(json.dumps({**config, **nested}))
    union(tmp_path, one, two)
    found = json.loads((tmp_path / "out/config.json").read_text())
    assert found["text_config"] == {"vocab_size": 12} and "vocab_size" not in found
    assert found["vision_config"] == {"vocab_size": 3}


def test_merge_model_without_a_tokenizer_has_the_base_models(tmp_path):
    one = saved_llama(tmp_path / "one", tokenizer_of(added=["<a>"]), 1)
    bare = saved_llama(tmp_path / "bare", tokenizer_of(added=["<a>"]), 2, rows=16, near=one)
    for file in bare.glob("tokenizer*"):
        file.unlink()
    record, _ = union(tmp_path, one, bare)
    assert [row.get("tokenizer") for row in record["models"]] == [None, "assumed"]
    assert (record["in_all"], record["models"][1]["left_out"]) == (12, 4)


def test_merge_tokens_without_a_row_in_any_model_are_zeros(tmp_path):
    longer = tokenizer_of(added=["<a>", "<b>"])
    one = saved_llama(tmp_path / "one", longer, 1, rows=12)
    two = saved_llama(tmp_path / "two", tokenizer_of(added=["<a>"]), 2, near=one)
    record, tokenizer = union(tmp_path, one, two)
    assert record["filled"] == {"asked": 0, "only": 0, "base": 0, "mean": 0, "zero": 1}
    assert record["models"][0]["without_row"] == 1
    found = load_file(tmp_path / "out/model.safetensors")[EMBED]
    assert found.shape[0] == 13 and not found[tokenizer.get_vocab()["<b>"]].any()


def test_merge_bf16_rows_keep_their_bits(tmp_path):
    one = saved_llama(tmp_path / "one", tokenizer_of(added=["<a>"]), 1, dtype=torch.bfloat16)
    two = saved_llama(tmp_path / "two", tokenizer_of(WORDS[::-1], added=["<b>"]), 2,
                      dtype=torch.bfloat16)  # fmt: skip
    _, tokenizer = union(tmp_path, one, two)
    found = load_file(tmp_path / "out/model.safetensors")[EMBED]
    assert found.dtype == torch.bfloat16
    ids = tokenizer.get_vocab()
    for model, token in ((one, "<a>"), (two, "<b>")):
        own = load_file(model / "model.safetensors")[EMBED]
        assert torch.equal(found[ids[token]], own[11])


def test_merge_stored_tied_head_follows_its_tokens(tmp_path):
    """Older files hold a head beside the embedding that it is tied to."""
    paths = []
    for i, words in enumerate((WORDS, WORDS[::-1])):
        tokenizer = tokenizer_of(words, added=[f"<{i}>"])
        rows = torch.from_numpy(np.arange(12 * 4).reshape(12, 4) + 100.0 * i).float()
        tensors = {EMBED: rows, "lm_head.weight": rows.clone(), "model.norm.weight": torch.ones(4)}
        paths.append(saved_tensors(tmp_path / str(i), tensors, tie_word_embeddings=True))
        tokenizer.save_pretrained(paths[-1])
    union(tmp_path, *paths)
    ids = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    found = load_file(tmp_path / "out/model.safetensors")
    assert {*found} == {EMBED, "model.norm.weight"}
    assert found[EMBED][ids["the"]].tolist() == [(12 + k + 140 + k) / 2 for k in range(4)]
    assert found[EMBED][ids["<1>"]].tolist() == [144 + k for k in range(4)]


def refused(tmp_path, error, named, models, base=None, output=None, **options):
    request = request_merge(
        "linear",
        [str(m) for m in models],
        base=str(base) if base else None,
        output=output,
        tokenizer=OutputTokenizer(**options),
    )
    with pytest.raises(error) as found:
        merge_named(request, tmp_path / "out")
    assert named in found.value.message
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_merge_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    one = saved_llama(tmp_path / "one", tokenizer_of(), 1)
    two = saved_llama(tmp_path / "two", tokenizer_of(added=["<b>"]), 2, near=one)
    bare = saved_llama(tmp_path / "bare", tokenizer_of(), 3)
    for file in bare.glob("tokenizer*"):
        file.unlink()
    broken = saved_llama(tmp_path / "broken", tokenizer_of(), 3)
    (broken / "tokenizer.json").unlink()
    (broken / "tokenizer.model").write_text("IQ== 0")
    slow = saved_llama(tmp_path / "slow", tokenizer_of(), 3)
    vocabulary = json.loads((slow / "tokenizer.json").read_text())["model"]["vocab"]
    (slow / "tokenizer.json").unlink()
    (slow / "vocab.json").write_text(json.dumps(vocabulary))
    wider = saved_tensors(tmp_path / "wider", {EMBED: torch.ones(11, 9)})
    tokenizer_of().save_pretrained(wider)
    nameless = saved_tensors(tmp_path / "nameless", {"model.table.weight": torch.ones(11, 8)})
    tokenizer_of().save_pretrained(nameless)
    adapter = saved_adapter(tmp_path / "adapter", one, 4)
    refused(tmp_path, ModelError, "tokenizer is not there", [bare, two])
    refused(tmp_path, ModelError, "broken", [one, broken])
    refused(tmp_path, ModelError, "cannot be extended", [slow, two])
    refused(tmp_path, ModelError, "(11, 9)", [one, wider])
    refused(tmp_path, ModelError, "no embedding of a known name", [nameless, one])
    refused(tmp_path, ModelError, "has none", [one, two], source=str(bare))
    refused(tmp_path, ModelError, "is not there", [one, two], source="nowhere/at/all")
    refused(tmp_path, InputError, "tokenizer of its base model", [adapter], base=one,
            output=AdapterOutput())  # fmt: skip
    turned = tokenizer_of(WORDS[::-1])
    other = saved_adapter(tmp_path / "turned", one, 4, turned, modules_to_save=["embed_tokens"])
    refused(tmp_path, ModelError, "do not agree", [other], base=one)


def test_command_refuses_a_tokenizer_beside_a_file(tmp_path, capsys):
    file = tmp_path / "merge.yaml"
    file.write_text("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\n")
    out = ["--out", str(tmp_path / "out")]
    assert command("merge", "--config", str(file), "--tokenizer", "union", *out) == 2
    assert "tokenizer beside it" in capsys.readouterr().err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 40) | st.text(max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries({}, optional={"id": JSON, "content": JSON, "special": JSON})
VOCABULARY = st.dictionaries(st.sampled_from(["the", "cat", "<x>", "<unk>"]), JSON) | JSON


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    one = saved_llama(folder / "one", tokenizer_of(), 1)
    return one, saved_llama(folder / "two", tokenizer_of(added=["<b>"]), 2, near=one)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([0, 1]),
    st.sampled_from(["added_tokens", "vocab", "model", "decoder", "added"]),
    st.lists(ENTRY, max_size=3) | JSON,
    VOCABULARY,
)
def test_plan_any_tokenizer_file_is_a_map_or_a_model_error(pair, which, field, entries, vocabulary):
    file = pair[which] / "tokenizer.json"
    config, older = pair[which] / "tokenizer_config.json", pair[which] / "added_tokens.json"
    kept = file.read_bytes(), config.read_bytes()
    content = json.loads(kept[0])
    if field == "vocab":
        content["model"]["vocab"] = vocabulary
    elif field == "decoder":
        config.write_text(json.dumps({"added_tokens_decoder": vocabulary}))
    elif field == "added":
        older.write_text(json.dumps(vocabulary))
    else:
        content[field] = entries
    file.write_text(json.dumps(content))
    request = request_merge(
        "linear", [str(model) for model in pair], tokenizer=OutputTokenizer("union")
    )
    try:
        with contextlib.suppress(ModelError):
            account = plan_merge(request, [place(model) for model in pair], None).tokens.map.account
            assert account["tokens"] == account["in_all"] + sum(account["filled"].values())
    finally:
        file.write_bytes(kept[0])
        config.write_bytes(kept[1])
        older.unlink(missing_ok=True)
