"""Checks of a moment, which the tests of the runner give it in the place of the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_checks.report import NotPossible


def holds(setting, report):
    report.claim("one and one are two", 1 + 1 == 2, "2")
    report.figure("answer", 42, "units")
    report.headline("all is well")


def fails(setting, report):
    report.claim("one is one", True)
    report.claim("one is two", 1 == 2, "found 1")


def raises(setting, report):
    report.figure("before", 1)
    raise ZeroDivisionError("nothing can be divided by it")


def dies(setting, report):
    report.figure("before", 1)
    print("last words")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def finds_nothing(setting, report):
    pass


def is_impossible(setting, report):
    report.claim("one is one", True)
    raise NotPossible("no such device")


def fails_and_is_impossible(setting, report):
    report.claim("one is two", False, "found 1")
    raise NotPossible("no such device")


def misses_its_aim(setting, report):
    report.aim("rate", 3.0, 100, "entries/s")
    report.aim("other rate", 200.0, 100)


def hangs(setting, report):
    """Never ends, and neither does the process that it starts."""
    report.figure("before", 1)
    time.sleep(0.5)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (setting.work / "child").write_text(str(child.pid))
    marker = os.environ.get("SMALL_CHECKS_MARKER")
    if marker:
        Path(marker).write_text(str(child.pid))
    time.sleep(600)


def leaves_out(setting, report):
    report.claim("the first part", True)
    if report.has_time(10_000, "the long part"):
        raise AssertionError("there is no such time")
    if report.on_gpu("the part on a GPU"):
        raise AssertionError("there is no GPU")


def tells_its_setting(setting, report):
    report.figure("device", setting.device)
    report.figure("sees", os.environ.get("CUDA_VISIBLE_DEVICES"))
    report.figure("size", setting.sized("gpu", "quick", "cpu"))
    report.figure("seconds left", setting.seconds_left)
    report.figure("quick", setting.quick)
