# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what scipy says of random samples, for tests/unit/metrics/test_statistics.py to compare with.

scipy is 200 MB, so it is no requirement of the tests; in an environment that has it: ``python tests/support/scipy_oracle.py``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from scipy.stats import fisher_exact, mannwhitneyu

WHERE = Path(__file__).parents[1] / "unit" / "metrics" / "scipy_oracle.json"


def main() -> None:
    draw = random.Random(20260301)  # noqa: S311 - the same ones each time
    tables: list[list[Any]] = []
    for number in range(10_000):
        most = 40 if number % 2 else 20_000
        of, other_of = draw.randint(1, most), draw.randint(1, most)
        rate = draw.random() ** 3
        bad = sum(draw.random() < rate for _ in range(of))
        other_bad = sum(draw.random() < rate * draw.uniform(0.7, 1.1) for _ in range(other_of))
        table = [[bad, of - bad], [other_bad, other_of - other_bad]]
        tables.append([bad, of, other_bad, other_of, float(fisher_exact(table, alternative="greater")[1])])
    samples: list[list[Any]] = []
    for _number in range(1000):
        one, other = ([draw.randint(0, 10**6) for _ in range(draw.randint(1, 12))] for _ in range(2))
        if len({*one, *other}) == len(one) + len(other):  # scipy's exact p is not that of samples with ties
            samples.append([one, other, float(mannwhitneyu(one, other, alternative="greater", method="exact").pvalue)])
    large: list[list[Any]] = []
    for _number in range(20):
        one, other = ([draw.randint(0, 30) for _ in range(draw.randint(60, 90))] for _ in range(2))
        large.append([one, other, float(mannwhitneyu(one, other, alternative="greater", method="asymptotic").pvalue)])
    lines = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
        for name, rows in {"fisher": tables, "mann_whitney": samples, "mann_whitney_large": large}.items()
    )
    WHERE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
