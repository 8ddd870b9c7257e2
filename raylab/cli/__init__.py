"""The command line: parse, call, print.

Model: `main` says what takes long before it imports anything that takes long; `raylab.cli.app`
has the verbs.
Invariant: the exit status is 0, 1 or 2, as `raylab.errors` says. An error is one message on
standard error, without a traceback unless `--debug`. A termination ends a command like Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from raylab.imports import loading

LOADING_LINE = "loading libraries"
_LONG = ("run", "train", "reduce")
"""Verbs that load torch and Ray, which takes seconds."""


def main(arguments: list[str] | None = None) -> Any:
    """The `raylab` command. `--debug` anywhere shows tracebacks."""
    words = sys.argv[1:] if arguments is None else arguments
    with _long() if words and words[0] in _LONG and "--help" not in words else nullcontext():
        with loading():
            from raylab.cli.app import call
        return call([word for word in words if word != "--debug"], debug="--debug" in words)


@contextmanager
def _long() -> Iterator[None]:
    """Say at once that the command is at work; SIGTERM ends it like Ctrl-C."""
    print(LOADING_LINE, file=sys.stderr, flush=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # `ray job stop` sends it, and whoever shuts a machine down.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
