"""The model card of a merge: the README.md that a hub shows beside its weights.

Model: a card says what the record, merge.json, says: the method with the settings that it uses, and
for each model its settings and counts. Its metadata name the models that are on a hub.
Invariant: a setting is on the card if and only if the method uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylab.number_format import setting
from raylab.spec.merge_methods import METHODS
from raylab.weights.model_card import write_model_card

_COUNTS = ("numel", "num_keep", "threshold", "kept")
_FILLED = {
    "only": "have the row of the one model that has the token",
    "base": "have that of the base model",
    "mean": "have the mean of several models' rows",
    "asked": "have the row that was asked for",
    "zero": "have zeros",
}
"""Where the row of a token is from that a model lacks."""


def write_card(part: Path, title: str, record: Mapping[str, Any]) -> None:
    """Write the card of the merge in `part`, whose record is `record`."""
    write_model_card(
        part,
        card_metadata(record),
        title=title,
        merge=record,
        settings=_settings(record),
        columns=_columns(record),
        tokens=_tokens(record.get("tokenizer")),
    )


def _settings(record: Mapping[str, Any]) -> dict[str, str]:
    """The settings that the method uses for all models, by their name on the card."""
    method, found = METHODS[record["method"]], {}
    if record["scope"]:
        wholes = {"global": "the whole task vector", "tensor": "each tensor"}
        found["Trimmed over"] = wholes[record["scope"]]
    if method.scales:
        found["Lambda"] = setting(record["lambda"])
    for name, value in record.get("parameters", {}).items():
        found[f"`{name}`"] = setting(value)
    if record["seed"] is not None:
        found["Seed"] = str(record["seed"])
    if method.combines == "entries":
        divided = record["normalize"]
        words = {True: "yes", False: "no"}
        found["Divided by the weights"] = divided if isinstance(divided, str) else words[divided]
    return found


def _columns(record: Mapping[str, Any]) -> list[str]:
    """The columns of the models' table: settings that the method uses, then counts."""
    rows = record["models"]
    counts = [name for name in _COUNTS if any(name in row for row in rows)]
    own = METHODS[record["method"]].own_settings
    return [name for name in own if any(name in row for row in rows)] + counts


def _tokens(tokenizer: Mapping[str, Any] | None) -> str:
    """Where the rows of the output's tokens are from; empty without an output's tokenizer."""
    if tokenizer is None:
        return ""
    counts = [f"{tokenizer['in_all']:,} of them in all models"]
    filled = tokenizer["filled"]
    counts += [f"{filled[name]:,} {words}" for name, words in _FILLED.items() if filled[name]]
    if tokenizer["padding"]:
        counts.append(f"{tokenizer['padding']:,} rows are of no token")
    size = f"{tokenizer['tokens']:,} tokens in {tokenizer['rows']:,} rows"
    return f"`{tokenizer['source']}`, {size}, {'; '.join(counts)}"


def card_metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of the merge's model card, for huggingface_hub.ModelCardData."""
    models = [record["base"], *(row["model"] for row in record["models"])]
    on_hub = dict.fromkeys(m.partition("@")[0] for m in models if m and _is_hub_id(m))
    metadata = {"library_name": "transformers", "tags": ["merge", "raylab"]}
    if "adapter" in record:
        metadata["library_name"] = "peft"
        base = record["base"]
        return metadata | ({"base_model": base} if base and _is_hub_id(base) else {})
    return metadata | ({"base_model": list(on_hub)} if on_hub else {})


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and "#" not in text and text[0] != "." and not Path(text).exists()
