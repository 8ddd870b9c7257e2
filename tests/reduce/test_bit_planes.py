"""Planes of bits against numpy, entry by entry: deltas that are held, and those that are formed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raylab.reduce.bit_planes import add_groups, add_pairs, add_signs, planes_of
from raylab.reduce.lora_product import ProductRows
from raylab.weights.adapter_parts import Factors

LIMITS = (0.0, 0.5, 2.0)
EVERY = np.array([True] * 4)
SHAPES = [(1, 5), (7, 256), (8, 64), (9, 300), (23, 24), (64, 513), (300, 1)]


def formed(seed, height, width, *ranks):
    """Rows of a delta of several terms, from the third row of their factors on."""
    draws = torch.Generator().manual_seed(seed)
    terms = tuple(
        Factors(
            torch.randn(rank, width, generator=draws),
            torch.randn(height + 4, rank, generator=draws),
            0.7,
        )
        for rank in ranks
    )
    return ProductRows(terms, 2, height + 2)


def models(height, width):
    """(rows of four models, their values): a term, two terms, rows that are held, and none."""
    held = torch.randn(height, width, generator=torch.Generator().manual_seed(3))
    held.view(-1)[:: max(1, held.numel() // 7)] = 0.0
    held.view(-1)[2::11] = math.inf
    held.view(-1)[3::13] = math.nan
    rows = [formed(1, height, width, 8), formed(2, height, width, 3, 9), held, None]
    values = [each.values().numpy() for each in rows[:2]]
    return rows, np.stack([*values, held.numpy(), np.zeros_like(held)]).reshape(4, -1)


def planes_and_values(height, width):
    rows, values = models(height, width)
    bits = [int(np.float32(limit).view(np.int32)) for limit in LIMITS]
    planes = planes_of(rows, [bits] * 4)
    is_there = np.isfinite(values) & (values != 0)
    return planes, is_there, np.signbit(values), np.nan_to_num(np.abs(values), posinf=0.0)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_pairs_share_the_entries_that_numpy_counts(height, width):
    planes, is_there, is_negative, sizes = planes_and_values(height, width)
    counts = np.zeros((5, 4, 4), np.int64)
    add_pairs(planes, EVERY, counts)
    for i in range(4):
        for j in range(4):
            both = is_there[i] & is_there[j]
            expected = [np.sum(both), np.sum(both & (is_negative[i] == is_negative[j]))]
            expected += [np.sum(both & (sizes[i] >= t) & (sizes[j] >= t)) for t in LIMITS]
            assert counts[:, i, j].tolist() == expected
    before = counts.copy()
    add_pairs(planes, EVERY, counts)
    assert (counts == 2 * before).all()


def test_pairs_of_models_that_are_both_not_chosen_are_left_out():
    planes, *_ = planes_and_values(9, 300)
    whole, some = np.zeros((2, 5, 4, 4), np.int64)
    add_pairs(planes, EVERY, whole)
    add_pairs(planes, np.array([False, True, False, False]), some)
    asked = np.eye(4, dtype=np.bool_)
    asked[1] = asked[:, 1] = True
    assert (some == np.where(asked, whole, 0)).all()


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_groups_are_counted_as_numpy_counts_them(height, width):
    planes, is_there, is_negative, sizes = planes_and_values(height, width)
    groups = [[0, 1, 2], [3], [1, 0], [0, 1, 2, 3]]
    found = np.zeros((3, sum(len(group) + 2 for group in groups)), np.int64)
    members = np.concatenate(groups)
    add_groups(planes, height * width, members, np.array([len(g) for g in groups]), found)
    for own, limit in zip(found, LIMITS, strict=True):
        expected = []
        for group in groups:
            masks = is_there[group] & (sizes[group] >= limit)
            negative = (masks & is_negative[group]).sum(axis=0)
            total = masks.sum(axis=0)
            expected += [np.sum(total == k) for k in range(len(group) + 1)]
            expected.append(np.sum((negative > 0) & (negative < total)))
        assert own.tolist() == expected


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_kin_are_counted_as_numpy_counts_them(height, width):
    planes, is_there, is_negative, sizes = planes_and_values(height, width)
    kin = np.array([(0, 2), (2, 0), (3, 1)])
    found = np.zeros((3, 3, 2), np.int64)
    add_signs(planes, kin, found)
    for own, limit in zip(found, LIMITS, strict=True):
        for counts, (merge, parent) in zip(own, kin, strict=True):
            mask = is_there[parent] & (sizes[parent] >= limit)
            is_same = is_there[merge] & (is_negative[merge] == is_negative[parent])
            assert counts.tolist() == [np.sum(mask & is_same), np.sum(mask & ~is_there[merge])]
