"""Frames of findings as tables of a page: which columns, in which form.

Model: a grid is a row of GRIDS: a frame and its columns in their order;
`raylab.report.page.cell_forms` says how a column is written. A column without a value in any row is
left out, as is the base model's where there is one only.
Invariant: a grid that is cut says how many of how many rows it shows, and which file has all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylab.number_format import number, rate
from raylab.report.findings.over_seeds import GRADES
from raylab.report.page.blocks import Column, Grid
from raylab.report.page.cell_forms import AUDIT, NUMBERS, TEXTS
from raylab.report.study_tables import Row, Rows
from raylab.report.words import Translator

MOST = 500
NORMS = "norms"
"""Stands for the columns of norms by seed: l1_s42, l2_s42, ..."""
TOGETHER: dict[str, tuple[str, ...]] = {
    "merge_losses": ("loss", "loss_parent", "loss_others"),
    "merge_style_rate": ("style_rate", "style_rate_parent", "style_rate_others"),
    "merge_japanese_rate": ("japanese_rate", "japanese_rate_parent"),
    "merge_stopped_rate": ("stopped_rate", "stopped_rate_parent"),
    "merge_repetition_rate": ("repetition_rate", "repetition_rate_parent"),
}
"""Columns of a frame that share a cell."""


@dataclass(frozen=True)
class GridRow:
    """A frame shown as a table; `titles` gives columns another title than their own. is_open: it is
    the answer, and no reader has to unfold it."""

    frame: str
    columns: tuple[str, ...]
    titles: Mapping[str, str] | None = None
    is_open: bool = False


_EFFECT = (
    "effect", "baseline", "chance", "times", "like", "pairs", "seed_pairs",
)  # fmt: skip
GRIDS: dict[str, tuple[GridRow, ...]] = {
    "effects": (
        GridRow(
            "effects",
            ("factor", "model", "space", *_EFFECT, "p", "p_adjusted", "basis", "verdict", "also"),
            {"verdict": "effect_verdict", "like": "effect_like"},
        ),
        GridRow(
            "effect_pairs",
            ("factor", "label", "model", "space", *_EFFECT, "verdict", "also"),
            {"label": "difference", "verdict": "effect_verdict", "like": "effect_like"},
        ),
    ),
    "floor": (
        GridRow(
            "differences",
            ("factor", "label", "model", "norm_factor", "norm_spread", "norm_verdict", "seeds",
             "distance", "deviation", "low", "high", "seed_distance", "ratio", "ratio_unlike",
             "ratio_most", "verdict", "also"),
            {"label": "difference", "low": "boot_low", "high": "boot_high"},
        ),
        GridRow(
            "floor",
            ("label", "model", "seeds", "l2_mean", "l2_deviation", "l2_low", "l2_high",
             "l2_factor", "seed_distance", "relative_distance"),
        ),
    ),
    "functions": (
        GridRow("cka_by_layer", ("factor", "model", "layer", "cka", "seeds_cka", "pairs",
                                 "seed_pairs")),
    ),
    "answers": (
        GridRow("tokens", ("label", "model", "answers", "prompt", "position", "token", "kl",
                           "top_a", "p_a", "top_b", "p_b"), {"label": "difference"}),
    ),
    "seeds": tuple(
        GridRow(
            frame,
            ("pair", "model", "learning_rate", NORMS, "mean", "deviation", "low", "high", "ratio",
             "seed_distance", "times_seed", "verdict"),
            {"ratio": "l2_factor", "verdict": "seeds_verdict", "low": "boot_low",
             "high": "boot_high"},
        )
        for frame in ("seeds_like", "seeds_unlike")
    ),
    "attribution": (
        GridRow(
            "attribution",
            ("response", "level", "key", "factor", "model", "df", "sum_squares", "share",
             "partial_share", "low", "high", "observations", "residual_df"),
        ),
    ),
    "similarity": (
        GridRow("silhouette", ("factor", "model", "levels", "silhouette", "within", "between")),
        GridRow("neighbours", ("name", "model", "label", "nearest", "cosine")),
    ),
    "map": (
        GridRow(
            "map_distances",
            ("space", "model", "models", "stress", "mean_distance", "seed_distance", "seed_pairs",
             "seed_share"),
        ),
        GridRow("map_factors", ("factor", "space", "model", "levels", "silhouette")),
    ),
    "where": (
        GridRow(
            "where", ("label", "model", "layer", "kind", "l2", "relative_l2", "share", "seeds")
        ),
    ),
    "concentration": (
        GridRow(
            "concentration",
            ("label", "model", "what", "seed", "half_l1", "half_l2", "l2_in_1", "l2_in_10",
             "effective_rank"),
        ),
        GridRow(
            "densities_of",
            ("label", "model", "seed", "density", "num_keep", "threshold", "at_or_above", "l1",
             "l2", "l1_share", "l2_share"),
            {"label": "difference"},
        ),
    ),
    "intruders": (
        GridRow(
            "intruders",
            ("label", "model", "seeds", "top", "epsilon", "intruder_share", "intruder_spread",
             "share_left", "left_spread", "left_times", "share_right", "right_spread",
             "right_times"),
        ),
    ),
    "entries": (
        GridRow("moved", ("label", "model", "view", "tolerance", "seeds", "moved_share",
                          "seed_spread", "nonzero_share")),
        GridRow("shared", ("group", "label", "model", "models", "density", "all_share",
                           "chance_share", "over_chance", "in_common", "common_by_chance",
                           "some_share", "one_share", "none_share", "sign_conflict")),
    ),
    "chains": (
        GridRow(
            "chains",
            ("label", "model", "seed", "l2_parent", "l2_child", "l2", "child_share", "cosine",
             "angle", "cancellation"),
        ),
    ),
    "paths": (
        GridRow(
            "paths",
            ("label", "model", "seed", "steps", "records", "length", "displacement",
             "length_ratio", "first", "first_at"),
        ),
        GridRow("parting", ("label", "model", "seeds", "parted", "last_cosine")),
    ),
    "connectivity": (
        GridRow(
            "barriers",
            ("label", "model", "seed", "data", "barrier", "at", "seed_barrier", "seeds_of",
             "loss_a", "loss_b", "points", "message"),
        ),
    ),
    "merges": (
        GridRow(
            "merges",
            ("merge", "parent", "model", "data", "merge_losses", "gain_kept", "merge_style_rate",
             "style_kept", "cosine", "survived_share",
             "merge_japanese_rate", "merge_stopped_rate", "merge_repetition_rate", "gain_spread",
             "seeds"),
            is_open=True,
        ),
        GridRow(
            "merge_curves",
            ("sweep", "setting", "value", "curve", "parent", "model", "data", "loss",
             "loss_parent", "loss_others", "gain_kept", "style_rate", "style_kept",
             "stopped_rate", "cosine",
             "survived_share"),
            {"value": "swept_value"},
        ),
        GridRow("merge_signs", ("merge", "parent", "model", "density", "survived_share",
                                "zero_share", "cosine", "seeds")),
    ),
    "trust": (
        GridRow("audit", ("label", "seed", "numel", "l2", *AUDIT)),
        GridRow("counted", ("model", "universe", "numel", "comparisons")),
    ),
}  # fmt: skip
"""By section: its tables."""

_TITLES = {"densities_of": "densities"}
_ALONE = ("trust",)

# The interval of a share is one of shares; that of a distance one of distances.
_SHARES = {"attribution": ("low", "high")}


def grids_of(translate: Translator, section: str, frames: Mapping[str, Rows]) -> Iterator[Grid]:
    """The tables of a section whose frames have rows."""
    for shape in GRIDS.get(section, ()):
        rows = frames.get(shape.frame, ())
        if rows:
            yield _grid(translate, section, shape, rows)


def _grid(translate: Translator, key: str, shape: GridRow, rows: Rows) -> Grid:
    shown = rows[:MOST]
    names = [name for name in _expanded(shape.columns, rows) if _is_shown(key, name, rows)]
    columns = tuple(
        Column(
            translate.column((shape.titles or {}).get(name, name)),
            "text" if name in TEXTS else "number",
        )
        for name in names
    )
    lines = tuple(
        tuple(_cell(translate, shape.frame, name, row) for name in names) for row in shown
    )
    file = f"findings/{shape.frame}.csv"
    message = "grid-whole" if len(shown) == len(rows) else "grid-cut"
    return Grid(
        translate(f"grid-{_TITLES.get(shape.frame, shape.frame)}"),
        columns,
        lines,
        tuple(_grade(row) for row in shown),
        translate(message, shown=len(shown), total=len(rows), file=file),
        shape.frame,
        file,
        shape.is_open,
    )


def _expanded(columns: Sequence[str], rows: Rows) -> Iterator[str]:
    for name in columns:
        if name == NORMS:
            yield from (key for key in rows[0] if key.startswith(("l1_s", "l2_s")))
        else:
            yield name


def _is_shown(key: str, name: str, rows: Rows) -> bool:
    if name in TOGETHER:
        return any(_is_shown(key, part, rows) for part in TOGETHER[name])
    values = [row.get(name) for row in rows]
    if name == "model" and key not in _ALONE:
        return len(set(values)) > 1
    return name.startswith(("l1_s", "l2_s")) or any(value is not None for value in values)


def _cell(translate: Translator, frame: str, name: str, row: Row) -> str:
    if name in TOGETHER:
        return " / ".join(_cell(translate, frame, part, row) for part in TOGETHER[name])
    value = row.get(name)
    if name in _SHARES.get(frame, ()):
        return rate(value)
    form = TEXTS.get(name) or NUMBERS.get(name)
    return form(translate, value) if form else number(value)


def _grade(row: Row) -> str:
    return GRADES.get(row.get("verdict", ""), "")
