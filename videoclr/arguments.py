"""Numbers on the command lines of programs: `type=` of argparse, which says in one line what a number has to be.

    parser.add_argument("--seconds", type=real(above=0), default=2.0)

NaN and infinity are numbers to `float`, and pass every comparison that nobody wrote with them in mind.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from fractions import Fraction


def real(
    above: float | None = None, least: float | None = None, below: float | None = None, most: float | None = None
) -> Callable[[str], float]:
    """Finite numbers, within the bounds that are given."""

    def of(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        bounds = {"above": above, "of at least": least, "below": below, "of at most": most}
        fits = (
            math.isfinite(value)
            and (above is None or value > above)
            and (least is None or value >= least)
            and (below is None or value < below)
            and (most is None or value <= most)
        )
        if not fits:
            said = " and ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)
            raise argparse.ArgumentTypeError(f"expected a {'number ' + said if said else 'finite number'}, got {text!r}")
        return value

    return of


def integer(least: int) -> Callable[[str], int]:
    """Whole numbers from `least` on."""

    def of(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return of


def rate_of(text: str) -> Fraction:
    """Pictures a second, more than 0: `25`, `30000/1001`."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a rate such as 25 or 30000/1001, got {text!r}")
    return value
