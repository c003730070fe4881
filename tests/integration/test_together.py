# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts that are switched at one instant; each test goes on from the last."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent import futures
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fleet import HEALTH, Fleet
from kills import kill_at
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="isolated lab hosts need root")

TOGETHER: dict[str, Any] = {"skew_milliseconds": 5000, "lead_seconds": 8}  # the machine is busy, and its clock is everybody's
ROLLOUT = {"canary": 3, "steps": [100], "budget": {"wave": 1, "total": 1}, "on_failure": "hold", "together": TOGETHER}
QUICK = {
    "hooks": {"stop": {"command": ["bin/stop"], "timeout": 10}, "start": {"command": ["bin/start"], "timeout": 10}},
    "health": [{**HEALTH, "timeout": 10}],
}
TOGETHER_ON_A_BUSY_MACHINE = timedelta(seconds=2)  # between their own logs, by a clock that is everybody's; `make bench` measures 0.1
SLOW_ON_WEB1 = '#!/bin/sh\n[ "$(hostname)" != web1 ] || sleep 12\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("together"), policy={"rollout": ROLLOUT})
    try:
        fleet.up()
        first = fleet.deploy("CHG7600", "7600.0", **QUICK)
        assert first.returncode == 0, first.stdout
        yield fleet
    finally:
        fleet.down()


def prepare(fleet: Fleet, number: int, scripts: Mapping[str, str] | None = None, **changes: Any) -> str:
    """An RFC for a release of its own; ``scripts`` are further ones of its payload's ``bin``, ``changes`` replace keys of its manifest."""
    folder = fleet.release(f"{number}.0", **{**QUICK, **changes})
    for name, text in (scripts or {}).items():
        (folder / "payload" / "bin" / name).write_text(text)
        (folder / "payload" / "bin" / name).chmod(0o755)
    return str(fleet.rfc(f"CHG{number}", f"{number}.0", fleet.archive_folder(folder)))


def play(fleet: Fleet, rfc: str, name: str = "deploy", succeeds: bool = True) -> str:
    done = fleet.play(f"tidegate.release.{name}", {"tidegate_rfc": rfc})
    assert (done.returncode == 0) is succeeds, done.stdout
    assert "Traceback" not in done.stdout
    return " ".join(done.stdout.split())


def begun(fleet: Fleet, host: str, what: str = "activating") -> datetime:
    """When a host began its last switch, or its last way back, by its own log."""
    lines = fleet.run_on(host, "cat /opt/tidegate/hello/log.jsonl").splitlines()
    return datetime.fromisoformat([event["at"] for event in map(json.loads, lines) if event["event"] == what][-1])


def written(fleet: Fleet, number: int, event: str) -> list[str]:
    """The hosts, empty for none, for which an event was written to the journal of an RFC."""
    wanted = f"select id from deployment where rfc = 'CHG{number}'"  # noqa: S608 - a test's own number
    rows = fleet.rows(f"select coalesce(host, '') from journal where deployment_id in ({wanted}) and event = '{event}'")  # noqa: S608 - as above
    return [host for (host,) in rows]


def instant(fleet: Fleet, number: int) -> datetime:
    """The last instant of an RFC, to the millisecond, as a host's log is."""
    wanted = f"select id from deployment where rfc = 'CHG{number}'"  # noqa: S608 - a test's own number
    ((data,),) = fleet.rows(f"select data from journal where deployment_id in ({wanted}) and event = 'fire' order by seq desc limit 1")  # noqa: S608 - as above
    at = datetime.fromisoformat(json.loads(data)["at"])
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_all_hosts_of_a_wave_switch_at_one_instant(running: Fleet) -> None:
    assert running.state("CHG7600") == "completed"
    assert set(running.served().values()) == {"7600.0"}
    said = " ".join(running.said)
    assert "wave 1 of 1: 3 hosts to switch at 20" in " ".join(said.split())
    at, began = instant(running, 7600), [begun(running, host) for host in running.hosts]
    assert at <= min(began)
    assert max(began) - min(began) < TOGETHER_ON_A_BUSY_MACHINE
    for host in running.hosts:
        assert "armed" not in running.run_on(host, "ls /opt/tidegate/hello").split()


def test_below_the_quorum_nobody_changes_and_the_gate_holds(running: Fleet) -> None:
    rfc = prepare(running, 7601)
    play(running, rfc, "stage")
    running.own_lab.cut("web2")
    try:
        said = play(running, rfc, succeeds=False)
    finally:
        running.own_lab.mend("web2")
    assert "2 of 3 hosts could be armed, and the quorum is 100%, so nobody was told an instant" in said
    assert set(running.served().values()) == {"7600.0"}
    assert running.state("CHG7601") == "held"
    states = running.host_states("CHG7601")
    assert states == {"web1": "staged", "web2": "failed", "web3": "staged"}
    play(running, rfc)
    assert set(running.served().values()) == {"7601.0"}


def test_an_instant_that_the_rfc_names_is_kept(running: Fleet) -> None:
    digest = running.archive("7607.0", **QUICK)
    play(running, str(running.rfc("CHG7607", "7607.0", digest)), "stage")
    named = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=75)
    said = play(running, str(running.rfc("CHG7607", "7607.0", digest, instant=named.isoformat())))
    assert f"wave 1 of 1: 3 hosts to switch at {named.isoformat(timespec='milliseconds')}" in said
    assert instant(running, 7607) == named
    assert all(begun(running, host) >= named for host in running.hosts)
    assert set(running.served().values()) == {"7607.0"}


def test_an_instant_that_is_over_holds_and_changes_nothing(running: Fleet) -> None:
    digest, before = running.archive("7608.0", **QUICK), running.served()
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    rfc = running.rfc("CHG7608", "7608.0", digest, instant=soon)
    refused = play(running, str(rfc), succeeds=False)
    assert "as the instant, and hosts that are armed now can't switch before" in refused or "is to switch at the instant" in refused
    assert running.served() == before
    play(running, str(running.rfc("CHG7608", "7608.0", digest)))
    assert set(running.served().values()) == {"7608.0"}


@pytest.mark.parametrize("event", ["armed", "fire"])
def test_a_controller_that_dies_before_it_told_anybody_changes_nothing(running: Fleet, event: str) -> None:
    number = {"armed": 7602, "fire": 7603}[event]
    rfc, before = prepare(running, number), running.served()
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    kill_at(running, event, deploy, "web1" if event == "armed" else "", "0")
    assert running.served() == before
    play(running, rfc)
    assert set(running.served().values()) == {f"{number}.0"}


@pytest.mark.thorough
def test_a_controller_that_dies_when_nobody_is_told_holds_the_next_time(running: Fleet) -> None:
    """Before it says so of the instant, and before it holds."""
    rfc, before = prepare(running, 7615), running.served()
    play(running, rfc, "stage")
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    running.own_lab.cut("web2")
    try:
        for event in ("withdrawn", "held"):
            kill_at(running, event, deploy)
            assert running.state("CHG7615") == "activating"
    finally:
        running.own_lab.mend("web2")
    assert running.served() == before
    play(running, rfc)
    assert set(running.served().values()) == {"7615.0"}


@pytest.mark.thorough
def test_a_controller_that_dies_when_a_host_gets_lost_finds_out_what_it_runs(running: Fleet) -> None:
    running.write_policy(rollout={**ROLLOUT, "together": {**TOGETHER, "lead_seconds": 20}})
    rfc = prepare(running, 7616)
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(kill_at, running, "lost", running.command("tidegate.release.deploy", {"tidegate_rfc": rfc}))
        wait_until(lambda: "instant" in running.run_on("web2", "ls /opt/tidegate/hello").split())
        running.own_lab.cut("web2")
        try:
            deploy.result()
        finally:
            running.own_lab.mend("web2")
    play(running, rfc)
    running.write_policy(rollout=ROLLOUT)
    assert set(running.served().values()) == {"7616.0"}
    assert running.state("CHG7616") == "completed"


@pytest.mark.thorough
def test_a_controller_that_dies_while_it_tells_leaves_no_host_out(running: Fleet) -> None:
    """web2 may have been told by all that the journal knows; it was not, so it gets another instant, like the one that was not tried."""
    rfc, before = prepare(running, 7605), running.served()
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc}, "--forks", "1")
    kill_at(running, "activating", deploy, "web2", "0")
    wait_until(lambda: running.served() == {**before, "web1": "7605.0"})
    play(running, rfc)
    assert set(running.served().values()) == {"7605.0"}
    assert running.state("CHG7605") == "completed"


def test_a_back_out_between_the_word_and_the_instant_leaves_the_release_before(running: Fleet) -> None:
    running.write_policy(rollout={**ROLLOUT, "together": {**TOGETHER, "lead_seconds": 590}})
    rfc, before = prepare(running, 7606), running.served()
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    kill_at(running, "activating", deploy, "web3", "3")
    play(running, rfc, "backout")
    running.write_policy(rollout=ROLLOUT)
    assert set(running.host_states("CHG7606").values()) == {"backed_out"}
    assert all("armed" not in running.run_on(host, "ls /opt/tidegate/hello").split() for host in running.hosts)
    assert running.served() == before


def test_a_back_out_that_is_ordered_brings_all_hosts_back_at_one_instant(running: Fleet) -> None:
    before = running.served()
    rfc = prepare(running, 7609)
    play(running, rfc)
    said = play(running, rfc, "backout")
    assert "wave 1: 3 hosts to go back at 20" in said
    assert running.served() == before
    assert set(running.host_states("CHG7609").values()) == {"backed_out"}
    at = instant(running, 7609)
    for host in running.hosts:
        assert at <= begun(running, host, "backed_out")
        assert "armed" not in running.run_on(host, "ls /opt/tidegate/hello").split()


def test_a_controller_that_dies_while_it_tells_hosts_to_go_back_leaves_none_out(running: Fleet) -> None:
    before = running.served()
    rfc = prepare(running, 7611)
    play(running, rfc)
    backout = running.command("tidegate.release.backout", {"tidegate_rfc": rfc}, "--forks", "1")
    kill_at(running, "backing_out", backout, "web2", "0")
    wait_until(lambda: running.served() == {**before, "web2": "7611.0", "web3": "7611.0"})
    play(running, rfc, "backout")
    assert running.served() == before
    assert set(running.host_states("CHG7611").values()) == {"backed_out"}


@pytest.mark.parametrize(
    ("number", "event", "host"),
    [
        (7620, "active", "web2"),
        pytest.param(7621, "started", "web1", marks=pytest.mark.thorough),
        pytest.param(7622, "decided", "", marks=pytest.mark.thorough),
    ],
)
def test_a_controller_that_dies_when_hosts_have_switched_needs_no_other_instant(running: Fleet, number: int, event: str, host: str) -> None:
    rfc = prepare(running, number)
    kill_at(running, event, running.command("tidegate.release.deploy", {"tidegate_rfc": rfc}), host)
    play(running, rfc)
    assert set(running.served().values()) == {f"{number}.0"}
    assert running.state(f"CHG{number}") == "completed"
    assert written(running, number, "fire") == [""]


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "until"), [(7623, "told"), (7624, "switching")])
def test_a_line_cut_behind_the_word_keeps_no_host_from_its_switch(running: Fleet, number: int, until: str) -> None:
    """Before the instant, and while it starts: it is lost until it is asked what it runs."""
    running.write_policy(rollout={**ROLLOUT, "together": {**TOGETHER, "lead_seconds": 20}})
    hooks = {**QUICK["hooks"], "start": {"command": ["bin/slow"], "timeout": 30}}
    slow = '#!/bin/sh\n[ "$(hostname)" != web2 ] || sleep 10\nexec bin/start\n'
    rfc = prepare(running, number, {"slow": slow}, hooks=hooks)
    seen, home = {"told": "instant", "switching": "begins"}[until], "/opt/tidegate/hello"
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(play, running, rfc, succeeds=False)
        wait_until(lambda: seen in running.run_on("web2", f"cd {home}; ls; cat armed 2>/dev/null || true"))
        running.own_lab.cut("web2")
        try:
            deploy.result()
            assert running.host_states(f"CHG{number}") == {"web1": "active", "web2": "lost", "web3": "active"}
        finally:
            running.own_lab.mend("web2")
    running.write_policy(rollout=ROLLOUT)
    wait_until(lambda: set(running.served().values()) == {f"{number}.0"})
    play(running, rfc)
    assert running.state(f"CHG{number}") == "completed"
    assert written(running, number, "fire") == [""]


@pytest.mark.thorough
def test_a_host_that_the_quorum_does_without_comes_in_late(running: Fleet) -> None:
    running.write_policy(rollout={**ROLLOUT, "together": {**TOGETHER, "quorum": "60%"}})
    rfc, before = prepare(running, 7625), running.served()
    play(running, rfc, "stage")
    running.own_lab.cut("web2")
    try:
        play(running, rfc)
    finally:
        running.own_lab.mend("web2")
    assert running.served() == {**dict.fromkeys(running.hosts, "7625.0"), "web2": before["web2"]}
    assert running.state("CHG7625") == "supporting"
    play(running, rfc)
    running.write_policy(rollout=ROLLOUT)
    assert set(running.served().values()) == {"7625.0"}
    assert running.state("CHG7625") == "completed"


def test_a_host_that_can_not_be_told_goes_back_when_it_is_reached(running: Fleet) -> None:
    before = running.served()
    rfc = prepare(running, 7610)
    play(running, rfc)
    running.own_lab.cut("web2")
    try:
        play(running, rfc, "backout", succeeds=False)
    finally:
        running.own_lab.mend("web2")
    assert running.host_states("CHG7610") == {"web1": "backed_out", "web2": "owed", "web3": "backed_out"}
    play(running, rfc, "backout")
    assert running.served() == before


def test_a_line_cut_between_arming_and_the_word_leaves_the_release_before(running: Fleet) -> None:
    """web1 takes its time to get ready, and web2 is armed by then."""
    hooks = {**QUICK["hooks"], "prepare": {"command": ["bin/prepare"], "timeout": 30}}
    rfc, before = prepare(running, 7617, {"prepare": SLOW_ON_WEB1}, hooks=hooks), running.served()
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(play, running, rfc, succeeds=False)
        wait_until(lambda: "web2" in written(running, 7617, "armed"))
        running.own_lab.cut("web2")
        try:
            deploy.result()
        finally:
            running.own_lab.mend("web2")
    assert running.served() == {**dict.fromkeys(running.hosts, "7617.0"), "web2": before["web2"]}
    assert running.host_states("CHG7617") == {"web1": "active", "web2": "lost", "web3": "active"}
    assert "web2 is late (it did not switch at the instant: it was still waiting for the instant)" in play(running, rfc)
    assert "armed" not in running.run_on("web2", "ls /opt/tidegate/hello").split()
    play(running, rfc)
    assert set(running.served().values()) == {"7617.0"}
    assert running.state("CHG7617") == "completed"


def test_a_wave_that_fails_at_its_instant_goes_back_at_once(running: Fleet) -> None:
    """Without a second instant: who waits for one is on the bad release meanwhile."""
    running.write_policy(rollout={**ROLLOUT, "budget": {"wave": 0, "total": 0}, "on_failure": "back_out"})
    before = running.served()
    health = [{"name": "is not web2", "command": ["sh", "-c", '[ "$(hostname)" != web2 ]'], "timeout": 5}]
    play(running, prepare(running, 7618, health=health), succeeds=False)
    running.write_policy(rollout=ROLLOUT)
    assert running.served() == before
    assert running.state("CHG7618") == "backed_out"
    assert written(running, 7618, "fire") == [""]
    for host in running.hosts:
        assert begun(running, host) >= instant(running, 7618)


def test_a_fleet_that_was_told_and_nobody_confirms_goes_back_together(running: Fleet) -> None:
    seconds, apart = 25, timedelta(seconds=5)  # a busy machine
    running.write_policy(rollout={**ROLLOUT, "confirm_minutes": seconds / 60})
    hooks = {"stop": {"command": ["bin/stop"], "timeout": 3}, "start": {"command": ["bin/start"], "timeout": 4}}
    rfc, before = prepare(running, 7619, hooks=hooks, health=[{**HEALTH, "timeout": 4}]), running.served()
    kill_at(running, "activating", running.command("tidegate.release.deploy", {"tidegate_rfc": rfc}), "web3", "1.5")
    wait_until(lambda: set(running.served().values()) == {"7619.0"})
    wait_until(lambda: running.served() == before)
    due = instant(running, 7619) + timedelta(seconds=seconds)
    went = [begun(running, host, "failed") for host in running.hosts]
    assert due - timedelta(seconds=1) <= min(went)
    assert max(went) - min(went) < apart
    assert max(went) - due < apart
    said = play(running, rfc, succeeds=False)
    running.write_policy(rollout=ROLLOUT)
    assert "it went back by itself at 20" in said
    assert running.state("CHG7619") == "held"
    play(running, rfc, "backout")


def test_a_host_whose_disk_is_full_at_the_instant_keeps_what_it_had(running: Fleet) -> None:
    """The others switch, the gate holds and says why, and the same command brings that host in when there is room again."""
    running.write_policy(rollout={**ROLLOUT, "budget": {"wave": 0, "total": 0}, "together": {**TOGETHER, "lead_seconds": 20}})
    rfc, before = prepare(running, 7612), running.served()["web2"]
    filler = "/opt/tidegate/filler"
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(play, running, rfc, succeeds=False)
        wait_until(lambda: "instant" in running.run_on("web2", "ls /opt/tidegate/hello").split())
        running.run_on("web2", f"cat /dev/zero >{filler} 2>/dev/null || true")
        said = deploy.result()
    try:
        assert "nothing can be written to /opt/tidegate/hello (No space left on device); make room there" in said
        assert running.served() == {**dict.fromkeys(running.hosts, "7612.0"), "web2": before}
        assert running.state("CHG7612") == "held"
    finally:
        running.run_on("web2", f"rm {filler}")
    play(running, rfc)
    running.write_policy(rollout=ROLLOUT)
    assert set(running.served().values()) == {"7612.0"}


def test_a_host_whose_disk_is_read_only_at_the_instant_keeps_what_it_had(running: Fleet) -> None:
    """The others switch. What it did can't be found out as long as its home can't be written, and then it comes in by the same command."""
    running.write_policy(rollout={**ROLLOUT, "budget": {"wave": 0, "total": 0}, "together": {**TOGETHER, "lead_seconds": 20}})
    rfc, before = prepare(running, 7613), running.served()["web2"]
    home = "/opt/tidegate/hello"
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(play, running, rfc, succeeds=False)
        wait_until(lambda: "instant" in running.run_on("web2", f"ls {home}").split())
        running.run_on("web2", f"mount --bind {home} {home} && mount -o remount,bind,ro {home}")
        said = deploy.result()
    try:
        assert "Read-only file system; check the permissions and the file system" in said
        assert running.host_states("CHG7613") == {"web1": "active", "web2": "lost", "web3": "active"}
        assert running.served() == {**dict.fromkeys(running.hosts, "7613.0"), "web2": before}
        assert running.state("CHG7613") == "held"
        assert recorded(running)["web2"] == before
        why = json.loads(running.run_on("web2", f"cat {home}/armed"))["answer"]["detail"]
        assert why == f"nothing can be written to {home} (Read-only file system); mend the file system"
    finally:
        running.run_on("web2", f"umount {home}")
    play(running, rfc)
    running.write_policy(rollout=ROLLOUT)
    assert set(running.served().values()) == {"7613.0"}
    assert set(recorded(running).values()) == {"7613.0"}


def recorded(fleet: Fleet) -> dict[str, str]:
    """The version of the release on each host by the CMDB."""
    query = (
        "select ci.name, installation.version from installation join ci on ci.id = installation.ci_id where installation.release = 'hello'"
    )
    return dict(fleet.rows(query))


def test_hosts_that_were_told_switch_without_the_controller_and_the_same_command_goes_on(running: Fleet) -> None:
    rfc = prepare(running, 7604)
    deploy = running.command("tidegate.release.deploy", {"tidegate_rfc": rfc})
    kill_at(running, "activating", deploy, "web3", "1.5")
    wait_until(lambda: set(running.served().values()) == {"7604.0"})
    play(running, rfc)
    assert running.state("CHG7604") == "completed"
    assert len(running.rows("select 1 from journal where event = 'fire' and deployment_id = (select max(id) from deployment)")) == 1


def reboot(fleet: Fleet, host: str) -> None:
    """All that runs on a host ends at once, the connections too, and what begins then is of another boot."""
    boot = "uuid >/run/boot; mount --bind /run/boot"
    with contextlib.suppress(subprocess.CalledProcessError):
        fleet.run_on(host, f"cat /proc/sys/kernel/random/{boot} /proc/sys/kernel/random/boot_id; kill -KILL -1")

    def up() -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(fleet.run_on(host, "true") == "")
        return False

    wait_until(up)


def test_a_host_that_reboots_is_late_before_its_switch_and_stays_on_what_it_runs_behind_it(running: Fleet) -> None:
    """web2 does between arming and the word, web3 between the word and the instant, and web1 before it is confirmed. web3 is lost when that
    ends the line over which it is asked what it did, and else says that it did not switch."""
    hooks = {"prepare": {"command": ["bin/prepare"], "timeout": 30}, "stop": QUICK["hooks"]["stop"]}
    scripts = {"prepare": SLOW_ON_WEB1}
    rfc = prepare(running, 7614, scripts, hooks=hooks, health=[{"name": "is there", "command": ["true"], "timeout": 5}])
    together = {**TOGETHER, "lead_seconds": 20}
    running.write_policy(rollout={**ROLLOUT, "stable": 15, "confirm_minutes": 2, "together": together})
    home = "/opt/tidegate/hello"
    before = dict.fromkeys(running.hosts, running.run_on("web1", f"readlink {home}/current"))
    with futures.ThreadPoolExecutor(1) as pool:
        deploy = pool.submit(play, running, rfc, succeeds=False)
        wait_until(lambda: "armed" in running.run_on("web2", f"ls {home}").split())
        reboot(running, "web2")
        wait_until(lambda: "instant" in running.run_on("web3", f"ls {home}").split())
        reboot(running, "web3")
        wait_until(lambda: "7614.0" in running.run_on("web1", f"readlink {home}/current"))
        wait_until(lambda: '"started"' in running.run_on("web1", f"tail -n 1 {home}/log.jsonl"))
        reboot(running, "web1")
        said = deploy.result()
    assert "it did not switch at the instant: it is not armed any more" in said
    states = running.host_states("CHG7614")
    assert states in [{"web1": "active", "web2": "failed", "web3": web3} for web3 in ("lost", "failed")]
    assert running.state("CHG7614") == "held"
    live = {host: running.run_on(host, f"readlink {home}/current") for host in running.hosts}
    assert live == {**before, "web1": live["web1"]}
    assert "7614.0" in live["web1"]
    assert "guard" not in running.run_on("web1", f"ls {home}").split()
    play(running, rfc)
    running.write_policy(rollout=ROLLOUT)
    assert set(running.host_states("CHG7614").values()) == {"active"}
