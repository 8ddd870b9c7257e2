"""One check in a process of its own.

Model: the process leads a process group of its own, so that the runner can end it with all that it
started; it ends the group itself where the runner is gone. What it prints goes to a log. A GPU's
error, a limit of its memory or a setting of torch ends with it, and no other check sees it.
Invariant: the last event says how the check ended; where there is none, the process died.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from gpu_checks.report import NotPossible, Report, Setting

_LOOK_SECONDS = 1.0


def run(connection: Connection, function: str, setting: Setting, seconds: float, log: Path) -> None:
    """Call `function` (module:name), and send what it finds through `connection`.

    seconds: its time once its module is imported, which ends by `setting.ends` at the latest.
    """
    os.setsid()
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    _print_to(log)
    _set_environment(setting)
    try:
        module, _, name = function.partition(":")
        check = getattr(importlib.import_module(module), name)
        setting = replace(setting, ends=min(setting.ends, time.monotonic() + seconds))
        check(setting, Report(connection.send, setting))
    except NotPossible as reason:
        connection.send(("impossible", {"why": str(reason)}))
    except BaseException as error:
        traceback.print_exc()
        kind = type(error).__name__
        text = f"{kind}: {error}" if str(error) else kind
        connection.send(("error", {"message": text, "traceback": traceback.format_exc()[-8000:]}))
    else:
        connection.send(("end", {}))


def _end_without(runner: int) -> None:
    """End this process and all that it started once the process `runner` is gone."""
    while os.getppid() == runner:
        time.sleep(_LOOK_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _print_to(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _set_environment(setting: Setting) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYLAB_SCRATCH"] = str(setting.work / "scratch")
    if not setting.on_gpu:
        # So that raylab, which takes a GPU where it sees one, sees none.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
