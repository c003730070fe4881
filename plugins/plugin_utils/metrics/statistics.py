# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a few hosts do worse than others, by exact tests of small samples. Pure: standard library, and no number is drawn.

Each host is one observation: what is measured of one host again and again does not make two of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, repeat
from math import comb, exp, fsum, inf, lgamma, sqrt
from statistics import NormalDist

_EXACT_TOTAL = 2000  # observations up to which whole numbers are reckoned with, and not their logarithms
_NEGLIGIBLE = 1e-18  # part of a sum that one more term of it may be without being added
_EXACT_COST = 300_000_000  # bytes that may be moved for an exact distribution of ranks: about a tenth of a second


def fisher_p(bad: int, of: int, other_bad: int, other_of: int) -> float:
    """The chance of ``bad`` or more among ``of``, if they did no worse than the others: Fisher's exact test, one-sided."""
    total, all_bad = of + other_of, bad + other_bad
    least, most = max(0, of - (total - all_bad)), min(all_bad, of)
    if total <= _EXACT_TOTAL:
        return sum(comb(all_bad, k) * comb(total - all_bad, of - k) for k in range(bad, most + 1)) / comb(total, of)

    def ways(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    def tail(numbers: range) -> float:
        """The sum over numbers that lead away from the likeliest one, so each term is smaller than the one before."""
        terms: list[float] = []
        for k in numbers:
            terms.append(exp(ways(all_bad, k) + ways(total - all_bad, of - k) - ways(total, of)))
            if terms[-1] <= _NEGLIGIBLE * terms[0]:
                break
        return min(1.0, fsum(terms))

    if bad * total >= of * all_bad:
        return tail(range(bad, most + 1))
    return 1.0 - tail(range(bad - 1, least - 1, -1))


def relative_risk(bad: int, of: int, other_bad: int, other_of: int) -> float:
    """How many times as often it is bad as with the others; infinite when it never is with them."""
    if not bad:
        return 0.0 if other_bad else 1.0
    return bad * other_of / (of * other_bad) if other_bad else inf


def mann_whitney_p(values: Sequence[float], others: Sequence[float]) -> float:
    """The chance of ``values`` as high as these or higher, if they came from where the ``others`` do: Mann-Whitney's U, one-sided.

    Exact, with ties too, by counting all ways to choose as many out of all (the shift algorithm of Streitberg and Röhmel); for samples of
    which both are large by the normal distribution, with corrections for ties and continuity.
    """
    if len(values) > len(others):  # the same question, with the smaller sample first
        return mann_whitney_p([-value for value in others], [-value for value in values])
    size, total = len(values), len(values) + len(others)
    times = Counter([*values, *others])
    ranks: dict[float, int] = {}
    before = 0
    for value in sorted(times):
        ranks[value] = before + 1 + before + times[value]  # twice the middle one of its ranks, so that it is whole
        before += times[value]
    found = sum(ranks[value] for value in values)
    slot = comb(total, size).bit_length() + 1
    highest = 2 * total * size
    if total * size * highest * slot // 8 <= _EXACT_COST:
        # Number k of these has, in its slot s, in how many ways k of the ranks so far add up to s.
        sums = [1] + [0] * size
        for rank in chain.from_iterable(repeat(ranks[value], count) for value, count in times.items()):
            for k in range(size, 0, -1):
                sums[k] += sums[k - 1] << (rank * slot)
        return (sums[size] >> (found * slot)) % ((1 << slot) - 1) / comb(total, size)  # by which remainder slots add up
    ties = sum(count**3 - count for count in times.values())
    deviation = sqrt(size * len(others) / 12 * (total + 1 - ties / (total * (total - 1))))
    above = found / 2 - size * (total + 1) / 2
    return NormalDist().cdf((0.5 - above) / deviation) if deviation else 1.0


def superiority(values: Sequence[float], others: Sequence[float]) -> float:
    """The chance that one of ``values`` is higher than one of the ``others``, with half of that of a tie."""
    wins = sum((value > other) + (value == other) / 2 for value in values for other in others)
    return wins / (len(values) * len(others))


def least_p(size: int, others: int) -> float:
    """The smallest p that so many can give against so many others, whatever is measured."""
    return 1 / comb(size + others, size)


def least_size(total: int, alpha: float) -> int:
    """How many of ``total`` hosts it takes that a p below ``alpha`` can come of it; 0 when no number can."""
    return next((size for size in range(1, total // 2 + 1) if least_p(size, total - size) < alpha), 0)
