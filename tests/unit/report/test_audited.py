# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How grave an audit is, and what JUnit's readers get of it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.report.audited import KNOWN, NOT_SEEN, Severity, junit, severity
from hypothesis import given
from hypothesis import strategies as st

KINDS = [*KNOWN, *NOT_SEEN, "missing", "changed_files", "not_in_cmdb"]


def difference(host: str | None, kind: str, detail: str = "it <is> \x1b & so", remedy: str = "mend it") -> dict[str, Any]:
    return {"host": host, "unit": None, "release": None, "kind": kind, "detail": detail, "remedy": remedy}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], Severity.CLEAN),
        (["late", "by_hand", "written_off"], Severity.CLEAN),
        (["late", "missing"], Severity.DIFFERENCES),
        (["not_in_cmdb"], Severity.DIFFERENCES),
        (["missing", "left_out"], Severity.INCOMPLETE),
        (["unreachable"], Severity.INCOMPLETE),
        (["unreadable"], Severity.INCOMPLETE),
        (["invalid_answer"], Severity.INCOMPLETE),
        (["not_in_inventory"], Severity.INCOMPLETE),
    ],
)
def test_what_could_not_be_looked_at_is_graver_than_what_differs(kinds: list[str], expected: Severity) -> None:
    assert severity(difference("web1", kind) for kind in kinds) is expected


def test_each_host_is_one_test_case_with_one_verdict() -> None:
    found = [
        difference("web2", "missing"),
        difference("web2", "unreadable", "no root"),
        difference("web3", "written_off"),
        difference("web4", "by_hand"),
        difference("web5", "extra_files"),
        difference(None, "lost"),
    ]
    suites = ElementTree.fromstring(junit(["web1", "web2", "web3", "web4", "web5"], found))  # noqa: S314 - our own
    (suite,) = suites
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "1",
        "skipped": "1",
    }
    said = {str(case.get("name")): [inner.tag for inner in case] for case in suite}
    assert said == {
        "web1": [],
        "web2": ["error"],
        "web3": ["skipped"],
        "web4": ["system-out"],
        "web5": ["failure"],
        "the library and the stock": ["failure"],
    }
    error = suite.find("testcase[@name='web2']/error")
    assert error is not None
    assert error.get("type") == "missing, unreadable"
    assert error.text == "missing: it <is> ? & so; mend it\nunreadable: no root; mend it"


@given(
    st.lists(st.tuples(st.none() | st.text(), st.sampled_from(KINDS), st.text(), st.text()), max_size=8),
    st.sets(st.text(), max_size=4),
)
def test_whatever_is_said_it_is_xml_with_a_case_for_each_host(found: list[tuple[str | None, str, str, str]], hosts: set[str]) -> None:
    named = [difference(*one) for one in found]
    suites = ElementTree.fromstring(junit(hosts, named).encode("utf-8", "strict"))  # noqa: S314 - our own
    cases = suites.findall("testsuite/testcase")
    assert len(cases) == len({*hosts, *(one["host"] for one in named if one["host"])} - {"the library and the stock"}) + 1
    bad = any(case.find("error") is not None or case.find("failure") is not None for case in cases)
    assert bad == (severity(named) is not Severity.CLEAN)
