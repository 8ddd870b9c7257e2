"""Trials and merges on the page: their number, their table, merge settings, quality flags.

Model: functions from rows of the trials table and the study to blocks.
Invariant: every trial and merge is a row of the table. A merge is described with every setting
that decides it, given or default, and with none that its method does not use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from raylab.number_format import MISSING, duration, number, rate, setting
from raylab.report.page.blocks import Block, Column, Grid, Item, Items
from raylab.report.study_tables import Row, Rows, marked_models
from raylab.report.words import Translator
from raylab.spec.merge_methods import is_merge
from raylab.spec.merge_settings import Setting, Varying
from raylab.spec.merge_variants import expand_merges
from raylab.spec.merges import MergeInput, MergeRequest
from raylab.spec.seeds import seeds_of
from raylab.spec.study import Study
from raylab.spec.swept_names import rate_text

UNFINISHED = ("failed", "blocked")
STATUSES = ("done", "failed", "blocked", "running", "pending")
_RATES = ("style_rate", "japanese_rate", "stopped_rate", "repetition_rate", "distinct_rate")
_TEXTS = ("trial", "label", "status", "marks")
_COLUMNS = (
    "trial", "label", "seed", "learning_rate", "status", "train_loss", "eval_loss", "l2",
    *_RATES, "seconds", "marks",
)  # fmt: skip


def trial_count(translate: Translator, trials: Rows) -> str:
    """The number of trials and merges: 3 trials, or 3 trials and 1 merge."""
    merges = sum(map(is_merge, trials))
    if merges:
        return translate("unit-trials_and_merges", trials=len(trials) - merges, merges=merges)
    return translate("unit-trial", count=len(trials))


def status_counts(translate: Translator, trials: Rows) -> Iterator[Item]:
    """How many trials and merges have each status."""
    totals = Counter(str(row["status"]) for row in trials)
    for status in (*STATUSES, *(name for name in totals if name not in STATUSES)):
        if totals[status]:
            word = translate(f"status-{status}") if status in STATUSES else status
            yield Item(str(totals[status]), word, "bad" if status in UNFINISHED else "")


def trial_blocks(translate: Translator, trials: Rows) -> Iterator[Block]:
    """Why trials failed, then the table of all trials, the failed and the blocked first."""
    unfinished = [row for row in trials if row["status"] in UNFINISHED]
    unfinished.sort(key=lambda row: UNFINISHED.index(row["status"]))
    if unfinished:
        yield Items(tuple(_failure(translate, row) for row in unfinished))
    rows = [*unfinished, *(row for row in trials if row["status"] not in UNFINISHED)]
    columns = tuple(
        Column(translate.column(name), "text" if name in _TEXTS else "number") for name in _COLUMNS
    )
    grades = (
        "bad" if row["status"] in UNFINISHED else "fair" if row["marked"] else "" for row in rows
    )
    yield Grid(
        translate("grid-trials"),
        columns,
        tuple(_cells(translate, row) for row in rows),
        tuple(grades),
        translate("note-trials", amount=trial_count(translate, rows)),
        "trials",
        "tables/trials.csv",
    )


def _failure(translate: Translator, row: Row) -> Item:
    reason = ": ".join(str(part) for part in (row["cause"], row["message"]) if part)
    status = translate(f"status-{row['status']}")
    text = translate("trouble", status=status, what=reason or translate("trouble-unknown"))
    return Item(row["name"], text, "bad")


def _cells(translate: Translator, row: Row) -> tuple[str, ...]:
    status = row["status"]
    return (
        row["name"],
        row["label"] or MISSING,
        str(seeds_of(row) or MISSING),
        rate_text(row["name"], row["learning_rate"]),
        translate(f"status-{status}") if status in STATUSES else status or MISSING,
        number(row["train_loss"]),
        number(row["eval_loss"]),
        number(row["l2"]),
        *(rate(row[key]) for key in _RATES),
        duration(row["seconds"]),
        row["marks"] or "",
    )


def flag_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Every marked model: the reason with an example, and its comparisons."""
    items = []
    for name, marks in marked_models(tables).items():
        norms = (norm for norm in tables["norms"] if name in (norm["a"], norm["b"]))
        names = tuple(dict.fromkeys(norm["comparison"] for norm in norms))
        compared = translate("marks-compared", names=names) if names else ""
        text = translate("marks-marked", marks=marks, compared=compared)
        items.append(Item(name, text, "fair"))
    if items:
        yield Items(tuple(items))


def merge_blocks(translate: Translator, study: Study) -> Iterator[Block]:
    """One item for each merge of the study; nothing where there is none."""
    merges = expand_merges(study).items()
    requests = {name: item.settings.request(item.settings.models, "") for name, item in merges}
    if requests:
        items = (Item(name, merge_text(translate, found)) for name, found in requests.items())
        yield Items(tuple(items))


def merge_text(translate: Translator, request: MergeRequest) -> str:
    """How a merge is made: its method, its inputs and every setting that decides it."""
    method, more = request.row, ""

    def written(value: Setting) -> float | str:
        return str(value) if isinstance(value, Varying) else value

    if method.scales:
        more += translate("merge-scaling", scaling=written(request.scaling))
    if request.seed is not None:
        more += translate("merge-seed", seed=request.seed)
    if (output := request.output) is not None:
        more += translate("merge-as_adapter")
        if output.rank is not None:
            more += translate("merge-as_adapter-rank", rank=output.rank)
        if output.energy is not None:
            more += translate("merge-as_adapter-energy", energy=output.energy)
    for name, value in request.parameters.items():
        more += translate("merge-setting", name=name, value=setting(written(value)))
    scope = translate(f"merge-scope-{request.scope}") if request.scope else ""

    def described(item: MergeInput) -> str:
        if not method.weighs:
            own = ", ".join(f"{name} {setting(written(v))}" for name, v in item.parameters.items())
            return translate("merge-input-own", model=item.model, own=own) if own else item.model
        weight, density = written(item.weight), written(item.density)
        kept = translate(f"merge-{method.keeps}", density=density, scope=scope)
        for name, value in item.parameters.items():
            kept += translate("merge-setting", name=name, value=setting(written(value)))
        return translate("merge-input", model=item.model, weight=weight, kept=kept)

    inputs = tuple(map(described, request.inputs))
    return translate("merge-said", title=method.title, paper=method.paper, inputs=inputs, more=more)
