# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment on a host is covered by the changes that were approved, had the host in their scope and their time then, and by no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import append_history
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.coverage import Span, covered_by, window
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import STATES
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import spans
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTS = st.sampled_from(["web1", "web2", "web3"])


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


TOLD = ((-10, -5), (20, -2), (30, -1))  # New, Scheduled, Implement
moments = st.integers(0, 20).map(at)
parts = st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))
numbers = st.sampled_from(["CHG1", "CHG2", "CHG3"])
in_order = st.one_of(st.tuples(moments, st.none()), parts)
all_spans = st.lists(st.builds(lambda number, host, of: Span(number, host, *of), numbers, HOSTS, in_order), max_size=8)


@given(HOSTS, st.lists(parts, max_size=3), all_spans)
def test_what_covers_each_part_is_named_and_one_that_nothing_covers_is_enough_for_none(
    host: str, when: list[tuple[datetime, datetime]], known: list[Span]
) -> None:
    said = covered_by(host, when, known)
    minutes = [[at(minute) for minute in range(21) if part[0] <= at(minute) <= part[1]] for part in when]
    by_hand = [
        {
            one.number
            for one in known
            if one.host == host and any(one.start <= moment and (one.end is None or one.end >= moment) for moment in of_part)
        }
        for of_part in minutes
    ]
    assert said == (sorted(set().union(*by_hand)) if when and all(by_hand) else [])


@given(HOSTS, st.lists(parts, min_size=1, max_size=3), all_spans, st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_other_hosts_changes_never_do(
    host: str, when: list[tuple[datetime, datetime]], known: list[Span], random: object
) -> None:
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    said = covered_by(host, when, known)
    assert covered_by(host, when[::-1], shuffled) == said
    assert covered_by(host, when, [one for one in known if one.host == host]) == said
    assert covered_by("other", when, known) == []


@given(st.sampled_from([*STATES]), moments, moments, st.none() | moments, moments)
def test_a_change_covers_its_window_from_when_it_is_approved_until_its_work_is_over(
    state: int, start: datetime, end: datetime, over: datetime | None, moment: datetime
) -> None:
    covers = any(span.meets(moment, moment) for span in window("CHG1", "web1", state, start, end, over))
    assert covers == (state in (-2, -1, 0, 3) and start <= moment <= end and (over is None or moment <= over))


def test_register_and_deployments_are_where_it_is_looked(tmp_path: Path) -> None:
    t = schema()
    text = dict.fromkeys(("type", "release", "version", "digest", "fingerprint", "short_description", "requested_by", "assigned_to"), "x")
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb, cmdb.begin() as connection:
        for number, state in (("CHG1", -2), ("CHG2", 4)):
            row = {"number": number, "state": state, "risk": 3, "start_date": at(0), "end_date": at(60), "updated": NOON}
            connection.execute(t.change.insert().values(**text, **row))
            connection.execute(t.change_ci.insert().values(number=number, ci="web1"))
        run = {"rfc": "CHG3", "release": "x", "version": "1", "digest": "x", "state": "completed", "options": {}, "holder": "x", "token": 1}
        connection.execute(t.deployment.insert().values(id=1, **run, created=NOON, started=at(90), finished=at(95)))
        host = {"host": "web2", "wave": 1, "position": 1, "state": "active", "updated": NOON}
        connection.execute(t.deployment_host.insert().values(deployment_id=1, **host))
        hosts = ["web1", "web2", "web9"]
        found = spans(connection, hosts, at(60))
        later = spans(connection, hosts, at(96))
        lines = [
            {"at": at(minute), "actor": "x", "event": "rfc entered", "data": {"rfc": "CHG1", "state": state}} for minute, state in TOLD
        ]
        append_history(connection, lines)
        approved_late = spans(connection, ["web1"], at(0))
    assert sorted(found, key=lambda one: one.number) == [
        Span("CHG1", "web1", at(0), at(60)),
        Span("CHG3", "web2", at(90), at(95)),
    ]
    assert later == []
    assert approved_late == [Span("CHG1", "web1", at(20), at(60))], "the register did not know before"


@pytest.mark.parametrize(("minute", "expected"), [(-1, []), (0, ["CHG1"]), (60, ["CHG1"]), (61, [])])
def test_both_ends_of_a_window_belong_to_it(minute: int, expected: list[str]) -> None:
    assert covered_by("web1", [(at(minute), at(minute))], window("CHG1", "web1", -1, at(0), at(60), None)) == expected
