"""Figures of effects, as specifications."""

from __future__ import annotations

import json

import pytest

from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing
from raylab.report.findings.every_finding import find_all
from raylab.report.study_tables import Tables
from raylab.report.words import LANGUAGES, translator


@pytest.mark.parametrize("language", LANGUAGES)
def test_layer_likeness_of_seeds_is_dashed_and_of_factors_whole_in_any_language(
    whole_tables, language
):
    translate, frames = translator(language), find_all(Tables.of(whole_tables))["functions"].frames
    figure = FIGURES["cka"].draw(translate, frames, "elyza")
    spec = json.loads(Drawing.of(figure.chart).spec)
    dash = spec["encoding"]["strokeDash"]["scale"]
    dashes = dict(zip(dash["domain"], dash["range"], strict=True))
    assert dashes == {translate("legend-cka"): [1, 0], translate("legend-seeds_cka"): [4, 2]}
    assert {point["of"] for point in spec["data"]["values"]} == set(dashes)
