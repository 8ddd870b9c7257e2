"""The methods of whole tensors and of thresholds give mergekit's numbers for mergekit's own YAML.

The numbers are those of mergekit 0.1.5 (torch on a CPU, November 2026): how far q_proj moved from
the base, in 1/256, over the checkpoints of `tests.merge.test_peers`. mergekit works in float32.
Where RAYLAB_MERGEKIT names the program mergekit-yaml of an environment of its own, the marked test
asks it again.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.merge.merge import merge_named
from raylab.merge.steps import keep_probabilities
from raylab.spec.mergekit import read_mergekit
from tests.merge.test_peers import FIRST, Q_PROJ, SECOND, ZERO
from tests.oracles import merging as oracle

LAYER = "model.layers.0."
SQUARES = ["model.embed_tokens.weight", "lm_head.weight"] + [
    f"{LAYER}{name}.weight"
    for name in (
        "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )
]  # fmt: skip
NORMS = ["model.norm.weight", f"{LAYER}input_layernorm.weight"]
NORMS += [f"{LAYER}post_attention_layernorm.weight"]
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4,
    "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "vocab_size": 4, "tie_word_embeddings": False,
}  # fmt: skip
STARTS = [(i - 8) / 8 for i in range(16)]


def written(folder, config):
    """mergekit's YAML, whose BASE, FIRST and SECOND are checkpoints in `folder`."""
    for name, moves in (("BASE", ZERO), ("FIRST", FIRST), ("SECOND", SECOND)):
        (folder / name).mkdir(parents=True)
        values = [start + move / 256 for start, move in zip(STARTS, moves, strict=True)]
        tensors = {name: torch.ones(4, 4) for name in SQUARES}
        tensors |= {name: torch.ones(4) for name in NORMS}
        tensors |= {Q_PROJ: torch.tensor(values).reshape(4, 4)}
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(CONFIG))
    text = json.dumps({**config, "dtype": "float32"})
    for name in ("BASE", "FIRST", "SECOND"):
        text = text.replace(f'"{name}"', json.dumps(str(folder / name)))
    (folder / "merge.yaml").write_text(text)
    return folder / "merge.yaml"


def moved(folder):
    values = load_file(folder / "model.safetensors")[Q_PROJ].double().flatten().tolist()
    return [(value - start) * 256 for value, start in zip(values, STARTS, strict=True)]


AGREED = [
    (
        {
            "merge_method": "slerp",
            "base_model": "FIRST",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"t": 0.25},
        },
        [
            2.143311,
            -1.343536,
            11.424515,
            -7.069153,
            3.949066,
            -11.043839,
            3.223595,
            5.239737,
            -9.503548,
            15.019344,
            -3.72422,
            -0.961731,
            -11.450951,
            9.571182,
            -13.425064,
            10.34787,
        ],
    ),
    (
        {
            "merge_method": "nuslerp",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 3.0}},
            ],
        },
        [
            -3.41275,
            2.375702,
            11.820419,
            -3.5345,
            10.963211,
            -5.86261,
            -4.449814,
            12.90506,
            -7.418194,
            14.667049,
            0.650787,
            -11.915604,
            -9.661636,
            13.894516,
            -11.905075,
            12.037338,
        ],
    ),
    (
        {
            "merge_method": "nuslerp",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 3.0}},
            ],
            "parameters": {"nuslerp_flatten": False},
        },
        [
            -3.42807,
            2.387665,
            11.952728,
            -3.588699,
            12.223518,
            -7.042747,
            -4.682953,
            14.419529,
            -7.640432,
            15.068916,
            0.624809,
            -12.131088,
            -8.690765,
            12.730576,
            -10.730896,
            10.962311,
        ],
    ),
    (
        {
            "merge_method": "nuslerp",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 3.0}},
            ],
            "parameters": {"nuslerp_flatten": False, "nuslerp_row_wise": True},
        },
        [
            -3.429077,
            2.30809,
            11.650558,
            -3.880386,
            11.064713,
            -5.386093,
            -4.425507,
            13.628437,
            -7.516588,
            13.75016,
            0.66436,
            -12.481308,
            -9.785965,
            13.129471,
            -11.723969,
            12.854279,
        ],
    ),
    (
        {
            "merge_method": "nuslerp",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 3.0}},
            ],
        },
        [
            -3.357483,
            2.156937,
            10.424362,
            -3.068604,
            9.949898,
            -5.042992,
            -4.277451,
            11.740641,
            -6.503131,
            13.019066,
            0.776405,
            -10.96312,
            -8.450531,
            12.571609,
            -10.424652,
            10.847931,
        ],
    ),
    (
        {
            "merge_method": "multislerp",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 3.0}},
            ],
        },
        [
            -3.624054,
            2.508957,
            11.708466,
            -3.345276,
            11.150909,
            -5.575455,
            -4.739136,
            13.102322,
            -7.248093,
            14.496185,
            0.836319,
            -12.266006,
            -9.478271,
            13.938644,
            -11.708466,
            11.987228,
        ],
    ),
    (
        {
            "merge_method": "multislerp",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"normalize_weights": False},
        },
        [
            2.282211,
            -1.141113,
            19.398834,
            -10.84053,
            8.558311,
            -17.116623,
            3.423325,
            10.840527,
            -15.404956,
            25.104374,
            -5.134987,
            -4.56443,
            -18.828278,
            17.116623,
            -22.251602,
            17.687164,
        ],
    ),
    (
        {"merge_method": "karcher", "models": [{"model": "FIRST"}, {"model": "SECOND"}]},
        [
            -0.644043,
            0.376389,
            10.899017,
            -5.090942,
            6.934013,
            -8.056519,
            -0.537613,
            8.488403,
            -8.003769,
            14.025154,
            -1.464184,
            -5.952179,
            -9.933632,
            11.095871,
            -11.899109,
            10.630646,
        ],
    ),
    (
        {
            "merge_method": "karcher",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}, {"model": "BASE"}],
            "parameters": {"max_iter": 50, "tol": 1e-06},
        },
        [
            -0.519196,
            0.172775,
            7.204269,
            -3.452423,
            4.58136,
            -5.408577,
            -0.381058,
            5.651957,
            -5.339818,
            9.368252,
            -0.954472,
            -3.937515,
            -6.582596,
            7.458694,
            -7.871506,
            7.1707,
        ],
    ),
    (
        {
            "merge_method": "model_stock",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
        },
        [
            -0.323364,
            0.32338,
            7.114426,
            -3.233826,
            4.527367,
            -5.174133,
            -0.32338,
            5.497513,
            -5.174129,
            9.054726,
            -0.97015,
            -3.8806,
            -6.467659,
            7.114426,
            -7.7612,
            6.791046,
        ],
    ),
    (
        {
            "merge_method": "model_stock",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"filter_wise": True},
        },
        [
            -0.304138,
            0.304138,
            6.690765,
            -3.04126,
            0.591789,
            -0.676338,
            -0.042274,
            0.718607,
            -4.425871,
            7.745274,
            -0.829849,
            -3.319405,
            -9.457207,
            10.402939,
            -11.348648,
            9.930069,
        ],
    ),
    (
        {
            "merge_method": "nearswap",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}],
            "parameters": {"t": 0.01953125},
        },
        [5.0, -3.0, 5.0, -5.0, 1.0, -5.0, 5.0, 2.0, -5.0, 5.0, -5.0, 4.0, -5.0, 5.0, -5.0, 5.0],
    ),
    (
        {
            "merge_method": "ram",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"epsilon": 0.025390625},
        },
        [
            0.0,
            0.0,
            11.0,
            -9.0,
            13.0,
            -14.0,
            -0.5,
            15.0,
            -11.0,
            14.0,
            0.0,
            -16.0,
            -10.0,
            11.0,
            -12.0,
            10.5,
        ],
    ),
    (
        {
            "merge_method": "ramplus_tl",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"epsilon": 0.025390625},
        },
        [
            0.0,
            0.0,
            11.0,
            -9.179993,
            13.260002,
            -14.279999,
            -0.5,
            15.299999,
            -11.219999,
            14.0,
            0.0,
            -16.32,
            -10.0,
            11.0,
            -12.0,
            10.5,
        ],
    ),
    (
        {
            "merge_method": "ramplus_tl",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"epsilon": 0.037109375, "r": 0.5, "alpha": 0.75},
        },
        [
            0.0,
            0.0,
            11.0,
            0.0,
            17.875,
            -19.25,
            0.0,
            20.625,
            -15.125,
            14.0,
            0.0,
            -22.0,
            -17.875,
            19.25,
            -20.625,
            10.5,
        ],
    ),
    (
        {"merge_method": "arcee_fusion", "base_model": "BASE", "models": [{"model": "FIRST"}]},
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -13.0, 0.0, -15.0, 0.0],
    ),
    (
        {
            "merge_method": "sce",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
            "parameters": {"select_topk": 0.5},
        },
        [
            -6.0,
            0.0,
            0.0,
            -3.784988,
            8.822525,
            -6.177475,
            -8.0,
            10.474403,
            0.0,
            0.0,
            -6.0,
            -16.0,
            0.0,
            0.0,
            0.0,
            0.0,
        ],
    ),
    (
        {
            "merge_method": "sce",
            "base_model": "BASE",
            "models": [{"model": "FIRST"}, {"model": "SECOND"}],
        },
        [
            -6.0,
            4.0,
            11.0,
            -5.0,
            7.0,
            -8.0,
            -8.0,
            8.5,
            -8.0,
            14.0,
            -6.0,
            -16.0,
            -10.0,
            11.0,
            -12.0,
            10.5,
        ],
    ),
    (
        {"merge_method": "passthrough", "models": [{"model": "FIRST"}]},
        [
            5.0,
            -3.0,
            12.0,
            -9.0,
            1.0,
            -14.0,
            7.0,
            2.0,
            -11.0,
            16.0,
            -6.0,
            4.0,
            -13.0,
            8.0,
            -15.0,
            10.0,
        ],
    ),
    (
        {
            "merge_method": "della",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"lambda": 0.5},
        },
        [
            2.5,
            -1.5,
            5.666672,
            -3.166672,
            2.5,
            -5.0,
            3.5,
            3.166666,
            -4.5,
            7.333332,
            -3.0,
            -8.0,
            -5.5,
            5.0,
            -6.5,
            5.166672,
        ],
    ),
    (
        {
            "merge_method": "della_linear",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"epsilon": 0.1},
        },
        [
            2.0,
            -1.0,
            17.0,
            -9.5,
            7.5,
            -15.0,
            3.0,
            9.5,
            -13.5,
            22.0,
            -4.5,
            -4.0,
            -16.5,
            15.0,
            -19.5,
            15.5,
        ],
    ),
    (
        {
            "merge_method": "breadcrumbs",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"density": 0.5, "gamma": 0.2},
        },
        [-3.0, 0.0, 17.0, -9.0, 6.5, 0.0, 3.0, 0.0, -11.0, 6.0, -6.0, 0.0, -16.5, 8.0, -4.5, 15.5],
    ),
    (
        {
            "merge_method": "breadcrumbs",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"density": 0.9, "gamma": 0.2, "lambda": 0.5},
        },
        [
            1.0,
            -0.5,
            8.5,
            -4.75,
            3.75,
            -7.5,
            1.5,
            1.0,
            -6.75,
            3.0,
            -2.25,
            2.0,
            -8.25,
            7.5,
            -2.25,
            7.75,
        ],
    ),
    (
        {
            "merge_method": "breadcrumbs_ties",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"density": 0.5, "gamma": 0.2},
        },
        [-3.0, 0.0, 17.0, -9.0, 6.5, 0.0, 7.0, 0.0, -11.0, 6.0, -6.0, 0.0, -16.5, 8.0, -4.5, 15.5],
    ),
    (
        {
            "merge_method": "breadcrumbs_ties",
            "base_model": "BASE",
            "models": [
                {"model": "FIRST", "parameters": {"weight": 1.0}},
                {"model": "SECOND", "parameters": {"weight": 0.5}},
            ],
            "parameters": {"density": 0.5, "gamma": 0.2, "normalize": True},
        },
        [
            -6.0,
            0.0,
            11.333328,
            -9.0,
            13.0,
            0.0,
            7.0,
            0.0,
            -11.0,
            12.0,
            -6.0,
            0.0,
            -11.0,
            8.0,
            -9.0,
            10.333328,
        ],
    ),
]
NAMES = [f"{config['merge_method']}-{i}" for i, (config, _) in enumerate(AGREED)]


@pytest.mark.parametrize(("config", "mergekits"), AGREED, ids=NAMES)
def test_merge_by_mergekits_yaml_gives_mergekits_numbers(tmp_path, config, mergekits):
    merge_named(read_mergekit(written(tmp_path, config)), tmp_path / "out")
    assert moved(tmp_path / "out") == pytest.approx(mergekits, abs=256 * 2**-21)


@pytest.mark.mergekit
@pytest.mark.parametrize(("config", "mergekits"), AGREED, ids=NAMES)
def test_mergekit_itself_gives_the_numbers_that_are_kept(tmp_path, config, mergekits):
    program = os.environ.get("RAYLAB_MERGEKIT")
    if not program:
        pytest.skip("RAYLAB_MERGEKIT names no mergekit-yaml")
    file = written(tmp_path, config)
    subprocess.run([program, str(file), str(tmp_path / "theirs")], check=True)
    assert moved(tmp_path / "theirs") == pytest.approx(mergekits, abs=256 * 2**-21)


# What mergekit draws by for the rows of FIRST at density 0.5 and epsilon 0.3, where the larger two
# of each row stay; and the sum of magnitudes that it restores.
PROBE = """
import json, torch
from mergekit import sparsify
seen = []
torch.bernoulli = lambda p: seen.append(p.tolist()) or (p > 0.5).to(p.dtype)
rows = torch.tensor(FIRST, dtype=torch.float32).reshape(4, 4)
kept = sparsify.della_magprune(rows, 0.5, 0.3, sparsify.RescaleNorm.l1)
print(json.dumps([seen[0], kept.tolist()]))
"""
PROBABILITIES = [
    [0.4, 0.2, 0.8, 0.6],
    [0.2, 0.8, 0.6, 0.4],
    [0.6, 0.8, 0.4, 0.2],
    [0.6, 0.2, 0.8, 0.4],
]


def test_della_keeps_by_the_probabilities_that_mergekit_draws_by():
    rows = [FIRST[i : i + 4] for i in range(0, 16, 4)]
    _, shares = keep_probabilities(0.5, 0.3, 4)
    for row, theirs in zip(rows, PROBABILITIES, strict=True):
        ranks = sorted(range(4), key=lambda i, row=row: abs(row[i]))
        mine = [float(shares[ranks.index(i)]) for i in range(4)]
        assert mine == pytest.approx(theirs)
        assert oracle.probabilities(row, 0.5, 0.3) == pytest.approx(theirs)


@pytest.mark.mergekit
def test_mergekit_itself_draws_by_the_probabilities_that_are_kept():
    program = os.environ.get("RAYLAB_MERGEKIT")
    if not program:
        pytest.skip("RAYLAB_MERGEKIT names no mergekit-yaml")
    command = [Path(program).parent / "python", "-c", PROBE.replace("FIRST", str(FIRST))]
    probabilities, kept = json.loads(subprocess.check_output(command))
    assert np.allclose(probabilities, PROBABILITIES)
    whole = np.where(np.array(PROBABILITIES) > 0.5, np.reshape(FIRST, (4, 4)), 0)
    assert np.allclose(kept, whole * np.abs(FIRST).sum() / np.abs(whole).sum())


def test_della_with_mergekits_rescaling_restores_the_sum_of_magnitudes(tmp_path):
    config = {
        "merge_method": "della_linear",
        "base_model": "BASE",
        "models": [{"model": "FIRST", "parameters": {"weight": 1.0}}],
        "parameters": {"density": 0.5, "epsilon": 0.3, "rescale_norm": "l1"},
    }
    merge_named(read_mergekit(written(tmp_path, config)), tmp_path / "out")
    delta = np.reshape(FIRST, (4, 4)) / 256
    stays = np.array(oracle.dropped_by_rank(delta, 0.5, 0.3, 0, 0, Q_PROJ)) != 0
    kept = np.where(stays, FIRST, 0)
    assert 0 < np.count_nonzero(kept) < 16
    wanted = kept * np.abs(FIRST).sum() / np.abs(kept).sum()
    assert moved(tmp_path / "out") == pytest.approx(wanted.tolist(), abs=256 * 2**-21)
