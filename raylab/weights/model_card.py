"""Writes a model card: the README.md that a hub shows beside a model's weights.

Model: huggingface_hub's ModelCardData holds the metadata. One Jinja2 template, model_card.md
beside this module, makes the body: of a merge's record (`merge`), or of the provenance of a
published model (`facts`). A merge and `raylab publish` both write a card, so the writer is in the
last package that both import and that is no merge.
Invariant: a card is a pure function of its metadata and values. A value that the template uses and
that is not given is an error. Only a measure that a record lacks is shown as a dash.

`EvalResult` is not used: it names a data set and a metric of the hub, and a study has neither.
`ModelCard.from_template` is not used: it drops undefined values without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "README.md"


def write_model_card(directory: Path, metadata: Mapping[str, Any], **values: Any) -> None:
    """Write the card of the model in `directory`.

    metadata: arguments of huggingface_hub.ModelCardData; values: those of the template.
    """
    from huggingface_hub import ModelCard, ModelCardData
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "thousands": lambda value: _cell(value, ",")}
    body = environment.get_template("model_card.md").render(**values)
    head = ModelCardData(**metadata).to_yaml()
    ModelCard(f"---\n{head}\n---\n\n{body.rstrip()}\n").save(directory / CARD)


def _cell(value: Any, number_format: str = ".6g") -> str:
    """A value as a cell of a Markdown table; `number_format` is that of a number."""
    from jinja2 import Undefined

    if value is None or isinstance(value, Undefined):
        return "–"
    if isinstance(value, float) or number_format == ",":
        return format(value, number_format)
    if isinstance(value, Mapping | list | tuple):
        return ", ".join(map(str, value))
    return str(value).replace("|", "\\|")
