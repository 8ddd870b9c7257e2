"""The model card of a merge: what the method uses, and nothing that it does not."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from raylab.merge.card import write_card

TIES = {
    "raylab": "0.1.0", "method": "ties", "title": "TIES-Merging", "paper": "a paper",
    "base": "owner/base", "scope": "global", "lambda": 1.5, "seed": None, "normalize": True,
    "tensors_merged": 2, "tensors_copied": 0,
    "models": [
        {"model": "owner/base", "weight": 1.0, "density": 0.2, "numel": 12345,
         "num_keep": 2469, "threshold": 0.123456789, "kept": 2470},
        {"model": "OUT#a|b", "weight": 0.5, "density": 1.0, "numel": 5, "kept": 0},
    ],
}  # fmt: skip
SLERP = TIES | {
    "method": "slerp", "scope": None, "lambda": 1.0, "normalize": False,
    "parameters": {"t": "mlp: [0, 1], *: 0.5"},
    "models": [
        {"model": "a", "weight": 1.0, "density": 1.0, "numel": 9, "kept": 8},
        {"model": "b", "weight": 1.0, "density": 1.0, "numel": 9, "kept": 9},
    ],
}  # fmt: skip
DARE = TIES | {
    "method": "dare_linear", "scope": None, "seed": 7, "normalize": "mlp: true, *: false",
    "models": [{"model": "a", "weight": 1.0, "density": 0.5, "numel": 9, "kept": 5}],
}  # fmt: skip
BY_TENSOR = TIES | {
    "scope": "tensor",
    "models": [{"model": "a", "weight": 1.0, "density": 0.5, "numel": 9, "num_keep": 4, "kept": 5}],
}
PASSTHROUGH = SLERP | {
    "method": "passthrough", "parameters": {},
    "models": [{"model": "a", "weight": 1.0, "density": 1.0, "scale": 0.5, "numel": 9}],
}  # fmt: skip
FILLED = {"only": 3, "base": 0, "mean": 0, "asked": 0, "zero": 1}
TOKENIZER = {
    "source": "union", "tokens": 1004, "rows": 1024, "in_all": 1000, "padding": 20,
    "filled": FILLED,
}  # fmt: skip


def card(tmp_path, record):
    write_card(tmp_path, "x", record)
    return ModelCard.load(tmp_path / "README.md")


def test_card_shows_each_models_settings_and_counts(tmp_path):
    found = card(tmp_path, TIES)
    assert found.data.to_dict() == {
        "base_model": ["owner/base"],
        "library_name": "transformers",
        "tags": ["merge", "raylab"],
    }
    for line in (
        "# x",
        "- Method: TIES-Merging (`ties`; a paper)",
        "- Base model: `owner/base`",
        "- Trimmed over: the whole task vector",
        "- Lambda: 1.5",
        "- Divided by the weights: yes",
        "| model | weight | density | numel | num_keep | threshold | kept |",
        "| `owner/base` | 1 | 0.2 | 12,345 | 2,469 | 0.123456789 | 2,470 |",
        "| `OUT#a\\|b` | 0.5 | 1 | 5 | – | – | 0 |",
    ):
        assert line in found.text.splitlines()
    assert "Seed" not in found.text


@pytest.mark.parametrize(
    ("record", "there", "absent"),
    [
        (
            SLERP,
            ["- `t`: mlp: [0, 1], *: 0.5", "| model | numel | kept |", "| `a` | 9 | 8 |"],
            ["Lambda", "Divided", "Trimmed", "weight", "density", "num_keep"],
        ),
        (
            DARE,
            ["- Seed: 7", "- Lambda: 1.5", "- Divided by the weights: mlp: true, *: false",
             "| model | weight | density | numel | kept |"],
            ["Trimmed", "num_keep", "threshold"],
        ),
        (
            BY_TENSOR,
            ["- Trimmed over: each tensor", "`num_keep`: how many of them were to stay."],
            ["threshold"],
        ),
        (
            PASSTHROUGH,
            ["| model | scale | numel |", "| `a` | 0.5 | 9 |"],
            ["Lambda", "Divided", "weight", "`kept`"],
        ),
    ],
)  # fmt: skip
def test_card_has_the_settings_that_the_method_uses_and_no_other(tmp_path, record, there, absent):
    text = card(tmp_path, record).text
    assert [line for line in there if line not in text.splitlines()] == []
    assert [word for word in absent if word in text] == []


def test_card_counts_rows_of_tokens_by_what_happened(tmp_path):
    found = card(tmp_path, SLERP | {"tokenizer": TOKENIZER}).text
    assert (
        "- Tokenizer: `union`, 1,004 tokens in 1,024 rows, 1,000 of them in all models; 3 have the"
        " row of the one model that has the token; 1 have zeros; 20 rows are of no token\n"
    ) in found
