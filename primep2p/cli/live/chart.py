"""Curves and bars of characters: a Braille cell has two dots side by side and four above one another."""

import itertools
from collections.abc import Sequence
from math import isfinite

__all__ = ["bar", "curve"]

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a Braille character, by column and then from the top. Source: Unicode 15, section 21.1."""

_BLANK = 0x2800

_HUGE = 1e300

_EIGHTHS = " ▏▎▍▌▋▊▉"


def curve(values: Sequence[float | None], width: int, height: int) -> list[str]:
    """`height` rows of `width` cells with a line through the values, the largest at the top; values that are none leave
    a gap. More values than columns are averaged."""
    columns = _columns(values, 2 * width)
    known = [value for value in columns if value is not None]
    cells = [[0] * width for _ in range(height)]
    if known:
        least, span = min(known), max(known) - min(known)
        deepest = 4 * height - 1

        def depth(value: float) -> int:
            return deepest // 2 if span == 0 else round(deepest * (1 - (value - least) / span))

        before: int | None = None
        for column, value in enumerate(columns):
            here = None if value is None else depth(value)
            if here is not None:
                start = here if before is None else before + (before < here) - (before > here)
                for row in range(min(start, here), max(start, here) + 1):
                    cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
            before = here
    return ["".join(chr(_BLANK + cell) for cell in row) for row in cells]


def bar(share: float, width: int) -> str:
    """A bar of `width` cells, filled to `share` of it."""
    eighths = round(8 * width * min(1.0, max(0.0, share)))
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def _columns(values: Sequence[float | None], count: int) -> list[float | None]:
    """One value for each column: means where there are more values, lines between them where there are fewer."""
    finite = [value if value is not None and isfinite(value) else None for value in values]
    if max((abs(value) for value in finite if value is not None), default=0.0) > _HUGE:
        finite = [None if value is None else value / _HUGE for value in finite]  # so that their differences are finite
    if len(finite) > count:
        edges = [index * len(finite) // count for index in range(count + 1)]
        return [_mean(finite[low:high]) for low, high in itertools.pairwise(edges)]
    if len(finite) <= 1:
        return finite * count
    return [_between(finite, column * (len(finite) - 1) / (count - 1)) for column in range(count)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if not known or min(known) == max(known):
        return known[0] if known else None
    return sum(value / len(known) for value in known)


def _between(values: Sequence[float | None], place: float) -> float | None:
    low = min(int(place), len(values) - 2)
    share = place - low
    before, after = values[low], values[low + 1]
    if before is None or after is None:
        return before if share < 0.5 else after
    if before == after:
        return before  # the sum below could be another, in its last bit
    return before * (1 - share) + after * share
