"""Tables for a terminal of 100 columns, and of 80.

Model: one function for each table that a command shows; names fold over lines, numbers do not.
Invariant: no number is ever cut, and no row or column is left out without a line that says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import count, duration, listing, number, plural, rate, setting, size
from raylab.report.terminal.column_fit import Column, Row, fit, longest_name
from raylab.report.terminal.live_table import STYLES, live_table, totals

WIDTH = 112
_EDGES, _GAP, _NAME = 4, 2, 24
_TRIALS = (
    Column("status", lambda row: str(row["status"])),
    Column("rate", lambda row: setting(row["learning_rate"]), goes=3),
    Column("loss", lambda row: number(row["train_loss"])),
    Column("l2", lambda row: number(row["l2"])),
    Column("style", lambda row: rate(row["style_rate"])),
    Column("japanese", lambda row: rate(row["japanese_rate"])),
    Column("stops", lambda row: rate(row["stopped_rate"]), goes=2),
    Column("repeats", lambda row: rate(row["repetition_rate"]), goes=1),
    Column("seconds", lambda row: duration(row["seconds"]), goes=4),
)


def print_trials(rows: Sequence[Row], console: Console) -> None:
    """Every trial with its status, loss, norm and rates; below, what went wrong."""
    space = min(WIDTH, console.width) - _EDGES
    columns, _ = fit(_TRIALS, rows, space, min(longest_name(rows), _NAME), _GAP)
    view = _table(console, ["name"], [column.title for column in columns])
    for row in rows:
        cells = (escape(column.cell(row)) for column in columns[1:])
        status = str(row["status"])
        view.add_row(
            escape(row["name"]), f"[{STYLES.get(status, 'dim')}]{escape(status)}[/]", *cells
        )
    console.print(view)
    gone = [column.title for column in _TRIALS if column not in columns]
    if gone:
        _line(console, f"no room for {listing(gone)}: the trials table has them")
    _line(console, totals(rows))
    for row in rows:
        _print_trouble(row, console)


def print_status(rows: Sequence[Row], console: Console) -> None:
    """What is done with its results, then what is going on; the trials table if nothing is."""
    if not any(row["status"] == "running" for row in rows):
        print_trials(rows, console)
        return
    if done := [row for row in rows if row["status"] == "done"]:
        print_trials(done, console)
        console.line()
    console.print(live_table(rows, console.width))


def _print_trouble(row: Mapping[str, Any], console: Console) -> None:
    if row["cause"] or row["message"]:
        what = ": ".join(str(part) for part in (row["cause"], row["message"]) if part)
        _line(console, f"{row['name']} {row['status']}: {what}")
    if row["marked"]:
        _line(console, f"{row['name']} marked: {row['marks']}")


def print_norms(norms: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The norms of every comparison over all its tensors."""
    rows = [row for row in norms if row["level"] == "all"]
    view = _table(console, ["comparison"], ["numel", "l1", "l2", "linf", "relative_l2"])
    for row in rows:
        values = (number(row[key]) for key in ("l1", "l2", "linf", "relative_l2"))
        view.add_row(escape(_foldable(row["comparison"])), count(row["numel"]), *values)
    console.print(view)
    _line(
        console,
        f"{plural(len(rows), 'comparison')}; {len(norms) - len(rows)} rows by layer, module "
        "and tensor are in the norms table",
    )
    for note in dict.fromkeys(row["note"] for row in rows if row.get("note")):
        named = [row["comparison"] for row in rows if row.get("note") == note]
        _line(console, f"note: {note} ({', '.join(named)})")


def print_left_out(comparisons: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The comparisons that were not measured, each with the reason."""
    for row in comparisons:
        if row["status"] == "blocked":
            _line(console, f"{row['comparison']} not measured: {row['message']}")


def print_diff(document: Mapping[str, Any], console: Console) -> None:
    """The whole norms, the densities and the layers of one difference."""
    _line(console, f"a: {document['a']}")
    _line(console, f"b: {document['b']}")
    _line(
        console,
        f"view {document['view']}, universe {document['universe']}, "
        f"{count(document['numel'])} entries",
    )
    norms = document["norms"]
    for key in ("l1", "l2", "linf", "relative_l2"):
        _line(console, f"{key:<12} {number(norms[key])}")
    _line(console, f"{'nonzero':<12} {count(norms['nonzero'])}")
    if "base" in document:
        parts = (f"{key} {number(value)}" for key, value in document["base"].items())
        _line(console, "task vectors: " + ", ".join(parts))
    columns = ["density", "num_keep", "threshold", "at_or_above", "l1", "l2"]
    kept = _table(console, [], columns)
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
    layers = _table(console, ["layer", "module"], ["numel", "l1", "l2", "linf"])
    for row in document["layers"]:
        values = (number(row[key]) for key in ("l1", "l2", "linf"))
        layers.add_row(escape(row["key"]), escape(row["module"]), count(row["numel"]), *values)
    console.print(layers)
    _print_accounting(document, console)


def _print_accounting(document: Mapping[str, Any], console: Console) -> None:
    parts = (f"{key} {count(n)}" for key, n in document["accounting"].items() if n)
    _line(console, "entries: " + (", ".join(parts) or "none"))
    passes = document["passes"]
    once = "in one pass" if passes == 1 else f"in {passes} passes, for thresholds not foreseen"
    _line(
        console,
        f"{count(document['bytes_read'])} bytes read in {document['seconds']:.2f} s, {once}",
    )


def print_schedule(schedule: Mapping[str, Any], console: Console) -> None:
    """When all trials of a plan would have ended on so many GPUs, and how idle those would be."""
    trials, measured = schedule["trials"], schedule["measured"]
    where = f"{plural(schedule['gpus'], 'GPU')}, {plural(schedule['slots'], 'trial')} at once"
    if not trials:
        _line(console, f"on {where}: nothing to train")
        return
    seconds, ends = schedule["unit"] == "seconds", "ends" if len(trials) == 1 else "end"
    _line(
        console,
        f"on {where}: {plural(len(trials), 'trial')} {ends} after {number(schedule['makespan'])}"
        f"{' s' if seconds else ', in units of one SFT step'}; "
        f"no schedule ends before {number(schedule['bound'])}; "
        f"idle {rate(schedule['idle'])} of that time",
    )
    how = f"{measured} as measured for trials alike, {len(trials) - measured} by their work"
    hours = f"; {number(schedule['gpu_hours'])} GPU-hours" if seconds else ""
    _line(console, f"durations: {how}{hours}")


def print_examination(
    document: Mapping[str, Any], cells: Mapping[str, Mapping[str, str]], console: Console
) -> None:
    """A row for each node, then its GPUs, then what is wrong and how to mend it."""
    findings = [(key, item) for key in _FINDINGS for item in document[f"{key}s"]]
    marks = {(item["node"], item["check"]): _FINDINGS[key] for key, item in reversed(findings)}
    checks = list(next(iter(cells.values())))
    view = _table(console, ["node"], checks)
    for node, row in cells.items():
        shown = (_styled(row[check], marks.get((node, check))) for check in checks)
        view.add_row(_styled(node, marks.get((node, "node"))), *shown)
    console.print(view)
    for line in _cards(document["nodes"]):
        _line(console, line)
    for (key, check, what, todo), where in _together(findings).items():
        _line(console, f"{key}: {check} of {listing(where)}: {what}")
        _line(console, f"  to do: {todo}")
    totals = (plural(len(document[f"{key}s"]), key) for key in _FINDINGS)
    _line(console, f"{plural(len(cells) - 1, 'node')}: {listing(totals)}")


_FINDINGS = {"fault": "red", "remark": "yellow"}


def _styled(text: str, style: str | None) -> str:
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _together(
    findings: Sequence[tuple[str, Mapping[str, Any]]],
) -> dict[tuple[str, ...], list[str]]:
    """The nodes of each finding: what is wrong with many is said once."""
    nodes: dict[tuple[str, ...], list[str]] = {}
    for key, item in findings:
        said = (key, item["check"], item["what"], item["todo"])
        nodes.setdefault(said, []).append(item["node"])
    return nodes


def _cards(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What GPUs there are, alike ones of alike nodes in one line."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        seen = node["facts"].get("gpus", {})
        driver = f"driver {seen.get('driver') or 'unknown'}, CUDA {seen.get('torch_cuda')}"
        cards = Counter((card["name"], card["memory"]) for card in seen.get("devices", ()))
        for (name, memory), there in cards.items():
            what = f"{there} x {name}, {size(memory)}, {driver}"
            places.setdefault(what, []).append(node["name"])
    for what, where in places.items():
        yield f"{what}: {listing(where)}"


def _foldable(comparison: str) -> str:
    """a~b on two lines, so that both names stay whole."""
    return comparison.replace("~", "\n~ ", 1)


def _table(console: Console, names: list[str], numbers: list[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, width=min(WIDTH, console.width), padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", ratio=1)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="left" if name == "status" else "right")
    return table


def _line(console: Console, text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)
