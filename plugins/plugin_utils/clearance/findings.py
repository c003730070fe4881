# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control says. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

REASONS = 5  # why signatures don't count, that a finding lists

# Causes that one control fails for and others are inconclusive for.
NO_RFC = "rfc"
NO_PACKAGE = "package"


class Result(StrEnum):
    """What a control found; only ``fail`` and ``inconclusive`` stand in the way."""

    PASS = "pass"  # noqa: S105 - a result, not a password
    FAIL = "fail"
    WAIVED = "waived"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Finding:
    """A control's result with its reason, and what to do when it is not a pass.

    ``cause``: what several controls come to grief over alike, such as a source that can't be read; findings with the same one are
    shown as one. Empty for a reason of its own.
    """

    result: Result
    reason: str
    remedy: str = ""
    cause: str = field(default="", compare=False)


@dataclass(frozen=True)
class Control:
    """A named finding."""

    name: str
    result: Result
    reason: str
    remedy: str
    cause: str = field(default="", compare=False)

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way of a clearance."""
        return self.result in (Result.FAIL, Result.INCONCLUSIVE)

    @property
    def why(self) -> str:
        """The reason, or what it has in common with others that are inconclusive for a source that can't be read."""
        shared = self.result is Result.INCONCLUSIVE and self.cause not in ("", NO_RFC, NO_PACKAGE)
        return self.cause if shared else self.reason


def passed(reason: str) -> Finding:
    """It is as it has to be."""
    return Finding(Result.PASS, reason)


def failed(reason: str, remedy: str, cause: str = "") -> Finding:
    """It is not as it has to be."""
    return Finding(Result.FAIL, reason, remedy, cause)


def unknown(reason: str, remedy: str, cause: str = "") -> Finding:
    """What it takes to decide could not be found out; never a pass."""
    return Finding(Result.INCONCLUSIVE, reason, remedy, cause)


def not_applicable(reason: str) -> Finding:
    """The policy or the release doesn't ask for it."""
    return Finding(Result.NOT_APPLICABLE, reason)
