"""Public layouts of data sets: made-up rows in `data/`, as the rows that are learned from them."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import AutoTokenizer

from raylab.errors import DataError
from raylab.spec.data.dataset import load_data, read_data_set
from raylab.spec.data.describe import describe_files
from raylab.spec.data.describe_study import describe_study
from raylab.spec.data.pairs import pairs_of_one_set
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.warnings import find_warnings
from raylab.spec.sources import DataSet
from tests.commands import exit_status
from tests.studies import make_study, write_study_folder

DATA = Path(__file__).parent / "data"
BASE = Path(__file__).parents[2] / "jobs" / "demo" / "base"

SYSTEM = Turn("system", "Be short.")
SKY, BLUE = Turn("user", "What is the sky?"), Turn("assistant", "It is blue.")
GREEN = Turn("assistant", "It is green.")
SEA, TOO, RED = (
    Turn("user", "And the sea?"),
    Turn("assistant", "Blue too."),
    Turn("assistant", "Red."),
)
CALL = Turn(
    "assistant",
    "",
    '{"tool_calls":[{"type":"function",'
    '"function":{"name":"weather","arguments":{"town":"Oslo"}}}]}',
)
CALL_OF_OPENAI = CALL._replace(more=CALL.more.replace('"type"', '"id":"c1","type"'))
OSLO, COLD = Turn("user", "Is it warm in Oslo?"), Turn("assistant", "No, it is 3 degrees.")
# In the order of the file: templates print it.
TOOLS = (
    '[{"type":"function","function":{"name":"weather","description":"The weather of a town.",'
    '"parameters":{"type":"object","properties":{"town":{"type":"string"}}}}}]'
)
LONG = (SKY, BLUE, SEA, TOO)
JA = Row.of("空は何色ですか。", "青です。")

# File: the format, the rows, and what the warnings say.
FOUND = {
    "ultrafeedback_binarized": ("preference", [Row((SKY, BLUE), GREEN)],
        ["columns that are not used: prompt_id, score_chosen, score_rejected"]),
    "dpo_mix": ("preference", [Row(LONG, RED)],
        ["columns that are not used: dataset, chosen_rating, rejected_rating"]),
    "orpo_dpo_mix": ("preference", [Row((SKY, BLUE), GREEN)],
        ["columns that are not used: source, question"]),
    "orca_dpo_pairs": ("preference",
        [Row((SYSTEM, SKY, BLUE), GREEN), Row((SEA, TOO), RED)], []),
    "helpsteer3": ("helpsteer3", [Row(LONG, RED), Row((SKY, BLUE), GREEN)],
        ["columns that are not used: domain, language, individual_preference",
         "1 of 3 records are left out; not learned, because overall_preference is 0, so neither "
         "response is preferred: in rows 3"]),
    "kto": ("kto", [Row((SKY, BLUE))],
        ["1 of 2 records are left out; not learned, because label is false, so the answer is not "
         "one to learn: in rows 2"]),
    "kto_messages": ("kto", [Row((SYSTEM, SKY, BLUE))], ["1 of 2 records are left out"]),
    "helpsteer2": ("helpsteer2", [Row((SKY, BLUE), GREEN)],
        ["columns that are not used: preference_statement"]),
    "ultrafeedback": ("ultrafeedback", [Row((SKY, BLUE), GREEN), Row((SEA, TOO), RED)],
        ["columns that are not used: source, models, correct_answers, incorrect_answers",
         "fields of turns that are not used: completions.model, completions.fine-grained_score",
         "2 of 4 records are left out; not learned, because all of its completions have one "
         "overall_score: in rows 3; not learned, because fewer than two of its completions have "
         "the field 'overall_score': in rows 4",
         "answers between the best and the worst are not learned in rows 1"]),
    "nectar": ("nectar", [Row(LONG, RED)],
        ["columns that are not used: turns, num_responses, source, good_natured",
         "fields of turns that are not used: answers.model",
         "answers between the best and the worst are not learned in rows 1"]),
    "shp": ("shp", [Row((SKY, BLUE), GREEN), Row((SEA, TOO), RED)],
        ["columns that are not used: post_id, domain, score_A, score_B, score_ratio"]),
    "saferlhf": ("saferlhf", [Row((SKY, BLUE), GREEN), Row((SEA, TOO), RED)],
        ["columns that are not used: is_response_0_safe, is_response_1_safe, safer_response_id"]),
    "kto_conversations": ("messages", [Row((SKY, BLUE))], ["1 of 2 records are left out"]),
    "kto_tag": ("alpaca", [Row((SKY, BLUE))], []),
    "slimorca": ("sharegpt", [Row((SYSTEM, SKY, BLUE._replace(learned=True)))], []),
    "hermes_tools": ("sharegpt",
        [Row((SYSTEM, OSLO, Turn("assistant", "<tool_call>weather</tool_call>"),
              Turn("tool", "3 degrees"), COLD))], ["columns that are not used: id"]),
    "distilabel_orca": ("preference", [Row((SYSTEM, SKY, BLUE), GREEN)],
        ["columns that are not used: generations, status"]),
    "sharegpt_preference": ("sharegpt-preference", [Row((SKY, BLUE), GREEN)], []),
    "dolly": ("dolly",
        [Row.of("Which colour is meant?\n\nThe sky is blue.", "Blue."), Row((SKY, BLUE))],
        ["columns that are not used: category"]),
    "dolly_ja": ("alpaca", [Row.of("何色ですか。\n\n空は青い。", "青です。")],
        ["columns that are not used: index, category"]),
    "oasst": ("oasst", [Row(LONG)],
        ["columns that are not used: lang",
         "4 of 8 records are left out; not learned, because no answer follows the message: in rows "
         "7; not learned, because the tree has no answer: in rows 8; not learned, because a reply "
         "of a better rank is followed (one conversation of each tree is learned): in rows 2; not "
         "learned, because the message is deleted, or replies to one that is: in rows 5"]),
    "oasst_trees": ("oasst-tree", [Row(LONG)],
        ["columns that are not used: tree_state", "replies are not learned where a reply of a"]),
    "oasst_ja_chat": ("sharegpt", [JA], ["columns that are not used: ID"]),
    "no_robots": ("messages", [Row((SYSTEM, SKY, BLUE))],
        ["columns that are not used: prompt, prompt_id, category"]),
    "openai": ("messages",
        [Row((SYSTEM, SKY, Turn("assistant", "Grey.", learned=False), Turn("user", "Look again."),
              BLUE._replace(learned=True))),
         Row((OSLO, CALL_OF_OPENAI, Turn("tool", "3 degrees", '{"tool_call_id":"c1"}'), COLD),
             tools=TOOLS)],
        ["columns that are not used: parallel_tool_calls"]),
    "openai_preference": ("openai-preference", [Row((SYSTEM, SKY, BLUE), GREEN)],
        ["fields of turns that are not used: input.parallel_tool_calls"]),
    "hh_rlhf": ("preference", [Row(LONG, RED)], []),
    "hh_dahoas": ("preference",
        [Row(LONG, RED), Row((SKY, BLUE), GREEN), Row((SKY, BLUE), GREEN)],
        ["columns that are not used: response"]),
    "swift_rlhf": ("swift-preference", [Row((SYSTEM, SKY, BLUE), GREEN), Row(LONG, RED)], []),
    "lima": ("sharegpt", [Row((SKY, BLUE)), Row(LONG)], ["columns that are not used: source"]),
    "hh_rlhf_49k_ja": ("preference", [JA._replace(rejected=Turn("assistant", "緑です。"))],
        ["columns that are not used: index, ng_translation"]),
    "hh_rlhf_12k_ja": ("sharegpt-preference",
        [JA._replace(rejected=Turn("assistant", "緑です。"))],
        ["columns that are not used: ID, source"]),
    "sharegpt_tools": ("sharegpt",
        [Row((SYSTEM, OSLO, CALL, Turn("tool", "3 degrees"), COLD), tools=TOOLS)], []),
    "alpaca_history": ("alpaca", [Row((SYSTEM, *LONG))], []),
    "trl_prompt_completion": ("text", [Row((SYSTEM, SKY, BLUE))], []),
    "trl_preference": ("preference", [Row((SKY, BLUE), GREEN)], []),
    "trl_implicit": ("preference", [Row((SYSTEM, *LONG), RED)], []),
    "text_parts": ("messages", [Row((SYSTEM, SKY, BLUE))], []),
    "reasoning": ("messages",
        [Row((SKY, BLUE._replace(more='{"reasoning_content":"Light is scattered."}')))], []),
}  # fmt: skip


def found(name, **fields):
    return read_data_set(name, DataSet(path=str(DATA / f"{name}.jsonl"), **fields))


def read(tmp_path, *records, **fields):
    """The rows of records, and what is wrong with them."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_data_set("D", DataSet(path=str(path), **fields))


@pytest.mark.parametrize("name", FOUND)
def test_layout_as_published_is_read_and_its_rest_is_named(name):
    form, rows, notes = FOUND[name]
    read = found(name)
    assert (read.format, read.problems, read.rows) == (form, [], rows)
    assert len(read.notes) == len(notes)
    for note, said in zip(read.notes, notes, strict=True):
        assert note.startswith(said)


# Arrow has no column of texts and lists.
@pytest.mark.parametrize("name", [name for name in FOUND if name != "text_parts"])
def test_layout_in_parquet_is_the_same(name, tmp_path):
    records = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    columns = dict.fromkeys(column for record in records for column in record)
    table = pa.table({column: [record.get(column) for record in records] for column in columns})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read_data_set(name, DataSet(path=str(tmp_path / "a.parquet"))) == found(name)


def test_every_file_of_rows_is_tried():
    assert {path.stem for path in DATA.glob("*.jsonl")} == {*FOUND, "openorca"}


def test_columns_of_other_names_are_read_with_what_stands_beside_them():
    read_rows = found("openorca", prompt="question", completion="response")
    assert (read_rows.format, read_rows.rows) == ("text", [Row((SYSTEM, SKY, BLUE))])
    assert read_rows.notes == ["columns that are not used: id"]
    (problem,) = found("openorca").problems
    assert "name columns, as in `prompt:` and `completion:`" in problem


def test_conversation_in_a_column_of_another_name_needs_no_format(tmp_path):
    record = {"dialogue": SYSTEM_BESIDE["messages"]["messages"]}
    read_rows = read(tmp_path, record, messages="dialogue")
    assert (read_rows.format, read_rows.rows) == ("messages", [Row((SKY, BLUE))])


@pytest.mark.parametrize(
    ("asks", "says"), [("input", "output"), ("human", "assistant"), ("user", "assistant")]
)
def test_pairs_of_two_texts_are_questions_and_answers(asks, says, tmp_path):
    pairs = [
        {asks: "What is the sky?", says: "It is blue.", "score": 1},
        {asks: "And the sea?", says: "Blue too."},
    ]
    read_rows = read(tmp_path, {"conversation": pairs}, messages="conversation")
    assert (read_rows.rows, read_rows.problems) == ([Row(LONG)], [])
    assert read_rows.notes == ["fields of turns that are not used: score"]


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ("source conversation", "(perhaps `messages:` 'conversation')"),
        ("id system_prompt question response",
         "(perhaps `prompt:` 'question', `completion:` 'response')"),
        ("inputs targets language", "(perhaps `prompt:` 'inputs', `completion:` 'targets')"),
        ("質問 回答", "(perhaps `prompt:` '質問', `completion:` '回答')"),
        ("instruction chosen_response rejected_response",
         "(perhaps `prompt:` 'instruction', `chosen:` 'chosen_response', `rejected:` "
         "'rejected_response')"),
        ("topic candidates", "docs/data.md shows a row of each): name columns, as in `prompt:` and "
         "`completion:`; rows of other shapes need their turns in a column of messages, or a "
         "prompt and its answer (for pairs: `chosen` and `rejected`) in columns of their own"),
        ("question candidates", "(for pairs: `chosen` and `rejected`) in columns of their own"),
    ],
)  # fmt: skip
def test_columns_that_fit_no_format_are_named_in_advice(columns, advice, tmp_path):
    (problem,) = read(tmp_path, dict.fromkeys(columns.split(), "x")).problems
    assert problem.endswith(advice)


def test_prompt_that_is_a_transcript_is_the_turns_that_it_holds(tmp_path):
    said = "Human: What is the sky?", "Assistant: It is blue.", "Human: And the sea?", "Assistant:"
    prompt = "\n\n".join(said)
    read_rows = read(tmp_path, {"prompt": prompt, "completion": "Blue too."})
    assert (read_rows.rows, read_rows.problems) == ([Row(LONG)], [])
    beside = {"prompt": prompt, "completion": "Blue too.", "context": "The sea is blue."}
    (problem,) = read(tmp_path, beside).problems
    assert problem.startswith("column 'context' stands beside messages")


@pytest.mark.parametrize("prompt", ["Go on:\n\nHuman: a\n\nAssistant:", "Human: a\n\nAssistant: b"])
def test_prompt_that_only_holds_a_transcript_stays_a_text(prompt, tmp_path):
    (row,) = read(tmp_path, {"prompt": prompt, "completion": "c"}).rows
    assert row == Row.of(prompt, "c")


def test_answer_that_writes_a_dialogue_stays_an_answer(tmp_path):
    chosen = "Human: Hi.\n\nAssistant: Hello."
    (row,) = read(tmp_path, {"prompt": "A play!", "chosen": chosen, "rejected": "No."}).rows
    assert row == Row.of("A play!", chosen, rejected="No.")


def test_rejected_answer_beside_messages_that_end_in_a_question_is_refused(tmp_path):
    record = {"messages": [{"role": "user", "content": "a"}], "rejected_response": "b"}
    (problem,) = read(tmp_path, record).problems
    assert "expected messages that end in the chosen answer" in problem


@pytest.mark.parametrize("column", ["rejected_messages", "rejected"])
def test_rejected_messages_are_refused_until_they_are_named(column, tmp_path):
    sides = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": x}] for x in "bc"]
    record = {"messages": sides[0], column: sides[1]}
    (problem,) = read(tmp_path, record).problems
    assert problem.startswith(f"column {column!r} carries meaning")
    assert "name both answers (`chosen:` and `rejected:`)" in problem
    named = read(tmp_path, record, chosen="messages", rejected=column)
    assert (named.rows, named.problems) == ([Row.of("a", "b", rejected="c")], [])


def test_column_of_meaning_in_capitals_is_an_error(tmp_path):
    (problem,) = read(tmp_path, {"prompt": "a", "completion": "b", "System": "c"}).problems
    assert "name it (`system:`)" in problem
    assert read(tmp_path, {"prompt": "a", "completion": "b", "System": "c"}, system="System").rows


def test_tools_that_are_texts_of_a_list_are_read(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    record = {"messages": messages, "tools": [json.dumps(tool) for tool in json.loads(TOOLS)]}
    assert read(tmp_path, record).rows == [Row.of("a", "b")._replace(tools=TOOLS)]


@pytest.mark.parametrize("name", ["arguments", "parameters", "args"])
def test_arguments_of_a_call_by_another_name_are_read(name, tmp_path):
    call = {"name": "weather", name: {"town": "Oslo"}}
    messages = [OSLO.message, {"role": "assistant", "tool_calls": [call]}]
    assert read(tmp_path, {"messages": messages}).rows == [Row((OSLO, CALL))]


@pytest.mark.parametrize(
    ("prompt", "is_framed"),
    [
        ("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", True),
        ("<s>[INST] Why? [/INST]", True),
        ("<start_of_turn>user\nWhy?<end_of_turn>", True),
        ("### Human: Why?### Assistant:", True),
        ("## Humans\n\n[INST] is a mark, <b> another.", False),
    ],
)
def test_text_that_a_template_framed_already_is_said(prompt, is_framed, tmp_path):
    rows = read(tmp_path, {"prompt": prompt, "completion": "So."})
    warnings = find_warnings(rows.rows, rows.places)
    assert [w.startswith("marks of a chat template") for w in warnings] == [True] * is_framed


def test_parts_of_the_responses_api_are_texts(tmp_path):
    messages = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
    ]
    assert read(tmp_path, {"messages": messages}).rows == [Row.of("a", "b")]


@pytest.mark.parametrize("field", ["masked", "ignore_loss"])
def test_turn_that_is_masked_is_not_learned_and_false_says_nothing(field, tmp_path):
    turns = Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d")
    messages = [{**turn.message, field: turn.text == "d"} for turn in turns]
    assert read(tmp_path, {"messages": messages}).rows == [Row.of("a", "b")]
    messages[-1][field] = "yes"
    (problem,) = read(tmp_path, {"messages": messages}).problems
    assert f"has the {field} 'yes'" in problem


def test_messages_that_are_a_transcript_are_its_turns(tmp_path):
    text = "\n\nHuman: What is the sky?\n\nAssistant: It is blue.\n\nHuman: And the sea?"
    record = {"transcript": f"{text}\n\nAssistant: Blue too."}
    read_rows = read(tmp_path, record, messages="transcript")
    assert (read_rows.rows, read_rows.problems) == ([Row(LONG)], [])
    (problem,) = read(tmp_path, record).problems
    assert problem.endswith("(perhaps `messages:` 'transcript')")
    (problem,) = read(tmp_path, {"transcript": text}, messages="transcript").problems
    assert problem.startswith("the turns are user, assistant, user; expected")


@pytest.mark.parametrize("field", ["loss_weight", "loss_scale"])
def test_weight_of_a_turn_by_another_name_is_read(field, tmp_path):
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d")]
    messages = [turn.message for turn in turns]
    messages[-1][field] = 0.0
    assert read(tmp_path, {"messages": messages}).rows == [Row.of("a", "b")]
    messages[-1][field] = 0.3
    (problem,) = read(tmp_path, {"messages": messages}).problems
    assert f"has the {field} 0.3; a turn is learned or not, expected 0 or 1" in problem


def test_empty_system_turn_stays_one(tmp_path):
    empty = {"role": "system", "content": ""}
    messages = [empty, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    read_rows = read(tmp_path, {"messages": messages})
    assert read_rows.rows == [Row.of("a", "b")._replace(
        turns=(Turn("system", ""), Turn("user", "a"), Turn("assistant", "b")))]  # fmt: skip


def test_plan_hears_what_is_not_used():
    data = {"D": {"path": str(DATA / "kto.jsonl")}}
    (warning,) = load_data(make_study(data=data, recipes={})).warnings
    assert "1 of 2 records are left out; not learned, because label is false" in warning


def test_kto_without_a_true_label_is_refused_by_name(tmp_path):
    record = {"prompt": "a", "completion": "b", "label": False}
    (first, second) = read(tmp_path, record, record).problems
    assert (first, "label is false" in second) == ("no row is left to learn", True)


def test_kto_with_a_label_of_another_kind_says_what_to_do(tmp_path):
    record = {"prompt": "a", "completion": "b", "label": "news"}
    (problem,) = read(tmp_path, record).problems
    assert "column 'label' holds the text 'news', expected true or false" in problem
    assert read(tmp_path, record, format="text", ignore=["label"]).rows == [Row.of("a", "b")]


# Columns beside a row

SYSTEM_BESIDE = {
    "text": {"prompt": "What is the sky?", "completion": "It is blue."},
    "preference": {"prompt": "What is the sky?", "chosen": "It is blue.", "rejected": "Red."},
    "messages": {"messages": [{"role": "user", "content": "What is the sky?"},
                              {"role": "assistant", "content": "It is blue."}]},
}  # fmt: skip


@pytest.mark.parametrize("form", SYSTEM_BESIDE)
@pytest.mark.parametrize("column", ["system", "rules"])
def test_system_column_is_the_system_turn(form, column, tmp_path):
    fields = {} if column == "system" else {"system": column}
    record = SYSTEM_BESIDE[form]
    read_row = read(tmp_path, {**record, column: "Be short."}, **fields)
    assert (read_row.format, read_row.rows[0].turns) == (form, (SYSTEM, SKY, BLUE))
    assert read(tmp_path, {**record, column: ""}, **fields).rows == read(tmp_path, record).rows


def test_system_column_beside_a_system_turn_is_refused(tmp_path):
    record = {"messages": [{"role": "system", "content": "x"},
                           *SYSTEM_BESIDE["messages"]["messages"]], "system": "y"}  # fmt: skip
    (problem,) = read(tmp_path, record).problems
    assert problem == "a system prompt stands in column 'system' and in the messages in rows 1"


def test_named_column_that_is_not_there_is_refused(tmp_path):
    (problem,) = read(tmp_path, SYSTEM_BESIDE["text"], system="rules").problems
    assert problem.startswith("it lacks the column 'rules' (`system:`)")


def test_input_is_kept_where_the_study_names_alpacas_columns(tmp_path):
    record = {"instruction": "Translate.", "input": "sky", "output": "Himmel"}
    read_rows = read(tmp_path, record, prompt="instruction", completion="output")
    assert read_rows.rows == [Row.of("Translate.\n\nsky", "Himmel")]


def test_context_of_another_name_is_named(tmp_path):
    record = {"q": "Which colour?", "passage": "The sky is blue.", "a": "Blue."}
    read_rows = read(tmp_path, record, prompt="q", completion="a", context="passage")
    assert read_rows.rows == [Row.of("Which colour?\n\nThe sky is blue.", "Blue.")]


@pytest.mark.parametrize(
    "column",
    ["history", "context", "weight", "reasoning", "images", "tool_calls", "Chat History"],
)
def test_column_of_meaning_without_use_is_an_error(column, tmp_path):
    record = {**SYSTEM_BESIDE["messages"], column: "something"}
    (problem,) = read(tmp_path, record).problems
    assert problem.startswith(f"column {column!r} carries meaning, and the format messages")
    assert "name it" not in problem
    assert read(tmp_path, record, ignore=[column]).problems == []
    assert read(tmp_path, {**record, column: None}).problems == []


def test_other_columns_are_named_in_one_warning(tmp_path):
    read_rows = read(tmp_path, {**SYSTEM_BESIDE["text"], "id": 1, "source": "x", "seen": True})
    assert read_rows.notes == ["columns that are not used: id, source, seen"]
    silenced = read(
        tmp_path, {**SYSTEM_BESIDE["text"], "id": 1, "source": "x"}, ignore=["id", "source"]
    )
    assert silenced.notes == []


def test_history_that_is_no_pairs_is_refused(tmp_path):
    record = {"instruction": "a", "output": "b", "history": ["c"]}
    (problem,) = read(tmp_path, record).problems
    assert "column 'history' holds a list, expected a list of pairs" in problem


# What turns say


def chat(*turns, **columns):
    return {"messages": [{"role": r, "content": t, **more} for r, t, more in turns], **columns}


@pytest.mark.parametrize("field", ["weight", "train", "trainable"])
def test_turn_that_is_not_learned_ends_the_row_before_it(field, tmp_path):
    record = chat(
        ("user", "What is the sky?", {}), ("assistant", "It is blue.", {field: 1}),
        ("user", "And the sea?", {}), ("assistant", "Red.", {field: 0}),
    )  # fmt: skip
    (row,) = read(tmp_path, record).rows
    assert row.turns == (SKY, BLUE._replace(learned=True))


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ((("user", "a", {}), ("assistant", "b", {"weight": 0.5})), "has the weight 0.5"),
        ((("user", "a", {}), ("assistant", "b", {"weight": 0})), "no answer is learned"),
        ((("user", "a", {"train": True}), ("assistant", "b", {})), "only answers are learned"),
        ((("user", "a", {}), ("assistant", [{"type": "image", "url": "x"}], {})), "type 'image'"),
        ((("user", "a", {}), ("function_call", "no JSON", {}), ("tool", "x", {}),
          ("assistant", "b", {})), "expected a call as JSON"),
        ((("user", "a", {}), ("user", "b", {}), ("assistant", "c", {})), "turns are user, user, a"),
    ],
)  # fmt: skip
def test_turn_that_cannot_be_learned_is_refused_by_row(turns, said, tmp_path):
    good = chat(("user", "a", {}), ("assistant", "b", {}))
    (problem,) = read(tmp_path, good, chat(*turns)).problems
    assert said in problem
    assert problem.endswith("in rows 2")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"name": "f"}]),
        ("images", ["x.png"]),
        ("train_detail", [{"begin_offset": 0}]),
        ("train_on", False),
        ("function_calls", "f(1)"),
        ("thought", "Hm."),
        ("reasoning_details", [{"text": "Hm."}]),
    ],
)
def test_field_of_a_turn_that_carries_meaning_and_is_not_read_is_refused(field, value, tmp_path):
    turns = ("user", "a", {field: value}), ("assistant", "b", {})
    (problem,) = read(tmp_path, chat(*turns)).problems
    assert f"column 'messages', turn 1 (user): the field {field!r}" in problem
    assert not read(tmp_path, chat(("user", "a", {field: None}), turns[1])).problems


def test_messages_as_an_object_of_lists_and_in_capitals_are_read(tmp_path):
    record = {"messages": {"role": ["User", "ASSISTANT"], "content": [SKY.text, BLUE.text]}}
    assert read(tmp_path, record).rows == [Row((SKY, BLUE))]


def test_messages_of_a_csv_are_read_as_json(tmp_path):
    path = tmp_path / "a.csv"
    messages = SYSTEM_BESIDE["messages"]["messages"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "system"], [json.dumps(messages), "Be short."]])
    assert read_data_set("D", DataSet(path=str(path))).rows == [Row((SYSTEM, SKY, BLUE))]


def test_nothing_as_the_content_of_an_answer_says_so(tmp_path):
    (problem,) = read(tmp_path, chat(("user", "a", {}), ("assistant", None, {}))).problems
    assert "turn 2 (assistant) holds nothing as its content, expected text" in problem


def test_unknown_fields_of_turns_are_named(tmp_path):
    record = chat(("user", "a", {"ts": 1}), ("assistant", "b", {"id": "x", "name": "Bot"}))
    read_rows = read(tmp_path, record)
    assert read_rows.notes == ["fields of turns that are not used: ts, id"]
    assert read_rows.rows[0].turns[-1].more == '{"name":"Bot"}'


# Pairs


def test_conversations_that_part_early_are_refused_where_they_part(tmp_path):
    turns = [("user", "a", {}), ("assistant", "one", {}), ("user", "c", {}), ("assistant", "d", {})]
    other = [turns[0], ("assistant", "two", {}), *turns[2:]]
    sides = [chat(*side)["messages"] for side in (turns, other)]
    (problem,) = read(tmp_path, {"chosen": sides[0], "rejected": sides[1]}).problems
    assert "they part at turn 2 (assistant 'one' and assistant 'two')" in problem


def test_answers_without_any_prompt_are_refused(tmp_path):
    problems = read(tmp_path, {"chosen": "blue", "rejected": "red"}).problems
    assert [problem.split(",")[0] for problem in problems] == [
        f"column {side!r} is an answer without a prompt" for side in ("chosen", "rejected")
    ]


def test_prompt_that_says_something_else_than_the_conversation_is_named(tmp_path):
    pair = json.loads((DATA / "trl_implicit.jsonl").read_text())
    read_rows = read(tmp_path, {**pair, "prompt": "And the moon?"})
    assert read_rows.notes == [
        "column 'prompt' is not used; it says something else than the others in rows 1"
    ]


def test_several_pairs_of_a_prompt_are_pairs(tmp_path):
    pair = {"prompt": "What is the sky?", "chosen": "It is blue."}
    rows = read(tmp_path, {**pair, "rejected": "Red."}, {**pair, "rejected": "Green."}).rows
    assert len(pairs_of_one_set(rows, "P")) == 2
    data = {"P": {"path": str(tmp_path / "a.jsonl")}}
    load_data(make_study(data=data, recipes={"dpo": {"method": "dpo", "data": "P"}}))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "a", "answers": [{"answer": "b", "rank": "x"}]},
         "column 'answers', answer 1: 'rank' is no number"),
        ({"prompt": "a", "answers": [{"answer": " ", "rank": 1}]}, "'answer' holds no text"),
        ({"prompt": "a", "answers": ["b"]}, "a list, expected a list of objects with 'answer'"),
        ({"prompt": "a", "answers": [{"answer": "b", "rank": 1}]}, "no row is left to learn"),
        ({"history": "a", "human_ref_A": "b", "human_ref_B": "c", "labels": "A"},
         "column 'labels' holds the text 'A', expected 1 (the first response is better) or 0"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_ranked_are_refused(record, said, tmp_path):
    assert said in read(tmp_path, record).problems[0]


# Trees


def message(identity, parent, role="prompter", text="a", **more):
    return {"message_id": identity, "parent_id": parent, "role": role, "text": text, **more}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([message("r", None), message("a", "x", "assistant")], "no message has the id"),
        ([message("r", None), message("r", "r", "assistant")], "is that of another message too"),
        ([message("r", None), message("a", "r", "assistant", rank="best")], "expected a number"),
        ([message("r", None), message("a", "r", "assistant", rank=10**400)], "expected a number"),
        (
            [{"message_tree_id": "1", "prompt": {"text": "a", "replies": 3}}],
            "'replies' holds the number 3, expected a list of messages",
        ),
        ([message("r", None)], "no row is left to learn"),
        ([message("r", "s"), message("s", "r")], "no row is left to learn"),
        ([message("r", None, "assistant")], "the turns are assistant"),
    ],
)
def test_tree_that_cannot_be_read_says_why(records, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read(tmp_path, *records)
        data = {"D": {"path": str(tmp_path / "a.jsonl")}}
        load_data(make_study(data=data, recipes={}))


def test_tree_names_the_fields_of_its_messages_that_are_not_used(tmp_path):
    answer = {"role": "assistant", "text": "b", "replies": [], "model_name": "m", "emojis": {}}
    root = {"role": "prompter", "text": "a", "lang": "en", "replies": [answer]}
    read_rows = read(tmp_path, {"message_tree_id": "1", "prompt": root})
    assert read_rows.rows == [Row.of("a", "b")]
    assert read_rows.notes == ["fields of turns that are not used: lang, model_name, emojis"]


def test_tree_of_rows_takes_a_key_and_refuses_half_a_character(tmp_path):
    records = [message("r", None, n=1), message("a", "r", "assistant", n=2)]
    (row,) = read(tmp_path, *records, key="n").rows
    assert row.key == "2"
    (problem,) = read(
        tmp_path, message("r", None), message("a", "r", "assistant", "\ud83d")
    ).problems
    assert "half a character" in problem


@pytest.mark.parametrize("column", ["context", "history"])
def test_text_beside_the_messages_of_a_pair_is_refused(column, tmp_path):
    question = SYSTEM_BESIDE["messages"]["messages"][:1]
    for record in (
        {"messages": question, "chosen": "a", "rejected": "b"},
        {"prompt": question, "chosen": "a", "rejected": "b"},
        json.loads((DATA / "trl_implicit.jsonl").read_text()),
    ):
        (problem,) = read(tmp_path, {**record, column: [["a", "b"]]}).problems
        assert f"column {column!r} stands beside messages" in problem


def test_tree_whose_text_is_in_another_column_is_read(tmp_path):
    records = [message("r", None, text_ja="空は？"), message("a", "r", "assistant", text_ja="青")]
    read_rows = read(tmp_path, *records, format="oasst", messages="text_ja")
    assert read_rows.rows == [Row.of("空は？", "青")]
    assert read_rows.notes == ["columns that are not used: text"]


# What is shown


def test_example_in_json_has_every_turn_and_what_is_learned():
    (shown,) = (item["example"] for item in describe_files([DATA / "openai.jsonl"])["files"])
    assert shown["row"] == "1"
    assert [(turn["role"], turn["learned"]) for turn in shown["turns"]] == [
        ("system", False), ("user", False), ("assistant", False), ("user", False),
        ("assistant", True),
    ]  # fmt: skip
    (shown,) = (item["example"] for item in describe_files([DATA / "hh_rlhf.jsonl"])["files"])
    assert shown["rejected"] == {"role": "assistant", "text": "Red.", "learned": False}


def test_describe_command_shows_an_example_with_the_learned_part_marked(capsys):
    path = DATA / "sharegpt_tools.jsonl"
    assert exit_status("data", "describe", path) == 0
    said = capsys.readouterr().out
    for line in (
        "format sharegpt",
        "    [system] Be short.\n",
        "    [tool] 3 degrees\n",
        "    [assistant] [[No, it is 3 degrees.]]\n",
    ):
        assert line in said


def test_describe_command_takes_columns_beside_a_row(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "a", "a": "b", "rules": "c", "text": "d", "label": "e"}))
    words = ("--prompt", "q", "--completion", "a", "--system", "rules", "--context", "text",
             "--ignore", "label")  # fmt: skip
    assert exit_status("data", "describe", path, *words, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert [turn["text"] for turn in found["example"]["turns"]] == ["c", "a\n\nd", "b"]
    assert found["warnings"] == []


def test_describe_with_a_tokenizer_shows_the_framed_text_and_what_is_learned(capsys):
    path = DATA / "orca_dpo_pairs.jsonl"
    assert exit_status("data", "describe", path, "--tokenizer", BASE, "--json") == 0
    ((shown,),) = [[i["example"] for i in json.loads(capsys.readouterr().out)["files"]]]
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    chat = [{"role": t.role, "content": t.text} for t in (SYSTEM, SKY, BLUE)]
    asked = tokenizer.apply_chat_template(chat[:2], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert (shown["framed"], shown["learned_spans"]) == (whole, [[len(asked), len(whole)]])
    assert exit_status("data", "describe", path, "--tokenizer", BASE) == 0
    marked = f"{asked}[[{whole[len(asked) :]}]]"
    assert "".join(f"    {line}\n" for line in marked.split("\n")) in capsys.readouterr().out


def test_describe_with_a_tokenizer_names_what_its_template_leaves_out(capsys):
    path = DATA / "sharegpt_tools.jsonl"
    assert exit_status("data", "describe", path, "--tokenizer", BASE) == 2
    assert "problem: the chat template: " in capsys.readouterr().out


@pytest.mark.parametrize(("learn", "places"), [("last", [3]), ("all", [1, 3])])
def test_describe_of_a_study_marks_what_its_recipes_learn(learn, places, tmp_path):
    study = write_study_folder(
        tmp_path,
        data={"D": {"path": str(DATA / "oasst.jsonl")}},
        recipes={"r": {"method": "sft", "data": "D", "training": {"learn": learn}}},
    )
    ((shown,),) = [[item["example"] for item in describe_study(study)["files"]]]
    assert [n for n, turn in enumerate(shown["turns"]) if turn["learned"]] == places


# trl on the same records

ALIKE = ("trl_implicit", "trl_preference", "dpo_mix", "ultrafeedback_binarized")


@pytest.mark.parametrize("name", ALIKE)
def test_pair_is_the_one_that_trl_makes_of_the_record(name):
    from trl import extract_prompt

    sides = ("prompt", "chosen", "rejected") if name == "trl_preference" else ("chosen", "rejected")
    records = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    for row, record in zip(found(name).rows, records, strict=True):
        example = {side: record[side] for side in sides}
        assert (example if "prompt" in example else extract_prompt(example)) == {
            "prompt": row.chat,
            "chosen": [row.turns[-1].message],
            "rejected": [row.rejected.message],
        }


@pytest.mark.parametrize(
    "name", ["oasst_ja_chat", "trl_prompt_completion", "no_robots", "slimorca"]
)
def test_conversation_is_the_one_that_trl_makes_of_the_record(name):
    from trl import maybe_convert_to_chatml

    (record,) = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    example = maybe_convert_to_chatml(record)
    messages = example.get("messages") or example["prompt"] + example["completion"]
    names = {"human": "user", "gpt": "assistant"}
    said = [(names.get(m["role"], m["role"]), m["content"]) for m in messages]
    (row,) = found(name).rows
    assert [(turn.role, turn.text) for turn in row.turns] == said


@pytest.mark.parametrize("name", FOUND)
def test_describe_command_reads_every_layout(name, capsys):
    assert exit_status("data", "describe", DATA / f"{name}.jsonl") == 0
    said = capsys.readouterr().out
    assert f"format {FOUND[name][0]}\n" in said
    assert "[[" in said
