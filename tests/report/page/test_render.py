from __future__ import annotations

import csv
import io
import re
from collections import Counter
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from raylab.errors import StoreError
from raylab.number_format import number
from raylab.report.page.markup import markdown_text
from raylab.report.page.render import build_report, frame_table, languages_of
from raylab.report.words import translator
from raylab.store.filesystem import Store
from raylab.store.tables import write_table
from tests.report.conftest import (
    comparison_of,
    fail,
    make_norms,
    make_samples,
    make_study,
    make_trials,
    name_of,
    write_study,
)

_VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags, attributes and the cells of tables, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def row(self, *head: str) -> list[str]:
        return next(row for row in self.rows if tuple(row[: len(head)]) == head)


def _page(store, study=None) -> Reader:
    address = build_report(study or make_study(), store)
    assert address == store.path("report/report.html")
    return Reader(store.read("report/report.html").decode())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The store, tables and page of a study whose report is made once; tests only read it."""
    store = Store(str(tmp_path_factory.mktemp("report")))
    tables = write_study(store)
    return SimpleNamespace(store=store, tables=tables, page=_page(store))


def test_build_report_seed_tables_equal_the_norms_table(report):
    page = report.page
    assert page.row("SFT(D0) vs SFT(D1)", "1e-5")[2:] == [
        "277400",
        "2.200",
        "278800",
        "2.218",
        "1.008",
        "stable",
    ]
    assert page.row("SFT(D0) vs SFT(D1)", "1e-4")[2:] == [
        "1.073e6",
        "16.66",
        "2.859e6",
        "45.29",
        "2.718",
        "depends on the seed",
    ]
    assert "do not compare methods at this learning rate" in page.text


def test_build_report_trial_table_equals_the_trials_table(report):
    page = report.page
    for trial in report.tables["trials"]:
        cells = page.row(trial["name"])
        assert cells[4] == trial["status"]
        assert cells[5:8] == [number(trial.get(k)) for k in ("train_loss", "eval_loss", "l2")]


def test_build_report_failed_and_blocked_trials_come_first_with_cause_and_message(report):
    page = report.page
    start = page.rows.index(next(row for row in page.rows if row[0] == "trial"))
    assert [row[4] for row in page.rows[start + 1 : start + 5]] == [
        "failed",
        "blocked",
        "blocked",
        "done",
    ]
    assert "failed: oom: CUDA out of memory" in page.text
    assert f"blocked: its parent {name_of('sft-d2', 100)} failed" in page.text


def test_build_report_html_refers_to_nothing_outside(report):
    page = report.page
    assert page.addresses
    beside = {f"{place}/{name}" for place in ("tables", "findings")
              for name in report.store.names(f"report/{place}")}  # fmt: skip
    assert all(
        address.startswith(("#", "data:,")) or address in beside for address in page.addresses
    )
    assert not {"iframe", "img"} & set(page.tags)
    html = report.store.read("report/report.html").decode()
    assert "url(http" not in html
    assert "@import" not in html


def test_build_report_writes_figures_where_they_are_asked_for(store):
    write_study(store)
    build_report(make_study(), store)
    assert not store.names("report/figures")
    assert "](figures/" not in store.read("report/report.md").decode()
    build_report(make_study(), store, figures=True)
    figures = {f"{kind}-elyza.{end}" for kind in FIGURES for end in ("png", "svg")}
    assert set(store.names("report/figures")) == figures
    markdown = store.read("report/report.md").decode()
    assert all(f"](figures/{kind}-elyza.png)" in markdown for kind in FIGURES[1:])
    build_report(make_study(), store)
    assert not store.names("report/figures")


def test_build_report_writes_csv_and_markdown(report):
    rows = list(csv.DictReader(io.StringIO(report.store.read("report/tables/norms.csv").decode())))
    assert len(rows) == len(report.tables["norms"])
    assert "16.658565739582745" in report.store.read("report/findings/seeds_unlike.csv").decode()
    markdown = report.store.read("report/report.md").decode()
    assert (
        "| SFT(D0) vs SFT(D1) | 1e-5 | 277400 | 2.200 | 278800 | 2.218 | 1.008 | stable |"
        in markdown
    )


FIGURES = ("effects", "seeds", "attribution", "heatmap", "curve")


def test_build_report_markdown_tables_have_equal_widths(report):
    widths: set[int] = set()
    for line in [*report.store.read("report/report.md").decode().splitlines(), ""]:
        if line.startswith("|"):
            widths.add(line.replace("\\|", "").count("|"))
        else:
            assert len(widths) <= 1
            widths = set()


def test_build_report_twice_gives_the_same_bytes(store):
    write_study(store)

    def everything():
        build_report(make_study(), store)
        return {key: store.read(f"report/{key}") for key in store.files("report")}

    assert everything() == everything()


def test_build_report_answer_with_markup_is_escaped(store):
    write_study(store)
    trials = make_trials()
    samples = make_samples(trials)
    samples[0]["answer"] = "<b>bold</b><script>alert(1)</script> | & 'x'\nnew"
    write_table(store, "samples", samples)

    page = _page(store)

    # Those of the page itself, no more for the answer's.
    assert page.tags.count("script") == store.read("report/report.html").count(b"<script")
    assert "<b>bold</b><script>alert(1)</script> | & 'x'\nnew" in page.text
    markdown = store.read("report/report.md").decode()
    assert "&lt;b&gt;bold&lt;/b&gt;&lt;script&gt;alert(1)&lt;/script&gt; \\| &amp;" in markdown
    assert "<script>" not in markdown


def test_build_report_answers_say_how_many_of_how_many(report):
    page = report.page
    assert "5 of 5 prompts, 11 models; all answers: samples table." in page.text
    assert "[did not stop]" in page.text


def test_build_report_lost_comparison_is_named(store):
    write_study(store)
    lost = comparison_of(5, 6, 100)
    write_table(store, "norms", [row for row in make_norms() if row["comparison"] != lost])

    page = _page(store)

    assert f"Not measured: {lost}." in page.text
    assert page.row("DPO(D0) vs DPO(D1)", "1e-5")[2:] == [
        "283200",
        "2.761",
        "–",
        "–",
        "–",
        "not all seeds",
    ]


def test_build_report_all_failed_trials_alone_make_a_page(store):
    trials = make_trials()
    for trial in list(trials):
        fail(trials, trial["name"], "failed", "oom", "out of memory")
    write_table(store, "trials", trials)

    page = _page(store)

    assert "0 done" not in page.text
    assert "No model was trained and measured yet." in page.text
    assert "no recipe that starts from the base model has sample answers" in page.text
    assert "6 of 6 planned comparisons were not measured." in page.text
    assert len([row for row in page.rows if row[0].startswith("elyza.")]) == len(trials)


def test_build_report_one_seed_says_that_stability_is_not_known(store):
    write_table(store, "trials", make_trials((42,)))
    write_table(store, "norms", make_norms((42,)))

    page = _page(store, make_study(seeds=[42]))

    assert "one seed only, so its stability is not known" in page.text
    assert page.row("DPO(D0) vs DPO(D1)", "1e-5")[-1] == "one seed only"


def test_build_report_no_trials_planned_makes_a_page(store):
    write_table(store, "trials", [])

    assert "0 trials" in _page(store, make_study(recipes={}, comparisons=[])).text


def test_build_report_without_trials_table_raises_store_error(store):
    with pytest.raises(StoreError, match="trials"):
        build_report(make_study(), store)


def test_markdown_text_special_characters_are_shown():
    assert markdown_text("a|b *c* _d_\n<e>") == "a\\|b \\*c\\* \\_d\\_<br>&lt;e&gt;"


def test_build_report_densities_equal_the_densities_table(report):
    page = report.page
    label = "SFT(D0) 1e-5 vs SFT(D1) 1e-5"
    assert page.row(label, "42", "0.5")[3:] == [
        "3,489,660,928",
        "0.0002469",
        "3,489,660,931",
        "225300",
        "1.787",
        "81.2 %",
        "90.1 %",
    ]


def test_build_report_first_screen_says_what_to_be_careful_about(report):
    markdown = report.store.read("report/report.md").decode()
    (marked,) = (row["name"] for row in report.tables["trials"] if row["marked"])
    short = markdown[: markdown.index("## ", markdown.index("## Be careful") + 1)]
    assert "3 of 22 trials are not done (1 failed, 2 blocked)" in short
    assert marked in short.replace("\\", "")


def test_build_report_says_no_sentence_twice(report):
    markdown = report.store.read("report/report.md").decode()
    # Two models may answer alike.
    markdown = markdown[: markdown.index(f"## {translator()('section-answers')}")]
    lines = [line.lstrip("- ") for line in markdown.splitlines() if not line.startswith("|")]
    sentences = [
        sentence
        for line in lines
        for sentence in re.split(r"(?<=[.?!]) ", line)
        if len(sentence) > 40 and not sentence.startswith(("All ", "**"))
    ]
    assert [one for one, times in Counter(sentences).items() if times > 1] == []


def test_languages_stand_side_by_side_and_change_nothing_of_each_other(store):
    write_study(store)
    build_report(make_study(), store, figures=True)
    english = {key: store.read(f"report/{key}") for key in store.files("report")}
    assert languages_of(store) == ["en"]
    address = build_report(make_study(), store, "ja", figures=True)
    assert address == store.path("report/report.ja.html")
    assert languages_of(store) == ["en", "ja"]
    both = {key: store.read(f"report/{key}") for key in store.files("report")}
    assert {key: both[key] for key in english} == english
    new = set(both) - set(english)
    assert {"report.ja.html", "report.ja.md", "tables.ja.tex"} <= new
    figures = {key.removeprefix("figures/") for key in english if key.startswith("figures/")}
    assert figures == {key.removeprefix("figures.ja/") for key in new if "/" in key}
    markdown = both["report.ja.md"].decode()
    assert "](figures.ja/" in markdown and "](figures/" not in markdown
    assert '<html lang="ja"' in both["report.ja.html"].decode()
    build_report(make_study(), store, figures=True)
    assert {key: store.read(f"report/{key}") for key in store.files("report")} == both


def test_results_that_the_tables_leave_out_are_named_on_the_page(store):
    write_study(store)
    build_report(make_study(), store, left_out=["tiny.<b>.s1", "tiny.c.s1 (large)"])
    text = Reader(store.read("report/report.html").decode()).text
    assert "tiny.<b>.s1, tiny.c.s1 (large)" in text
    assert "finished in this place" in text
    assert "finished in this place" not in _page(store).text


def test_frame_table_of_seeds_that_are_not_all_one_number_has_their_texts():
    mixed = frame_table([{"seed": 42}, {"seed": "42o100"}, {"seed": None}, {}])
    assert mixed.column("seed").to_pylist() == ["42", "42o100", None, None]
    assert frame_table([{"seed": 42}, {"seed": None}]).column("seed").to_pylist() == [42, None]
