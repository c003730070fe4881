# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what one started ends with its failure, what it leaves goes on, and nothing is left where no release comes after."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import processes, supervision, switch
from ansible_collections.tidegate.release.plugins.module_utils.hook_output import LIMIT
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, ReleaseHome
from ansible_collections.tidegate.release.plugins.module_utils.supervision import supervise
from bed import HEALTH, HOOKS, SERVICE, Host, Package, package
from waiting import wait_until

ONE = package("1.0")
TWO = package("2.0")
HANG = "\nexec sleep 60\n"

# Ways to get out of a hook's process group; each writes the id of what it leaves to the file that $1 names and goes on for a minute.
SETSID = 'setsid sh -c \'echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep 61\' sh "$1" &'
WAYS = {
    "in the background": 'sleep 61 & echo $! >"$1"',
    "a session of its own": SETSID,
    "twice forked": f"({SETSID})",
    "without the environment": SETSID.replace("setsid", "setsid env -i"),
    "twice forked without the environment": f"({SETSID.replace('setsid', 'setsid env -i')})",
    "deaf to signals": SETSID.replace("exec sleep", 'trap "" HUP INT TERM; exec sleep'),
    "stopped": f"({SETSID.replace('exec sleep 61', 'kill -STOP $$')})",
}
AWAIT = '\nwhile [ ! -s "$1" ]; do sleep 0.02; done\n'


def _leaving(
    way: str, then: str, version: str = "2.0", hook: str = "start", timeout: float = 10, stop: Any = None, **config: Any
) -> Package:
    """A release whose hook starts a process in that way, says that it runs, and goes on with ``then``."""
    text = f'#!/bin/sh\nset -- "$TIDEGATE_STATE/pid"\n{WAYS[way]}{AWAIT}echo {version} >"$TIDEGATE_STATE/running"\n{then}\n'
    hooks = {**HOOKS, **({"stop": stop} if stop else {}), hook: {"command": ["bin/leaving"], "timeout": timeout}}
    return package(version, {"bin/leaving": text.encode()}, hooks=hooks, **config)


def _alive(pid: int) -> bool:
    return processes.start_time(pid) != ""


def _gone(pid: int) -> bool:
    """Whether it is gone, or is in a moment: what is killed from outside takes one."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not _alive(pid))
    return not _alive(pid)


@pytest.fixture
def daemon(host: Host) -> Iterator[Callable[[], int]]:
    """The process that a hook left; it is ended after the test."""
    found: list[int] = []

    def look() -> int:
        found.append(int((host.home.state / "pid").read_text()))
        return found[-1]

    yield look
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _in_a_child(action: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return child


# -- what a hook started ends with its failure -------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("then", "reason"), [("exit 3", "status 3"), (HANG, "did not end within 1 s")], ids=["fails", "hangs"])
def test_what_a_hook_started_ends_with_its_failure(host: Host, way: str, then: str, reason: str, daemon: Callable[[], int]) -> None:
    # After another hook than this one what runs of the release would be ended as well.
    answer = host.deploy(_leaving(way, then, hook="prepare", timeout=1))
    assert (answer["state"], answer["changed"]) == ("failed", False)
    assert reason in answer["detail"]
    assert not _alive(daemon())


@pytest.mark.parametrize("hook", ["start", "stop", "remove"])
def test_the_other_hooks_too(host: Host, hook: str, daemon: Callable[[], int]) -> None:
    what = _leaving("twice forked", "exit 1", hook=hook)
    host.deploy(what)
    host.back_out(what)
    assert not _alive(daemon())


def test_a_check_that_fails_leaves_nothing_either(tmp_path: Path) -> None:
    problem = supervise(["sh", "-c", f"set -- pid; ({SETSID}){AWAIT}exit 1"], 10, str(tmp_path), {})
    assert problem == "ended with status 1"
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_a_process_that_starts_others_all_the_time_is_ended(tmp_path: Path) -> None:
    script = "setsid sh -c 'while :; do (setsid sh -c \"echo \\$\\$ >>pids; exec sleep 61\" &); done' & sleep 0.5; exit 1"
    assert "status 1" in supervise(["sh", "-c", script], 10, str(tmp_path), {})
    assert not [pid for pid in (tmp_path / "pids").read_text().split() if _alive(int(pid))]


@pytest.mark.parametrize("way", ["a session of its own", "twice forked without the environment"])
def test_a_daemon_of_a_hook_before_lives_on(host: Host, way: str, daemon: Callable[[], int]) -> None:
    one = _leaving(way, "exit 0", "1.0")
    assert host.deploy(one)["state"] == "active"
    pid = daemon()
    two = package("2.0", {"bin/prepare": b"#!/bin/sh\nexit 1\n"}, hooks={**HOOKS, "prepare": {"command": ["bin/prepare"], "timeout": 5}})
    assert host.deploy(two, one)["state"] == "failed"
    assert _alive(pid)


def test_what_can_not_be_ended_is_named_and_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_PATIENCE", 0.1)
    monkeypatch.setattr(processes, "_send", lambda *_arguments: None)  # as if it were in the kernel and did not come back
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        try:
            left = processes.end(lambda: {sleeping.pid: processes.start_time(sleeping.pid)})
            assert left == f"the processes {sleeping.pid} (sleep) can't be ended, look at them with ps"
        finally:
            sleeping.kill()
    problem = supervise(["sh", "-c", f"set -- pid; {SETSID}{AWAIT}exit 1"], 5, str(tmp_path), {})
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    assert f"ended with status 1; the processes {pid} (sleep) can't be ended" in problem


def test_without_the_kernel_s_help_it_goes_by_the_environment_and_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervision, "adopt_orphans", lambda: False)
    problem = supervise(["sh", "-c", f"set -- pid; ({SETSID}){AWAIT}exit 1"], 10, str(tmp_path), {})
    assert "this kernel does not say which processes it left" in problem
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_an_ended_daemon_does_not_look_alive_to_the_hook_that_waits_for_it(tmp_path: Path) -> None:
    script = f"set -- pid; ({SETSID}){AWAIT}kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done"
    assert supervise(["sh", "-c", script], 20, str(tmp_path), {}) == ""


# -- the operation or the supervisor is killed ---------------------------------


def _await(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text()))


def test_a_hook_ends_with_the_operation_and_the_lock_is_held_until_then(host: Host, daemon: Callable[[], int]) -> None:
    two = _leaving("twice forked without the environment", HANG, timeout=60)
    host.stage(two)
    operation = _in_a_child(lambda: host.activate(two))
    _await(host.home.state / "pid")
    os.kill(operation, signal.SIGKILL)
    os.waitpid(operation, 0)
    with host.home.locked(30):
        assert not _alive(daemon())


def _supervisor_of(operation: int) -> int:
    return next(pid for pid in processes.below([operation]) if processes._stat(pid)[1] == str(operation))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_ends_with_its_supervisor(host: Host, daemon: Callable[[], int], number: int) -> None:
    two = _leaving("twice forked", HANG, hook="prepare", timeout=60)
    host.stage(two)
    said = host.root / "said"
    operation = _in_a_child(lambda: said.write_text(host.activate(two)["detail"]))
    _await(host.home.state / "pid")
    os.kill(_supervisor_of(operation), number)
    os.waitpid(operation, 0)
    assert not _alive(daemon())
    reason = "can't be supervised: it got signal 15" if number == signal.SIGTERM else "somebody killed the process that supervises it"
    assert reason in said.read_text()


def test_the_next_operation_ends_a_hook_that_lost_both(host: Host, daemon: Callable[[], int]) -> None:
    two = _leaving("twice forked", HANG, timeout=60)
    host.stage(two)
    operation = _in_a_child(lambda: host.activate(two))
    pid = _await(host.home.state / "pid")
    supervisor = _supervisor_of(operation)
    os.kill(operation, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(operation, signal.SIGKILL)
    os.waitpid(operation, 0)
    assert _alive(daemon())
    assert host.back_out(two)["state"] == "backed_out"
    assert not _alive(pid)


def test_what_an_interrupted_hook_left_and_can_not_be_ended_keeps_others_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy(ONE)
    monkeypatch.setattr(processes, "_PATIENCE", 0.1)
    monkeypatch.setattr(processes, "_send", lambda *_arguments: None)
    (host.home.path / "hook").write_text("start:12")
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "TIDEGATE_HOOK": "start:12"}) as sleeping:
        while b"TIDEGATE_HOOK" not in Path(f"/proc/{sleeping.pid}/environ").read_bytes():  # the kernel shows it a moment later
            time.sleep(0.01)
        try:
            with pytest.raises(
                HostError, match=rf"a hook of hello that was interrupted still runs: the processes {sleeping.pid} \(sleep\)"
            ):
                host.back_out(ONE)
        finally:
            sleeping.kill()
    assert host.live == "1.0"
    assert host.back_out(ONE)["state"] == "backed_out"


# -- what a hook leaves may go on writing --------------------------------------


def _writers(host: Host) -> set[int]:
    """The processes that read what daemons of this host write; other tests have theirs at the same time."""
    mine = [pid for pid in processes._all() if os.fsencode(host.root) in processes._read(pid, "cmdline")]
    return {pid for pid in mine if b"\0REDACTION=" in b"\0" + processes._read(pid, "environ")}


def test_what_a_daemon_writes_is_bounded_and_its_last_lines_are_there(host: Host, daemon: Callable[[], int]) -> None:
    program = (
        "import os, sys, time\n"
        "while not os.path.exists('../../../state/go'): time.sleep(0.02)\n"
        "for number in range(100_000): print(f'line {number} {\"x\" * 100}', flush=True)\n"
        "open('../../../state/done', 'w').close()\n"
        "time.sleep(61)\n"
    )
    start = 'echo started; setsid "$1" -c "$2" & echo $! >"$TIDEGATE_STATE/pid"; echo 2.0 >"$TIDEGATE_STATE/running"'
    hooks = {**HOOKS, "start": {"command": ["sh", "-c", start, "sh", sys.executable, program], "timeout": 10}}
    assert host.deploy(package("2.0", hooks=hooks))["state"] == "active"
    log = host.home.output_of("start")
    assert log.read_text() == "started\n"
    (host.home.state / "go").touch()
    wait_until((host.home.state / "done").exists)
    pid = daemon()
    assert _alive(pid)
    (reader,) = _writers(host)
    assert {os.readlink(f"/proc/{reader}/fd/{number}") for number in (1, 2)} == {os.devnull}
    assert os.readlink(f"/proc/{reader}/cwd") == "/"
    ignored = next(line.split()[1] for line in Path(f"/proc/{reader}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert int(ignored, 16) >> (signal.SIGTERM - 1) & 1  # at a shutdown the daemon still has to write
    os.kill(pid, signal.SIGKILL)
    assert _gone(reader)
    files = sorted(log.parent.glob("start.log*"))
    assert [path.name for path in files] == ["start.log", "start.log.1"]
    assert max(path.stat().st_size for path in files) <= LIMIT
    assert {path.stat().st_mode & 0o777 for path in (*files, log.parent)} == {0o600, 0o700}
    assert "line 99999 " in log.read_text().splitlines()[-1]
    assert host.home.strangers() == []


def test_no_process_stays_when_nobody_writes_any_more(host: Host) -> None:
    text = b'#!/bin/sh\necho said\nsetsid sleep 0.1 >/dev/null 2>&1 &\necho 2.0 >"$TIDEGATE_STATE/running"\n'
    assert host.deploy(package("2.0", {"bin/start": text}))["state"] == "active"
    wait_until(lambda: not _writers(host))  # the shell has the pipe until it has begun what it leaves
    assert host.home.output_of("start").read_text() == "said\n"


def test_what_is_left_holds_nothing_up_and_no_descriptor_of_the_caller(host: Host, daemon: Callable[[], int]) -> None:
    two = _leaving("a session of its own", "exit 0")
    host.stage(two)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)  # as ssh's are
    assert host.activate(two)["state"] == "active"
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    pid = daemon()
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
    with host.home.locked(1):
        os.kill(pid, signal.SIGKILL)
    assert all(_gone(other) for other in _writers(host))


def test_a_full_or_missing_place_for_output_fails_no_hook(host: Host) -> None:
    host.stage(TWO)
    host.home.output_of("start").parent.mkdir(exist_ok=True)
    host.home.output_of("start").mkdir()
    assert host.activate(TWO)["state"] == "active"


# -- what hooks are told -----------------------------------------------------------


def _telling(version: str) -> Package:
    text = b'#!/bin/sh\necho "$1 $TIDEGATE_VERSION ${TIDEGATE_PREVIOUS-unset}>${TIDEGATE_NEXT-unset}" >>"$TIDEGATE_STATE/told"\n'
    start, stop = (SERVICE[f"bin/{name}"] + text.split(b"\n", 1)[1] for name in ("start", "stop"))
    hooks = {
        name: {"command": [f"bin/{name if name in ('start', 'stop') else 'tell'}", name], "timeout": 10}
        for name in ("prepare", "stop", "start", "remove")
    }
    return package(version, {"bin/start": start, "bin/stop": stop, "bin/tell": text}, hooks=hooks)


def test_hooks_are_told_from_what_to_what_the_host_switches(host: Host) -> None:
    one, two = _telling("1.0"), _telling("2.0")
    host.deploy(one)
    host.deploy(two, one)
    host.back_out(two, one)
    host.back_out(one)
    assert (host.home.state / "told").read_text().splitlines() == [
        *("prepare 1.0 >1.0", "start 1.0 >1.0"),
        *("prepare 2.0 1.0>2.0", "stop 1.0 1.0>2.0", "start 2.0 1.0>2.0"),
        *("stop 2.0 2.0>1.0", "start 1.0 2.0>1.0"),
        *("stop 1.0 1.0>", "remove 1.0 1.0>"),
    ]


def test_falling_back_is_a_switch_like_any_other(host: Host) -> None:
    one, sick = _telling("1.0"), package("2.0", health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
    host.deploy(one)
    host.deploy(sick, one)
    assert (host.home.state / "told").read_text().splitlines()[-2:] == ["stop 1.0 1.0>2.0", "start 1.0 2.0>1.0"]


# -- nothing after the first release ------------------------------------------------


def _first(stop: str = "", remove: str = 'rm "$TIDEGATE_STATE/running"', **config: Any) -> Package:
    hooks = {
        **HOOKS,
        "stop": {"command": ["sh", "-c", stop or ":"], "timeout": 0.5},
        "remove": {"command": ["sh", "-c", f'echo remove >>"$TIDEGATE_STATE/calls"; {remove}'], "timeout": 5},
    }
    return package("1.0", hooks=hooks, **config)


def test_backing_out_a_first_release_removes_it(host: Host) -> None:
    one = _first()
    host.deploy(one)
    assert host.back_out(one) == {"state": "backed_out", "changed": True, "version": None}
    assert (host.live, host.running, host.calls[-1]) == (None, None, "remove")
    assert host.back_out(one)["changed"] is False
    assert host.calls[-2:] == ["start 1.0", "remove"]


def test_a_first_release_that_does_not_come_up_is_removed_too(host: Host) -> None:
    one = _first(health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
    assert host.deploy(one)["state"] == "failed"
    assert (host.live, host.running, host.calls[-1]) == (None, None, "remove")


def test_what_still_serves_is_owed_until_it_does_not(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.tidegate.release.plugins.module_utils.switch._GONE", 0.3)
    one = _first(remove=":")
    host.deploy(one)
    for _again in range(2):
        answer = host.back_out(one)
        assert (answer["state"], answer["version"], host.running) == ("owed", None, "1.0")
        assert "hello 1.0 was stopped, but its health check 'runs' still passes, so something still serves" in answer["detail"]
    (host.home.state / "running").unlink()
    assert host.back_out(one)["state"] == "backed_out"
    assert host.home.at_rest(None)


def test_one_of_several_checks_that_passes_is_enough(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.tidegate.release.plugins.module_utils.switch._GONE", 0.3)
    second = {"name": "second", "command": ["sh", "-c", 'test -e "$TIDEGATE_STATE/second"'], "timeout": 1}
    text = 'echo 1.0 >"$TIDEGATE_STATE/running"; touch "$TIDEGATE_STATE/second"'
    one = package(
        "1.0",
        hooks={"start": {"command": ["sh", "-c", text], "timeout": 5}, "stop": HOOKS["stop"]},
        health=[{"name": "always", "command": ["true"], "timeout": 1}, *HEALTH, second],
    )
    assert host.deploy(one)["state"] == "active"
    answer = host.back_out(one)
    assert (answer["state"], host.running) == ("owed", None)
    assert "health check 'second' still passes" in answer["detail"]


def test_it_may_take_a_moment_until_it_does_not_serve_any_more(host: Host) -> None:
    # It is no process of the release: that would be ended before it is looked at.
    one = _first(remove="(env -i sh -c \"cd /; sleep 0.6; rm '$TIDEGATE_STATE/running'\") >/dev/null 2>&1 &")
    host.deploy(one)
    assert host.back_out(one)["state"] == "backed_out"
    assert host.running is None


def test_checks_that_passed_before_it_was_installed_can_not_say_that_it_is_gone(host: Host) -> None:
    one = _first(health=[{"name": "always", "command": ["true"], "timeout": 1}])
    host.deploy(one)
    answer = host.back_out(one)
    assert answer["state"] == "backed_out"
    assert answer["detail"] == "every health check of hello 1.0 passed before it was installed, so none can show that it is gone"


def test_what_passed_before_is_remembered_through_interruptions_and_later_releases(host: Host) -> None:
    one = _first()
    host.stage(one)
    flip = ReleaseHome.flip

    def die_after(home: ReleaseHome, release: Any) -> None:
        flip(home, release)
        (home.state / "running").write_text("1.0")  # by the time it is tried again the check passes
        os.kill(os.getpid(), signal.SIGKILL)

    def interrupted() -> None:
        ReleaseHome.flip = die_after  # type: ignore[method-assign]
        host.activate(one)

    os.waitpid(_in_a_child(interrupted), 0)
    assert host.activate(one)["state"] == "active"
    host.deploy(TWO, one)
    host.back_out(TWO, one)
    assert host.home.passed_before(one.id) == []
    assert host.back_out(one)["state"] == "backed_out"
    assert host.home.passed_before(one.id) is None


def test_a_first_release_of_which_a_process_can_t_be_ended_is_not_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _first()
    host.deploy(one)
    with monkeypatch.context() as undying:
        undying.setattr(switch, "end_release", lambda _tree: (1, "process 7 does not end"))
        answer = host.back_out(one)
    assert (answer["state"], host.running) == ("owed", "1.0"), "nothing is taken from under a process that runs"
    assert "process 7 does not end" in answer["detail"]
    assert host.back_out(one)["state"] == "backed_out"


def test_a_remove_hook_that_fails_is_owed_and_tried_again(host: Host) -> None:
    one = _first(remove='test -e "$TIDEGATE_STATE/mended" && rm "$TIDEGATE_STATE/running"')
    host.deploy(one)
    answer = host.back_out(one)
    assert (answer["state"], host.live) == ("owed", "1.0")
    assert "hook remove of hello 1.0" in answer["detail"]
    (host.home.state / "mended").touch()
    assert host.back_out(one)["state"] == "backed_out"


def test_processes_that_the_stop_hook_forgot_are_ended(host: Host, daemon: Callable[[], int]) -> None:
    one = _leaving("twice forked", "exit 0", "1.0")
    host.deploy(one)
    pid = daemon()
    assert host.back_out(one)["state"] == "backed_out"
    assert not _alive(pid)


# -- a release that can't be stopped ------------------------------------------------

# A service that is a process: it serves while that lives.
RUNS = [{"name": "runs", "command": ["sh", "-c", 'kill -0 "$(cat "$TIDEGATE_STATE/pid")"'], "timeout": 1}]


@pytest.mark.parametrize("way", ["a session of its own", "twice forked without the environment", "deaf to signals"])
@pytest.mark.parametrize("stop", ["exec sleep 60", "exit 1", "setsid sleep 60 & wait"])
def test_a_release_whose_stop_hook_fails_is_ended_and_replaced(
    host: Host, way: str, stop: str, daemon: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.3)
    old = _leaving(way, "exit 0", "1.0", health=RUNS, stop={"command": ["sh", "-c", stop], "timeout": 0.5})
    host.deploy(old)
    pid = daemon()
    answer = host.deploy(TWO, old)
    assert (answer["state"], host.live, host.running) == ("active", "2.0", "2.0")
    assert "hook stop of hello 1.0" in answer["detail"]
    assert answer["detail"].endswith("; 1 process of 1.0 had to be ended")
    assert not _alive(pid)


def test_a_verdict_says_when_the_old_release_still_serves(host: Host) -> None:
    old = package("1.0", {"bin/stop": b"#!/bin/sh\nexit 1\n"})
    host.deploy(old)
    answer = host.deploy(TWO, old)
    assert (answer["state"], answer["version"], host.live, host.running) == ("active", "2.0", "2.0", "2.0")
    assert answer["detail"] == (
        "hook stop of hello 1.0: bin/stop ended with status 1; 0 processes of 1.0 had to be ended, but 1.0 still passes its health checks: "
        "what answers for 2.0 may be 1.0"
    )


def test_that_the_old_release_still_serves_is_said_when_the_new_one_fails_as_well(host: Host) -> None:
    old = package("1.0", {"bin/stop": b"#!/bin/sh\nexit 1\n"})
    host.deploy(old)
    sick = package("2.0", health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
    answer = host.deploy(sick, old)
    assert (answer["state"], host.live, host.running) == ("failed", "1.0", "1.0")
    assert "what answers for 2.0 may be 1.0" in answer["detail"]


def test_a_stop_hook_that_ends_well_and_stops_nothing_is_no_stop(host: Host, daemon: Callable[[], int]) -> None:
    host.deploy(ONE)
    new = _leaving("a session of its own", "exit 0", health=RUNS, stop={"command": ["true"], "timeout": 5})
    host.deploy(new, ONE)
    pid = daemon()
    answer = host.back_out(new, ONE)
    assert (answer["state"], host.running) == ("backed_out", "1.0")
    assert answer["detail"] == ("hook stop of hello 2.0 ended well, but its health checks go on passing; 1 process of 2.0 had to be ended")
    assert not _alive(pid)


def test_what_a_stop_hook_leaves_may_finish_when_it_does_not_serve_any_more(host: Host, daemon: Callable[[], int]) -> None:
    host.deploy(ONE)
    new = _leaving("a session of its own", "exit 0")  # it serves as long as the file says so, and that is gone
    host.deploy(new, ONE)
    pid = daemon()
    assert host.back_out(new, ONE) == {"state": "backed_out", "changed": True, "version": "1.0"}
    assert _alive(pid)


# -- whose processes these are ------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Callable[..., int]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: Any) -> int:
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, **options))
        output = running[-1].stdout
        assert output is not None
        assert output.readline() == b"up\n"
        return running[-1].pid

    yield start
    for process in running:
        process.kill()
        process.communicate()


UP = "echo up; exec sleep 61"


def test_only_what_belongs_to_a_release_is_found(tmp_path: Path, started: Callable[..., int]) -> None:
    tree, other = tmp_path / "1.0" / "tree", tmp_path / "1.0" / "tree2"
    for folder in (tree, other):
        folder.mkdir(parents=True)
    program = tree / "program"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    plain = {"PATH": os.environ["PATH"]}
    ours = {
        started("sh", "-c", UP, cwd="/", env={**plain, "TIDEGATE_TREE": str(tree)}),
        started("sh", "-c", UP, cwd=tree, env=plain),
        started("sh", "-c", f"echo up; exec {program} 61", cwd="/", env=plain),
    }
    started("sh", "-c", UP, cwd="/", env=plain)
    started("sh", "-c", UP, cwd=other, env={**plain, "TIDEGATE_TREE": str(other)})
    started("sh", "-c", UP, cwd="/", env={**plain, "TIDEGATE_TREE": f"{tree}2", "X": f"TIDEGATE_TREE={tree}"})
    assert set(processes.of_release(tree)) == ours
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert len(processes.of_release(link / "1.0" / "tree")) == 2  # by their directory and their program


def test_a_person_who_looks_around_in_a_tree_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    take = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.write(1, b'up\\n'); os.execvp('sleep', ['sleep', '61'])"
    person = subprocess.Popen(
        [sys.executable, "-c", take], cwd=tmp_path, env={}, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert person.stdout is not None
        assert person.stdout.readline() == b"up\n"
        assert os.readlink(f"/proc/{person.pid}/cwd") == str(tmp_path)
        assert processes.of_release(tmp_path) == {}
    finally:
        person.kill()
        person.communicate()
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("elsewhere", ["unshare", "chroot"])
def test_the_same_path_elsewhere_is_another_release(tmp_path: Path, started: Callable[..., int], elsewhere: str) -> None:
    there = "--mount" if elsewhere == "unshare" else _root_of_its_own(tmp_path)
    started(elsewhere, there, "/bin/sh", "-c", UP, cwd="/", env={"PATH": os.environ["PATH"], "TIDEGATE_TREE": str(tmp_path)})
    assert processes.of_release(tmp_path) == {}


def _root_of_its_own(folder: Path) -> str:
    """A root directory with no more than a shell and sleep."""
    programs = {f"bin/{name}": Path("/bin", name).resolve() for name in ("sh", "sleep")}
    listed = subprocess.run(["ldd", *map(str, programs.values())], check=True, capture_output=True, text=True).stdout.split()
    libraries = {item[1:]: Path(item) for item in listed if item.startswith("/") and not item.endswith(":")}
    for name, path in (programs | libraries).items():
        target = folder / "root" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.chmod(0o755)
    return str(folder / "root")


def test_who_asks_and_who_started_it_are_never_among_them(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from ansible_collections.tidegate.release.plugins.module_utils.processes import of_release\n"
        f"print(of_release(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, "TIDEGATE_TREE": str(tmp_path)}
    command = ["sh", "-c", '"$0" -c "$1"; :', sys.executable, code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "{}\n"


def test_what_each_release_has_stands_in_commands_and_no_setting_does(host: Host) -> None:
    said = "${release} ${version} ${tree} ${state} ${digest} ${previous}-${next} ${HOME}"
    files = {
        "bin/say": b'#!/bin/sh\necho "$1" >"$TIDEGATE_STATE/said"\nexec bin/start\n',
        "bin/healthy": b'#!/bin/sh\n[ "$1" = "2.0 $TIDEGATE_TREE" ]\n',
    }
    hooks = {**HOOKS, "start": {"command": ["${tree}/bin/say", said], "timeout": 10}}
    health = [{"name": "told", "command": ["bin/healthy", "${version} ${tree}"], "timeout": 2}]
    what = package("2.0", files, hooks=hooks, health=health)
    assert host.deploy(ONE)["state"] == "active"
    assert host.deploy(what, ONE)["state"] == "active"
    home = host.home
    assert (home.state / "said").read_text() == f"hello 2.0 {host.tree(what)} {home.state} {what.digest} 1.0-2.0 ${{HOME}}\n"


def test_a_setting_that_a_package_wants_in_a_command_is_refused_on_the_host_too(host: Host) -> None:
    host.deploy(ONE)
    health = [{"name": "x", "command": ["bin/start", "${port}"], "timeout": 2}]
    with pytest.raises(HostError, match=r"\$\{port\} is not one"):
        host.deploy(package("2.0", health=health, settings={"port": 80}), ONE)
    assert host.live == "1.0"


def test_a_name_that_stands_for_nothing_is_found_before_anything_is_touched(host: Host) -> None:
    """No such release is archived; but what a host gets may come from anywhere."""
    host.deploy(ONE)
    calls = host.calls
    with pytest.raises(HostError, match=r"\$\{prot\} is not one of the settings"):
        host.deploy(package("2.0", health=[{"name": "x", "command": ["bin/start", "${prot}"], "timeout": 2}]), ONE)
    assert (host.calls, host.live) == (calls, "1.0")
    answer = host.deploy(package("3.0", hooks={**HOOKS, "start": {"command": ["bin/start", "${prot}"], "timeout": 2}}), ONE)
    assert (answer["state"], "${prot} is not one of the settings" in answer["detail"], host.live) == ("failed", True, "1.0")
