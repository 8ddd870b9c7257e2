"""Programs and fonts that tests of the report need; without them tests skip, but fail in CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TypeVar

import pytest

from tests.report.browser import PROGRAMS

Found = TypeVar("Found")


def chromium() -> str:
    """The path of a Chromium."""
    return _needed(next(filter(None, map(shutil.which, PROGRAMS)), ""), "Chromium")


def japanese_fonts() -> set[str]:
    """The families of fonts that have Japanese glyphs."""
    command = ["fc-list", ":lang=ja", "family"]
    listed = subprocess.check_output(command, text=True) if shutil.which(command[0]) else ""
    families = {name.strip() for name in re.split(r"[,\n]", listed) if name.strip()}
    return _needed(families, "a font with Japanese glyphs")


def _needed(found: Found, what: str) -> Found:
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")
    return found
