"""What else a study's recipes are trained with, out of a real study."""

from __future__ import annotations

from raylab.report.findings.settings import settings_of

from ..conftest import make_study

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
