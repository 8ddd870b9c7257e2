"""What the verbs of the command line share: options, and the places of output.

Invariant: results go to standard output, messages to standard error. A table that is not printed
on a terminal always has the same width. Every verb imports this module, so it imports little.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from raylab.spec.study import Study

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study, a YAML file.")]
Out = Annotated[
    str | None, typer.Option(help="A directory or URI for results.", show_default="runs/<name>")
]
Address = Annotated[
    str | None, typer.Option(help="The address of a Ray cluster; none: one of its own.")
]


class Language(StrEnum):
    """The languages of a report."""

    en = "en"
    ja = "ja"


class Format(StrEnum):
    """What a report is written as."""

    html = "html"
    figures = "figures"
    pdf = "pdf"


Formats = Annotated[
    list[Format] | None,
    typer.Option(
        "--format",
        help="html: page, Markdown, LaTeX and CSV, which are always written; figures: each figure"
        " as SVG and PNG too; pdf: the page as PDF too, by Chromium. May be repeated.",
        show_default="html",
    ),
]
Lang = Annotated[Language, typer.Option(help="The report's language.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Also print the norms of every comparison.")
]


def out_of(study: Study, out: str | None) -> str:
    """The address of the results of `study`."""
    return out or f"runs/{study.name}"


def say(message: str) -> None:
    """Print a message on standard error."""
    print(message, file=sys.stderr, flush=True)


def warn(lines: Iterable[str]) -> None:
    """Print each line on standard error, as a warning."""
    for line in lines:
        say(f"warning: {line}")


def console() -> Console:
    """Standard output, 120 columns wide unless it is a terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)
