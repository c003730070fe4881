# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose release nobody confirms in time goes back by itself, and says so to whoever comes then."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import activation, beside, guard, home_log
from ansible_collections.tidegate.release.plugins.module_utils.activation import activate, confirm
from ansible_collections.tidegate.release.plugins.module_utils.release_home import ReleaseHome
from bed import HOOKS, Host, package
from waiting import wait_until

ONE, TWO = package("1.0"), package("2.0")
SOON = 0.4  # seconds


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def guard_of(host: Host) -> int:
    wait_until(host.home.guard.read_text)
    return int(json.loads(host.home.guard.read_text())["group"])


@pytest.fixture
def upgrading(host: Host) -> Host:
    """1.0 is live, 2.0 is staged, and orders ask for a guard that has time."""
    host.deploy(ONE)
    host.stage(TWO)
    host.confirm_within = 60
    return host


def went_back(host: Host) -> None:
    wait_until(lambda: host.events[-2:] == ["failed", "restored"])


def test_a_release_that_nobody_confirms_is_left_by_the_host_itself(upgrading: Host) -> None:
    upgrading.confirm_within = SOON
    assert upgrading.start(TWO, ONE) == {"state": "started", "changed": True, "version": "2.0"}
    went_back(upgrading)
    assert (upgrading.live, upgrading.running) == ("1.0", "1.0")
    failed = upgrading.log[-2]
    assert failed["unconfirmed"] is True
    assert failed["reason"] == "nobody reached it anew and confirmed it within 0.4 seconds"
    wait_until(lambda: not upgrading.home.guard.exists())
    assert upgrading.home.strangers() == []


def test_one_that_is_confirmed_stays_and_has_no_guard_any_more(upgrading: Host) -> None:
    assert upgrading.start(TWO, ONE)["state"] == "started"
    pid = guard_of(upgrading)
    assert upgrading.confirm(TWO, ONE) == {"state": "active", "changed": False, "version": "2.0"}
    assert not runs(pid)
    assert not upgrading.home.guard.exists()


@pytest.mark.parametrize("first", [True, False])
def test_whoever_comes_too_late_hears_of_it(upgrading: Host, first: bool) -> None:
    upgrading.confirm_within = SOON
    upgrading.start(TWO, ONE)
    went_back(upgrading)
    calls = upgrading.calls
    upgrading.unknown = first
    answer = upgrading.start(TWO, ONE) if first else upgrading.confirm(TWO, ONE)
    assert (answer["state"], answer["unconfirmed"], answer["version"]) == ("failed", True, "1.0")
    assert "it went back by itself at 20" in answer["detail"]
    assert upgrading.calls == calls


def test_when_that_is_known_it_is_tried_anew(upgrading: Host) -> None:
    upgrading.confirm_within = SOON
    upgrading.start(TWO, ONE)
    went_back(upgrading)
    upgrading.confirm_within = 60
    assert upgrading.activate(TWO, ONE)["state"] == "active"
    assert upgrading.live == "2.0"
    upgrading.unknown = True
    assert upgrading.activate(TWO, ONE)["state"] == "active"  # of the attempt since it did not go back


def test_a_first_release_goes_and_leaves_none(host: Host) -> None:
    host.stage(ONE)
    host.confirm_within = SOON
    host.start(ONE)
    went_back(host)
    assert (host.live, host.running) == (None, None)
    assert host.confirm(ONE)["state"] == "failed"


def test_one_that_can_not_go_back_says_that_it_is_stuck(host: Host) -> None:
    frail = package("1.0", {"bin/start": b'#!/bin/sh\n[ ! -e "$TIDEGATE_STATE/no" ] && echo 1.0 >"$TIDEGATE_STATE/running"\n'}, hooks=HOOKS)
    host.deploy(frail)
    host.stage(TWO)
    host.confirm_within = SOON
    host.start(TWO, frail)
    (host.home.state / "no").touch()
    wait_until(lambda: host.events[-1] == "failed")
    host.token += 1
    host.unknown = True
    with host.home.locked(30):  # the guard has it while it tries
        answer = activate(host.home, TWO.digest, frail.digest, host.order)
    assert (answer["state"], answer["unconfirmed"]) == ("stuck", True)
    assert "it went back by itself at 20" in answer["detail"]
    assert "going back failed too: hello 1.0: hook start" in answer["detail"]
    assert not host.home.guard.exists()


@pytest.mark.parametrize("looks", ["confirm", "activate"])
def test_a_way_back_that_stopped_before_the_flip_is_no_failure_like_others(upgrading: Host, looks: str) -> None:
    """The release is still the live one, and its own way back would look like that of any that did not last."""
    (upgrading.tree(ONE) / "version").write_text("damaged")
    upgrading.confirm_within = SOON
    upgrading.start(TWO, ONE)
    wait_until(lambda: upgrading.events[-1] == "failed")
    assert upgrading.live == "2.0"
    home = upgrading.home
    upgrading.unknown = looks == "activate"
    with home.locked(30):
        answer = (activate if looks == "activate" else confirm)(home, TWO.digest, ONE.digest, upgrading.order)
    assert (answer["state"], answer["unconfirmed"]) == ("stuck", True)


def test_the_guard_tries_again_while_it_can_not_go_back(host: Host) -> None:
    frail = package("1.0", {"bin/start": b'#!/bin/sh\n[ ! -e "$TIDEGATE_STATE/no" ] && echo 1.0 >"$TIDEGATE_STATE/running"\n'}, hooks=HOOKS)
    host.deploy(frail)
    host.stage(TWO)
    host.confirm_within = SOON
    host.start(TWO, frail)
    (host.home.state / "no").touch()
    wait_until(lambda: host.events.count("failed") == 2)
    (host.home.state / "no").unlink()
    went_back(host)
    assert (host.live, host.running) == ("1.0", "1.0")


def test_a_host_that_was_confirmed_has_no_guard_when_the_wave_is_done_again(upgrading: Host) -> None:
    assert upgrading.activate(TWO, ONE)["state"] == "active"
    assert upgrading.start(TWO, ONE) == {"state": "started", "changed": False, "version": "2.0"}
    assert not upgrading.home.guard.exists()


def test_what_never_began_is_not_taken_back(upgrading: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrading.confirm_within = SOON
    child = os.fork()
    if child == 0:
        append = ReleaseHome.append
        program = os.getpid()

        def killed(home: ReleaseHome, event: str, release_id: Any, **data: Any) -> None:
            if event == "activating" and os.getpid() == program:
                os.kill(program, signal.SIGKILL)
            append(home, event, release_id, **data)

        monkeypatch.setattr(ReleaseHome, "append", killed)
        upgrading.start(TWO, ONE)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    calls = upgrading.calls
    wait_until(lambda: not upgrading.home.guard.exists())
    assert (upgrading.calls, upgrading.events[-1]) == (calls, "staged")


def test_an_activation_that_is_resumed_has_a_guard_of_its_own(upgrading: Host) -> None:
    upgrading.start(TWO, ONE)
    first = guard_of(upgrading)
    assert upgrading.start(TWO, ONE) == {"state": "started", "changed": False, "version": "2.0"}
    assert guard_of(upgrading) != first
    wait_until(lambda: not runs(first))


def test_a_back_out_and_a_failure_end_it(upgrading: Host) -> None:
    upgrading.start(TWO, ONE)
    pid = guard_of(upgrading)
    assert upgrading.back_out(TWO, ONE)["state"] == "backed_out"
    assert not runs(pid)
    sick = package("3.0", health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
    upgrading.stage(sick)
    assert upgrading.start(sick, ONE)["state"] == "failed"
    assert not upgrading.home.guard.exists()


def test_it_waits_for_whoever_has_the_home_and_lets_them_decide(upgrading: Host) -> None:
    upgrading.confirm_within = SOON
    home = upgrading.home
    upgrading.start(TWO, ONE)
    pid = guard_of(upgrading)
    with home.locked(1):
        wait_until(lambda: "flock" in Path(f"/proc/{pid}/wchan").read_text() or len(os.listdir(f"/proc/{pid}/fd")) > 4)  # it tries
        assert upgrading.events[-1] == "started"
        beside.end(home.guard)
    assert not runs(pid)
    assert upgrading.events[-1] == "started"


def test_what_is_interrupted_in_the_middle_is_taken_back_too(upgrading: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrading.confirm_within = SOON
    child = os.fork()
    if child == 0:
        program, flip = os.getpid(), ReleaseHome.flip

        def killed(home: ReleaseHome, release: Any) -> None:
            flip(home, release)
            if os.getpid() == program:
                os.kill(program, signal.SIGKILL)

        monkeypatch.setattr(ReleaseHome, "flip", killed)
        upgrading.start(TWO, ONE)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert upgrading.events[-1] == "activating"
    went_back(upgrading)
    assert (upgrading.live, upgrading.running) == ("1.0", "1.0")


def test_a_host_on_which_there_can_be_none_is_not_touched(upgrading: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "leave_session", lambda: "logind ends a session's processes")
    before = upgrading.calls, upgrading.events
    answer = upgrading.start(TWO, ONE)
    assert (answer["state"], answer["changed"]) == ("failed", False)
    assert "nothing would take this host back by itself (logind ends a session's processes); mend it, or set" in answer["detail"]
    assert (upgrading.calls, upgrading.events, upgrading.live) == (*before, "1.0")
    assert not upgrading.home.guard.exists()


@pytest.mark.parametrize(
    ("kills", "leaves", "problem"),
    [("b false", False, ""), ("", False, "logind may"), ("", True, ""), ("b true", True, ""), ("b true", False, "logind may")],
)
def test_it_leaves_a_login_session_that_ends_with_its_processes(
    kills: str, leaves: bool, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What busctl is asked is written down; whether logind does as it says was not tried here."""
    asked: list[tuple[Any, ...]] = []

    def ask(*arguments: str) -> str:
        asked.append(arguments)
        return kills if arguments[0] == "get-property" else ""

    monkeypatch.setattr(guard, "_LEAVING", 0.1)
    monkeypatch.setattr(guard, "_ask", ask)
    monkeypatch.setattr(guard, "_in_session", lambda: not (leaves and len(asked) > 1))
    assert guard.leave_session().startswith(problem)
    assert [one[0] for one in asked] == (["get-property"] if kills == "b false" else ["get-property", "call"])


def test_a_log_that_goes_on_in_a_new_file_still_says_so(upgrading: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrading.confirm_within = SOON
    upgrading.start(TWO, ONE)
    went_back(upgrading)
    at = upgrading.home.unconfirmed("hello-1")
    assert at
    assert upgrading.home.unconfirmed("hello-2") == ""
    monkeypatch.setattr(home_log, "LIMIT", 2 * (upgrading.home.path / "log.jsonl").stat().st_size)
    while upgrading.log[0]["event"] != "summary":
        upgrading.home.append("staged", ONE.id)
        upgrading.home.roll()
    assert upgrading.home.unconfirmed("hello-1") == at
    older = {key: value for key, value in upgrading.home.history().summary().items() if key != "unconfirmed"}
    assert home_log.History.of_summary(older) is not None


def test_its_way_back_believes_nothing_that_the_order_knew_of_packages(upgrading: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are another release's since, and those that look alike would stay."""
    seen = upgrading.root.with_name("seen")

    def fall_back(_home: Any, _target: Any, _before: Any, order: Any, *_more: Any, **_marks: Any) -> dict[str, Any]:
        seen.write_text(repr(order.packages_of))
        return {"state": "failed"}

    monkeypatch.setattr(activation, "fall_back", fall_back)
    real = activation.make_ready

    def make_ready(home: Any, target: Any, before: Any, order: Any, watched: Any) -> Any:
        ready = real(home, target, before, order, watched)
        order.packages_of = before
        return ready

    monkeypatch.setattr(activation, "make_ready", make_ready)
    upgrading.confirm_within = SOON
    upgrading.start(TWO, ONE)
    wait_until(seen.exists)
    wait_until(lambda: not upgrading.home.guard.exists())
    assert seen.read_text() == "None"
