"""Tools and calls of tools -> the form in which chat templates take them.

Model: transformers documents tools as a list of {"type": "function", "function": ...}, and calls
as the same with arguments that are objects. Data sets also have functions alone, arguments or
everything as JSON text, and one call in place of a list.
Invariant: fields keep the order of the data, in which templates print them; fields that hold
nothing are left out, because Parquet gives every object all fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raylab.spec.data.cells import RowError, held, is_said, parsed, without_nothing
from raylab.spec.identity import canonical

_ARGUMENTS = ("arguments", "parameters", "args")
"""Names of the arguments of a call; templates read the first."""


def stable(value: Any, where: str) -> Any:
    """`value` without fields that hold nothing. Raises RowError where it is no JSON."""
    value = without_nothing(value)
    try:
        canonical(value)
    except TypeError as error:
        raise RowError(f"{where} is no JSON value ({error})") from error
    return value


def calls_of(value: Any, where: str) -> list[Any]:
    """Tool calls as templates take them: arguments are objects. Raises RowError."""
    calls = parsed(value, "[{")
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list) or not calls:
        raise RowError(f"{where} holds {held(value)}, expected a call as JSON: "
                       '{"name": "...", "arguments": {...}}')  # fmt: skip
    return [_call(call, where) for call in calls]


def _call(call: Any, where: str) -> Any:
    call = stable(call, f"{where}: a call")
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise RowError(f"{where} has a call without the name of a function")
    named = next((name for name in _ARGUMENTS if name in inner), "arguments")
    arguments = parsed(inner.get(named, {}), "{")
    if not isinstance(arguments, Mapping):
        raise RowError(f"{where} calls {inner['name']} with {held(arguments)}, expected arguments "
                       "as a JSON object")  # fmt: skip
    others = {key: value for key, value in inner.items() if key != named}
    function = {**(inner if named == "arguments" else others), "arguments": dict(arguments)}
    return {**call, "function": function} if "function" in call else _function(function)


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def written(value: Any) -> str:
    """`value` as JSON. Its fields keep their order: templates print them in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def tools_of(value: Any, column: str) -> str:
    """The tools of a cell as a JSON list; empty: none. Raises RowError.

    A function alone is put into the object {"type": "function"} that templates take.
    """
    tools = parsed(value, "[{")
    tools = [tools] if isinstance(tools, Mapping) else tools
    tools = [parsed(tool, "{") for tool in tools] if isinstance(tools, list) else tools
    if not is_said(tools):
        return ""
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise RowError(f"column {column!r} holds {held(value)}, expected a list of objects, or it "
                       "as JSON text")  # fmt: skip
    tools = stable(tools, f"column {column!r}")
    return written([
        tool if "function" in tool else _function(tool) for tool in tools
    ])  # fmt: skip
