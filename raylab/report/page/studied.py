"""What was studied: one line for the first screen, and the settings of all trainings.

Model: functions from the study and its tables to text. The date is that of the last attempt's end,
as the attempts table has it, so that the same tables give the same line.
Invariant: every trial and merge is counted, by its status.
"""

from __future__ import annotations

import datetime
import itertools
from pathlib import PurePath

from raylab.number_format import setting
from raylab.report.page.trials import status_counts, trial_count
from raylab.report.study_tables import Rows, Tables, finite
from raylab.report.words import Translator
from raylab.spec.merge_methods import is_merge
from raylab.spec.study import Study
from raylab.spec.swept_names import rate_text


def studied_line(translate: Translator, study: Study, tables: Tables) -> str:
    """Base models, recipes, data, seeds, trials by status, and the date, as one line."""
    trials = tables["trials"]
    asked = [row for row in trials if not is_merge(row)]
    states = [
        translate("lead-state", count=item.head, status=item.text)
        for item in status_counts(translate, trials)
    ]
    amount = trial_count(translate, trials)
    recipes = {row["recipe"] for row in asked}
    data = list(dict.fromkeys(row["data"] for row in asked if row["data"]))
    parts = [
        translate.listing(_bases(study)),
        translate("studied-recipes", count=len(recipes), methods=_methods(translate, asked))
        if asked else "",
        translate("studied-data", data=data) if data else "",
        _seeds(translate, study),
        translate("studied-trials", amount=amount, states=states) if states else amount,
        _date(tables["attempts"]),
    ]  # fmt: skip
    return translate("studied-separator").join(part for part in parts if part)


def settings_text(translate: Translator, study: Study, trials: Rows) -> str:
    """The learning rates, the adapter, the quantisation and the densities of the study."""
    asked = (row for row in trials if not is_merge(row))
    rates = {row["learning_rate"]: rate_text(row["name"], row["learning_rate"]) for row in asked}
    written = [*rates.values()]
    return translate(
        "lead",
        adapter=_adapter(translate, study),
        rates=translate("lead-rates", count=len(written), rates=written) if written else "",
        densities=translate.listing(map(setting, study.densities)),
    )


def _methods(translate: Translator, trials: Rows) -> list[str]:
    """The methods of training, with that of the parent where there is one."""
    methods = {row["name"]: str(row["method"]).upper() for row in trials}
    found = [
        translate("studied-after", method=methods[row["name"]], parent=methods[row["parent"]])
        if row["parent"] in methods
        else methods[row["name"]]
        for row in trials
    ]
    return list(dict.fromkeys(found))


def _bases(study: Study) -> list[str]:
    return [
        f"{name} ({place.hub or PurePath(place.path or '').name})"
        for name, place in study.base_models.items()
    ]


def _seeds(translate: Translator, study: Study) -> str:
    own = (recipe.seeds for recipe in study.recipes.values() if recipe.seeds)
    seeds = list(dict.fromkeys(itertools.chain(study.seeds, *own)))
    return translate("lead-seeds", count=len(seeds), seeds=seeds)


def _date(attempts: Rows) -> str:
    """The day on which the last attempt ended, in UTC; nothing where no attempt has a time."""
    ends = [
        row["started"] + (finite(row["seconds"]) or 0.0)
        for row in attempts
        if finite(row["started"])
    ]
    if not ends:
        return ""
    return datetime.datetime.fromtimestamp(max(ends), datetime.UTC).date().isoformat()


def _adapter(translate: Translator, study: Study) -> str:
    held, lora = study.quantization, study.lora
    bits = "16" if held.bits != 4 else "4_double" if held.double else "4"
    modules = lora.target_modules
    return translate(
        "lead-adapter",
        base=translate(f"lead-bits_{bits}", dtype=held.compute_dtype, type=held.type),
        r=lora.r,
        alpha=lora.alpha,
        dropout=lora.dropout,
        where=translate("lead-all_linear")
        if isinstance(modules, str)
        else translate.listing(modules),
        stabilised=translate("lead-stabilised") if lora.rslora else "",
    )
