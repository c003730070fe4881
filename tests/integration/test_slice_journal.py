# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers of one deployment, in any order, killed and frozen: what they write is held against what must be so."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.instant_journal import InstantJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share, Together
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slice_journal import SliceJournal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.slices import STAGING, Meeting, SliceMove
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import slices
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_wave_gate
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, _alone
from controllers import RFC, Fault, World
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES, INTERLEAVINGS, SOME = 8, 1000, 60
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory that is made there has a name of its own
PACKAGE = {"name": "hello", "version": "2.0", "digest": "sha256:" + "b" * 64}
ROLLOUT = Rollout(canary=Share(1), total_budget=Share(0), wave_budget=Share(0), stable=0)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def world(
    url: str,
    waves: Sequence[Sequence[str]],
    owners: Sequence[Sequence[str]],
    seed: int,
    faults: Sequence[Fault] = (),
    together: Together | None = None,
) -> Iterator[World]:
    """A deployment that was planned, and controllers each of which has some of its hosts."""
    with Cmdb.open(url) as cmdb:
        hosts = [host for wave in waves for host in wave]
        cmdb.put_cis([{"name": host, "class": "server"} for host in hosts], "test")
        journal = SliceJournal(cmdb)
        run = journal.begin(RFC, PACKAGE, waves, replace(ROLLOUT, together=together), Holder("deploy", "m0", 100, 1, "boot"), BEGAN)
        journal.release_lease(run, BEGAN)
        yield World(journal, run.deployment, dict(enumerate(owners)), seed, faults)


def lines(world: World) -> list[Any]:
    """The journal."""
    j = schema().journal
    with world.journal.cmdb.read() as connection:
        return list(connection.execute(j.select().order_by(j.c.seq)))


def events(world: World) -> list[tuple[str, str | None, int | None]]:
    return [(row.event, row.host, row.wave) for row in lines(world)]


def check_decisions(world: World) -> None:
    """Each gate decides once but for holds, about hosts that have all come to an end, and each instant is set once in a run."""
    ended = {"active", "failed", "stage_failed"}  # up, or late
    decided: list[tuple[str, int | None]] = []
    said: dict[tuple[int, int], set[str]] = {}
    last: dict[str, str] = {}
    wave_of = {target.host: target.wave for target in world.journal.targets(world.deployment)}
    for row in lines(world):
        if row.host is not None:
            last[row.host] = row.event
        elif row.event in ("decided", "staging_decided") and row.data["decision"] != "hold":
            decided.append((row.event, row.wave))
        elif row.event in ("fire", "withdrawn"):
            about = row.wave, row.data["token"]
            assert about not in said, "an instant was set twice, or withdrawn when it was set"
            said[about] = set(row.data.get("hosts", ()))
        elif row.event == "opened":
            before = {host: last[host] for host, wave in wave_of.items() if wave < row.wave}
            assert ended.issuperset(before.values()), f"wave {row.wave} was opened before that one was done: {before}"
    assert len(set(decided)) == len(decided), "a gate was decided twice"
    for host, token in world.told:
        assert host in said[wave_of[host], token], f"{host} was told an instant that was withdrawn, or for which it was not armed"


def check(world: World) -> None:
    """What must be so, however many controllers there are and whatever becomes of them."""
    assert world.failures == []
    check_decisions(world)
    seen = events(world)
    opened = [wave for event, _host, wave in seen if event == "opened"]
    assert opened == sorted(set(opened)), "a wave was opened twice, or before the one before it"
    wave_of = {target.host: target.wave for target in world.journal.targets(world.deployment)}
    for place, (event, host, _wave) in enumerate(seen):
        if event == "activating" and host is not None:
            assert ("opened", None, wave_of[host]) in seen[:place], f"{host} changed before its wave was open"
    states = {target.host: str(target.state) for target in world.journal.targets(world.deployment)}
    for name, host in world.hosts.items():
        tokens = [token for _what, token in host.visits]
        assert tokens == sorted(tokens), f"{name} was changed by somebody whom another had followed"
        if states[name] == "backed_out":
            assert host.visits[-1][0] == "back"
        if states[name] == "active":
            assert host.visits[-1][0] == "activate"


def plan(hosts: int, waves: int, controllers: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Hosts in waves, and the slices of them, each of which has at least one."""
    names = [f"web{number}" for number in range(hosts)]
    cut: list[list[str]] = [names[number::waves] for number in range(waves)]
    return cut, [[name for at, name in enumerate(names) if (at * 7 + seed) % controllers == number] for number in range(controllers)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CMDB without anything in it, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True):
        pass
    return path


@contextmanager
def new_world(empty: Path, size: tuple[int, int, int, int], faults: Sequence[Fault] = ()) -> Iterator[World]:
    """A world of its own, whose hosts switch at one instant for every other seed.

    What is beside ``empty`` with this process's number is made anew, so that statements stay compiled from one to the next.
    """
    path = empty.with_name(f"{os.getpid()}.sqlite")
    for old in empty.parent.glob(f"{path.name}*"):
        old.unlink()
    shutil.copy(empty, path)
    with world(str(path), *plan(*size), size[3], faults, Together() if size[3] % 2 else None) as found:
        yield found


def get_everywhere(empty: Path, size: tuple[int, int, int, int]) -> None:
    with new_world(empty, size) as found:
        found.run()
        check(found)
        assert set(found.ended.values()) == {"ended"}
        assert found.journal.deployment(found.deployment).state == "completed"
        assert len(found.last) == 1


def take_back(empty: Path, size: tuple[int, int, int, int], choose: Callable[[list[int]], int]) -> None:
    with new_world(empty, size) as found:
        waves = {target.wave for target in found.journal.targets(found.deployment)}
        bad = choose(sorted(waves))
        found.bad_waves = {bad}
        found.run()
        check(found)
        assert found.journal.deployment(found.deployment).state == "backed_out"
        wave_of = {target.host: target.wave for target in found.journal.targets(found.deployment)}
        back = [wave_of[str(host)] for event, host, _wave in events(found) if event == "backing_out" and host is not None]
        assert back == sorted(back, reverse=True)
        assert set(back) == {wave for wave in waves if wave <= bad}
        assert len(found.last) == 1


def survive(empty: Path, size: tuple[int, int, int, int], struck: Sequence[Fault]) -> None:
    with new_world(empty, size, struck) as found:
        found.run()
        check(found)
        state = found.journal.deployment(found.deployment).state
        if any(said == "ended" for said in found.ended.values()):  # somebody saw it to an end, or said that it has none yet
            assert state in ("completed", "held"), found.ended
        found.faults = {}
        for launch in ("again", "and again"):
            if found.journal.deployment(found.deployment).state != "completed":
                found.now += timedelta(hours=1)
                found.run(launch)
                check(found)
        assert found.journal.deployment(found.deployment).state == "completed", found.ended


sizes = st.tuples(st.integers(4, 9), st.integers(1, 4), st.integers(2, 4), st.integers(0, 10_000))
faults = st.lists(
    st.builds(Fault, st.integers(0, 3), st.integers(1, 60), st.one_of(st.none(), st.floats(30, 3000))), min_size=1, max_size=3
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(sizes)
def test_controllers_that_live_get_the_release_everywhere_in_the_waves_of_the_plan(empty: Path, size: tuple[int, int, int, int]) -> None:
    get_everywhere(empty, size)


@settings(max_examples=EXAMPLES, deadline=None)
@given(sizes, st.data())
def test_a_bad_wave_is_taken_back_by_all_of_them_the_last_wave_first(
    empty: Path, size: tuple[int, int, int, int], data: st.DataObject
) -> None:
    take_back(empty, size, lambda waves: data.draw(st.sampled_from(waves)))


@settings(max_examples=EXAMPLES, deadline=None)
@given(sizes, faults)
def test_who_is_killed_or_sleeps_through_its_lease_changes_nothing_behind_the_others_backs(
    empty: Path, size: tuple[int, int, int, int], struck: list[Fault]
) -> None:
    survive(empty, size, struck)


def interleave(empty: Path, seed: int) -> str:
    """One interleaving, a good, a bad or a struck one; what was wrong with it."""
    chance = random.Random(seed)  # noqa: S311 - the same ones each time
    size = (chance.randint(4, 9), chance.randint(1, 4), chance.randint(2, 4), seed)
    number = chance.randint(1, 3)
    struck = [Fault(chance.randint(0, 3), chance.randint(1, 60), chance.choice([None, chance.uniform(30, 3000)])) for _one in range(number)]
    try:
        (get_everywhere, partial(take_back, choose=chance.choice), partial(survive, struck=struck))[seed % 3](empty, size)
    except Exception as error:
        return f"seed {seed}: {type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("number", [SOME, pytest.param(INTERLEAVINGS, marks=pytest.mark.thorough)])
def test_a_thousand_interleavings(number: int) -> None:
    """Each process of the pool goes on with one connection and with statements that are compiled, in memory: a third of the time."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "empty.sqlite"
        with Cmdb.open(str(path), create=True):
            pass
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork"), gc.freeze) as pool:
            said = list(pool.map(partial(interleave, path), range(number), chunksize=10))
    assert [wrong for wrong in said if wrong] == []


HOSTS = [["web1", "web2"], ["web3"]]
OWN = [["web1", "web3"], ["web2"]]


class Bed:
    """A deployment in two waves, and two controllers with tokens of their own."""

    def __init__(self, found: World) -> None:
        self.journal, self.number, self.now = found.journal, found.deployment, found.now

    def join(self, hosts: Sequence[str], name: str, **more: Any) -> Run:
        return self.journal.join(self.number, hosts, Holder("deploy", name, 7, 1, "boot"), self.now, **more)

    def states(self) -> dict[str, str]:
        return {target.host: str(target.state) for target in self.journal.targets(self.number)}

    def open_first_wave(self, run: Run) -> None:
        for target in self.journal.targets(self.number):
            mine = Run(self.number, target.controller or 0, run.epoch)
            self.journal.staged(mine, target.host, None, self.now)
        self.journal.decide_staging(run, GateDecision("proceed", "because"), self.now)


@pytest.fixture
def bed(cmdb_url: str) -> Iterator[Bed]:
    with Cmdb.open(cmdb_url, create=True):
        pass
    with world(cmdb_url, HOSTS, OWN, 0) as found:
        yield Bed(found)


def test_each_controller_writes_about_its_own_hosts_alone(bed: Bed) -> None:
    first, second = bed.join(OWN[0], "m1"), bed.join(OWN[1], "m2")
    assert first.token < second.token
    assert first.epoch == second.epoch
    with pytest.raises(ConflictError, match="web2 is in the slice of another controller"):
        bed.journal.staged(first, "web2", None, bed.now)
    with pytest.raises(ConflictError, match="is in the slice of deploy@m2"):
        bed.join(["web2"], "m3")
    with pytest.raises(ConflictError, match=r"is being driven by deploy@m. .* and 1 more"):
        bed.journal.take_over(bed.number, Holder("deploy", "m9", 7, 1, "boot"), bed.now)


def test_a_person_who_takes_over_ends_a_slice_that_is_followed_as_a_whole_and_no_other(bed: Bed) -> None:
    first = bed.join(OWN[0], "m1")
    with pytest.raises(ConflictError, match="too, so both would change it"):
        bed.join(["web1", "web2"], "m2", ordered=True)
    again = bed.join(OWN[0], "m3", ordered=True)
    assert again.token > first.token
    with pytest.raises(ConflictError, match="another controller has taken"):
        bed.journal.staged(first, "web1", None, bed.now)
    bed.journal.staged(again, "web1", None, bed.now)


def test_one_controller_that_takes_over_leaves_slices_nothing(bed: Bed) -> None:
    first = bed.join(OWN[0], "m1")
    bed.now += timedelta(hours=1)
    whole = bed.journal.take_over(bed.number, Holder("deploy", "m9", 7, 1, "boot"), bed.now)
    with pytest.raises(ConflictError, match="another controller has taken"):
        bed.journal.staged(first, "web1", None, bed.now)
    bed.journal.staged(whole, "web1", None, bed.now)
    with pytest.raises(ConflictError, match="is being driven by deploy@m9"):
        bed.join(OWN[1], "m2")


def test_who_could_not_be_staged_is_waited_for_again_and_nobody_is_staged_behind_the_gate(bed: Bed) -> None:
    first, second = bed.join(OWN[0], "m1"), bed.join(OWN[1], "m2")
    bed.journal.stage_failed(second, "web2", "its site was down", bed.now)
    bed.journal.hold(first, "because", bed.now)
    for run in (first, second):
        bed.journal.release_lease(run, bed.now)
    first = bed.join(OWN[0], "m1")
    assert bed.states()["web2"] == "planned"
    bed.journal.count_as_late(first, ["web2"], "nobody came", bed.now)
    second = bed.join(OWN[1], "m2")
    for host in OWN[0]:
        bed.journal.staged(first, host, None, bed.now)
    bed.journal.decide_staging(first, GateDecision("proceed", "because"), bed.now)
    for write in (lambda: bed.journal.staged(second, "web2", None, bed.now), lambda: bed.journal.stage_failed(second, "web2", "", bed.now)):
        with pytest.raises(StateError, match="is past staging, so this host comes in late"):
            write()
    assert bed.states()["web2"] == "stage_failed"


def test_who_sleeps_through_its_lease_decides_and_begins_nothing_but_says_what_it_has_done(bed: Bed) -> None:
    first, second = bed.join(OWN[0], "m1"), bed.join(OWN[1], "m2")
    bed.open_first_wave(first)
    bed.journal.activating(second, "web2", bed.now)
    bed.now += timedelta(minutes=11)
    with pytest.raises(StateError, match="its lease ended"):
        bed.journal.activating(first, "web1", bed.now)
    decision = GateDecision("back_out", "because")
    for write in (
        lambda: bed.journal.decide_wave(first, 1, decision, bed.now),
        lambda: bed.journal.hold(first, "because", bed.now),
        lambda: bed.journal.order_backout(first, "because", bed.now),
        lambda: bed.journal.backing_out(first, "web1", bed.now),
    ):
        with pytest.raises(ConflictError, match="the lease of this controller ended"):
            write()
    bed.journal.activated(second, "web2", HostState.STARTED, "", bed.now)
    assert bed.states()["web2"] == "started"
    with pytest.raises(ConflictError, match="the lease of this controller ended"):  # what it has written does not make it live
        bed.journal.hold(second, "because", bed.now)


def test_nothing_is_decided_twice_nor_while_it_is_held(bed: Bed) -> None:
    first, second = bed.join(OWN[0], "m1"), bed.join(OWN[1], "m2")
    bed.open_first_wave(first)
    with pytest.raises(ConflictError, match=r"staging of .* was already decided"):
        bed.journal.decide_staging(second, GateDecision("proceed", "because"), bed.now)
    bed.journal.hold(second, "because", bed.now)
    with pytest.raises(ConflictError, match="was already decided"):
        bed.journal.decide_wave(first, 1, GateDecision("proceed", "because"), bed.now)
    assert bed.journal.closes(first, bed.now)
    assert not bed.journal.closes(second, bed.now)


def test_a_back_out_joins_who_takes_back_and_nobody_who_goes_forward(bed: Bed) -> None:
    first = bed.join(OWN[0], "m1")
    with pytest.raises(ConflictError, match="is being driven by deploy@m1"):
        bed.join(OWN[1], "m2", back=True)
    second = bed.join(OWN[1], "m2")
    bed.open_first_wave(first)
    bed.journal.activating(first, "web1", bed.now)
    for run in (first, second):
        bed.journal.release_lease(run, bed.now)
    back = bed.join(OWN[0], "m3", back=True)
    bed.journal.order_backout(back, "because", bed.now)
    assert bed.join(OWN[1], "m4", back=True).epoch == back.epoch


def test_a_gate_of_several_is_about_the_wave_that_they_came_to(bed: Bed) -> None:
    first = bed.join(OWN[0], "m1")
    bed.join(OWN[1], "m2")
    bed.open_first_wave(first)
    nothing: Any = None
    with pytest.raises(ConflictError, match=r"the gate of wave 2 of .* was already decided"):
        decide_wave_gate(bed.journal, first, nothing, nothing, nothing, bed.now, about=2)


def test_who_has_lost_its_lease_does_not_wait_for_others(bed: Bed) -> None:
    first = bed.join(OWN[0], "m1")
    bed.join(OWN[1], "m2")
    bed.now += timedelta(minutes=11)
    bed.join(OWN[1], "m2")
    with pytest.raises(ConflictError, match=r"another controller has taken|the lease of this controller ended"):
        slices.await_wave(bed.journal, first, 0, slices.Waiting(lambda: bed.now, lambda: ""))


def test_who_waits_at_a_gate_keeps_its_lease(bed: Bed) -> None:
    """Longer than that is; then it decides, as the one that came first."""
    first, second = bed.join(OWN[0], "m1"), bed.join(OWN[1], "m2")
    began = bed.now

    def sleep(_seconds: float) -> None:
        bed.now += timedelta(seconds=30)
        if bed.now < began + timedelta(minutes=15):
            bed.journal.renew(second, bed.now)
        else:
            bed.journal.came_to(second, Meeting(STAGING), bed.now)

    wait = slices.Waiting(lambda: bed.now, lambda: "", 60, lambda: (bed.now - began) / timedelta(seconds=1), sleep)
    assert slices.meet(bed.journal, first, Meeting(STAGING), wait).move is SliceMove.DECIDE
    assert bed.now >= began + timedelta(minutes=15)


def test_hosts_that_got_lost_are_looked_at_by_one_slice_after_the_other(bed: Bed) -> None:
    first = bed.join([host for wave in HOSTS for host in wave], "m1")
    bed.open_first_wave(first)
    for number, wave in enumerate(HOSTS, 1):
        for host in wave:
            bed.journal.activating(first, host, bed.now)
            bed.journal.activated(first, host, HostState.LOST, "", bed.now)
        bed.journal.decide_wave(first, number, GateDecision("proceed", "because"), bed.now)
    current = bed.journal.deployment(bed.number)
    assert current.state == "held"
    request = RunRequest("rfc.yml", Reach(["web1"]), True, lambda: "", slice_=True)
    alone = _alone(bed.journal, current, request)
    assert (alone.slice_, alone.reach.hosts()) == (False, {"web1", "web2", "web3"})
    with pytest.raises(TidegateError, match="this slice of the inventory has none of the 3 hosts that had got lost"):
        _alone(bed.journal, current, replace(request, reach=Reach(["elsewhere"])))


def test_clocks_are_compared_with_that_of_the_server(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        before, _unsure = InstantJournal(cmdb).clock_apart()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 1000)
        apart, unsure = InstantJournal(cmdb).clock_apart()
    assert unsure >= 0
    assert round((apart - before) / 100) == (0 if cmdb_url.endswith("sqlite") else 10)
