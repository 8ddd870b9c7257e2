"""The lines on a study's first pair."""

from __future__ import annotations

from rich.cells import cell_len

from raylab.report.terminal.first_pair import pair_lines

NORMS = {"a": "s.d0.s1", "b": "s.d1-long.s1", "l2": 11.934, "l1": 10301.2}


def answers(*texts, draw=0):
    return [{"prompt": f"p{i}", "answer": text, "draw": draw} for i, text in enumerate(texts)]


def test_pair_lines_name_the_norms_and_answers_that_differ_come_first():
    lines = list(pair_lines(NORMS, answers("yes", "no", "so"), answers("yes", "no!", "so")))
    assert lines[0] == "first pair: s.d0.s1 - s.d1-long.s1  L2 11.9  L1 10,300"
    assert lines[1:4] == ["  p1", "    s.d0.s1       no", "    s.d1-long.s1  no!"]
    assert [line.strip() for line in lines[4::3]] == ["p0", "p2"]


def test_pair_lines_of_many_prompts_are_three_that_both_were_asked():
    lines = list(pair_lines(NORMS, answers(*"abcdefg"), answers(*"hijkl")[1:]))
    assert [line.strip() for line in lines[1::3]] == ["p1", "p2", "p3"]


def test_pair_lines_of_several_draws_show_the_first():
    both = answers("first") + answers("second", draw=1)
    assert list(pair_lines(NORMS, both, both))[-1].endswith("  first")


def test_pair_lines_without_answers_are_the_norms():
    assert len(list(pair_lines(NORMS, [], []))) == 1


def test_pair_lines_of_long_texts_are_single_lines_of_a_hundred_columns():
    long = answers("日本\n語" * 99)
    lines = list(pair_lines(NORMS, long, long))
    assert len(lines) == 4
    assert all(cell_len(line) <= 100 and "\n" not in line for line in lines)
    assert lines[-1].endswith("…")
