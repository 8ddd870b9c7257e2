"""Chat templates rendered without transformers, on a day that the study chooses.

Model: a template is Jinja in a sandbox. It is given `messages`, `tools`, `add_generation_prompt`
and the special tokens by name, as transformers 5.23 gives them. What raylab changes of a template
is written into its text (`raylab.spec.data.prepared`).
Invariant: the same text as transformers renders, a test holds it. No large library is imported.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from raylab.spec.data.prepared import frozen, prepared
from raylab.spec.data.template_sandbox import Spans, marked_spans, sandbox

_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""The names of a message's reasoning; the first that is there gives the value of the others."""


@dataclass(frozen=True)
class ChatTemplate:
    """The template of a model: one text, or several by name, and the tokens that it is given."""

    texts: Mapping[str, str]
    """By name; `default` is used, or `tool_use`, if there is one, where tools are given."""
    tokens: Mapping[str, str]
    """The special tokens by name: bos_token, eos_token and so on."""
    specials: frozenset[str]
    """The text of every special token."""
    dated: bool = False
    """Whether it prints the study's date."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], generation_prompt: bool, tools: Any = None
    ) -> str:
        """The text of a conversation. Raises what the template raises (jinja2.TemplateError)."""
        given = self._given(messages, generation_prompt, tools)
        return str(_compiled(self._text(tools)).render(**given))

    def markers(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> Spans:
        """The spans of a conversation's text that the template marks as said by the assistant.

        Empty where it has no markers (`{% generation %}`), as most templates.
        """
        if "endgeneration" not in self._text(tools):
            return ()
        given = self._given(messages, False, tools)
        return marked_spans(_compiled(self._text(tools)), given)

    def _text(self, tools: Any) -> str:
        return self.texts[
            "tool_use" if tools is not None and "tool_use" in self.texts else "default"
        ]

    def _given(self, messages: Any, generation_prompt: bool, tools: Any) -> dict[str, Any]:
        return {
            "messages": [_as_given(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": generation_prompt,
            **self.tokens,
        }


def template_of(directory: Path, own: str | None, day: datetime.date) -> ChatTemplate | None:
    """The template of the tokenizer at `directory`, or `own` in its place, printing `day`.

    None where the files do not say all of it: then only the tokenizer itself knows.
    """
    config = _object(directory / "tokenizer_config.json")
    if config is None:
        return None
    texts = {"default": own} if own is not None else _texts(directory, config)
    tokens = _named_tokens(directory, config)
    specials = _special_texts(directory, config)
    if "default" not in texts or tokens is None or specials is None:
        return None
    dated = any(frozen(text, day) != text for text in texts.values())
    texts = {name: prepared(text, day) for name, text in texts.items()}
    return ChatTemplate(texts, tokens, specials | {*tokens.values()}, dated)


def dated_templates(directory: Path | None, own: str | None, day: datetime.date) -> dict[str, str]:
    """The templates of the model at `directory`, or `own` in their place, printing `day`, by name.

    None of them where no template reads a date, or where there is no directory.
    """
    texts = _templates(directory, own)
    printed = {name: frozen(text, day) for name, text in texts.items()}
    return printed if printed != texts else {}


def prepared_templates(
    directory: Path | None, own: str | None, day: datetime.date
) -> dict[str, str]:
    """The same as raylab renders them (`prepared`); none where that changes none of them."""
    texts = _templates(directory, own)
    made = {name: prepared(text, day) for name, text in texts.items()}
    return made if made != texts else {}


def templates_in(directory: Path) -> dict[str, str]:
    """The chat templates of the tokenizer at `directory`, by name."""
    return _texts(directory, _object(directory / "tokenizer_config.json") or {})


def _templates(directory: Path | None, own: str | None) -> dict[str, str]:
    if own is not None:
        return {"default": own}
    return templates_in(directory) if directory else {}


def _texts(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The templates by name; files come before the tokenizer's config, as in transformers."""
    found: dict[str, str] = {}
    file = directory / "chat_template.jinja"
    if file.is_file():
        found["default"] = file.read_text(encoding="utf-8")
    for other in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        found[other.stem] = other.read_text(encoding="utf-8")
    if found:
        return found
    kept = config.get("chat_template")
    if isinstance(kept, str):
        return {"default": kept}
    named = kept if isinstance(kept, list) else []
    return {item["name"]: item["template"] for item in named if isinstance(item, dict)}


def _named_tokens(directory: Path, config: Mapping[str, Any]) -> dict[str, str] | None:
    """The special tokens by name; None where a class of tokenizers may have defaults of its own."""
    kept = {**(_object(directory / "special_tokens_map.json") or {}), **config}
    named = {name: kept[name] for name in _TOKENS if kept.get(name) is not None}
    found = {
        name: str(value["content"]) if isinstance(value, dict) else str(value)
        for name, value in named.items()
    }
    return found if "eos_token" in kept else None


def _special_texts(directory: Path, config: Mapping[str, Any]) -> frozenset[str] | None:
    """The text of every special token; None where no file lists them."""
    decoder = config.get("added_tokens_decoder")
    added = list(decoder.values()) if decoder else _added_tokens(directory / "tokenizer.json")
    if added is None:
        return None
    return frozenset(str(token["content"]) for token in added if token.get("special"))


def _added_tokens(file: Path) -> list[Any] | None:
    """The added tokens of a tokenizer.json. Its vocabulary, which may be large, is not parsed."""
    try:
        text = file.read_text(encoding="utf-8")
        start = text.index("[", text.index('"added_tokens"'))
        found = json.JSONDecoder().raw_decode(text, start)[0]
    except (OSError, ValueError):
        return None
    return [token for token in found if isinstance(token, dict)]


def _object(file: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _as_given(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what is null, and its reasoning under every name that templates read."""
    given = {key: value for key, value in message.items() if value is not None}
    reasoning = next((given[key] for key in _REASONING if key in given), None)
    if reasoning is None:
        return given
    return {"thinking": reasoning, **given, "reasoning_content": reasoning}


@lru_cache(maxsize=32)
def _compiled(template: str) -> Any:
    return sandbox().from_string(template)
