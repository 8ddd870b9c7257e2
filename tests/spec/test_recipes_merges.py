"""Merges of a study file: what an editor completes, and mistakes with their lines."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML

from raylab.errors import StudyError
from raylab.spec.merge_methods import METHODS
from raylab.spec.study_file import parse_study
from raylab.spec.study_schema import study_schema

TEXT = """\
name: demo
base_models:
  tiny: {path: base}
data:
  D0: {path: d0.jsonl}
recipes:
  sft: {method: sft, data: D0}
merges:
  both:
    method: ties
    models: [sft]
    density: 0.2
    lambda: 1
"""
MISTAKES = {
    "method": ("method: ties", "method: tie", 10, "merges.both.method", "did you mean ties?"),
    "model": ("[sft]", "[sftt]", 11, "merges.both.models.0", "did you mean sft?"),
    "density": ("0.2", "1.2", 12, "merges.both.density", "found 1.2"),
    "lambda": ("lambda: 1", "lambda: x", 13, "merges.both.lambda", "found 'x'"),
    "field": ("lambda", "lamda", 13, "merges.both.lamda", "did you mean lambda?"),
    "idle": ("density", "seed", 12, "merges.both.seed", "integer"),
    "refused": ("lambda: 1", "seed: 1", 9, "merges.both", "ties has no seed; found: seed 1;"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_in_a_merge_names_line_and_field(kind, tmp_path):
    old, new, line, field, said = MISTAKES[kind]
    assert TEXT.count(old) == 1
    with pytest.raises(StudyError) as caught:
        parse_study(TEXT.replace(old, new), tmp_path / "study.yaml")
    (message,) = caught.value.message.splitlines()
    assert re.search(rf"line {line}: {re.escape(field)}: ", message), message
    assert said in message


def test_schema_lists_the_methods_and_every_parameter():
    schema = study_schema()["$defs"]["Merge"]
    assert schema["properties"]["method"]["enum"] == list(METHODS)
    assert set(schema["properties"]) == {
        "method", "models", "weights", "density", "scope", "lambda", "seed", "parameters", "as",
        "rank", "energy", "tokenizer", "sweep",
    }  # fmt: skip
    assert all(entry.get("description") for entry in schema["properties"].values())


def test_study_with_a_merge_written_and_read_again_is_the_same(tmp_path):
    study = parse_study(TEXT, tmp_path / "study.yaml")
    with (tmp_path / "again.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(study.model_dump(mode="json", exclude_none=True), file)
    again = parse_study((tmp_path / "again.yaml").read_text(), tmp_path / "again.yaml")
    assert again == study
    assert getattr(again.merges["both"], "lambda") == 1
