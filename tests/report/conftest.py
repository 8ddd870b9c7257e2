"""Hand-made tables of a finished study: 22 trials of one base model and two seeds."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from raylab.spec.study import Study
from raylab.store.filesystem import Store
from raylab.store.tables import write_table

Rows = list[dict[str, Any]]

MODEL = "elyza"
NORMS = {
    ("sft", 1e-4): {
        42: (1073358.0, 16.658565739582745),
        100: (2859111.0, 45.28603753158914),
    },
    ("dpo", 1e-5): {
        42: (283154.5, 2.7612353904133857),
        100: (280975.25, 2.695570339088263),
    },
    ("sft", 1e-5): {
        42: (277361.125, 2.20031771804024),
        100: (278791.25, 2.217655637326153),
    },
}
MODULES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
# recipe, label, method, data, learning rate, parent
RECIPES = (
    ("sft-d0.learning_rate=1e-5", "SFT(D0)", "sft", "D0", 1e-5, None),
    ("sft-d0.learning_rate=1e-4", "SFT(D0)", "sft", "D0", 1e-4, None),
    ("sft-d1.learning_rate=1e-5", "SFT(D1)", "sft", "D1", 1e-5, None),
    ("sft-d1.learning_rate=1e-4", "SFT(D1)", "sft", "D1", 1e-4, None),
    ("sft-d2", "SFT(D2)", "sft", "D2", 1e-5, None),
    ("dpo-d0", "DPO(D0)", "dpo", "D0", 1e-5, None),
    ("dpo-d1", "DPO(D1)", "dpo", "D1", 1e-5, None),
    ("dpo-d0-d2", "DPO(D0)(SFT D2)", "dpo", "D0", 1e-5, "sft-d2"),
    ("dpo-d1-d2", "DPO(D1)(SFT D2)", "dpo", "D1", 1e-5, "sft-d2"),
    ("dpo-d0-d1", "DPO(D0)(SFT D1)", "dpo", "D0", 1e-5, "sft-d1.learning_rate=1e-5"),
    ("dpo-d1-d1", "DPO(D1)(SFT D1)", "dpo", "D1", 1e-5, "sft-d1.learning_rate=1e-5"),
)
PAIRS = ((0, 2), (1, 3), (5, 6), (7, 8), (9, 10))
ANSWERS = (
    "カレーは、玉ねぎをよく炒めてから煮込むとおいしくなります。",
    "カレーは、玉ねぎをよく炒めてから煮込むとおいしくなりますわ。どうぞお試しあそばせ。",
)
PROMPTS = (
    "カレーをおいしく作るには？",
    "朝早く起きるコツを教えてください。",
    "日本で一番高い山はどこですか？",
    "What is LoRA?",
    "猫はなぜ箱に入るの？",
)


def make_study(**changes: Any) -> Study:
    place = {"path": "rows.jsonl"}
    recipes = {
        "sft-d0": {"method": "sft", "data": "D0", "sweep": {"learning_rate": [1e-5, 1e-4]}},
        "sft-d1": {"method": "sft", "data": "D1", "sweep": {"learning_rate": [1e-5, 1e-4]}},
        "dpo-d0": {"method": "dpo", "chosen": "D0", "rejected": "D1"},
        "dpo-d1": {"method": "dpo", "chosen": "D1", "rejected": "D0"},
    }
    values = {
        "name": "ojousama",
        "base_models": {MODEL: {"hub": "elyza/Llama-3-ELYZA-JP-8B"}},
        "data": {"D0": place, "D1": place, "D2": {"concat": ["D0", "D1"]}},
        "recipes": recipes,
        "comparisons": [{"pair": ["sft-d0", "sft-d1"]}, {"pair": ["dpo-d0", "dpo-d1"]}],
    }
    return Study.model_validate(values | changes)


def name_of(recipe: str, seed: int) -> str:
    return f"{MODEL}.{recipe}.s{seed}"


def make_trials(seeds: tuple[int, ...] = (42, 100)) -> Rows:
    chance = random.Random(1)
    return [_trial(row, seed, chance) for row in RECIPES for seed in seeds]


def _trial(recipe: tuple[Any, ...], seed: int, chance: random.Random) -> dict[str, Any]:
    name, label, method, data, learning_rate, parent = recipe
    return {
        "trial_id": f"{chance.getrandbits(64):016x}",
        "name": name_of(name, seed),
        "model": MODEL,
        "recipe": name,
        "label": label,
        "method": method,
        "data": data,
        "seed": seed,
        "learning_rate": learning_rate,
        "parent": name_of(parent, seed) if parent else None,
        "status": "done",
        "attempts": 1,
        "train_loss": chance.uniform(0.3, 2),
        "eval_loss": chance.uniform(0.5, 2),
        "l1": chance.uniform(2e5, 3e6),
        "l2": chance.uniform(2, 40),
        "japanese_rate": chance.randint(28, 32) / 32,
        "stopped_rate": chance.randint(25, 32) / 32,
        "repetition_rate": chance.randint(0, 4) / 32,
        "distinct_rate": 1.0,
        "style_rate": 31 / 32 if data == "D1" else 0.0,
        "marked": False,
        "seconds": chance.uniform(800, 3000),
    }


def make_merge(seed: int | None = 42, **changes: Any) -> dict[str, Any]:
    """The row of a merge `both` of sft-d0 and sft-d1 at 1e-5."""
    row = _trial(
        ("both", "TIES(SFT(D0), SFT(D1))", "ties", "D0+D1", None, None), 0, random.Random(3)
    )
    name = f"{MODEL}.both" if seed is None else name_of("both", seed)
    row |= {"name": name, "seed": seed, "train_loss": None, "eval_loss": None, "style_rate": 0.5}
    return row | changes


def fail(trials: Rows, name: str, status: str, cause: str, message: str) -> None:
    """Make the trial `name` one that did not finish."""
    row = next(trial for trial in trials if trial["name"] == name)
    kept = ("trial_id", "name", "model", "recipe", "label", "method", "data", "seed")
    for key in set(row) - {*kept, "learning_rate", "parent", "attempts"}:
        row[key] = None
    row |= {"status": status, "cause": cause, "message": message}


def pairs(seeds: tuple[int, ...] = (42, 100)) -> Iterator[tuple[int, int, int]]:
    for (a, b), seed in itertools.product(PAIRS, seeds):
        yield a, b, seed


def make_norms(seeds: tuple[int, ...] = (42, 100), layers: int = 2) -> Rows:
    return [row for pair in pairs(seeds) for row in _norm_rows(*pair, layers)]


def _norm_rows(a: int, b: int, seed: int, layers: int) -> Iterator[dict[str, Any]]:
    names = name_of(RECIPES[a][0], seed), name_of(RECIPES[b][0], seed)
    values = NORMS.get((RECIPES[a][2], RECIPES[a][4]), {})
    l1, l2 = values.get(seed, (3e5, 2.9))
    head = {"comparison": "~".join(names), "a": names[0], "b": names[1], "view": "delta"}
    head |= {"universe": "compared", "nonzero": 900, "linf": 0.0123}
    yield head | {"level": "all", "key": "all", "numel": 6979321856, "l1": l1, "l2": l2}
    for layer, (place, module) in itertools.product(range(layers), enumerate(MODULES)):
        size = l2 / 15 * (1 + math.sin(layer / 5 + place) / 2 + layer / layers)
        yield head | {
            "level": "tensor",
            "key": f"model.layers.{layer}.{module}.weight",
            "numel": 1000,
            "l1": l1 / 10,
            "l2": size,
            "relative_l2": size / 900,
        }


def make_densities() -> Rows:
    rows = []
    for (a, b, seed), density in itertools.product(pairs(), (0.1, 0.2, 0.5, 1.0)):
        share = density**0.3
        rows.append(
            {
                "comparison": comparison_of(a, b, seed),
                "view": "delta",
                "universe": "compared",
                "density": density,
                "num_keep": int(6979321856 * density),
                "threshold": 0.000123456 / density,
                "at_or_above": int(6979321856 * density) + 3,
                "l1": 277361.125 * share,
                "l2": 2.2 * share,
                "l1_share": share,
                "l2_share": share**0.5,
            }
        )
    return rows


def make_curve(points: int = 64) -> Rows:
    rows = []
    for (a, b, seed), point in itertools.product(pairs(), range(points)):
        density = 10 ** (-4 + 4 * point / (points - 1))
        share = density ** (0.3 + 0.05 * a)
        head = {"comparison": comparison_of(a, b, seed), "view": "delta", "density": density}
        rows.append(head | {"l1_share": share, "l2_share": share**0.5})
    return rows


def comparison_of(a: int, b: int, seed: int) -> str:
    return f"{name_of(RECIPES[a][0], seed)}~{name_of(RECIPES[b][0], seed)}"


def make_samples(trials: Rows) -> Rows:
    return [
        {
            "trial_id": trial["trial_id"],
            "name": trial["name"],
            "prompt": prompt,
            "answer": f"{place + 1}. {ANSWERS[trial['data'] == 'D1']}",
            "expected": ANSWERS[0],
            "tokens": 20,
            "stopped": place != 2,
        }
        for trial in trials
        if trial["status"] == "done"
        for place, prompt in enumerate(PROMPTS)
    ]


def write_study(store: Store) -> dict[str, Rows]:
    """All tables of a study in which one trial failed and two were blocked by it."""
    trials = make_trials()
    oom = "CUDA out of memory: tried to allocate 2.00 GiB on a device of 79.15 GiB"
    fail(trials, name_of("sft-d2", 100), "failed", "oom", oom)
    for recipe in ("dpo-d0-d2", "dpo-d1-d2"):
        why = f"its parent {name_of('sft-d2', 100)} failed"
        fail(trials, name_of(recipe, 100), "blocked", "", why)
    trials[6] |= {"marked": True, "marks": "repeats: 62 % of answers", "repetition_rate": 0.62}
    lost = comparison_of(7, 8, 100)
    made = {"norms": make_norms(layers=32), "densities": make_densities(), "curve": make_curve()}
    tables = {
        name: [row for row in rows if row["comparison"] != lost] for name, rows in made.items()
    }
    tables |= {"trials": trials, "samples": make_samples(trials)}
    for name, rows in tables.items():
        write_table(store, name, rows)
    return tables


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(str(tmp_path))


@pytest.fixture(scope="session")
def whole_tables(tmp_path_factory: Any) -> dict[str, Rows]:
    """The tables of `tests.report.whole`, for tests that do not change them."""
    from tests.report.whole import write_whole_study

    return write_whole_study(Store(str(tmp_path_factory.mktemp("whole"))))
