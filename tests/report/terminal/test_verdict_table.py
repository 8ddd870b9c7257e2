"""What a study found, on the last screen of a command: whole in every window, with and without
colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from raylab.report.findings import effects
from raylab.report.findings.every_finding import find_all
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.study_tables import Tables
from raylab.report.terminal.verdict_table import print_found, print_verdicts
from raylab.report.verdicts import WORDS, Verdict, VerdictRow
from raylab.report.words import translator
from tests.report.conftest import make_trials
from tests.report.whole_merges import with_merges


def verdict(space, times, word):
    return Verdict(space, times, word, Sentence("floor-nothing"))


def row(factor, *found, base="demo"):
    cells = zip(("far", "where", "function"), found, strict=True)
    return VerdictRow(base, factor, factor == "seed", tuple(verdict(s, *one) for s, one in cells))


ROWS = [
    row("learning_rate", (220.6, "clear"), (1.561, "weak"), (None, "missing")),
    row("data", (2.99, "clear"), (0.9832, "noise"), (4.494, "clear")),
    row("seed", (1.0, "baseline"), (1.0, "baseline"), (1.0, "baseline")),
]
NUMBERS = {"learning rate": ["221×", "1.56×"], "data": ["2.99×", "0.983×", "4.49×"], "seed": []}


def printed(rows, findings=None, width=120):
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    print_verdicts(rows, findings or {"effects": Finding("effects")}, console)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [56, 80, 120])
def test_every_factor_has_one_line_with_its_numbers_in_every_window(width):
    lines = printed(ROWS, width=width)
    assert max(map(len, lines)) <= width
    for name, numbers in NUMBERS.items():
        (line,) = (line for line in lines if line.startswith(name + "  "))
        assert [word for word in line.split() if word.endswith("×")] == numbers


def test_a_wide_window_says_the_word_of_each_verdict_in_its_cell():
    lines = printed(ROWS, width=120)
    (data,) = (line for line in lines if line.startswith("data"))
    cells = data.removeprefix("data").split("  ")
    assert [cell.strip() for cell in cells if cell.strip()] == [
        "▲ 2.99× clear",
        "○ 0.983× within seed noise",
        "▲ 4.49× clear",
    ]


def test_a_narrow_window_explains_every_sign_below_the_table():
    lines = printed(ROWS, width=56)
    legend = " ".join(lines[-3:])
    signs = {"clear": "▲", "weak": "△", "noise": "○", "missing": "–", "baseline": "="}
    for word, sign in signs.items():
        assert f"{sign} {translator()(f'verdict-{word}')}" in legend
    assert "◕" not in legend


def test_no_two_words_share_a_sign():
    words = list(WORDS.values())
    rows = [row("data", (2.0, word), (2.0, word), (2.0, word)) for word in words]
    signs = [line.split()[1] for line in printed(rows, width=120) if line.startswith("data")]
    assert len(signs) == len(set(signs)) == len(words)


def test_rows_of_several_base_models_are_named_by_them():
    rows = [row("data", *[(2.0, "clear")] * 3, base=base) for base in ("one", "two")]
    lines = printed(rows)
    assert any(line.startswith("one: data") for line in lines)
    assert any(line.startswith("two: data") for line in lines)


def test_cautions_follow_the_table_and_those_left_out_are_counted():
    undone = {"undone": 1, "total": 3, "failed": 1, "blocked": 0}
    found = [
        Sentence("trust-undone", undone),
        Sentence("trust-marked", {"count": 1, "total": 3, "names": ("demo.[a].s1",)}),
        Sentence("floor-one_seed", {"seed": 42}),
        *(Sentence("effects-too_few", {"least": least}) for least in (0.1, 0.2)),
    ]
    lines = printed(ROWS, {"effects": Finding("effects", cautions=tuple(found))})
    assert [line[0] for line in lines[-4:]] == ["!"] * 4
    assert lines[-4].startswith("! 1 of 3 trials are not done (1 failed")
    assert lines[-3].startswith("! There is one seed (42)")
    assert "demo.[a].s1" in lines[-2]
    assert lines[-1] == "! 2 more cautions in the report"


def test_a_study_of_one_seed_says_why_it_has_no_verdicts():
    stream = io.StringIO()
    tables = Tables.of({"trials": make_trials((42,))})
    print_found(tables, Console(file=stream, width=120, color_system=None))
    assert "! There is one seed (42)" in stream.getvalue()


def test_the_screen_of_a_whole_study_holds_the_verdicts_of_its_report(whole_tables):
    stream = io.StringIO()
    tables = Tables.of(whole_tables)
    print_found(tables, Console(file=stream, width=80, color_system=None))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 20
    assert lines[0].startswith("Compared with another seed, ")
    judged = {"beyond": "clear", "near": "weak", "within": "within seed noise"}
    frame = effects.find(tables).frames["effects"]
    asked = [r for r in frame if r["space"] == "far" and r["verdict"] in judged]
    assert asked
    for found in asked:
        name = found["factor"].replace("_", " ")
        (line,) = (line for line in lines if line.startswith(name + "  "))
        assert line.split("×")[1].split("  ")[0].strip() == judged[found["verdict"]]


def test_the_screen_of_a_study_with_merges_says_whether_they_do_both(whole_tables):
    stream = io.StringIO()
    print_found(with_merges(whole_tables), Console(file=stream, width=120, color_system=None))
    said = " ".join(stream.getvalue().split())
    assert "mixed density 0.5 does both best: it keeps 60 % of the gain of SFT(D0) 1e-5" in said
    assert "elyza: mixed" not in said


def test_no_caution_of_another_finding_is_left_out(whole_tables):
    found = find_all(with_merges(whole_tables))
    assert {key for key, finding in found.items() if finding.cautions} <= {
        "effects",
        "attribution",
        "merges",
        "trust",
    }
