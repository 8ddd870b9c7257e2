"""What a study found, at the end of a command: the answer, the verdict table, what limits it.

Model: the rows are those of `raylab.report.verdicts`, in English. A cell is a sign, the effect as a
multiple of what another seed does, and the word of the verdict; the sign says the same as the
colour. The baseline, which is 1 by definition, has no number. Where words do not fit the
window, a line below the table explains their signs.
Invariant: every factor has a row, and no number is cut. Cautions that are left out are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from raylab.number_format import plural
from raylab.report.findings import attribution, effects, merges, reliability
from raylab.report.findings.effect_words import ANSWERED
from raylab.report.findings.finding import Finding
from raylab.report.findings.trained_models import models_of
from raylab.report.study_tables import Tables, base_models_of
from raylab.report.terminal.printing import WIDTH
from raylab.report.verdicts import (
    MOST_CAUTIONS,
    SIGNS,
    Verdict,
    VerdictRow,
    answers,
    cautions,
    verdict_rows,
)
from raylab.report.words import Translator, translator
from raylab.report.words.translator import FUNCTIONS

_STYLES = {"clear": "bold green", "weak": "yellow", "noise": "cyan", "missing": "dim"}
"""By word of a verdict; the others have none."""
_CAUTION = "yellow"
_GAP, _MIN_HEAD, _MAX_NAME = 2, 13, 33
_OF_FACTORS = ("clear", "weak", "noise", "missing", "baseline")
"""The words of factors; those of the parts of the randomness are longer."""


def print_found(tables: Tables, console: Console) -> None:
    """The answer, the verdict table and the cautions of a study's tables."""
    inseparable = tuple(attribution.caution_sentences(models_of(tables)))
    findings = {
        "effects": effects.find(tables),
        # The shares of variance, which take the longest, have no place here.
        "attribution": Finding("attribution", cautions=inseparable),
        "merges": merges.find(tables),
        "trust": reliability.find(tables),
    }
    rows = verdict_rows(findings["effects"].frames["effects"])
    bases = base_models_of(tables)
    print_verdicts(rows, findings, console, bases)
    of_merges = findings["merges"]
    of_merges = of_merges if len(bases) > 1 else of_merges.without_base_model()
    for sentence in of_merges.answer if tables.merges else ():
        _print_wrapped(translator().sentence(sentence), console)


def print_verdicts(
    rows: Sequence[VerdictRow],
    findings: Mapping[str, Finding],
    console: Console,
    bases: Sequence[str] = (),
) -> None:
    """The answer and the table of `rows`, and the cautions of `findings`; `bases` are the base
    models of the study."""
    say = translator()
    limits = cautions(findings)
    for sentence in answers(rows, bases):
        _print_wrapped(say.whole_sentence(sentence), console)
    if rows:
        console.print(verdict_table(rows, min(WIDTH, console.width), say, bases))
    for sentence in limits[:MOST_CAUTIONS]:
        _print_wrapped(f"! {say.whole_sentence(sentence)}", console, _CAUTION)
    if (more := len(limits) - MOST_CAUTIONS) > 0:
        _print_wrapped(f"! {plural(more, 'more caution')} in the report", console, _CAUTION)


def verdict_table(
    rows: Sequence[VerdictRow], width: int, say: Translator, bases: Sequence[str] = ()
) -> Table:
    """The table of `rows` for a window of `width`: with as many words as fit."""
    names = _names(rows, say, bases)
    columns = [[row.verdicts[at] for row in rows] for at in range(len(ANSWERED))]
    for written in (tuple(SIGNS), _OF_FACTORS, ()):
        cells = [_cells(column, say, written) for column in columns]
        if _width(names, cells) <= width:
            break
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(say("column-factor"), max_width=_MAX_NAME)
    for space, column in zip(ANSWERED, cells, strict=True):
        room = max(_MIN_HEAD, *(cell.cell_len for cell in column))
        head = "\n".join(wrap(say(f"word-{space}"), room))
        table.add_column(head, no_wrap=True)
    for name, row in zip(names, zip(*cells, strict=True), strict=True):
        table.add_row(Text(name), *row)
    table.caption = _legend(rows, say, written) or None
    table.caption_justify, table.caption_style = "left", ""
    return table


def _names(rows: Sequence[VerdictRow], say: Translator, bases: Sequence[str]) -> list[str]:
    """The name of each row; with its base model where there are several."""
    several = len({*bases, *(row.base_model for row in rows)}) > 1
    return [
        f"{row.base_model}: {say.factor(row.factor)}" if several else say.factor(row.factor)
        for row in rows
    ]


def _cells(verdicts: Sequence[Verdict], say: Translator, written: Sequence[str]) -> list[Text]:
    """A cell for each of the verdicts of a space; with its word if it is among `written`."""
    numbers = [
        "" if one.times is None or one.word == "baseline" else FUNCTIONS["TIMES"](say, one.times)
        for one in verdicts
    ]
    room = max(map(cell_len, numbers))
    found = []
    for verdict, number in zip(verdicts, numbers, strict=True):
        parts = [SIGNS[verdict.word]]
        if number:
            parts.append(" " * (room - cell_len(number)) + number)
        if verdict.word in written:
            parts.append(say(f"verdict-{verdict.word}"))
        found.append(Text(" ".join(parts), style=_STYLES.get(verdict.word, "")))
    return found


def _width(names: Sequence[str], cells: Sequence[Sequence[Text]]) -> int:
    """The width of the table, gaps included."""
    columns = [max(_MIN_HEAD, *(cell.cell_len for cell in column)) for column in cells]
    return min(_MAX_NAME, max(map(cell_len, names))) + sum(columns) + _GAP * len(columns)


def _legend(rows: Sequence[VerdictRow], say: Translator, written: Sequence[str]) -> str:
    """The words of the signs in the table that are not `written` there."""
    words = {verdict.word for row in rows for verdict in row.verdicts} - set(written)
    return ", ".join(f"{SIGNS[w]} {say(f'verdict-{w}')}" for w in SIGNS if w in words)


def _print_wrapped(text: str, console: Console, style: str = "") -> None:
    """Print a sentence, its lines broken between words."""
    console.print(Text(text, style=style), width=min(WIDTH, console.width))
