"""GPUs and nodes in a terminal: the demand of a study, its schedule, the state of nodes.

Model: the table of demand has a row for each base model and method: memory at the peak, the
longest max_length that fits cards of 24, 40 and 80 GB without and with gradient checkpointing,
and time. The table of nodes has a row for each node and a column for each check.
Invariant: an unknown value is a dash. Every assumption is a line below the table of demand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import MISSING, listing, long_time, number, plural, rate, size
from raylab.plan.resources import ASSUMED, CARDS, GpuDemand
from raylab.plan.this_machine import TimeHere
from raylab.report.terminal.printing import named_table, print_line

_DEMAND_WIDTH = 100
_PROBLEMS = {"fault": "red", "remark": "yellow"}


def print_demands(rows: Sequence[GpuDemand], console: Console) -> None:
    """The table of GPU memory and time, then its assumptions."""
    table = Table(
        box=None, pad_edge=False, width=min(_DEMAND_WIDTH, console.width), padding=(0, 1, 0, 0)
    )
    table.add_column("base model", overflow="fold", ratio=1)
    table.add_column("method", no_wrap=True)
    titles = ("trials", "length", "ckpt", "static", "peak", *(f"{card} GB" for card in CARDS))
    for title in (*titles, "GPU time"):
        table.add_column(title, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(
            escape(row.base_model),
            row.method,
            str(row.trials),
            str(row.max_length),
            "yes" if row.checkpointing else "no",
            *(MISSING if value is None else size(value) for value in (row.static, row.memory)),
            *(_longest(row, str(card)) for card in CARDS),
            long_time(None if row.hours is None else 3600 * row.hours),
        )
    console.print(table)
    for line in _notes(rows):
        width = min(_DEMAND_WIDTH, console.width)
        console.print(escape(line), soft_wrap=False, highlight=False, width=width)


def _longest(row: GpuDemand, card: str) -> str:
    """The longest max_length without and with gradient checkpointing: 512/4096."""
    if not row.fits:
        return MISSING
    return "/".join(str(row.fits[name][card] or MISSING) for name in ("plain", "checkpointing"))


def _notes(rows: Sequence[GpuDemand]) -> list[str]:
    lines = [
        "24, 40, 80 GB: the longest max_length that fits, without/with gradient checkpointing."
    ]
    lines += ASSUMED
    doubts = dict.fromkeys((row.base_model, row.unverified) for row in rows if row.unverified)
    lines += [f"{name}: {doubt}." for name, doubt in doubts]
    unknown = {row.base_model: row.is_here for row in rows if row.memory is None}
    lines += [
        f"{name}: its memory is not estimated: its config.json and its files do not tell its shape."
        if is_here
        else f"{name}: its shape is unknown until it is downloaded."
        for name, is_here in unknown.items()
    ]
    return lines


def print_schedule(schedule: Mapping[str, Any], console: Console) -> None:
    """The end of a planned study on a number of GPUs, and the share of time they would idle."""
    trials, measured = schedule["trials"], schedule["measured"]
    where = f"{plural(schedule['gpus'], 'GPU')}, {plural(schedule['slots'], 'trial')} at once"
    if not trials:
        print_line(console, f"on {where}: nothing to train")
        return
    seconds = schedule["unit"] == "seconds"
    shown, ends = long_time if seconds else number, "ends" if len(trials) == 1 else "end"
    print_line(
        console,
        f"on {where}: {plural(len(trials), 'trial')} {ends} after {shown(schedule['makespan'])}"
        f"{'' if seconds else ', in units of one SFT step'}; "
        f"no schedule ends before {shown(schedule['bound'])}; "
        f"idle {rate(schedule['idle'])} of that time",
    )
    how = f"{measured} as measured for trials alike, {len(trials) - measured} by their work"
    on_gpus = f"; {long_time(3600 * schedule['gpu_hours'])} of GPUs" if seconds else ""
    print_line(console, f"durations: {how}{on_gpus}")


def print_time_here(found: TimeHere, console: Console) -> None:
    """The time that the trials to run take on this machine's CPU, and what this rests on."""
    if found.by == "trials":
        rate_of = f", {found.tokens_per_second:,.0f} tokens/s" if found.tokens_per_second else ""
        how = f"by the trials that finished in this store, wherever they ran{rate_of}"
    else:
        how = (
            f"by {(found.flops or 0) / 1e9:,.0f} Gflop/s of float32 matrix products measured here, "
            f"of which trials are assumed to reach {rate(found.efficiency)}"
        )
    needed = f"about {long_time(found.seconds)}" if found.seconds is not None else "unknown"
    print_line(
        console,
        f"no GPU here; on its {plural(found.cores, 'core')}, {plural(found.at_once, 'trial')} at "
        f"once: {needed} for {plural(found.trials, 'trial')}, {how}",
    )


def print_examination(
    document: Mapping[str, Any], cells: Mapping[str, Mapping[str, str]], console: Console
) -> None:
    """A row for each node, then the GPUs, then each problem and its remedy."""
    findings = [(key, item) for key in _PROBLEMS for item in document[f"{key}s"]]
    marks = {(item["node"], item["check"]): _PROBLEMS[key] for key, item in reversed(findings)}
    checks = list(next(iter(cells.values())))
    view = named_table(console, ["node"], checks)
    for node, row in cells.items():
        shown = (_styled(row[check], marks.get((node, check))) for check in checks)
        view.add_row(_styled(node, marks.get((node, "node"))), *shown)
    console.print(view)
    for line in _gpu_lines(document["nodes"]):
        print_line(console, line)
    for (key, check, what, todo), where in _nodes_by_problem(findings).items():
        print_line(console, f"{key}: {check} of {listing(where)}: {what}")
        print_line(console, f"  to do: {todo}")
    totals = (plural(len(document[f"{key}s"]), key) for key in _PROBLEMS)
    print_line(console, f"{plural(len(cells) - 1, 'node')}: {listing(totals)}")


def _styled(text: str, style: str | None) -> str:
    return f"[{style}]{escape(text)}[/]" if style else escape(text)


def _nodes_by_problem(
    findings: Sequence[tuple[str, Mapping[str, Any]]],
) -> dict[tuple[str, ...], list[str]]:
    """The nodes of each problem, so that one of many nodes is printed once."""
    nodes: dict[tuple[str, ...], list[str]] = {}
    for key, item in findings:
        problem = (key, item["check"], item["what"], item["todo"])
        nodes.setdefault(problem, []).append(item["node"])
    return nodes


def _gpu_lines(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The GPUs of the nodes; equal GPUs of several nodes are one line."""
    places: dict[str, list[str]] = {}
    for node in nodes:
        seen = node["facts"].get("gpus", {})
        driver = f"driver {seen.get('driver') or 'unknown'}, CUDA {seen.get('torch_cuda')}"
        cards = Counter((card["name"], card["memory"]) for card in seen.get("devices", ()))
        for (name, memory), amount in cards.items():
            gpus = f"{amount} x {name}, {size(memory)}, {driver}"
            places.setdefault(gpus, []).append(node["name"])
    for gpus, names in places.items():
        yield f"{gpus}: {listing(names)}"
