"""What mergekit's file and the command line ask of the output's tokenizer."""

import pytest

from raylab.errors import InputError
from raylab.spec.mergekit import read_mergekit, requested
from raylab.spec.output_tokenizer import OutputTokenizer, TokenRow, asked_tokenizer

START = """merge_method: ties
base_model: base
models: [{model: a}, {model: base+adapter}]
parameters: {weight: 1}
"""


def read(tmp_path, text):
    file = tmp_path / "merge.yaml"
    file.write_text(START + text)
    return read_mergekit(file).tokenizer


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("tokenizer_source: base", OutputTokenizer("base")),
        ("tokenizer_source: union", OutputTokenizer("union")),
        ("tokenizer_source: a@v1", OutputTokenizer("a@v1")),
        ("tokenizer_source: base+adapter", OutputTokenizer("adapter")),
        ("tokenizer_source: {model: {path: a, revision: v1}}", OutputTokenizer("a@v1")),
        ("tokenizer: {}", OutputTokenizer("union")),
        ("tokenizer: {source: a, pad_to_multiple_of: 64}", OutputTokenizer("a", pad_to=64)),
        (
            "tokenizer: {tokens: {<x>: {source: a}, 3: {}, <y>: {source: {kind: zero}}}}",
            OutputTokenizer("union", {"<x>": TokenRow("a"), "3": None, "<y>": TokenRow(None)}),
        ),
        (
            "tokenizer: {tokens: {<x>: {source: {kind: model_token, model: base+adapter,"
            " token_id: 7}, force: true}}}",
            OutputTokenizer("union", {"<x>": TokenRow("adapter", 7, force=True)}),
        ),
        (
            "tokenizer: {tokens: {<x>: {source: {kind: model_token, model: a, token: cat}}}}",
            OutputTokenizer("union", {"<x>": TokenRow("a", "cat")}),
        ),
    ],
)
def test_read_tokenizer_is_what_mergekit_documents(tmp_path, text, wanted):
    assert read(tmp_path, text) == wanted


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("tokenizer_source: [a]", 5, "tokenizer_source"),
        ("tokenizer_source: union\ntokenizer: {source: base}", 6, "not both"),
        ("tokenizer: union", 5, "tokenizer"),
        ("tokenizer:\n  source: union\n  padding: 64", 7, "padding"),
        ("tokenizer:\n  pad_to_multiple_of: 0", 6, "pad_to_multiple_of"),
        ("tokenizer:\n  pad_to_multiple_of: true", 6, "pad_to_multiple_of"),
        ("tokenizer:\n  tokens: [a]", 6, "tokens"),
        ("tokenizer:\n  tokens:\n    <x>: a", 7, "<x>"),
        ("tokenizer:\n  tokens:\n    <x>: {force: true}", 7, "source beside it"),
        ("tokenizer:\n  tokens:\n    <x>: {source: a, force: 1.5}", 7, "force"),
        ("tokenizer:\n  tokens:\n    <x>: {source: a, weight: 1}", 7, "weight"),
        ("tokenizer:\n  tokens:\n    <x>: {source: {kind: mean}}", 7, "model_token"),
        ("tokenizer:\n  tokens:\n    <x>: {source: {kind: zero, model: a}}", 7, "model"),
        ("tokenizer:\n  tokens:\n    <x>: {source: {kind: model_token, model: a}}", 7, "token"),
        (
            "tokenizer:\n  tokens:\n    <x>:\n      source: {kind: model_token, model: a,"
            " token: b, token_id: 3}",
            8,
            "token_id",
        ),
        (
            "tokenizer:\n  tokens:\n    <x>:\n      source: {kind: model_token, model: a,"
            " token_id: -1}",
            8,
            "token_id",
        ),
    ],
)
def test_read_tokenizer_that_says_something_else_is_refused_with_its_line(
    tmp_path, text, line, named
):
    with pytest.raises(InputError, match=rf"merge\.yaml, line {line}: ") as refused:
        read(tmp_path, text)
    assert named in refused.value.message


def test_requested_tokenizer_beside_a_file_is_refused(tmp_path):
    file = tmp_path / "merge.yaml"
    file.write_text(START)
    asked = asked_tokenizer("union")
    with pytest.raises(InputError, match="tokenizer"):
        requested(file, None, None, scope=None, seed=None, tokenizer=asked)
    assert requested(file, None, None, scope=None, seed=None, tokenizer=asked_tokenizer(None))
    request = requested(None, "linear", ["a"], scope=None, seed=None, tokenizer=asked)
    assert request.tokenizer == OutputTokenizer("union")
