from __future__ import annotations

import pytest

from raylab.number_format import (
    clock,
    count,
    duration,
    listing,
    long_time,
    number,
    rate,
    setting,
    short,
    size,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.20031771804024, "2.200"),
        (45.28603753158914, "45.29"),
        (1073358.0, "1.073e6"),
        (277361.125, "277400"),
        (9999.9, "10000"),
        (0.000123456, "0.0001235"),
        (1.5e-7, "1.500e-7"),
        (-3.14159, "-3.142"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (None, "–"),
    ],
)
def test_number_any_value_has_four_significant_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.2003, "2.2"),
        (45.286, "45.3"),
        (1240.4, "1,240"),
        (123456.0, "123,000"),
        (12_400_000.0, "1.24e7"),
        (1e-7, "1e-7"),
        (-0.0512, "-0.0512"),
        (120.0, "120"),
        (0.0, "0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (None, "–"),
    ],
)
def test_short_any_value_has_at_most_three_significant_digits(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1e-5"), (1e-4, "1e-4"), (2.5e-4, "2.5e-4"), (0.3, "0.3"), (128.0, "128"), (1, "1")],
)
def test_setting_chosen_value_is_written_as_people_do(value, text):
    assert setting(value) == text


def test_rate_null_is_a_dash_and_share_a_percentage():
    assert [rate(None), rate(1.0), rate(0.96875), rate(0.0)] == ["–", "100 %", "96.9 %", "0 %"]


def test_count_large_value_keeps_every_digit():
    assert count(6979321856) == "6,979,321,856"


def test_duration_and_listing_read_as_prose():
    assert [duration(1.25), duration(2535.2), duration(None)] == ["1.2", "2,535", "–"]
    assert [listing([]), listing([1]), listing("abc")] == ["", "1", "a, b and c"]


def test_size_of_bytes_has_three_digits_and_a_unit():
    sizes = [size(value) for value in (0, 999, 4_330_000, 85e9, 1.6e13)]
    assert sizes == ["0 B", "999 B", "4.33 MB", "85 GB", "16 TB"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0:00"),
        (59.9, "0:59"),
        (750, "12:30"),
        (3599.99, "59:59"),
        (3750, "1:02:30"),
        (86399, "23:59:59"),
        (266400, "3 d 02:00"),
        (None, "–"),
    ],
)
def test_clock_of_seconds_reads_like_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (2.8e-3, "under 1 s"),
        (1.26, "1.3 s"),
        (99.4, "99 s"),
        (100, "1.7 min"),
        (3600, "60 min"),
        (12240, "3.4 h"),
        (250_000, "69 h"),
        (432_000, "5 d"),
        (864e6, "10,000 d"),
    ],
)
def test_long_time_of_seconds_reads_as_people_say_it(seconds, text):
    assert long_time(seconds) == text
