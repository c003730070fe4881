# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REASONS = 5  # why signatures don't count, that a finding lists


class Result(StrEnum):
    """What a control found; only ``fail`` and ``inconclusive`` stand in the way."""

    PASS = "pass"  # noqa: S105 - a result, not a password
    FAIL = "fail"
    WAIVED = "waived"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Finding:
    """A control's result with its reason, and what to do when it is not a pass."""

    result: Result
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Control:
    """A named finding."""

    name: str
    result: Result
    reason: str
    remedy: str

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way of a clearance."""
        return self.result in (Result.FAIL, Result.INCONCLUSIVE)


def passed(reason: str) -> Finding:
    """It is as it has to be."""
    return Finding(Result.PASS, reason)


def failed(reason: str, remedy: str) -> Finding:
    """It is not as it has to be."""
    return Finding(Result.FAIL, reason, remedy)


def unknown(reason: str, remedy: str) -> Finding:
    """What it takes to decide could not be found out; never a pass."""
    return Finding(Result.INCONCLUSIVE, reason, remedy)


def not_applicable(reason: str) -> Finding:
    """The policy or the release doesn't ask for it."""
    return Finding(Result.NOT_APPLICABLE, reason)
