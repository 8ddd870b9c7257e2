"""The chat template of a merge's output: chosen among models, by name, or written out.

The oracle is transformers, which renders with the tokenizer that lies beside the output; where
RAYLAB_MERGEKIT names a mergekit-yaml, that runs over the same files too.
"""

from __future__ import annotations

import json
import os

import pytest
from transformers import AutoTokenizer

from raylab.errors import InputError, ModelError
from raylab.merge.merge import merge_named
from raylab.merge.record import summary_lines
from raylab.spec.adapter_output import adapter_output
from raylab.spec.mergekit import read_mergekit
from raylab.spec.output_template import NAMED
from tests.merge.extended import saved_adapter, saved_llama, tokenizer_of
from tests.merge.mergekit_models import merged_by_mergekit

MESSAGES = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "ran"}]
ONE = "{% for m in messages %}{{ m['content'] + ' and ' }}{% endfor %}"
TWO = "{% for m in messages %}{{ m['role'] + ' saw ' + m['content'] + '\\n' }}{% endfor %}"
FILE = """
merge_method: linear
base_model: FOLDER/base
parameters: {weight: 1}
models:
  - {model: FOLDER/one}
  - {model: FOLDER/two}
  - {model: FOLDER/three}
"""
ALONE = "merge_method: passthrough\nmodels: [{model: FOLDER/NAME}]"
TEMPLATES = {"base": None, "one": ONE, "two": TWO, "three": f"{TWO}\n"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four models: the base model has no template, and two have one but for space."""
    found = tmp_path_factory.mktemp("templates")
    for seed, (name, template) in enumerate(TEMPLATES.items()):
        tokenizer = tokenizer_of()
        tokenizer.chat_template = template
        saved_llama(found / name, tokenizer, seed)
    return found


def merged(folder, out, chat_template, text=FILE):
    file = out.parent / f"{out.name}.yaml"
    whole = f"{text}\nchat_template: {json.dumps(chat_template)}\n"
    file.write_text(whole.replace("FOLDER", str(folder)))
    return file, merge_named(read_mergekit(file), out)


def rendered(out):
    tokenizer = AutoTokenizer.from_pretrained(out)
    return tokenizer.apply_chat_template(MESSAGES, tokenize=False)


def test_auto_takes_the_template_that_most_models_have(folder, tmp_path):
    _, record = merged(folder, tmp_path / "out", "auto")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == TWO
    assert rendered(tmp_path / "out") == "user saw the cat\nassistant saw ran\n"
    models = [str(folder / name) for name in ("two", "three")]
    assert record["chat_template"] == {"source": "auto", "models": models, "of": 4}
    assert f"  chat template: that of {models[0]}, which 2 of 4 models have" in summary_lines(
        record
    )


def test_auto_of_two_that_as_many_have_is_the_first_and_of_none_changes_nothing(folder, tmp_path):
    text = FILE.replace("  - {model: FOLDER/three}\n", "")
    _, record = merged(folder, tmp_path / "first", "auto", text)
    assert record["chat_template"]["models"] == [str(folder / "one")]
    _, record = merged(folder, tmp_path / "none", "auto", ALONE.replace("NAME", "base"))
    assert record["chat_template"] == {"source": "auto", "models": [], "of": 1}
    assert not (tmp_path / "none" / "chat_template.jinja").exists()


@pytest.mark.parametrize(("asked", "text"), [("llama3", NAMED["llama-3"]), (ONE, ONE)])
def test_template_by_name_or_written_out_is_in_every_file_that_readers_look_at(
    folder, tmp_path, asked, text
):
    old = tmp_path / "old"
    saved_llama(old, tokenizer_of(), 5)
    config = json.loads((old / "tokenizer_config.json").read_text())
    (old / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TWO}))
    (old / "chat_template.json").write_text(json.dumps({"chat_template": TWO}))
    (old / "additional_chat_templates").mkdir()
    (old / "additional_chat_templates" / "tool_use.jinja").write_text(TWO)
    merged(
        tmp_path,
        tmp_path / "out",
        asked,
        "merge_method: passthrough\nmodels: [{model: FOLDER/old}]",
    )
    out = tmp_path / "out"
    assert (out / "chat_template.jinja").read_text() == text
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == text
    assert AutoTokenizer.from_pretrained(out).chat_template == text
    assert not (out / "chat_template.json").exists()
    assert "generation" not in text.replace("add_generation_prompt", "")


def test_template_of_an_adapter_is_that_of_its_base_model(folder, tmp_path):
    saved_adapter(tmp_path / "lora", folder / "two", 1)
    text = FILE.replace("FOLDER/three", f"FOLDER/two+{tmp_path / 'lora'}")
    _, record = merged(folder, tmp_path / "out", "auto", text)
    assert record["chat_template"]["models"] == [
        str(folder / "two"), f"{folder / 'two'}+{tmp_path / 'lora'}",
    ]  # fmt: skip


def test_template_without_a_tokenizer_or_for_an_adapter_is_refused(folder, tmp_path):
    saved_llama(tmp_path / "bare", tokenizer_of(), 1)
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match="the output has none"):
        merged(
            tmp_path,
            tmp_path / "out",
            ONE,
            "merge_method: passthrough\nmodels: [{model: FOLDER/bare}]",
        )
    file, _ = merged(folder, tmp_path / "whole", ONE)
    request = read_mergekit(file)
    asked = adapter_output("adapter", None, None)
    with pytest.raises(InputError, match="chat template of its base model"):
        merge_named(type(request)(**{**vars(request), "output": asked}), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists() and not (tmp_path / "out").exists()


@pytest.mark.mergekit
@pytest.mark.skipif("RAYLAB_MERGEKIT" not in os.environ, reason="RAYLAB_MERGEKIT names none")
@pytest.mark.parametrize("asked", ["auto", TWO, "chatml"])
def test_template_renders_what_mergekits_output_renders(folder, tmp_path, asked):
    file, _ = merged(folder, tmp_path / "ours", asked)
    merged_by_mergekit(file, tmp_path / "theirs")
    assert rendered(tmp_path / "ours") == rendered(tmp_path / "theirs")
