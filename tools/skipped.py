# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which tests the given JUnit files count as skipped, and why."""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree


def main() -> None:
    reasons = Counter(
        skipped.get("message", "no reason given")
        for path in sys.argv[1:]
        for skipped in ElementTree.parse(path).iter("skipped")  # noqa: S314  # pytest wrote it
    )
    for reason, count in sorted(reasons.items()):
        print(f"skipped {count}: {reason}")
    if not reasons:
        print("nothing was skipped")


if __name__ == "__main__":
    main()
