"""One line on what was studied."""

from __future__ import annotations

from raylab.report.page.studied import settings_text, studied_line
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.conftest import make_study, make_trials


def test_studied_line_has_base_recipes_data_seeds_and_trials_by_status():
    trials = make_trials()
    line = studied_line(translator(), make_study(), Tables.of({"trials": trials}))
    for part in ("elyza (elyza/Llama-3-ELYZA-JP-8B)", "11 recipes", "SFT, DPO and DPO after SFT",
                 "data D0, D1 and D2", "seeds 42 and 100", "22 trials (22 done)"):  # fmt: skip
        assert part in line


def test_studied_line_ends_with_the_day_of_the_last_attempt():
    ends = [(0.0, 86_400.0 * 365 - 1), (86_400.0 * 364, 10.0)]
    attempts = [
        {"trial_id": "x", "name": "x", "attempt": place, "started": started, "seconds": seconds}
        for place, (started, seconds) in enumerate(ends)
    ]
    tables = {"trials": make_trials(), "attempts": attempts}
    line = studied_line(translator(), make_study(), Tables.of(tables))
    assert line.endswith("1970-12-31")
    attempts[0]["started"] = attempts[1]["started"] = None
    line = studied_line(translator(), make_study(), Tables.of(tables))
    assert "1970" not in line


def test_settings_text_has_rates_adapter_and_densities():
    text = settings_text(translator(), make_study(), make_trials())
    assert "r = 8" in text and "1e-5 and 1e-4" in text


def test_studied_line_of_no_trials_has_no_empty_brackets():
    line = studied_line(translator(), make_study(), Tables.of({"trials": []}))
    assert line.endswith("0 trials")
