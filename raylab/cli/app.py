"""The verbs of the command line.

Model: VERBS says which module of this package has each verb, a function of that name. A command
imports the module of its own verb alone, since a verb's imports take longer than most of what it
does. The list of all verbs is read out of the modules' source.
Invariant: an error is one message on standard error, without a traceback unless `debug`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from raylab import __version__
from raylab.cli.options import say
from raylab.errors import RaylabError
from raylab.imports import loading

VERBS = {
    "plan": "plan",
    "run": "study",
    "train": "study",
    "reduce": "study",
    "report": "report",
    "status": "status",
    "diff": "diff",
    "merge": "merge",
    "publish": "publish",
    "table": "tables",
    "compare": "tables",
    "doctor": "doctor",
    "schema": "schema",
    "data": "data",
}
"""The module of each verb, in the order of the help."""

_INTERRUPTED = 130
"""The status with which typer ends an interrupted command, as a shell does."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"raylab {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def command_line(loaded: Collection[str] = tuple(VERBS)) -> typer.Typer:
    """The command line, whose verbs `loaded` can be called. The others have their help alone, and
    only where none is asked for: all of these are read to find it."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Train a study of LLM fine-tunes on Ray, and measure exactly what moved.",
    )
    app.callback()(_options)
    asked = {verb: place for verb, place in VERBS.items() if verb in loaded}
    for verb, place in (asked or VERBS).items():
        module = f"raylab.cli.{place}"
        if verb not in loaded:
            app.command(verb, help=_docstring(module, verb))(_options)
        elif verb == "data":
            app.add_typer(import_module(module).app, name=verb)
        else:
            app.command()(getattr(import_module(module), verb))
    return app


def _docstring(module: str, function: str) -> str:
    """That of a function in a module that is not imported."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return next(
        ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    )


def call(words: list[str], *, debug: bool) -> Any:
    """Call the verb that `words` name; an error ends the process with its status."""
    try:
        with loading():
            app = command_line(words[:1])
        app(words)
    except RaylabError as error:
        if debug:
            raise
        print(f"raylab: {error.message}", file=sys.stderr)
        sys.exit(error.exit_status)
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        say("raylab: interrupted; the same command goes on from here")
        sys.exit(1)
