# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers deploy one RFC to lab hosts, each those of its own inventory; each test goes on from the last."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.processes import below
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal
from fleet import CANARY, HEALTH, PORT, Fleet
from jobs import Job
from kills import kill_at, killing
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

SLICES = (("web1", "web4"), ("web2",), ("web3", "web5"))
QUICK = {
    "hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/start"], "timeout": 10}},
    "health": [{**HEALTH, "timeout": 10}],
}
BROKEN = {**QUICK, "health": [{"name": "never", "tcp": {"host": "${address}", "port": 1}, "timeout": 1}]}
ROLLOUT = {"canary": 2, "steps": [60, 100], "budget": {"wave": 0, "total": 0}}  # waves of 2, 1 and 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("slices"), count=5, policy={"rollout": ROLLOUT})
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


def rfc(fleet: Fleet, number: int, **changes: object) -> str:
    digest = fleet.archive(f"{number}.0", **{**QUICK, **changes})
    return str(fleet.rfc(f"CHG{number}", f"{number}.0", digest))


def command(fleet: Fleet, path: str, hosts: Sequence[str], *options: str, verb: str = "deploy") -> list[str]:
    about = {"tidegate_rfc": path, "tidegate_slice": True}
    return fleet.command(f"tidegate.release.{verb}", about, "--limit", ",".join(("localhost", *hosts)), *options)


def start(fleet: Fleet, commands: Sequence[list[str]]) -> list[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return [subprocess.Popen(one, env=fleet.environment, **pipes) for one in commands]  # type: ignore[call-overload]  # of the above


def ends(fleet: Fleet, runs: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """How runs that were started end, and what each said on one line."""
    found = []
    for run in runs:
        said = run.communicate(timeout=fleet.patience)[0]
        fleet.said.extend(said.splitlines())
        assert "Traceback" not in said
        found.append((run.returncode, " ".join(said.split())))
    return found


def deploy(fleet: Fleet, path: str, slices: Sequence[Sequence[str]] = SLICES, verb: str = "deploy") -> list[tuple[int, str]]:
    return ends(fleet, start(fleet, [command(fleet, path, hosts, verb=verb) for hosts in slices]))


def entries(fleet: Fleet, number: int, *events: str) -> list[tuple[str, str | None, int | None]]:
    listed = ", ".join(f"'{event}'" for event in events)
    return fleet.rows(
        f"select j.event, j.host, j.wave from journal j join deployment d on d.id = j.deployment_id where d.rfc = 'CHG{number}' "  # noqa: S608 - a test's own
        f"and j.event in ({listed}) order by j.seq"
    )


def test_three_slices_deploy_in_the_waves_of_one_plan(running: Fleet) -> None:
    said = deploy(running, rfc(running, 8100))
    assert [status for status, _text in said] == [0, 0, 0], said
    assert set(running.served().values()) == {"8100.0"}
    assert running.state("CHG8100") == "completed"
    assert all("is live on 5 of 5 hosts" in text for _status, text in said)
    assert len(entries(running, 8100, "planned")) == 1
    assert len(entries(running, 8100, "joined")) == 3
    opened = [wave for _event, _host, wave in entries(running, 8100, "opened")]
    assert opened == [1, 2, 3]
    in_order = [wave for _event, _host, wave in entries(running, 8100, "activating", "opened") if wave is not None]
    assert in_order == sorted(in_order)


@pytest.mark.thorough
def test_a_wave_that_fails_in_one_slice_is_taken_back_in_all(running: Fleet) -> None:
    before = running.served()
    said = deploy(running, rfc(running, 8101, **BROKEN))
    assert all(status != 0 for status, _text in said)
    assert all("was backed out" in text for _status, text in said), said
    assert running.state("CHG8101") == "backed_out"
    assert running.served() == before


def test_what_is_no_slice_is_refused_and_says_so(running: Fleet) -> None:
    path = rfc(running, 8102)
    whole = running.play("tidegate.release.deploy", {"tidegate_rfc": path}, "--limit", "localhost,web1")
    assert whole.returncode != 0
    assert "-e tidegate_slice=true" in " ".join(whole.stdout.split()), whole.stdout
    nobody = running.play("tidegate.release.deploy", {"tidegate_rfc": path, "tidegate_slice": True}, inventory="elsewhere,")
    assert nobody.returncode != 0
    assert "this slice of the inventory has none of the 5 CIs" in " ".join(nobody.stdout.split())
    assert running.state("CHG8102") is None


def test_two_slices_with_one_host_and_a_run_of_all_of_them_are_refused(running: Fleet) -> None:
    path = rfc(running, 8103)
    (first,) = start(running, [command(running, path, SLICES[0])])
    try:
        wait_until(lambda: len(entries(running, 8103, "joined")) == 1)
        again, status = running.execute(command(running, path, ("web4", "web5"))), None
        assert again.returncode != 0
        assert "web4 is in the slice of" in " ".join(again.stdout.split())
        alone = running.play("tidegate.release.deploy", {"tidegate_rfc": path})
        assert alone.returncode != 0
        assert "is being driven by" in " ".join(alone.stdout.split())
        others = deploy(running, path, SLICES[1:])
    finally:
        ((status, _text),) = ends(running, [first])
    assert [status, *(ended for ended, _text in others)] == [0, 0, 0], others
    assert set(running.served().values()) == {"8103.0"}


@pytest.mark.parametrize(("number", "event", "host"), [(8104, "staged", "web3"), (8105, "activating", "web3"), (8106, "decided", "")])
def test_when_one_is_killed_the_others_hold_and_name_it_and_all_go_on(running: Fleet, number: int, event: str, host: str) -> None:
    path = rfc(running, number)
    killed = killing(event, command(running, path, SLICES[2] if host else SLICES[0]), host)
    others = [command(running, path, hosts) for hosts in SLICES if hosts is not (SLICES[2] if host else SLICES[0])]
    first, *rest = start(running, [killed, *others] if host else [killed])
    if not host:
        wait_until(lambda: len(entries(running, number, "joined")) == 1)  # so that this one decides
        rest = start(running, others)
    (was_killed, *ended) = ends(running, [first, *rest])
    assert was_killed[0] == 0, was_killed
    assert all(status != 0 for status, _text in ended), ended
    assert running.state(f"CHG{number}") == "held"
    assert any("has ended before" in text and (host or "web1") in text for _status, text in ended), ended
    again = deploy(running, path)
    assert [status for status, _text in again] == [0, 0, 0], again
    assert set(running.served().values()) == {f"{number}.0"}
    assert running.state(f"CHG{number}") == "completed"


@pytest.mark.thorough
def test_one_that_sleeps_through_its_lease_begins_nothing_when_it_wakes(running: Fleet) -> None:
    path = rfc(running, 8110)
    sleeper, *others = start(running, [command(running, path, hosts, "--forks", "1") for hosts in SLICES])
    wait_until(lambda: ("activating", "web1", 1) in entries(running, 8110, "activating"))
    os.killpg(sleeper.pid, signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(running.path / "cmdb.sqlite", timeout=30)) as connection:
        of_sleeper = "token = (select controller from deployment_host where host = 'web1' order by deployment_id desc limit 1)"
        connection.execute(f"update controller set lease_until = '2026-01-01 00:00:00.000000' where {of_sleeper}")  # noqa: S608 - as above
        connection.commit()
    ended = ends(running, others)
    assert all(status != 0 for status, _text in ended), ended
    assert running.state("CHG8110") == "held"
    os.killpg(sleeper.pid, signal.SIGCONT)
    ((status, text),) = ends(running, [sleeper])
    assert status != 0, text
    assert ("activating", "web4", 3) not in entries(running, 8110, "activating")
    again = deploy(running, path)
    assert [status for status, _text in again] == [0, 0, 0], again
    assert set(running.served().values()) == {"8110.0"}


STREAMED = (("web1",), ("web2",), ("web3",), ("web4", "web5"))


@dataclass
class Streams:
    """A deployment that is transmitted to four workers of ansible-runner, with a CMDB."""

    fleet: Fleet
    url: str
    path: Path
    rfc: str
    launches: int = 0

    def start(self) -> list[subprocess.Popen[str]]:
        """Launch a job for each slice."""
        self.launches += 1
        variables = self.fleet.hostvars()
        homes = {name: self.fleet.environment[name] for name in ("TIDEGATE_DSL", "TIDEGATE_POLICY")}
        streams = []
        for number, hosts in enumerate(STREAMED):
            own = {host: with_settings(variables[host]) for host in hosts}
            job = Job(self.path / f"slice{self.launches}.{number}", own, {"TIDEGATE_CMDB": self.url, **homes})
            job.lay_out({"tidegate_rfc": self.rfc, "tidegate_slice": True})
            streams.append(job.stream("tidegate.release.deploy", self.streamed(number)))
        return start(self.fleet, [["bash", "-c", stream] for stream in streams])

    def streamed(self, number: int) -> Path:
        return self.path / f"streamed{self.launches}.{number}"

    def assert_completed(self, ended: Sequence[tuple[int, str]]) -> None:
        """All jobs of the last launch say that the release is everywhere, and it is."""
        assert [text[-1] for _status, text in ended] == ["0"] * len(STREAMED), ended
        passed_on = [Job.streamed(self.streamed(number)).artifacts["tidegate_concluded"] for number in range(len(STREAMED))]
        assert [(one["state"], one["hosts"]) for one in passed_on] == [("completed", {"active": 5})] * len(STREAMED), passed_on
        assert self.state() == "completed"

    def state(self) -> str:
        with Cmdb.open(self.url) as cmdb:
            found = SliceJournal(cmdb).latest(Path(self.rfc).stem)
            return str(found.state) if found else ""

    def stands(self, host: str) -> str:
        """The state of a host by the journal, empty before there is one."""
        with Cmdb.open(self.url) as cmdb:
            journal = SliceJournal(cmdb)
            found = journal.latest(Path(self.rfc).stem)
            return next((str(one.state) for one in journal.targets(found.id) if one.host == host), "") if found else ""


@pytest.fixture
def streams_in(running: Fleet, postgresql: Callable[[], str], tmp_path: Path) -> Callable[[str, int], Streams]:
    """Make the streams of an RFC, in a CMDB of its own."""

    def make(database: str, number: int) -> Streams:
        url = postgresql() if database == "postgresql" else str(tmp_path / "cmdb.sqlite")
        variables, known = running.hostvars(), {"class": "server", "site": "ams", "environment": "lab"}
        with Cmdb.open(url, create=True) as cmdb:
            cmdb.put_cis([{"name": name, **known, "attributes": variables[name]} for name in running.hosts], "test")
        return Streams(running, url, tmp_path, rfc(running, number))

    return make


@pytest.mark.parametrize(("number", "database"), [(8111, "postgresql"), pytest.param(8121, "sqlite", marks=pytest.mark.thorough)])
def test_streams_of_ansible_runner_share_a_deployment(
    running: Fleet, streams_in: Callable[[str, int], Streams], number: int, database: str
) -> None:
    streams = streams_in(database, number)
    streams.assert_completed(ends(running, streams.start()))
    assert set(running.served().values()) == {f"{number}.0"}


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "database"), [(8122, "postgresql"), (8123, "sqlite")])
def test_a_stream_whose_worker_is_killed_holds_the_others_and_is_launched_again(
    running: Fleet, streams_in: Callable[[str, int], Streams], number: int, database: str
) -> None:
    streams = streams_in(database, number)
    started = streams.start()
    wait_until(lambda: streams.stands("web3") == "activating")
    for pid in below([started[2].pid]):  # its own processes, which have its one host
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ended = ends(running, started)
    assert all(text[-1:] != "0" for _status, text in ended), ended
    assert streams.state() == "held"
    streams.assert_completed(ends(running, streams.start()))
    assert set(running.served().values()) == {f"{number}.0"}


@pytest.mark.thorough
def test_slices_switch_at_one_instant_that_one_of_them_sets(running: Fleet) -> None:
    together = {"skew_milliseconds": 5000, "lead_seconds": 8}
    running.write_policy(rollout={**ROLLOUT, "canary": 5, "steps": [100], "together": together})
    said = deploy(running, rfc(running, 8112))
    running.write_policy(rollout=ROLLOUT)
    assert [status for status, _text in said] == [0, 0, 0], said
    assert set(running.served().values()) == {"8112.0"}
    ((_event, _host, wave),) = entries(running, 8112, "fire")
    assert wave == 1
    assert len(entries(running, 8112, "armed")) == 5
    ((data,),) = running.rows("select data from journal where event = 'fire' order by seq desc limit 1")
    at = datetime.fromisoformat(json.loads(data)["at"])
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as a host's log is
    for host in running.hosts:
        lines = map(json.loads, running.run_on(host, "cat /opt/tidegate/hello/log.jsonl").splitlines())
        assert at <= datetime.fromisoformat([line["at"] for line in lines if line["event"] == "activating"][-1])


def with_settings(variables: dict[str, Any]) -> dict[str, Any]:
    own = {"address": variables["ansible_host"], "port": PORT, "python": variables.get("ansible_python_interpreter", "python3")}
    return {**variables, "tidegate_settings": {**own, "token": CANARY}}


@pytest.mark.thorough
def test_when_each_is_killed_as_it_joins_or_closes_the_same_commands_end_it(running: Fleet) -> None:
    path = rfc(running, 8120)
    kill_at(running, "joined", command(running, path, SLICES[0]))
    # Who is first to close is killed before it says so, and so is who comes next.
    killed = ends(running, start(running, [killing("closing", command(running, path, hosts)) for hosts in SLICES]))
    assert [status for status, _text in killed] == [0, 0, 0], killed
    again = deploy(running, path)
    assert [status for status, _text in again] == [0, 0, 0], again
    assert running.state("CHG8120") == "completed"
    assert set(running.served().values()) == {"8120.0"}


def test_ctrl_c_in_one_holds_all(running: Fleet) -> None:
    path = rfc(running, 8107)
    runs = start(running, [command(running, path, hosts) for hosts in SLICES[:2]])
    wait_until(lambda: len(entries(running, 8107, "joined")) == 2)
    os.kill(runs[0].pid, signal.SIGINT)
    ended = ends(running, runs)
    assert all(status != 0 for status, _text in ended), ended
    assert running.state("CHG8107") == "held"
    again = deploy(running, path)
    assert [status for status, _text in again] == [0, 0, 0], again


@pytest.mark.thorough
def test_staged_and_backed_out_by_slices(running: Fleet) -> None:
    before, path = running.served(), rfc(running, 8108)
    staged = deploy(running, path, verb="stage")
    assert [status for status, _text in staged] == [0, 0, 0], staged
    done = deploy(running, path)
    assert [status for status, _text in done] == [0, 0, 0], done
    back = deploy(running, path, verb="backout")
    assert [status for status, _text in back] == [0, 0, 0], back
    assert running.served() == before
    order = [wave for _event, _host, wave in entries(running, 8108, "backing_out") if wave is not None]
    assert order == sorted(order, reverse=True)


@pytest.mark.thorough
def test_a_host_that_nobody_has_is_late_and_comes_in_later(running: Fleet) -> None:
    running.write_policy(rollout={**ROLLOUT, "budget": {"wave": 1, "total": 1}, "support": {"hours": 0, "late_days": 1}})
    path = rfc(running, 8109)
    runs = start(running, [[*command(running, path, hosts), "-e", "tidegate_slice_patience=45"] for hosts in SLICES[:2]])
    last = start(running, [[*command(running, path, ("web3",)), "-e", "tidegate_slice_patience=45"]])
    ended = ends(running, [*runs, *last])
    assert [status for status, _text in ended] == [0, 0, 0], ended
    assert running.host_states("CHG8109")["web5"] == "stage_failed"
    alone = running.execute(command(running, path, SLICES[2]))
    assert alone.returncode == 0, alone.stdout
    assert set(running.served().values()) == {"8109.0"}
    running.write_policy(rollout=ROLLOUT)
