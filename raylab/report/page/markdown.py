"""Plain text as Markdown that shows it."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([\\`*_\[\]|~#])")


def markdown_text(text: str) -> str:
    """Plain text as one line of Markdown that shows it, markup and all."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", escaped).replace("\r", "").replace("\n", "<br>")
