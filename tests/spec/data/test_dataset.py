"""The data of a study: read from files and directories, paired, and checked in one message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.cli import main
from raylab.errors import DataError
from raylab.spec.data.dataset import load_data
from raylab.spec.data.pairs import align, pairs_of, pairs_of_one_set
from raylab.spec.data.rows import Row, Turn, split
from raylab.spec.data.warnings import CHECKS, find_warnings
from raylab.spec.study_file import parse_study
from tests.studies import D0, D1, make_study, write_jsonl, write_study_folder

PAIRED = {"dpo": {"method": "dpo", "chosen": "D1", "rejected": "D0"}}


def loaded(tmp_path, recipes=None, **files):
    """The data sets D0, D1 ... of rows (or other fields of theirs), loaded."""
    data = {
        name: {"path": str(write_jsonl(tmp_path / f"{name}.jsonl", rows))}
        if isinstance(rows, list)
        else rows
        for name, rows in files.items()
    }
    return load_data(make_study(data=data, recipes=recipes or {}))


def refused(*arguments, **files):
    with pytest.raises(DataError) as caught:
        loaded(*arguments, **files)
    return str(caught.value)


def write_objects(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_problems_of_all_data_sets_come_in_one_message(tmp_path):
    broken = write_objects(tmp_path / "E.jsonl", {"prompt": "a"}, {"prompt": "", "completion": "b"})
    message = refused(
        tmp_path,
        {**PAIRED, "sft": {"method": "sft", "data": "D2"}},
        D0=D0,
        D1=[*D1[:-2], ("質問10", "答え10です。"), ("他", "答え")],
        D2=[("a", ""), ("b", "c"), (7, "d")],
        E={"path": str(broken)},
        F={"path": str(tmp_path / "nowhere.csv")},
    )
    for part in (
        f"D2 ({tmp_path}/D2.jsonl): completion is empty in rows 1; column "
        "'prompt' holds the number 7, expected text or a list of messages in rows 3",
        f"E ({broken}): column 'completion' holds nothing, expected text or a list of messages in "
        "rows 1; prompt is empty in rows 2",
        f"F ({tmp_path}/nowhere.csv): the file is not there",
        "only in D1: rows 12 '他'",
        "only in D0: rows 12 '質問11'",
        "the same answer is chosen and rejected in rows 11 '質問10'",
    ):
        assert part in message


def test_pairs_of_both_directions_are_tried_once(tmp_path):
    both = {**PAIRED, "back": {"method": "dpo", "chosen": "D0", "rejected": "D1"}}
    message = refused(tmp_path, both, D0=D0, D1=D1[:-1])
    assert message.count("only in D0") == 1


def test_rows_of_json_lines_are_called_by_their_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"prompt": "a", "completion": ""}\n\nnonsense\n[1]\n')
    with pytest.raises(DataError) as caught:
        load_data(make_study(data={"D": {"path": str(path)}}, recipes={}))
    for part in ("completion is empty in rows 2", "no JSON (Exp", "in rows 4", "object in rows 5"):
        assert part in str(caught.value)


def test_text_of_half_a_character_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b\\ud83d"}\n')
    assert "half a character" in refused(tmp_path, D={"path": str(path)})


def test_hub_rows_come_through_datasets(tmp_path, monkeypatch):
    import datasets

    # A directory stands in for an id of the hub: the same loader reads both.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    turns = [{"role": "user", "content": "空は？"}, {"role": "assistant", "content": "青い。"}]
    (tmp_path / "data").mkdir()
    write_objects(tmp_path / "data" / "train.jsonl", {"messages": turns}, {"messages": turns[:1]})
    message = refused(tmp_path, D={"hub": str(tmp_path / "data")})
    assert "the turns are user; expected user and assistant in turn" in message
    write_objects(tmp_path / "data" / "train.jsonl", {"messages": turns})
    assert loaded(tmp_path, D={"hub": str(tmp_path / "data")}).rows["D"] == [
        Row.of("空は？", "青い。")
    ]


def test_hub_id_that_cannot_be_loaded_names_it(tmp_path):
    message = refused(tmp_path, D={"hub": "nobody/nothing"})
    assert "nobody/nothing" in message
    assert "HF_TOKEN" in message


def test_plan_says_each_warning_once_on_stderr(tmp_path, capsys):
    path = write_study_folder(tmp_path, recipes={"sft": {"method": "sft", "data": "D2"}})
    write_jsonl(tmp_path / "d0.jsonl", [*D0, D0[0]])
    main_until_end(["plan", str(path), "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert said.err.count("asked before in rows 13 (as 1)") == 1
    assert "asked before" not in said.out


def main_until_end(words):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code


# Directories


def test_directory_reads_files_of_one_kind_by_name(tmp_path):
    for name, rows in (("b", D0[2:]), ("a", D0[:2])):
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    (tmp_path / "README.md").write_text("not data")
    rows = load_data(make_study(data={"D": {"path": str(tmp_path)}}, recipes={})).rows["D"]
    assert [(row.prompt, row.completion) for row in rows] == D0


def test_directory_names_file_and_row_of_a_problem(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", D0)
    write_jsonl(tmp_path / "b.jsonl", [("a", "b"), ("c", "")])
    assert "completion is empty in rows b.jsonl:2" in refused(tmp_path, D={"path": str(tmp_path)})


def test_directory_of_two_kinds_or_none_is_refused(tmp_path):
    assert "holds no file of a known kind" in refused(tmp_path, D={"path": str(tmp_path)})
    write_jsonl(tmp_path / "a.jsonl", D0)
    (tmp_path / "b.csv").write_text("prompt,completion\na,b\n")
    assert "files of .csv, .jsonl" in refused(tmp_path, D={"path": str(tmp_path)})


# Pairs


def keyed(path, *rows):
    return {"path": str(write_objects(path, *rows)), "key": "id"}


def test_pairs_by_key_join_rows_that_ask_the_same_twice(tmp_path):
    sides = {
        name: keyed(
            tmp_path / f"{name}.jsonl",
            *({"id": i, "prompt": "続けて", "completion": f"{i}{end}"} for i in order),
        )
        for name, end, order in (("D0", "です", (1, 2)), ("D1", "ですわ", (2, 1)))
    }
    rows = loaded(tmp_path, PAIRED, **sides).rows
    pairs = align(rows["D1"], rows["D0"], ("D1", "D0"))
    assert [(p.completion, p.rejected.text) for p in pairs] == [
        ("2ですわ", "2です"),
        ("1ですわ", "1です"),
    ]


def test_pairs_by_key_whose_prompts_differ_are_refused(tmp_path):
    one = keyed(tmp_path / "0.jsonl", {"id": "a", "prompt": "空は？", "completion": "青"})
    two = keyed(tmp_path / "1.jsonl", {"id": "a", "prompt": "海は？", "completion": "青い"})
    message = refused(tmp_path, PAIRED, D0=one, D1=two)
    assert "the prompts differ (chosen and rejected) in rows 1 and 1" in message


def test_pairs_whose_earlier_turns_differ_are_refused():
    row = Row.of("海は？", "青い", (Turn("system", "短く"),))
    with pytest.raises(DataError, match="prompts differ"):
        align([row], [Row.of("海は？", "青")], ("a", "b"))


def test_pairs_of_one_data_set_are_its_own(tmp_path):
    rows = [{"prompt": f"{i}", "chosen": f"{i}ですわ", "rejected": f"{i}です"} for i in range(3)]
    path = write_objects(tmp_path / "p.jsonl", *rows)
    recipes = {"dpo": {"method": "dpo", "data": "P"}, "sft": {"method": "sft", "data": "P"}}
    found = loaded(tmp_path, recipes, P={"path": str(path)}).rows
    pairs = pairs_of({"data": "P"}, found)
    assert [(p.prompt, p.completion, p.rejected.text) for p in pairs] == [
        tuple(row.values()) for row in rows
    ]


def test_pairs_of_one_data_set_without_rejected_answers_are_refused(tmp_path):
    message = refused(tmp_path, {"dpo": {"method": "dpo", "data": "D0"}}, D0=D0[:2])
    assert "no rejected answer in D0 in rows 1, 2" in message


def test_pairs_of_one_data_set_alike_are_refused():
    with pytest.raises(DataError) as caught:
        pairs_of_one_set([Row.of("a", "b", rejected="c"), Row.of("a", "d", rejected="d")], "P")
    assert "the same answer is chosen and rejected in P in rows 2" in str(caught.value)


def test_pairs_of_one_data_set_with_another_rejected_answer_are_several():
    pairs = [Row.of("a", "b", rejected="c"), Row.of("a", "b", rejected="d")]
    assert pairs_of_one_set(pairs, "P") == pairs
    (warning,) = find_warnings(pairs, ["1", "2"])
    assert "asked before in rows 2 (as 1)" in warning


def test_pairs_of_two_sets_that_ask_twice_are_ambiguous():
    with pytest.raises(DataError, match="ambiguous"):
        align([Row.of("a", "b"), Row.of("a", "c")], [Row.of("a", "d")], ("D1", "D0"))


def test_pairs_of_two_sets_whose_rows_are_pairs_already_are_refused():
    pair, plain = Row.of("a", "b", rejected="c"), Row.of("a", "d")
    for sides in ((pair, plain), (plain, pair)):
        with pytest.raises(DataError) as caught:
            align([sides[0]], [sides[1]], ("D1", "D0"))
        name = "D1" if sides[0] is pair else "D0"
        assert f"an answer of {name} has a rejected one beside it in rows 1" in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("{method: dpo, chosen: D0}", "method dpo takes `chosen` and `rejected`, or `data`"),
        ("{method: dpo, chosen: D0, rejected: D0}", "one data set; give it as `data`"),
        ("{method: sft, chosen: D0, rejected: D1}", "method sft takes `data`"),
        ("{method: dpo, data: D0, chosen: D1}", "method dpo takes"),
    ],
)
def test_recipe_of_other_data_than_its_method_takes_is_refused(recipe, message, tmp_path):
    text = (
        "name: x\nbase_models: {b: {path: b}}\n"
        f"data: {{D0: {{path: a.csv}}, D1: {{path: b.csv}}}}\nrecipes: {{r: {recipe}}}\n"
    )
    with pytest.raises(ValueError, match=message):
        parse_study(text, tmp_path / "study.yaml")


TEXTS = st.text("あいab ", min_size=1, max_size=4)


@given(st.dictionaries(TEXTS, st.tuples(TEXTS, TEXTS)), st.floats(0, 0.9), st.randoms())
def test_pairs_hold_out_what_sft_holds_out(texts, share, random):
    one = [Row.of(prompt, a + "1") for prompt, (a, _) in texts.items()]
    two = [Row.of(prompt, b + "2") for prompt, (_, b) in texts.items()]
    random.shuffle(two)
    _, held_out = split(align(one, two, ("a", "b")), share)
    assert [row.prompt for row in held_out] == [row.prompt for row in split(one, share)[1]]
    assert {row.user_text for row in held_out} == {row.user_text for row in split(two, share)[1]}


# What looks wrong


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("答え\ufffdです", "replacement characters"),
        ("あいう".encode().decode("cp1252", "replace").replace("\ufffd", "\x81"), "wrong encoding"),
        ("こんにちは、世界".encode().decode("latin-1"), "wrong encoding"),
        ("答えはここ".encode().decode("shift_jis", "ignore"), "wrong encoding"),
        ("\ufeff答え", "byte order mark"),
        ("答え\x00", "control characters"),
    ],
)
def test_warning_of_encoding_names_rows(text, what):
    (warning,) = find_warnings([Row.of("a", "b"), Row.of("c", text)], ["1", "2"])
    assert what in warning
    assert warning.endswith("in rows 2")


@pytest.mark.parametrize(
    "text", ["繧繝の模様", "Ça a été très réussi", "naïve café", "改行\nと\tタブ", "縺れた糸"]
)
def test_warning_of_encoding_leaves_sound_text_alone(text):
    assert not [name for name, check in CHECKS.items() if check.pattern.search(text)]


SUSPICIOUS = [
    *(
        "a\ufffdb",
        "\x07",
        "x\ufeff",
        "<|im_start|>",
        "[/INST]",
        "\n\nAssistant: so",
        "plain",
        "naïve",
    ),
    *("ã\u0081\u0082ã\u0081\u0084", "縺ゅ縺", "<start_of_turn>", "## Human:", "[INST]", ""),
]


@given(st.lists(st.sampled_from(SUSPICIOUS), min_size=1, max_size=3).map(" ".join))
def test_warnings_are_those_whose_pattern_is_in_the_text(text):
    expected = [what for what, check in CHECKS.items() if check.pattern.search(f"問い\n{text}")]
    found = find_warnings([Row.of("問い", text)], ["1"])
    assert [line.partition(" in rows ")[0] for line in found] == expected
    asked_in_ascii = find_warnings([Row.of("why", text)], ["1"])
    assert [line.partition(" in rows ")[0] for line in asked_in_ascii] == expected


def test_warnings_of_repeated_and_long_rows_stop_nothing(tmp_path):
    recipes = {"sft": {"method": "sft", "data": "J", "training": {"max_length": 8}}}
    rows = [("a", "b"), ("a", "c"), ("d", "e" * 70)]
    found = loaded(tmp_path, recipes, D=rows, J={"concat": ["D", "D"]})
    called = f"data set D ({tmp_path}/D.jsonl)"
    assert found.warnings == (
        f"{called}: asked before in rows 2 (as 1)",
        f"{called}: more than 64 characters, to be cut at 8 tokens, in rows 3",
    )
