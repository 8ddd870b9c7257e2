"""The verbs of the command line.

Model: every verb is a function of the modules of this package; `call` calls the one that is asked.
Invariant: an error is one message on standard error, without a traceback unless `debug`.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from raylab import __version__
from raylab.cli import data, models, study, tables
from raylab.cli.options import say
from raylab.cli.status import status
from raylab.errors import RaylabError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train a study of LLM fine-tunes on Ray, and measure exactly what moved.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"raylab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


# The order of the help.
for _verb in (
    *(study.plan, study.run, study.train, study.reduce, study.report, status),
    *(models.diff, models.merge, models.publish),
    *(tables.table, tables.compare),
    *(study.doctor, study.schema),
):
    app.command()(_verb)
app.add_typer(data.app, name="data")

_INTERRUPTED = 130
"""The status with which typer ends an interrupted command, as a shell does."""


def call(words: list[str], *, debug: bool) -> Any:
    """Call the verb that `words` name; an error ends the process with its status."""
    try:
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
