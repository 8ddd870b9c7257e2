"""What trl trains on where raylab frames: all answers, marks of the data, tools and reasoning."""

from __future__ import annotations

import datetime
import json

import pytest
from transformers.utils import chat_template_utils

from raylab.errors import DataError, ModelError
from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.rows import Row, Turn
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.store.records import read_attempts
from raylab.train.chat import ExampleCounts
from raylab.train.evaluate.generate import generate_answers
from raylab.train.evaluate.likelihoods import measure_likelihoods
from raylab.train.examples import examples_of
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer
from raylab.train.trial import TrialTask, run_trial
from tests.chats import save_base, tiny_tokenizer
from tests.inputs.templates import DATED_WITH_TOOLS, FORGETS_REASONING, NO_SYSTEM
from tests.studies import write_jsonl

TOOLS = json.dumps([{"type": "function", "function": {"name": "look", "parameters": {}}}])
CALL = json.dumps(
    {"tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"at": "x"}}}]}
)
OTHER_CALL = CALL.replace('{"at": "x"}', '{"count": 2}')
ASKED = (Turn("user", "Rain?"), Turn("assistant", "", CALL), Turn("tool", "wet"))
USES_TOOLS = Row((*ASKED, Turn("assistant", "It is wet.")), tools=TOOLS)
CALLS = Row((Turn("user", "Count."), Turn("assistant", "", OTHER_CALL)), tools=TOOLS)
TALK = Row.of("And?", "Go.", [Turn("user", "Now?"), Turn("assistant", "Wait.")])
PLAIN = Row.of("Hi?", "No.")
STUDY = """
name: tiny
base_models: {{demo: {{path: base}}}}
data: {{D: {{path: d.jsonl}}}}
held_out: {held_out}
seeds: [42]
quantization: {{bits: 16, compute_dtype: float32}}
training: {{batch_size: 2, epochs: 1, max_length: {max_length}}}
evaluation: {{prompts: 2, max_new_tokens: 4, every_epochs: null}}
recipes:
  last: {{method: sft, data: D}}
  all: {{method: sft, data: D, training: {{learn: all}}}}
  dpo: {{method: dpo, data: D}}
"""


class Small:
    """A study over a tiny base model with `template` and the rows `rows`."""

    def __init__(self, folder, family, template, rows, max_length=512, held_out=0):
        tokenizer = tiny_tokenizer(family)
        tokenizer.chat_template = template
        self.base, self.out, self.rows = folder / "base", folder / "out", rows
        save_base(self.base, family, tokenizer)
        names = ("prompt", "chosen", "rejected")
        write_jsonl(folder / "d.jsonl", [(f"{n}?", "a", "b") for n in range(20)], names)
        text = STUDY.format(max_length=max_length, held_out=held_out)
        self.study = parse_study(text, folder / "study.yaml")
        self.trials = {
            trial.variant.name: trial for trial in plan_trials(self.study, read_inputs(self.study))
        }

    def trainer(self, recipe):
        variant = self.trials[recipe].variant
        where = self.out / recipe
        settings = TrainerSettings(
            variant, Seeds.of(42), self.study.quantization, Evaluation(), where
        )
        return build_trainer(
            load_base(self.base, self.study.quantization),
            load_tokenizer(self.base, None, self.study.template_date),
            examples_of(variant, {"D": self.rows}, 0),
            settings,
            [],
        )

    def run(self, recipe, rows=None):
        trial = self.trials[recipe]
        found = {"D": rows or self.rows}
        task = TrialTask(self.study, trial, {trial.name: trial}, found, self.base, str(self.out))
        return run_trial(task, task_vector_norms, lambda progress: None)


def text_of(tokenizer, messages, prompt=False, tools=TOOLS):
    return tokenizer.apply_chat_template(
        messages, tools=json.loads(tools) if tools else None, add_generation_prompt=prompt,
        tokenize=False,
    )  # fmt: skip


def learned_text(row, tokenizer):
    """The learned tokens of a row of a trainer's data, as texts of connected parts."""
    parts, ids = [], []
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        assert label in (token, -100)
        if label == -100 and ids:
            parts, ids = [*parts, tokenizer.decode(ids)], []
        ids += [token] if label != -100 else []
    return [*parts, tokenizer.decode(ids)] if ids else parts


SAID = '{"name": "look", "parameters": {"at": "x"}}<|eot_id|>'


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("last", [["It is wet.<|eot_id|>"], ["Go.<|eot_id|>"], ["No.<|eot_id|>"]]),
        (
            "all",
            [
                [SAID, "It is wet.<|eot_id|>"],
                ["Wait.<|eot_id|>", "Go.<|eot_id|>"],
                ["No.<|eot_id|>"],
            ],
        ),
    ],
)
def test_answers_are_learned_in_the_frame_of_tools_and_calls(recipe, expected, tmp_path):
    rows = [USES_TOOLS, TALK, PLAIN]
    trainer = Small(tmp_path, "llama", DATED_WITH_TOOLS, rows).trainer(recipe)
    tokenizer = trainer.processing_class
    assert trainer.train_dataset.column_names == ["input_ids", "labels"]
    assert [learned_text(row, tokenizer) for row in trainer.train_dataset] == expected
    for row, made in zip(rows, trainer.train_dataset, strict=True):
        whole = text_of(tokenizer, [turn.message for turn in row.turns], tools=row.tools)
        assert tokenizer.decode(made["input_ids"]) == whole
    assert '"name": "look"' in tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    trainer.train()


def test_arguments_of_one_call_do_not_reach_another(tmp_path):
    trainer = Small(tmp_path, "llama", DATED_WITH_TOOLS, [USES_TOOLS, CALLS]).trainer("last")
    (said,) = learned_text(trainer.train_dataset[1], trainer.processing_class)
    assert said == '{"name": "look", "parameters": {"count": 2}}<|eot_id|>'


def test_marks_of_the_data_choose_the_answers(tmp_path):
    turns = [turn._replace(learned=turn.text != "Go.") if turn.role == "assistant" else turn
             for turn in TALK.turns]  # fmt: skip
    more = (Turn("user", "Yes?"), Turn("assistant", "Yes.", "", True))
    small = Small(tmp_path, "gemma2", NO_SYSTEM, [Row((*turns, *more))])
    trainer = small.trainer("last")
    tokenizer = trainer.processing_class
    (row,) = trainer.train_dataset
    assert learned_text(row, tokenizer) == ["Wait.<end_of_turn>", "Yes.<end_of_turn>\n"]


def test_preference_with_reasoning_is_compared_with_it(tmp_path):
    row = TALK._replace(
        turns=(*TALK.turns[:-1], Turn("assistant", "Go.", '{"reasoning_content": "Hm."}')),
        rejected=Turn("assistant", "Stay."),
        tools=TOOLS,
    )
    trainer = Small(
        tmp_path, "qwen2", FORGETS_REASONING, [row, PLAIN._replace(rejected=TALK.turns[1])]
    ).trainer("dpo")
    tokenizer = trainer.processing_class
    made = trainer.train_dataset[0]
    assert tokenizer.decode(made["prompt_ids"]) == text_of(tokenizer, row.chat, True)
    assert tokenizer.decode(made["chosen_ids"]) == "<think>\nHm.\n</think>\n\nGo.<|im_end|>\n"
    assert tokenizer.decode(made["rejected_ids"]) == "<think>\n\n</think>\n\nStay.<|im_end|>\n"
    assert "Stay." not in str(small_sft_texts(tmp_path, row))
    trainer.train()


def test_preferences_compare_last_answers_whatever_is_marked(tmp_path):
    marked = TALK._replace(
        turns=(TALK.turns[0], TALK.turns[1]._replace(learned=True), *TALK.turns[2:]),
        rejected=Turn("assistant", "Stay."),
    )
    trainer = Small(tmp_path, "gemma2", NO_SYSTEM, [marked]).trainer("dpo")
    (row,), tokenizer = trainer.train_dataset, trainer.processing_class
    assert tokenizer.decode(row["prompt_ids"]) == text_of(tokenizer, TALK.chat, True, None)
    assert tokenizer.decode(row["chosen_ids"]) == "Go.<end_of_turn>\n"


def small_sft_texts(folder, row):
    trainer = Small(folder, "qwen2", FORGETS_REASONING, [row]).trainer("last")
    return [trainer.processing_class.decode(r["input_ids"]) for r in trainer.train_dataset]


def test_what_does_not_fit_is_counted_by_the_answers_that_are_learned(tmp_path):
    # One token a letter: TALK's first answer is learned in full, its last not at all.
    small = Small(tmp_path, "gemma2", NO_SYSTEM, [TALK])
    (whole,) = small.trainer("all").train_dataset
    first, last = (
        [i for i, label in enumerate(whole["labels"]) if label != -100][place] for place in (0, -1)
    )
    for length, expected in (
        (last + 1, ExampleCounts(1, 0, 0)),
        (last, ExampleCounts(1, 1, 0)),
        (first + 1, ExampleCounts(1, 1, 0)),
    ):
        trainer = Small(tmp_path, "gemma2", NO_SYSTEM, [TALK], length).trainer("all")
        assert trainer.counts["train"] == expected
        (row,) = trainer.train_dataset
        assert row["input_ids"] == whole["input_ids"][:length]
    with pytest.raises(DataError, match="short enough"):
        Small(tmp_path, "gemma2", NO_SYSTEM, [TALK], first).trainer("all")


def test_question_with_tools_is_asked_with_them(tmp_path):
    small = Small(tmp_path, "llama", DATED_WITH_TOOLS, [USES_TOOLS])
    tokenizer = load_tokenizer(small.base)
    model = load_base(small.base, small.study.quantization)
    seen = []
    generate = model.generate
    model.generate = lambda **given: seen.append(given) or generate(**given)
    tool, plain = generate_answers(
        model, tokenizer, [USES_TOOLS, PLAIN], Evaluation(max_new_tokens=3), 1
    )
    ids = seen[0]["input_ids"][0][seen[0]["attention_mask"][0] == 1]
    assert tokenizer.decode(ids) == text_of(tokenizer, USES_TOOLS.chat, True)
    assert tool.as_row()["chat"] == USES_TOOLS.chat
    assert tool.as_row()["tools"] == json.loads(TOOLS)
    assert not {"chat", "tools", "earlier", "asked"} & set(plain.as_row())


def test_likelihood_of_an_answer_after_tools_counts_its_tokens_alone(tmp_path):
    small = Small(tmp_path, "llama", DATED_WITH_TOOLS, [USES_TOOLS])
    tokenizer = load_tokenizer(small.base)
    model = load_base(small.base, small.study.quantization)
    found = measure_likelihoods(model, tokenizer, {"D": (USES_TOOLS,)}, 512)["D"]
    assert found.tokens == len("It is wet.") + 1


class Clock(datetime.datetime):
    """Another day."""

    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 17)


def test_adapter_is_the_same_on_every_day(tmp_path, scratch, monkeypatch):
    adapters = []
    for clock in (datetime.datetime, Clock):
        monkeypatch.setattr(chat_template_utils, "datetime", clock)
        (tmp_path / clock.__name__).mkdir()
        small = Small(tmp_path / clock.__name__, "llama", DATED_WITH_TOOLS, [], held_out=0.2)
        rows = [Row.of(f"{n}?", "a") for n in range(20)]
        small.run("last", rows)
        (file,) = small.out.rglob("adapter_model.safetensors")
        (samples,) = small.out.rglob("samples.jsonl")
        adapters.append((file.read_bytes(), samples.read_text()))
    assert adapters[0] == adapters[1]


def test_template_that_the_trial_alone_sees_is_bad_data_before_it_trains(tmp_path, scratch):
    small = Small(tmp_path, "gemma2", NO_SYSTEM, [])
    rows = [PLAIN, Row.of("Hi?", "No.", [Turn("system", "Be brief.")])]
    with pytest.raises(DataError, match="System role not supported") as error:
        small.run("last", rows)
    assert "rows 2" in str(error.value)
    trial = small.trials["last"]
    assert [a.cause for a in read_attempts(Store(str(small.out)), trial.folder)] == ["bad_data"]


def test_row_that_a_template_cannot_frame_is_bad_data_that_names_it(tmp_path):
    picky = NO_SYSTEM.replace(
        "{% set role",
        "{% if 'secret' in m.content %}{{ raise_exception('hush') }}{% endif %}{% set role",
    )
    rows = [PLAIN, Row.of("A secret?", "No.")]
    for recipe in ("last", "all"):
        with pytest.raises(DataError, match="hush") as error:
            Small(tmp_path, "gemma2", picky, rows).trainer(recipe)
        assert "example 2, 'A secret?'" in str(error.value)


def test_dated_template_whose_date_is_no_part_of_the_id_is_not_trained(tmp_path, scratch):
    small = Small(tmp_path, "llama", DATED_WITH_TOOLS, [PLAIN])
    trial = small.trials["last"]
    identity = {key: value for key, value in trial.identity.items() if key != "template_date"}
    small.trials["last"] = trial.__class__(**{**vars(trial), "identity": identity})
    with pytest.raises(ModelError, match="not part of the trial's id"):
        small.run("last")


@pytest.mark.parametrize("recipe", ["all", "dpo"])
def test_trial_over_tools_trains_evaluates_and_finds_its_data_again(recipe, tmp_path, scratch):
    rejected = Turn("assistant", "It is dry.")
    rows = [
        USES_TOOLS._replace(
            turns=(Turn("user", f"Rain {n}?"), *USES_TOOLS.turns[1:]), rejected=rejected
        )
        for n in range(8)
    ]
    small = Small(tmp_path, "llama", DATED_WITH_TOOLS, [], held_out=0.4)
    adapters = []
    for out in ("one", "two"):
        small.out = tmp_path / out
        record = small.run(recipe, rows)
        (file,) = small.out.rglob("adapter_model.safetensors")
        adapters.append(file.read_bytes())
        assert 0 < record.metrics["examples"] < 8
        assert record.metrics["likelihoods"]["D"]["tokens"] > 0
        (samples,) = small.out.rglob("samples.jsonl")
        assert json.loads(samples.read_text().splitlines()[0])["tools"] == json.loads(TOOLS)
    assert adapters[0] == adapters[1]
