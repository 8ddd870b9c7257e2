"""What merges and the models that they are made of are asked, and when they are asked again."""

from __future__ import annotations

import pytest

from raylab.plan.asked import asked_beside, asked_finished, data_asked, merge_prompts
from raylab.plan.cache import EVALUATE_AGAIN, EVALUATE_MERGE_AGAIN, plan_states, questions_of
from raylab.plan.finished_parents import plan_finished_parents
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.results.table_rows import rate_by_data_rows, read_results, sample_rows
from raylab.spec.data.rows import is_held_out
from raylab.spec.models import ResolvedModel
from raylab.store.filesystem import Store
from raylab.store.records import BESIDE, SAMPLES, Record, trial_key, write_record
from tests.studies import D0, D1, make_inputs, make_study

OTHER = [(f"別の質問{i}", f"答え{i}ですわ。") for i in range(12)]
RECIPES = {
    "plain": {"method": "sft", "data": "D0"},
    "alone": {"method": "sft", "data": "D1"},
    "noble": {"method": "sft", "data": "D1"},
    "far": {"method": "sft", "data": "D1", "training": {"epochs": 9}},
}
MERGES = {
    "mixed": {"method": "ties", "models": ["plain", "noble"], "sweep": {"density": [0.1, 0.5]}}
}


class Planned:
    """A study of a swept merge whose models have data with other prompts, and its plan."""

    def __init__(self, d1=OTHER, rows=None, **changes):
        given = {"seeds": [1], "held_out": 0.5, "recipes": RECIPES, "merges": MERGES, **changes}
        self.study = make_study(**given)
        self.inputs = make_inputs(self.study, rows=rows or {"D0": D0, "D1": d1})
        for name in self.study.models:
            self.inputs.models[name] = ResolvedModel(name, f"content:{name}", None, name)
        trials = plan_trials(self.study, self.inputs)
        self.items = [*trials, *plan_merges(self.study, self.inputs, trials)]
        self.questions = questions_of(self.study, self.inputs.rows)

    @property
    def beside(self):
        """By recipe or merge: the user texts of the prompts that are asked beside."""
        found = merge_prompts(self.study, self.inputs.rows)
        return {
            item.row["recipe"]: [
                [row.user_text for row in rows] for rows in found.beside(item).values()
            ]
            for item in self.items
        }

    def states(self, records):
        needed = self.questions.of_merges.needed(self.items)
        return plan_states(self.items, records, self.questions.id, (), needed)


def held_out(rows):
    return [prompt for prompt, _ in rows if is_held_out(prompt, 0.5)]


def test_merge_and_its_models_answer_the_prompts_of_each_others_data():
    first, second = [held_out(D0)], [held_out(OTHER)]
    assert Planned().beside == {
        "plain": second,
        "alone": first,  # The same training as noble, which is made under its name.
        "noble": first,
        "far": [],
        "mixed.density=0.1": second,
        "mixed.density=0.5": second,
    }


def test_merge_of_finished_models_with_data_of_their_own_answers_the_first_data_set_alone():
    finished = {"path": "x", "base_model": "tiny", "data": "elsewhere", "method": "sft"}
    planned = Planned(
        models={"one": finished, "two": finished},
        data={name: {"path": f"{name.lower()}.jsonl"} for name in ("D2", "D0", "D1")},
        merges={**MERGES, "apart": {"method": "linear", "models": ["one", "two"]}},
        rows={"D2": [(f"第三の{prompt}", answer) for prompt, answer in D0], "D0": D0, "D1": OTHER},
    )
    apart = next(item for item in planned.items if item.row["recipe"] == "apart")
    found = planned.questions.of_merges
    assert (found.own(apart), found.beside(apart)) == (None, {})
    assert list(found.ids) == ["D0", "D1"]


def test_finished_model_is_asked_what_the_merges_that_take_it_are_asked():
    finished = {"path": "x", "base_model": "tiny", "method": "sft"}
    models = {"far": {**finished, "data": "elsewhere"}, "near": {**finished, "data": "D1"}}
    planned = Planned(
        models={"idle": finished, **models},
        recipes={"plain": RECIPES["plain"]},
        evaluation={"sampled": 1},
        merges={
            "one": {"method": "linear", "models": ["plain", "far"]},
            "two": {"method": "linear", "models": ["near", "far"]},
        },
    )
    found = {m.name: m for m in plan_finished_parents(planned.study, planned.inputs)}
    assert {name: model.data for name, model in found.items()} == {
        "far": ("elsewhere", "D0", "D1"),
        "near": ("D1",),
    }
    prompts = planned.questions.of_merges
    assert [list(prompts.beside(model)) for model in found.values()] == [[prompts.ids["D1"]], []]
    assert [data_asked(m, planned.inputs.rows) for m in found.values()] == ["D0", "D1"]
    (cost,) = asked_finished(planned.study, planned.inputs.rows, list(found.values()))
    answers = 2 * (len(held_out(D0)) + 2 * len(held_out(OTHER)))
    likelihoods = 2 * (len(held_out(D0)) + len(held_out(OTHER)))
    assert vars(cost) == {
        "base_model": "tiny", "models": 2, "answers": answers, "likelihoods": likelihoods,
    }  # fmt: skip
    assert cost.line == (
        "finished models of tiny that merges take: 2, which are asked for "
        f"{answers} answers and the likelihood of {likelihoods}"
    )


def test_data_sets_of_equal_prompts_are_asked_once():
    assert not any(Planned(d1=D1).beside.values())


@pytest.mark.parametrize("changes", [{"merges": {}}, {"evaluation": {"prompts": 0}}])
def test_study_without_merges_or_prompts_asks_nothing_beside(changes):
    planned = Planned(**changes)
    assert not any(planned.beside.values())
    assert asked_beside(planned.study, planned.inputs.rows, planned.items) == []


def test_plan_counts_the_answers_that_are_asked_beside():
    planned = Planned(evaluation={"sampled": 2})
    (cost,) = asked_beside(planned.study, planned.inputs.rows, planned.items)
    answers = (2 * len(held_out(D0)) + 3 * len(held_out(OTHER))) * 3
    assert cost.document == {"base_model": "tiny", "models": 5, "answers": answers}
    assert cost.line == (
        f"merges of tiny: 5 models answer the prompts of each other's data: {answers} answers"
    )


def record_of(planned, item, asked=()):
    rates = {"count": 2, "stopped_rate": 1.0}
    return Record(
        name=item.name, id=item.id, identity=dict(item.identity), data={}, versions={},
        evaluation=planned.questions.id, held_out=dict(planned.questions.held_out),
        metrics={
            "answers": {"greedy": {**rates, "style_rate": 0.25}, "expected": rates},
            **({"asked": {id: {"greedy": {**rates, "style_rate": 0.5}} for id in asked}}),
        },
    )  # fmt: skip


def test_model_that_was_not_asked_the_prompts_of_its_merge_is_asked_again_and_not_trained():
    planned = Planned()
    needed = planned.questions.of_merges.needed(planned.items)
    records = {item.id: record_of(planned, item) for item in planned.items}
    found = {item.trial.row["recipe"]: (item.state, item.why) for item in planned.states(records)}
    assert found["far"] == ("cached", "")
    assert found["plain"] == found["alone"] == ("to run", EVALUATE_AGAIN)
    assert found["mixed.density=0.1"] == ("to run", EVALUATE_MERGE_AGAIN)
    asked = {i.id: record_of(planned, i, (*needed[i.name], "more")) for i in planned.items}
    assert {item.state for item in planned.states(asked)} == {"cached"}
    without = Planned(merges={})
    records = {item.id: asked[item.id] for item in without.items}
    assert {item.state for item in without.states(records)} == {"cached"}


def test_rates_by_data_have_a_row_for_each_data_set_that_a_model_was_asked(tmp_path):
    planned, store = Planned(), Store(str(tmp_path / "out"))
    needed = planned.questions.of_merges.needed(planned.items)
    for item in planned.items:
        asked = () if item.row["recipe"] in ("alone", "noble") else needed[item.name]
        for name, answer in ((SAMPLES, "own"), (BESIDE, "other")):
            text = f'{{"prompt": "p", "answer": "{answer}"}}\n'
            store.write(trial_key(item.folder, name), text.encode())
        write_record(store, item.folder, record_of(planned, item, asked))
    results = read_results(planned.items, store, planned.questions)
    rows = [(r["name"], r["data"], r["style_rate"]) for r in rate_by_data_rows(results)]
    assert rows == [
        ("tiny.plain.s1", "D0", 0.25), ("tiny.plain.s1", "D1", 0.5),
        ("tiny.alone.s1", "D1", 0.25),
        ("tiny.noble.s1", "D1", 0.25),
        ("tiny.far.s1", "D1", 0.25),
        ("tiny.mixed.density=0.1.s1", "D0", 0.25), ("tiny.mixed.density=0.1.s1", "D1", 0.5),
        ("tiny.mixed.density=0.5.s1", "D0", 0.25), ("tiny.mixed.density=0.5.s1", "D1", 0.5),
    ]  # fmt: skip
    answers = [(row["name"], row["answer"]) for row in sample_rows(results)]
    assert answers == [(item.name, text) for item in planned.items for text in ("own", "other")]
    assert list(rate_by_data_rows(read_results(planned.items, store))) == []
