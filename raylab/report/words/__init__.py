"""What a report says, in every language it speaks."""

from __future__ import annotations

from raylab.report.words.charts import CHARTS
from raylab.report.words.columns import COLUMNS
from raylab.report.words.definitions import DEFINITIONS
from raylab.report.words.findings import FINDINGS
from raylab.report.words.page import PAGE
from raylab.report.words.translator import LANGUAGES, Voice

WORDS = {**PAGE, **FINDINGS, **COLUMNS, **CHARTS, **DEFINITIONS}
"""Every text by key: one for each of LANGUAGES."""


def voice(language: str = "en") -> Voice:
    """Who speaks `language`."""
    assert language in LANGUAGES, language
    return Voice(language, WORDS)


__all__ = ["LANGUAGES", "WORDS", "Voice", "voice"]
