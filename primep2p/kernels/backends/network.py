"""Sorting networks: which pairs to put in order, one after another, so that wanted ranks come out.

Batcher's odd-even merge sort (Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M), of which only what
the wanted ranks depend on is kept.
"""

from functools import lru_cache

__all__ = ["Comparator", "network"]

Comparator = tuple[int, int, bool, bool]
"""Wires a < b: the smaller goes to a, the larger to b; and whether anybody needs the one and the other."""


@lru_cache(maxsize=64)
def network(wires: int, first: int, last: int) -> tuple[Comparator, ...]:
    """Comparators after which wires first..last-1 hold these ranks."""
    needed = set(range(first, last))
    kept: list[Comparator] = []
    for low, high in reversed(_merge_exchange(wires)):
        small, large = low in needed, high in needed
        if small or large:
            kept.append((low, high, small, large))
            needed |= {low, high}
    return tuple(reversed(kept))


@lru_cache(maxsize=16)
def _merge_exchange(wires: int) -> tuple[tuple[int, int], ...]:
    """Algorithm M: pairs of wires in order, for any number of wires."""
    pairs: list[tuple[int, int]] = []
    if wires < 2:
        return ()
    top = 1 << (wires - 1).bit_length() - 1
    p = top
    while p:
        q, r, distance = top, 0, p
        while True:
            pairs += [(i, i + distance) for i in range(wires - distance) if i & p == r]
            if q == p:
                break
            distance, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(pairs)
