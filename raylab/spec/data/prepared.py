"""Chat templates as raylab renders them: on the day of the study, from messages of one form.

Model: a template may ask for today's date (`strftime_now`), or for a `date_string` that its caller
may set; `frozen` writes the study's date into its text. Templates also differ in the form in which
they take messages. A row of FORMS is Jinja that brings the messages into another form, and a
conversation; it is put before a template that shows nothing of the conversation without it, and
does with it. So training, evaluation and everyone who loads a published model render the same, and
nothing global changes.
Invariant: a template that takes messages as transformers documents them stays as it is.
"""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Any

from raylab.spec.data.template_sandbox import sandbox

DEFAULT_DATE = datetime.date(2024, 7, 26)
"""The day that templates print unless a study says otherwise: the one that the template of Llama
3.1 falls back to."""

_CLOCK, _DATE_STRING = "strftime_now", "date_string"
_CODES = (
    *(f"%-{letter}" for letter in "dmIHMSjy"),
    *(f"%{letter}" for letter in "aAbBcCdDeFfgGhHIjklmMnprRsStTuUVwWxXyYzZ"),
)
_PARTS = """\
{% set raylab = namespace(messages=[]) %}\
{% for message in messages %}\
{% if message.content is string %}\
{% set parts = [{'type': 'text', 'text': message.content}] %}\
{% set raylab.messages = raylab.messages + [dict(message, content=parts)] %}\
{% else %}{% set raylab.messages = raylab.messages + [message] %}{% endif %}\
{% endfor %}\
{% set messages = raylab.messages %}
"""
"""The text of every message is a list of one part (LLaVA, SmolVLM)."""
_NO_CONTENT = """\
{% set raylab = namespace(messages=[]) %}\
{% for message in messages %}\
{% if message.tool_calls and not message.content %}\
{% set raylab.messages = raylab.messages + [dict(message, content=none)] %}\
{% else %}{% set raylab.messages = raylab.messages + [message] %}{% endif %}\
{% endfor %}\
{% set messages = raylab.messages %}
"""
"""The content of a message that calls tools and says nothing is none (DeepSeek)."""
_ARGUMENTS = """\
{% set raylab = namespace(messages=[], calls=[]) %}\
{% for message in messages %}\
{% if message.tool_calls %}{% set raylab.calls = [] %}\
{% for call in message.tool_calls %}\
{% set made = dict(call.function, arguments=call.function.arguments | tojson) %}\
{% set raylab.calls = raylab.calls + [dict(call, function=made)] %}{% endfor %}\
{% set raylab.messages = raylab.messages + [dict(message, tool_calls=raylab.calls)] %}\
{% else %}{% set raylab.messages = raylab.messages + [message] %}{% endif %}\
{% endfor %}\
{% set messages = raylab.messages %}
"""
"""The arguments of a call are JSON text (DeepSeek)."""
_SAID = "Quo vadis"
_CALL = {
    "type": "function", "id": "abcdefghi",
    "function": {"name": "look", "arguments": {"word": _SAID}},
}  # fmt: skip
_TEXTS: list[dict[str, Any]] = [
    {"role": "user", "content": _SAID},
    {"role": "assistant", "content": _SAID},
]
_CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "Look."},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "Seen.", "name": "look", "tool_call_id": "abcdefghi"},
    {"role": "assistant", "content": "So."},
]
FORMS: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    (_PARTS, _TEXTS),
    (_NO_CONTENT, _CALLS),
    (_ARGUMENTS, _CALLS),
    (_NO_CONTENT + _ARGUMENTS, _CALLS),
)
"""(Jinja that goes before a template, the conversation of which it shows nothing without it)."""


def frozen(template: str, day: datetime.date) -> str:
    """The same template, which prints `day` where it would print today's date.

    A `date_string` that has a default in the template is set only where `day` is not DEFAULT_DATE.
    A template that reads no date comes back unchanged.
    """
    if _CLOCK not in template and _DATE_STRING not in template:
        return template
    read = _read_variables(template)
    if _CLOCK in read:
        at = datetime.datetime.combine(day, datetime.time())
        text = "format"
        for code in _CODES:
            if code in template:
                text += f' | replace("{code}", "{at.strftime(code)}")'
        return f"{{% macro {_CLOCK}(format) %}}{{{{ {text} }}}}{{% endmacro %}}\n{template}"
    if _DATE_STRING in read and day != DEFAULT_DATE:
        return f'{{% set {_DATE_STRING} = "{day:%d %b %Y}" %}}\n{template}'
    return template


def prepared(template: str, day: datetime.date) -> str:
    """The template as raylab renders it: it prints `day`, and takes messages of one form."""
    return _form(template) + frozen(template, day)


@lru_cache(maxsize=32)
def _form(template: str) -> str:
    """The Jinja of FORMS that goes before a template; empty: none."""
    before = ""
    for change, chat in FORMS:
        if chat is _CALLS and "tool_calls" not in template:
            continue
        now = before + template
        if not _shows(now, chat) and _shows(change + now, chat):
            before = change + before
    return before


def _shows(template: str, chat: list[dict[str, Any]]) -> bool:
    """Whether a template shows what a conversation says, and not the list in which that stands."""
    tokens = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "")
    given = {"messages": chat, "tools": None, "documents": None, "add_generation_prompt": False}
    try:
        compiled = sandbox().from_string(frozen(template, DEFAULT_DATE))
        text = str(compiled.render(**given, **tokens))
    except Exception:  # Whatever it does, it does not show it.
        return False
    return _SAID in text and "'type': 'text'" not in text


def _read_variables(template: str) -> set[str]:
    """The variables that a template reads from outside; none where it is no Jinja."""
    from jinja2 import TemplateError, meta

    environment = sandbox()
    try:
        return meta.find_undeclared_variables(environment.parse(template))
    except TemplateError:
        return set()
