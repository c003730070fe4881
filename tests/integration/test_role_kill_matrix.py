# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL in the middle of each step of a release's own role, of the controller alone or of all that it has started; then the same command.

Each task of the role holds a lock of its host as long as it runs, and writes down what it does. The one that a run is killed in stays there
until the next run has had the time to begin another, which would find the lock taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.module_utils.processes import below
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DATA_EVENTS
from documents import simple_manifest, write_document
from fleet import Fleet
from kills import kill_at
from seals import KEYS, pem, private_file
from waiting import wait_until

WAVE = ["drain", "activate", "restore"]
DEPLOY, BACKOUT = "tidegate.release.deploy", "tidegate.release.backout"
# What each step does to its host. A file stands for the load balancer, and one for the data.
COMMANDS = {
    "drain": "touch /srv/drained",
    "activate": "echo VERSION >/srv/version",
    "check": "grep -qx VERSION /srv/version",
    "restore": "rm -f /srv/drained",
    "back_out": "echo {{ tidegate_before[inventory_hostname].version }} >/srv/version",
    "migrate": "echo migrate >>/srv/data",
    "reverse": "echo reverse >>/srv/data",
}
TASK = """
exec 9>/srv/lock
flock -n 9 || echo 'WHAT' >>/srv/twice
echo 'WHAT' >>/srv/notes
if [ "$(cat /srv/stay 2>/dev/null)" = 'WHAT' ]; then touch /srv/stays; while [ -e /srv/stay ]; do sleep 0.1 9>&-; done; fi
COMMAND
"""
PATIENCE = 300  # seconds for what takes as long as a run
TIME_TO_BEGIN = 3.0  # seconds in which a run that waits for nothing begins a task
Whom = Callable[[int], list[int]]


def controller(pid: int) -> list[int]:
    return [pid]


def everything(pid: int) -> list[int]:
    return [pid, *below([pid])]


class Place:
    """The directory of a host in which tasks write what they do, as it is seen from here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def is_locked(self) -> bool:
        with (self.folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


class Bench:
    """Two hosts, the release that comes next and its RFC, and the way to kill a run of that."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.places = {host: Place(Path("/proc", str(fleet.own_lab._init(host)), "root", "srv")) for host in fleet.hosts}
        self.web1 = self.places["web1"]
        self.key = str(private_file(fleet.path, "carl"))
        self.number, self.last = "", 0

    @property
    def version(self) -> str:
        return f"{self.last}.0"

    def release(self, steps: list[str], slow: str, hosts: str = "web1", *, fails: str = "", **own: Any) -> None:
        """Archive the next version, and raise its RFC.

        ``slow``: the steps that a run is killed in; with ``activate`` there is a handler, which no task notifies. ``fails``: the host on
        which its check fails.
        """
        self.last += 1
        self.number = f"CHG011{self.last:04}"
        folder = self.fleet.path / "releases" / self.version
        tasks = folder / "ansible" / "app" / "tasks"
        tasks.mkdir(parents=True)
        for step in [*steps, "back_out"]:
            # A module is waited for, and raw is not but costs a tenth. Each activate may be what a later release goes back by.
            module = "ansible.builtin.shell" if step in (*slow.split(), "activate") else "ansible.builtin.raw"
            command = COMMANDS[step].replace("VERSION", self.version)
            task = {"name": step, module: TASK.replace("COMMAND", command).replace("WHAT", f"{step} {{{{ tidegate_version }}}}")}
            fail = {"name": "Fail", "ansible.builtin.raw": "false", "when": f"inventory_hostname == '{fails}'"}
            (tasks / f"{step}.yml").write_text(yaml.safe_dump([task, fail] if step == "check" and fails else [task]))
        if slow == "activate":
            (tasks.parent / "handlers").mkdir()
            handler = {"name": "restart", "ansible.builtin.raw": TASK.replace("COMMAND", "true").replace("WHAT", f"restart {self.version}")}
            (tasks.parent / "handlers" / "main.yml").write_text(yaml.safe_dump([handler]))
        (folder / "README.md").write_text("# hello\n")
        (folder / "payload").mkdir()
        (folder / "payload" / "version").write_text(self.version)
        ansible = {"role": "ansible/app", "steps": steps, "on_first": "back_out", "atomic": False, "gather_facts": False, **own}
        write_document(folder / "release.yml", simple_manifest(version=self.version, ansible=ansible))
        scope = " || ".join(f"name=='{host}'" for host in hosts.split())
        self.fleet.rfc(self.number, self.version, self.fleet.archive_folder(folder), scope=f"[?{scope}]")

    def play(self, verb: str, **more: str) -> Any:
        return self.fleet.play(verb, self._variables(**more))

    def _variables(self, **more: str) -> dict[str, str]:
        return {"tidegate_rfc": str(self.fleet.path / f"{self.number}.yml"), "tidegate_reason": "a test", **more}

    def kill(self, verb: str, what: str, whom: Whom, **more: str) -> None:
        """Run a verb, and kill it when the task that does ``what`` is at work on web1; that stays so."""
        (self.web1.folder / "stay").write_text(what)
        command, output = self.fleet.command(verb, self._variables(**more)), self.fleet.path / "killed.log"
        with output.open("wb") as log:
            run = subprocess.Popen(
                command, env=self.fleet.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: (self.web1.folder / "stays").exists() or run.poll() is not None, PATIENCE)
            assert run.poll() is None, output.read_text()
        finally:
            for pid in whom(run.pid) if run.returncode is None else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run.wait()
        assert self.web1.is_locked(), "what is at work goes on without its controller"

    def resume(self, verb: str, event: str, **more: str) -> Any:
        """Run a verb; when it has written ``event`` to the journal, let go of what a killed one has left, in a while."""
        events, notes = self.events().count(event), self.web1.read("notes")

        def let_go() -> None:
            try:
                wait_until(lambda: self.events().count(event) > events, PATIENCE)
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: self.web1.read("notes") != notes, TIME_TO_BEGIN)
            finally:
                self.let_go()

        beside = threading.Thread(target=let_go)
        beside.start()
        try:
            return self.play(verb, **more)
        finally:
            beside.join()

    def let_go(self) -> None:
        """Let what a killed run has left come to its end."""
        for name in ("stay", "stays"):
            (self.web1.folder / name).unlink()

    def events(self, host: str = "") -> list[str]:
        """The events of the deployment, or those of one of its hosts."""
        rows = self.fleet.rows(
            "select j.host, j.event from journal j join deployment d on d.id = j.deployment_id "  # noqa: S608 - a test's own RFC number
            f"where d.rfc = '{self.number}' order by j.seq"
        )
        return [event for one, event in rows if host in ("", one)]

    def is_drained(self, host: str) -> bool:
        """Whether the journal has it out of service."""
        return [event for event in self.events(host) if event in ("drained", "restored")][-1:] == ["drained"]

    def assert_whole(self, state: str, hosts: dict[str, str]) -> None:
        """How the deployment and each of its ``hosts`` ended, and what runs there: by the host itself and by the CMDB."""
        assert not [place.folder for place in self.places.values() if place.read("twice")]
        assert {host: self.places[host].read("version") for host in hosts} == {host: [version] for host, version in hosts.items()}
        assert {host: version for host, version in self.fleet.installed().items() if host in hosts} == hosts
        for host, version in hosts.items():
            live = self.places[host].folder.parent / "opt" / "tidegate" / "hello" / "current" / "version"
            assert live.read_text() == version
            assert not (self.places[host].folder / "drained").exists()
            assert not self.is_drained(host)
        ended = "active" if state == "completed" else "backed_out"
        assert (self.fleet.state(self.number), self.fleet.host_states(self.number)) == (state, dict.fromkeys(hosts, ended))
        assert self.fleet.rows("select count(*) from lock") == [(0,)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Both hosts have a version, and each test goes on from what the one before left."""
    path = tmp_path_factory.mktemp("matrix")
    path.chmod(0o755)
    fleet = Fleet(path, 2)
    fleet.up()
    try:
        bench = Bench(fleet)
        fleet.write_policy(rollout={"canary": 2, "steps": [100]})
        bench.release(WAVE, "activate", "web1 web2")
        done = bench.play(DEPLOY)
        assert done.returncode == 0, done.stdout
        fleet.write_policy(rollout={"canary": 1, "steps": [100], "budget": {"wave": 0, "total": 0}})
        yield bench
    finally:
        fleet.down()


WHOM = pytest.mark.parametrize("whom", [controller, everything])


@WHOM
@pytest.mark.parametrize("step", ["drain", "activate", "check", "restore"])
def test_a_run_that_was_killed_on_the_way_forward_is_made_up_for(bench: Bench, step: str, whom: Whom) -> None:
    bench.release([*WAVE, "check"] if step == "check" else WAVE, step)
    bench.kill(DEPLOY, f"{step} {bench.version}", whom)
    assert (bench.fleet.host_states(bench.number), bench.is_drained("web1")) == ({"web1": "activating"}, True)
    done = bench.resume(DEPLOY, "drained")
    assert done.returncode == 0, done.stdout
    # What the killed run may have notified is not known, so all are.
    assert (f"restart {bench.version}" in bench.web1.read("notes")) is (step == "activate")
    bench.assert_whole("completed", {"web1": bench.version})


@pytest.mark.parametrize(("step", "whom"), [("back_out", controller), ("back_out", everything), ("activate", everything)])
def test_a_run_that_failed_in_its_last_wave_and_was_killed_on_the_way_back_is_made_up_for(bench: Bench, step: str, whom: Whom) -> None:
    """By a step of its own role, or of that of the release before."""
    before = bench.fleet.installed()
    way = "own" if step == "back_out" else "previous"
    bench.release([*WAVE, "check"], step, "web1 web2", fails="web2", back_out=way)
    bench.kill(DEPLOY, f"{step} {bench.version if way == 'own' else before['web1']}", whom)
    assert (bench.fleet.host_states(bench.number)["web1"], bench.is_drained("web1")) == ("backing_out", True)
    done = bench.resume(DEPLOY, "drained")
    assert done.returncode != 0, done.stdout
    assert "was backed out of" in done.stdout
    assert "web2: the task 'Fail' (ansible.builtin.raw) failed, see " in done.stdout
    bench.assert_whole("backed_out", before)


@pytest.mark.thorough
@pytest.mark.parametrize("event", ["drained", "restored"])
def test_a_run_that_was_killed_between_what_a_step_did_and_its_note_does_the_step_again(bench: Bench, event: str) -> None:
    bench.release(WAVE, "activate")
    kill_at(bench.fleet, event, bench.fleet.command(DEPLOY, bench._variables()))
    done = bench.play(DEPLOY)
    assert done.returncode == 0, done.stdout
    bench.assert_whole("completed", {"web1": bench.version})


@pytest.mark.thorough
def test_data_that_a_killed_run_was_changing_are_changed_again_only_by_the_word_of_a_person(bench: Bench) -> None:
    fleet, web1, before = bench.fleet, bench.web1, bench.fleet.installed()["web1"]
    people = {"carl": {"roles": ["change-manager"], "keys": [{"public": pem(KEYS["carl"])}]}}
    fleet.write_policy(people=people, rollout={"canary": 1, "steps": [100]})
    bench.release(["migrate", "activate", "reverse"], "migrate reverse", migrate_on="[?name=='web1'].name")

    bench.kill(DEPLOY, f"migrate {bench.version}", controller)
    # A worker that is left sees that its controller is gone, and writes that down.
    wait_until(lambda: "migrate_failed" in bench.events())
    asked = "migrate on web1 failed (the run of Ansible that this is a part of has ended), so it is not known what it has done to the data"
    word = _hold(bench, DEPLOY, asked, "as_before")
    bench.let_go()
    wait_until(lambda: web1.read("data") == ["migrate"])
    bench.kill(DEPLOY, f"migrate {bench.version}", everything, tidegate_data=word, tidegate_key=bench.key)
    word = _hold(bench, DEPLOY, "migrate on web1 was interrupted, so it is not known what it has done to the data", "as_before")
    done = bench.play(DEPLOY, tidegate_data=word)
    assert "the policy names people, so that the data" in done.stdout, done.stdout
    assert (fleet.state(bench.number), fleet.host_states(bench.number)) == ("held", {"web1": "staged"})
    done = bench.resume(DEPLOY, "migrating", tidegate_data=word, tidegate_key=bench.key)
    assert done.returncode == 0, done.stdout
    assert web1.read("data") == ["migrate"] * 3
    bench.assert_whole("completed", {"web1": bench.version})

    bench.kill(BACKOUT, f"reverse {bench.version}", controller)
    wait_until(lambda: "reverse_failed" in bench.events())
    first = _hold(bench, BACKOUT, "every host is back, but reverse on web1 failed (the run of Ansible that this is a part of ", "migrated")
    bench.let_go()
    wait_until(lambda: web1.read("data")[3:] == ["reverse"])
    bench.kill(BACKOUT, f"reverse {bench.version}", everything, tidegate_data=first, tidegate_key=bench.key)
    word = _hold(bench, BACKOUT, "every host is back, but reverse on web1 was interrupted", "migrated")
    done = bench.play(BACKOUT, tidegate_data=first, tidegate_key=bench.key)
    assert f"tidegate_data is about attempt {first.partition(':')[2]}, but the last one" in done.stdout, done.stdout
    assert (fleet.state(bench.number), fleet.host_states(bench.number)) == ("backing_out", {"web1": "backed_out"})
    done = bench.resume(BACKOUT, "reversing", tidegate_data=word, tidegate_key=bench.key)
    assert done.returncode == 0, done.stdout
    assert web1.read("data") == ["migrate"] * 3 + ["reverse"] * 3
    assert [event for event in bench.events() if event in DATA_EVENTS] == [
        *("migrating", "migrate_failed", "not_migrated", "migrating", "not_migrated", "migrating", "migrated"),
        *("reversing", "reverse_failed", "migrated", "reversing", "migrated", "reversing", "reversed"),
    ]
    bench.assert_whole("backed_out", {"web1": before})


def _hold(bench: Bench, verb: str, asked: str, word: str) -> str:
    """Run the same command again: it begins nothing, and asks for the word of a person, which is returned."""
    notes = bench.web1.read("notes")
    done = bench.play(verb)
    assert done.returncode != 0, done.stdout
    assert asked in done.stdout
    assert bench.web1.read("notes") == notes
    found = re.search(rf"tidegate_data=({word}:\d+)", done.stdout)
    assert found, done.stdout
    return found[1]
