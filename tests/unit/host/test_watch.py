# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release that came up counts when it lasts: the watch, the second look, and why something did not come up."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import activation, logs, release_hooks, watch
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError
from bed import Host, Package, package
from waiting import wait_until

ONE, TWO = package("1.0"), package("2.0")
FRAIL = b'#!/bin/sh\n[ ! -e "$TIDEGATE_STATE/no" ] && echo 1.0 >"$TIDEGATE_STATE/running"\n'


def seen(host: Host) -> dict[str, Any]:
    try:
        return dict(json.loads(host.home.watch.read_text()))
    except (OSError, ValueError):
        return {}


def watcher(host: Host) -> int:
    wait_until(lambda: seen(host).get("group"))
    return int(seen(host)["group"])


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def upgraded(host: Host) -> Host:
    """2.0 has come up in place of 1.0, and has to last."""
    host.deploy(ONE)
    host.stable = 30
    host.stage(TWO)
    assert host.start(TWO, ONE) == {"state": "started", "changed": True, "version": "2.0"}
    return host


def die(host: Host) -> None:
    (host.home.state / "running").unlink()


def back(host: Host) -> None:
    (host.home.state / "running").write_text("2.0\n")


# -- the second look --------------------------------------------------------


def test_a_release_that_lasts_is_active_and_nobody_watches_it_any_more(upgraded: Host) -> None:
    pid = watcher(upgraded)
    assert upgraded.home.stable() == ONE.id  # nobody knows yet whether it lasts
    wait_until(lambda: seen(upgraded)["seconds"] > 0)
    assert upgraded.confirm(TWO, ONE) == {"state": "active", "changed": False, "version": "2.0"}
    assert (upgraded.home.stable(), upgraded.events[-2:]) == (TWO.id, ["started", "active"])
    assert not runs(pid)
    assert not upgraded.home.watch.exists()
    assert upgraded.home.strangers() == []


def test_a_release_that_served_once_and_died_goes_back_at_the_second_look(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    host.start(TWO, ONE)
    die(host)
    answer = host.confirm(TWO, ONE)
    assert (answer["state"], answer["version"]) == ("failed", "1.0")
    assert "it came up and did not stay well: health check 'runs' failed" in answer["detail"]
    assert (host.live, host.running, host.home.stable()) == ("1.0", "1.0", ONE.id)
    assert host.events[-2:] == ["failed", "restored"]


def test_a_release_that_died_and_came_back_in_between_has_failed(upgraded: Host) -> None:
    die(upgraded)
    wait_until(lambda: seen(upgraded).get("failed"))
    back(upgraded)
    answer = upgraded.confirm(TWO, ONE)
    assert answer["state"] == "failed"
    assert "did not stay well: health check 'runs' failed" in answer["detail"]
    assert "(at 20" in answer["detail"]
    assert (upgraded.live, upgraded.running) == ("1.0", "1.0")


@pytest.mark.parametrize("switch", ["activating", "failed"])
def test_a_release_whose_next_switch_was_interrupted_does_not_count_as_lasting(upgraded: Host, switch: str) -> None:
    upgraded.home.append(switch, TWO.id)
    answer = upgraded.confirm(TWO, ONE)
    assert answer["state"] == "failed"
    assert "its activation, or a way back from it, was interrupted" in answer["detail"]
    assert upgraded.running == "1.0"


def test_an_activation_that_is_resumed_does_not_forget_what_the_watch_saw(upgraded: Host) -> None:
    die(upgraded)
    wait_until(lambda: seen(upgraded).get("failed"))
    back(upgraded)
    assert upgraded.start(TWO, ONE)["state"] == "failed"
    assert upgraded.running == "1.0"


def test_an_activation_that_is_resumed_begins_to_watch_anew(upgraded: Host) -> None:
    pid = watcher(upgraded)
    assert upgraded.start(TWO, ONE) == {"state": "started", "changed": False, "version": "2.0"}
    assert not runs(pid)
    assert watcher(upgraded) != pid
    assert upgraded.confirm(TWO, ONE)["state"] == "active"


@pytest.mark.parametrize("harm", ["killed", "removed", "damaged"])
def test_without_the_whole_of_the_watch_it_is_looked_at_more_than_once(upgraded: Host, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = watcher(upgraded)
    os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid))
    if harm == "removed":
        upgraded.home.watch.unlink()
    elif harm == "damaged":
        upgraded.home.watch.write_text("{")
    looks = []
    monkeypatch.setattr(activation, "_PAUSE", 0)
    monkeypatch.setattr(release_hooks, "attempt", lambda *arguments: looks.append(arguments))
    assert upgraded.confirm(TWO, ONE)["state"] == "active"
    assert len(looks) == 3


def test_a_watch_over_another_release_says_nothing_of_this_one(upgraded: Host) -> None:
    upgraded.token += 1
    die(upgraded)
    wait_until(lambda: seen(upgraded).get("failed"))
    record = json.loads(upgraded.home.watch.read_text())
    os.killpg(record["group"], signal.SIGKILL)
    upgraded.home.watch.write_text(json.dumps({**record, "about": "9.9 by another"}))
    back(upgraded)
    assert upgraded.confirm(TWO, ONE)["state"] == "active"


def test_a_watch_that_was_asked_for_less_time_than_it_had_is_whole(upgraded: Host) -> None:
    pid = watcher(upgraded)
    os.killpg(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid))
    path = upgraded.home.watch
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 30.1}))
    found = watch.end(path)
    assert found is not None
    assert (found.whole, found.failed) == (True, "")


def test_a_watch_holds_neither_the_lock_nor_anything_else_of_its_starter(upgraded: Host) -> None:
    pid = watcher(upgraded)
    with (upgraded.home.path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    wait_until(lambda: os.getsid(pid) == pid)
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 4)
    held = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert held == {"/dev/null", str(upgraded.home.watch)}


def test_a_watch_whose_home_is_gone_ends(upgraded: Host) -> None:
    pid = watcher(upgraded)
    upgraded.home.watch.unlink()
    wait_until(lambda: not runs(pid))


def test_a_watch_ends_by_itself_when_nobody_comes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LONGER", 0.1)
    host.stable = 0.1
    host.stage(ONE)
    host.start(ONE)
    pid = watcher(host)
    wait_until(lambda: not runs(pid))
    assert host.confirm(ONE)["state"] == "active"


def test_a_back_out_ends_the_watch(upgraded: Host) -> None:
    pid = watcher(upgraded)
    assert upgraded.back_out(TWO, ONE)["state"] == "backed_out"
    assert not runs(pid)
    assert not upgraded.home.watch.exists()


def test_a_check_that_hangs_does_not_hold_up_the_end_of_its_watch_and_ends_with_it(host: Host) -> None:
    text = b'#!/bin/sh\n[ ! -e "$TIDEGATE_STATE/hang" ] || { echo $$ >"$TIDEGATE_STATE/pid"; exec sleep 64; }\n'
    what = package("1.0", {"bin/healthy": text}, health=[{"name": "runs", "command": ["bin/healthy"], "timeout": 3600}])
    host.stable = 30
    host.stage(what)
    host.start(what)
    (host.home.state / "hang").touch()
    wait_until(lambda: (host.home.state / "pid").exists() and (host.home.state / "pid").read_text().strip())
    pid = int((host.home.state / "pid").read_text())
    (host.home.state / "hang").unlink()
    assert host.confirm(what)["state"] == "active"
    assert not runs(pid)


def test_with_nothing_to_wait_for_nobody_watches_and_it_is_still_looked_at_again(host: Host) -> None:
    host.stage(ONE)
    host.start(ONE)
    assert not host.home.watch.exists()
    die(host)
    assert host.confirm(ONE)["state"] == "failed"


def test_a_host_that_can_not_start_a_watch_is_looked_at_more_than_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_arguments: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(watch, "start", no)
    host.stable = 1
    host.stage(ONE)
    assert host.start(ONE)["state"] == "started"
    monkeypatch.undo()
    assert host.confirm(ONE)["state"] == "active"


def test_what_is_live_now_but_did_not_come_up_is_not_confirmed(upgraded: Host) -> None:
    upgraded.back_out(TWO, ONE)
    with pytest.raises(HostError, match=r"hello 1\.0 is live here and not sha256:.*find out who changed it"):
        upgraded.confirm(TWO, ONE)
    upgraded.home.current.unlink()
    with pytest.raises(HostError, match="nothing is live here"):
        upgraded.confirm(TWO, ONE)


def test_a_controller_that_was_superseded_does_not_look(upgraded: Host) -> None:
    upgraded.home.fence(9)
    with pytest.raises(HostError, match="another controller"):
        upgraded.confirm(TWO, ONE)
    assert runs(watcher(upgraded))


def test_what_can_not_go_back_after_the_second_look_is_stuck(host: Host) -> None:
    old = package("1.0", {"bin/start": FRAIL})
    host.deploy(old)
    host.stage(TWO)
    host.start(TWO, old)
    die(host)
    (host.home.state / "no").touch()
    answer = host.confirm(TWO, old)
    assert answer["state"] == "stuck"
    assert "did not stay well" in answer["detail"]
    assert "going back failed too: hello 1.0: hook start" in answer["detail"]


# -- a start that failed says why, and at once ------------------------------

NEVER = [{"name": "runs", "command": ["bin/healthy"], "timeout": 3600}]


def starting(text: str, **config: Any) -> Package:
    """A release whose start hook does this, and that is waited for an hour, so that who does not see its end hangs."""
    return package("2.0", {"bin/start": b"#!/bin/sh\n" + text.encode()}, **{"health": NEVER, **config})


DEAD = {
    "a moment later": "setsid sh -c 'sleep 1; exit 4' &",
    "by a signal": "setsid sh -c 'sleep 1; kill -9 $$' &",
    "well": "setsid sleep 1 &",
    "after a child of its own": "setsid sh -c '(sleep 1; exit 7) & exit 0' &\nsleep 0.2",
}


@pytest.mark.parametrize("how", DEAD)
def test_what_is_dead_is_not_waited_for(host: Host, how: str) -> None:
    host.deploy(ONE)
    answer = host.deploy(starting(DEAD[how]), ONE)
    assert (answer["state"], host.running) == ("failed", "1.0")
    assert "health check 'runs' can't pass any more, all that the start hook left running has ended: " in answer["detail"]


# A title overwrites what the environment was in, so that nobody can read it any more.
TITLED = """
import ctypes, os, time
first, last = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[47:49])
running = os.environ["TIDEGATE_STATE"] + "/running"
time.sleep(1)
ctypes.memset(first, 0, last - first)
time.sleep(2)
open(running, "w").write("2.0")
time.sleep(5)
"""


@pytest.mark.parametrize(
    "text",
    [
        "setsid sh -c 'sleep 1; echo 2.0 >\"$TIDEGATE_STATE/running\"; exec sleep 3' &",  # slow
        "setsid sh -c '(sleep 1; echo 2.0 >\"$TIDEGATE_STATE/running\"; exec sleep 3) & exit 0' &",  # a daemon that forks
        "setsid sh -c 'sleep 0.2; exit 1' &\nsetsid sh -c 'sleep 1; echo 2.0 >\"$TIDEGATE_STATE/running\"; exec sleep 3' &",  # one of two
        'true & sleep 0.2; touch "$TIDEGATE_STATE/wanted"',  # another service manager starts it
        f"setsid {sys.executable} -c '{TITLED}' & sleep 0.1",  # it loses the mark
    ],
)
def test_what_lives_or_may_live_elsewhere_is_waited_for(host: Host, text: str) -> None:
    what = starting(text)
    host.stage(what)
    manager = os.fork()
    if manager == 0:
        with contextlib.suppress(BaseException):
            wait_until((host.home.state / "wanted").exists, 10)
            time.sleep(1)
            back(host)
        os._exit(0)
    answer = host.start(what)
    os.kill(manager, signal.SIGKILL)
    assert answer["state"] == "started"


def test_the_reason_has_the_last_lines_of_the_log(host: Host) -> None:
    host.deploy(ONE)
    text = '(for i in $(seq 50); do echo "line $i"; done; printf "no\\033[2Jconfig\\n") >"$TIDEGATE_STATE/log"; exit 1'
    detail = host.deploy(starting(text, logs=["log"]), ONE)["detail"]
    first, *more = detail.splitlines()
    assert first == "hook start of hello 2.0: bin/start ended with status 1"
    assert more[0] == f"{host.home.state}/log says:"
    assert more[1:] == [f"  line {number}" for number in range(32, 51)] + ["  no?[2Jconfig"]
    assert host.log[-2]["reason"] == first


def test_without_logs_the_start_hook_s_own_output_is_read(host: Host) -> None:
    text = 'mkdir -p "$TIDEGATE_STATE/../output"; (sleep 0.3; echo no config >"$TIDEGATE_STATE/../output/start.log"; exit 1) &'
    detail = host.deploy(starting(text))["detail"]
    assert detail.splitlines()[1:] == [f"{host.home.path}/output/start.log says:", "  no config"]


def test_a_release_that_did_not_last_says_why_too(host: Host) -> None:
    what = package("2.0", logs=["${kind}.log"], settings={"kind": "error"})
    host.stage(what)
    host.start(what)
    (host.home.state / "error.log").write_text("out of cheese\n")
    die(host)
    assert host.confirm(what)["detail"].splitlines()[1:] == [f"{host.home.state}/error.log says:", "  out of cheese"]


def test_a_previous_release_that_does_not_come_back_says_why(host: Host) -> None:
    old = package("1.0", {"bin/start": FRAIL}, logs=["old.log"])
    host.deploy(old)
    (host.home.state / "old.log").write_text("the old one is broken\n")
    (host.home.state / "no").touch()
    answer = host.deploy(starting("exit 1"), old)
    assert answer["state"] == "stuck"
    assert "  the old one is broken" in answer["detail"].splitlines()


# -- reading logs -----------------------------------------------------------


def read(tmp_path: Path, *entries: logs.Entry, **settings: Any) -> list[str]:
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "tree").mkdir(exist_ok=True)
    return logs.last_lines(entries, settings, tmp_path / "tree", tmp_path / "state", Redactor(settings)).splitlines()


@pytest.mark.parametrize("plant", ["missing", "pipe", "directory", "link"])
def test_a_log_that_is_none_says_so_and_is_not_waited_for(tmp_path: Path, plant: str) -> None:
    path = tmp_path / "log"
    (tmp_path / "other").write_text("secret\n")
    {
        "missing": lambda: None,
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "link": lambda: path.symlink_to(tmp_path / "other"),
    }[plant]()
    (line,) = read(tmp_path, str(path))[1:]
    assert line.startswith("  (it ")


@pytest.mark.skipif(os.geteuid() != 0, reason="a link of another user needs root")
def test_a_link_that_a_service_s_user_made_is_not_followed_on_the_way_either(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "log").write_text("secret\n")
    (tmp_path / "state").mkdir()
    link = tmp_path / "state" / "logs"
    link.symlink_to(tmp_path / "etc")
    assert read(tmp_path, "logs/log")[1:] == ["  secret"]  # the administrator's
    os.lchown(link, 65534, 65534)
    (line,) = read(tmp_path, "logs/log")[1:]
    assert line.startswith("  (it can't be read")


def test_a_file_is_looked_for_in_the_state_first_and_in_the_tree_then(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "tree" / "log").write_text("tree\n")
    assert read(tmp_path, "log") == [f"{tmp_path}/tree/log says:", "  tree"]
    (tmp_path / "state" / "log").write_text("state\n")
    assert read(tmp_path, "log") == [f"{tmp_path}/state/log says:", "  state"]


def test_what_logs_say_is_bounded_and_printable(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 100_000 + b"\n\x1b[2J" + b"\xff" * 5000 + "\u202eend\n".encode())
    said = logs.last_lines([str(path)] * 10, {}, tmp_path, tmp_path)
    assert len(said) < 2000 + 10 * (len(str(path)) + 20)
    assert all(line.isprintable() for line in said.splitlines())


def test_an_empty_log_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n")
    assert read(tmp_path, str(tmp_path / "log"))[1:] == ["  nothing"]


def test_what_looks_like_a_secret_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("connecting as app with hunter22 to db://app:hunter33@db/x port 8080\n")
    said = read(tmp_path, str(tmp_path / "log"), db_password="hunter22", port=8080)  # noqa: S106 - made up
    assert said[1:] == ["  connecting as app with ${db_password} to db://app:***@db/x port 8080"]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands in place of systemd's; where they are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_unit_s_journal_is_read(systemd: Path, tmp_path: Path) -> None:
    command(systemd, "journalctl", 'echo "$@"; echo bad config')
    said = read(tmp_path, {"unit": "web.service"})
    assert said == ["unit web.service says:", "  --unit=web.service --lines=20 --no-pager --quiet", "  bad config"]


def test_a_journal_that_can_not_be_read_is_said(systemd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_TIME", 0.2)
    command(systemd, "journalctl", "sleep 65 & wait")
    assert read(tmp_path, {"unit": "web.service"})[1:] == ["  (the journal can't be read: journalctl did not end within 0.2 s)"]
    command(systemd, "journalctl", "echo no such unit >&2; exit 1")
    assert read(tmp_path, {"unit": "web.service"})[1:] == ["  (the journal can't be read: no such unit)"]
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    (line,) = read(tmp_path, {"unit": "web.service"})[1:]
    assert "journalctl can't be run" in line


def test_a_unit_that_has_failed_is_not_waited_for_and_one_that_has_not_is(host: Host, systemd: Path) -> None:
    command(systemd, "journalctl", "echo bad config")
    (host.root.parent / "failed").touch()
    command(systemd, "systemctl", f'[ "$*" = "is-failed --quiet -- web.service" ] && [ -e {host.root.parent}/failed ]')
    answer = host.deploy(starting("true", logs=[{"unit": "web.service"}]))
    assert "can't pass any more, unit web.service has failed" in answer["detail"]
    assert answer["detail"].splitlines()[1:] == ["unit web.service says:", "  bad config"]
    (host.root.parent / "failed").unlink()
    slow = starting('(sleep 1; echo 2.0 >"$TIDEGATE_STATE/running") &', logs=[{"unit": "web.service"}])
    assert host.deploy(slow)["state"] == "active"


def test_without_room_for_what_systemd_says_a_slow_start_is_waited_for(host: Host, systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    slow = starting('(sleep 1; echo 2.0 >"$TIDEGATE_STATE/running") &', logs=[{"unit": "web.service"}])
    assert host.deploy(slow)["state"] == "active"
    (line,) = read(host.root, {"unit": "web.service"})[1:]
    assert "there is no room for what journalctl prints" in line
