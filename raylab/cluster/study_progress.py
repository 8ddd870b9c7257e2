"""What a driver shows of its study: a row for every trial and merge, and its own phase.

Model: `StudyProgress` keeps the rows and writes the lines; `raylab.report.terminal.live_display`
decides how they are shown. Trials report to it through Tune, merges through the store. An attempt
has a line at its start, at each quarter of its training, and at its end.
`StudyPhase` tells which phase the driver is in: by lines, and in the store for `raylab status`.
Invariant: a line begins with how many trials and merges of the study are done, of all that are
planned. A phase is in the store only while the
driver holds its lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from raylab.plan.merges import Planned, dependencies_of
from raylab.report.terminal import live_display
from raylab.report.terminal.phase_lines import PhaseLines, ticking
from raylab.store.filesystem import Store
from raylab.store.lease import HeldLease
from raylab.store.phase import (
    MERGES,
    SHARDS,
    STUDY_PHASE,
    TRIALS,
    Phase,
    PhaseTeller,
    Tell,
    write_study_phase,
)

if TYPE_CHECKING:
    from raylab.reduce.job import Call

Row = dict[str, Any]


class StudyProgress:
    """The rows of a study at work, and its lines."""

    def __init__(self, planned: Sequence[Planned], rows: Mapping[str, Row]) -> None:
        """`rows`: one with a `status` for each of `planned`, by name. Nothing is shown yet."""
        self._planned = list(planned)
        self.rows = {item.name: {**item.row, **rows[item.name]} for item in planned}
        self._quarters: dict[str, int] = {}
        self._display: live_display.Display | None = None

    def open(self, display: live_display.Display) -> None:
        """Show everything on `display` from now on."""
        self._display = display

    def change(self, name: str, **values: Any) -> Row:
        """Change the row of a trial or a merge, and of every other name of it; return it."""
        for other in self._planned:
            if other.id == self.rows[name]["trial_id"]:
                self.rows[other.name] = self.rows[other.name] | values
        return self.rows[name]

    def begin(self, row: Row) -> None:
        """A trial or a merge has a worker."""
        first = (row.get("attempt") or 1) == 1
        self.say(row, live_display.start_text(row), transient=first)
        self._quarters[row["name"]] = 0

    def say_quarter(self, row: Row) -> None:
        """A line on a trial that has reached another quarter of its training."""
        reached = live_display.quarter(row)
        if reached > self._quarters.get(row["name"], 0):
            self.say(row, live_display.progress_text(row), transient=True)
        self._quarters[row["name"]] = reached

    def end(self, row: Row) -> None:
        """A trial or a merge has ended; what depends on one that failed is blocked."""
        if row["status"] == "failed":
            lost = {name for name, r in self.rows.items() if r["status"] in ("failed", "blocked")}
            for item in self._planned:
                is_waiting = self.rows[item.name]["status"] == "pending"
                if is_waiting and lost.intersection(dependencies_of(item)):
                    lost.add(item.name)
                    self.change(item.name, status="blocked")
        self.say(row, live_display.end_text(row))

    def say(self, row: Row, words: str, *, transient: bool = False) -> None:
        """A line about a trial or a merge; see `live_display.Display`."""
        assert self._display, "it is open"
        done = sum(other["status"] == "done" for other in self.rows.values())
        line = live_display.numbered_line(row, words, done, len(self.rows))
        self._display.write_line(line, transient=transient)

    def update(self) -> None:
        """Draw the rows."""
        assert self._display, "it is open"
        self._display.update(list(self.rows.values()))

    def close(self) -> None:
        """Take the rows away."""
        if self._display:
            self._display.close()


class StudyPhase:
    """The phase of a driver, told by `tell`."""

    def __init__(self, say: Callable[[str], None], store: Store) -> None:
        """Lines go to `say`; the store hears of phases while it is held."""
        self._lines, self._store = PhaseLines(say), store
        self._lease: HeldLease | None = None
        self.tell = PhaseTeller(self._listen)

    @contextmanager
    def held(self, lease: HeldLease) -> Iterator[None]:
        """Within, the driver holds the store by `lease`."""
        self._lease = lease
        try:
            with ticking(self._tick):
                yield
        finally:
            if not lease.lost.is_set():
                self._store.delete(STUDY_PHASE)
            self._lease = None

    def _listen(self, phase: Phase) -> None:
        self._tick()
        if self._lease and not self._lease.lost.is_set():
            write_study_phase(self._store, phase)

    def _tick(self) -> None:
        # Trials and merges have lines of their own.
        if self.tell.phase and self.tell.phase.name not in (TRIALS, MERGES):
            self._lines(self.tell.phase)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks, and what they tell; a lease cannot be pickled."""
        return {**self.__dict__, "_lease": None}


OneJob = TypeVar("OneJob")
Execute = Callable[[OneJob, Sequence["Call"]], Iterator[tuple[int, Any]]]
"""An executor of one kind of jobs; see `raylab.reduce.job.Executor`."""


def counted(execute: Execute[OneJob], tell: Tell) -> Execute[OneJob]:
    """`execute`, which tells of the shards that are done."""

    def run(job: OneJob, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        if not calls:
            return
        name = SHARDS[calls[0].method]
        tell(name, 0, len(calls))
        for done, result in enumerate(execute(job, calls), 1):
            tell(name, done, len(calls))
            yield result

    return run
