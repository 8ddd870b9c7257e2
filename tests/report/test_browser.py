"""The HTML report in a real browser: it is quiet, fits, lives, prints, and needs no scripts."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess

import pytest

from raylab.report.charts import CHARTS
from raylab.report.render import build_report
from raylab.store.paths import Store

from .browser import NAMES, Browser
from .conftest import make_study
from .whole import write_whole_study

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
LANGUAGES = ("en", "ja")
ALL = [f"figure-{name}-elyza" for name in CHARTS]
HEATMAP = "figure-heatmap-elyza"
# Relative luminance and contrast as WCAG 2 defines them, of computed colours.
CONTRAST = """(selector) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(selector)].map((text) => {
    const ink = light(getComputedStyle(text).fill);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}"""
TEXTS = "(selector) => [...document.querySelectorAll(selector)].map((e) => e.textContent)"
SIDEWAYS = """() => {
  const page = document.documentElement;
  return [page.scrollWidth, page.clientWidth];
}"""


def needed(found, what):
    """What a test cannot do without: where it is missing the test is skipped, but not in CI."""
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = needed(next(filter(None, map(shutil.which, NAMES)), None), "Chromium")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def reports(browser, tmp_path_factory):
    """By language: the address of a report with every section and figure."""
    store = Store(str(tmp_path_factory.mktemp("whole")))
    write_whole_study(store)
    found = {}
    for language in LANGUAGES:
        folder = tmp_path_factory.mktemp(language) / "report.html"
        shutil.copy(build_report(make_study(), store, language), folder)
        found[language] = folder.as_uri()
    return found


@pytest.fixture
def tab(browser, reports):
    """The English report in a wide light window."""
    with browser.tab() as tab:
        tab.open(reports["en"])
        yield tab


def figures(tab):
    return tab.run("() => [...document.querySelectorAll('figure')].map((f) => f.id)")


def liven(tab):
    """Scroll to every figure, and wait until it lives."""
    for name in figures(tab):
        tab.run("(id) => document.getElementById(id).scrollIntoView()", name)
        tab.when(f"#{name}", "root.classList.contains('ready')")


def test_browser_of_a_page_that_fails_tells_of_all_of_it(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<script>console.error('said'); fetch('http://127.0.0.1:9/asked').catch(() => 0);"
        " Promise.reject(new Error('thrown'))</script><img src='http://127.0.0.1:9/image'>"
    )
    with browser.tab() as tab:
        tab.open(page.as_uri())
        assert "said" in tab.said
        assert "thrown" in tab.thrown[0]
        assert sorted(tab.asked) == ["http://127.0.0.1:9/asked", "http://127.0.0.1:9/image"]


@pytest.mark.parametrize(
    ("language", "width", "scheme"), itertools.product(LANGUAGES, WIDTHS, SCHEMES)
)
def test_page_in_any_window_lives_is_quiet_and_fits(browser, reports, language, width, scheme):
    with browser.tab(width, scheme) as tab:
        tab.open(reports[language])
        before = tab.run(SIDEWAYS)
        assert figures(tab) == ALL
        liven(tab)
        drawn = tab.run(
            "() => [...document.querySelectorAll('figure .chart')].map((chart) =>"
            " [...chart.querySelectorAll('svg')].map((svg) => svg.getBoundingClientRect().width))"
        )
        assert all(len(widths) == 1 and widths[0] > 0 for widths in drawn)
        assert (tab.said, tab.thrown, tab.asked) == ([], [], [])
        for whole, window in (before, tab.run(SIDEWAYS)):
            assert whole <= window == width


@pytest.mark.parametrize("scheme", SCHEMES)
def test_chart_text_in_either_scheme_stands_out_from_the_paper(browser, reports, scheme):
    with browser.tab(scheme=scheme) as tab:
        tab.open(reports["en"])
        for drawn in ("static", "alive"):
            contrasts = tab.run(CONTRAST, "figure .chart svg text")
            assert len(contrasts) > 100, drawn
            assert min(contrasts) > 7, drawn
            liven(tab)
        # A screenshot is as dark as the scheme says: most of it is paper.
        paper = tab.run("() => getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"\d+", paper)[0])
        assert (red > 200) == (scheme == "light")


def columns(tab, name):
    return tab.run(
        "(found) => [...document.querySelectorAll(`table[data-name=${found}] thead th`)]"
        ".map((cell) => [cell.textContent, cell.className])",
        name,
    )


def cells(tab, name):
    return tab.run(
        "(found) => [...document.querySelectorAll(`table[data-name=${found}] tbody tr`)]"
        ".filter((row) => row.offsetHeight > 0)"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))",
        name,
    )


def table(name):
    return f"document.querySelector('table[data-name={name}]')"


def value_of(text):
    return float(text.replace(",", "").rstrip(" %°"))


@pytest.mark.parametrize("name", ["trials", "differences", "counted", "densities_of"])
def test_header_button_clicked_sorts_numbers_up_then_down_with_dashes_last(tab, name):
    numbers = [i for i, (_, form) in enumerate(columns(tab, name)) if form == "number"]
    dashes = 0
    for place in numbers:
        for way in ("ascending", "descending"):
            tab.click(f"{table(name)}.tHead.rows[0].cells[{place}].querySelector('button')")
            found = [row[place] for row in cells(tab, name)]
            known = [text for text in found if text != "–"]
            values = [value_of(text) for text in known]
            assert found == [*known, *["–"] * (len(found) - len(known))]
            assert values == sorted(values, reverse=way == "descending")
            sorts = f"() => {table(name)}.tHead.rows[0].cells[{place}].getAttribute('aria-sort')"
            assert tab.run(sorts) == way
            dashes += len(found) - len(known)
    assert numbers
    assert dashes or name != "trials"


def test_filter_typed_hides_the_rows_without_it_and_emptied_shows_all(tab):
    before = cells(tab, "trials")
    field = f"{table('trials')}.closest('.scroll').previousElementSibling.firstElementChild"
    tab.click(field)
    tab.type("SFT-D1.")
    wanted = [row for row in before if "sft-d1." in " ".join(row).lower()]
    assert 0 < len(wanted) < len(before)
    assert cells(tab, "trials") == wanted
    tab.run(f"() => {{ {field}.value = ''; {field}.dispatchEvent(new Event('input')); }}")
    assert cells(tab, "trials") == before


@pytest.mark.parametrize("allowed", ["granted", "denied"])
def test_copy_button_clicked_gives_the_rows_shown_as_tab_separated_text(tab, allowed):
    tools = f"{table('trials')}.closest('.scroll').previousElementSibling"
    tab.click(f"{tools}.querySelector('input')")
    tab.type("dpo-d1")
    lines = [[name for name, _ in columns(tab, "trials")], *cells(tab, "trials")]
    tab.allow("clipboard-write", allowed)
    tab.click(f"{tools}.querySelector('button')")
    tab.when("table[data-name=trials]", "true")
    assert tab.pasted() == "\n".join("\t".join(line) for line in lines)


def heat(tab):
    """The colours of the heat map's cells, by layer and kind."""
    return tab.run(
        "(id) => [...document.querySelectorAll(`#${id} .mark-rect path`)]"
        ".map((cell) => [cell.getAttribute('aria-label'), cell.getAttribute('fill')])",
        HEATMAP,
    )


def test_heat_map_cell_clicked_shows_the_rows_of_its_layer(tab, reports):
    liven(tab)
    cell = f"document.querySelectorAll('#{HEATMAP} .mark-rect path')[100]"
    datum = tab.run(f"() => {cell}.__data__.datum")
    tab.click(cell)
    spec = tab.run(f"() => JSON.parse(document.querySelector('#{HEATMAP} .spec').textContent)")
    rows = [
        row
        for row in spec["data"]["values"]
        if (row["of"], row["layer"]) == (datum["of"], datum["layer"])
    ]
    shown = tab.run(
        "(id) => [...document.querySelectorAll(`#${id} .detail tr`)]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))",
        HEATMAP,
    )
    assert len(rows) == 7
    assert f"layer {datum['layer']}" in shown[0][1]
    assert datum["of"] in shown[0][1]
    assert [name for name, _ in shown[1:]] == [row["kind"] for row in rows]
    assert [float(text) for _, text in shown[1:]] == [row["value"] for row in rows]


def test_heat_map_choice_changed_draws_another_recipe(tab):
    liven(tab)
    before = heat(tab)
    tab.run(
        "(id) => { const choice = document.querySelector(`#${id} select`);"
        " choice.selectedIndex = choice.options.length - 1;"
        " choice.dispatchEvent(new Event('change', {bubbles: true})); }",
        HEATMAP,
    )
    tab.when(
        f"#{HEATMAP} .chart",
        f"root.querySelector('.mark-rect path').getAttribute('aria-label') !== '{before[0][0]}'",
    )
    after = heat(tab)
    assert len(after) == len(before)
    assert after != before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_printed_has_pages_without_tools_on_white(browser, reports, scheme):
    with browser.tab(scheme=scheme) as tab:
        tab.open(reports["en"])
        liven(tab)
        bars = (
            "() => [...document.querySelectorAll('.tools, nav, .vega-bindings')]"
            ".map((bar) => getComputedStyle(bar).display)"
        )
        assert set(tab.run(bars)) == {"flex", "block"}
        assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf())) > 1
        tab.emulate(scheme, "print")
        assert set(tab.run(bars)) == {"none"}


def test_page_without_scripts_shows_figures_and_tables(browser, reports):
    with browser.tab(scripts=False) as tab:
        tab.open(reports["en"])
        widths = tab.run(
            "() => [...document.querySelectorAll('figure .chart > svg[role=img]')]"
            ".map((svg) => svg.getBoundingClientRect().width)"
        )
        assert len(widths) == len(ALL)
        assert min(widths) > 500
        assert len(cells(tab, "trials")) == 22
        assert tab.run(TEXTS, ".tools, button, .ready") == []
        assert tab.thrown == []


def japanese_fonts():
    """The families of fonts that have Japanese glyphs."""
    listed = ""
    if shutil.which("fc-list"):
        listed = subprocess.run(
            ["fc-list", ":lang=ja", "family"], capture_output=True, text=True, check=True
        ).stdout
    families = {name.strip() for line in listed.splitlines() for name in line.split(",")}
    return needed(families, "a font with Japanese glyphs")


def test_page_in_japanese_is_drawn_with_japanese_fonts(browser, reports):
    families = japanese_fonts()
    with browser.tab() as tab:
        tab.open(reports["ja"])
        liven(tab)
        for selector in ("#trials h2", "#trials h3", "figcaption", f"#{HEATMAP} .chart svg text"):
            fonts = tab.fonts(selector)
            print(selector, fonts)
            assert set(fonts) & families, selector


def test_figure_as_png_in_japanese_has_glyphs_and_no_boxes():
    # Boxes for missing glyphs, or nothing in their place, would make the two alike.
    japanese_fonts()
    import altair as alt

    from raylab.report.charts.drawing import drawing

    pictures = [
        drawing(alt.Chart(alt.Data(values=[{"a": 1}])).mark_text(text=text).properties(width=90))
        for text in ("学習", "層毎")
    ]
    assert pictures[0].png != pictures[1].png
