"""Any text is YAML that a study or a merge can be read from, or one fault with its line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from raylab.spec.yaml_text import YamlFault, below, parse

TENFOLD = "\n".join(
    [
        "- &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 6)),
    ]
)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: &b [*b]\n", 2, "holds itself"),
        ("&all\na: *all\n", 1, "holds itself"),
        ("a: 1\nb: &b {c: {d: *b}}\n", 2, "holds itself"),
        ("a: 1\nb: 1" + "0" * 5000, 2, r"5,001 characters\) is no int"),
        ("a: 1\nb: 2001-99-99\n", 2, "2001-99-99 is no timestamp"),
        ("a: !!bool x\n", 1, "x is no bool"),
        ("a:\n- !!float x\n", 2, "x is no float"),
        ("a: !!python/object:os.system x\n", 1, "os.system"),
        ("a: 1\na: 2\n", 2, "duplicate"),
        ("a: *b\n", 1, "undefined alias"),
        ("a: [\n", 2, "expected"),
        ("a: 1\n---\nb: 2\n", 3, "2 YAML documents"),
        ("a: " + "[" * 150 + "]" * 150, 1, "100 deep"),
        ("a: " + "[" * 900 + "]" * 900, 1, "100 deep"),
        ("\n".join(["- &a0 x", *(f"- &a{i} [*a{i - 1}]" for i in range(1, 900))]), 101, "100 deep"),
        (TENFOLD, 5, "too many values"),
    ],
)
def test_parse_text_without_values_is_a_fault_with_its_line(text, line, problem):
    with pytest.raises(YamlFault, match=problem) as fault:
        parse(text)
    assert fault.value.line == line


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_parse_nothing_is_nothing(text):
    assert parse(text)[0] is None


def test_parse_aliases_are_what_they_stand_for():
    values, root = parse("a: &a\n  x: 1\n  y: 2\nb: *a\nc:\n  <<: *a\n  y: 3\nd: [4,\n  5]\n")
    assert values == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 3},
        "d": [4, 5],
    }
    c, d = below(root, "c"), below(root, "d")
    assert c is not None
    assert d is not None
    assert [c[0], below(c[1], "x")[0], below(c[1], "y")[0]] == [5, 2, 7]
    assert [d[0], below(d[1], 1)[0], below(d[1], 2)] == [8, 9, None]


@given(st.text("ab01:-.,[]{}&*!?|>'\"#~ \n<_e", max_size=40))
@settings(max_examples=400, deadline=None)
def test_parse_any_text_is_what_ruamel_reads_or_a_fault(text):
    try:
        values, _ = parse(text)
    except YamlFault as fault:
        assert fault.line >= 1
        return
    assert repr(values) == repr(YAML(typ="safe", pure=True).load(text))
