"""Model cards: the metadata of the hub, tables of the template, and values that lack."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from jinja2 import UndefinedError

from raylab.merge.record import card_metadata
from raylab.weights.model_card import CARD, write_model_card

RECORD = {
    "raylab": "0.1.0", "method": "ties", "title": "TIES-Merging", "paper": "a paper",
    "base": "owner/base", "scope": "global", "lambda": 1.5, "seed": None, "normalize": True,
    "tensors_merged": 2, "tensors_copied": 0,
    "models": [
        {"model": "owner/base", "weight": 1.0, "density": 0.2, "numel": 12345,
         "num_keep": 2469, "threshold": 0.123456789, "kept": 2470},
        {"model": "OUT#a|b", "weight": 0.5, "density": 1.0, "numel": 5, "kept": 0},
    ],
}  # fmt: skip


def test_card_of_a_merge_shows_each_models_settings_and_counts(tmp_path):
    write_model_card(tmp_path, card_metadata(RECORD), title="x", merge=RECORD)
    card = ModelCard.load(tmp_path / CARD)
    assert card.data.to_dict() == {
        "base_model": ["owner/base"],
        "library_name": "transformers",
        "tags": ["merge", "raylab"],
    }
    for line in (
        "# x",
        "- Method: TIES-Merging (`ties`; a paper)",
        "- Trimmed over: the whole task vector",
        "- Lambda: 1.5",
        "- Divided by the weights: yes",
        "| `owner/base` | 1 | 0.2 | 12,345 | 2,469 | 0.123456789 | 2,470 |",
        "| `OUT#a\\|b` | 0.5 | 1 | 5 | – | – | 0 |",
    ):
        assert line in card.text.splitlines()
    assert "Seed" not in card.text


def test_card_without_a_value_of_the_template_is_an_error(tmp_path):
    record = {key: value for key, value in RECORD.items() if key != "paper"}
    with pytest.raises(UndefinedError, match="paper"):
        write_model_card(tmp_path, {}, title="x", merge=record)
    assert not (tmp_path / CARD).exists()
