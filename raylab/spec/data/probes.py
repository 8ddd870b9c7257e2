"""A conversation of the shape of a row, with words of its own for everything that it says.

Model: a template is tried on a probe in place of the row. Each text, thought, name of a function
and text among its arguments is a word that occurs once, so that one that is left out is noticed.
Invariant: a probe has the roles, fields and tools of its row, and none of its texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from raylab.spec.data.rows import Row, Turn

REASONING = ("reasoning_content", "thinking", "reasoning")
CALLS = "tool_calls"
BESIDE = ("name", "tool_call_id")
"""Fields of a turn that a template may do without."""
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
MARK = "_of_probe"
"""Behind the names of functions: a short name may be a part of another word."""


def thinks(turn: Turn) -> bool:
    """Whether a text begins with reasoning in marks that templates know and may take out."""
    return turn.role == "assistant" and _THOUGHT.match(turn.text) is not None


def probe_of(row: Row) -> tuple[Row, dict[tuple[int | None, str], list[str]]]:
    """(a row of the same shape, its words by (place of the turn, what they are))."""
    texts: dict[tuple[int | None, str], list[str]] = {}
    turns = [_probe_turn(turn, place, texts) for place, turn in enumerate(row.turns)]
    rejected = row.rejected and _probe_turn(row.rejected, len(turns), texts)
    probe = row._replace(turns=tuple(turns), rejected=rejected)
    if tools := row.tools_given:
        texts[None, "the tools"] = []
        named = [_with_function(tool, _named(tool, texts[None, "the tools"])) for tool in tools]
        probe = probe._replace(tools=json.dumps(named, ensure_ascii=False))
    return probe, texts


def _probe_turn(turn: Turn, place: int, texts: dict[tuple[int | None, str], list[str]]) -> Turn:
    text = turn.text
    if text.strip():
        texts[place, "text"] = [f"text {place} of {turn.role}"]
        text = texts[place, "text"][0]
        if thinks(turn):
            texts[place, "reasoning"] = [f"thought {place} of {turn.role}"]
            text = f"<think>\n{texts[place, 'reasoning'][0]}\n</think>\n\n{text}"
    if not turn.more:
        return turn._replace(text=text)
    more = json.loads(turn.more)
    for name in REASONING:
        if isinstance(more.get(name), str) and more[name].strip():
            more[name] = f"thought {place} of {turn.role}"
            texts[place, "reasoning"] = [more[name]]
    for name in BESIDE:
        if isinstance(more.get(name), str):
            more[name] += MARK if name == "name" else ""
            texts[place, name] = [more[name]]
    if more.get(CALLS):
        words: list[str] = []
        more[CALLS] = [_probe_call(call, f"{place}.{n}", words) for n, call in
                        enumerate(more[CALLS])]  # fmt: skip
        texts[place, "tool calls"] = words
    return turn._replace(text=text, more=json.dumps(more, ensure_ascii=False))


def _probe_call(call: Any, where: str, words: list[str]) -> Any:
    """The same call with words of its own for the texts among its arguments, one at least.

    Its name says nothing of it where the tools are shown.
    """
    function = _named(call, words)
    given, said = function.get("arguments"), len(words)
    if isinstance(given, str):
        function["arguments"] = _probe_text(given, where, words)
    elif given is not None:
        function["arguments"] = _probe_value(given, where, words)
    if len(words) == said and isinstance(given, dict):
        function["arguments"] = {**given, "probe": _probe_value("", where, words)}
    return _with_function(call, function)


def _named(tool: Any, words: list[str]) -> dict[str, Any]:
    """The function of a tool or of a call, with a name that no other text holds by chance."""
    function = dict(function_of(tool))
    if isinstance(function.get("name"), str):
        function["name"] += MARK
        words.append(function["name"])
    return function


def _with_function(tool: Any, function: Mapping[str, Any]) -> Any:
    return {**tool, "function": function} if "function" in tool else function


def _probe_text(arguments: str, where: str, words: list[str]) -> str:
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    return json.dumps(_probe_value(values, where, words), ensure_ascii=False)


def _probe_value(value: Any, where: str, words: list[str]) -> Any:
    if isinstance(value, str):
        words.append(f"value {where}.{len(words)}")
        return words[-1]
    if isinstance(value, list):
        return [_probe_value(item, where, words) for item in value]
    if isinstance(value, dict):
        return {key: _probe_value(item, where, words) for key, item in value.items()}
    return value


def function_of(tool: Any) -> Mapping[str, Any]:
    """The function of a tool or of a call, which may stand in it under `function`."""
    found = tool.get("function", tool) if isinstance(tool, dict) else {}
    return found if isinstance(found, dict) else {}
