# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activation and back-out: a host ends with the new release or the old one, whole, whatever goes wrong when."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, ReleaseHome
from bed import HEALTH, HOOKS, Host, Package, killed_everywhere, package

ONE = package("1.0")
TWO = package("2.0")


def _hook(name: str, text: str, timeout: float = 10, **files: Any) -> Package:
    """Version 2.0 with another hook."""
    hooks = {**HOOKS, name: {"command": [f"bin/{name}"], "timeout": timeout}}
    return package("2.0", {f"bin/{name}": b"#!/bin/sh\n" + text.encode(), **files}, hooks=hooks)


SICK = package("2.0", health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])


# -- the good case ----------------------------------------------------------


def test_a_first_activation_and_an_upgrade(host: Host) -> None:
    assert host.deploy(ONE) == {"state": "active", "changed": True, "version": "1.0"}
    assert host.deploy(TWO, ONE) == {"state": "active", "changed": True, "version": "2.0"}
    assert (host.live, host.running) == ("2.0", "2.0")
    assert host.calls == ["start 1.0", "stop 1.0", "start 2.0"]
    assert host.events == ["staged", "activating", "started", "active"] * 2
    assert os.readlink(host.home.current) == f"releases/{TWO.id}/tree"


def test_a_second_activation_does_not_restart_the_service(host: Host) -> None:
    host.deploy(ONE)
    before = host.calls
    assert host.activate(ONE) == {"state": "active", "changed": False, "version": "1.0"}
    assert host.calls == before


def test_a_second_activation_of_a_service_that_died_starts_it(host: Host) -> None:
    host.deploy(ONE)
    (host.home.state / "running").unlink()
    assert host.activate(ONE)["changed"] is True
    assert host.running == "1.0"


def test_prepare_runs_while_the_old_release_still_serves(host: Host) -> None:
    host.deploy(ONE)
    assert host.deploy(_hook("prepare", 'cp "$TIDEGATE_STATE/running" "$TIDEGATE_STATE/seen"'), ONE)["state"] == "active"
    assert (host.home.state / "seen").read_text() == "1.0\n"


# -- a release that does not come up ----------------------------------------

BROKEN = {
    "start fails": _hook("start", "echo broken; exit 3"),
    "start can't be run": package("2.0", {"lib": b"x"}, hooks={**HOOKS, "start": {"command": ["version"], "timeout": 5}}),
    "start does not exist": package("2.0", hooks={**HOOKS, "start": {"command": ["bin/none"], "timeout": 5}}),
    "start hangs": _hook("start", "sleep 60", 0.3),
    "start is killed": _hook("start", "kill -9 $$"),
    "health fails": SICK,
    "stop fails too": package(
        "2.0", {"bin/stop": b"#!/bin/sh\nexit 1\n"}, health=[{"name": "runs", "command": ["false"], "timeout": 0.01}]
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_previous_release_comes_back(host: Host, what: str) -> None:
    host.deploy(ONE)
    answer = host.deploy(BROKEN[what], ONE)
    assert (answer["state"], answer["changed"], answer["version"]) == ("failed", True, "1.0")
    assert answer["detail"]
    assert (host.live, host.running) == ("1.0", "1.0")
    assert host.home.stable() == ONE.id
    assert host.events[-3:] == ["activating", "failed", "restored"]


@pytest.mark.parametrize("what", BROKEN)
def test_a_first_install_that_fails_leaves_nothing_live(host: Host, what: str) -> None:
    answer = host.deploy(BROKEN[what])
    assert (answer["state"], answer["version"]) == ("failed", None)
    assert host.live is None
    assert not os.path.lexists(host.home.current)
    assert host.home.stable() is None
    assert host.back_out(BROKEN[what])["changed"] is False


def test_the_reason_names_the_hook_and_what_it_said(host: Host) -> None:
    assert host.deploy(BROKEN["start fails"])["detail"] == "hook start of hello 2.0: bin/start ended with status 3: broken"


def test_a_previous_release_that_does_not_come_back_is_said(host: Host) -> None:
    one = package("1.0", {"bin/start": b'#!/bin/sh\n[ ! -e "$TIDEGATE_STATE/no" ] && echo 1.0 >"$TIDEGATE_STATE/running"\n'})
    host.deploy(one)
    host.stage(SICK)
    (host.home.state / "no").touch()
    answer = host.activate(SICK, one)
    assert (answer["state"], answer["changed"]) == ("stuck", True)
    assert "damaged" not in answer
    assert "health check 'runs'" in answer["detail"]
    assert "going back failed too: hello 1.0: hook start of hello 1.0" in answer["detail"]
    owed = host.back_out(SICK, one)
    assert (owed["state"], owed["version"]) == ("owed", "1.0")
    (host.home.state / "no").unlink()
    assert host.back_out(SICK, one) == {"state": "backed_out", "changed": True, "version": "1.0"}
    assert host.running == "1.0"


def test_a_failing_prepare_leaves_the_running_service_alone(host: Host) -> None:
    host.deploy(ONE)
    before = host.calls
    answer = host.deploy(_hook("prepare", "exit 1"), ONE)
    assert (answer["state"], answer["changed"], answer["version"]) == ("failed", False, "1.0")
    assert "hook prepare" in answer["detail"]
    assert (host.calls, host.running, host.live) == (before, "1.0", "1.0")
    assert host.back_out(TWO, ONE)["changed"] is False


def test_a_failing_prepare_after_an_interruption_brings_the_previous_release_back(host: Host) -> None:
    host.deploy(ONE)
    two = _hook("prepare", '[ ! -e "$TIDEGATE_STATE/no" ]')
    host.stage(two)
    _kill_at_event(host, lambda: host.activate(two, ONE), "after the flip")
    (host.home.state / "no").touch()
    answer = host.activate(two, ONE)
    assert (answer["state"], answer["changed"]) == ("failed", True)
    assert (host.live, host.running) == ("1.0", "1.0")


def test_a_dead_release_whose_stop_hook_fails_is_replaced(host: Host) -> None:
    old = package("1.0", {"bin/stop": b"#!/bin/sh\nexit 1\n"})
    host.deploy(old)
    (host.home.state / "running").unlink()
    assert host.deploy(TWO, old)["state"] == "active"


def test_a_release_that_can_not_be_stopped_and_still_serves_is_not_passed_off_as_gone(host: Host) -> None:
    host.deploy(ONE)
    two = _hook("stop", "exit 1")
    host.deploy(two, ONE)
    answer = host.back_out(two, ONE)
    assert (answer["state"], host.live, host.running) == ("owed", "2.0", "2.0")
    (host.home.state / "running").unlink()  # somebody ended it by hand
    assert host.back_out(two, ONE)["state"] == "backed_out"
    assert (host.live, host.running) == ("1.0", "1.0")


def test_a_host_to_which_nothing_can_be_written_is_not_touched(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    (host.home.path / ".room").mkdir()  # in whose place something small would be written
    before = host.events
    answer = host.activate(TWO, ONE)
    assert (answer["state"], answer["changed"], host.live, host.running) == ("failed", False, "1.0", "1.0")
    assert "nothing can be written to" in answer["detail"]
    assert host.events == before
    (host.home.path / ".room").rmdir()
    assert host.activate(TWO, ONE)["state"] == "active"
    assert host.home.strangers() == []


@pytest.mark.parametrize(("says", "state"), [(errno.ENOSPC, "failed"), (errno.EDQUOT, "failed"), (errno.EOPNOTSUPP, "active")])
def test_room_is_written_where_the_file_system_can_not_put_it_aside(
    host: Host, monkeypatch: pytest.MonkeyPatch, says: int, state: str
) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    written: list[int] = []

    def fallocate(descriptor: int, _offset: int, _length: int) -> None:
        written.append(descriptor)
        raise OSError(says, os.strerror(says))

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    answer = host.activate(TWO, ONE)
    assert written
    assert answer["state"] == state
    assert ("make room there" in answer.get("detail", "")) == (state == "failed")
    assert host.running == ("1.0" if state == "failed" else "2.0")


def test_a_full_disk_at_the_last_entry_of_the_log_brings_the_old_release_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    append = ReleaseHome.append

    def full(home: ReleaseHome, event: str, release_id: str | None, **data: Any) -> None:
        if event != "activating":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(home, event, release_id, **data)

    monkeypatch.setattr(ReleaseHome, "append", full)
    answer = host.activate(TWO, ONE)
    assert (answer["state"], host.live, host.running) == ("failed", "1.0", "1.0")
    assert "No space left" in answer["detail"]
    assert host.home.stable() == ONE.id


# -- hooks that misbehave ---------------------------------------------------


def test_a_hook_that_floods_is_stopped_and_its_last_words_are_kept_short(host: Host) -> None:
    answer = host.deploy(_hook("start", "exec cat /dev/zero", 30))
    assert "wrote more than 64 MiB" in answer["detail"]
    assert len(answer["detail"]) < 2200


def test_what_a_hook_says_can_not_drive_a_terminal(host: Host) -> None:
    detail = host.deploy(_hook("start", r"printf '\033[2J\a\377bad'; exit 1"))["detail"]
    assert detail.endswith("?[2J?\ufffdbad")


def test_a_module_that_is_told_to_hang_up_does_not_make_hooks_deaf(host: Host) -> None:
    before = signal.signal(signal.SIGHUP, lambda _signum, _frame: None)
    try:
        host.deploy(_hook("start", 'kill -HUP $$; echo 2.0 >"$TIDEGATE_STATE/running"'))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "signal 1" in host.log[-2]["reason"]


# -- interruptions ----------------------------------------------------------


def _kill_at_event(host: Host, action: Callable[[], object], when: str) -> None:
    """Kill a child in the middle of a switch."""
    child = os.fork()
    if child == 0:
        try:
            flip, append = ReleaseHome.flip, ReleaseHome.append

            def die(*_args: object) -> None:
                os.kill(os.getpid(), signal.SIGKILL)

            def flip_and_die(home: ReleaseHome, release: Any) -> None:
                flip(home, release)
                die()

            def append_or_die(home: ReleaseHome, event: str, release_id: str | None, **data: Any) -> None:
                if event in ("active", "restored"):
                    die()
                append(home, event, release_id, **data)

            if when == "after the stop":
                ReleaseHome.flip = die  # type: ignore[assignment]
            elif when == "after the flip":
                ReleaseHome.flip = flip_and_die  # type: ignore[method-assign]
            else:
                ReleaseHome.append = append_or_die  # type: ignore[method-assign]
            action()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("when", ["after the stop", "after the flip", "before the log entry"])
@pytest.mark.parametrize("first", [True, False], ids=["first install", "upgrade"])
@pytest.mark.parametrize("way", ["forward", "back"])
def test_killed_between_two_steps(host: Host, when: str, first: bool, way: str) -> None:
    previous = None if first else ONE
    if previous:
        host.deploy(previous)
    host.stage(TWO)
    _kill_at_event(host, lambda: host.activate(TWO, previous), when)
    assert host.home.stable() == (previous.id if previous else None)
    if way == "forward":
        assert host.activate(TWO, previous)["state"] == "active"
        assert (host.live, host.running, host.home.stable()) == ("2.0", "2.0", TWO.id)
    else:
        assert host.back_out(TWO, previous)["state"] == "backed_out"
        version = previous.version if previous else None
        assert (host.live, host.running) == (version, version)


@pytest.mark.parametrize("way", ["forward", "back"])
@pytest.mark.parametrize("first", [True, False], ids=["first install", "upgrade"])
def test_killed_before_any_change_of_an_activation(tmp_path: Path, first: bool, way: str) -> None:
    _kill_everywhere(tmp_path, first, way, lambda host, previous: host.activate(TWO, previous), staged=True)


@pytest.mark.parametrize("way", ["forward", "back"])
@pytest.mark.parametrize("first", [True, False], ids=["first install", "upgrade"])
def test_killed_before_any_change_of_a_failing_activation(tmp_path: Path, first: bool, way: str) -> None:
    _kill_everywhere(tmp_path, first, way, lambda host, previous: host.activate(SICK, previous), staged=True, sick=True)


@pytest.mark.parametrize("way", ["forward", "back"])
@pytest.mark.parametrize("first", [True, False], ids=["first install", "upgrade"])
def test_killed_before_any_change_of_a_back_out(tmp_path: Path, first: bool, way: str) -> None:
    _kill_everywhere(tmp_path, first, way, lambda host, previous: host.back_out(TWO, previous), staged=False)


def _kill_everywhere(
    tmp_path: Path, first: bool, way: str, action: Callable[[Host, Package | None], object], staged: bool, sick: bool = False
) -> None:
    previous = None if first else ONE
    version = previous.version if previous else None
    what = SICK if sick else TWO

    def prepare(host: Host) -> None:
        if previous:
            host.deploy(previous)
        host.stage(what)
        if not staged:
            host.activate(what, previous)

    steps = 0
    for host in killed_everywhere(tmp_path / "root", prepare, lambda host: action(host, previous)):
        steps += 1
        host.assert_whole()
        assert host.live in ("2.0", version)
        if way == "forward" and not sick:
            assert host.activate(what, previous)["state"] == "active"
            assert (host.live, host.running, host.home.stable()) == ("2.0", "2.0", what.id)
        else:
            if way == "forward":
                assert host.activate(what, previous)["state"] == "failed"
            else:
                assert host.back_out(what, previous)["state"] == "backed_out"
            assert (host.live, host.running) == (version, version)
            assert host.home.stable() == (previous.id if previous else None)
    assert steps > 5


def test_a_switch_that_was_interrupted_is_finished_though_the_service_seems_well(host: Host) -> None:
    one = package("1.0", {"bin/stop": b"#!/bin/sh\n"})  # ends it later
    host.deploy(one)
    host.stage(TWO)
    _kill_at_event(host, lambda: host.activate(TWO, one), "after the stop")
    assert host.back_out(TWO, one)["changed"] is True
    assert host.calls == ["start 1.0", "start 1.0"]


def test_after_an_interruption_neither_what_is_live_nor_the_last_stable_release_is_swept(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    _kill_at_event(host, lambda: host.activate(TWO, ONE), "after the flip")
    three = package("3.0")
    host.stage(three, keep=1)
    assert {release.id for release in host.home.all()} == {ONE.id, TWO.id, three.id}


# -- refusals ---------------------------------------------------------------


def _nothing_happens(host: Host, action: Callable[[], object], match: str) -> None:
    before = (host.calls, host.events, host.live, host.running)
    with pytest.raises(HostError, match=match):
        action()
    assert (host.calls, host.events, host.live, host.running) == before


def test_what_was_not_staged_is_refused(host: Host) -> None:
    host.deploy(ONE)
    _nothing_happens(host, lambda: host.activate(TWO, ONE), "not staged here")


def test_a_live_release_that_the_journal_does_not_know_is_refused(host: Host) -> None:
    three = package("3.0")
    host.deploy(ONE)
    host.deploy(three, ONE)
    host.stage(TWO)
    _nothing_happens(host, lambda: host.activate(TWO, ONE), "3.0 is live here, which the journal does not know of")
    _nothing_happens(host, lambda: host.activate(TWO), "3.0 is live here")
    _nothing_happens(host, lambda: host.back_out(TWO, ONE), "3.0 is live here")


def test_a_live_release_that_was_taken_away_is_refused_but_a_back_out_brings_it_back(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    host.home.current.unlink()
    _nothing_happens(host, lambda: host.activate(TWO, ONE), "1.0 should be live here but nothing is")
    assert host.back_out(TWO, ONE)["state"] == "backed_out"
    assert (host.live, host.running) == ("1.0", "1.0")


def test_a_previous_release_that_is_gone_is_refused(host: Host) -> None:
    host.deploy(TWO)
    _nothing_happens(host, lambda: host.activate(TWO, ONE), "no longer on this host")
    _nothing_happens(host, lambda: host.back_out(TWO, ONE), "no longer on this host")


def test_a_superseded_controller_is_refused(host: Host) -> None:
    host.stage(ONE)
    host.token = 7
    assert host.back_out(ONE)["changed"] is False  # nothing to do, but it was here
    host.token = 6
    _nothing_happens(host, lambda: host.activate(ONE), "taken this deployment over")
    _nothing_happens(host, lambda: host.back_out(ONE), "taken this deployment over")
    host.token = 7
    assert host.activate(ONE)["state"] == "active"


def test_a_damaged_token_is_refused(host: Host) -> None:
    host.stage(ONE)
    (host.home.path / "token").write_text("x")
    _nothing_happens(host, lambda: host.activate(ONE), "token is damaged")


def test_a_lock_is_waited_for_and_then_reported(host: Host) -> None:
    host.stage(ONE)
    with (host.home.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = subprocess.Popen(["sleep", "1.5"], pass_fds=[lock.fileno()])
    with pytest.raises(HostError, match=r"more than 0\.3 s"), host.home.locked(0.3):
        pass
    with host.home.locked(60):
        holder.wait()


# -- backing out ------------------------------------------------------------


def test_an_untouched_host_is_left_alone(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    before = host.calls
    assert host.back_out(TWO, ONE) == {"state": "backed_out", "changed": False, "version": "1.0"}
    assert host.calls == before
    assert host.events == ["staged", "activating", "started", "active", "staged"]


def test_a_finished_upgrade_is_backed_out(host: Host) -> None:
    host.deploy(ONE)
    host.deploy(TWO, ONE)
    assert host.back_out(TWO, ONE) == {"state": "backed_out", "changed": True, "version": "1.0"}
    assert (host.live, host.running, host.home.stable()) == ("1.0", "1.0", ONE.id)
    assert host.calls[-2:] == ["stop 2.0", "start 1.0"]
    assert host.back_out(TWO, ONE)["changed"] is False


def test_a_first_install_is_backed_out_to_nothing(host: Host) -> None:
    host.deploy(ONE)
    assert host.back_out(ONE) == {"state": "backed_out", "changed": True, "version": None}
    assert (host.live, host.running, host.home.stable()) == (None, None, None)
    assert host.calls[-1] == "stop 1.0"
    assert host.back_out(ONE)["changed"] is False


def test_a_release_deployed_again_is_not_taken_away_by_its_back_out(host: Host) -> None:
    host.deploy(ONE)
    assert host.deploy(ONE, ONE)["changed"] is False
    assert host.back_out(ONE, ONE)["changed"] is False
    (host.home.state / "running").unlink()
    assert host.back_out(ONE, ONE)["state"] == "backed_out"
    assert (host.live, host.running, host.home.stable()) == ("1.0", "1.0", ONE.id)


# -- settings ---------------------------------------------------------------

SETTINGS = {"address": None, "port": 8080, "zone": None}


def test_missing_settings_are_named_all_at_once_before_anything_is_touched(host: Host) -> None:
    two = package("2.0", settings=SETTINGS)
    host.deploy(ONE)
    host.stage(two)
    _nothing_happens(host, lambda: host.activate(two, ONE), "2.0 needs address, zone from this host")


def test_settings_that_only_the_way_back_needs_are_asked_for_before_too(host: Host) -> None:
    one = package("1.0", settings={"address": None})
    host.settings = {"address": "x"}
    host.deploy(one)
    host.stage(TWO)
    host.settings = {}
    _nothing_happens(host, lambda: host.activate(TWO, one), "1.0 needs address")


HOSTILE = ["$(touch pwned)", "`touch pwned`", "a'b\"c", "x\ntouch pwned\n", "; touch pwned", "a b", "*", "\\", "\u2603", ""]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_reach_hooks_as_they_are_and_no_shell(host: Host, value: str) -> None:
    check = "import os, sys; sys.exit(os.environ['TIDEGATE_ADDRESS'] != " + ascii(value) + ")"
    two = package(
        "2.0",
        settings=SETTINGS,
        hooks={**HOOKS, "prepare": {"command": [sys.executable, "-c", check], "timeout": 10}},
        health=[*HEALTH, {"name": "sees it", "command": [sys.executable, "-c", check], "timeout": 5}],
    )
    host.settings = {"address": value, "zone": "z", "unknown": "ignored"}
    assert host.deploy(two)["state"] == "active"
    assert not list(host.root.rglob("pwned"))


def test_a_null_byte_in_a_value_is_refused_before_anything_is_touched(host: Host) -> None:
    two = package("2.0", settings=SETTINGS)
    host.settings = {"address": "a\0b", "zone": "z"}
    host.deploy(ONE)
    host.stage(two)
    _nothing_happens(host, lambda: host.activate(two, ONE), "settings address of this host have a null byte")


def test_hooks_know_what_they_belong_to(host: Host) -> None:
    two = _hook("prepare", 'env >"$TIDEGATE_STATE/env"; pwd >"$TIDEGATE_STATE/pwd"')
    host.deploy(two)
    seen = dict(line.split("=", 1) for line in (host.home.state / "env").read_text().splitlines() if line.startswith("TIDEGATE_"))
    assert seen["TIDEGATE_RELEASE"] == "hello"
    assert seen["TIDEGATE_VERSION"] == "2.0"
    assert seen["TIDEGATE_DIGEST"] == two.digest
    assert seen["TIDEGATE_TREE"] == str(host.tree(two)) == (host.home.state / "pwd").read_text().strip()
    assert seen["TIDEGATE_STATE"] == str(host.home.state)


# -- the log ----------------------------------------------------------------


@pytest.mark.parametrize("tail", [b'{"event": "fai', b"\xff\xfe", b"\0\0\0\0", b"1", b'{"event": "failed"}', b"null\n", b"\n"])
def test_a_last_line_cut_short_by_a_crash_is_left_out(host: Host, tail: bytes) -> None:
    host.deploy(ONE)
    with (host.home.path / "log.jsonl").open("ab") as stream:
        stream.write(tail)
    assert host.events == ["staged", "activating", "started", "active"]
    assert host.home.stable() == ONE.id
    assert host.deploy(TWO, ONE)["state"] == "active"
    assert host.events == ["staged", "activating", "started", "active"] * 2


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("port", "eighty", "'${port}' is not a port from 1 to 65535"),
        ("address", "::1 ", "'::1 ' is neither a name nor an address"),
        ("address", "web1\n", "is neither a name nor an address"),
        ("address", "", "'' is neither a name nor an address"),
        ("path", "a b", "its path or query has a space"),
    ],
)
def test_a_setting_that_no_check_can_be_made_with_is_refused_before_anything_is_touched(
    host: Host, setting: str, value: str, says: str
) -> None:
    check = {"name": "answers", "http": {"url": "http://${address}:${port}/${path}"}, "timeout": 5}
    later = package("2.0", settings={"address": "127.0.0.1", "port": 80, "path": ""}, health=[*HEALTH, check])
    host.deploy(ONE)
    host.stage(later)
    calls = host.calls
    host.settings = {setting: value}
    with pytest.raises(HostError, match=re.escape(says)):
        host.activate(later, ONE)
    assert (host.live, host.calls) == ("1.0", calls)
