from __future__ import annotations

import argparse
from fractions import Fraction

import pytest

from videoclr.arguments import integer, rate_of, real


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "two", ""])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=rf"^expected a finite number, got {text!r}$"):
        real()(text)
    with pytest.raises(argparse.ArgumentTypeError, match=rf"^expected a number above 0 and of at most 1, got {text!r}$"):
        real(above=0, most=1)(text)


def test_bounds_belong_to_the_range_or_do_not() -> None:
    assert real(least=0, most=1)("0") == 0 and real(least=0, most=1)("1") == 1
    for outside in ("0", "1"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number above 0 and below 1"):
            real(above=0, below=1)(outside)


def test_whole_numbers_begin_somewhere() -> None:
    assert integer(2)("2") == 2
    for wrong in ("1", "2.5", "nan", "-3"):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"^expected a whole number of at least 2, got {wrong!r}$"):
            integer(2)(wrong)


def test_a_rate_is_a_fraction_above_nothing() -> None:
    assert rate_of("30000/1001") == Fraction(30000, 1001)
    for wrong in ("0", "1/0", "-25", "nan", "fast"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a rate such as 25 or 30000/1001"):
            rate_of(wrong)
