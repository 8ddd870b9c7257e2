"""Layers, kinds and shares against real tensor names and norms of real matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raylab.report.findings import by_layer
from raylab.report.findings.by_layer import ORDER, kind_order, location_of
from raylab.report.study_tables import Tables
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of

NAMES = {
    # Llama, Qwen2 (with biases), Mistral, Gemma 2
    "model.layers.0.self_attn.q_proj.weight": (0, "q"),
    "model.layers.31.self_attn.k_proj.weight": (31, "k"),
    "model.layers.7.self_attn.v_proj.bias": (7, "v"),
    "model.layers.12.self_attn.o_proj.weight": (12, "o"),
    "model.layers.1.mlp.gate_proj.weight": (1, "gate"),
    "model.layers.1.mlp.up_proj.weight": (1, "up"),
    "model.layers.1.mlp.down_proj.weight": (1, "down"),
    "model.embed_tokens.weight": (None, "embedding"),
    "model.norm.weight": (None, "norm"),
    "lm_head.weight": (None, "head"),
    "model.layers.25.pre_feedforward_layernorm.weight": (25, "pre_feedforward_layernorm"),
    "model.layers.3.self_attn.q_norm.weight": (3, "q_norm"),
    # GPT-NeoX
    "gpt_neox.layers.3.attention.query_key_value.weight": (3, "qkv"),
    "gpt_neox.layers.3.attention.dense.weight": (3, "o"),
    "gpt_neox.layers.3.mlp.dense_h_to_4h.weight": (3, "up"),
    "gpt_neox.layers.3.mlp.dense_4h_to_h.bias": (3, "down"),
    "gpt_neox.embed_in.weight": (None, "embedding"),
    "embed_out.weight": (None, "head"),
    # Phi-3, Phi-2
    "model.layers.9.self_attn.qkv_proj.weight": (9, "qkv"),
    "model.layers.9.mlp.gate_up_proj.weight": (9, "gate+up"),
    "model.layers.9.self_attn.dense.weight": (9, "o"),
    "model.layers.9.mlp.fc1.weight": (9, "up"),
    "model.layers.9.mlp.fc2.weight": (9, "down"),
    # GPT-2, whose c_proj is two things
    "transformer.h.5.attn.c_attn.weight": (5, "qkv"),
    "transformer.h.5.attn.c_proj.weight": (5, "o"),
    "transformer.h.5.mlp.c_fc.weight": (5, "up"),
    "transformer.h.5.mlp.c_proj.weight": (5, "down"),
    "transformer.wte.weight": (None, "embedding"),
    # Falcon, Mixtral, OPT
    "transformer.h.2.self_attention.query_key_value.weight": (2, "qkv"),
    "transformer.h.2.self_attention.dense.weight": (2, "o"),
    "model.layers.6.block_sparse_moe.experts.3.w1.weight": (6, "w1"),
    "model.decoder.layers.4.self_attn.out_proj.weight": (4, "o"),
}
Q, K, UP = "self_attn.q_proj.weight", "self_attn.k_proj.weight", "mlp.up_proj.weight"


def tensor(layer, module):
    return f"model.layers.{layer}.{module}"


def rows_of(deltas, a, b, weights=None):
    """The norms of tensors of one comparison, with those over `weights`."""
    return [
        norm(
            a, b, float(np.linalg.norm(delta)), level="tensor", key=key,
            relative_l2=None if weights is None
            else float(np.linalg.norm(delta) / np.linalg.norm(weights[key])),
        )
        for key, delta in deltas.items()
    ]  # fmt: skip


def make_deltas(keys, seed, scale=1.0):
    chance = np.random.default_rng(seed)
    return {key: scale * chance.normal(0, 1 + place, (4, 5)) for place, key in enumerate(keys)}


KEYS = [tensor(layer, module) for layer in range(3) for module in (Q, K, UP)]


def cells_of(tables):
    rows = by_layer.find(tables).frames["where"]
    return {(row["name"], row["layer"], row["kind"]): row for row in rows}


@pytest.mark.parametrize(("name", "place"), NAMES.items())
def test_location_of_a_tensor_names_its_layer_and_kind(name, place):
    assert location_of(name) == place


def test_kind_order_follows_a_layer_then_the_alphabet():
    found = sorted(["zeta", "head", "down", "alpha", "q", "o", "up"], key=kind_order)
    assert found == ["q", "o", "up", "down", "head", "alpha", "zeta"]
    assert set(ORDER) >= {kind for _, kind in NAMES.values()} - {
        "norm", "q_norm", "pre_feedforward_layernorm", "w1"
    }  # fmt: skip


def test_by_layer_cells_of_a_recipe_are_means_over_seeds():
    first, second = make_deltas(KEYS, 1), make_deltas(KEYS, 2)
    norms = rows_of(first, name_of("a", 1), BASE) + rows_of(second, name_of("a", 2), BASE)
    cells = cells_of(Tables.of({"trials": [trial("a", s) for s in (1, 2)], "norms": norms}))
    assert len(cells) == 9
    means = {key: (np.linalg.norm(first[key]) + np.linalg.norm(second[key])) / 2 for key in KEYS}
    whole = sum(value**2 for value in means.values())
    for layer in range(3):
        for module, kind in ((Q, "q"), (K, "k"), (UP, "up")):
            row, wanted = cells[f"{BASE}.a", layer, kind], means[tensor(layer, module)]
            assert row["l2"] == row["value"] == pytest.approx(wanted, rel=1e-12)
            assert row["share"] == pytest.approx(wanted**2 / whole, rel=1e-12)
            assert (row["seeds"], row["measure"], row["relative_l2"]) == (2, "l2", None)
    assert math.fsum(row["share"] for row in cells.values()) == pytest.approx(1, rel=1e-12)


def test_by_layer_one_seed_shares_sum_the_squares_of_the_whole_vector():
    deltas = make_deltas(KEYS, 3)
    norms = rows_of(deltas, name_of("a", 1), BASE)
    found = by_layer.find(Tables.of({"trials": [trial("a")], "norms": norms}))
    flat = np.concatenate([delta.ravel() for delta in deltas.values()])
    ups = np.concatenate([deltas[tensor(layer, UP)].ravel() for layer in range(3)])
    (values,) = values_of(found.sentences, "where-kind")
    assert (values["kind"], values["count"], values["total"]) == ("up", 1, 1)
    assert values["low"] == values["high"] == pytest.approx((ups @ ups) / (flat @ flat), rel=1e-12)
    last = np.concatenate([deltas[tensor(2, module)].ravel() for module in (Q, K, UP)])
    (depth,) = values_of(found.sentences, "where-depth")
    assert depth["low"] == depth["high"] == pytest.approx((last @ last) / (flat @ flat), rel=1e-12)
    assert (depth["layers"], depth["late"]) == (3, 1)


def test_by_layer_weight_and_bias_are_one_cell_of_their_root_sum_of_squares():
    keys = [tensor(0, Q), tensor(0, "self_attn.q_proj.bias"), tensor(0, UP)]
    deltas, weights = make_deltas(keys, 4, 0.01), make_deltas(keys, 5)
    norms = rows_of(deltas, name_of("a", 1), BASE, weights)
    row = cells_of(Tables.of({"trials": [trial("a")], "norms": norms}))[f"{BASE}.a", 0, "q"]
    moved = np.concatenate([deltas[key].ravel() for key in keys[:2]])
    still = np.concatenate([weights[key].ravel() for key in keys[:2]])
    assert row["l2"] == pytest.approx(np.linalg.norm(moved), rel=1e-12)
    relative = np.linalg.norm(moved) / np.linalg.norm(still)
    assert row["relative_l2"] == row["value"] == pytest.approx(relative, rel=1e-12)
    assert row["measure"] == "relative_l2"


def test_by_layer_a_tensor_without_a_relative_norm_makes_all_cells_absolute():
    deltas, weights = make_deltas(KEYS, 6), make_deltas(KEYS, 7)
    norms = rows_of(deltas, name_of("a", 1), BASE, weights)
    norms[0]["relative_l2"] = None
    cells = cells_of(Tables.of({"trials": [trial("a")], "norms": norms}))
    assert {row["measure"] for row in cells.values()} == {"l2"}
    assert all(row["value"] == row["l2"] for row in cells.values())


def test_by_layer_a_cell_that_one_seed_lacks_says_of_how_many_it_is():
    norms = rows_of(make_deltas(KEYS, 1), name_of("a", 1), BASE)
    norms += rows_of(make_deltas(KEYS[1:], 2), name_of("a", 2), BASE)
    cells = cells_of(Tables.of({"trials": [trial("a", s) for s in (1, 2)], "norms": norms}))
    assert {key: row["seeds"] for key, row in cells.items() if row["seeds"] != 2} == {
        (f"{BASE}.a", 0, "q"): 1
    }


def test_by_layer_a_data_pair_is_a_difference_and_other_pairs_are_none():
    trials = [trial("a"), trial("b", data="D1"), trial("c", data="D1", method="dpo")]
    deltas = make_deltas(KEYS, 9)
    norms = rows_of(deltas, name_of("a", 1), name_of("b", 1))
    norms += rows_of(deltas, name_of("b", 1), name_of("c", 1))
    rows = by_layer.find(Tables.of({"trials": trials, "norms": norms})).frames["where"]
    heads = {(row["what"], row["name"], row["label"]) for row in rows}
    assert heads == {("difference", f"{BASE}.a~{BASE}.b", "A vs B")}


def test_by_layer_of_no_tensors_says_that_nothing_was_measured():
    found = by_layer.find(Tables.of({"trials": [trial("a")]}))
    assert values_of(found.sentences, "where-nothing") == [{}]
