"""Writes a model card: the README.md that a hub shows beside a model's weights.

Model: the metadata are YAML in front of the text, as huggingface_hub's ModelCard writes them. That
library is not loaded: it takes longer than the rest of a small merge's card. One Jinja2 template,
model_card.md beside this module, makes the body: of a merge's record (`merge`), or of the
provenance of a published model (`facts`). A merge and `raylab publish` both write a card, so the
writer is in the last package that both import and that is no merge.
Invariant: a card is a pure function of its metadata and values. A value that the template uses and
that is not given is an error. Only a measure that a record lacks is shown as a dash. The bytes are
those of huggingface_hub's ModelCard (held by a test).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "README.md"
_FIRST_FIELDS = (
    "base_model", "datasets", "language", "library_name", "license", "license_name",
    "license_link", "metrics", "pipeline_tag", "tags",
)  # fmt: skip
"""In the order of huggingface_hub's ModelCardData; others follow."""


def write_model_card(directory: Path, metadata: Mapping[str, Any], **values: Any) -> None:
    """Write the card of the model in `directory`.

    metadata: arguments of huggingface_hub.ModelCardData, but no results of evaluations: these name
    a data set and a metric of the hub, and a study has neither; values: those of the template.
    """
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "thousands": lambda value: _cell(value, ",")}
    body = environment.get_template("model_card.md").render(**values)
    names = dict.fromkeys([*_FIRST_FIELDS, *metadata])
    known = {name: metadata[name] for name in names if metadata.get(name) is not None}
    head = yaml.safe_dump(known, sort_keys=False, allow_unicode=True).strip()
    (directory / CARD).write_text(f"---\n{head}\n---\n\n{body.rstrip()}\n", encoding="utf-8")


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
