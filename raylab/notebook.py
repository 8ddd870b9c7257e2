"""A study in a notebook: its tables as pandas frames, its findings, its figures.

Model: `raylab.open(OUT)` reads the tables of a store once. Findings and figures are made of them,
as in the report.
Invariant: nothing in the store changes, and a frame that the caller changes changes no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import altair as alt
import pandas as pd

from raylab.errors import InputError, ModelError
from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import themed
from raylab.report.findings.every_finding import find_all
from raylab.report.findings.finding import Finding
from raylab.report.study_tables import Tables
from raylab.report.words import Translator, translator
from raylab.spec.study import Study
from raylab.store.filesystem import Store
from raylab.store.references import read_study
from raylab.store.schemas import SCHEMAS
from raylab.store.studies import store_of_study
from raylab.store.tables import read_tables


@dataclass(frozen=True)
class FindingText:
    """One finding in words; `frames` are its numbers, by name."""

    key: str
    title: str
    sentences: tuple[str, ...]
    frames: Mapping[str, pd.DataFrame]

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {sentence}" for sentence in self.sentences)])


class Results:
    """The results of a study. `results.trials`, `results.norms` and so on are its tables."""

    def __init__(self, out: str, study: str | None = None) -> None:
        """Read the tables at `out`, a directory or URI, of `study` [the one that ran last].

        Raises StoreError, ModelError.
        """
        self.store = Store(out)
        place = self.store if study is None else store_of_study(self.store, study)
        if place is None:
            raise ModelError(
                "the study is not there", found=study, expected="a study that ran in this OUT"
            )
        self.study: Study = read_study(place)
        self._arrow = read_tables(place)

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name not in SCHEMAS:
            raise AttributeError(f"{name}: the tables are {', '.join(SCHEMAS)}")
        return self._arrow[name].to_pandas()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *SCHEMAS]

    @cached_property
    def _findings(self) -> dict[str, Finding]:
        return find_all(Tables.of_study(self.study, self._arrow))

    def findings(self, lang: str = "en") -> dict[str, FindingText]:
        """Every finding, by key: its sentences in a language, its numbers as frames."""
        translate = translator(lang)
        return {key: in_words(translate, finding) for key, finding in self._findings.items()}

    def figure(
        self, name: str, model: str | None = None, lang: str = "en", **choice: Any
    ) -> alt.TopLevelMixin:
        """A figure of the report for one base model [the first]; it draws itself in a notebook.

        `choice` holds the figure's own options: `recipe` for "heatmap", `response` for
        "attribution", `measure` for "similarity", `distance` and `factor` for "map". Raises
        InputError where there is no such figure or nothing to show.
        """
        if name not in FIGURES:
            raise InputError("no figure has this name", found=name, expected=", ".join(FIGURES))
        base = model or next(iter(self.study.base_models))
        kind = FIGURES[name]
        figure = kind.draw(translator(lang), self._findings[kind.finding].frames, base, **choice)
        if figure is None:
            raise InputError(
                f"the figure {name} has nothing to show",
                found=base,
                expected="a base model of the study that was measured",
            )
        return alt.Chart.from_dict(themed(figure.chart))

    def result_grid(self) -> Any:
        """Ray Tune's ResultGrid of the last training."""
        from raylab.cluster.tune import result_grid

        return result_grid(self.store)


def in_words(translate: Translator, finding: Finding) -> FindingText:
    """A finding in a language: each sentence behind its subject, unless that is the title."""
    parts = finding.sentences
    frames = {name: pd.DataFrame(rows) for name, rows in finding.frames.items()}
    # The title says the section.
    of_title = f"section-{finding.key}"
    sentences = tuple(
        translate.sentence(part) if part.head == of_title else translate.whole_sentence(part)
        for part in parts
    )
    return FindingText(finding.key, translate(f"section-{finding.key}"), sentences, frames)
