from __future__ import annotations

import dataclasses
import re
import shutil
import string
import subprocess

import pytest

from raylab.report.findings.every_finding import find_all
from raylab.report.page.blocks import Column, Grid
from raylab.report.page.markup import latex_document, latex_rows, latex_table, latex_text
from raylab.report.page.page import Section, make_page
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from tests.report.conftest import make_study
from tests.report.needs import japanese_fonts

COLUMNS = (Column("trial", "text"), Column("L2 %"), Column("answer", "answer"))
SIGNS = [*string.punctuation, "–", "°", "a--b---c", "a,,b", "`quoted'", '"', "?`!`<<>>", "''", "``"]


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("\\", r"\textbackslash{}"),
        ("{x}", r"\{x\}"),
        ("$5 & 6 %", r"\$5 \& 6 \%"),
        ("#1_2", r"\#1\_2"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("1 < 2 > 0", r"1 \textless{} 2 \textgreater{} 0"),
        ("–", r"\textendash{}"),
        ("90°", r"90\textdegree{}"),
        ("it's", r"it\textquotesingle{}s"),
        ("`", r"\textasciigrave{}"),
        ('"', r"\textquotedbl{}"),
        ("a\nb", "a b"),
        ("---", r"-\/-\/-"),
        (",,", r",\/,"),
        ("<<", r"\textless{}\/\textless{}"),
        ("1e-5, 学習", "1e-5, 学習"),
    ],
)
def test_latex_text_special_character_is_escaped(text, latex):
    assert latex_text(text) == latex


def test_latex_rows_numbers_go_right_and_texts_left():
    lines = latex_rows(COLUMNS, [("a_1", "2.200", "yes"), ("b", "–", "no")]).splitlines()
    head = [r"\toprule", r"trial & L2 \% & answer \\", r"\midrule"]
    assert lines == [
        r"\begin{longtable}{lrl}",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"a\_1 & 2.200 & yes \\",
        r"b & \textendash{} & no \\",
        r"\bottomrule",
        r"\end{longtable}",
    ]


def test_latex_table_title_and_name_are_caption_and_label_of_its_first_page():
    lines = latex_table(Grid("L1 & L2", COLUMNS, (("a", "1", "b"),), name="norms")).splitlines()
    assert lines[1] == r"\caption{L1 \& L2}\label{tab:norms}\\"
    assert "".join(lines).count("label") == 1


@pytest.mark.parametrize("start", ["[4pt] x", "* x"])
def test_latex_rows_line_that_starts_like_an_argument_is_guarded(start):
    columns = (Column(start, "text"), Column("n"))
    assert latex_rows(columns, [(start, "1")]).count(rf"{{}}{start} & ") == 3


def whole_page(rows, language):
    """A report with every table, and one of every sign of ASCII."""
    tables = Tables.of(rows)
    page = make_page(make_study(), tables, find_all(tables), translator(language))
    signs = Grid(
        "Signs", (Column("[sign]"), Column("n")), tuple((s, "1") for s in SIGNS), name="signs"
    )
    return dataclasses.replace(page, sections=(*page.sections, Section("signs", "", (signs,))))


def test_latex_document_has_every_table_with_a_name_and_rows(whole_tables):
    page = whole_page(whole_tables, "en")
    names = re.findall(r"\\label\{tab:(\w+)\}", latex_document(page))
    assert names == [grid.name for grid in page.grids]
    assert {"seeds_like", "differences", "trials", "signs"} <= set(names)


@pytest.mark.latex
@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "language"),
    [
        ("xelatex", "en"),
        ("xelatex", "ja"),
        ("lualatex", "en"),
        ("lualatex", "ja"),
        ("pdflatex", "en"),
    ],
)
def test_latex_document_compiles_and_shows_every_character(
    whole_tables, tmp_path, engine, language
):
    if not shutil.which(engine):
        pytest.skip(f"{engine} is not installed")
    if language == "ja" and "Noto Sans CJK JP" not in japanese_fonts():
        pytest.skip("Noto Sans CJK JP is not installed")
    (tmp_path / "tables.tex").write_text(latex_document(whole_page(whole_tables, language)))
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    # The second time it knows the labels of the first.
    done = [subprocess.run(command, cwd=tmp_path, capture_output=True) for _ in range(2)]
    log = (tmp_path / "tables.log").read_text(errors="replace")
    if missing := re.search(r"File `(.+)' not found", log):
        pytest.skip(f"LaTeX has no {missing[1]}")
    assert [run.returncode for run in done] == [0, 0], log[-2000:]
    assert "Missing character" not in log
    assert "multiply defined" not in log
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
