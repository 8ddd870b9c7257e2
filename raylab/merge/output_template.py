"""The chat template of a merge's output, chosen and written.

Model: `auto` takes the template, without space around it, that most models have: the base model and
the others, each once, an adapter that of its base model. Of two that as many have, the first in
this order counts. Where no model has one the output keeps what its tokenizer has.
Invariant: the output has one template, in chat_template.jinja and, where that has one, in
tokenizer_config.json: readers of either see the same.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.merge.tokenizer_files import CONFIG, rewrite
from raylab.spec.data.rendering import templates_in
from raylab.spec.merges import MergeRequest
from raylab.spec.output_template import AUTO
from raylab.spec.vocabularies import has_tokenizer
from raylab.spec.weight_files import read_json
from raylab.store.references import ModelLocation

FILE = "chat_template.jinja"


@dataclass(frozen=True)
class OutputTemplate:
    """The text of the template, None where no model has one; account: as the record has it."""

    text: str | None
    account: Mapping[str, Any]

    def write(self, part: Path) -> None:
        """Write it into `part`, where the tokenizer's files lie."""
        if self.text is None:
            return
        (part / "chat_template.json").unlink(missing_ok=True)
        shutil.rmtree(part / "additional_chat_templates", ignore_errors=True)
        (part / FILE).write_text(self.text, encoding="utf-8")
        file = part / CONFIG
        config = read_json(file, "a tokenizer's config") if file.is_file() else {}
        if "chat_template" in config:
            rewrite(file, {**config, "chat_template": self.text})


def choose_template(
    request: MergeRequest, locations: Sequence[ModelLocation], directory: Path, frame: Path
) -> OutputTemplate:
    """The template that the request asks for. directory: the template model's; frame: of the
    output's tokenizer. Raises ModelError where the output has no tokenizer."""
    asked = request.chat_template
    assert asked is not None
    if not has_tokenizer(frame):
        raise ModelError(
            "a chat template belongs to a tokenizer, and the output has none",
            found=str(frame),
            expected="a folder with a tokenizer",
        )
    if asked != AUTO:
        return OutputTemplate(asked, {"source": "file"})
    named = {request.base: directory} if request.base else {}
    for item, place in zip(request.inputs, locations, strict=True):
        named.setdefault(item.model, place.checkpoint or place.base or directory)
    texts = {
        str(name): text
        for name, folder in named.items()
        if (text := templates_in(folder).get("default", "").strip())
    }
    if not texts:
        return OutputTemplate(None, {"source": AUTO, "models": [], "of": len(named)})
    ((text, _),) = Counter(texts.values()).most_common(1)
    having = [name for name, own in texts.items() if own == text]
    return OutputTemplate(text, {"source": AUTO, "models": having, "of": len(named)})


def template_line(account: Mapping[str, Any]) -> str:
    """The account for the terminal."""
    if account["source"] != AUTO:
        return "  chat template: that of the merge file"
    if not account["models"]:
        return "  chat template: no model has one"
    first, count = account["models"][0], len(account["models"])
    return f"  chat template: that of {first}, which {count} of {account['of']} models have"
