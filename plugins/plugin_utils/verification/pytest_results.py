# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin for pytest: each test's result, one JSON object a line, in the file that TIDEGATE_TEST_RESULTS names.

Copied beside the tests of a scenario and loaded there by name, so that it sees whatever a scenario runs, and a run that was cut short
lacks its last line. Imports nothing of Tidegate.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

_DETAIL = 20_000  # signs of why a test failed; whoever shows them takes secrets out first, and cuts then


def _write(**said: Any) -> None:
    with open(os.environ["TIDEGATE_TEST_RESULTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps({**said, "at": time.time()}) + "\n")


def pytest_sessionstart() -> None:
    _write(event="start")


def pytest_runtest_logreport(report: Any) -> None:
    # A test is its call; what fails before or after it fails the test, and what is skipped never gets there.
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(getattr(report, "longrepr", None), "reprcrash", None)
        detail = str(getattr(crash, "message", "")) or str(getattr(report, "longreprtext", "")).strip()
        _write(event="test", name=report.nodeid, outcome=report.outcome, detail=" ".join(detail.split())[:_DETAIL])


def pytest_sessionfinish(exitstatus: int) -> None:
    _write(event="finish", status=int(exitstatus))
