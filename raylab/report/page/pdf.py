"""A report's page as PDF, printed by a headless Chromium.

Model: the page is copied beside an empty profile, opened as `report.html#print`, which makes its
script draw all figures and open all folds at once, and printed when nothing of it is left to do:
Chromium's clock is virtual, and runs ahead only while the page waits.
Invariant: the store holds a whole PDF or none; nothing of this machine's browser is read or
changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from raylab.errors import InputError, RaylabError
from raylab.store.filesystem import Store

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
VARIABLE = "CHROME"
_CLOCK = 60_000
"""Milliseconds of the virtual clock, which a page uses up at once when it is at rest."""
_TIMEOUT = 300.0
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
    "--window-size=1000,1400",
    f"--virtual-time-budget={_CLOCK}",
)


def find_chromium() -> str:
    """The path of Chromium: that of the variable CHROME, else of PROGRAMS. Raises InputError."""
    named = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, [named] if named else PROGRAMS)), None)
    if found:
        return found
    raise InputError(
        "a PDF needs Chromium or Chrome",
        found=f"{VARIABLE}={named}, which is no program" if named else "none on PATH",
        expected=f"one of {', '.join(PROGRAMS)}, or the path of one in {VARIABLE}",
        todo="install Debian's package chromium, or open report.html and print it",
    )


def write_pdf(store: Store, page: str, chromium: str) -> str:
    """Print the page at the key `page` to a PDF beside it; the PDF's address. Raises RaylabError
    where Chromium makes none."""
    key = f"{page.removesuffix('.html')}.pdf"
    with tempfile.TemporaryDirectory(prefix="raylab-pdf-") as scratch:
        source, target = Path(scratch, "report.html"), Path(scratch, "report.pdf")
        source.write_bytes(store.read(page))
        flags = [*_FLAGS, f"--user-data-dir={scratch}/profile", f"--print-to-pdf={target}"]
        # Chromium refuses to work in its sandbox for root; the page loads nothing from elsewhere.
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        said = _printed([chromium, *flags, f"{source.as_uri()}#print"])
        if not target.exists():
            raise RaylabError(
                "Chromium made no PDF", found=said, expected="a PDF of report.html",
                todo="open report.html and print it",
            )  # fmt: skip
        store.write(key, target.read_bytes())
    return store.address(key)


def _printed(command: list[str]) -> str:
    """What the program last said."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return f"no end after {_TIMEOUT:.0f} s"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"exit status {done.returncode}; {lines[-1] if lines else 'no message'}"
