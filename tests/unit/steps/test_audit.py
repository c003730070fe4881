# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit names each package whose signatures don't count and every host that runs it, and accounts for every host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.hosts import is_host
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.team_model import shipped_model
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.unit_check import UnitFinding
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import Unit, UnitState
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.firmware import FirmwareImage, Minutes
from ansible_collections.tidegate.release.plugins.plugin_utils.report.audited import NOT_SEEN
from ansible_collections.tidegate.release.plugins.plugin_utils.report.differences import difference_lines
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import (
    NotSeen,
    account,
    by_word_alone,
    compare,
    compare_devices,
    not_recorded,
    read_answer,
    read_device_answer,
    recorded_devices,
    unit_differences,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_firmware import PastReadings
from hypothesis import given
from hypothesis import strategies as st

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LIVE = {"name": "hello", "version": "1.0", "digest": DIGEST, "changed": [], "extra": []}
KEYS = st.sampled_from(
    ["name", "version", "digest", "changed", "extra", "others", "strangers", "packages", "error", "releases", "failed", "msg", "outside"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
RECORDED = [{"ci": name, "release": "hello", "version": "1.0", "digest": DIGEST} for name in ("web1", "web2")]


def differences(untrusted: dict[str, tuple[str, str]], **found: Any) -> list[tuple[Any, str, str]]:
    found = {"web1": [LIVE], "web2": [LIVE]} | found
    return [(entry["host"], entry["kind"], entry["detail"]) for entry in compare(found, RECORDED, {DIGEST}, untrusted)]


def test_a_record_of_another_version_or_of_other_content_is_named() -> None:
    def named(**changed: str) -> list[tuple[Any, ...]]:
        row = {**RECORDED[0], **changed}
        return [(one["kind"], one["detail"], one["recorded"]) for one in compare({"web1": [LIVE]}, [row], {DIGEST, OTHER}, {})]

    assert named() == []
    assert named(version="0.9") == [("other_version", "hello 1.0 is live, but the CMDB says 0.9", f"hello 0.9, {DIGEST}")]
    assert named(digest=OTHER) == [
        ("other_version", f"hello 1.0 is live as {DIGEST}, but the CMDB says {OTHER}", f"hello 1.0, {OTHER}"),
    ]


def test_a_release_without_a_payload_is_not_missed_on_hosts() -> None:
    def kinds(treeless: set[str]) -> list[str]:
        return [one["kind"] for one in compare({"web1": [], "web2": [LIVE]}, RECORDED, {DIGEST}, {}, (), treeless)]

    assert (kinds(set()), kinds({DIGEST})) == (["missing"], [])


def test_what_was_brought_back_by_hand_is_named_and_compared_all_the_same() -> None:
    word = {"ci": "web1", "release": "hello", "version": "1.0", "since": "2026-03-01T12:00:00+00:00", "by": "carl", "reason": "its disk"}
    (named,) = by_word_alone([word])
    assert (named["kind"], named["detail"]) == ("by_hand", "hello was brought back by hand to 1.0 on 2026-03-01, says carl: its disk")
    gone = {**word, "ci": "web2", "version": None}
    assert "brought back by hand to having none on" in by_word_alone([gone])[0]["detail"]
    other = [LIVE | {"version": "2.0", "digest": OTHER}]
    recorded = [row for row in RECORDED if row["ci"] == "web1"]
    found = compare({"web1": other, "web2": other}, recorded, {DIGEST, OTHER}, {}, by_hand=[word, gone])
    assert [(one["host"], one["kind"], one["detail"]) for one in found] == [
        ("web1", "other_version", "hello 2.0 is live, but the CMDB says 1.0, by the word of carl, who brought it back by hand"),
        ("web2", "uncontrolled", "hello 2.0 is live, but the CMDB does not know of it, by the word of carl, who brought it back by hand"),
    ]
    assert compare({"web1": [LIVE]}, recorded, {DIGEST}, {}, by_hand=[word]) == []


AS_IT_IS = {"text": "1.0", "version": "1.0", "wanted": "1.0", "problem": ""}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (AS_IT_IS, []),
        (
            {**AS_IT_IS, "text": "R0", "version": "0.9"},
            [("other_reading", "hello 1.0 is live, but it says R0 as with hello 0.9, and has to say 1.0")],
        ),
        ({**AS_IT_IS, "text": "x", "version": ""}, [("other_reading", "hello 1.0 is live, but it says x, and has to say 1.0")]),
        (
            {**AS_IT_IS, "version": "", "problem": "hook\x1b[2J failed"},
            [("unreadable", "hello 1.0 is live, and what runs outside its tree can't be read: hook?[2J failed")],
        ),
        (None, [("unreadable", "hello 1.0 is live, and what runs outside its tree can't be read: its host says nothing of it")]),
    ],
)
def test_what_is_read_outside_the_tree_of_a_live_release_is_compared(said: Any, expected: list[tuple[str, str]]) -> None:
    entry = LIVE | ({} if said is None else {"outside": said})
    found = compare({"web1": [entry]}, RECORDED[:1], {DIGEST}, {}, outside={DIGEST})
    assert [(one["kind"], one["detail"]) for one in found] == expected
    assert all(one["remedy"] for one in found)
    assert compare({"web1": [LIVE]}, RECORDED[:1], {DIGEST}, {}) == [], "one that is its tree says nothing more"


@pytest.mark.parametrize("said", ["1.0", [], {**AS_IT_IS, "text": 1}, {"text": "1.0", "version": "1.0", "wanted": "1.0"}])
def test_what_is_no_reading_is_no_answer(said: Any) -> None:
    answer = read_answer({"releases": [LIVE | {"outside": said}]})
    assert isinstance(answer, NotSeen)
    assert answer.kind == "invalid_answer"


def test_what_is_trusted_makes_no_difference() -> None:
    assert differences({}) == []


def test_what_is_not_trusted_is_named_once_and_on_each_host_that_runs_it() -> None:
    why = "hello 1.0 is not trusted: nobody signed it"
    assert differences({DIGEST: ("hello", why)}, web2=[LIVE | {"digest": None}]) == [
        (None, "untrusted", why),
        ("web1", "untrusted", f"hello 1.0 is live, but {why}"),
        ("web2", "missing", "the CMDB says hello 1.0, but it is not live"),
    ]


def test_every_difference_says_what_to_do_and_hosts_with_the_same_share_a_line() -> None:
    odd = LIVE | {"changed": ["bin/a"], "extra": ["x"], "error": None, "strangers": ["y"], "packages": ["tg-app 1.0 is not held"]}
    odd["since"] = {"packages": [5.0, 9.0]}
    found: dict[str, Any] = {
        "web1": [LIVE | {"digest": None, "version": None}],
        "web2": [LIVE | {"digest": None, "version": None}],
        "web3": [odd | {"error": ""}],
        "web4": [LIVE | {"name": "other"}],
        "web5": NotSeen("unreachable", "it can't be reached"),
        "web6": NotSeen("invalid_answer", "its answer is none"),
        "web7": [LIVE | {"error": "no such file"}],
    }
    named = compare(found, RECORDED, set(), {DIGEST: ("hello", "hello 1.0 is not trusted")})
    assert all(one["remedy"] for one in named)
    (packages,) = (one for one in named if one["kind"] == "changed_packages")
    assert packages["since"] == "1970-01-01T00:00:05.000Z"
    lines = difference_lines(named)
    assert "web1, web2: the CMDB says hello 1.0, but it is not live; find out who removed it, and deploy it again by an RFC" in lines
    dead = [
        {"host": f"web{number}", "kind": "unreachable", "detail": f"it can't be reached: 192.0.2.{number} is not there"}
        for number in (1, 2)
    ]
    dead = [one | {"remedy": "bring it back"} for one in dead]
    assert len(difference_lines(dead)) == 2, "a report says why"
    assert difference_lines(dead, seen=True) == ["web1, web2: it can't be reached; bring it back"], "which Ansible has just said of each"
    many = difference_lines([{"host": f"web{number}", "detail": "gone", "remedy": ""} for number in range(30)])
    assert many == [f"{', '.join(f'web{number}' for number in range(10))} and 20 more: gone"]


NAMES = st.sampled_from([f"web{number}" for number in range(9)])
RESULTS: list[Any] = [{"releases": []}, {"unreachable": True}, {"failed": True, "msg": "x"}, {"skipped": True}, {"releases": 7}, "?"]
CIS = [
    {"name": name, "class": kind}
    for name, kind in (("web1", "server"), ("web2", None), ("db1", "server"), ("rack7", "rack"), ("lost1", "server"), ("odd7", "room"))
]


def test_every_host_of_cmdb_and_inventory_is_accounted_for_and_the_others_are_compared() -> None:
    results = {"web1": {"releases": [LIVE]}, "web2": {"unreachable": True, "msg": "no\nroute"}, "new1": {"releases": []}}
    audited = account(results, ["web1", "web2", "db1", "new1", "localhost"], CIS, {"odd7"}, (), shipped_model())
    assert audited.found["web1"] == [LIVE]
    assert audited.found["new1"] == []
    said = {host: (found.kind, found.detail) for host, found in audited.found.items() if isinstance(found, NotSeen)}
    assert {host: kind for host, (kind, _detail) in said.items()} == {
        "web2": "unreachable",
        "db1": "left_out",
        "lost1": "not_in_inventory",
        "odd7": "not_in_inventory",
    }
    assert said["web2"][1].endswith(": no route")
    assert "odd7 (room)" in said["odd7"][1]
    assert [(one["host"], one["kind"]) for one in audited.differences] == [("new1", "not_in_cmdb")]
    assert {(one["host"], one["kind"]) for one in compare(audited.found, [], {DIGEST}, {})} == {
        ("web1", "uncontrolled"),
        *((host, kind) for host, (kind, _detail) in said.items()),
    }


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from(["server", "rack", None]), st.sampled_from(["installed", "retired", "planned"]))),
    st.sets(NAMES),
    st.sets(NAMES),
    st.dictionaries(NAMES, st.none() | st.sampled_from(RESULTS)),
)
def test_every_host_is_compared_or_named_with_why_it_was_not(
    known: dict[str, tuple[str | None, str]], inventory: set[str], installed: set[str], results: dict[str, Any]
) -> None:
    model, cis = shipped_model(), [{"name": name, "class": kind, "status": status} for name, (kind, status) in known.items()]
    audited = account(results, inventory, cis, installed, (), model)
    hosts = {ci["name"] for ci in cis if is_host(ci, (), model)}
    assert audited.found.keys() == inventory | hosts | (installed & known.keys())
    compared = {host for host, found in audited.found.items() if not isinstance(found, NotSeen)}
    named = [*audited.differences, *compare(audited.found, [], set(), {})]
    unseen = [one["host"] for one in named if one["kind"] in NOT_SEEN]
    assert sorted(unseen) == sorted(audited.found.keys() - compared), "each once, and nobody else"
    assert {host for host, result in results.items() if result == RESULTS[0]} & inventory == compared
    assert [one["host"] for one in named if one["kind"] == "not_in_cmdb"] == sorted(inventory - hosts)
    assert {one["host"] for one in named if one["kind"] == "not_in_inventory"} == (hosts | (installed & known.keys())) - inventory


def test_a_host_that_is_retired_in_the_cmdb_and_still_in_an_inventory_is_named() -> None:
    retired = {"name": "web1", "class": "server", "status": "retired"}
    audited = account({"web1": {"releases": []}}, ["web1"], [retired], (), (), shipped_model())
    assert [(one["host"], one["kind"]) for one in audited.differences] == [("web1", "not_in_cmdb")]
    assert "web1 (server, retired) is no host that is in use; correct the CI" in audited.differences[0]["detail"]


def test_the_policy_says_which_cis_the_inventory_has_to_have() -> None:
    audited = account({}, [], CIS, (), ("Room",), shipped_model())
    assert set(audited.found) == {"odd7"}


def test_the_controller_is_no_host_unless_the_cmdb_says_so() -> None:
    assert account({}, ["localhost"], [], (), (), shipped_model()).found == {}
    assert set(account({}, ["localhost"], [{"name": "localhost", "class": "server"}], (), (), shipped_model()).found) == {"localhost"}


ODD = [
    *("nothing", 7, [], True),
    {},
    {"msg": "hello"},
    *({"releases": odd} for odd in (None, {}, "[]", [7], [None], [{}], [[]], [LIVE, LIVE])),
    *(
        {"releases": [LIVE | odd]}
        for odd in (
            {"name": 7},
            {"name": None},
            {"name": "a\x1b[2J"},
            {"version": "1\n2"},
            {"version": "1" * 301},
            {"version": 2},
            {"version": None},
            {"digest": None},
            {"digest": ["sha256"]},
            {"digest": "sha256:short"},
            {"changed": None},
            {"changed": [1]},
            {"extra": "file"},
            {"error": 7},
            {"others": None},
            {"others": {}},
            {"others": [None]},
            {"others": [{"version": 1, "changed": [], "extra": []}]},
            {"others": [{"version": "1", "changed": [], "extra": [None]}]},
            {"strangers": "x"},
            {"strangers": [{}]},
            {"packages": [1]},
        )
    ),
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_answer_is_its_hosts_own_difference(odd: object) -> None:
    audited = account({"web1": odd, "db1": {"releases": [LIVE]}}, ["web1", "db1"], CIS[:3:2], (), (), shipped_model())
    found = audited.found["web1"]
    assert isinstance(found, NotSeen)
    assert found.kind == "invalid_answer"
    assert len(found.detail) < 400
    assert audited.found["db1"] == [LIVE]


@pytest.mark.parametrize(
    ("result", "kind", "said"),
    [
        ({"failed": True, "msg": "/opt/tidegate can't be read"}, "unreadable", "/opt/tidegate can't be read"),
        ({"failed": True, "module_stdout": "{ welcome }\nx", "msg": "MODULE FAILURE"}, "unreadable", "{ welcome } x"),
        ({"failed": True, "msg": None}, "unreadable", "it did not say why"),
        ({"failed": True, "msg": {"a": "\x1b[2J"}}, "unreadable", "x1b[2J"),
        ({"unreachable": True, "msg": "a\x1b[2Jb" + "x" * 999}, "unreachable", "a?[2Jb"),
        ({"skipped": True}, "left_out", "was left out"),
        (None, "left_out", "was left out"),
    ],
)
def test_a_host_that_was_not_seen_says_why(result: object, kind: str, said: str) -> None:
    found = read_answer(result)
    assert isinstance(found, NotSeen)
    assert found.kind == kind
    assert said in found.detail
    assert found.detail.isprintable()


def test_what_says_anything_is_there_even_if_it_cant_be_read() -> None:
    """Else a host that was written off would be passed over in silence while it runs whatever it likes."""
    contact = [{"failed": True, "msg": "Missing sudo password"}, {"releases": "x"}, {}, "welcome"]
    timed_out = {"failed": True, "msg": "Timed out", "timedout": {"period": 9}}
    none = [None, {"skipped": True}, {"unreachable": True, "msg": "no route"}, timed_out]
    assert [getattr(read_answer(one), "contact", None) for one in (*contact, *none)] == [True] * 4 + [False] * 4


@given(json_values)
def test_whatever_a_host_answers_is_read_or_refused(answer: object) -> None:
    for result in (answer, {"releases": answer}, {"releases": [answer]}, {"releases": [LIVE | {"others": answer}]}):
        for difference in compare({"web1": read_answer(result)}, RECORDED, {DIGEST}, {}):
            assert difference["detail"].isprintable()


class _Counted(dict[str, Any]):
    looks = 0

    def __getitem__(self, key: str) -> Any:
        _Counted.looks += 1
        return super().__getitem__(key)


def test_each_record_is_looked_at_a_few_times_however_many_hosts_there_are() -> None:
    def looks(hosts: int) -> int:
        _Counted.looks = 0
        names = [f"web{number}" for number in range(hosts)]
        recorded = [_Counted(ci=name, release="hello", version="1.0", digest=DIGEST) for name in names]
        assert compare({name: [LIVE] for name in names}, recorded, {DIGEST}, {}) == []
        return _Counted.looks

    assert looks(400) == 10 * looks(40)


PAST = PastReadings(datetime(2026, 3, 1, tzinfo=UTC))
UNIT = Unit("T1", "Contoso", "SN1", "R750", UnitState.IN_USE, ci="web1")
BIOS = FirmwareImage("BIOS", ("R750",), "b.bin", "2.5.0", ("2.4.0",), (), "host_reset", Minutes())
MACHINE = {"name": "web1", "attributes": {"redfish": "https://bmc1", "firmware": {"BIOS": "2.4.0", "NIC": "1.0"}}}
SAID = {"serial": "SN1", "model": "R750", "asset_tag": "", "firmware": {"BIOS": ["2.5.0"], "NIC": ["1.0"]}, "problem": "", "silent": False}


def test_what_is_in_the_slots_of_a_machine_is_compared() -> None:
    parts = [replace(UNIT, tag=f"P{n}", serial=f"PS{n}", model="PSU", slot=f"PSU {n}") for n in (1, 2, 3)]
    (device,) = recorded_devices([MACHINE], [UNIT, *parts], [], {})
    answer = read_device_answer({"device": {**SAID, "firmware": {"BIOS": ["2.4.0"], "NIC": ["1.0"]}, "parts": {"PSU 1": "X", "PSU 2": ""}}})
    assert answer is not None
    found = compare_devices([device], {"web1": answer}, iter([UNIT, *parts]), PAST)
    assert [(one["host"], one["unit"], one["kind"]) for one in found] == [("web1", "P1", "other_unit"), ("web1", "P2", "empty_slot")]
    assert all(one["remedy"] for one in found)


def of_devices(said: Any, ci: Mapping[str, Any] = MappingProxyType(MACHINE), unit: Unit = UNIT) -> list[tuple[Any, Any, str]]:
    (device,) = recorded_devices([ci], [unit], [{"ci": "web1", "release": "bios", "digest": DIGEST}], {DIGEST: (BIOS,)})
    answer = read_device_answer({"releases": [], "device": said})
    found = compare_devices([device], {} if answer is None else {"web1": answer}, [unit], PAST)
    assert all(one["remedy"] or "use this CMDB" in one["detail"] for one in found)
    return [(one["host"], one["unit"], one["kind"]) for one in found]


def test_a_release_of_firmware_is_compared_by_what_the_device_says_and_missed_nowhere() -> None:
    assert compare({"web1": []}, [{**RECORDED[0], "release": "bios"}], {DIGEST}, {}, (), {DIGEST}) == []
    assert of_devices(SAID) == []  # what the release brought counts, and else what was read before
    assert of_devices({**SAID, "firmware": {"BIOS": ["2.4.0"], "NIC": ["1.0"]}}) == [("web1", "T1", "other_firmware")]
    assert of_devices({**SAID, "firmware": {"BIOS": ["2.5.0"], "NIC": ["1.1"]}}) == [("web1", "T1", "other_firmware")]


@pytest.mark.parametrize(
    ("firmware", "found"),
    [
        ({"BIOS": ["2.5.0"], "NIC": ["1.1"]}, {"NIC": "1.1"}),
        ({"BIOS": ["2.5.0"], "NIC": ["1.1", "1.2"]}, None),  # which of them
        ({"BIOS": ["2.5.0"]}, None),  # it does not say it any more
        ({"BIOS": ["2.4.0"], "NIC": ["1.1"]}, None),  # a release on record brought another BIOS
    ],
)
def test_what_a_device_runs_can_become_the_record_unless_a_release_brought_another_or_it_is_not_plain(firmware: Any, found: Any) -> None:
    (device,) = recorded_devices([MACHINE], [UNIT], [{"ci": "web1", "release": "bios", "digest": DIGEST}], {DIGEST: (BIOS,)})
    answer = read_device_answer({"device": {**SAID, "firmware": firmware}})
    assert answer is not None
    (named,) = compare_devices([device], {"web1": answer}, [UNIT], PAST)
    assert (named["kind"], named["found"]) == ("other_firmware", found)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (None, "left_out"),
        ({**SAID, "problem": "bmc1 can't be reached", "silent": True}, "unreachable"),
        ({**SAID, "problem": "bmc1 does not know this user"}, "unreadable"),
        ([SAID], "unreadable"),
        ({**SAID, "firmware": {"BIOS": "2.5.0"}}, "unreadable"),
        ({**SAID, "serial": 5}, "unreadable"),
    ],
)
def test_nothing_is_believed_of_a_device_that_does_not_say_it(said: Any, kind: str) -> None:
    assert of_devices(said) == [("web1", "T1", kind)]


def test_a_ci_with_firmware_that_has_no_address_to_ask_is_named() -> None:
    assert of_devices(None, {"name": "web1", "attributes": {}}) == [("web1", "T1", "left_out")]
    assert recorded_devices([{"name": "web1", "attributes": {}}], [UNIT], [], {}) == []


def test_a_unit_in_stock_is_named_by_its_tag() -> None:
    (named,) = unit_differences([UnitFinding("", "T9", "not_read", "the firmware of T9 was not read yet")])
    assert (named["host"], named["unit"]) == (None, "T9")
    assert difference_lines([named])[0].startswith("T9: the firmware of T9")


def test_hosts_without_a_record_of_what_else_they_have_are_named() -> None:
    assert not_recorded([]) == []
    (line,) = not_recorded(["db1", "web1", "web2", "web3", "web4"])
    assert line.startswith(
        "packages, units, cron files and listeners of db1, web1, web2 and 2 more are on no record, so they were not compared"
    )
