# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements of a bake come to. Pure: the same measurements give the same sentence, however many years later.

The rules, in the order of the measurements: the first that is over one of its metric's limits decides, whatever follows. That time is up
decides nothing: a bake is good when it has lasted, each metric was good as often as it has to be, and no comparison says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import isinf
from statistics import median
from typing import Any, Literal

from .answer import WHOLE, MetricAnswer
from .model import Bake, BakeVerdict, Compared, Metric
from .statistics import fisher_p, least_p, least_size, mann_whitney_p, relative_risk, superiority

Outcome = Literal["good", "bad", "inconclusive", "error"]
_MANY = 1 << 53  # a sum of counts that a float can't hold exactly


@dataclass(frozen=True)
class Measurement:
    """What was measured of a metric at a time: ``answer``, and for counts the answer for of how many (``totals``)."""

    metric: str
    at: datetime
    answer: MetricAnswer
    totals: MetricAnswer | None = None

    @property
    def error(self) -> str:
        """Why there is no answer."""
        return self.answer.error or (self.totals.error if self.totals else "")

    @property
    def unclear(self) -> str:
        """Why it does not say all that was asked for."""
        return self.answer.unclear or (self.totals.unclear if self.totals else "")

    def to_dict(self) -> dict[str, Any]:
        """As an event of the journal has it, which has the time itself."""
        totals = {"totals": dict(self.totals.values)} if self.totals else {}
        return {"metric": self.metric, "values": dict(self.answer.values), **totals, "unclear": self.unclear, "error": self.error}

    @classmethod
    def from_dict(cls, at: datetime, data: Mapping[str, Any]) -> Measurement:
        """What :meth:`to_dict` made."""
        answer = MetricAnswer(data["values"], data["unclear"], data["error"])
        return cls(data["metric"], at, answer, MetricAnswer(data["totals"]) if "totals" in data else None)


@dataclass(frozen=True)
class BakeRecord:
    """A bake as the journal has it."""

    bake: Bake
    """What had to be measured, as the policy said when the deployment was planned."""
    begun: datetime
    """When it began."""
    hosts: tuple[str, ...]
    """The hosts of the wave that have the release."""
    others: tuple[str, ...] = ()
    """Those that have the release before, to compare with."""
    measurements: tuple[Measurement, ...] = field(default=())
    """In the order of time."""

    @property
    def until(self) -> datetime:
        """When it is over at the earliest."""
        return self.begun + timedelta(seconds=self.bake.seconds)

    def of(self, metric: Metric) -> list[Measurement]:
        """The measurements of one metric."""
        return [one for one in self.measurements if one.metric == metric.name]

    def with_one(self, measurement: Measurement) -> BakeRecord:
        """The same with one more."""
        return replace(self, measurements=(*self.measurements, measurement))


def judge(record: BakeRecord, now: datetime) -> BakeVerdict:
    """What a bake has come to by ``now``."""
    return replace(_judge(record, now), at=now.isoformat())


def _judge(record: BakeRecord, now: datetime) -> BakeVerdict:
    for metric in record.bake.metrics:
        if fault := hopeless(metric, len(record.hosts), len(record.others)):
            return BakeVerdict("inconclusive", f"{metric.name} can't be compared: {fault}")
    counts, over = _counted(record)
    if over is not None:
        return over
    said = ", ".join(f"{one.name} good {counts[one.name]['good']} of {_needed(record, one)}" for one in record.bake.metrics)
    lacking = any(counts[metric.name]["good"] < _needed(record, metric) for metric in record.bake.metrics)
    if lacking or now < record.until:
        behind = " or later" if now >= record.until else ""
        return BakeVerdict("baking", f"baking until {record.until.isoformat(timespec='seconds')}{behind}: {said}")
    compared = [compare(metric, metric.compare, record) for metric in record.bake.metrics if metric.compare is not None]
    worst = [verdict for outcome in ("bad", "inconclusive") for verdict in compared if verdict.outcome == outcome]
    return worst[0] if worst else BakeVerdict("good", "; ".join((said, *(verdict.reason for verdict in compared))))


def _counted(record: BakeRecord) -> tuple[dict[str, Counter[Outcome]], BakeVerdict | None]:
    """How many measurements of each metric came out how, until one is over a limit, and what that comes to."""
    metrics = {metric.name: metric for metric in record.bake.metrics}
    counts: dict[str, Counter[Outcome]] = {name: Counter() for name in metrics}
    in_a_row: Counter[str] = Counter()
    for one in record.measurements:
        metric, count = metrics[one.metric], counts[one.metric]
        outcome, why = outcome_of(metric, one)
        count[outcome] += 1
        in_a_row[one.metric] = in_a_row[one.metric] + 1 if outcome == "error" else 0
        if outcome == "bad" and count["bad"] > metric.failures:
            return counts, BakeVerdict("bad", f"{metric.name} is bad: {why}{_over(count['bad'], metric.failures)}")
        if outcome == "inconclusive" and count["inconclusive"] > metric.inconclusive:
            over = _over(count["inconclusive"], metric.inconclusive)
            return counts, BakeVerdict("inconclusive", f"{metric.name} is inconclusive: {why}{over}")
        if in_a_row[one.metric] > metric.errors:
            return counts, BakeVerdict("inconclusive", f"{metric.name} can't be measured: {why}; {in_a_row[one.metric]} times in a row")
    return counts, None


def next_due(record: BakeRecord) -> tuple[Metric, datetime]:
    """Which metric is to be measured next, and when."""
    due, last = [], {one.metric: one.at for one in record.measurements}
    for number, metric in enumerate(record.bake.metrics):
        first = record.begun + timedelta(seconds=metric.delay)
        due.append((last[metric.name] + timedelta(seconds=metric.every) if metric.name in last else first, number))
    at, number = min(due)
    return record.bake.metrics[number], at


def outcome_of(metric: Metric, one: Measurement) -> tuple[Outcome, str]:
    """What one measurement is, and why it is not good. What is bad of one host is not made up for by what is not known of another."""
    if one.error:
        return "error", one.error
    judged = {} if metric.compare else {host: metric.judge(value) for host, value in one.answer.values.items()}
    for outcome, words in (("bad", metric.bad or f"not {metric.good}"), ("inconclusive", f"neither {metric.good} nor {metric.bad}")):
        hosts = sorted(host for host, its in judged.items() if its == outcome)
        if outcome == "inconclusive" and one.unclear:
            return "inconclusive", one.unclear
        if hosts:
            where = f" on {hosts[0]}" if hosts[0] != WHOLE else ""
            more = f", and so on {len(hosts) - 1} more" if len(hosts) > 1 else ""
            return ("bad" if outcome == "bad" else "inconclusive"), f"{one.answer.values[hosts[0]]:g}{where}, {words}{more}"
    return "good", ""


def compare(metric: Metric, how: Compared, record: BakeRecord) -> BakeVerdict:
    """Whether the hosts do worse than the others, by all good measurements together; each host counts once."""
    good = [one for one in record.of(metric) if outcome_of(metric, one)[0] == "good"]
    values = [one.answer.values for one in good]
    totals = [one.totals.values for one in good if one.totals is not None]
    there = [*values, *totals]
    ours, theirs = ([host for host in hosts if there and all(host in one for one in there)] for hosts in (record.hosts, record.others))
    if not ours or not theirs:
        return BakeVerdict("inconclusive", f"{metric.name} can't be compared: no host that has the release before was measured each time")
    against = f"{len(ours)} against {len(theirs)} hosts"
    if how.kind == "counts":
        return _compare_counts(metric, how, (_summed(ours, values, totals), _summed(theirs, values, totals)), against)
    sign = 1 if how.worse == "higher" else -1
    mine, other = ([median(sign * one[host] for one in values) for host in side] for side in (ours, theirs))
    if fault := hopeless(metric, len(ours), len(theirs)):
        return BakeVerdict("inconclusive", f"{metric.name} can't be compared: {fault}")
    p, effect = mann_whitney_p(mine, other), superiority(mine, other)
    said = f"p {p:.2g}, P({'X > Y' if sign > 0 else 'X < Y'}) {effect:.2f}; {against}"
    if p < how.alpha and effect > how.bound:
        typical = f"{sign * median(mine) + 0.0:g} where the others have {sign * median(other) + 0.0:g}"
        return BakeVerdict("bad", f"{metric.name} is worse than with the release before: {typical} ({said})")
    return BakeVerdict("good", f"{metric.name} is not worse than with the release before ({said})")


def hopeless(metric: Metric, hosts: int, others: int) -> str:
    """Why a comparison of so many hosts can say nothing whatever is measured, and how many of them all could; empty when it can."""
    how = metric.compare
    if how is None:
        return ""
    if not others:
        return "no other host of the plan has the release before"
    if how.kind == "counts" or least_p(hosts, others) < how.alpha:
        return ""
    enough = least_size(hosts + others, how.alpha)
    could = f"{enough} of them could" if enough else f"no number of {hosts + others} hosts can"
    return f"{hosts} against {others} hosts can't give p below {how.alpha:g} whatever is measured; {could}"


def _compare_counts(metric: Metric, how: Compared, counts: tuple[tuple[int, int], tuple[int, int]], against: str) -> BakeVerdict:
    (bad, of), (other_bad, other_of) = counts
    if min(of, other_of) < 1 or max(of, other_of) >= _MANY:
        return BakeVerdict("inconclusive", f"{metric.name} can't be compared: {bad} of {of}, against {other_bad} of {other_of}")
    if bad > of or other_bad > other_of or min(bad, other_bad) < 0:
        return BakeVerdict("inconclusive", f"{metric.name} can't be compared: {bad} of {of}, against {other_bad} of {other_of}, is no part")
    # Of more than that there is always a way to choose which is as rare.
    if of + other_of <= 1 / how.alpha and least_p(of, other_of) >= how.alpha:
        return BakeVerdict("inconclusive", f"{metric.name} can't be compared: {of} against {other_of} can't give p below {how.alpha:g}")
    p, risk = fisher_p(bad, of, other_bad, other_of), relative_risk(bad, of, other_bad, other_of)
    times = "never before" if isinf(risk) else f"{risk:.2g} times as often"
    said = f"{bad} of {of}, against {other_bad} of {other_of}, {times}; p {p:.2g}; {against}"
    if p < how.alpha and risk > how.bound:
        return BakeVerdict("bad", f"{metric.name} is worse than with the release before: {said}")
    return BakeVerdict("good", f"{metric.name} is not worse than with the release before: {said}")


def _summed(hosts: Sequence[str], values: Sequence[Mapping[str, float]], totals: Sequence[Mapping[str, float]]) -> tuple[int, int]:
    """How many, and of how many, all hosts together; a rate that Prometheus extrapolates need not be whole, each host's sum is."""

    def whole(measured: Sequence[Mapping[str, float]]) -> int:
        return sum(round(sum(one[host] for one in measured)) for host in hosts)

    return whole(values), whole(totals)


def _needed(record: BakeRecord, metric: Metric) -> int:
    return metric.needed(record.bake.minutes)


def _over(number: int, limit: int) -> str:
    return f"; {number} such, over the limit of {limit}" if limit else ""
