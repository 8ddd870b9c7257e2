"""What else a study's recipes are trained with, out of a real study."""

from __future__ import annotations

from raylab.report.findings.every_finding import find_all
from raylab.report.page.blocks import Items
from raylab.report.page.page import make_page
from raylab.report.study_tables import Tables, settings_of
from raylab.report.words import translator
from tests.report.conftest import MODEL, make_study, make_trials

RECIPES = {
    "sft": {"method": "sft", "data": "D0", "sweep": {"lora.r": [8, 64]}},
    "dpo": {"method": "dpo", "chosen": "D1", "rejected": "D0", "training": {"epochs": 2}},
    "after": {"method": "dpo", "chosen": "D1", "rejected": "D0", "parent": "sft.lora.r=8"},
}


def test_settings_of_a_study_have_what_each_variant_is_trained_with():
    found = settings_of(make_study(recipes=RECIPES, comparisons=[]))
    assert {name: row["lora.r"] for name, row in found.items() if name.startswith("sft")} == {
        "sft.lora.r=8": 8,
        "sft.lora.r=64": 64,
    }
    assert (found["dpo"]["epochs"], found["after"]["epochs"]) == (2, 3)
    assert (found["dpo"]["beta"], found["sft.lora.r=8"]["beta"]) == (0.3, None)
    assert (found["dpo"]["chain"], found["after"]["chain"]) == (None, "merge")
    assert not any("learning_rate" in row for row in found.values())


def test_page_of_a_sweep_over_a_setting_calls_it_by_its_name():
    study = make_study(recipes={"sft": RECIPES["sft"]}, comparisons=[])
    template = make_trials()[0]
    trials = [
        template
        | {
            "name": f"{MODEL}.sft.lora.r={r}.s{seed}",
            "recipe": f"sft.lora.r={r}",
            "seed": seed,
            "l2": r + seed / 100,
            "marked": False,
        }
        for r in (8, 64)
        for seed in (42, 100)
    ]
    tables = Tables.of({"trials": trials}, settings_of(study))
    findings = find_all(tables)
    (row,) = findings["floor"].frames["differences"]
    assert (row["factor"], row["norm_verdict"]) == ("lora.r", "beyond")
    shares = findings["attribution"].frames["attribution"]
    assert "lora.r" in {row["factor"] for row in shares}
    page = make_page(study, tables, findings, translator())
    lists = [block for block in page.blocks if isinstance(block, Items)]
    assert "lora.r" in {item.head for block in lists for item in block.items}
