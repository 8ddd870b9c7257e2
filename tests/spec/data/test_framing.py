"""A row framed: which characters and tokens are learned, held against trl and an own count."""

from __future__ import annotations

import json

import pytest
from trl import SFTTrainer

from raylab.spec.data.framing import (
    FramingError,
    framer_of,
    framer_of_tokenizer,
    is_plain,
    learned_turns,
    tokenise_with,
)
from raylab.spec.data.prepared import DEFAULT_DATE
from raylab.spec.data.rendering import template_of
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.templates import NAMED
from raylab.train.chat import fit_tokenizer
from tests.chats import FAMILIES, tiny_tokenizer

TALK = Row.of(
    "And then?",
    "Then go.",
    [
        Turn("system", "Be brief."),
        Turn("user", "What now?"),
        Turn("assistant", "Wait a bit."),
        Turn("user", "Why?"),
        Turn("assistant", "It rains."),
    ],
)
FAMILY_OF = {row["template"]: family for family, row in FAMILIES.items()}
CHATML = NAMED["chatml"]
# Earlier answers lose their thoughts, as Qwen3's template does it.
FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Only the last answer has its end.
ENDS_LAST = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def marked(turn_marks):
    """TALK, whose answers are marked as `turn_marks` says."""
    marks = iter(turn_marks)
    turns = [t._replace(learned=next(marks)) if t.role == "assistant" else t for t in TALK.turns]
    return TALK._replace(turns=tuple(turns))


def trl_mask(tokenizer, row):
    """The tokens and mask of trl's `assistant_only_loss`, out of the template's markers."""
    messages = [turn.message for turn in row.turns]
    found = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    return found["input_ids"], found["assistant_masks"]


def counted_mask(tokenizer, row, end, places):
    """An own count: after the header of each learned turn, up to its first end."""
    ids = tokenizer.apply_chat_template([t.message for t in row.turns], return_dict=True)
    ids = ids["input_ids"]
    header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    starts = [i + len(header) for i in range(len(ids)) if ids[i : i + len(header)] == header]
    answers = [place for place, turn in enumerate(row.turns) if turn.role == "assistant"]
    mask = [0] * len(ids)
    for place, start in zip(answers, starts, strict=True):
        stop = ids.index(end, start) + 1
        if place in places:
            mask[start:stop] = [1] * (stop - start)
    return ids, mask


@pytest.mark.parametrize("name", NAMED)
def test_all_answers_are_the_tokens_of_trls_assistant_only_loss(name):
    tokenizer = tiny_tokenizer(FAMILY_OF.get(name, "mistral"), markers=True, template=name)
    tokens = framer_of_tokenizer(tokenizer).frame(TALK, "all").tokens(tokenise_with(tokenizer))
    assert (tokens.ids, tokens.mask) == trl_mask(tokenizer, TALK)
    assert not tokens.joined


# Markers around the header of the answer and the newline after its end, in pieces.
WIDE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}<|im_start|>assistant\n{% endgeneration %}"
    "{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("text", [WIDE, "{% set day = strftime_now('%Y') %}{{ day }}\n" + WIDE])
def test_all_answers_are_what_a_template_marks_in_its_own_way(text, tmp_path):
    tokenizer = fit_tokenizer(tiny_tokenizer("qwen2"), text, tmp_path)
    framer = framer_of_tokenizer(tokenizer)
    tokens = framer.frame(TALK, "all").tokens(tokenise_with(tokenizer))
    assert (tokens.ids, tokens.mask) == trl_mask(tokenizer, TALK)
    # One of the three, and the last answer as `last` learns it.
    first = framer.frame(marked((True, False, None))).marked()
    assert first.count("[[") == 2
    assert "[[<|im_start|>assistant\nWait a bit.<|im_end|>\n]]" in first
    assert first.endswith("<|im_start|>assistant\n[[Then go.<|im_end|>\n]]")
    tokenizer.save_pretrained(tmp_path)
    of_files = framer_of(template_of(tmp_path, None, DEFAULT_DATE))
    assert of_files.frame(TALK, "all") == framer.frame(TALK, "all")


@pytest.mark.parametrize(
    ("learn", "marks", "places"),
    [
        ("all", (None, None, None), [2, 4, 6]),
        ("all", (False, None, None), [4, 6]),
        ("last", (True, None, None), [2, 6]),
        ("last", (True, False, True), [2, 6]),
    ],
)
def test_marks_of_the_data_decide_before_the_study_does(learn, marks, places):
    row, tokenizer = marked(marks), tiny_tokenizer("qwen2")
    assert learned_turns(row, learn) == places
    tokens = framer_of_tokenizer(tokenizer).frame(row, learn).tokens(tokenise_with(tokenizer))
    ids, mask = counted_mask(tokenizer, row, tokenizer.eos_token_id, places)
    if learn == "last":
        mask[-1] = 1  # The newline that follows the last answer's end.
    assert (tokens.ids, tokens.mask) == (ids, mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_last_answer_of_texts_alone_has_the_tokens_that_trl_makes(family):
    tokenizer = tiny_tokenizer(family)
    tokens = framer_of_tokenizer(tokenizer).frame(TALK).tokens(tokenise_with(tokenizer))
    own = trl_example(tokenizer, TALK)
    assert tokens.ids == own["input_ids"]
    assert tokens.mask == own["completion_mask"]


def trl_example(tokenizer, row):
    from datasets import Dataset
    from trl import SFTConfig

    class Bare:
        chat_template, completion_only_loss, _tokenizer = None, False, tokenizer

    data = Dataset.from_list([{"prompt": row.chat, "completion": [row.turns[-1].message]}])
    options = SFTConfig(max_length=None, use_cpu=True, bf16=False)
    made = SFTTrainer._prepare_dataset(Bare(), data, tokenizer, options, False, None, "train")
    return made[0]


def test_framed_text_shows_what_is_learned():
    framer = framer_of_tokenizer(tiny_tokenizer("llama"))
    text = framer.frame(TALK, "all").marked()
    assert text.count("[[") == text.count("]]") == 3
    for answer in ("Wait a bit.", "It rains.", "Then go."):
        assert f"[[{answer}<|eot_id|>]]" in text
    assert "[[" not in framer.frame(TALK).text


def test_framer_of_files_frames_as_that_of_the_tokenizer(tmp_path):
    tokenizer = tiny_tokenizer("gemma2")
    tokenizer.save_pretrained(tmp_path)
    template = template_of(tmp_path, None, DEFAULT_DATE)
    for learn in ("last", "all"):
        ours, theirs = (
            f.frame(TALK, learn) for f in (framer_of(template), framer_of_tokenizer(tokenizer))
        )
        assert ours == theirs
    assert framer_of(template).end == framer_of_tokenizer(tokenizer).end == "<end_of_turn>"


def with_template(text, family="qwen2"):
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = text
    return framer_of_tokenizer(tokenizer)


def thoughtful(place):
    turns = list(TALK.turns)
    more = json.dumps({"reasoning_content": "It pours."})
    turns[place] = turns[place]._replace(more=more)
    return TALK._replace(turns=tuple(turns))


def test_earlier_answer_that_loses_its_thoughts_is_refused_where_it_is_learned():
    framer = with_template(FORGETS)
    assert "It pours." not in framer.frame(thoughtful(2)).text
    assert "<think>It pours.</think>" in framer.frame(thoughtful(6), "all").text
    with pytest.raises(FramingError, match="once other turns follow") as error:
        framer.frame(thoughtful(2), "all")
    assert "It pours." in str(error.value)


def test_earlier_answer_without_an_end_of_its_own_is_refused_where_it_is_learned():
    framer = with_template(ENDS_LAST, "mistral")
    assert framer.frame(TALK).marked().endswith("[assistant][[Then go.</s>]]")
    with pytest.raises(FramingError, match="once other turns follow"):
        framer.frame(TALK, "all")


def test_prompt_that_changes_once_its_answer_follows_is_refused_with_both_texts():
    framer = with_template(CHATML + "{% if add_generation_prompt %}<think>{% endif %}")
    with pytest.raises(FramingError) as error:
        framer.frame(TALK)
    assert "<think>" in str(error.value)
    assert "Then go." in str(error.value)


def test_answer_that_begins_a_conversation_cannot_be_learned():
    greeting = TALK._replace(turns=(Turn("assistant", "Hello."), *TALK.turns[1:]))
    framer = framer_of_tokenizer(tiny_tokenizer("qwen2"))
    assert framer.frame(greeting).text
    with pytest.raises(FramingError, match="nothing precedes"):
        framer.frame(greeting, "all")


def test_plain_rows_are_texts_whose_last_answer_alone_is_learned():
    assert is_plain(TALK)
    assert is_plain(marked((False, None, True)))
    assert not is_plain(TALK, "all")
    assert not is_plain(marked((True, None, None)))
    assert not is_plain(thoughtful(2))
    assert not is_plain(TALK._replace(tools='[{"name": "look"}]'))
