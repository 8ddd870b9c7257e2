"""Whether a merge does what its parents do: on the data of each, and how much of each it keeps.

Model: a row is a merge and one of its parents, the mean over seeds. On the parent's data stand the
held-out loss (nats a token) and the rates of greedy answers, of the merge beside those of the
parent; and the mean loss of the merge's other parents there, which did not learn this data:

    gain_kept = (loss of others - loss of the merge) / (loss of others - loss of the parent)

1 is as good as the parent, 0 no better than the other parents, below 0 worse than they are.
style_kept is the same of the style rate. The cosine and the largest entries whose sign survived are
those of the table kept_of. A merge does both where it keeps at least half of the gain, and of the
style, of each parent. Points of a sweep are rows too, and the frame merge_curves has them by the
swept setting.
Invariant: a mean is over the seeds at which all of its values are known. What was not measured is
None; gain_kept is None too where the parent is no more than GAIN better than the others, style_kept
where its style is no more than STYLE from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from raylab.report.findings.finding import Finding, Sentence
from raylab.report.findings.merge_rows import (
    MergeMeasures,
    at_all_seeds,
    curve_rows,
    merge_rows,
    sign_rows,
    without_point,
)
from raylab.report.study_tables import Row, Rows, Tables, grouped

HALF = 0.5
"""From this share of the gain and the style of each parent on, a merge does both."""
FEW_PROMPTS = 100
"""Below it a rate is known within +-10 % at best."""


def find(tables: Tables) -> Finding:
    """What each merge does of what its parents do, and keeps of them."""
    measured = MergeMeasures(tables)
    frames: dict[str, list[dict[str, Any]]] = {"merges": [], "merge_curves": [], "merge_signs": []}
    answer, details = list[Sentence](), list[Sentence]()
    done = [merge for merge in tables.merges if merge.name in measured.done]
    for base, of_base in grouped(done, lambda merge: merge.base_model).items():
        found = at_all_seeds(of_base)
        rows = [row for merges in found for row in merge_rows(measured, base, merges)]
        frames["merges"] += map(without_point, rows)
        frames["merge_curves"] += curve_rows(rows)
        for merges in found:
            frames["merge_signs"] += sign_rows(measured, base, merges)
        first, *others = _sentences(base, rows)
        answer.append(first)
        details += others
    if not answer:
        answer.append(Sentence("merges-undone" if tables.merges else "merges-nothing"))
    return Finding("merges", tuple(answer), tuple(details), tuple(_cautions(measured)), frames)


def _sentences(base: str, rows: Rows) -> Iterator[Sentence]:
    """The answer, what the merges keep of parameters, one sentence for each merge, and what was
    not measured."""
    merges = list(grouped(rows, lambda row: str(row["merge"])).items())
    yield _answer(base, merges)
    yield from _kept_sentence(base, rows)
    for name, of_merge in merges if len(merges) > 1 else ():
        if any(row["loss"] is not None for row in of_merge):
            parts = tuple(map(_on, of_merge))
            yield Sentence("merges-one", {"parts": parts}, head=name)
    if {row["seeds"] for row in rows} == {1}:
        yield Sentence("merges-one_seed", {"model": base})
    lacking = [row for row in rows if row["loss"] is None or row["stopped_rate"] is None]
    if lacking:
        names = tuple(dict.fromkeys(f"{row['merge']} ({row['parent']})" for row in lacking))
        values = {"model": base, "count": len(names), "names": names}
        yield Sentence("merges-missing", values, "fair")


def _answer(base: str, merges: Sequence[tuple[str, Rows]]) -> Sentence:
    """Which merge does both best, and how many do both."""
    known = {
        name: rows for name, rows in merges if all(row["gain_kept"] is not None for row in rows)
    }
    if not known:
        return Sentence("merges-no_gain", {"model": base, "total": len(merges)}, "unknown")
    least = {name: min(map(_least_kept, rows)) for name, rows in known.items()}
    best = max(least, key=least.__getitem__)
    both = sum(value >= HALF for value in least.values())
    has_style = any(row["style_kept"] is not None for rows in known.values() for row in rows)
    values = {
        "model": base,
        "merge": best,
        "and_style": Sentence("merges-and_style") if has_style else "",
        "parts": tuple(map(_gain, known[best])),
        "both": both,
        "total": len(known),
    }
    return Sentence("merges-both" if both else "merges-neither", values, "good" if both else "fair")


def _least_kept(row: Row) -> float:
    kept: list[float] = [row[n] for n in ("gain_kept", "style_kept") if row[n] is not None]
    return min(kept)


def _gain(row: Row) -> Sentence:
    """What a merge keeps of the gain of one parent, and of its style."""
    kept = row["style_kept"]
    style = "" if kept is None else Sentence("merges-style", {"kept": kept})
    values = {name: row[name] for name in ("parent", "data", "gain_kept")}
    return Sentence("merges-gain", values | {"style": style})


def _on(row: Row) -> Sentence:
    """The losses on the data of one parent, and the style."""
    rates = {"style": row["style_rate"], "own": row["style_rate_parent"]}
    style = "" if None in rates.values() else Sentence("merges-style_rate", rates)
    values = {n: row[n] for n in ("parent", "data", "loss", "loss_parent", "loss_others")}
    return Sentence("merges-on", values | {"style": style})


def _kept_sentence(base: str, rows: Rows) -> Iterator[Sentence]:
    known = [row for row in rows if row["survived_share"] is not None and row["cosine"] is not None]
    if known:
        shares, cosines = ([row[n] for row in known] for n in ("survived_share", "cosine"))
        values = {
            "model": base,
            "density": known[0]["density"],
            "low": min(shares),
            "high": max(shares),
            "cosine_low": min(cosines),
            "cosine_high": max(cosines),
        }
        yield Sentence("merges-kept", values)


def _cautions(measured: MergeMeasures) -> Iterator[Sentence]:
    fewest = min(measured.counts, default=FEW_PROMPTS)
    if fewest < FEW_PROMPTS:
        # Half the width of the normal interval of a rate of one half, the widest.
        within = 1.96 * math.sqrt(0.25 / fewest)
        yield Sentence("merges-few_prompts", {"count": fewest, "within": within}, "fair")
