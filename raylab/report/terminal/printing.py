"""Results in a terminal: trials, norms, one difference, two studies side by side.

Model: a function for each table that a command shows, for windows of 80 columns and more. Names
fold over lines, numbers do not.
Invariant: no number is cut. A line says which rows or columns are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import count, duration, listing, number, plural, rate, setting
from raylab.report.terminal.columns import Column, Row, fit_beside_names, longest_name
from raylab.report.terminal.live_table import STYLES, live_table, totals
from raylab.spec.swept_names import rate_text

WIDTH = 112
_EDGES, _GAP, _NAME = 4, 2, 24
_MOST_NAMES = 3
_TRIALS = (
    Column("status", lambda row: str(row["status"])),
    Column("rate", lambda row: rate_text(row["name"], row["learning_rate"]), importance=3),
    Column("loss", lambda row: number(row["train_loss"])),
    Column("l2", lambda row: number(row["l2"])),
    Column("style", lambda row: rate(row["style_rate"])),
    Column("japanese", lambda row: rate(row["japanese_rate"])),
    Column("stops", lambda row: rate(row["stopped_rate"]), importance=2),
    Column("repeats", lambda row: rate(row["repetition_rate"]), importance=1),
    Column("seconds", lambda row: duration(row["seconds"]), importance=4),
)


def print_trials(rows: Sequence[Row], console: Console) -> None:
    """Every trial with its status, loss, norm and rates; below, the causes of failures."""
    space = min(WIDTH, console.width) - _EDGES
    name_width = min(longest_name(rows), _NAME)
    columns, _ = fit_beside_names(_TRIALS, rows, space, name_width, _GAP)
    view = named_table(console, ["name"], [column.title for column in columns])
    for row in rows:
        cells = (escape(column.cell(row)) for column in columns[1:])
        status = str(row["status"])
        view.add_row(
            escape(row["name"]), f"[{STYLES.get(status, 'dim')}]{escape(status)}[/]", *cells
        )
    console.print(view)
    hidden = [column.title for column in _TRIALS if column not in columns]
    if hidden:
        print_line(console, f"no room for {listing(hidden)}: the trials table has them")
    print_line(console, totals(rows))
    for row in rows:
        _print_trouble(row, console)


def print_status(
    rows: Sequence[Row], console: Console, phase: str = "", left: float | None = None
) -> None:
    """Finished trials with their results, then the live table; the trials alone if none runs.

    Last the `phase` of the study's driver, if there is one, and the seconds `left` to train.
    """
    if not any(row["status"] == "running" for row in rows):
        print_trials(rows, console)
        if phase:
            print_line(console, phase)
        return
    if done := [row for row in rows if row["status"] == "done"]:
        print_trials(done, console)
        console.line()
    console.print(live_table(rows, console.width, phase=phase, left=left))


def _print_trouble(row: Mapping[str, Any], console: Console) -> None:
    if row["cause"] or row["message"]:
        reason = ": ".join(str(part) for part in (row["cause"], row["message"]) if part)
        print_line(console, f"{row['name']} {row['status']}: {reason}")
    if row["marked"]:
        print_line(console, f"{row['name']} marked: {row['marks']}")


def print_norms(norms: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The norms of every comparison over all its tensors."""
    rows = [row for row in norms if row["level"] == "all"]
    view = named_table(console, ["comparison"], ["numel", "l1", "l2", "linf", "relative_l2"])
    for row in rows:
        values = (number(row[key]) for key in ("l1", "l2", "linf", "relative_l2"))
        view.add_row(escape(_foldable(row["comparison"])), count(row["numel"]), *values)
    console.print(view)
    print_line(
        console,
        f"{plural(len(rows), 'comparison')}; {len(norms) - len(rows)} rows by layer, module "
        "and tensor are in the norms table",
    )
    for note in dict.fromkeys(row["note"] for row in rows if row.get("note")):
        named = [row["comparison"] for row in rows if row.get("note") == note]
        print_line(console, f"note: {note} ({', '.join(named)})")


def print_left_out(comparisons: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The comparisons that were not measured, each with the reason."""
    for row in _left_out(comparisons):
        print_line(console, f"{row['comparison']} not measured: {row['message']}")


def print_comparison_counts(
    comparisons: Sequence[Mapping[str, Any]], out: str, console: Console
) -> None:
    """How many comparisons were measured, and where their norms are; the names of the others."""
    left_out = [str(row["comparison"]) for row in _left_out(comparisons)]
    measured = plural(len(comparisons) - len(left_out), "comparison")
    print_line(
        console, f"{measured} measured: --verbose or `raylab table norms {out}` lists their norms"
    )
    if left_out:
        shown = left_out[:_MOST_NAMES]
        if len(left_out) > _MOST_NAMES:
            shown.append(f"{len(left_out) - _MOST_NAMES} more")
        amount = plural(len(left_out), "comparison")
        print_line(
            console,
            f"{amount} not measured: {listing(shown)}: `raylab table comparisons {out}` says why",
        )


def _left_out(comparisons: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in comparisons if row["status"] in ("blocked", "failed")]


def print_diff(document: Mapping[str, Any], console: Console) -> None:
    """The whole norms, the densities and the layers of one difference."""
    print_line(console, f"a: {document['a']}")
    print_line(console, f"b: {document['b']}")
    print_line(
        console,
        f"view {document['view']}, universe {document['universe']}, "
        f"{count(document['numel'])} entries",
    )
    norms = document["norms"]
    for key in ("l1", "l2", "linf", "relative_l2"):
        print_line(console, f"{key:<12} {number(norms[key])}")
    print_line(console, f"{'nonzero':<12} {count(norms['nonzero'])}")
    above = f"(above {setting(norms['tolerance'])})"
    print_line(console, f"{'moved':<12} {count(norms['moved'])} {above}")
    if "base" in document:
        parts = (f"{key} {number(value)}" for key, value in document["base"].items())
        print_line(console, "task vectors: " + ", ".join(parts))
    columns = ["density", "num_keep", "threshold", "at_or_above", "l1", "l2"]
    kept = named_table(console, [], columns)
    for row in document["densities"]:
        kept.add_row(
            setting(row["density"]),
            count(row["num_keep"]),
            number(row["threshold"]),
            count(row["at_or_above"]),
            number(row["l1"]),
            number(row["l2"]),
        )
    console.print(kept)
    layers = named_table(console, ["layer", "module"], ["numel", "l1", "l2", "linf"])
    for row in document["layers"]:
        values = (number(row[key]) for key in ("l1", "l2", "linf"))
        layers.add_row(escape(row["key"]), escape(row["module"]), count(row["numel"]), *values)
    console.print(layers)
    _print_accounting(document, console)


def _print_accounting(document: Mapping[str, Any], console: Console) -> None:
    parts = (f"{key} {count(n)}" for key, n in document["accounting"].items() if n)
    print_line(console, "entries: " + (", ".join(parts) or "none"))
    passes = document["passes"]
    once = "in one pass" if passes == 1 else f"in {passes} passes, for thresholds not foreseen"
    print_line(
        console,
        f"{count(document['bytes_read'])} bytes read in {document['seconds']:.2f} s, {once}",
    )


def _foldable(comparison: str) -> str:
    """a~b on two lines, so that both names stay whole."""
    return comparison.replace("~", "\n~ ", 1)


def named_table(console: Console, names: list[str], numbers: list[str]) -> Table:
    """A table without rows: columns of names, which fold, then columns of numbers."""
    table = Table(box=SIMPLE_HEAD, width=min(WIDTH, console.width), padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", ratio=1)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="left" if name == "status" else "right")
    return table


def print_line(console: Console, text: str) -> None:
    """Print plain text as one line, however long."""
    console.print(escape(text), soft_wrap=True, highlight=False)
