# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An armed host switches at the instant that it is told, in time and by whoever armed it, and changes nothing without that."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import beside, instant
from ansible_collections.tidegate.release.plugins.module_utils.activation import back_out
from ansible_collections.tidegate.release.plugins.module_utils.home_log import HomeLog
from ansible_collections.tidegate.release.plugins.module_utils.instant import await_switch
from ansible_collections.tidegate.release.plugins.module_utils.processes import start_time
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from ansible_collections.tidegate.release.plugins.module_utils.release_hooks import Terms
from bed import HOOKS, Host, package
from waiting import wait_until

ONE, TWO = package("1.0"), package("2.0")
QUIET = {"name": "true", "command": ["true"], "timeout": 5}
AHEAD = 0.2
MILLISECOND = 0.001  # to which the log is


@pytest.fixture
def armed(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """1.0 is live, and the host is armed for 2.0."""
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    host.terms = Terms(60, 30)  # a busy machine is no fault here
    host.deploy(ONE)
    host.stage(TWO)
    assert host.arm(TWO, ONE)["state"] == "armed"
    return host


def tell(host: Host, seconds: float) -> dict[str, Any]:
    """Tell a host the instant in so many seconds."""
    return host.tell(time.time() + seconds)


def unchanged(host: Host) -> bool:
    return (host.live, host.running, host.events[-2:]) == ("1.0", "1.0", ["active", "staged"])


def said(host: Host) -> dict[str, Any]:
    try:
        return dict(json.loads(host.home.armed.read_text()))
    except (OSError, ValueError):
        return {}


def not_switched(host: Host, why: str) -> None:
    answer = host.collect(TWO, ONE)
    assert answer["state"] == "failed"
    assert answer["detail"].startswith("it did not switch at the instant: ")
    assert why in answer["detail"]
    assert unchanged(host)
    assert host.home.strangers() == []
    assert not host.home.armed.exists()
    assert not host.home.instant.exists()


def test_it_switches_at_the_instant_by_its_own_clock(armed: Host) -> None:
    assert tell(armed, 2 * AHEAD)["state"] == "told"
    assert armed.collect(TWO, ONE) == {"state": "started", "changed": True, "version": "2.0"}
    assert armed.confirm(TWO, ONE)["state"] == "active"
    assert (armed.live, armed.running) == ("2.0", "2.0")
    assert armed.events[-3:] == ["activating", "started", "active"]
    assert armed.home.strangers() == []


def test_without_a_word_it_changes_nothing_and_disarms_itself(armed: Host) -> None:
    not_switched(armed, "it was still waiting for the instant")
    armed.terms = Terms(0.2, 0.25)
    armed.arm(TWO, ONE)
    wait_until(lambda: said(armed).get("why"))
    not_switched(armed, "nobody said the instant within 0.2 seconds")


@pytest.mark.parametrize("word", [{"token": 7}, {"token": 0}, {"token": None}, {"deployment": "other-1"}, None])
def test_a_word_of_somebody_else_is_none(armed: Host, word: dict[str, Any] | None) -> None:
    """Of an older or a later controller, of another deployment, or half of one."""
    at = time.time() + 2 * AHEAD
    armed.home.instant.write_text("{" if word is None else json.dumps({"at": at, "token": 1, "deployment": "hello-1", **word}))
    wait_until(lambda: time.time() > at + 2 * instant._INTERVAL)
    assert beside.alive(armed.home.armed)
    assert said(armed).keys() == {"group"}
    armed.home.instant.unlink()
    not_switched(armed, "it was still waiting")


def test_the_word_of_a_controller_that_was_superseded_is_refused(armed: Host) -> None:
    armed.home.fence(2)
    with pytest.raises(HostError, match="another controller has taken this deployment over"):
        tell(armed, 60)


def test_a_superseded_controller_arms_and_collects_nothing(armed: Host) -> None:
    armed.home.fence(9)
    for late in (armed.arm, armed.arm_back, armed.collect):
        with pytest.raises(HostError, match="another controller has taken this deployment over"):
            late(TWO, ONE)
        assert beside.alive(armed.home.armed)
    armed.token = 9
    not_switched(armed, "it was still waiting")


def test_no_file_of_the_home_has_a_secret_while_it_waits(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    secret = "hunter2-of-this-host"  # noqa: S105 - made up
    two = package("2.0", settings={"password": None})
    host.deploy(ONE)
    host.stage(two)
    host.settings, host.terms, host.confirm_within = {"password": secret}, Terms(60, 30), 60

    def having() -> list[Path]:
        return [path for path in host.root.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")]

    host.arm(two, ONE)
    assert having() == []
    tell(host, 60)
    wait_until(lambda: beside.alive(host.home.guard))
    assert having() == []
    assert beside.alive(host.home.armed)


def test_a_host_is_told_in_time_or_not_at_all(armed: Host) -> None:
    answer = tell(armed, -1)
    assert answer["state"] == "failed"
    assert "has to know 0.2 seconds before" in answer["detail"]
    assert tell(armed, 60)["state"] == "failed"  # it was disarmed
    not_switched(armed, "is gone")


@pytest.mark.parametrize("told", [True, False])
def test_what_waits_may_be_killed_and_nothing_has_changed(armed: Host, told: bool) -> None:
    if told:
        tell(armed, 60)
    os.kill(int(said(armed)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(armed.home.armed))
    not_switched(armed, "what waited there for the instant is gone")


def test_a_host_has_its_guard_before_the_instant_and_none_when_it_did_not_switch(armed: Host) -> None:
    armed.confirm_within = 60
    armed.arm(TWO, ONE)
    tell(armed, 60)
    wait_until(lambda: beside.alive(armed.home.guard))
    assert armed.live == "1.0"
    os.kill(int(said(armed)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(armed.home.armed))
    not_switched(armed, "what waited there for the instant is gone")
    assert not beside.alive(armed.home.guard)


def test_the_guard_of_a_host_that_did_not_switch_finds_nothing_to_do(armed: Host) -> None:
    armed.confirm_within = 0.1
    armed.arm(TWO, ONE)
    tell(armed, 2)
    wait_until(lambda: beside.alive(armed.home.guard))
    os.kill(int(said(armed)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(armed.home.guard))
    assert unchanged(armed)
    not_switched(armed, "what waited there for the instant is gone")


def test_who_is_not_confirmed_goes_back_when_its_time_after_the_instant_is_over(armed: Host) -> None:
    """Which is the same moment on all hosts, whenever each has got ready: here before that time was over once since then."""
    armed.confirm_within = 1
    armed.arm(TWO, ONE)
    tell(armed, 2)
    at = float(json.loads(armed.home.instant.read_text())["at"])
    assert armed.collect(TWO, ONE)["state"] == "started"
    wait_until(lambda: armed.live == "1.0" and not beside.alive(armed.home.guard))
    (went,) = [datetime.fromisoformat(event["at"]).timestamp() for event in armed.log if event["event"] == "failed"]
    assert went >= at + 1 - MILLISECOND
    assert armed.confirm(TWO, ONE)["unconfirmed"] is True


@pytest.mark.parametrize("asked", [True, False])
def test_one_that_went_back_by_itself_says_so_when_nobody_knows(armed: Host, asked: bool) -> None:
    """Also when its answer of the instant is gone; or it would be switched once more, before a person has seen that."""
    armed.confirm_within = 0.2
    armed.arm(TWO, ONE)
    tell(armed, 2 * AHEAD)
    await_switch(armed.home, 30)
    if asked:
        armed.collect(TWO, ONE)
    wait_until(lambda: armed.live == "1.0" and not beside.alive(armed.home.guard))
    armed.unknown = True
    answer = armed.collect(TWO, ONE)
    assert (answer["state"], answer["changed"], answer["unconfirmed"]) == ("failed", True, True)
    assert answer["detail"].startswith("it went back by itself at 20")


@pytest.fixture
def poised(armed: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The host has been told an instant, has got ready for it, and looks at nothing any more until it is there."""
    monkeypatch.setattr(instant, "_POISED", 60)
    monkeypatch.setattr(instant, "_FINE", 60)
    armed.arm(TWO, ONE)
    tell(armed, 2)
    wait_until(lambda: "begins" in said(armed))
    assert armed.live == "1.0"
    return armed


def test_what_is_got_ready_before_the_instant_is_left_by_a_kill_and_is_no_change(poised: Host) -> None:
    assert (poised.home.path / ".current.new").is_symlink()
    os.kill(int(said(poised)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(poised.home.armed))
    not_switched(poised, "what waited there for the instant is gone")
    assert poised.activate(TWO, ONE)["state"] == "active"


def test_one_that_is_disarmed_at_the_last_moment_does_not_begin(poised: Host) -> None:
    poised.home.armed.unlink()
    with poised.home.locked(30):  # which who waits has to the end
        pass
    assert unchanged(poised)


@pytest.mark.parametrize("by", [-3600, 3600])
def test_a_clock_that_is_stepped_at_the_last_moment_disarms(host: Host, monkeypatch: pytest.MonkeyPatch, by: int) -> None:
    real, flag = time.time, host.root / "stepped"
    monkeypatch.setattr(instant, "_POISED", 60)
    monkeypatch.setattr(instant, "_FINE", 60)
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    monkeypatch.setattr(time, "time", lambda: real() + (by if flag.exists() else 0))
    host.deploy(ONE)
    host.stage(TWO)
    host.arm(TWO, ONE)
    tell(host, 2)
    wait_until(lambda: "begins" in said(host))
    flag.touch()
    wait_until(lambda: said(host).get("why"))
    flag.unlink()
    not_switched(host, f"its clock was stepped by {by:+d}")


def test_one_whose_log_can_not_be_written_at_the_instant_does_not_begin(armed: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = HomeLog.append

    def append(home: HomeLog, event: str, *about: Any, **data: Any) -> None:
        if event == "activating":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(home, event, *about, **data)

    monkeypatch.setattr(HomeLog, "append", append)
    armed.arm(TWO, ONE)
    tell(armed, 2 * AHEAD)
    wait_until(lambda: said(armed).get("why"))
    not_switched(armed, f"{armed.home.path}: Read-only file system; mend the host")


def test_what_it_runs_at_the_instant_does_not_go_before_others_as_it_does(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    host.terms = Terms(60, 30)
    policy = b'#!/bin/sh\ncut -d" " -f41 /proc/$$/stat >>"$TIDEGATE_STATE/policies"\n'
    one, two = (package(version, {"bin/start": policy, "bin/stop": policy}, health=[QUIET]) for version in ("1.0", "2.0"))
    host.deploy(one)
    host.stage(two)
    host.arm(two, one)
    tell(host, 2 * AHEAD)
    assert host.collect(two, one)["state"] == "started"
    assert (host.home.state / "policies").read_text().split() == ["0", "0", "0"]


@pytest.mark.parametrize("until", ["flip", "hook"])
def test_it_goes_first_until_the_flip_or_the_first_hook(host: Host, until: str) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    home = host.home
    target = home.find(TWO.digest)
    assert target is not None
    own = os.sched_getscheduler(0)
    rights = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())["CapEff"]
    may = int(rights, 16) >> 23 & 1  # CAP_SYS_NICE, which root does not have in every container
    try:
        home.poise(target)
        home.go_first()
        policy = os.sched_getscheduler(0)
        if until == "flip":
            home.flip(target)
        else:
            with home.running_hook("stop"):
                pass
        assert os.sched_getscheduler(0) == own | policy & os.SCHED_RESET_ON_FORK
        assert policy == (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK if may else own)
    finally:
        os.sched_setscheduler(0, own, os.sched_param(0))


def test_a_clock_that_is_stepped_disarms(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    real, flag = time.time, host.root / "stepped"
    monkeypatch.setattr(time, "time", lambda: real() - (3600 if flag.exists() else 0))
    host.arm(TWO, ONE)
    flag.touch()
    wait_until(lambda: said(host).get("why"))
    flag.unlink()
    not_switched(host, "its clock was stepped by -3")


def test_one_that_wakes_too_late_does_not_begin(armed: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_sleep_until", lambda at, *_: time.sleep(max(0.0, at - time.time()) + 0.5) or "")
    armed.terms = Terms(60, 0.25)
    armed.arm(TWO, ONE)
    tell(armed, 2 * AHEAD)
    wait_until(lambda: said(armed).get("why"))
    not_switched(armed, "after the instant")


def test_a_release_that_does_not_come_up_has_failed_and_the_one_before_is_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    host.terms = Terms(60, 30)
    sick = package("2.0", health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
    host.deploy(ONE)
    host.stage(sick)
    host.arm(sick, ONE)
    tell(host, 2 * AHEAD)
    answer = host.collect(sick, ONE)
    assert (answer["state"], answer["version"], host.running) == ("failed", "1.0", "1.0"), answer
    assert "health check 'runs'" in answer["detail"]


def test_what_is_changed_while_it_waits_is_put_right_before_it_switches(armed: Host) -> None:
    (armed.tree(TWO) / "version").write_text("somebody's own")
    tell(armed, 2 * AHEAD)
    answer = armed.collect(TWO, ONE)
    assert answer["state"] == "failed"  # it has no good copy, and nobody to ask
    assert unchanged(armed)


def test_an_armed_host_that_is_armed_again_waits_once(armed: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited before is gone by then, although it could not find out by itself that nobody wants it any more."""
    monkeypatch.setattr(beside, "_PATIENCE", 0.2)
    first = int(said(armed)["group"])
    os.killpg(first, signal.SIGSTOP)
    armed.token = 2
    armed.arm(TWO, ONE)
    wait_until(lambda: start_time(first) == "", 10)
    assert int(said(armed)["group"]) != first
    tell(armed, 2 * AHEAD)
    assert armed.collect(TWO, ONE)["state"] == "started"


def test_the_clock_is_what_the_kernel_says_of_it() -> None:
    answer = instant.clock()
    assert isinstance(answer["synchronised"], bool)
    assert answer["error"] >= 0


def test_an_instant_that_is_further_away_than_it_waits_is_refused(armed: Host) -> None:
    answer = tell(armed, 3600)
    assert answer["state"] == "failed"
    assert "seconds away, more than it waits" in answer["detail"]
    not_switched(armed, "is gone")


def test_a_switch_that_has_begun_is_waited_for_however_long_it_takes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    host.terms = Terms(60, 30)
    slow = package("2.0", {"bin/start": b'#!/bin/sh\nsleep 2\necho "$TIDEGATE_VERSION" >"$TIDEGATE_STATE/running"\n'})
    host.deploy(ONE)
    host.stage(slow)
    host.arm(slow, ONE)
    tell(host, 2 * AHEAD)
    wait_until(lambda: "begins" in said(host))
    await_switch(host.home, -60)
    assert "answer" in said(host)
    assert host.collect(slow, ONE)["state"] == "started"


def test_a_switch_that_was_interrupted_goes_back(armed: Host) -> None:
    armed.home.append("activating", TWO.id)  # and then the machine lost its power
    armed.home.flip(armed.home.find(TWO.digest))
    os.kill(int(said(armed)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(armed.home.armed))
    answer = armed.collect(TWO, ONE)
    assert (answer["state"], armed.live, armed.running) == ("failed", "1.0", "1.0")
    assert "its switch at the instant was interrupted" in answer["detail"]


def test_who_waits_leaves_a_login_session_or_nobody_is_armed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "leave_session", lambda: "logind ends a session's processes")
    host.deploy(ONE)
    host.stage(TWO)
    with pytest.raises(HostError, match="nothing can wait here for the instant"):
        host.arm(TWO, ONE)
    assert unchanged(host)


def test_the_hook_prepare_runs_once_for_a_switch(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant, "_AHEAD", AHEAD)
    host.terms = Terms(60, 30)
    hooks = {**HOOKS, "prepare": {"command": ["bin/prepare"], "timeout": 5}}
    two = package("2.0", {"bin/prepare": b'#!/bin/sh\necho prepare >>"$TIDEGATE_STATE/calls"\n'}, hooks=hooks)
    host.deploy(ONE)
    host.stage(two)
    host.arm(two, ONE)
    tell(host, 2 * AHEAD)
    assert host.collect(two, ONE)["state"] == "started"
    assert host.calls == ["start 1.0", "prepare", "stop 1.0", "start 2.0"]


# --- going back at one instant ------------------------------------------------------------------------------------------------------


@pytest.fixture
def upgraded(armed: Host) -> Host:
    """2.0 is live, and 1.0 was before; the host is armed to go back."""
    tell(armed, 2 * AHEAD)
    armed.collect(TWO, ONE)
    armed.confirm(TWO, ONE)
    assert armed.arm_back(TWO, ONE)["state"] == "armed"
    assert (armed.live, armed.running) == ("2.0", "2.0")
    return armed


def returned(host: Host, changed: bool) -> bool:
    await_switch(host.home, 30)
    answer = host.back_out(TWO, ONE)
    assert (answer["state"], answer["changed"]) == ("backed_out", changed), answer
    assert not host.home.armed.exists()
    return (host.live, host.running, host.home.strangers()) == ("1.0", "1.0", [])


def test_it_goes_back_at_the_instant_by_its_own_clock(upgraded: Host) -> None:
    assert tell(upgraded, 2 * AHEAD)["state"] == "told"
    assert returned(upgraded, changed=False)


def test_without_a_word_it_stays_until_its_turn_comes(upgraded: Host) -> None:
    assert returned(upgraded, changed=True)


def test_what_waits_to_go_back_may_be_killed(upgraded: Host) -> None:
    tell(upgraded, 60)
    os.kill(int(said(upgraded)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(upgraded.home.armed))
    assert returned(upgraded, changed=True)


def test_a_way_back_that_was_interrupted_is_gone_to_its_end(upgraded: Host) -> None:
    os.kill(int(said(upgraded)["group"]), signal.SIGKILL)
    wait_until(lambda: not beside.alive(upgraded.home.armed))
    upgraded.home.append("backed_out", TWO.id)  # and then the machine lost its power
    upgraded.home.flip(upgraded.home.find(ONE.digest))
    assert returned(upgraded, changed=True)


def test_what_is_changed_while_it_waits_to_go_back_is_put_right_before(upgraded: Host) -> None:
    before = upgraded.home.find(ONE.digest)
    assert before is not None
    version = before.tree / "version"
    version.chmod(0o644)
    version.write_text("9.9")
    tell(upgraded, 2 * AHEAD)
    await_switch(upgraded.home, 30)
    assert "are not as archived" in said(upgraded)["why"]  # the controller's copies are gone, and come again when its turn does
    answer, _trips = upgraded.switch(back_out, TWO, ONE)
    assert (answer["state"], upgraded.live, upgraded.running) == ("backed_out", "1.0", "1.0")
    assert version.read_text() == "1.0"


def test_one_that_is_back_already_waits_for_no_instant(upgraded: Host) -> None:
    upgraded.back_out(TWO, ONE)
    assert upgraded.arm_back(TWO, ONE) == {"state": "backed_out", "changed": False, "version": "1.0"}
    assert not upgraded.home.armed.exists()
