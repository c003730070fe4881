# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures to steer by: what each one is, whence it comes, and how it is counted by release, team and month. Pure.

Months are those of UTC. A deployment counts in the month in which its first wave was to start, for each of its teams. All that is counted
comes in :class:`FigureFacts`, which ``figures_facts.py`` reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Literal

from ..rollout.states import DeploymentState

LEAST = 5
"""With fewer events than this a share or a median says nothing, and is ``None``."""
TOO_FEW, UNKNOWN = "too few", "not known"
_RATE_DAYS = 30
_D = DeploymentState

Unit = Literal["rate", "seconds", "ratio", "count"]
_SUFFIXES: Mapping[Unit, str] = {"rate": "", "seconds": "_seconds", "ratio": "_ratio", "count": ""}


@dataclass(frozen=True)
class Figure:
    """What one figure is. ``unit``: ``rate`` is a number per 30 days, ``ratio`` is from 0 to 1, ``seconds`` is a median, ``count`` is how
    many there are. ``source``: whose figure it is; ``url``: where that is written. ``fleet``: there is one for all together, now, and none
    by release, team or month."""

    name: str
    title: str
    unit: Unit
    definition: str
    source: str
    url: str = ""
    fleet: bool = False

    @property
    def metric(self) -> str:
        """Its name where numbers are gathered."""
        return f"tidegate_{self.name}{_SUFFIXES[self.unit]}"


@dataclass(frozen=True)
class Amount:
    """What a figure comes to. ``value``: in the figure's unit, ``None`` where ``why`` says that there are too few events or that it is not
    known. ``events``: of how many it is the share or the median, how many there are, or of audits, how many there were."""

    value: float | None
    events: int
    why: str = ""


@dataclass(frozen=True)
class StartedDeployment:
    """A deployment whose first wave was opened. ``kind``: of its change, ``None`` where the register has none; ``close_code``: how that was
    closed, ``window``: its planned time. ``teams``: who looks after its hosts, or else who requested it. ``archived``: its journal is in a
    file, so ``gates`` (when one held it or had it go back, and when it began to go back), ``lives`` (when it was live wherever it was to
    be), ``back`` (when it was wholly back) and ``worked`` (when it first opened a wave, and last opened or decided one) are not known.
    ``seen``: when the CMDB first had its package, ``tested``: when it first had a test result for it that was passed."""

    number: int
    rfc: str
    release: str
    digest: str
    state: DeploymentState
    started: datetime
    finished: datetime | None = None
    kind: str | None = None
    window: tuple[datetime, datetime] | None = None
    close_code: str = ""
    teams: frozenset[str] = frozenset()
    archived: bool = False
    gates: tuple[datetime, ...] = ()
    lives: tuple[datetime, ...] = ()
    back: datetime | None = None
    worked: tuple[datetime, datetime] | None = None
    seen: datetime | None = None
    tested: datetime | None = None

    @property
    def live(self) -> datetime | None:
        """When it was first live wherever it was to be; ``None`` when it was not."""
        if self.archived:
            return self.finished if self.state is _D.COMPLETED else None
        return min(self.lives, default=None)

    @property
    def failed(self) -> bool:
        """Whether somebody had to act: a gate held it or had it go back, or it was taken back."""
        return bool(self.gates) or self.state in (_D.BACKING_OUT, _D.BACKED_OUT)

    @property
    def recovery(self) -> float | None:
        """Seconds from its first failure until it was live after all, or wholly back; ``None`` without failure, or while that lasts."""
        if not self.gates:
            return None
        first = min(self.gates)
        ends = [*self.lives, *([self.back] if self.back else [])]
        after = min((at for at in ends if at >= first), default=None)
        return None if after is None else (after - first).total_seconds()

    @property
    def outside(self) -> bool | None:
        """Whether it worked before or after the planned time of its change; ``None`` where that is not known."""
        if self.window is None or self.worked is None:
            return None
        return self.worked[0] < self.window[0] or self.worked[1] > self.window[1]


@dataclass(frozen=True)
class Happening:
    """Something that counts once, at a moment: a release that came to a CI without a change, a duty that is overdue since then."""

    at: datetime
    release: str
    teams: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AuditCount:
    """An audit. ``found``: kind of each difference, with its release and its host's team, both empty where it has none; ``complete``:
    whether the history kept them all."""

    at: datetime
    found: tuple[tuple[str, str, str], ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class FigureFacts:
    """All that figures are counted from. ``deployments``: every one that has started, also before the time that is asked for, for a later
    one depends on what was there before it. ``short``: stock rules that are short now, of so many ``rules``."""

    deployments: Sequence[StartedDeployment] = ()
    unruled: Sequence[Happening] = ()
    overdue: Sequence[Happening] = ()
    audits: Sequence[AuditCount] = ()
    short: int = 0
    rules: int = 0


@dataclass(frozen=True)
class FigureGroup:
    """The figures of all deployments, of a release or of a team: of all months together, and of each month."""

    whole: Mapping[str, Amount]
    months: Mapping[str, Sequence[Amount]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Figures ``until`` a moment, of ``months`` such as ``2026-11``, the oldest first. ``archived``: deployments of these whose journal is
    in a file, so that they are left out where it would be needed."""

    until: datetime
    months: tuple[str, ...]
    everything: FigureGroup
    releases: Mapping[str, FigureGroup]
    teams: Mapping[str, FigureGroup]
    archived: int = 0


@dataclass(frozen=True)
class _Bucket:
    """What counts for one figure: of a group, in a month or in all. ``days``: how many of it have begun."""

    deployments: Sequence[StartedDeployment]
    unruled: int
    overdue: int
    audits: Sequence[AuditCount]
    days: int
    first: frozenset[int]
    redone: frozenset[int]
    pick: Callable[[tuple[str, str, str]], bool]

    def ratio(self, which: Callable[[StartedDeployment], bool | None]) -> Amount:
        said = [answer for one in self.deployments if (answer := which(one)) is not None]
        return Amount(sum(said) / len(said), len(said)) if len(said) >= LEAST else Amount(None, len(said), TOO_FEW)

    def middle(self, of: Callable[[StartedDeployment], float | None]) -> Amount:
        said = [answer for one in self.deployments if (answer := of(one)) is not None]
        return Amount(median(said), len(said)) if len(said) >= LEAST else Amount(None, len(said), TOO_FEW)

    def differences(self, which: Callable[[str], bool]) -> Amount:
        if not self.audits:
            return Amount(None, 0, UNKNOWN)
        last = max(self.audits, key=lambda one: one.at)
        if not last.complete:
            return Amount(None, len(self.audits), UNKNOWN)
        return Amount(sum(which(one[0]) and self.pick(one) for one in last.found), len(self.audits))


_UNLICENSED = "unlicensed"
_LIBRARY = frozenset({"lost", "not_in_dsl", "untrusted"})
_DORA = "https://dora.dev/guides/dora-metrics/"
_ITIL = "ITIL, Release and Deployment Management"

FIGURES: tuple[Figure, ...] = (
    Figure(
        "deployment_frequency",
        "Deployment frequency",
        "rate",
        "Deployments that started, for each 30 days of the time, from the month of the first one on.",
        "DORA, deployment frequency",
        _DORA,
    ),
    Figure(
        "change_lead_time",
        "Lead time, archived to live",
        "seconds",
        "The median time from when the CMDB first knew of a package to when a deployment first had it live wherever it was to be. "
        "DORA counts from the commit, which a library does not see.",
        "DORA, change lead time",
        _DORA,
    ),
    Figure(
        "change_fail_rate",
        "Change fail rate",
        "ratio",
        "Deployments that a gate held or had go back, or that were taken back, of all that started.",
        "DORA, change fail rate",
        _DORA,
    ),
    Figure(
        "failed_deployment_recovery_time",
        "Failed deployment recovery time",
        "seconds",
        "The median time from the first such decision about a deployment to when it was live after all, or wholly back.",
        "DORA, failed deployment recovery time",
        _DORA,
    ),
    Figure(
        "deployment_rework_rate",
        "Deployment rework rate",
        "ratio",
        "Deployments by an emergency change of a release that another change had deployed before, of all whose change is registered.",
        "DORA, deployment rework rate",
        _DORA,
    ),
    Figure(
        "successful",
        "Successful",
        "ratio",
        "Deployments that completed, and whose change was not closed as unsuccessful, of those that are over.",
        _ITIL,
    ),
    Figure("backed_out", "Backed out", "ratio", "Deployments that went back, or are about to, of all that started.", _ITIL),
    Figure(
        "emergency",
        "Emergency changes",
        "ratio",
        "Deployments by an emergency change, of all whose change is registered.",
        "ITIL, Change Enablement",
    ),
    Figure(
        "out_of_window",
        "Outside the planned time",
        "ratio",
        "Deployments that opened a wave outside the planned time of their change, or decided one after it, of all that have one.",
        "ITIL, Change Enablement",
    ),
    Figure(
        "without_rfc",
        "Installed without an RFC",
        "count",
        "Times that a release was recorded on a CI which no deployment had brought there: adopted, or entered by hand.",
        _ITIL,
    ),
    Figure(
        "overdue_duties",
        "Overdue duties",
        "count",
        "Duties of changes, such as the review after an emergency, that are still owed although they were due, by the month of that.",
        "ITIL, Change Enablement, post-implementation review",
    ),
    Figure(
        "rehearsed",
        "Rehearsed before live",
        "ratio",
        "Deployments that started with a passed test result for their very package, of all that started.",
        _ITIL,
    ),
    Figure(
        "drift_found",
        "Drift found",
        "count",
        "Differences between hosts and CMDB in the newest audit of the time, without those of the two figures below.",
        "ITIL, Service Configuration Management, verification and audit",
    ),
    Figure(
        "unlicensed",
        "Installed without a licence",
        "count",
        "Installations without the seat that they need, in the newest audit of the time.",
        "ITIL, IT Asset Management",
    ),
    Figure(
        "library_faults",
        "Faults of the library",
        "count",
        "What the newest audit of the time found lost in the library, not archived there, or not signed by who has to.",
        "ITIL, Definitive Media Library",
    ),
    Figure(
        "spares_short",
        "Stock rules that are short",
        "count",
        "Rules of the hardware storage whose usable spares are at their threshold or below, now.",
        "ITIL, definitive spares",
        fleet=True,
    ),
)
"""All figures, in the order in which they are shown."""


def _rehearsed(one: StartedDeployment) -> bool:
    return one.tested is not None and one.tested <= one.started


def _successful(one: StartedDeployment) -> bool | None:
    if one.state not in (_D.COMPLETED, _D.BACKED_OUT, _D.CANCELLED):
        return None
    return one.state is _D.COMPLETED and one.close_code != "unsuccessful"


def _lead(bucket: _Bucket, one: StartedDeployment) -> float | None:
    live = one.live if one.number in bucket.first else None
    return None if live is None or one.seen is None else max(0.0, (live - one.seen).total_seconds())


_COUNTED: Mapping[str, Callable[[_Bucket], Amount]] = {
    "deployment_frequency": lambda b: Amount(len(b.deployments) / b.days * _RATE_DAYS, len(b.deployments)),
    "change_lead_time": lambda b: b.middle(lambda one: _lead(b, one)),
    "change_fail_rate": lambda b: b.ratio(lambda one: None if one.archived else one.failed),
    "failed_deployment_recovery_time": lambda b: b.middle(lambda one: one.recovery),
    "deployment_rework_rate": lambda b: b.ratio(lambda one: None if one.kind is None else one.number in b.redone),
    "successful": lambda b: b.ratio(_successful),
    "backed_out": lambda b: b.ratio(lambda one: one.state in (_D.BACKING_OUT, _D.BACKED_OUT)),
    "emergency": lambda b: b.ratio(lambda one: None if one.kind is None else one.kind == "emergency"),
    "out_of_window": lambda b: b.ratio(lambda one: one.outside),
    "without_rfc": lambda b: Amount(b.unruled, b.unruled),
    "overdue_duties": lambda b: Amount(b.overdue, b.overdue),
    "rehearsed": lambda b: b.ratio(_rehearsed),
    "drift_found": lambda b: b.differences(lambda kind: kind != _UNLICENSED and kind not in _LIBRARY),
    "unlicensed": lambda b: b.differences(lambda kind: kind == _UNLICENSED),
    "library_faults": lambda b: b.differences(lambda kind: kind in _LIBRARY),
}


def months_until(now: datetime, count: int) -> tuple[str, ...]:
    """The last ``count`` months, that of ``now`` among them, the oldest first."""
    month = now.astimezone(UTC).year * 12 + now.astimezone(UTC).month - 1
    return tuple(f"{one // 12:04}-{one % 12 + 1:02}" for one in range(month - count + 1, month + 1))


def start_of(month: str) -> datetime:
    """When a month begins."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def month_of(at: datetime) -> str:
    """In which month a moment is."""
    return f"{at.astimezone(UTC):%Y-%m}"


def count_figures(facts: FigureFacts, now: datetime, months: int) -> Figures:
    """Every figure of the last ``months``, of all, by release and by team."""
    names = months_until(now, months)
    asked = frozenset(names)
    started = sorted(facts.deployments, key=lambda one: (one.started, one.number))
    counter = _Counter(facts, now, names, min((month_of(one.started) for one in started), default=names[-1]), *_order(started))
    within = [one for one in started if month_of(one.started) in asked]
    audits = [one for one in facts.audits if month_of(one.at) in asked]
    counted: list[StartedDeployment | Happening] = [*within, *facts.unruled, *facts.overdue]
    of_audits = {(release, team) for audit in audits for _kind, release, team in audit.found}
    releases = {one.release for one in counted} | {release for release, _team in of_audits}
    teams = {team for one in counted for team in one.teams} | {team for _release, team in of_audits}
    everything = counter.group(within, facts.unruled, facts.overdue, lambda _found: True)
    short = Amount(facts.short, facts.rules) if facts.rules else Amount(None, 0, UNKNOWN)
    by_release, by_team = _sorted(within, facts), _sorted(within, facts, teams=True)
    return Figures(
        now,
        names,
        FigureGroup({**everything.whole, "spares_short": short}, everything.months),
        {name: counter.group(*by_release[name], lambda found, name=name: found[1] == name) for name in sorted(releases - {""})},  # type: ignore[misc]
        {name: counter.group(*by_team[name], lambda found, name=name: found[2] == name) for name in sorted(teams - {""})},  # type: ignore[misc]
        sum(one.archived for one in within),
    )


_Lists = tuple[list[StartedDeployment], list[Happening], list[Happening]]


def _sorted(within: Sequence[StartedDeployment], facts: FigureFacts, *, teams: bool = False) -> Mapping[str, _Lists]:
    """What counts for each release, or for each team."""
    found: dict[str, _Lists] = defaultdict(lambda: ([], [], []))
    for one in within:
        for name in one.teams if teams else (one.release,):
            found[name][0].append(one)
    for place, happenings in ((1, facts.unruled), (2, facts.overdue)):
        for happening in happenings:
            for name in happening.teams if teams else (happening.release,):
                found[name][place].append(happening)  # type: ignore[arg-type]
    return found


def _order(started: Iterable[StartedDeployment]) -> tuple[frozenset[int], frozenset[int]]:
    """Of deployments in the order of their starts: those that first had a package live, and those that an emergency had deploy again."""
    live: dict[tuple[str, str], tuple[datetime, int]] = {}
    rfcs: dict[str, set[str]] = defaultdict(set)
    redone = set()
    for one in started:
        if one.live is not None:
            package = (one.release, one.digest)
            live[package] = min(live.get(package, (one.live, one.number)), (one.live, one.number))
        if one.kind == "emergency" and rfcs[one.release] - {one.rfc}:
            redone.add(one.number)
        rfcs[one.release].add(one.rfc)
    return frozenset(number for _at, number in live.values()), frozenset(redone)


@dataclass(frozen=True)
class _Counter:
    """Counts groups; ``since``: the month of the first deployment that there is."""

    facts: FigureFacts
    until: datetime
    months: tuple[str, ...]
    since: str
    first: frozenset[int]
    redone: frozenset[int]

    def group(
        self,
        deployments: Sequence[StartedDeployment],
        unruled: Sequence[Happening],
        overdue: Sequence[Happening],
        pick: Callable[[tuple[str, str, str]], bool],
    ) -> FigureGroup:
        """The figures of what belongs to one group; ``pick`` says which differences of audits do."""
        by_month: dict[str, list[StartedDeployment]] = defaultdict(list)
        for one in deployments:
            by_month[month_of(one.started)].append(one)
        audits: dict[str, list[AuditCount]] = defaultdict(list)
        for audit in self.facts.audits:
            audits[month_of(audit.at)].append(audit)
        came, due = ([month_of(one.at) for one in happenings] for happenings in (unruled, overdue))

        def bucket(names: Sequence[str], owed: int) -> _Bucket:
            return _Bucket(
                [one for name in names for one in by_month[name]],
                sum(came.count(name) for name in names),
                owed,
                [one for name in names for one in audits[name]],
                self._days(names),
                self.first,
                self.redone,
                pick,
            )

        # What has been owed for longer than the months that are shown is owed all the same.
        whole, each = bucket(self.months, len(due)), [bucket([name], due.count(name)) for name in self.months]
        return FigureGroup(
            {name: count(whole) for name, count in _COUNTED.items()},
            {name: [count(one) for one in each] for name, count in _COUNTED.items()},
        )

    def _days(self, names: Sequence[str]) -> int:
        """How many days of months there were until now, one that is not over for a whole one, so that a rate is the same all day long."""
        since, until = max(names[0], min(self.since, names[-1])), names[-1]
        end = min(self.until, start_of(months_until(start_of(until) + timedelta(days=40), 1)[0]))
        return max(1, -((start_of(since) - end) // timedelta(days=1)))
