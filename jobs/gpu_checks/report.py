"""What a check is given, and how it says what it found.

Model: a check is a function of a `Setting` and a `Report`. It makes claims, each of which holds
or not; figures, some with an aim; and names what it left out. The report sends each of these at
once to the process that runs the checks, so that a check that dies leaves what it found.
Invariant: only claims decide whether a check holds. An aim that is missed is said, and fails
nothing: it was set for one kind of GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = tuple[str, dict[str, Any]]
"""The kind of a finding, and its content as JSON holds it."""


class NotPossible(Exception):
    """The check, or the rest of it, cannot run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where and how large a check runs.

    device: "cpu" or "cuda". work: a directory that all checks of a run share. ends: when the
    check's time is up, on the clock of `time.monotonic`, which all processes of a machine share.
    """

    device: str
    quick: bool
    work: Path
    ends: float

    @property
    def on_gpu(self) -> bool:
        """Whether the check runs on a GPU."""
        return self.device == "cuda"

    def sized(self, gpu: Any, quick: Any, cpu: Any) -> Any:
        """The size for this device: on a GPU, on a GPU with --quick, on a CPU."""
        return (quick if self.quick else gpu) if self.on_gpu else cpu

    @property
    def seconds_left(self) -> float:
        """The seconds until the check's time is up."""
        return self.ends - time.monotonic()


class Report:
    """Takes the findings of one check, and sends them on."""

    def __init__(self, send: Callable[[Event], None], setting: Setting) -> None:
        """Nothing is found yet."""
        self._send, self._setting = send, setting

    def claim(self, what: str, holds: bool, found: str = "") -> bool:
        """`what` should hold; `found` is the evidence. Returns whether it holds."""
        self._send(("claim", {"what": what, "holds": bool(holds), "found": found}))
        return bool(holds)

    def figure(self, what: str, value: Any, unit: str = "") -> None:
        """A number, or a JSON value, that was measured."""
        self._send(("figure", {"what": what, "value": value, "unit": unit}))

    def aim(self, what: str, value: float, aim: float, unit: str = "") -> None:
        """A number that should be `aim` at least."""
        content = {"what": what, "value": value, "unit": unit, "aim": aim, "met": value >= aim}
        self._send(("figure", content))

    def headline(self, text: str) -> None:
        """The figure of the check's line."""
        self._send(("headline", {"text": text}))

    def left_out(self, what: str, why: str = "its time was up") -> None:
        """A part that did not run."""
        self._send(("left out", {"what": what, "why": why}))

    def has_time(self, seconds: float, what: str) -> bool:
        """Whether a part of about `seconds` fits; if not, it is left out as `what`."""
        fits = self._setting.seconds_left >= seconds
        if not fits:
            self.left_out(what)
        return fits

    def on_gpu(self, what: str) -> bool:
        """Whether a part that needs a GPU can run; if not, it is left out as `what`."""
        if not self._setting.on_gpu:
            self.left_out(what, "needs a GPU")
        return self._setting.on_gpu
