"""What is learned, token by token: the answer with its end, whatever pads; and what is cut."""

from __future__ import annotations

import pytest
import torch

from raylab.errors import ModelError
from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.rows import Row
from raylab.spec.data.templates import NAMED
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Quantization
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.store.records import read_records
from raylab.train.chat import ExampleCounts, end_of_answer, fit_tokenizer, teach_stopping
from raylab.train.evaluate.generate import generate_answers
from raylab.train.examples import examples_of
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer
from raylab.train.trial import TrialTask, run_trial
from tests.chats import FAMILIES, save_base, tiny_tokenizer
from tests.studies import write_jsonl

# Prompt, then answer: words, special tokens and merged newlines are tokens, the rest are bytes.
# What is learned stands after the bar.
TOKENS = {
    "llama": "<|begin_of_text|> <|start_header_id|> user <|end_header_id|> ĊĊ H i ? <|eot_id|>"
    " <|start_header_id|> a s s i s t a n t <|end_header_id|> ĊĊ | N o . <|eot_id|>",
    "qwen2": "<|im_start|> user Ċ H i ? <|im_end|> Ċ <|im_start|> a s s i s t a n t Ċ"
    " | N o . <|im_end|> Ċ",
    "mistral": "<s> [ I N S T ] Ġ H i ? Ġ [ / I N S T ] | Ġ N o . </s>",
    "gemma2": "<bos> <start_of_turn> user Ċ H i ? <end_of_turn> Ċ <start_of_turn> model Ċ"
    " | N o . <end_of_turn> Ċ",
}
# The whole text of a template whose words are Japanese, and so many bytes.
TEXTS = {
    "gpt_neox": "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。"
    "要求を適切に満たす応答を書きなさい。\n\n### 指示: \nHi?\n\n### 応答: \n|No.<|endoftext|>",
}
ENDS = {
    "llama": "<|eot_id|>",
    "qwen2": "<|im_end|>",
    "mistral": "</s>",
    "gpt_neox": "<|endoftext|>",
    "gemma2": "<end_of_turn>",
}

STUDY = """
name: tiny
base_models: {{demo: {{path: base}}}}
data:
  D0: {{path: d0.jsonl}}
  D1: {{path: d1.jsonl}}
held_out: {held_out}
seeds: [42]
quantization: {{bits: 16, compute_dtype: float32}}
training: {{learning_rate: 1e-2, batch_size: 4, epochs: {epochs}, max_length: {max_length}}}
evaluation: {{prompts: 12, max_new_tokens: 12, every_epochs: null}}
recipes:
  sft: {{method: sft, data: D0}}
  dpo: {{method: dpo, chosen: D0, rejected: D1}}
"""


class Small:
    """A study over a tiny base model that is in `folder`."""

    def __init__(self, folder, pairs, held_out=0, epochs=1, max_length=256):
        write_jsonl(folder / "d0.jsonl", [(prompt, answer) for prompt, answer, _ in pairs])
        write_jsonl(folder / "d1.jsonl", [(prompt, other) for prompt, _, other in pairs])
        text = STUDY.format(held_out=held_out, epochs=epochs, max_length=max_length)
        self.base, self.out = folder / "base", folder / "out"
        self.study = parse_study(text, folder / "study.yaml")
        self.inputs = read_inputs(self.study)
        self.trials = {t.variant.name: t for t in plan_trials(self.study, self.inputs)}

    def run(self, recipe):
        trial = self.trials[recipe]
        trials = {trial.name: trial}
        work = TrialTask(self.study, trial, trials, self.inputs.rows, self.base, str(self.out))
        return run_trial(work, task_vector_norms, lambda progress: None)

    def trainer(self, recipe, tokenizer=None):
        variant = self.trials[recipe].variant
        settings = TrainerSettings(
            variant, Seeds.of(42), self.study.quantization, Evaluation(), self.out / "t"
        )
        examples = examples_of(variant, self.inputs.rows, 0)
        tokenizer = tokenizer or load_tokenizer(self.base)
        model = load_base(self.base, self.study.quantization)
        return build_trainer(model, tokenizer, examples, settings, [])


def shown(tokenizer, ids, learned):
    """Tokens as in TOKENS; a bar where learning begins."""
    first = learned.index(True)
    assert learned == [False] * first + [True] * (len(ids) - first)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return " ".join([*tokens[:first], "|", *tokens[first:]])


def text_of(tokenizer, ids, learned):
    first = learned.index(True)
    return tokenizer.decode(ids[:first]) + "|" + tokenizer.decode(ids[first:])


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_sft_learns_the_answer_and_its_end_alone(family, markers, tmp_path):
    save_base(tmp_path / "base", family, tiny_tokenizer(family, markers))
    trainer = Small(tmp_path, [("Hi?", "No.", "Yes.")]).trainer("sft")
    (row,), tokenizer = trainer.train_dataset, trainer.processing_class
    learned = [label != -100 for label in row["labels"]]
    assert [x for x in row["labels"] if x != -100] == row["input_ids"][learned.index(True) :]
    if family in TEXTS:
        assert text_of(tokenizer, row["input_ids"], learned) == TEXTS[family]
    else:
        assert shown(tokenizer, row["input_ids"], learned) == TOKENS[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_dpo_compares_the_answers_and_their_ends_alone(family, tmp_path):
    save_base(tmp_path / "base", family)
    trainer = Small(tmp_path, [("Hi?", "No.", "Yes.")]).trainer("dpo")
    (row,), tokenizer = trainer.train_dataset, trainer.processing_class
    for side, answer in (("chosen", "No."), ("rejected", "Yes.")):
        ids = row["prompt_ids"] + row[f"{side}_ids"]
        learned = [i >= len(row["prompt_ids"]) for i in range(len(ids))]
        if family in TEXTS:
            expected = TEXTS[family].replace("No.", answer)
            assert text_of(tokenizer, ids, learned) == expected
        else:
            expected = TOKENS[family].replace("N o .", " ".join(answer))
            assert shown(tokenizer, ids, learned) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_asked_is_what_was_the_prompt(family, tmp_path):
    save_base(tmp_path / "base", family)
    small = Small(tmp_path, [("Hi?", "No.", "Yes.")])
    trainer = small.trainer("sft")
    (row,) = trainer.train_dataset
    chat = [{"role": "user", "content": "Hi?"}]
    asked = trainer.processing_class.apply_chat_template(chat, add_generation_prompt=True)
    first = [label != -100 for label in row["labels"]].index(True)
    assert asked["input_ids"] == row["input_ids"][:first]


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_end_that_pads_as_well_is_learned_and_padding_is_not(family, tmp_path):
    tokenizer = tiny_tokenizer(family, eos=ENDS[family])
    save_base(tmp_path / "base", family, tokenizer)
    pairs = [("Hi?", "No.", "Yes."), ("Hi again?", "No, not at all.", "Yes.")]
    trainer = Small(tmp_path, pairs).trainer("sft")
    assert trainer.processing_class.pad_token == trainer.processing_class.eos_token
    batch = trainer.data_collator(list(trainer.train_dataset))
    end = trainer.processing_class.eos_token_id
    rows = (batch[key] for key in ("input_ids", "labels", "attention_mask"))
    for ids, labels, mask in zip(*rows, strict=True):
        length = int(mask.sum())
        assert ids[length - 1] == labels[length - 1] == end
        assert torch.all(ids[length:] == end)
        assert torch.all(labels[length:] == -100)
    assert not torch.all(batch["attention_mask"] == 1)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_model_that_never_stopped_learns_to_whatever_pads(family, tmp_path, scratch):
    save_base(tmp_path / "base", family)
    pairs = [(f"Question {i}?", "No." if i % 2 else "Not so.", "Yes.") for i in range(48)]
    small = Small(tmp_path, pairs, held_out=0.3, epochs=8)
    tokenizer, model = load_tokenizer(small.base), load_base(small.base, small.study.quantization)
    teach_stopping(model, tokenizer)
    questions = [Row.of(prompt, answer) for prompt, answer, _ in pairs[:12]]
    said = generate_answers(model, tokenizer, questions, Evaluation(max_new_tokens=12), 42)
    assert sum(sample.stopped for sample in said) == 0
    assert small.run("sft").metrics["stopped_rate"] > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_stops_at_the_end_of_an_answer_that_the_model_forgot(family, tmp_path):
    save_base(tmp_path / "base", family)
    tokenizer = load_tokenizer(tmp_path / "base")
    model = load_base(tmp_path / "base", Quantization(bits=16))
    end = tokenizer.convert_tokens_to_ids(ENDS[family])
    assert end_of_answer(tokenizer) == end
    teach_stopping(model, tokenizer)
    known = model.generation_config.eos_token_id
    assert end in (known if isinstance(known, list) else [known])
    assert tokenizer.eos_token_id in (known if isinstance(known, list) else [known])


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_several_lengths_are_answered_as_each_alone(family, tmp_path):
    tokenizer = tiny_tokenizer(family)
    tokenizer.padding_side = "right"
    save_base(tmp_path / "base", family, tokenizer)
    tokenizer = load_tokenizer(tmp_path / "base")
    model = load_base(tmp_path / "base", Quantization(bits=16, compute_dtype="float32"))
    asked = ("Hi?", "How do you do today, madam?", "Who are you?")
    questions = [Row.of(prompt, "") for prompt in asked]
    how = (Evaluation(max_new_tokens=6), 42)
    alone = [
        sample for row in questions for sample in generate_answers(model, tokenizer, [row], *how)
    ]
    assert generate_answers(model, tokenizer, questions, *how) == alone


@pytest.mark.parametrize("name", NAMED)
def test_named_template_ends_answers_within_the_markers(name):
    family = next((f for f, row in FAMILIES.items() if row["template"] == name), "mistral")
    tokenizer = fit_tokenizer(tiny_tokenizer(family, markers=True, template=name), None, None)
    chat = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "No."}]
    found = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    pairs = zip(found["input_ids"], found["assistant_masks"], strict=True)
    said = [token for token, is_said in pairs if is_said]
    assert tokenizer.decode(said).strip() == "No." + tokenizer.decode(end_of_answer(tokenizer))


BAD = {
    "no template": (None, "has no chat template"),
    "no end": (NAMED["plain"].replace(" + eos_token", ""), "no model could learn to stop"),
    "words for tokens": (NAMED["chatml"], "no model could learn to stop"),
    "another prompt": (
        NAMED["plain"] + "{% if add_generation_prompt %} {% endif %}",
        "another way",
    ),
    "no Jinja": ("{% for message in %}", "cannot be rendered"),
    "a system's words": (
        "{{ raise_exception('say who you are') }}" + NAMED["plain"],
        "say who you are",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_template_by_which_nothing_good_is_learned_is_refused(case, tmp_path):
    template, words = BAD[case]
    tokenizer = tiny_tokenizer("mistral", template=None)
    with pytest.raises(ModelError, match=words) as error:
        fit_tokenizer(tokenizer, template, tmp_path)
    assert "chat_template:" in str(error.value)


def test_tokenizer_with_neither_pad_nor_end_is_refused(tmp_path):
    tokenizer = tiny_tokenizer("mistral", eos=None)
    with pytest.raises(ModelError, match="neither a pad nor an end-of-sequence token"):
        fit_tokenizer(tokenizer, None, tmp_path)


# With the template "plain", a prompt of n letters is n + 19 tokens; an answer of m is m + 2 more.
LONG = [("a" * 10, "b" * 5, "c" * 9), ("d" * 11, "e" * 30, "f" * 2), ("g" * 40, "h", "i")]


@pytest.mark.parametrize(
    ("recipe", "max_length", "expected"),
    [
        ("sft", 200, ExampleCounts(3, 0, 0)),
        ("sft", 40, ExampleCounts(2, 1, 1)),
        ("sft", 60, ExampleCounts(3, 2, 0)),
        ("dpo", 39, ExampleCounts(2, 2, 1)),
        ("dpo", 40, ExampleCounts(2, 1, 1)),
    ],
)
def test_what_does_not_fit_is_counted_as_trl_cuts_it(recipe, max_length, expected, tmp_path):
    save_base(tmp_path / "base", "mistral", tiny_tokenizer("mistral", template="plain"))
    trainer = Small(tmp_path, LONG, max_length=max_length).trainer(recipe)
    assert trainer.counts["train"] == expected
    assert len(trainer.train_dataset) == expected.examples


def test_what_is_cut_is_in_the_record_and_said_once(tmp_path, scratch, caplog):
    save_base(tmp_path / "base", "mistral", tiny_tokenizer("mistral", template="plain"))
    small = Small(tmp_path, LONG, max_length=40)
    for _ in range(2):
        small.out = tmp_path / f"out{_}"
        caplog.clear()
        metrics = small.run("sft").metrics
        assert {k: metrics[k] for k in ("examples", "cut", "dropped")} == {
            "examples": 2,
            "cut": 1,
            "dropped": 1,
        }
        (said,) = [r.getMessage() for r in caplog.records if "of 3 examples" in r.getMessage()]
        assert "1 cut at max_length 40" in said
        assert "1 left out" in said
    (record,) = read_records(Store(str(small.out)))[0].values()
    assert record.metrics["cut"] == 1


def test_prompts_whose_last_tokens_join_the_answer_are_counted(tmp_path):
    save_base(tmp_path / "base", "qwen2")
    trainer = Small(tmp_path, [("Hi?", "\nNo.", "Yes."), ("Ho?", "No.", "So.")]).trainer("sft")
    assert trainer.counts["train"] == ExampleCounts(2, 0, 0, joined=1)
    assert "1 whose prompt ends in tokens that join" in trainer.counts["train"].message(256)
