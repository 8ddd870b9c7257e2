"""Every mistake in a study: one StudyError, with file, line, field, value and hint."""

import re

import pytest

from raylab.errors import StudyError
from raylab.spec.study_file import load_study, parse_study
from tests.studies import write_study_folder

TEXT = """\
name: demo
base_models:
  tiny: {path: base}
data:
  D0: {path: d0.jsonl}
  D1: {path: d1.jsonl}
  D2: {concat: [D0, D1]}
recipes:
  sft:
    method: sft
    data: D2
    sweep: {learning_rate: [1e-5, 1e-4]}
  dpo:
    method: dpo
    chosen: D1
    rejected: D0
    parent: sft
seeds: [42, 100]
training:
  epochs: 3
  batch_size: 2
lora:
  r: 8
comparisons:
  - base: all
evaluation:
  style: ojousama
"""

# (what stands in TEXT, what stands there instead, #! on the line to be named; field; fragments)
SWEEP = "sweep: {learning_rate: [1e-5, 1e-4]}"
MISTAKES = {
    "out of bounds": ("epochs: 3", "epochs: 0 #!", "training.epochs", ["than 0", "found 0"]),
    "wrong type": ("batch_size: 2", "batch_size: two #!", "training.batch_size", ["'two'"]),
    "infinite": ("epochs: 3", "epochs: .inf #!", "training.epochs", ["inf"]),
    "infinite alpha": ("r: 8", "alpha: .inf #!", "lora.alpha", ["inf"]),
    "nan": ("epochs: 3", "learning_rate: .nan #!", "training.learning_rate", ["nan"]),
    "unknown field": ("epochs: 3", "epoch: 3 #!", "training.epoch", ["did you mean epochs?"]),
    "unknown top": ("seeds: [42", "seed: [42", "seed", ["did you mean seeds?"]),
    "unknown, nothing near": ("r: 8", "zzz: 8 #!", "lora.zzz", ["known here:", "dropout"]),
    "unknown in override": (
        SWEEP, "training: {learning_rte: 1} #!",
        "recipes.sft.training.learning_rte", ["did you mean learning_rate?"],
    ),
    "override out of bounds": (
        SWEEP, "training: {epochs: -1} #!", "recipes.sft.training.epochs", ["found -1"],
    ),
    "lora override": (SWEEP, "lora: {dropout: 1} #!", "recipes.sft.lora.dropout", ["found 1"]),
    "method": ("method: sft", "method: sfy #!", "recipes.sft.method", ["'sft'", "found 'sfy'"]),
    "data": ("data: D2", "data: D22 #!", "recipes.sft.data", ["'D22'", "did you mean D2?"]),
    "chosen": ("chosen: D1", "chosen: Q #!", "recipes.dpo.chosen", ["'Q'", "known: D0, D1, D2"]),
    "parent": ("parent: sft", "parent: sftt #!", "recipes.dpo.parent", ["did you mean sft?"]),
    "own parent": ("parent: sft", "parent: dpo #!", "recipes.dpo.parent", ["cycle", "dpo <- dpo"]),
    "parent variant": (
        "parent: sft", "parent: sft.learning_rate=1e-06 #!",
        "recipes.dpo.parent", ["known: sft.learning_rate=1e-5, sft.learning_rate=1e-4"],
    ),
    "style": ("style: ojousama", "style: ojosama #!", "evaluation.style", ["mean ojousama?"]),
    "compared": (
        "- base: all", "- base: [sfft] #!", "comparisons.0.base", ["'sfft'", "did you mean sft?"],
    ),
    "compared type": ("- base: all", "- base: 3 #!", "comparisons.0.base", ["found 3"]),
    "comparison form": (
        "- base: all", "- bse: all #!", "comparisons.0.bse", ["did you mean base?"],
    ),
    "comparison two forms": (
        "- base: all", "- {base: all, seeds: all} #!", "comparisons.0", ["exactly one"],
    ),
    "pair of three": ("- base: all", "- pair: [sft, dpo, sft] #!", "comparisons.0.pair", ["sft"]),
    "pair of one": ("- base: all", "- pair: [sft] #!", "comparisons.0.pair.1", ["is missing"]),
    "concat": ("{concat: [D0, D1]}", "{concat: [D0, D9]} #!", "data.D2.concat", ["'D9'", "mean D"]),
    "concat of concat": ("{concat: [D0, D1]}", "{concat: [D0, D2]} #!", "data.D2.concat", ["'D2'"]),
    "concat nothing": ("{concat: [D0, D1]}", "{concat: []} #!", "data.D2.concat", ["[]"]),
    "seeds twice": ("seeds: [42, 100]", "seeds: [42, 42] #!", "seeds", ["distinct", "[42, 42]"]),
    "no seeds": ("seeds: [42, 100]", "seeds: [] #!", "seeds", ["at least 1"]),
    "seed type": ("seeds: [42, 100]", "seeds: [4, x] #!", "seeds.1", ["found 'x'"]),
    "sweep key": (
        SWEEP, "sweep: {learning_rat: [1]} #!",
        "recipes.sft.sweep.learning_rat", ["did you mean learning_rate?"],
    ),
    "sweep value": (
        SWEEP, "sweep: {learning_rate: [-1]} #!",
        "recipes.sft.sweep.learning_rate", ["greater than 0", "found -1"],
    ),
    "sweep twice": (
        SWEEP, "sweep: {lora.r: [4, 4]} #!", "recipes.sft.sweep.lora.r", ["distinct", "[4, 4]"],
    ),
    "sweep nothing": (SWEEP, "sweep: {epochs: []} #!", "recipes.sft.sweep.epochs", ["[]"]),
    "two places": (
        "tiny: {path: base}", "tiny: {path: base, hub: a/b} #!",
        "base_models.tiny", ["exactly one of `path` and `hub`", "a/b"],
    ),
    "place misspelt": (
        "tiny: {path: base}", "tiny: {pth: base} #!",
        "base_models.tiny.pth", ["did you mean path?"],
    ),
    "revision of a path": (
        "tiny: {path: base}", "tiny: {path: base, revision: x} #!",
        "base_models.tiny", ["`revision` belongs to a `hub`"],
    ),
    "no place": ("D0: {path: d0.jsonl}", "D0: {} #!", "data.D0", ["exactly one of"]),
    "no rejected": (
        "  dpo:\n    method: dpo\n    chosen: D1\n    rejected: D0",
        "  dpo: #!\n    method: dpo\n    chosen: D1", "recipes.dpo", ["`chosen` and `rejected`"],
    ),
    "no method": (
        "  sft:\n    method: sft", "  sft: #!", "recipes.sft.method", ["is missing"],
    ),
    "name": ("name: demo", "name: a b #!", "name", ["found 'a b'"]),
    "no name": ("name: demo\nbase", "base", "name", ["is missing"]),
    "rank": ("r: 8", "r: 0 #!", "lora.r", ["found 0"]),
    "target modules": ("r: 8", "target_modules: 5 #!", "lora.target_modules", ["found 5"]),
    "held out": ("seeds: [42, 100]", "held_out: 1 #!", "held_out", ["less than 1", "found 1"]),
    "density": ("seeds: [42, 100]", "densities: [0.1, 1.5] #!", "densities.1", ["found 1.5"]),
    "bits": ("seeds: [42, 100]", "quantization: {bits: 8} #!", "quantization.bits", ["found 8"]),
    "prompts": ("style: ojousama", "prompts: -1 #!", "evaluation.prompts", ["found -1"]),
    "gpus": ("seeds: [42, 100]", "resources: {gpus: 0} #!", "resources.gpus", ["found 0"]),
    "finished model": (
        "seeds: [42, 100]", "models: {m: {path: m, base_model: tin}} #!",
        "models.m.base_model", ["'tin'", "did you mean tiny?"],
    ),
    "finished model like a recipe": (
        "seeds: [42, 100]", "models: {sft: {path: m, base_model: tiny}} #!",
        "models.sft", ["same name"],
    ),
    "recipe called like a field": (
        "  sft:\n    method: sft\n    data: D2",
        "  training:\n    method: sft\n    dat: D2 #!",
        "recipes.training.dat", ["did you mean data?"],
    ),
}  # fmt: skip


def refused(text, tmp_path):
    with pytest.raises(StudyError) as caught:
        parse_study(text, tmp_path / "study.yaml")
    assert caught.value.exit_status == 2
    return str(caught.value)


@pytest.mark.parametrize("kind", MISTAKES)
def test_study_with_mistake_names_file_line_field_value(kind, tmp_path):
    old, new, field, fragments = MISTAKES[kind]
    assert TEXT.count(old) == 1
    text = TEXT.replace(old, new)
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "#!" in line]
    if kind == "unknown top":
        lines = [18]
    message = refused(text, tmp_path)
    line = (lines or [1])[0]
    pattern = rf"{re.escape(str(tmp_path / 'study.yaml'))}, line {line}: {re.escape(field)}[:.]"
    assert re.search(pattern, message), message
    assert [part for part in fragments if part not in message] == [], message


def test_study_with_two_mistakes_names_both(tmp_path):
    text = TEXT.replace("epochs: 3", "epochs: 0").replace("r: 8", "r: 0")
    message = refused(text, tmp_path)
    assert "line 20: training.epochs" in message
    assert "line 23: lora.r" in message
    assert len(message.splitlines()) == 2


def test_study_with_one_mistake_in_a_union_names_the_plain_field(tmp_path):
    message = refused(TEXT.replace("r: 8", "target_modules: 5"), tmp_path)
    fields = [line.split(": ")[1] for line in message.splitlines()]
    assert set(fields) == {"lora.target_modules"}, message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "spectra: {base: {top: 0}}",
            "spectra.base.top: Input should be greater than or equal to 1",
        ),
        (
            "spectra: {base: {epsilon: .nan}}",
            "spectra.base.epsilon: Input should be a finite number",
        ),
        ("spectra: {base: {eps: 0.5}}", "spectra.base.eps: is not a known field; did you mean eps"),
        ("spectra: {bas: {}}", "spectra.bas: is not a known field; did you mean base?"),
        ("spectra: {base: 10}", "spectra.base: Input should be a mapping of fields (found 10)"),
        ("spectra: both", "or: Input should be a mapping of fields (found 'both')"),
        ("views: delta", "views: Input should be a list (found 'delta')"),
        ("connectivity: [{seeds: [3]}]", "connectivity.0.seeds.0: Input should be a valid string"),
        (
            "connectivity: [{seeds: sft}]",
            "connectivity.0.seeds: Input should be a list (found 'sft')",
        ),
    ],
)
def test_study_with_one_mistake_in_a_union_has_one_message(text, message, tmp_path):
    found = refused(f"{TEXT}{text}\n", tmp_path)
    assert message in found
    assert found.count("line ") == 1, found
    assert not [word for word in ("literal", "BaseSpectra", "tuple") if word in found], found


def test_study_with_a_mistake_behind_an_alias_names_the_whole_place(tmp_path):
    text = "lora: &lora {r: 8, alpha: 0}\n" + TEXT.replace("lora:\n  r: 8\n", "")
    message = refused(text.replace(SWEEP, "lora: {<<: *lora}"), tmp_path)
    assert "recipes.sft.lora.alpha: " in message


def test_study_with_unknown_names_everywhere_names_all(tmp_path):
    text = TEXT.replace("data: D2", "data: D7").replace("chosen: D1", "chosen: D8")
    message = refused(text, tmp_path)
    assert "'D7'" in message
    assert "'D8'" in message


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("name: [demo\n", ["line", "not valid YAML"]),
        ("name: demo\nseeds: [1]\nseeds: [2]\n", ["line 3", "not valid YAML", "seeds"]),
        ("name: demo\n\tseeds: [1]\n", ["line 2", "not valid YAML"]),
        ("- demo\n", ["not a study", "list", "mapping"]),
        ("", ["not a study", "mapping"]),
        ("demo", ["not a study", "str"]),
        ("name: \x00", ["not valid YAML"]),
        ("a: 1\n---\nb: 2\n", ["not valid YAML"]),
        ("name: demo\nseeds: &s [*s]\n", ["line 2", "holds itself"]),
        ("name: demo\nseeds: 2001-99-99\n", ["line 2", "no timestamp"]),
        (f"seeds: [1]\nname: [{'x, ' * 2999}]\n", ["line 2: name", " characters)"]),
    ],
)
def test_study_not_yaml_names_file_and_line(text, fragments, tmp_path):
    message = refused(text, tmp_path)
    assert [part for part in ["study.yaml", *fragments] if part not in message] == [], message


def test_study_without_file_names_it(tmp_path):
    with pytest.raises(StudyError, match=r"no\.yaml"):
        load_study(tmp_path / "no.yaml")


def test_study_that_is_a_folder_names_it(tmp_path):
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path)


def test_study_not_utf8_names_it(tmp_path):
    (tmp_path / "s.yaml").write_bytes("name: 質問".encode("shift_jis"))
    with pytest.raises(StudyError, match=r"s\.yaml"):
        load_study(tmp_path / "s.yaml")


def test_study_sound_loads_with_absolute_paths(tmp_path):
    study = parse_study(TEXT, tmp_path / "study.yaml")
    assert study.base_models["tiny"].path == str((tmp_path / "base").resolve())
    assert study.data["D0"].path == str((tmp_path / "d0.jsonl").resolve())
    assert study.data["D2"].path is None
    assert study.recipes["sft"].sweep["learning_rate"] == (1e-5, 1e-4)
    assert all(isinstance(v, float) for v in study.recipes["sft"].sweep["learning_rate"])


def test_study_loaded_is_frozen(tmp_path):
    study = load_study(write_study_folder(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        study.name = "other"
    with pytest.raises(ValueError, match="frozen"):
        study.training.epochs = 1


def test_study_defaults_are_those_of_the_paper(tmp_path):
    study = load_study(write_study_folder(tmp_path))
    assert [str(seed) for seed in study.seeds] == ["42", "100"]
    assert study.quantization.bits == 4
    assert (study.lora.r, study.lora.alpha, study.lora.dropout) == (8, 128, 0.05)
    training = study.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 2, 1e-5)
    assert (training.optimizer, training.scheduler, training.beta) == ("adam", "cosine", 0.3)


def test_study_refused_leaves_no_trace(tmp_path):
    refused(TEXT.replace("r: 8", "r: 0"), tmp_path)
    assert list(tmp_path.iterdir()) == []
