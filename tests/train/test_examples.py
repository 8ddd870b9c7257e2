"""Rows into what trl trains on: conversations, preferences, and questions."""

import json

import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer, GenerationConfig

from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.rows import Row, Turn
from raylab.spec.evaluation import Evaluation
from raylab.spec.recipes import expand_recipes
from raylab.train.evaluate.generate import generate_batch
from raylab.train.examples import examples_of
from tests.studies import make_study

EARLIER = (Turn("system", "短く。"), Turn("user", "空は？"), Turn("assistant", "青い。"))
TALK = Row.of("海は？", "青いですわ。", EARLIER)
RECIPES = {
    "sft": {"method": "sft", "data": "P"},
    "own": {"method": "dpo", "data": "P"},
    "two": {"method": "dpo", "chosen": "P", "rejected": "Q"},
}


def examples(recipe, rows, held_out=0.0):
    data = {name: {"path": f"{name}.jsonl"} for name in ("P", "Q")}
    study = make_study(data=data, recipes=RECIPES)
    return examples_of(expand_recipes(study)[recipe], rows, held_out)


def test_sft_of_a_conversation_learns_its_last_answer_alone():
    (example,) = examples("sft", {"P": [TALK]}).training
    assert [turn["role"] for turn in example["prompt"]] == ["system", "user", "assistant", "user"]
    assert example["completion"] == [{"role": "assistant", "content": "青いですわ。"}]


@pytest.mark.parametrize("recipe", ["own", "two"])
def test_dpo_of_a_conversation_prefers_one_of_its_last_answers(recipe):
    own = TALK._replace(rejected=Turn("assistant", "青いです。"))
    rows = {
        "P": [own if recipe == "own" else TALK],
        "Q": [Row.of("海は？", "青いです。", EARLIER)],
    }
    (example,) = examples(recipe, rows).training
    assert example["prompt"] == TALK.chat
    assert example["chosen"][0]["content"] == "青いですわ。"
    assert example["rejected"][0]["content"] == "青いです。"


def test_sft_of_preferences_learns_what_is_chosen():
    (example,) = examples("sft", {"P": [Row.of("a", "b", rejected="c")]}).training
    assert example["completion"][0]["content"] == "b"
    assert "rejected" not in example


def test_sft_and_dpo_hold_out_the_same_rows():
    rows = [Row.of(f"質問{i}", f"{i}ですわ", EARLIER, rejected=f"{i}です") for i in range(30)]
    sft, dpo = (examples(recipe, {"P": rows}, 0.3) for recipe in ("sft", "own"))
    for part in ("training", "held_out"):
        assert getattr(sft, part)["prompt"] == getattr(dpo, part)["prompt"]
    assert len(sft.held_out) in range(3, 16)


def test_questions_of_rows_are_each_asked_once():
    rows = [TALK, Row.of("海は？", "他", EARLIER), Row.of("海は？", "青い")]
    assert held_out_prompts(rows, 0.999, 9) == (TALK, rows[2])


def test_question_of_a_conversation_is_asked_with_what_was_said_before(demo_base):
    tokenizer = AutoTokenizer.from_pretrained(demo_base)
    asked = []

    class Echo:
        """A model that notes what it is asked, and stops at once."""

        device = "cpu"
        generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)

        def generate(self, input_ids, **options):
            asked.extend(tokenizer.batch_decode(input_ids))
            end = input_ids.new_full((len(input_ids), 1), tokenizer.eos_token_id)
            return input_ids.new_tensor([[*row, *e] for row, e in zip(input_ids, end, strict=True)])

    (sample,) = generate_batch(Echo(), tokenizer, [TALK], Evaluation(max_new_tokens=4), 0)
    assert (sample.prompt, sample.expected) == ("海は？", "青いですわ。")
    assert asked[0].index("短く") < asked[0].index("空は") < asked[0].index("青い。")
    assert "青いですわ" not in asked[0]


def learned(scratch, tokenizer):
    """The texts that the loss is taken on, out of what trl made of the examples."""
    kept = [load_from_disk(str(path.parent)) for path in scratch.rglob("dataset_info.json")]
    labels = [row for rows in kept if "labels" in rows.column_names for row in rows["labels"]]
    return {tokenizer.decode([token for token in row if token >= 0]) for row in labels}


def test_trials_over_conversations_and_preferences_train(bench, scratch, demo_base, tmp_path):
    rows = [
        {
            "system": "短く。",
            "conversations": [
                {"from": "human", "value": "空は？"},
                {"from": "gpt", "value": "青い。"},
                {"from": "human", "value": f"{i}は？"},
            ],
            "chosen": {"from": "gpt", "value": f"{i}ですわ。"},
            "rejected": {"from": "gpt", "value": f"{i}です。"},
        }
        for i in range(24)
    ]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(rows))
    made = bench(
        recipes="recipes: {sft: {method: sft, data: P}, dpo: {method: dpo, data: P}}\n",
        data="\ndata:->\ndata:\n  P: {path: " + str(path) + "}",
        evaluation="prompts: 4, likelihoods: false",
        share="held_out: 0.2->held_out: 0.3",
    )
    for recipe in ("sft", "dpo"):
        record = made.run(recipe)
        assert record.metrics["steps"] > 0
        (folder,) = made.out.glob(f"trials/demo.{recipe}.*")
        samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        assert len(samples) == 4
        assert all(sample["expected"].endswith("ですわ。") for sample in samples)
    texts = learned(scratch, AutoTokenizer.from_pretrained(demo_base))
    assert texts == {f"{i}ですわ。<|end|>" for i in range(24)}
