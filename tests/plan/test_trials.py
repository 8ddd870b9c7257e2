"""Trials: parents first, one name each, and an id that moves with what determines them alone."""

import shutil

import pytest

from raylab.errors import DataError, ModelError
from raylab.plan.trials import plan_trials, read_inputs, trial_name
from raylab.spec.identity import fingerprint
from raylab.spec.study import Lora, Quantization, Training
from raylab.spec.study_file import load_study
from raylab.spec.validation import check_references
from tests.studies import CHAIN, D0, D1, make_inputs, make_study, write_jsonl, write_study_folder

# Another valid value for every field; a new field must be added here.
TRAINING = {
    "epochs": 4, "batch_size": 3, "gradient_accumulation": 2, "learning_rate": 1e-4,
    "scheduler": "linear", "warmup_ratio": 0.1, "optimizer": None, "weight_decay": 0.01,
    "max_grad_norm": 0.5, "max_length": 512, "gradient_checkpointing": True, "beta": 0.1,
    "learn": "all",
}  # fmt: skip
LORA = {
    "r": 4, "alpha": 16, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"], "rslora": True,
}  # fmt: skip
QUANTIZATION = {"bits": 16, "type": "fp4", "double": True, "compute_dtype": "float32"}
CHANGES = [("training", *item) for item in TRAINING.items() if item[1] is not None]
CHANGES += [("lora", *item) for item in LORA.items()]


def ids(study=None, **inputs):
    study = study or make_study()
    return {trial.name: trial.id for trial in plan_trials(study, make_inputs(study, **inputs))}


def changed(study, **inputs):
    """The recipes whose trials have other ids than in the plain study."""
    before, after = ids(), ids(study, **inputs)
    assert before.keys() == after.keys()
    return {name.split(".")[1] for name in before if before[name] != after[name]}


def with_recipe(name, **changes):
    return make_study(recipes={**CHAIN, name: {**CHAIN[name], **changes}})


def test_fields_all_have_another_value():
    assert set(TRAINING) == set(Training.model_fields)
    assert set(LORA) == set(Lora.model_fields)
    assert set(QUANTIZATION) == set(Quantization.model_fields)


@pytest.mark.parametrize(("part", "field", "value"), CHANGES)
def test_id_field_of_parent_changed_moves_descendants_alone(part, field, value):
    expected = set() if field == "beta" else {"first", "second", "third"}
    assert changed(with_recipe("first", **{part: {field: value}})) == expected


@pytest.mark.parametrize(("part", "field", "value"), CHANGES)
def test_id_field_of_dpo_changed_moves_it_and_its_child_alone(part, field, value):
    assert changed(with_recipe("second", **{part: {field: value}})) == {"second", "third"}


@pytest.mark.parametrize(("part", "field", "value"), CHANGES)
def test_id_field_swept_or_overridden_or_studywide_is_equal(part, field, value):
    if isinstance(value, list):
        return
    key = field if part == "training" else f"lora.{field}"
    study = with_recipe("alone", sweep={key: [value]})
    (swept,) = [
        id
        for name, id in ids(study).items()
        if name.startswith(f"tiny.alone.{key}=") and name.endswith(".s42")
    ]
    assert swept == ids(with_recipe("alone", **{part: {field: value}}))["tiny.alone.s42"]
    assert swept == ids(make_study(**{part: {field: value}}))["tiny.alone.s42"]


@pytest.mark.parametrize(("field", "value"), QUANTIZATION.items())
def test_id_quantization_changed_moves_all(field, value):
    assert changed(make_study(quantization={field: value})) == set(CHAIN)


def test_id_held_out_changed_moves_all():
    assert changed(make_study(held_out=0.2)) == set(CHAIN)


def test_id_base_model_content_changed_moves_all():
    assert changed(make_study(), content="content:bb") == set(CHAIN)


def test_id_beta_studywide_moves_dpo_alone():
    assert changed(make_study(training={"beta": 0.1})) == {"second", "third", "other"}


def test_id_data_changed_moves_those_that_learn_it_and_descendants():
    rows = {"D0": D0, "D1": [*D1[:-1], ("質問11", "別の答え")]}
    assert changed(make_study(), rows=rows) == {"first", "second", "third", "other"}


def test_id_data_order_changed_moves():
    assert changed(make_study(), rows={"D0": D0[::-1], "D1": D1}) == set(CHAIN)


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        ("third", {"chain": "stack"}, {"third"}),
        ("second", {"chain": "stack"}, {"second", "third"}),
        ("second", {"parent": "alone"}, {"second", "third"}),
        ("second", {"chosen": "D1", "rejected": "D0"}, {"second", "third"}),
        ("alone", {"data": "D1"}, {"alone", "other"}),
        ("alone", {"chain": "stack"}, set()),
    ],
)
def test_id_recipe_changed_moves_it_and_descendants(recipe, changes, expected):
    assert changed(with_recipe(recipe, **changes)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"densities": [0.3], "tolerance": 0.1, "pairs": "tensor"},
        {"comparisons": [{"base": "all"}]},
        {"evaluation": {"prompts": 3, "style": "polite", "every_epochs": None}},
        {"resources": {"gpus": 0.5, "cpus": 4}},
        {"base_models": {"tiny": {"path": "/elsewhere/base"}}},
        {"training": {"epochs": 3.0, "learning_rate": 0.00001}},
        {"lora": {"alpha": 128, "target_modules": "all-linear"}},
        {"quantization": {"bits": 4, "type": "nf4", "double": False}},
        {"held_out": 0.1},
    ],
)
def test_id_what_changes_no_result_moves_nothing(changes):
    assert changed(make_study(**changes)) == set()


def test_id_recipe_and_data_renamed_is_equal():
    data = {"a": {"path": "x"}, "b": {"path": "y"}, "c": {"concat": ["a", "b"]}}
    study = make_study(data=data, recipes={"renamed": {"method": "sft", "data": "c"}})
    rows = {"a": D0, "b": D1}
    assert ids(study, rows=rows)["tiny.renamed.s42"] == ids()["tiny.first.s42"]


def test_id_seeds_and_recipes_differ_all():
    found = ids()
    assert len(found) == len(set(found.values())) == 10


def test_id_is_the_fingerprint_of_identity():
    study = make_study()
    for trial in plan_trials(study, make_inputs(study)):
        assert trial.id == fingerprint(trial.identity)
        assert trial.folder == f"{trial.name}-{trial.id}"
        assert not any("path" in key for key in trial.identity)


def test_identity_of_sft_has_no_beta_and_of_dpo_has():
    study = make_study()
    trials = {trial.name: trial for trial in plan_trials(study, make_inputs(study))}
    assert "training.beta" not in trials["tiny.first.s42"].identity
    assert trials["tiny.second.s42"].identity["training.beta"] == 0.3
    assert trials["tiny.second.s42"].identity["parent"] == trials["tiny.first.s42"].id


def test_plan_parents_come_first_with_lineage():
    recipes = dict(reversed(CHAIN.items()))
    study = make_study(recipes=recipes, base_models={"m": {"path": "a"}, "n": {"path": "b"}})
    trials = plan_trials(study, make_inputs(study))
    order = [trial.name for trial in trials]
    assert len(order) == len(set(order)) == 20
    by_name = {trial.name: trial for trial in trials}
    for trial in trials:
        if trial.parent:
            assert order.index(trial.parent) < order.index(trial.name)
            parent = by_name[trial.parent]
            assert trial.lineage == (*parent.lineage, parent.name)
            assert (trial.seed, trial.base_model) == (parent.seed, parent.base_model)
    assert by_name["n.third.s100"].lineage == ("n.first.s100", "n.second.s100")


def test_plan_sweep_children_follow_each_parent():
    first = {**CHAIN["first"], "sweep": {"learning_rate": [1e-5, 1e-4]}}
    study = make_study(recipes={**CHAIN, "first": first}, seeds=[1])
    trials = {trial.name: trial for trial in plan_trials(study, make_inputs(study))}
    child = trials["tiny.third.parent.parent.learning_rate=1e-4.s1"]
    assert child.lineage == (
        "tiny.first.learning_rate=1e-4.s1",
        "tiny.second.parent.learning_rate=1e-4.s1",
    )
    assert len(trials) == 8


SEEDS = {"init": [1, 2], "order": [1, 2]}


def test_id_of_seeds_that_are_one_number_is_that_of_the_number():
    tied = {"init": 42, "order": 42, "dropout": 42}
    assert ids(make_study(seeds=[tied])) == ids(make_study(seeds=[42]))
    (trial, *_) = plan_trials(study := make_study(), make_inputs(study))
    assert trial.identity["seed"] == 42
    assert not [key for key in trial.identity if key.startswith("seed.")]
    assert trial.row["seed"] == trial.row["seed_init"] == 42
    assert trial.row["seed_order"] == trial.row["seed_dropout"] == 42


def test_id_moves_with_each_of_three_seeds():
    asked = [42, *({"init": 42, part: 7} for part in ("order", "dropout")), {"init": 7}]
    asked += [{"init": 7, "order": 42, "dropout": 42}]
    found = ids(make_study(seeds=asked))
    assert len(found) == len(set(found.values())) == len(asked) * len(CHAIN)
    assert [name for name in found if ".alone." in name] == [
        "tiny.alone.s42", "tiny.alone.s42o7", "tiny.alone.s42d7", "tiny.alone.s7",
        "tiny.alone.s7o42d42",
    ]  # fmt: skip


def test_trial_of_three_seeds_starts_from_its_parent_at_the_same():
    study = make_study(seeds=SEEDS)
    trials = {trial.name: trial for trial in plan_trials(study, make_inputs(study))}
    child = trials["tiny.second.s1o2"]
    assert child.parent == "tiny.first.s1o2"
    assert {key: value for key, value in child.identity.items() if key.startswith("seed")} == {
        "seed.init": 1, "seed.order": 2, "seed.dropout": 1,
    }  # fmt: skip
    columns = ("seed", "seed_init", "seed_order", "seed_dropout")
    assert [child.row[key] for key in columns] == [None, 1, 2, 1]


def test_names_that_run_together_are_refused():
    sft = {"method": "sft", "data": "D0"}
    study = make_study(
        base_models={"a": {"path": "x"}, "a.b": {"path": "y"}},
        recipes={"b.c": sft, "c": sft},
        seeds=[1],
    )
    problems = check_references(study)
    assert [problem.message for problem in problems] == [
        "a trial and a trial are both named a.b.c.s1"
    ]


def test_trial_name_has_its_promised_form():
    assert trial_name("m", "r.epochs=1", 42) == "m.r.epochs=1.s42"


# What is on disk


def ids_on_disk(path):
    study = load_study(path)
    return {trial.name: trial.id for trial in plan_trials(study, read_inputs(study))}


def test_id_files_moved_and_renamed_is_equal(tmp_path):
    before = ids_on_disk(write_study_folder(tmp_path / "one"))
    there = tmp_path / "two"
    shutil.move(tmp_path / "one", there)
    for old, new in (("base", "model"), ("d0.jsonl", "other.jsonl"), ("study.yaml", "s.yml")):
        (there / old).rename(there / new)
    text = (there / "s.yml").read_text().replace('"base"', '"model"')
    (there / "s.yml").write_text(text.replace("d0.jsonl", "other.jsonl"))
    assert ids_on_disk(there / "s.yml") == before


def test_id_other_file_format_is_equal(tmp_path):
    path = write_study_folder(tmp_path)
    before = ids_on_disk(path)
    rows = "".join(f"{prompt},{answer}\n" for prompt, answer in D0)
    (tmp_path / "d0.csv").write_text("prompt,completion\n" + rows)
    path.write_text(path.read_text().replace("d0.jsonl", "d0.csv"))
    assert ids_on_disk(path) == before


def test_inputs_unaligned_pairs_are_refused(tmp_path):
    path = write_study_folder(tmp_path)
    write_jsonl(tmp_path / "d1.jsonl", D1[:-1])
    with pytest.raises(DataError, match="only in D0: rows 12 '質問11'"):
        read_inputs(load_study(path))


def test_inputs_same_answers_are_refused(tmp_path):
    path = write_study_folder(tmp_path)
    write_jsonl(tmp_path / "d1.jsonl", [*D1[:-1], D0[-1]])
    with pytest.raises(DataError, match="same answer"):
        read_inputs(load_study(path))


def test_inputs_adapter_as_base_model_is_refused(tmp_path):
    path = write_study_folder(tmp_path)
    (tmp_path / "base" / "config.json").rename(tmp_path / "base" / "adapter_config.json")
    with pytest.raises(ModelError, match="not a checkpoint"):
        read_inputs(load_study(path))


def test_inputs_read_write_nothing(tmp_path):
    path = write_study_folder(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    read_inputs(load_study(path))
    assert sorted(tmp_path.rglob("*")) == before
