# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Early-life support: what still belongs to a deployment when each of its waves is decided, and until when. Pure.

A host is late when it has not got the release and runs whole what it ran before: it could not be staged, or failed within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ..metrics.model import BakeVerdict
from .options import Rollout

_MET = BakeVerdict("good", "")
_NAMED = 5  # late hosts that a sentence names
_LONGEST = 120  # letters of why one is late


@dataclass(frozen=True)
class LateHost:
    """A host that is late, and why, in one line; empty when nobody said."""

    host: str
    why: str

    def __str__(self) -> str:
        why = f"{self.why[:_LONGEST]} ..." if len(self.why) > _LONGEST else self.why
        return f"{self.host} is late{f' ({why})' if why else ''}"


@dataclass(frozen=True)
class Support:
    """How the support of one deployment stands."""

    rollout: Rollout
    """The deployment's share of the policy."""
    began: datetime
    """When it began: all waves of the plan were decided."""
    decided: datetime
    """When the last wave was decided, one of late hosts too."""
    late: tuple[LateHost, ...]
    """The hosts that are late, in the order of the plan; those that were written off are not."""
    unknown: tuple[str, ...] = ()
    """The hosts of which it is not known what they run: lost, written off and there again."""
    exit: BakeVerdict | None = None
    """What the exit criteria came to when they were measured last, since the last host got the release; ``None`` for not at all."""

    @property
    def late_days(self) -> float:
        """For how many days late hosts are brought in. With firmware and hardware nobody is: spares, levels and work orders are of one
        round, and do not wait for a host that may never come."""
        return 0 if self.rollout.firmware or self.rollout.hardware else self.rollout.late_days

    @property
    def late_until(self) -> datetime:
        """Until when late hosts are brought in; a host that joins much later is another change."""
        return self.began + timedelta(days=self.late_days)

    @property
    def until(self) -> datetime:
        """Until when the release is looked after, counted from the last host that got it."""
        return self.decided + timedelta(hours=self.rollout.support_hours)

    @property
    def left_behind(self) -> str:
        """Who does not get the release any more, although late hosts were let in, as a sentence; empty for nobody."""
        if not self.late or not self.late_days:
            return ""
        return f"{late_sentence(self.late)} for good, for late hosts were brought in until {moment(self.late_until)}"

    def lets_in(self, now: datetime) -> bool:
        """Whether late hosts can still be brought in, if there are any."""
        return now < self.late_until

    def barriers(self, now: datetime) -> list[str]:
        """Why support can't end yet, a sentence for each reason; empty when the deployment is complete.

        This is the one place that says so: what else a policy wants to be met before support ends belongs here.
        """
        reasons = []
        if self.unknown:
            more = f" and {len(self.unknown) - _NAMED} more" if len(self.unknown) > _NAMED else ""
            reasons.append(f"it is not known what {', '.join(self.unknown[:_NAMED])}{more} run; deploy again looks")
        if self.late and self.lets_in(now):
            them = "it" if len(self.late) == 1 else "them"
            reasons.append(f"{late_sentence(self.late)}; deploy again brings {them} in until {moment(self.late_until)}")
        if now < self.until:
            reasons.append(f"its early-life support is until {moment(self.until)}")
        if not reasons and self.rollout.support_exit and (self.exit is None or self.exit.outcome != "good"):
            why = "were not measured" if self.exit is None else f"are not met ({self.exit.reason})"
            reasons.append(f"its exit criteria {why}; deploy again measures them")
        return reasons

    def asks_exit(self, now: datetime) -> bool:
        """Whether nothing but the exit criteria is in the way of the end, so that they are to be measured."""
        return bool(self.rollout.support_exit and self.barriers(now)) and not replace(self, exit=_MET).barriers(now)


def late_sentence(late: Sequence[LateHost]) -> str:
    """Which hosts are late, and why."""
    more = f" and {len(late) - _NAMED} more are" if len(late) > _NAMED else ""
    return f"{', '.join(map(str, late[:_NAMED]))}{more}"


def moment(at: datetime) -> str:
    """A moment for a person."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
