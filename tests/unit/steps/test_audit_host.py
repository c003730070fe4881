# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of a release besides its files is named, or refused when it has not the form of that."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit import NotSeen, compare, read_answer

DIGEST = f"sha256:{'a' * 64}"
LIVE: dict[str, Any] = {"name": "hello", "version": "1.0", "digest": DIGEST, "changed": [], "extra": [], "others": []}
RECORDED = [{"ci": "web1", "release": "hello", "version": "1.0", "digest": DIGEST}]
UP = {"down": "", "problem": ""}


def named(**said: Any) -> list[tuple[str, str]]:
    answer = read_answer({"releases": [LIVE | said]})
    found = compare({"web1": answer}, RECORDED, {DIGEST}, {})
    assert all(one["remedy"] for one in found)
    return [(one["kind"], one["detail"]) for one in found]


def test_what_runs_and_what_is_root_s_alone_makes_no_difference() -> None:
    assert named(running=UP, access=[]) == named() == []


def test_what_does_not_run_is_named() -> None:
    (one,) = named(running={**UP, "down": "health check 'answers' failed: \x1b[2Jrefused"})
    assert one == ("not_running", "hello 1.0 is live and does not run: health check 'answers' failed: ?[2Jrefused")


def test_what_can_not_be_asked_is_named() -> None:
    assert named(running={**UP, "problem": "hello needs port"}) == [
        ("unreadable", "hello 1.0 is live, and nobody knows whether it runs: hello needs port")
    ]


def test_what_others_may_change_is_named_for_live_releases_and_those_beside_them() -> None:
    (one,) = named(access=["belongs to deploy (1000), not to root: bin/a", "b: c", "d: e", "f: g"])
    assert one[0] == "changed_files"
    assert one[1] == "of hello 1.0 there is what others may change: belongs to deploy (1000), not to root: bin/a; b: c; d: e ..."
    other = {"version": "0.9", "digest": DIGEST, "changed": [], "extra": [], "access": ["has capabilities: bin/a"]}
    assert named(others=[other])[0][1] == "of hello 0.9 there is what others may change: has capabilities: bin/a"


ODD = [
    *({"running": odd} for odd in (None, 7, [], {}, {"down": ""}, {"down": 1, "problem": ""})),
    *({"access": odd} for odd in (None, "x", [1])),
    *({"others": [{"version": "1", "changed": [], "extra": [], "access": odd}]} for odd in (None, [None])),
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_what_has_another_form_is_no_answer(odd: Any) -> None:
    answer = read_answer({"releases": [LIVE | odd]})
    assert isinstance(answer, NotSeen)
    assert answer.kind == "invalid_answer"
