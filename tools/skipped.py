# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which tests the given JUnit files count as skipped, and why; and which failed there, that passed when they were tried once more."""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree


def main() -> None:
    cases = [case for path in sys.argv[1:] for case in ElementTree.parse(path).iter("testcase")]  # noqa: S314  # pytest wrote it
    reasons = Counter(skipped.get("message", "no reason given") for case in cases for skipped in case.iter("skipped"))
    for reason, count in sorted(reasons.items()):
        print(f"skipped {count}: {reason}")
    if not reasons:
        print("nothing was skipped")
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            print(f"passed only alone, mend it: {case.get('classname')}::{case.get('name')}")


if __name__ == "__main__":
    main()
