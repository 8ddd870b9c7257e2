"""The words of the report: one file of messages for each language, and who translates by it."""

from __future__ import annotations

from raylab.report.words.translator import LANGUAGES, Translator, translator

__all__ = ["LANGUAGES", "Translator", "translator"]
