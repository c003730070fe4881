# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each difference says since when it is there, what was on record, and which change covers it, as far as the host can say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.recorded_sets import RecordedSet
from ansible_collections.tidegate.release.plugins.plugin_utils.report.differences import difference_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.coverage import Span
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import NotSeen, compare, compare_beside, read_answer
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_changes import with_changes
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import SETS, digest_of

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = NOON.timestamp()
ENTRY: dict[str, Any] = {"name": "hello", "version": "1.0", "digest": DIGEST, "changed": [], "extra": []}
ROW = {"ci": "web1", "release": "hello", "version": "0.9", "digest": OTHER}


def told(entry: dict[str, Any], *spans: Span, row: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    answer = read_answer({"releases": [entry]})
    assert not isinstance(answer, NotSeen)
    recorded = [row or {**ROW, "version": "1.0", "digest": DIGEST}]
    return with_changes(compare({"web1": answer}, recorded, {DIGEST, OTHER}, {}), spans)


def test_a_changed_file_is_told_apart_by_the_change_that_covers_it() -> None:
    entry = ENTRY | {"changed": ["bin/a", "bin/b"], "since": {"changed": [AT, AT + 60]}}
    (none,) = told(entry, Span("CHG1", "web1", NOON, NOON), Span("CHG2", "web2", NOON, None))
    assert (none["since"], none["latest"]) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:01:00.000Z")
    assert (none["covered_by"], none["recorded"]) == ([], f"hello 1.0, {DIGEST}")
    (line,) = difference_lines([none])
    assert "bin/a, bin/b (since 2026-03-01 12:00 UTC, no RFC covers it); deploy or back out there" in line
    (covered,) = told(entry, Span("CHG1", "web1", NOON, None))
    assert covered["covered_by"] == ["CHG1"]
    assert "(since 2026-03-01 12:00 UTC, covered by CHG1)" in difference_lines([covered])[0]


def test_what_somebody_did_between_two_changes_is_covered_by_none() -> None:
    around = Span("CHG1", "web1", NOON, NOON), Span("CHG2", "web1", NOON + timedelta(minutes=2), None)
    (both,) = told(ENTRY | {"changed": ["a", "b"], "since": {"changed": [AT, AT + 120]}}, *around)
    assert both["covered_by"] == ["CHG1", "CHG2"]
    (between,) = told(ENTRY | {"changed": ["a", "b", "c"], "since": {"changed": [AT, AT + 60, AT + 120]}}, *around)
    assert (between["covered_by"], between["since"], between["latest"]) == ([], both["since"], both["latest"])


def test_what_is_live_is_there_since_it_became_live() -> None:
    (other,) = told(ENTRY | {"since": {"live": [AT, AT]}}, row=ROW)
    assert (other["kind"], other["since"], other["recorded"]) == ("other_version", "2026-03-01T12:00:00.000Z", f"hello 0.9, {OTHER}")
    (uncontrolled,) = told(ENTRY | {"since": {"live": [AT, AT]}}, row={**ROW, "ci": "web2"})
    assert (uncontrolled["kind"], uncontrolled["recorded"], uncontrolled["covered_by"]) == ("uncontrolled", "no hello", [])


def test_only_what_the_library_holds_could_become_the_record() -> None:
    (other,) = told(ENTRY, row=ROW)
    assert other["found"] == {"version": "1.0", "digest": DIGEST}
    answer = read_answer({"releases": [ENTRY]})
    assert not isinstance(answer, NotSeen)
    assert [(one["kind"], one["found"]) for one in compare({"web1": answer}, [ROW], {OTHER}, {})] == [
        ("other_version", None),
        ("not_in_dsl", None),
    ]


def test_where_the_host_does_not_say_it_nobody_says_that_no_change_covers_it() -> None:
    (unknown,) = told(ENTRY | {"extra": ["x"]}, Span("CHG1", "web1", NOON, None))
    assert (unknown["since"], unknown["covered_by"]) == (None, None)
    assert "(since" not in difference_lines([unknown])[0]


ODD: list[Any] = [
    *(None, [], {"changed": AT}, {"changed": [AT]}, {"changed": ["x", "y"]}, {"changed": [2, 1]}, {"changed": [0, 1e300]}),
    *({"changed": []}, {"changed": [1, 3, 2]}, {"changed": [1, 3, 2, 4]}, {"changed": [1] * 1001}),
    *({"live": [-1, 0]}, {"live": [float("nan"), 1]}, {"live": [True, True]}),
]


@pytest.mark.parametrize("odd", ODD)
def test_what_are_no_moments_is_no_answer(odd: Any) -> None:
    for entry in (ENTRY | {"since": odd}, ENTRY | {"others": [{"version": "2", "changed": [], "extra": [], "since": odd}]}):
        found = read_answer({"releases": [entry]})
        assert isinstance(found, NotSeen)
        assert found.kind == "invalid_answer"


BEFORE = {"a:all": "1", "b:all": "1", "c:all": "1"}
UNITS = {"/etc/systemd/system/x.wants/a.service": "-> ../a.service"}


def of_set(before: dict[str, str], now: dict[str, str], since: object, *spans: Span, name: str = "packages") -> list[dict[str, Any]]:
    """The difference of a set of which the host says ``since`` when its entries are there."""
    sets: dict[str, Any] = {one: {"sha256": digest_of({})} for one in SETS}
    sets[name] = {"sha256": digest_of(now), "entries": now, "since": since}
    recorded = {"web1": {name: RecordedSet(digest_of(before), "carl", "as it was", NOON, before)}}
    return with_changes(compare_beside({"web1": {"releases": [], "sets": sets}}, {"web1": []}, recorded), spans)


def test_what_came_changed_and_went_of_a_set_is_told_apart_by_the_changes_that_cover_each() -> None:
    now = {"a:all": "1", "b:all": "2", "d:all": "1"}
    since = {"a:all": AT - 900, "b:all": AT, "c:all": AT + 60, "d:all": AT + 120}
    (one,) = of_set(BEFORE, now, since, Span("CHG1", "web1", NOON, None))
    assert (one["since"], one["latest"]) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:02:00.000Z")
    assert (one["kind"], one["covered_by"]) == ("other_packages", ["CHG1"])
    assert one.keys() == told(ENTRY | {"extra": ["x"]})[0].keys()
    assert "(since 2026-03-01 12:00 UTC, covered by CHG1)" in difference_lines([one])[0]
    minute = timedelta(minutes=1)
    around = (Span("CHG1", "web1", NOON, NOON), Span("CHG2", "web1", NOON + 2 * minute, None))
    assert of_set(BEFORE, now, since, *around)[0]["covered_by"] == [], "the package in the middle went outside of both"


def test_where_one_entry_has_no_moment_a_set_is_not_said_to_be_covered_but_can_be_said_not_to_be() -> None:
    now = {**BEFORE, "d:all": "1", "e:all": "1"}
    covers = Span("CHG1", "web1", NOON, None)
    (one,) = of_set(BEFORE, now, {"d:all": AT}, covers)
    assert (one["since"], one["latest"], one["covered_by"]) == ("2026-03-01T12:00:00.000Z", None, None)
    (one,) = of_set(BEFORE, now, {"d:all": AT - 60}, covers)
    assert (one["since"], one["latest"], one["covered_by"]) == ("2026-03-01T11:59:00.000Z", None, [])
    (one,) = of_set(BEFORE, now, {}, covers)
    assert (one["since"], one["latest"], one["covered_by"]) == (None, None, None)


def test_a_file_that_went_is_gone_since_the_nearest_directory_that_is_there_has_changed() -> None:
    folder = "/etc/systemd/system/"
    (one,) = of_set(UNITS, {}, {folder: AT, "/etc/": 1}, Span("CHG1", "web1", NOON, None), name="units")
    assert (one["kind"], one["since"], one["covered_by"]) == ("other_units", "2026-03-01T12:00:00.000Z", ["CHG1"])
    (one,) = of_set(UNITS, {}, {f"{folder}x.wants/": AT + 1, folder: AT}, name="units")
    assert one["since"] == "2026-03-01T12:00:01.000Z"
    (one,) = of_set({}, UNITS, {folder: AT}, name="units")
    assert one["since"] is None, "what is there is older than that, or newer"


@pytest.mark.parametrize(
    "odd",
    [None, [], 7, {"d:all": "x"}, {"d:all": None}, {"d:all": True}, {"d:all": float("nan")}, {"d:all": -1}, {"d:all": 1e300}, {7: AT}],
)
def test_a_set_whose_moments_are_none_is_not_believed(odd: object) -> None:
    (one,) = of_set(BEFORE, {**BEFORE, "d:all": "1"}, odd, Span("CHG1", "web1", NOON, None))
    assert (one["kind"], one["covered_by"]) == ("unreadable", None)


def test_what_others_may_change_a_log_that_is_gone_and_what_is_not_live_are_told_apart_too() -> None:
    covers = Span("CHG1", "web1", NOON, None)
    since = {"access": [AT, AT], "log": [AT - 60, AT - 60]}
    access, log = told(ENTRY | {"access": ["belongs to deploy"], "logged": False, "since": since}, covers)
    assert (access["since"], access["covered_by"]) == ("2026-03-01T12:00:00.000Z", ["CHG1"])
    assert (log["since"], log["covered_by"]) == ("2026-03-01T11:59:00.000Z", [])
    (missing,) = told(ENTRY | {"version": None, "digest": None, "since": {"live": [AT, AT]}}, covers)
    assert (missing["kind"], missing["since"], missing["covered_by"]) == ("missing", "2026-03-01T12:00:00.000Z", ["CHG1"])


def test_copies_and_what_a_scan_has_found_are_told_apart_too() -> None:
    copy = {"path": "/srv/hello", "release": "hello", "version": "1.0", "home": False, "count": 2, "files": ["a", "b"]}
    scan = {"infected": [{"release": "hello", "path": "x", "signature": "EICAR", "since": AT}], "problem": ""}

    def kinds(since: object) -> list[tuple[Any, ...]]:
        result = {"releases": [], "copies": {"found": [{**copy, "since": since}], "problems": []}, "scan": scan}
        found = with_changes(compare_beside({"web1": result}, {"web1": []}, {}), [Span("CHG1", "web1", NOON, None)])
        return [(one["kind"], one["since"], one["latest"], one["covered_by"]) for one in found]

    noon, later = "2026-03-01T12:00:00.000Z", "2026-03-01T12:01:00.000Z"
    infected = ("infected", noon, noon, ["CHG1"])
    assert kinds([AT, AT + 60]) == [("copies", noon, later, ["CHG1"]), infected]
    assert kinds([]) == [("copies", None, None, None), infected]
    assert kinds(["x"]) == kinds(7) == [("unreadable", None, None, None), infected]
    scan["infected"] = [{"release": "hello", "path": "x", "signature": "EICAR", "since": "x"}]
    assert kinds([])[1] == ("infected", None, None, None)
