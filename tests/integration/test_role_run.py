# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ansible-playbook within another: what a team's tasks may do to it, and what is believed of each host afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.tidegate.release.plugins.module_utils.processes import below, start_time
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import role_run
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.role_run import RolePlay, Seen, prepare_log, run_play
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.role_play import MARK, Role, forward, play, verdicts
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.wave_journal import WaveJournal
from waiting import wait_until

NOW = datetime.now(UTC)
ELSEWHERE = Holder("ann", "other-machine", 4711, 99, "feedbeef")
HOSTS = ["sh1", "sh2"]
END = "the end, 0123"
ONE = "inventory_hostname == 'sh1'"
LOST = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
ONE_LOST = {"ansible_connection": f"{{{{ 'ssh' if {ONE} else 'local' }}}}", "ansible_host": "127.0.0.1", "ansible_port": 1}
FAILS: dict[str, Any] = {"ansible.builtin.command": "false"}
WORKS: dict[str, Any] = {"ansible.builtin.command": "true", "changed_when": False}


class Bed:
    """A role on two hosts that are this machine, a deployment in a CMDB, and what was seen of a run."""

    def __init__(self, path: Path) -> None:
        self.path, self.role, self.work = path, path / "app", path / "work"
        self.work.mkdir(mode=0o700)
        (path / "log").mkdir()
        hosts = {host: {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"} for host in HOSTS}
        (path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        self.cmdb = str(path / "cmdb.sqlite")
        with Cmdb.open(self.cmdb, create=True) as cmdb:
            cmdb.put_cis([{"name": host, "class": "server"} for host in HOSTS], actor="test")
            package = {"name": "hello", "version": "2.0", "digest": "sha256:" + "b" * 64}
            self.run = WaveJournal(cmdb).begin("CHG0001", package, [HOSTS], Rollout(role="app", tree=False), ELSEWHERE, NOW)
        self.action = SimpleNamespace(_play_context=SimpleNamespace(password=None, become_pass=None), _loader=DataLoader())

    def order(self) -> dict[str, Any]:
        return {"cmdb": self.cmdb, "deployment": self.run.deployment, "token": self.run.token}

    def do(self, activate: Any, timeout: float = 60, watch: Callable[[], None] = lambda: None, **variables: Any) -> Seen:
        (self.role / "tasks").mkdir(parents=True, exist_ok=True)
        text = activate if isinstance(activate, str) else yaml.safe_dump(activate)
        (self.role / "tasks" / "activate.yml").write_text(text)
        parts = forward(Role(str(self.role), ("activate",)), "hello 2.0", False, 0, ())
        document = play("CHG0001#1", HOSTS, parts, "CHG0001#1:7", END, facts=False, tree={})
        steps = {part.called: timeout for part in parts if part.tasks}
        wanted = RolePlay(
            document, END, steps, {"tidegate_version": "2.0", "tidegate_become": False, **variables}, [], self.path / "log" / "a.log"
        )
        return run_play(self.action, wanted, self.order(), self.work, watch)

    def good(self, activate: Any) -> list[str]:
        seen = self.do(activate)
        found = verdicts(HOSTS, seen.receipts, seen.failures, seen.ended)
        return [host for host in HOSTS if not found[host].problem]


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    monkeypatch.setattr(
        context, "CLIARGS", ImmutableDict(inventory=(str(tmp_path / "hosts.yml"),), forks=5, ask_pass=True, become_ask_pass=True)
    )
    return Bed(tmp_path)


@pytest.mark.parametrize(
    ("tasks", "good"),
    [
        pytest.param([WORKS], HOSTS, id="plain"),
        pytest.param([{**FAILS, "when": ONE}], ["sh2"], id="fails on one"),
        pytest.param([{**FAILS, "when": ONE, "any_errors_fatal": True}], [], id="fails on one, fatal for all"),
        pytest.param([WORKS, {**WORKS, "vars": ONE_LOST}, WORKS], ["sh2"], id="unreachable in the middle"),
        pytest.param([{**WORKS, "vars": LOST}], [], id="all unreachable"),
        pytest.param([{**WORKS, "vars": ONE_LOST, "ignore_unreachable": True}, WORKS], ["sh2"], id="unreachable, and ignored"),
        pytest.param([{**FAILS, "run_once": True}], [], id="fails once for all"),
        pytest.param([{"ansible.builtin.include_role": {"name": "there_is_none"}}], [], id="a role that is not there"),
        pytest.param([{**FAILS, "ignore_errors": True}], HOSTS, id="ignored"),
        pytest.param([{"block": [FAILS], "rescue": [WORKS]}], HOSTS, id="rescued"),
        pytest.param([{**WORKS, "changed_when": True, "notify": "no such handler"}], [], id="no such handler"),
        # These are refused when they are archived. If they were not, no host would be taken for a good one that it was not done to.
        pytest.param([{"ansible.builtin.meta": "end_play", "when": ONE}, WORKS], [], id="end_play"),
        pytest.param([{"ansible.builtin.meta": "end_host", "when": ONE}, WORKS], ["sh2"], id="end_host"),
        pytest.param([{"ansible.builtin.meta": "end_batch"}, WORKS], [], id="end_batch"),
        pytest.param([{**FAILS, "when": ONE}, {"ansible.builtin.meta": "clear_host_errors"}, WORKS], ["sh2"], id="clear_host_errors"),
        pytest.param([{"ansible.builtin.meta": "refresh_inventory"}, WORKS], HOSTS, id="refresh_inventory"),
    ],
)
def test_only_hosts_are_good_that_all_of_it_was_done_to(bed: Bed, tasks: Any, good: list[str]) -> None:
    assert bed.good(tasks) == good


def test_it_is_seen_in_which_part_a_host_failed(bed: Bed) -> None:
    seen = bed.do([{"block": [{**FAILS, "when": ONE}], "always": [WORKS]}])
    assert [(one.host, one.part) for one in seen.receipts if one.event == "failed"] == [("sh1", "activate of hello 2.0")]
    assert seen.failures == {"sh1": 1, "sh2": 0}


@pytest.mark.parametrize("fault", ["tasks", "inventory", "callback"])
def test_what_can_not_begin_is_said_and_no_host_is_taken_for_changed(bed: Bed, fault: str) -> None:
    if fault == "inventory":
        (bed.path / "hosts.yml").write_text("plugin: there.is.none\n")
    elif fault == "callback":
        Path(bed.cmdb).write_text("no database")
    with pytest.raises(TidegateError, match="the release's role was not begun"):
        bed.do(
            "- command: 'true'\n bad\n" if fault == "tasks" else [{"ansible.builtin.file": {"path": f"{bed.path}/went", "state": "touch"}}]
        )
    assert not (bed.path / "went").exists()


def test_nothing_is_done_that_nobody_writes_down(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_run, "_CALLBACK", "ansible.builtin.minimal_that_there_is_not")
    with pytest.raises(TidegateError, match="the release's role was not begun"):
        bed.do([{"ansible.builtin.file": {"path": f"{bed.path}/went", "state": "touch"}}])
    assert not (bed.path / "went").exists()


def test_what_lies_around_in_the_directory_is_not_taken_for_a_library(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    (bed.path / "secrets.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(bed.path)
    assert bed.good([WORKS]) == HOSTS


def test_our_variables_are_above_all_others(bed: Bed) -> None:
    (bed.role / "vars").mkdir(parents=True)
    (bed.role / "vars" / "main.yml").write_text("tidegate_version: theirs\n")
    sets = {"ansible.builtin.set_fact": {"tidegate_version": "theirs"}}
    looks = {"ansible.builtin.assert": {"that": "tidegate_version == '2.0'"}}
    assert bed.good([sets, looks]) == HOSTS


def test_before_each_task_it_is_looked_up_whether_this_run_still_holds_the_deployment(bed: Bed) -> None:
    began, went = bed.path / "began", bed.path / "went"
    waits = {"ansible.builtin.shell": f"touch {began}; while [ ! -e {went} ]; do sleep 0.1; done"}
    marks = {"ansible.builtin.file": {"path": str(bed.path / "after"), "state": "touch"}}

    def supersede() -> None:
        wait_until(began.exists)
        with Cmdb.open(bed.cmdb) as cmdb:
            WaveJournal(cmdb).take_over(bed.run.deployment, Holder.this_run(), NOW, ordered=True)
        went.touch()

    other = threading.Thread(target=supersede)
    other.start()
    seen = bed.do([waits, marks])
    other.join()
    assert seen.ended == "another controller has taken the deployment over"
    assert not (bed.path / "after").exists()
    assert all(found.problem for found in verdicts(HOSTS, seen.receipts, seen.failures, seen.ended).values())


def test_a_run_whose_receipts_can_not_be_written_ends(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = bed.do([{"ansible.builtin.file": {"path": bed.cmdb, "state": "absent"}, "run_once": True}, WORKS])
    assert seen.ended.startswith("what it does could not be written down")


def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(bed: Bed) -> None:
    pid = bed.path / "pid"
    seen = bed.do([{"ansible.builtin.shell": f"echo $$ >{pid}; exec sleep 300"}], timeout=4)
    assert seen.ended == "activate of hello 2.0 took longer than 4 s"
    assert not start_time(int(pid.read_text()))
    assert all(found.problem for found in verdicts(HOSTS, seen.receipts, seen.failures, seen.ended).values())


def test_a_run_that_may_not_go_on_is_ended(bed: Bed) -> None:
    def superseded() -> None:
        if (bed.path / "began").exists():
            raise ConflictError("another controller has taken it over")

    with pytest.raises(ConflictError):
        bed.do([{"ansible.builtin.shell": f"touch {bed.path}/began; sleep 300"}], watch=superseded)


def test_passwords_and_vault_secrets_are_in_no_argument_and_in_no_file(bed: Bed) -> None:
    secret = "tide-3f9a-secret"  # noqa: S105 - a test's own
    vault = VaultLib([("prod", VaultSecret(secret.encode()))])
    sealed = vault.encrypt("what is sealed", vault_id="prod").decode()
    (bed.path / "group_vars").mkdir()
    (bed.path / "group_vars" / "all.yml").write_text("sealed: !vault |\n" + "".join(f"  {line}\n" for line in sealed.splitlines()))
    bed.action._loader.set_vault_secrets([("prod", VaultSecret(secret.encode()))])
    bed.action._play_context.become_pass = secret
    bed.action._play_context.password = secret
    said: list[bytes] = []

    def watch() -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                said.append(process.read_bytes())
            except OSError:
                continue

    looks = {"ansible.builtin.assert": {"that": "sealed == 'what is sealed'"}}
    seen = bed.do([looks, {"ansible.builtin.pause": {"seconds": 1}}], watch=watch)
    assert seen.failures == {"sh1": 0, "sh2": 0}, (bed.path / "log" / "a.log").read_text()
    assert any(b"--become-password-file" in line for line in said)
    assert not any(secret.encode() in line for line in said)
    files = [file for file in bed.path.rglob("*") if file.is_file()]
    assert not [file for file in files if secret.encode() in file.read_bytes()]
    assert (bed.path / "log" / "a.log").stat().st_mode & 0o777 == 0o600


def test_what_a_configuration_says_can_not_cut_it(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ANSIBLE_RUN_TAGS": "nothing",
        "ANSIBLE_SKIP_TAGS": "all",
        "ANSIBLE_STRATEGY": "free",
        "ANSIBLE_STDOUT_CALLBACK": "tidegate.release.progress",
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "ANSIBLE_ASK_VAULT_PASS": "true",
        "ANSIBLE_BECOME_ASK_PASS": "true",
        "ANSIBLE_ANY_ERRORS_FATAL": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert bed.good([{**FAILS, "when": ONE}]) == ["sh2"]


def test_all_that_it_starts_carries_its_mark(bed: Bed) -> None:
    found = bed.path / "environment"
    bed.good([{"ansible.builtin.shell": f"env >{found}", "run_once": True}])
    assert f"{MARK}=CHG0001#1:7" in found.read_text().splitlines()


def test_it_dies_with_the_worker_that_started_it_and_begins_no_other_item_of_a_loop(bed: Bed) -> None:
    pid = bed.path / "pid"
    child = os.fork()
    if child == 0:
        try:
            looped = {"ansible.builtin.shell": f"echo $$ >>{pid}; exec sleep 300", "run_once": True, "loop": [1, 2]}
            bed.do([looped, WORKS])
        finally:
            os._exit(0)
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    of_it = [one for one in below([child]) if _parent(one) == child]
    # The ansible-playbook, and its worker, which has the loop.
    started = {one: start_time(one) for one in (*of_it, *(one for one in below(of_it) if _parent(one) in of_it))}
    assert len(started) == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 60
    while any(start_time(one) == moment for one, moment in started.items()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(start_time(one) == moment for one, moment in started.items())
    (module,) = pid.read_text().split()
    os.kill(int(module), signal.SIGKILL)  # a task on its way goes on; who goes on with the deployment waits for it


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_log_that_can_not_be_written_is_said_before_anything_is_begun(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    with pytest.raises(TidegateError, match="set XDG_STATE_HOME to another directory"):
        prepare_log(tmp_path / "state" / "tidegate" / "a.log")


@pytest.mark.parametrize("fault", ["link", "second name", "pipe"])
def test_a_log_that_is_not_ones_own_is_not_written(bed: Bed, fault: str) -> None:
    log = bed.path / "log" / "a.log"
    if fault == "pipe":
        os.mkfifo(log)
    else:
        (bed.path / "other").write_text("theirs")
        (log.symlink_to if fault == "link" else log.hardlink_to)(bed.path / "other")
    with pytest.raises(TidegateError, match=r"the release's role can't be run|is not a file of yours alone"):
        bed.do([{"ansible.builtin.file": {"path": f"{bed.path}/went", "state": "touch"}}])
    assert not (bed.path / "went").exists()
    assert fault == "pipe" or (bed.path / "other").read_text() == "theirs"


def test_a_log_that_others_could_read_is_its_owners_alone_from_then_on(bed: Bed) -> None:
    log = bed.path / "log" / "a.log"
    log.write_text("before\n")
    log.chmod(0o644)
    assert bed.good([WORKS]) == HOSTS
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text().startswith("before\n---")
