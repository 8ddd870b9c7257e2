"""What a check found, as it grows; its verdict, its line, its place in the table.

Invariant: a check that made no claim and took no figure has not held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_checks.report import Event

HELD, NOT_HELD, IMPOSSIBLE = "held", "not held", "not possible here"
NOT_RUN, RUNNING = "not run", "running"
_NAMED = 3
"""Parts that were left out, named below the table; the document names all."""


@dataclass
class Outcome:
    """The findings of one check."""

    name: str
    shows: str
    verdict: str = NOT_RUN
    seconds: float = 0.0
    headline: str = ""
    why: str = ""
    """Why it has not held, or is not possible."""
    traceback: str = ""
    claims: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def take(self, event: Event) -> bool:
        """Take in one event; returns whether the check has ended with it."""
        kind, content = event
        lists = {"claim": self.claims, "figure": self.figures, "left out": self.left_out}
        if kind in lists:
            lists[kind].append(content)
        elif kind == "headline":
            self.headline = content["text"]
        elif kind == "impossible":
            self._end_impossible(content["why"])
        elif kind == "error":
            self.fail(content["message"])
            self.traceback = content["traceback"]
        else:
            self._end()
        return kind in ("impossible", "error", "end")

    def fail(self, why: str) -> None:
        """The check has not held, whatever it found."""
        self.verdict, self.why = NOT_HELD, why

    def _end_impossible(self, why: str) -> None:
        # A claim that fails before that counts all the same.
        if all(claim["holds"] for claim in self.claims):
            self.verdict, self.why = IMPOSSIBLE, why
        else:
            self._end()

    def _end(self) -> None:
        wrong = [claim for claim in self.claims if not claim["holds"]]
        if wrong:
            self.fail("; ".join(_said(claim) for claim in wrong[:3]))
        elif not self.claims and not self.figures:
            self.fail("nothing was checked before its time was up")
        else:
            self.verdict = HELD

    @property
    def missed(self) -> list[dict[str, Any]]:
        """The figures that are below their aim."""
        return [figure for figure in self.figures if not figure.get("met", True)]

    @property
    def figure(self) -> str:
        """One line: the headline, and the claims that hold of all."""
        held = sum(claim["holds"] for claim in self.claims)
        parts = [self.headline] if self.headline else []
        if self.claims:
            parts.append(f"{held} of {len(self.claims)} claims hold")
        if self.why:
            parts.append(" ".join(self.why.split())[:200])
        if self.missed:
            parts.append(f"{len(self.missed)} aims missed")
        if self.left_out:
            parts.append(f"{len(self.left_out)} parts left out")
        return "; ".join(parts)

    @property
    def line(self) -> str:
        """What is printed when the check ends."""
        return f"{self.name:<14} {self.verdict:<17} {self.seconds:>6.1f} s  {self.figure}"

    @property
    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "figure": self.figure}


def _said(claim: Mapping[str, Any]) -> str:
    return f"{claim['what']}: {claim['found']}" if claim["found"] else str(claim["what"])


def _missed(figure: Mapping[str, Any]) -> str:
    value, aim, unit = figure["value"], figure["aim"], figure["unit"]
    return f"{figure['what']}: {value:.3g} of {aim:g} {unit}".rstrip()


def table(outcomes: Sequence[Outcome]) -> str:
    """The table of all outcomes, as Markdown, and below it what needs a look."""
    lines = ["| check | verdict | figure | seconds |", "| --- | --- | --- | ---: |"]
    for each in outcomes:
        figure = each.figure.replace("|", "\\|")
        lines.append(f"| {each.name} | {each.verdict} | {figure} | {each.seconds:.0f} |")
    return "\n".join([*lines, *_remarks(outcomes)])


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    found = []
    for each in outcomes:
        wrong = [claim for claim in each.claims if not claim["holds"]]
        found += [f"- {each.name}: not held: {_said(claim)}" for claim in wrong]
        found += [f"- {each.name}: below the aim: {_missed(figure)}" for figure in each.missed]
        for why in dict.fromkeys(part["why"] for part in each.left_out):
            parts = [part["what"] for part in each.left_out if part["why"] == why]
            more = f"; and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
            found.append(f"- {each.name}: left out, {why}: {'; '.join(parts[:_NAMED])}{more}")
    return ["", *found] if found else []
