"""Which chat template a merge's output has.

Model: `auto` is the template that most models of the merge have, a name one of NAMED, and any other
text the template itself.
Invariant: a template is Jinja that raylab's sandbox reads, and that uses no attribute of Python's
own on a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from raylab.errors import InputError
from raylab.spec.data.templates import NAMED as OF_STUDIES
from raylab.spec.data.templates import is_template_text
from raylab.spec.mergekit_file import Section

AUTO = "auto"
_MARKERS = re.compile(r"{% (?:end)?generation %}")
"""Of answers, for training; most readers of templates do not know them."""

NAMED: Mapping[str, str] = {
    name: _MARKERS.sub("", text)
    for name, text in {**OF_STUDIES, "llama3": OF_STUDIES["llama-3"]}.items()
}
"""Those of studies, and what mergekit calls one of them."""
_CONVERSATION = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


def read_chat_template(config: Section) -> str | None:
    """`chat_template` of mergekit's file: AUTO, or the template itself; None without one.

    Raises InputError.
    """
    value = config.value("chat_template")
    if value is None or value == AUTO:
        return None if value is None else AUTO
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if not isinstance(value, str) or not is_template_text(value):
        raise config.refused("chat_template", f"auto, {', '.join(NAMED)}, or a Jinja template")
    if problem := _problem(value):
        raise InputError(
            f"{config.file}, line {config.line_of('chat_template')}: this chat_template is no "
            "Jinja, or not safe",
            found=problem,
            expected="a template that frames messages, without Python's own attributes",
        )
    return value


def _problem(text: str) -> str:
    """Why a template cannot be taken; empty if it can. One that refuses these messages itself is
    taken."""
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import SecurityError

    from raylab.spec.data.template_sandbox import sandbox

    given = {"messages": list(_CONVERSATION), "add_generation_prompt": True, "strftime_now": str}
    try:
        sandbox().from_string(text).render(**given, bos_token="", eos_token="")
    except (TemplateSyntaxError, SecurityError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception:  # It may want other messages than these, and fail in any way without them.
        return ""
    return ""
