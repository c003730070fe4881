# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs whose controller is killed at a write to the journal, and which test does that for which event.

``tests/unit/test_kill_points.py`` fails for an event of the journal that is not here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

_KILLED = Path(__file__).parents[1] / "integration" / "kill" / "killed.py"

# Where the controller is killed at an event, as one of tests/integration.
POINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("planned", "staging", "staged", "staging_decided", "activating", "opened", "started", "active", "decided", "completed"),
            *("failed", "backing_out", "backed_out", "stuck", "owed", "cancelled"),
        ),
        "test_resume",
    ),
    **dict.fromkeys(("stage_failed", "supporting", "late_round"), "test_late_hosts"),
    **dict.fromkeys(("armed", "fire", "withdrawn", "held", "lost"), "test_together"),
    "went_back": "test_guard",
    **dict.fromkeys(("bake", "measured", "baking", "exit_measured", "exit_criteria"), "test_metrics"),
    **dict.fromkeys(("joined", "closing"), "test_slices"),
    **dict.fromkeys(("drained", "restored", "migrating", "reversing"), "test_role_kill_matrix"),
    **dict.fromkeys(("firmware_step", "firmware_read"), "test_firmware_kills"),
    "outside_read": "test_outside",
}

# Events at which there is nothing to kill, and why: with the transaction that they are in all is said, or nothing is.
SAID_AT_ONCE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("written_off", "accepted", "done_by_hand", "swapped", "hold_asked", "returned", "kept"), "a person's word"),
    **dict.fromkeys(("taken_over", "seats_reserved", "not_migrated", "superseded", "late_round_ended"), "a part of another transaction"),
    **dict.fromkeys(("migrated", "reversed", "migrate_failed", "reverse_failed"), "without it the attempt was interrupted, see migrating"),
    **dict.fromkeys(("told", "stakeholders", "gates_signed"), "the next run says it again"),
    **dict.fromkeys(("objectives", "change_recorded", "change_not_recorded"), "the next run looks again"),
}


class Controlled(Protocol):
    """Whatever has an environment that its commands run in."""

    @property
    def environment(self) -> Mapping[str, str]: ...


def killing(event: str, command: Sequence[str], host: str = "", when: str = "before", whom: str = "group") -> list[str]:
    """The command that runs ``command`` and has its controller killed, see ``tests/integration/kill/killed.py``."""
    assert event in POINTS, f"name the test that kills at {event} in tests/support/kills.py"
    return [sys.executable, str(_KILLED), event, host, when, whom, *command]


def kill_at(fleet: Controlled, event: str, command: Sequence[str], host: str = "", when: str = "before", whom: str = "group") -> None:
    """Run ``command`` and have its controller killed; fails when it was not."""
    done = subprocess.run(
        killing(event, command, host, when, whom),
        env=fleet.environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
