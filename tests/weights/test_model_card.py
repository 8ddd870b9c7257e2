"""Model cards: the metadata of the hub, and values that lack."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard, ModelCardData
from jinja2 import UndefinedError

from raylab.weights.model_card import CARD, write_model_card

MERGE = {
    "raylab": "0.1.0", "method": "linear", "title": "Soup", "paper": "a paper", "base": None,
    "tensors_merged": 2, "tensors_copied": 0, "models": [{"model": "a|b", "numel": 1234}],
}  # fmt: skip
VALUES = {"title": "x", "settings": {"Seed": "1"}, "columns": ["numel", "kept"], "tokens": ""}


def test_card_has_metadata_and_a_dash_for_a_measure_that_lacks(tmp_path):
    write_model_card(tmp_path, {"tags": ["merge"]}, merge=MERGE, **VALUES)
    card = ModelCard.load(tmp_path / CARD)
    assert card.data.to_dict() == {"tags": ["merge"]}
    lines = card.text.splitlines()
    assert "- Method: Soup (`linear`; a paper)" in lines
    assert "- Seed: 1" in lines
    assert "| `a\\|b` | 1,234 | – |" in lines


def test_card_without_a_value_of_the_template_is_an_error(tmp_path):
    merge = {key: value for key, value in MERGE.items() if key != "paper"}
    with pytest.raises(UndefinedError, match="paper"):
        write_model_card(tmp_path, {}, merge=merge, **VALUES)
    assert not (tmp_path / CARD).exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {"library_name": "transformers", "tags": ["merge", "raylab"], "base_model": ["a/b", "c/d"]},
        {"license": "apache-2.0", "datasets": None, "base_model_relation": "merge", "tags": []},
        {"language": ["ja", "en"], "base_model": "0123/yes", "tags": ["メロン: #1", "- x", "null"]},
        {"model_id": "e" * 200 + " " + "f" * 90, "license_link": "https://a.b/c?d=e#f"},
    ],
)
def test_card_has_the_bytes_that_huggingface_hub_writes(tmp_path, metadata):
    write_model_card(tmp_path, metadata, merge=MERGE, **VALUES)
    card = ModelCard.load(tmp_path / CARD)
    card.data = ModelCardData(**metadata)
    card.save(tmp_path / "theirs.md")
    assert (tmp_path / CARD).read_bytes() == (tmp_path / "theirs.md").read_bytes()
