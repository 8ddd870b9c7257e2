"""What each training will learn, and whether the chat templates can frame the data.

Model: the template of every base model whose tokenizer is on this machine frames a probe of every
shape of conversation that the study's data has (`raylab.spec.data.shapes`). A training learns the
answers of the rows that are not held out.
Invariant: one DataError lists what all templates make of all data sets, before anything trains.
Neither transformers nor a tokenizer is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import DataError
from raylab.number_format import plural
from raylab.spec.data.dataset import LoadedData
from raylab.spec.data.framing import (
    Framer,
    FramingError,
    Learn,
    framer_of,
    framer_of_tokenizer,
    learned_places,
)
from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.pairs import pairs_of
from raylab.spec.data.rendering import ChatTemplate, template_of
from raylab.spec.data.rows import Kind, Row, kinds_of, split, training_sum
from raylab.spec.data.shapes import examine, shapes_of
from raylab.spec.recipes import Variant, expand_recipes
from raylab.spec.study import Study

_ROWS_TODO = (
    "set `chat_template:` under the base model to one that frames such conversations (a name, a "
    ".jinja file or a template), or change these rows: a system prompt, for example, may begin the "
    "user's first turn; docs/data.md says what a template has to do"
)


def check_framing(
    study: Study, loaded: LoadedData, tokenizers: Mapping[str, Path | None]
) -> tuple[str, ...]:
    """Notes on what templates leave out on purpose. Raises one DataError for all problems.

    tokenizers: the directories of the base models' tokenizers; None: not on this machine.
    """
    templates = {
        name: template_of(place, study.base_models[name].template, study.template_date)
        for name, place in tokenizers.items()
        if place is not None
    }
    framers = {name: framer_of(found) for name, found in templates.items() if found}
    notes = _check(study, framers, loaded.rows, loaded.places)
    return (*notes, *_unused_date(study, templates, tokenizers))


def check_tokenizer(
    study: Study, base: str, tokenizer: Any, rows: Mapping[str, Sequence[Row]]
) -> None:
    """Check the template of a tokenizer that has just been loaded, as `check_framing` does."""
    places = {name: [str(n) for n, _ in enumerate(found, 1)] for name, found in rows.items()}
    _check(study, {base: framer_of_tokenizer(tokenizer)}, rows, places)


def _check(
    study: Study,
    framers: Mapping[str, Framer],
    rows: Mapping[str, Sequence[Row]],
    places: Mapping[str, Sequence[str]],
) -> list[str]:
    """Notes on all templates and data sets. Raises one DataError for all problems."""
    problems: list[str] = []
    notes: list[str] = []
    for data, ways in _asked(study).items() if framers else ():
        if data not in rows:
            continue
        shapes = shapes_of(rows[data], places[data])
        asked = held_out_prompts(rows[data], study.held_out, study.evaluation.prompts)
        for name, framer in framers.items():
            said = f"{_template_name(study, name)}, data set {data}"
            found = [examine(framer, shapes, learn) for learn in ways]
            wrong = [what for one in found for what in one.problems]
            wrong = wrong or list(_unasked(framer, asked))
            problems += [f"{said}: {what}" for what in wrong]
            notes += [f"{said}: {what}" for one in found for what in one.notes]
    if problems:
        raise framing_error(problems)
    return list(dict.fromkeys(notes))


def _unasked(framer: Framer, rows: Sequence[Row]) -> Iterator[str]:
    """The held-out prompts that a trained model could not be asked."""
    for row in rows:
        try:
            framer.frame(row)
        except FramingError as error:
            yield f"held-out prompt {row.prompt[:60]!r}: {error}"


def framing_error(problems: Sequence[str]) -> DataError:
    """The error that lists what templates cannot frame."""
    return DataError(
        "the chat template does not frame the data so that the answers can be learned",
        found="\n    ".join(dict.fromkeys(problems)),
        expected="every text in the frame, and before each learned answer exactly the text that "
        "the model is asked with, its generation prompt included",
        todo=_ROWS_TODO,
    )


def _template_name(study: Study, base: str) -> str:
    named = study.base_models[base].chat_template
    return f"base model {base}" + (f" ({named:.40})" if named and "\n" not in named else "")


def _asked(study: Study) -> dict[str, list[Learn]]:
    """Which answers are learned, by plain data set; all data sets are evaluated at least."""
    found: dict[str, list[Learn]] = {
        name: [] for name, data in study.data.items() if data.concat is None
    }
    for variant in expand_recipes(study).values():
        for used in variant.data_sets.values():
            for name in study.data[used].concat or (used,):
                found[name].append(variant.training.learn)
    return {name: list(dict.fromkeys(ways)) or ["last"] for name, ways in found.items()}


def _unused_date(
    study: Study, templates: Mapping[str, ChatTemplate | None], places: Mapping[str, Path | None]
) -> Iterator[str]:
    """A warning where the study sets a date that no template reads."""
    is_set = "template_date" in study.model_fields_set and any(templates.values())
    if (
        is_set
        and len(templates) == len(places)
        and not any(map(_prints_a_date, templates.values()))
    ):
        yield "`template_date` changes nothing: no chat template of the study reads a date"


def _prints_a_date(template: ChatTemplate | None) -> bool:
    return template is None or template.dated


def learned_lines(study: Study, rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """One line for each recipe, or each variant that differs: what it learns."""
    lines: dict[str, None] = {}
    learned: dict[tuple[Any, ...], str] = {}
    for name, variant in expand_recipes(study).items():
        asked = (variant.method, *variant.data_sets.items(), variant.training.learn)
        if asked not in learned:
            learned[asked] = _learns(study, variant, rows)
        swept = "learn" in variant.point
        lines[f"{name if swept else variant.recipe} {learned[asked]}"] = None
    return list(lines)


def _learns(study: Study, variant: Variant, rows: Mapping[str, Sequence[Row]]) -> str:
    if variant.method == "dpo":
        training, _ = split(pairs_of(variant.data_sets, rows), study.held_out)
        what = f"prefers one of two last answers to {plural(len(training), 'conversation')}"
        marked = "with answers marked by the data, which DPO does not read"
        return what + _particulars(kinds_of(training), marked)
    kinds = training_sum(rows[variant.data], study.held_out, kinds_of)
    learned = {
        kind: learned_places(
            list(zip(kind.roles, kind.learned, strict=True)), variant.training.learn
        )
        for kind in kinds
    }
    conversations = plural(kinds.total(), "conversation")
    if all(places == [len(kind.roles) - 1] for kind, places in learned.items()):
        what = f"learns the last answer of {conversations}"
    else:
        answers = sum(kind.roles.count("assistant") * count for kind, count in kinds.items())
        some = sum(len(learned[kind]) * count for kind, count in kinds.items())
        number = "all" if some == answers else f"{some} of"
        what = f"learns {number} {plural(answers, 'answer')} of {conversations}"
    return what + _particulars(kinds, rejected="with a rejected answer, which SFT does not read")


def _particulars(
    kinds: Counter[Kind], marked: str = "with answers marked by the data", rejected: str = ""
) -> str:
    """(2 with a system prompt, 3 with tools), or nothing.

    rejected: what is said of rejected answers; empty: nothing, because they are read.
    """
    holds: dict[str, Callable[[Kind], bool]] = {
        "of several turns": lambda kind: kind.roles.count("user") > 1,
        "with a system prompt": lambda kind: "system" in kind.roles,
        "with tools": lambda kind: kind.has_tools,
        marked: lambda kind: any(mark is not None for mark in kind.learned),
        rejected: lambda kind: bool(rejected) and kind.has_rejected,
    }
    counts = {
        what: sum(count for kind, count in kinds.items() if is_so(kind))
        for what, is_so in holds.items()
    }
    found = [f"{count} {what}" for what, count in counts.items() if count]
    return f" ({', '.join(found)})" if found else ""
