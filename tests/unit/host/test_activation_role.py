# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does when the release's own role does more around its tree: health is looked at when that is done, not before."""

from __future__ import annotations

from typing import Any

from ansible_collections.tidegate.release.plugins.module_utils.activation import Order, activate, back_out
from bed import Host, Package, package

# Healthy when the role has done its part.
CHECK = {"name": "done", "command": ["bin/done"], "timeout": 0.3}
DONE = {"bin/done": b'#!/bin/sh\n[ -e "$TIDEGATE_STATE/done-$TIDEGATE_VERSION" ]\n'}
ONE, TWO = package("1.0", dict(DONE), health=[CHECK]), package("2.0", dict(DONE), health=[CHECK])


def _unchecked(host: Host, operation: Any, what: Package, previous: Package | None) -> dict[str, Any]:
    home = host.home
    with home.locked(1):
        order = Order("hello-1", host.token, host.settings, checked=False)
        answer: dict[str, Any] = operation(home, what.digest, previous.digest if previous else None, order)
        return answer


def _role_does(host: Host, version: str) -> None:
    (host.home.state / f"done-{version}").touch()


def _live(host: Host, what: Package, previous: Package | None = None) -> None:
    host.stage(what)
    _unchecked(host, activate, what, previous)
    _role_does(host, what.version)
    assert host.activate(what, previous)["state"] == "active"


def test_a_tree_becomes_live_before_its_health_can_be_good_and_is_confirmed_when_it_is(host: Host) -> None:
    host.stage(ONE)
    assert _unchecked(host, activate, ONE, None) == {"state": "started", "changed": True, "version": "1.0"}
    assert (host.live, host.running) == ("1.0", "1.0")
    assert _unchecked(host, activate, ONE, None) == {"state": "started", "changed": False, "version": "1.0"}  # again, after an interruption
    _role_does(host, "1.0")
    calls = host.calls
    assert host.activate(ONE) == {"state": "active", "changed": False, "version": "1.0"}
    assert host.calls == calls  # nothing was started anew


def test_a_tree_whose_health_is_not_good_in_the_end_goes_back(host: Host) -> None:
    _live(host, ONE)
    host.stage(TWO)
    _unchecked(host, activate, TWO, ONE)
    answer = host.activate(TWO, ONE)
    assert (answer["state"], host.live, host.running) == ("failed", "1.0", "1.0")


def test_the_way_back_looks_at_the_release_before_when_the_role_has_done_its_part(host: Host) -> None:
    _live(host, ONE)
    _live(host, TWO, ONE)
    (host.home.state / "done-1.0").unlink()
    assert _unchecked(host, back_out, TWO, ONE)["state"] == "backed_out"
    assert (host.live, host.running) == ("1.0", "1.0")
    assert host.back_out(TWO, ONE)["state"] == "owed"
    _role_does(host, "1.0")
    assert host.back_out(TWO, ONE)["state"] == "backed_out"


def test_a_first_release_that_still_answers_is_not_passed_off_as_gone(host: Host) -> None:
    host.stage(ONE)
    _unchecked(host, activate, ONE, None)
    _role_does(host, "1.0")
    assert host.activate(ONE)["state"] == "active"
    assert _unchecked(host, back_out, ONE, None)["state"] == "backed_out"
    assert host.live is None
    assert host.back_out(ONE)["state"] == "owed"  # what the role has made is still there, and the check passes
    (host.home.state / "done-1.0").unlink()
    assert host.back_out(ONE)["state"] == "backed_out"
