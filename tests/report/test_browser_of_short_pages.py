"""Pages of two studies, two models and a merge in a real browser: they fit, and say no error."""

from __future__ import annotations

import pytest

from raylab.report.page.render import render_html
from raylab.report.study_tables import Tables
from tests.report.browser import Browser
from tests.report.conftest import make_study
from tests.report.needs import chromium, japanese_fonts
from tests.report.page import test_comparison_page as comparison
from tests.report.page import test_difference_page as difference
from tests.report.page import test_merge_page as merge
from tests.report.reading import (
    BLOCKS,
    FIRST_SCREEN,
    activate_figures,
    cut_texts,
    overlaps,
    text_contrasts,
    widths,
)

pytestmark = pytest.mark.slow
PAGES = ("comparison", "difference", "merge")
WINDOWS = (("en", 400, "dark"), ("en", 1280, "light"), ("ja", 400, "light"), ("ja", 1280, "dark"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(chromium(), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def pages(whole_tables, tmp_path_factory):
    """(page, language) -> the address of its file."""
    folder = tmp_path_factory.mktemp("pages")
    trials = [
        row | {"l2": row["l2"] and row["l2"] * (1 + place / 40)}
        for place, row in enumerate(whole_tables["trials"])
    ]
    mine = Tables.of(whole_tables)
    other = Tables.of({**whole_tables, "trials": trials[1:], "functions": []})
    study = make_study(held_out=0.3, seeds=[42, 100, 7])
    found = {}
    for language in ("en", "ja"):
        made = {
            "comparison": comparison.page(other, mine=mine, study=study, language=language),
            "difference": difference.page(language),
            "merge": merge.page(language, scope="tensor"),
        }
        for name, page in made.items():
            file = folder / f"{name}.{language}.html"
            file.write_text(render_html(page), encoding="utf-8")
            found[name, language] = file.as_uri()
    return found


@pytest.mark.parametrize(("language", "width", "scheme"), WINDOWS)
@pytest.mark.parametrize("name", PAGES)
def test_short_page_fits_and_nothing_is_cut_or_lies_over_another(
    browser, pages, name, language, width, scheme
):
    if language == "ja":
        japanese_fonts()
    with browser.tab(width, scheme) as tab:
        tab.open(pages[name, language])
        activate_figures(tab)
        assert overlaps(tab, FIRST_SCREEN) == []
        tab.run("() => document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        whole, window = widths(tab)
        assert whole <= window == width
        assert cut_texts(tab) == [] and overlaps(tab, BLOCKS) == []
        assert [found for found in text_contrasts(tab, "body") if found[0] < 4.5] == []
        assert (tab.console, tab.exceptions, tab.requests) == ([], [], [])


def test_cells_of_both_studies_lead_to_their_sentences(browser, pages):
    with browser.tab() as tab:
        tab.open(pages["comparison", "en"])
        places = tab.run(
            "() => [...document.querySelectorAll('.verdicts td a[href]')].map("
            "(e) => document.getElementById(decodeURIComponent(e.hash.slice(1)))?.textContent)"
        )
        assert len(places) > 5 and all(places)
        tab.click("document.querySelector('.verdicts td a[href]')")
        tab.when("#sentences", "root.querySelector('details').open")
