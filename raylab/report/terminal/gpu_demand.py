"""What a study asks of GPUs, as a table for a terminal of 100 columns.

Model: a row for each base model and method: memory at the peak, the longest max_length that fits
cards of 24, 40 and 80 GB without and with gradient checkpointing, and hours.
Invariant: what is unknown is a dash; every assumption stands below the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raylab.number_format import MISSING, number, size
from raylab.plan.resources import ASSUMED, CARDS, GpuDemand

WIDTH = 100


def print_demands(rows: Sequence[GpuDemand], console: Console) -> None:
    """The table of GPU memory and hours, then what it assumes."""
    table = Table(box=None, pad_edge=False, width=min(WIDTH, console.width), padding=(0, 1, 0, 0))
    table.add_column("base model", overflow="fold", ratio=1)
    table.add_column("method", no_wrap=True)
    titles = ("trials", "length", "ckpt", "static", "peak", *(f"{card} GB" for card in CARDS))
    for title in (*titles, "GPU-hours"):
        table.add_column(title, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(
            escape(row.base_model),
            row.method,
            str(row.trials),
            str(row.max_length),
            "yes" if row.checkpointing else "no",
            *(MISSING if value is None else size(value) for value in (row.static, row.memory)),
            *(_fit(row, str(card)) for card in CARDS),
            number(row.hours),
        )
    console.print(table)
    for line in _below(rows):
        console.print(
            escape(line), soft_wrap=False, highlight=False, width=min(WIDTH, console.width)
        )


def _fit(row: GpuDemand, card: str) -> str:
    """The longest max_length without and with gradient checkpointing: 512/4096."""
    if not row.fits:
        return MISSING
    return "/".join(str(row.fits[name][card] or MISSING) for name in ("plain", "checkpointing"))


def _below(rows: Sequence[GpuDemand]) -> list[str]:
    lines = [
        "24, 40, 80 GB: the longest max_length that fits, without/with gradient checkpointing."
    ]
    lines += ASSUMED
    doubts = dict.fromkeys((row.base_model, row.unverified) for row in rows if row.unverified)
    lines += [f"{name}: {doubt}." for name, doubt in doubts]
    unknown = dict.fromkeys(row.base_model for row in rows if row.memory is None)
    lines += [f"{name}: its shape is unknown until it is downloaded." for name in unknown]
    return lines
