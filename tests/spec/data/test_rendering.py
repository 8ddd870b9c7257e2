"""Templates rendered without transformers give the text that transformers renders."""

from __future__ import annotations

import datetime

import pytest
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from raylab.spec.data.prepared import DEFAULT_DATE, frozen
from raylab.spec.data.rendering import template_of
from raylab.spec.data.templates import NAMED
from tests.chats import FAMILIES, tiny_tokenizer

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Is it <b>"so"</b>?\n'},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Look it up.",
        "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"a": "é"}}}],
    },
    {"role": "tool", "content": "yes", "name": None},
    {"role": "assistant", "content": "Yes."},
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
EVERYTHING = """
{%- set ns = namespace(first=true, count=0) %}
{{- bos_token }}
{%- for message in messages %}
    {%- set ns.count = ns.count + 1 %}
    {%- if message.role == 'tool' and message.name is defined %}{{ raise_exception() }}{% endif %}
    {%- if loop.index0 > 50 %}{% break %}{% endif %}
<{{ message['role'] }}>{{ message.content | trim }}
    {%- if message.thinking %} thinks {{ message.thinking }}{% endif %}
    {%- for call in message.tool_calls or [] %} calls {{ call.function | tojson }}{% endfor %}
  {% generation %}{{ '|' }}{% set hidden = 1 %}{% endgeneration %}
    {%- if hidden is defined %} leaked{% endif %}
{%- endfor %}
{%- if tools %}
tools: {{ tools | tojson(indent=2) }} {{ dict(a=1) | tojson }} {{ dict.fromkeys('ab') | length }}
{%- endif %}
{{ ns.count }}{% if add_generation_prompt %} now{% endif %}{{ eos_token }}{{ none_such }}
"""
DAY = datetime.date(2024, 3, 5)
CLOCKS = {
    "plain": "{{ strftime_now('%d %b %Y') }}",
    "unpadded": "{{ strftime_now('%B %-d, %Y') }}",
    "asked for": (
        "  {% if strftime_now is defined %}{% set day = strftime_now('%Y-%m-%d') %}"
        "{% else %}{% set day = 'never' %}{% endif %}\n  {% if 1 %}\n{{ day }}{% endif %}"
    ),
    "inside a macro": (
        "\n{% macro say() %}{{ strftime_now('%A') | upper }}{% endmacro %}{{ say() }}"
    ),
    "date_string": (
        "{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}Today: {{ date_string }}"
    ),
}


class Clock(datetime.datetime):
    """A clock that stands at midnight of DAY."""

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.combine(DAY, datetime.time())


def by_transformers(tokenizer, chat, prompt, tools):
    return tokenizer.apply_chat_template(
        chat, tools=tools, add_generation_prompt=prompt, tokenize=False
    )


def saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return template_of(folder, None, DEFAULT_DATE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [*NAMED.values(), EVERYTHING])
def test_rendered_text_is_that_of_transformers(text, family, tmp_path):
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = text
    template = saved(tokenizer, tmp_path)
    for chat, prompt, tools in ((CHAT, False, TOOLS), (CHAT[:2], True, None), (CHAT, True, None)):
        assert template.render(chat, prompt, tools) == by_transformers(
            tokenizer, chat, prompt, tools
        )


def test_template_for_tools_is_taken_where_there_are_tools(tmp_path):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = {"default": "plain{{ eos_token }}", "tool_use": "{{ tools }}"}
    template = saved(tokenizer, tmp_path)
    for tools in (None, TOOLS):
        assert template.render(CHAT, False, tools) == by_transformers(tokenizer, CHAT, False, tools)


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('no system turn') }}",
        "{{ messages[99].content + 'x' }}",
        "{{ ''.__class__.__mro__ }}",
        "{% set ns = namespace(__class__=1) %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    ],
)
def test_template_that_transformers_refuses_is_refused(text, tmp_path):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = text
    template = saved(tokenizer, tmp_path)
    with pytest.raises(TemplateError) as theirs:
        by_transformers(tokenizer, CHAT, False, None)
    with pytest.raises(TemplateError) as ours:
        template.render(CHAT, False, None)
    assert type(ours.value) is type(theirs.value)


@pytest.mark.parametrize("text", CLOCKS.values(), ids=CLOCKS)
def test_frozen_template_prints_what_transformers_prints_on_that_day(text, monkeypatch):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = text
    with monkeypatch.context() as patch:
        patch.setattr(chat_template_utils, "datetime", Clock)
        expected = by_transformers(tokenizer, CHAT, False, None)
    assert expected not in ("", "never")
    tokenizer.chat_template = frozen(text, DAY)
    assert by_transformers(tokenizer, CHAT, False, None) == expected


def test_frozen_date_string_that_has_a_default_moves_only_with_another_day():
    text = "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    text += "{{ date_string }}"
    assert frozen(text, DEFAULT_DATE) == text
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = frozen(text, DAY)
    assert by_transformers(tokenizer, CHAT, False, None) == "05 Mar 2024"


@pytest.mark.parametrize("text", [*NAMED.values(), "{# strftime_now #}{{ 1 }}", "{{ strftime_now"])
def test_template_without_a_date_stays_as_it_is(text):
    assert frozen(text, DAY) == text


def test_template_of_files_that_do_not_say_all_is_not_guessed(tmp_path):
    assert template_of(tmp_path, NAMED["plain"], DEFAULT_DATE) is None
    config = tmp_path / "tokenizer_config.json"
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": []}')
    config.write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert template_of(tmp_path, NAMED["plain"], DEFAULT_DATE) is None
    config.write_text('{"eos_token": "</s>"}')
    assert template_of(tmp_path, NAMED["plain"], DEFAULT_DATE).specials == {"</s>"}
    (tmp_path / "tokenizer.json").unlink()
    assert template_of(tmp_path, NAMED["plain"], DEFAULT_DATE) is None
