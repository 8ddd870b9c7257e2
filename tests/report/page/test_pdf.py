"""PDFs by a real Chromium, read by their page objects and by what their pages draw."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from raylab.errors import RaylabError
from raylab.report.page.pdf import find_chromium, write_pdf
from raylab.report.page.render import build_report, page_key
from raylab.store.filesystem import Store
from tests.commands import exit_status
from tests.report.browser import Browser
from tests.report.conftest import make_study
from tests.report.needs import chromium
from tests.report.whole import write_whole_study

QUICK = Path(__file__).parents[3] / "jobs" / "demo" / "study-quick.yaml"
PAGE = page_key("en")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    found = Store(str(tmp_path_factory.mktemp("whole")))
    write_whole_study(found)
    build_report(make_study(), found)
    return found


def pages_of(pdf: bytes) -> list[tuple[str, int]]:
    """By page: its size in points, and the number of lines, curves and rectangles that it draws."""
    objects = {int(m[1]): m[2] for m in re.finditer(rb"(\d+) 0 obj\n(.*?)\nendobj", pdf, re.S)}
    found = []
    for body in objects.values():
        if re.search(rb"/Type /Page\n", body):
            size = re.search(rb"/MediaBox \[0 0 (\S+) (\S+)\]", body)
            content = objects[int(re.search(rb"/Contents (\d+) 0 R", body)[1])]
            stream = content[content.index(b"stream\n") + 7 : content.rindex(b"\nendstream")]
            drawn = len(re.findall(rb" (?:l|c|re)\n", zlib.decompress(stream)))
            found.append((f"{float(size[1]):.0f} x {float(size[2]):.0f}", drawn))
    return found


@pytest.mark.slow
def test_write_pdf_has_pages_of_a4_with_every_figure(store):
    program = chromium()
    address = write_pdf(store, PAGE, program)
    assert address == store.path("report/report.pdf")
    pages = pages_of(store.read("report/report.pdf"))
    assert {size for size, _ in pages} == {"595 x 842"}
    html = store.read(PAGE)
    assert len(pages) > html.count(b"<section id=")
    # The same page, whose script cannot draw.
    store.write("report/bare.html", html.replace(b"window.vegaEmbed=", b"window.none="))
    write_pdf(store, "report/bare.html", program)
    bare = pages_of(store.read("report/bare.pdf"))
    assert sum(drawn for _, drawn in pages) > 4 * sum(drawn for _, drawn in bare)


def test_page_at_print_draws_all_figures_and_opens_all_folds(store, tmp_path):
    browser = Browser(chromium(), tmp_path / "profile")
    try:
        with browser.tab() as tab:
            tab.open(Path(store.path(PAGE)).as_uri() + "#print")
            figures = tab.run("() => document.querySelectorAll('main figure').length")
            every = f"root.querySelectorAll('figure.ready svg').length === {figures}"
            tab.when("main", every)
            assert figures > 5 and tab.exceptions == []
            assert tab.run("() => document.querySelectorAll('details:not([open])').length") == 0
    finally:
        browser.close()


def test_report_as_pdf_without_chromium_ends_with_2_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    status = exit_status("report", QUICK, "--out", tmp_path / "out", "--format", "pdf")
    assert status == 2
    message = capsys.readouterr().err
    for part in ("a PDF needs Chromium", "found: none on PATH", "expected: one of", "to do: "):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_find_chromium_takes_what_chrome_names(tmp_path, monkeypatch):
    program = tmp_path / "own"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("CHROME", str(program))
    with pytest.raises(RaylabError, match="which is no program"):
        find_chromium()
    program.chmod(0o755)
    assert find_chromium() == str(program)


def test_write_pdf_of_a_browser_that_fails_says_what_it_said(store, tmp_path):
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho no display >&2\nexit 7\n")
    program.chmod(0o755)
    store.write("report/other.html", b"<p>")
    with pytest.raises(RaylabError, match="exit status 7; no display"):
        write_pdf(store, "report/other.html", str(program))
    assert not store.exists("report/other.pdf")
