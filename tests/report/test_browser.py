"""The HTML report in a real browser: no messages, no overflow, live figures, print, no scripts."""

from __future__ import annotations

import itertools
import re

import pytest

from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing
from raylab.report.figures.vega_lite import Chart
from raylab.report.findings.every_finding import find_all
from raylab.report.page.blocks import Item
from raylab.report.page.page import ON_FIRST_SCREEN, make_page
from raylab.report.page.render import render_html
from raylab.report.words import translator
from raylab.store.schemas import SCHEMAS
from tests.report.browser import Browser
from tests.report.conftest import make_study
from tests.report.needs import chromium, japanese_fonts
from tests.report.reading import (
    BLOCKS,
    CELLS,
    FIRST_SCREEN,
    HEATMAP,
    activate_figures,
    columns,
    contrasts,
    cut_texts,
    figures,
    for_each,
    heat,
    heat_rows,
    overlaps,
    paper,
    rows,
    show_all_rows,
    table,
    text_contrasts,
    tools,
    value_of,
    widths,
)
from tests.report.whole import LAYERS, MODULES
from tests.report.whole_merges import merges, with_merges

pytestmark = pytest.mark.slow  # The first test makes two reports.
SCHEMES = ("light", "dark")
LANGUAGES = ("en", "ja")
WIDTHS = (400, 800, 1280, 1920)
ALL = [
    f"figure-{name}-elyza"
    for name, found in FIGURES.items()
    if found.finding not in ON_FIRST_SCREEN
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(chromium(), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def reports(browser, whole_tables, tmp_path_factory):
    """By language: the address of a report with every section and figure."""
    tables = with_merges(whole_tables)
    findings = find_all(tables)
    folder = tmp_path_factory.mktemp("reports")
    # Addresses are the longest words of a page.
    places = [Item("CSV", f"{folder}/report/tables: {', '.join(SCHEMAS)}")]
    addresses = {}
    for language in LANGUAGES:
        page = make_page(make_study(), tables, findings, translator(language), places)
        file = folder / f"{language}.html"
        file.write_text(render_html(page), encoding="utf-8")
        addresses[language] = file.as_uri()
    return addresses


@pytest.fixture
def tab(browser, reports):
    """The English report in a wide light window, all of its figures alive."""
    with browser.tab() as tab:
        tab.open(reports["en"])
        activate_figures(tab)
        yield tab


def test_browser_of_a_page_that_fails_has_all_its_messages(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<script>console.error('said'); fetch('http://127.0.0.1:9/asked').catch(() => 0);"
        " Promise.reject(new Error('thrown'))</script><img src='http://127.0.0.1:9/image'>"
    )
    with browser.tab() as tab:
        tab.open(page.as_uri())
        assert "said" in tab.console
        assert "thrown" in tab.exceptions[0]
        assert sorted(tab.requests) == ["http://127.0.0.1:9/asked", "http://127.0.0.1:9/image"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page_in_any_window_fits_and_nothing_is_cut_or_lies_over_another(
    browser, reports, language, scheme, width
):
    with browser.tab(width, scheme) as tab:
        tab.open(reports[language])
        assert overlaps(tab, FIRST_SCREEN) == []
        for folds in ("closed", "open"):
            whole, window = widths(tab)
            assert whole <= window == width, folds
            assert cut_texts(tab) == [], folds
            assert overlaps(tab, BLOCKS) == [], folds
            too_pale = [found for found in text_contrasts(tab, "body") if found[0] < 4.5]
            assert too_pale == [], folds
            tab.run("() => document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        assert (tab.console, tab.exceptions, tab.requests) == ([], [], [])


def test_sweeps_of_merges_on_a_phone_are_seen_whole(browser, reports):
    with browser.tab(400, "light") as tab:
        tab.open(reports["en"])
        activate_figures(tab)
        fits = for_each(
            tab,
            "figure[id^='figure-merge']",
            "e.querySelector('.chart svg').getBoundingClientRect().width <= e.clientWidth",
        )
        assert len(fits) == 2
        assert all(fits)


@pytest.mark.parametrize(
    ("language", "width", "scheme"), [("en", 1280, "light"), ("ja", 400, "dark")]
)
def test_figures_in_any_window_are_drawn_without_messages(
    browser, reports, language, width, scheme
):
    with browser.tab(width, scheme) as tab:
        tab.open(reports[language])
        assert figures(tab) == ALL
        activate_figures(tab)
        drawn = for_each(tab, "figure .chart svg", "e.getBoundingClientRect().width")
        assert len(drawn) == len(ALL)
        assert min(drawn) > 0
        assert (tab.console, tab.exceptions, tab.requests) == ([], [], [])
        whole, window = widths(tab)
        assert whole <= window == width
        assert overlaps(tab, BLOCKS) == []


def test_every_id_is_of_one_element_and_every_link_inside_the_page_leads_to_one(tab):
    ids = for_each(tab, "[id]", "e.id")
    assert len(ids) == len(set(ids))
    links = for_each(tab, "a[href^='#']", "decodeURIComponent(e.hash.slice(1))")
    assert set(links) <= set(ids)


def test_choice_with_a_long_name_does_not_widen_the_page(browser, reports):
    with browser.tab(400) as tab:
        tab.open(reports["en"])
        activate_figures(tab)
        long = "(name) => document.querySelectorAll('select option').forEach((e) => e.text = name)"
        tab.run(long, "x" * 300)
        assert widths(tab) == (400, 400)


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_screen_is_seen_at_once(browser, reports, language):
    parts = ("h1", ".studied", "header .answer", ".verdicts", ".plot", ".cautions")
    with browser.tab(1280) as tab:
        tab.open(reports[language])
        ends = [for_each(tab, part, "e.getBoundingClientRect().bottom")[0] for part in parts]
        assert max(ends) <= 900
    with browser.tab(400) as tab:
        tab.open(reports[language])
        tops = [for_each(tab, part, "e.getBoundingClientRect().top")[0] for part in parts]
        assert tops == sorted(tops)


def test_verdict_pointed_at_says_its_sentence_and_clicked_leads_to_it(tab):
    link = "document.querySelector('.verdicts tbody td a')"
    place = tab.run(f"() => decodeURIComponent({link}.hash.slice(1))")
    tab.run(f"() => {link}.focus()")
    said = tab.run("() => document.querySelector('.said').textContent")
    assert said.startswith("Size of the change: ")
    fold = f"document.getElementById({place!r}).closest('details')"
    assert not tab.run(f"() => {fold}.open")
    tab.click(link)
    tab.when("#effects", "root.querySelector('details[open] li:target')")
    assert tab.run(f"() => document.getElementById({place!r}).innerText").endswith(said)


def test_table_shows_ten_rows_and_all_where_they_are_asked_for(tab):
    assert len(rows(tab, "trials")) == 10
    tab.click(f"document.querySelector('{tools('trials')} .all')")
    assert len(rows(tab, "trials")) == 22 + len(merges())


def test_answers_searched_show_the_prompts_that_have_it_alone(tab):
    field = "document.querySelector('.answers input')"
    before = len(for_each(tab, ".answers article", "e.id"))
    tab.click(field)
    tab.type("LoRA")
    shown = for_each(tab, ".answers article:not([hidden]) h4", "e.textContent")
    assert shown and all("LoRA" in prompt for prompt in shown)
    assert len(for_each(tab, ".answers article", "e.id")) > before == 3


def test_figure_drawn_ends_above_what_follows_it(tab):
    below = "e.closest('figure').getBoundingClientRect().bottom - e.getBoundingClientRect().bottom"
    assert min(for_each(tab, "figure .chart svg", below)) > -1


def test_figure_has_its_caption_and_main_numbers_for_who_does_not_see_it(tab):
    labels = for_each(tab, "main figure .chart", "e.ariaLabel")
    captions = for_each(tab, "main figure figcaption", "e.firstChild.data.trim()")
    answers = for_each(tab, "main section:has(figure) > p:not(.note)", "e.textContent")
    for label, caption in zip(labels, captions, strict=True):
        # A caption that follows a reader's choice may have changed at its end.
        assert label.startswith(caption[:40])
        assert re.search(r"\d", label.removeprefix(caption))
    assert all(any(answer in label for label in labels) for answer in answers)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_chart_text_in_either_scheme_stands_out_from_the_paper(browser, reports, scheme):
    with browser.tab(scheme=scheme) as tab:
        tab.open(reports["en"])
        activate_figures(tab)
        found = contrasts(tab, "figure .chart svg text")
        assert len(found) > 100
        assert min(found) > 7
        red = int(re.findall(r"\d+", paper(tab))[0])
        assert (red > 127) == (scheme == "light")


def test_header_button_clicked_sorts_numbers_up_then_down_with_dashes_last(tab):
    show_all_rows(tab)
    with_dashes = {"trials": True, "differences": True, "counted": False, "densities_of": False}
    for name, dashes in with_dashes.items():
        numbers = [place for place, (_, form) in enumerate(columns(tab, name)) if form == "number"]
        assert numbers, name
        for place, way in itertools.product(numbers, ("ascending", "descending")):
            head = f"document.querySelectorAll('{table(name)} th[scope=col]')[{place}]"
            tab.click(f"{head}.querySelector('button')")
            found = [row[place] for row in rows(tab, name)]
            known = [text for text in found if text != "–"]
            values = [value_of(text) for text in known]
            assert found == [*known, *["–"] * (len(found) - len(known))], name
            assert values == sorted(values, reverse=way == "descending"), name
            assert tab.run(f"() => {head}.ariaSort") == way
        assert ("–" in found) == dashes, name


def test_filter_typed_hides_the_rows_without_it_and_emptied_shows_all(tab):
    show_all_rows(tab)
    before = rows(tab, "trials")
    field = f"document.querySelector('{tools('trials')} input')"
    tab.click(field)
    tab.type("SFT-D1.")
    wanted = [row for row in before if "sft-d1." in " ".join(row).lower()]
    assert 0 < len(wanted) < len(before)
    assert rows(tab, "trials") == wanted
    tab.run(f"() => {{ {field}.value = ''; {field}.dispatchEvent(new Event('input')); }}")
    assert rows(tab, "trials") == before


@pytest.mark.parametrize("allowed", ["granted", "denied"])
def test_copy_button_clicked_gives_the_rows_shown_as_tab_separated_text(tab, allowed):
    bar = tools("trials")
    tab.click(f"document.querySelector('{bar} input')")
    tab.type("dpo-d1")
    lines = [[title for title, _ in columns(tab, "trials")], *rows(tab, "trials")]
    assert len(lines) == 7
    written = "() => navigator.clipboard.writeText('').then(() => 'granted', () => 'denied')"
    for setting in ("granted", allowed):
        tab.allow("clipboard-write", setting)
        assert tab.run(written) == setting
    assert tab.pasted() == ""
    tab.click(f"document.querySelector('{bar} button')")
    tab.when(f"{bar} button", "root.textContent === 'copied'")
    assert tab.pasted() == "\n".join("\t".join(line) for line in lines)


def test_heat_map_cell_clicked_shows_the_rows_of_its_layer(tab):
    datum = tab.run(f"() => {CELLS}[40].__data__.datum")
    tab.click(f"{CELLS}[40]")
    place = (datum["of"], datum["layer"])
    wanted = [row for row in heat_rows(tab) if (row["of"], row["layer"]) == place]
    (_, title), *shown = for_each(
        tab, f"#{HEATMAP} .detail tr", "[...e.cells].map((cell) => cell.textContent)"
    )
    assert title == f"{datum['of']}, layer {datum['layer']}"
    assert len(wanted) == len(MODULES)
    assert [(kind, float(value)) for kind, value in shown] == [
        (row["kind"], row["value"]) for row in wanted
    ]


def test_heat_map_choice_changed_draws_another_and_says_which(tab):
    before = heat(tab)
    chosen = tab.run(
        "(id) => { const choice = document.querySelector(`#${id} select`);"
        " choice.selectedIndex = choice.options.length - 1;"
        " choice.dispatchEvent(new Event('change', {bubbles: true}));"
        " return choice.value; }",
        HEATMAP,
    )
    tab.when(f"#{HEATMAP} figcaption", f"root.textContent.includes({chosen!r})")
    cells = [(row["layer"], row["kind"]) for row in heat_rows(tab) if row["of"] == chosen]
    assert [(layer, kind) for layer, kind, _ in heat(tab)] == cells
    assert len(heat(tab)) == len(before) == LAYERS * len(MODULES)
    assert heat(tab) != before


def test_page_printed_from_a_dark_screen_has_pages_on_white_without_tools(browser, reports):
    with browser.tab(scheme="dark") as tab:
        tab.open(reports["en"])
        activate_figures(tab)
        bars = (".tools, nav, .choices", "getComputedStyle(e).display")
        assert set(for_each(tab, *bars)) == {"flex", "block"}
        assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf())) > 1
        tab.emulate("dark", "print")
        assert set(for_each(tab, *bars)) == {"none"}
        assert paper(tab) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_printed_on_a4_has_every_column_on_the_paper(browser, reports, language):
    with browser.tab() as tab:
        tab.open(reports[language])
        activate_figures(tab)
        tab.emulate("light", "print")
        # 210 mm less margins of 1 cm at 96 pixels an inch, without an event that figures react to.
        tab.run("() => { document.body.style.width = '718px'; document.body.style.margin = 0; }")
        assert max(for_each(tab, "th, td, figure svg", "e.getBoundingClientRect().right")) <= 718


def test_page_without_scripts_shows_sentences_the_first_figure_and_tables(browser, reports):
    with browser.tab(scripts=False) as tab:
        tab.open(reports["en"])
        assert len(for_each(tab, ".plot use", "e.getBoundingClientRect().x")) == 48
        notes = for_each(tab, "main figure noscript", "e.textContent")
        assert len(notes) == len(ALL)
        assert all("table below" in note for note in notes)
        assert len(rows(tab, "trials")) == 10
        links = for_each(tab, "main a[href$='.csv']", "e.getAttribute('href')")
        assert "tables/trials.csv" in links
        assert for_each(tab, ".tools, button, .ready", "e.outerHTML") == []
        assert tab.exceptions == []


def test_page_in_japanese_is_drawn_with_japanese_fonts(browser, reports):
    families = japanese_fonts()
    with browser.tab() as tab:
        tab.open(reports["ja"])
        activate_figures(tab)
        axis = (
            "[...document.querySelectorAll('.chart svg text')].find((e) => e.textContent === '層')"
        )
        tab.run(f"() => {{ {axis}.id = 'axis'; }}")
        for selector in ("#trials h2", "nav h2", "#axis"):
            (text,) = for_each(tab, selector, "e.textContent")[:1]
            found = tab.fonts(selector)
            assert set(found) <= families, selector
            assert sum(found.values()) == len(text)


def test_figure_as_png_in_japanese_has_glyphs_and_no_boxes():
    # Boxes, or nothing, in the place of missing glyphs would make the two alike.
    japanese_fonts()
    charts = [
        Chart({"values": [{"a": 1}]}).mark("text", text=text).properties(width=90)
        for text in ("学習", "層毎")
    ]
    assert Drawing.of(charts[0]).png != Drawing.of(charts[1]).png
