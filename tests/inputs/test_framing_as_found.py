"""Chat templates as published models have them, with the conversations that people bring."""

from __future__ import annotations

import json

import pytest

from raylab.errors import DataError
from raylab.plan.framing import check_framing, learned_lines
from raylab.plan.trials import plan_trials, read_inputs
from raylab.spec.data.dataset import LoadedData
from raylab.spec.data.framing import framer_of_tokenizer
from raylab.spec.data.prepared import DEFAULT_DATE, prepared
from raylab.spec.data.rendering import dated_templates, prepared_templates
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.templates import NAMED
from raylab.spec.study_file import parse_study
from raylab.train.chat import fit_tokenizer
from tests.chats import tiny_tokenizer
from tests.commands import exit_status
from tests.inputs.templates import (
    CALLS_OF_TEXT,
    DATED_WITH_TOOLS,
    FORGETS_REASONING,
    NO_SYSTEM,
    PARTS_ALONE,
    SYSTEM_IN_LAST_USER,
)
from tests.studies import make_study, write_checkpoint

SYSTEM = Turn("system", "Be brief.")
EARLIER = (Turn("user", "What now?"), Turn("assistant", "Wait."))
TOOLS = json.dumps(
    [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
)
PLAIN = Row.of("Why?", "So.")
WITH_SYSTEM = Row.of("Why?", "So.", [SYSTEM])
TALK = Row.of("Why?", "So.", EARLIER)


def call(*names):
    calls = [
        {"type": "function", "function": {"name": name, "arguments": {"word": "rain"}}}
        for name in names
    ]
    return Turn("assistant", "", json.dumps({"tool_calls": calls}))


def tool_row(*names):
    answer = (Turn("tool", "It is wet."), Turn("assistant", "It is wet water."))
    return Row((Turn("user", "What is rain?"), call(*names), *answer), tools=TOOLS)


def thoughtful(*places):
    turns = list(TALK.turns)
    for place in places:
        turns[place] = turns[place]._replace(more=json.dumps({"reasoning_content": "It rains."}))
    return Row(tuple(turns))


def base(folder, family, template):
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = template
    write_checkpoint(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base"


def check(folder, family, template, rows, learn="last"):
    """The notes of a plan for `rows`, whose model has `template`; or its error."""
    study = make_study(
        data={"D": {"path": "d.jsonl"}},
        recipes={"sft": {"method": "sft", "data": "D", "training": {"learn": learn}}},
    )
    places = [f"{n}" for n, _ in enumerate(rows, 1)]
    loaded = LoadedData({"D": rows}, places={"D": places})
    return check_framing(study, loaded, {"tiny": base(folder, family, template)})


def refused(*arguments, **options):
    with pytest.raises(DataError) as error:
        check(*arguments, **options)
    assert error.value.exit_status == 2
    assert "chat_template:" in error.value.todo
    return str(error.value.found)


def test_system_prompt_that_moves_to_the_last_question_is_refused(tmp_path):
    rows = [PLAIN, WITH_SYSTEM, TALK, WITH_SYSTEM]
    found = refused(tmp_path, "mistral", SYSTEM_IN_LAST_USER, rows)
    assert "base model tiny" in found
    assert "data set D" in found
    assert "2 conversations of one question, with a system turn, rows 2, 4" in found
    assert "text 0 of system" in found  # The prompt has it,
    assert "[INST] text 1 of user [/INST] text 2" in found  # the whole has not.
    assert check(tmp_path, "mistral", SYSTEM_IN_LAST_USER, [PLAIN, TALK]) == ()


def test_template_without_a_system_role_names_the_rows_that_have_one(tmp_path):
    found = refused(tmp_path, "gemma2", NO_SYSTEM, [PLAIN, WITH_SYSTEM, TALK])
    assert "1 conversation of one question, with a system turn, rows 2" in found
    assert "System role not supported" in found
    assert check(tmp_path, "gemma2", NO_SYSTEM, [PLAIN, TALK]) == ()


def test_template_whose_roles_alternate_names_the_rows_with_tools(tmp_path):
    found = refused(tmp_path, "gemma2", NO_SYSTEM, [PLAIN, tool_row("look_up")])
    assert "with tools and tool calls and tool turns, rows 2" in found
    assert "alternate" in found


def test_template_of_one_call_at_a_time_names_the_rows_with_two(tmp_path):
    rows = [tool_row("look_up"), tool_row("look_up", "ask")]
    found = refused(tmp_path, "llama", DATED_WITH_TOOLS, rows)
    assert "rows 2: " in found
    assert "only supports single tool-calls at once" in found
    assert check(tmp_path, "llama", DATED_WITH_TOOLS, rows[:1]) == ()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (tool_row("look_up"), ["the tools ('look_up')", "the tool calls of assistant turn 2"]),
        (Row(PLAIN.turns, tools=TOOLS), ["the tools ('look_up')"]),
        (thoughtful(3), ["the reasoning of the answer"]),
        (thoughtful(1), ["the reasoning of assistant turn 2"]),
        (
            PLAIN._replace(rejected=Turn("assistant", "No.", '{"reasoning_content": "Hm."}')),
            ["the reasoning of the rejected answer"],
        ),
    ],
)
def test_template_that_leaves_a_part_out_is_refused_by_its_name(row, words, tmp_path):
    chatml = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    found = refused(tmp_path, "qwen2", chatml, [PLAIN, row])
    for word in words:
        assert word in found


@pytest.mark.parametrize(
    ("name", "arguments"), [("f", {"word": "rain"}), ("of", {}), ("look_up", {}), ("f", {"n": 1})]
)
def test_call_of_a_short_name_or_without_texts_that_is_left_out_is_noticed(
    name, arguments, tmp_path
):
    given = {"tool_calls": [{"type": "function", "function": {"name": name}}]}
    given["tool_calls"][0]["function"]["arguments"] = arguments
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}]
    turns = (Turn("user", "a"), Turn("assistant", "", json.dumps(given)), Turn("tool", "b"))
    row = Row((*turns, Turn("assistant", "c")), tools=json.dumps(tools))
    text = FORGETS_REASONING.replace("<tool_call>{{ call.function | tojson }}</tool_call>", "")
    found = refused(tmp_path, "qwen2", text, [row])
    assert "the template leaves out the tool calls of assistant turn 2" in found
    found = refused(tmp_path, "qwen2", NAMED["chatml"], [row])
    assert "the template leaves out the tools" in found
    assert check(tmp_path, "qwen2", FORGETS_REASONING, [row]) == ()


def test_reasoning_of_earlier_turns_that_a_template_drops_is_said(tmp_path):
    rows = [PLAIN, thoughtful(1, 3), tool_row("look_up"), thoughtful(3)]
    (note,) = check(tmp_path, "qwen2", FORGETS_REASONING, rows)
    assert "reasoning of earlier turns" in note
    assert "rows 2" in note
    found = refused(tmp_path, "qwen2", FORGETS_REASONING, rows, learn="all")
    assert "once other turns follow" in found


def test_reasoning_of_an_answer_that_is_learned_may_not_be_dropped(tmp_path):
    marks = FORGETS_REASONING.replace(
        "{{ m.content }}",
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
        "{% else %}{{ m.content }}<|im_end|>{% endif %}",
    ).replace("<|im_end|>\n{% endfor %}", "\n{% endfor %}", 1)
    assert check(tmp_path, "qwen2", marks, [TALK], learn="all") == ()
    found = refused(tmp_path, "qwen2", marks, [thoughtful(1, 3)], learn="all")
    assert "leaves out the reasoning of assistant turn 2" in found


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma2"])
def test_template_whose_answers_have_no_end_is_refused_in_plan(family, tmp_path):
    text = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    text += "{% if add_generation_prompt %}assistant: {% endif %}"
    assert "no model could learn to stop" in refused(tmp_path, family, text, [PLAIN])


def test_mistake_in_a_template_is_refused_in_plan(tmp_path):
    found = refused(tmp_path, "llama", "{% for m in %}{{ m.content }}{% endfor %}", [PLAIN])
    assert "TemplateSyntaxError" in found


STUDY = """
name: tiny
base_models: {{demo: {{path: base}}}}
data:
  P: {{path: p.jsonl}}
held_out: 0
seeds: [42]
{more}
recipes:
  sft: {{method: sft, data: P}}
  dpo: {{method: dpo, data: P}}
"""
PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


def planned(file, folder, capsys):
    """(exit status, standard output, messages) of `raylab plan`."""
    capsys.readouterr()
    status = exit_status("plan", file, "--out", folder / "out")
    return status, *capsys.readouterr()


def study(folder, family="llama", template=DATED_WITH_TOOLS, more=""):
    base(folder, family, template)
    (folder / "p.jsonl").write_text(json.dumps(PAIR) + "\n")
    file = folder / "study.yaml"
    file.write_text(STUDY.format(more=more))
    return file


def trials(folder, **changes):
    file = study(folder, **changes)
    asked = parse_study(file.read_text(), file)
    return plan_trials(asked, read_inputs(asked))


def test_date_that_a_template_prints_is_part_of_the_ids(tmp_path):
    usual, same, other = (
        trials(tmp_path, more=more)
        for more in ("", "template_date: 2024-07-26", "template_date: 2025-01-31")
    )
    assert usual[0].identity["template_date"] == "2024-07-26"
    assert [t.id for t in usual] == [t.id for t in same]
    assert not {t.id for t in usual} & {t.id for t in other}


def test_date_that_no_template_prints_is_no_part_of_the_ids_and_is_said(tmp_path, capsys):
    plain = {"family": "gemma2", "template": NO_SYSTEM}
    assert "template_date" not in trials(tmp_path, **plain)[0].identity
    usual = [t.id for t in trials(tmp_path, **plain)]
    assert usual == [t.id for t in trials(tmp_path, more="template_date: 2025-01-31", **plain)]
    status, _, said = planned(tmp_path / "study.yaml", tmp_path, capsys)
    assert status == 0
    assert "`template_date` changes nothing" in said


def test_plan_refuses_with_status_2_and_writes_nothing(tmp_path, capsys):
    file = study(tmp_path, "gemma2", NO_SYSTEM.replace("'system'", "'user'", 1))
    status, _, said = planned(file, tmp_path, capsys)
    assert status == 2
    assert "System role not supported" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_plan_says_in_a_line_what_each_recipe_learns(tmp_path, capsys):
    _, out, _ = planned(study(tmp_path), tmp_path, capsys)
    unread = "(1 with a rejected answer, which SFT does not read)"
    assert f"sft learns the last answer of 1 conversation {unread}\n" in out
    assert "dpo prefers one of two last answers to 1 conversation\n" in out


def test_lines_count_answers_turns_and_marks():
    rows = [PLAIN, WITH_SYSTEM, TALK, thoughtful(1), tool_row("look_up")]
    rows.append(
        TALK._replace(turns=(TALK.turns[0], TALK.turns[1]._replace(learned=False), *TALK.turns[2:]))
    )
    asked = make_study(
        data={"D": {"path": "d.jsonl"}},
        held_out=0,
        recipes={
            "last": {"method": "sft", "data": "D"},
            "swept": {"method": "sft", "data": "D", "sweep": {"learn": ["last", "all"]}},
        },
    )
    particulars = (
        "of 6 conversations (3 of several turns, 1 with a system prompt, 1 with tools, 1 with "
        "answers marked by the data)"
    )
    assert learned_lines(asked, {"D": rows}) == [
        f"last learns the last answer {particulars}",
        f"swept.learn=last learns the last answer {particulars}",
        # Two of each talk, of the calls both; one answer is marked.
        f"swept.learn=all learns 9 of 10 answers {particulars}",
    ]


@pytest.mark.parametrize("place", ["training", "recipe", "sweep"])
def test_dpo_on_all_answers_is_refused_in_plan(place, tmp_path, capsys):
    file = study(tmp_path)
    text = file.read_text()
    change = {
        "training": ("seeds: [42]", "seeds: [42]\ntraining: {learn: all}"),
        "recipe": ("method: dpo, data: P", "method: dpo, data: P, training: {learn: all}"),
        "sweep": ("method: dpo, data: P", "method: dpo, data: P, sweep: {learn: [last, all]}"),
    }[place]
    file.write_text(text.replace(*change))
    status, _, said = planned(file, tmp_path, capsys)
    assert status == 2
    assert "recipes.dpo" in said
    assert "`learn: all` is for SFT alone" in said


def test_text_that_a_template_refuses_is_found_in_plan(tmp_path):
    picky = NO_SYSTEM.replace(
        "{% set role",
        "{% if '<think>' in m.content %}{{ raise_exception('no thoughts') }}{% endif %}{% set role",
    )
    found = refused(tmp_path, "gemma2", picky, [PLAIN, Row.of("Why?", "<think>Hm."), PLAIN])
    assert "row 2, for what it says: the template cannot be rendered: no thoughts" in found


def test_names_and_ids_that_a_template_does_without_are_said(tmp_path):
    turns = tool_row("look_up").turns
    named = turns[2]._replace(more=json.dumps({"name": "the-tool", "tool_call_id": "c1"}))
    row = Row((*turns[:2], named, turns[3]), tools=TOOLS)
    notes = check(tmp_path, "llama", DATED_WITH_TOOLS, [row])
    assert ["name of tool turn 3" in note for note in notes] == [True, False]
    assert ["tool_call_id of tool turn 3" in note for note in notes] == [False, True]


# Reasoning inside of the text, and what templates do to texts
THOUGHT = Row.of("Why?", "<think>\nIt rains.\n</think>\n\nSo.")
THOUGHTS = Row.of(
    "Why?",
    THOUGHT.completion,
    (Turn("user", "What now?"), Turn("assistant", "<think>\nHm.\n</think>\n\nWait.")),
)


def chatml(content, prompt=""):
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        f"{content}<|im_end|>\n{{% endfor %}}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant\n{prompt}{{% endif %}}"
    )


def test_reasoning_in_the_text_of_an_answer_may_not_be_dropped(tmp_path):
    template = chatml("{{ m.content.split('</think>')[-1] }}")
    found = refused(tmp_path, "qwen2", template, [PLAIN, THOUGHT])
    assert "rows 2: the template leaves out the reasoning of the answer" in found
    assert check(tmp_path, "qwen2", template, [PLAIN]) == ()
    assert check(tmp_path, "qwen2", chatml("{{ m.content }}"), [PLAIN, THOUGHT, THOUGHTS]) == ()


def test_reasoning_in_the_text_of_earlier_answers_that_is_dropped_is_said(tmp_path):
    template = chatml("{{ m.content if loop.last else m.content.split('</think>')[-1] }}")
    (note,) = check(tmp_path, "qwen2", template, [PLAIN, THOUGHTS])
    assert "the template leaves out the reasoning of earlier turns" in note
    refused(tmp_path, "qwen2", template, [THOUGHTS], learn="all")


def test_prompt_that_begins_reasoning_asks_for_answers_that_begin_so(tmp_path):
    template = chatml("{{ m.content }}", "<think>\n")
    assert check(tmp_path, "qwen2", template, [THOUGHT, THOUGHTS]) == ()
    found = refused(tmp_path, "qwen2", template, [THOUGHT, PLAIN])
    assert "1 conversation of one question, rows 2: the template frames a prompt" in found


@pytest.mark.parametrize("change", ["m.content[:20]", "m.content | e", "m.content | tojson"])
def test_text_of_an_answer_that_a_template_changes_is_refused(change, tmp_path):
    row = Row.of("Why?", 'Because of <b>"rain"</b>, of snow, of wind and of hail.')
    found = refused(tmp_path, "qwen2", chatml(f"{{{{ {change} }}}}"), [PLAIN, row])
    assert "row 2, for what it says: the template changes the text of the answer" in found


def test_text_of_a_prompt_that_a_template_changes_is_said(tmp_path):
    row = Row.of("Is <b> bold?", "Yes.")
    (note,) = check(tmp_path, "qwen2", chatml("{{ m.content | e }}"), [PLAIN, row])
    assert "row 2, for what it says: the template changes the text of user turn 1" in note
    stripped = Row.of("  Is it\n\nbold? ", " Yes.\n")
    assert check(tmp_path, "qwen2", chatml("{{ m.content | trim }}"), [stripped]) == ()


@pytest.mark.parametrize("kind", PARTS_ALONE)
def test_template_that_takes_parts_alone_is_given_them(kind, tmp_path):
    text, rows = PARTS_ALONE[kind], [WITH_SYSTEM, TALK]
    assert check(tmp_path, "qwen2", text, rows, learn="all") == ()
    given = fit_tokenizer(tiny_tokenizer("qwen2"), text, tmp_path)
    framer = framer_of_tokenizer(given)
    shown = tiny_tokenizer("qwen2")
    shown.chat_template = text
    for row in rows:
        framed = framer.frame(row, "all")
        parts = [
            {"role": turn.role, "content": [{"type": "text", "text": turn.text}]}
            for turn in row.turns
        ]
        assert framed.text == shown.apply_chat_template(parts, tokenize=False)
        learned = [framed.text[start:stop] for start, stop in framed.learned]
        answers = [turn.text for turn in row.turns if turn.role == "assistant"]
        assert learned == [f"{answer}<|im_end|>" for answer in answers]


def test_parts_are_no_part_of_the_ids_and_stand_in_a_published_template(tmp_path):
    place = base(tmp_path, "qwen2", PARTS_ALONE["each part"])
    assert dated_templates(place, None, DEFAULT_DATE) == {}
    made = prepared_templates(place, None, DEFAULT_DATE)
    published = tiny_tokenizer("qwen2")
    published.chat_template = made["default"]
    chat = [turn.message for turn in TALK.turns]
    assert "What now?<|im_end|>" in published.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize(
    "text",
    [*NAMED.values(), "{{ messages }}", "{% for m in messages %}{{ m.content[:4] }}{% endfor %}"],
)
def test_template_that_shows_texts_or_nothing_stays_as_it_is(text):
    assert prepared(text, DEFAULT_DATE) == text


@pytest.mark.parametrize("kind", CALLS_OF_TEXT)
def test_template_that_takes_calls_in_another_form_is_given_them(kind, tmp_path):
    text, row = CALLS_OF_TEXT[kind], tool_row("look_up")
    assert check(tmp_path, "qwen2", text, [row, WITH_SYSTEM]) == ()
    given = fit_tokenizer(tiny_tokenizer("qwen2"), text, tmp_path)
    framed = framer_of_tokenizer(given).frame(row).text
    assert '<|im_start|>assistant\ncall look_up with {"word": "rain"}<|im_end|>' in framed
