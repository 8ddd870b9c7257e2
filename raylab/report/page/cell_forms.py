"""How the values of frames are written in the cells of a table: by the name of the column.

Model: a column of texts has a row of TEXTS, one of numbers a row of NUMBERS; a number without a
row has the usual form.
Invariant: None is a dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raylab.number_format import MISSING, count, duration, rate, setting
from raylab.report.findings.merge_rows import RATES, SIDES
from raylab.report.words import Translator

AUDIT = ("merged_error", "merged_false_zeros", "dequantized_error", "dequantized_false_zeros")
_OF_ANSWERS = tuple(f"{name}{of}" for name in RATES for of in SIDES)

Form = Callable[[Translator, Any], str]


def _plain(translate: Translator, value: Any) -> str:
    return MISSING if value is None else str(value)


def _cosine(translate: Translator, value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


TEXTS: dict[str, Form] = {
    "factor": lambda translate, value: translate.factor(value),
    "verdict": lambda translate, value: translate(f"short-{value}"),
    "norm_verdict": lambda translate, value: translate(f"short-{value}"),
    **dict.fromkeys(("response", "what", "space"), lambda translate, value: translate.word(value)),
    "basis": lambda translate, value: translate.word(value) if value else MISSING,
    **dict.fromkeys(
        (
            "label",
            "pair",
            "model",
            "source",
            "also",
            "level",
            "key",
            "name",
            "nearest",
            "kind",
            "universe",
            "first",
            "data",
            "seeds_of",
            "message",
            "group",
            "view",
            "answers",
            "prompt",
            "token",
            "top_a",
            "top_b",
            "merge",
            "parent",
            "sweep",
            "setting",
            "curve",
        ),
        _plain,
    ),
}
NUMBERS: dict[str, Form] = {
    "learning_rate": lambda translate, value: setting(value),
    **dict.fromkeys(("density", "tolerance"), lambda translate, value: setting(value)),
    "epsilon": lambda translate, value: setting(value),
    "angle": lambda translate, value: MISSING if value is None else f"{value:.0f}°",
    "seconds": lambda translate, value: duration(value),
    **dict.fromkeys(("seed", "layer", "position"), _plain),
    **dict.fromkeys(
        ("cosine", "silhouette", "within", "between", "last_cosine", "cka", "seeds_cka"), _cosine
    ),
    **dict.fromkeys(
        ("seeds", "models", "pairs", "seed_pairs", "df", "observations", "residual_df", "levels",
         "num_keep", "at_or_above", "numel", "comparisons", "steps", "records", "points", "top"),
        lambda translate, value: count(value),
    ),
    **dict.fromkeys(
        ("moved_share", "in_common", "common_by_chance", "seed_spread", "nonzero_share",
         "all_share", "chance_share", "some_share", "one_share", "none_share", "sign_conflict",
         "p_a", "p_b", "share", "partial_share", "relative_distance", "half_l1", "half_l2",
         "l2_in_1", "l2_in_10", "l1_share", "l2_share", "child_share", "cancellation",
         "first_at", "parted", "intruder_share", "intruder_spread", "share_left",
         "left_spread", "share_right", "right_spread", "gain_kept", "style_kept", "gain_spread",
         "survived_share", "zero_share", *_OF_ANSWERS, *AUDIT),
        lambda translate, value: rate(value),
    ),
}  # fmt: skip
