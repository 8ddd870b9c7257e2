"""What the verbs of the command line share: options, and where words go.

Invariant: results go to standard output, what is said along the way to standard error; a table
that nobody watches is always equally wide.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raylab.spec.study import Study

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study, a YAML file.")]
Out = Annotated[
    str | None, typer.Option(help="A directory or URI for results [default: runs/<name>].")
]
Address = Annotated[
    str | None, typer.Option(help="The address of a Ray cluster; none: one of its own.")
]


class Language(StrEnum):
    """What a report may be written in."""

    en = "en"
    ja = "ja"


Lang = Annotated[Language, typer.Option(help="The report's language.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def out_of(study: Study, out: str | None) -> str:
    """Where the results of `study` go."""
    return out or f"runs/{study.name}"


def say(words: str) -> None:
    """Tell the user what happens."""
    print(words, file=sys.stderr, flush=True)


def console() -> Console:
    """Where tables are printed."""
    wide = sys.stdout.isatty()
    return Console(width=None if wide else 120)
