"""Values of given ranks, against a sort of all values, whatever a sample foresees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raylab.merge import order_statistics
from raylab.merge.order_statistics import values_at

LARGEST = np.finfo(np.float64).max
FEW = st.sampled_from([0.0, 5e-324, 1e-310, 1.0, np.nextafter(1.0, 2.0), 3.0, LARGEST])
PIECES = st.lists(
    hnp.arrays(np.float64, st.integers(1, 40), elements=FEW)
    | hnp.arrays(np.float64, st.integers(1, 3000), elements=st.floats(0, 1e300)),
    min_size=1,
    max_size=5,
)


def passes(pieces, sampled):
    """Passes over the pieces; the sample is what `sampled` takes of each."""

    def values(say, share=1):
        return [say(sampled(piece) if share > 1 else piece.copy()) for piece in pieces]

    return values


@pytest.mark.parametrize("most", [order_statistics._MOST, 0])
@settings(max_examples=60, deadline=None)
@given(pieces=PIECES, data=st.data())
def test_values_at_any_ranks_and_sample_are_those_of_a_sort(most, pieces, data):
    whole = np.sort(np.concatenate(pieces))
    ranks = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=3))
    scale = data.draw(st.sampled_from([1.0, 0.0, 1e-9, 2.0]))
    asked = []

    def wanted(count, zeros):
        asked.append((count, zeros))
        return [min(rank, count - 1) for rank in ranks]

    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        patch.setattr(order_statistics, "_MOST", most)
        # A sample of other values foresees wrong ranges.
        found = values_at(
            passes(pieces, lambda v: np.fmin(v[: len(v) // 2 + 1] * scale, LARGEST)), wanted
        )
    assert found == whole[ranks].tolist()
    assert asked[-1] == (len(whole), int((whole == 0).sum()))


def test_values_at_of_no_ranks_is_nothing():
    assert values_at(passes([np.zeros(5)], lambda v: v), lambda count, zeros: []) == []


def test_values_at_with_a_good_sample_passes_once():
    piece, seen = np.random.default_rng(1).random(100_000), []

    def values(say, share=1):
        seen.append(share)
        return [say(piece[::share])]

    assert values_at(values, lambda n, _: [n // 2]) == [np.sort(piece)[50_000]]
    assert len(seen) == 2
