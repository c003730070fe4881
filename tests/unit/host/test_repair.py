# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is about to become live is what was archived before a hook of it runs, on the way forward and on the way back."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import repair
from ansible_collections.tidegate.release.plugins.module_utils.activation import activate, back_out
from ansible_collections.tidegate.release.plugins.module_utils.release_files import changed_entries
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, ReleaseHome
from bed import HOOKS, SERVICE, Host, Package, forge, killed_everywhere, link, package, sha

FILES = {"lib/deep/a": b"a" * 5000, "lib/deep/b": b"b", "data/seed": b"seed\n", "to-lib": link("lib"), "empty": b""}
OWN = {**FILES, "bin/start": SERVICE["bin/start"] + b"# of 1.0\n", "data/own": b"one\n"}  # two files that no other release has
ONE = package("1.0", OWN)
TWO = package("2.0", FILES)
SICK = package("2.0", FILES, health=[{"name": "runs", "command": ["false"], "timeout": 0.01}])
EVIL = b'#!/bin/sh\ntouch "$TIDEGATE_STATE/evil"\necho "$TIDEGATE_VERSION" >"$TIDEGATE_STATE/running"\n'


@pytest.fixture
def upgraded(host: Host) -> Host:
    """A host that went from 1.0 to 2.0."""
    host.deploy(ONE)
    host.deploy(TWO, ONE)
    return host


def is_whole(host: Host, what: Package) -> bool:
    release = host.home.get(what.id)
    return release is not None and release.digest == what.digest and changed_entries(release) == []


def ran_evil(host: Host) -> bool:
    return (host.home.state / "evil").exists()


def edit_start(host: Host, what: Package) -> None:
    path = host.tree(what) / "bin/start"
    path.write_bytes(EVIL)
    path.chmod(0o755)


# -- what may have become of a tree ------------------------------------------


def _replace_by_link(host: Host, path: str) -> None:
    elsewhere = host.root.parent / "elsewhere"
    shutil.copytree(host.tree(ONE) / path, elsewhere)
    shutil.rmtree(host.tree(ONE) / path)
    (host.tree(ONE) / path).symlink_to(elsewhere)


def _file_by_folder(host: Host, path: str) -> None:
    (host.tree(ONE) / path).unlink()
    (host.tree(ONE) / path / "inside").mkdir(parents=True)
    (host.tree(ONE) / path / "inside" / "x").write_text("x")


def _folder_by_file(host: Host, path: str) -> None:
    shutil.rmtree(host.tree(ONE) / path)
    (host.tree(ONE) / path).write_text("x")


def _by_pipe(host: Host, path: str) -> None:
    (host.tree(ONE) / path).unlink()
    os.mkfifo(host.tree(ONE) / path)


def _forge(host: Host, part: str, old: str, new: str) -> None:
    forge(host.home.releases / ONE.id / "release.json", part, old, new)


def _edited_with_its_record(host: Host) -> None:
    edit_start(host, ONE)
    _forge(host, "file_index", sha(OWN["bin/start"]), sha(EVIL))


def _moved_tree(host: Host) -> None:
    host.tree(ONE).rename(host.root.parent / "elsewhere")
    host.tree(ONE).symlink_to(host.root.parent / "elsewhere")


def _record_folder(host: Host) -> None:
    record = host.home.releases / ONE.id / "release.json"
    record.unlink()
    record.mkdir()


HARMS: dict[str, Callable[[Host], object]] = {
    "hook edited": lambda host: edit_start(host, ONE),
    "file edited": lambda host: (host.tree(ONE) / "data/own").write_text("two\n"),
    "same size": lambda host: (host.tree(ONE) / "data/own").write_text("ONE\n"),
    "appended": lambda host: (host.tree(ONE) / "empty").write_text("GET /\n"),
    "emptied": lambda host: (host.tree(ONE) / "lib/deep/a").write_text(""),
    "removed": lambda host: (host.tree(ONE) / "bin/start").unlink(),
    "folder removed": lambda host: shutil.rmtree(host.tree(ONE) / "lib"),
    "all removed": lambda host: [shutil.rmtree(host.tree(ONE)), host.tree(ONE).mkdir(mode=0o755)],
    "tree removed": lambda host: shutil.rmtree(host.tree(ONE)),
    "release removed": lambda host: shutil.rmtree(host.home.releases / ONE.id),
    "release is a file": lambda host: [shutil.rmtree(host.home.releases / ONE.id), (host.home.releases / ONE.id).write_text("x")],
    "tree moved": _moved_tree,
    "mode of a file": lambda host: (host.tree(ONE) / "bin/start").chmod(0o4755),
    "mode of a folder": lambda host: (host.tree(ONE) / "lib").chmod(0o777),
    "mode of the tree": lambda host: host.tree(ONE).chmod(0o777),
    "folder by link": lambda host: _replace_by_link(host, "bin"),
    "folder by link, deep": lambda host: _replace_by_link(host, "lib/deep"),
    "file by link": lambda host: [(host.tree(ONE) / "bin/start").unlink(), (host.tree(ONE) / "bin/start").symlink_to("/bin/true")],
    "file by folder": lambda host: _file_by_folder(host, "bin/start"),
    "link by folder": lambda host: _file_by_folder(host, "to-lib"),
    "folder by file": lambda host: _folder_by_file(host, "lib"),
    "file by pipe": lambda host: _by_pipe(host, "data/own"),
    "link elsewhere": lambda host: [(host.tree(ONE) / "to-lib").unlink(), (host.tree(ONE) / "to-lib").symlink_to("/etc")],
    "edited with its record": _edited_with_its_record,
    "record: hooks": lambda host: _forge(host, "config", "bin/start", "bin/stop"),
    "record: manifest": lambda host: _forge(host, "manifest", "sha256:", "sha256: "),
    "record removed": lambda host: (host.home.releases / ONE.id / "release.json").unlink(),
    "record is no text": lambda host: (host.home.releases / ONE.id / "release.json").write_bytes(b'{"manifest": "\\ud800"}'),
    "record is deep": lambda host: (host.home.releases / ONE.id / "release.json").write_text("[" * 99999),
    "record is a folder": _record_folder,
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_back_out_returns_to_what_was_archived_whatever_became_of_it(upgraded: Host, harm: str) -> None:
    HARMS[harm](upgraded)
    elsewhere = upgraded.root.parent / "elsewhere"
    before = sorted(str(path) for path in elsewhere.rglob("*"))
    answer, trips = upgraded.switch(back_out, TWO, ONE)
    assert (answer["state"], answer["changed"], answer["version"]) == ("backed_out", True, "1.0")
    assert trips <= 3
    assert is_whole(upgraded, ONE)
    assert (upgraded.live, upgraded.running) == ("1.0", "1.0")
    assert not ran_evil(upgraded)
    assert sorted(str(path) for path in elsewhere.rglob("*")) == before  # what a link led to is none of its business
    assert os.listdir(upgraded.home.staging) == []
    assert upgraded.switch(back_out, TWO, ONE) == ({"state": "backed_out", "changed": False, "version": "1.0"}, 1)


@pytest.mark.parametrize("harm", HARMS)
def test_an_activation_is_of_what_was_archived_whatever_became_of_it(host: Host, harm: str) -> None:
    host.stage(ONE)
    HARMS[harm](host)
    answer, trips = host.switch(activate, ONE)
    assert (answer["state"], answer["changed"], answer["version"]) == ("started", True, "1.0")
    assert trips <= 3
    assert is_whole(host, ONE)
    assert (host.live, host.running) == ("1.0", "1.0")
    assert not ran_evil(host)


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_live_and_seems_well_is_put_right_and_started_anew(host: Host, harm: str) -> None:
    host.deploy(ONE)
    HARMS[harm](host)
    answer, _trips = host.switch(activate, ONE, ONE)
    assert answer["state"] == "started"
    assert is_whole(host, ONE)
    assert (host.live, host.running) == ("1.0", "1.0")
    assert not ran_evil(host)
    if "record" not in harm or harm == "edited with its record":
        assert answer["changed"] is True
    assert host.switch(activate, ONE, ONE)[0]["changed"] is False


@pytest.mark.parametrize("harm", ["hook edited", "record removed", "tree removed"])
def test_a_host_that_is_back_already_is_verified_too(host: Host, harm: str) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    HARMS[harm](host)
    assert host.switch(back_out, TWO, ONE)[0]["state"] == "backed_out"
    assert is_whole(host, ONE)
    assert (host.live, host.running) == ("1.0", "1.0")
    assert not ran_evil(host)


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_live_release_can_be_left_and_be_staged_again(upgraded: Host, harm: str) -> None:
    """The one that is backed out here was damaged: by itself, say."""
    upgraded.back_out(TWO, ONE)
    HARMS[harm](upgraded)
    three = package("3.0", FILES)
    if harm.startswith("record") or harm in ("tree removed", "release removed", "release is a file", "tree moved"):
        assert upgraded.switch(back_out, ONE)[0]["state"] == "backed_out"
        assert upgraded.live is None
    else:
        upgraded.stage(ONE)
        upgraded.stage(three)
        assert upgraded.switch(activate, three, ONE)[0]["state"] == "started"
        assert upgraded.running == "3.0"
        assert is_whole(upgraded, three)


def test_a_damaged_record_of_the_live_release_is_made_anew_when_it_is_staged_again(host: Host) -> None:
    host.deploy(ONE)
    (host.home.releases / ONE.id / "release.json").write_text("{")
    assert host.ask(ONE)["state"] == "staged"
    assert host.live == "1.0"


def test_nothing_more_is_asked_when_nothing_was_changed(upgraded: Host) -> None:
    answer, trips = upgraded.switch(back_out, TWO, ONE)
    assert (answer, trips) == ({"state": "backed_out", "changed": True, "version": "1.0"}, 1)
    assert "repair" not in upgraded.events


def test_only_what_is_needed_is_asked_for(upgraded: Host) -> None:
    (upgraded.tree(ONE) / "data/own").write_text("x")
    (upgraded.tree(ONE) / "lib/deep/a").write_text("x")  # of which the release that leaves has a good copy
    home = upgraded.home
    with home.locked(1), pytest.raises(repair.Lacking) as lacking:
        repair.put_right(home, home.all()[0], repair.Supplies(more=True))
    assert lacking.value.answer == {"state": "lacking", "changed": False, "package": ONE.digest, "need": [sha(b"one\n")]}
    answer, trips = upgraded.switch(back_out, TWO, ONE)
    assert (answer["repaired"], trips) == (["data/own", "lib/deep/a"], 2)


def test_the_documents_are_asked_for_and_then_what_lacks(upgraded: Host) -> None:
    _edited_with_its_record(upgraded)
    answer, trips = upgraded.switch(back_out, TWO, ONE)
    assert (answer["state"], answer["repaired"], trips) == ("backed_out", ["bin/start"], 3)


def test_what_nobody_released_stays(upgraded: Host) -> None:
    tree = upgraded.tree(ONE)
    (tree / "lib/deep/log").write_text("x")
    (tree / "bin/start").chmod(0o700)
    (tree / "lib").chmod(0o700)
    assert upgraded.switch(back_out, TWO, ONE)[0]["repaired"] == ["bin/start", "lib"]
    assert (tree / "lib/deep/log").read_text() == "x"


def test_the_owner_of_a_file_that_is_right_is_left_alone(upgraded: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    for name in ("data/own", "data/seed"):
        os.chown(upgraded.tree(ONE) / name, 12345, 12345)
    (upgraded.tree(ONE) / "data/own").write_text("x")
    assert upgraded.switch(back_out, TWO, ONE)[0]["repaired"] == ["data/own"]
    assert (upgraded.tree(ONE) / "data/seed").stat().st_uid == 12345
    assert (upgraded.tree(ONE) / "data/own").stat().st_uid == 0


def test_a_file_that_is_open_is_replaced_and_not_written_over(host: Host) -> None:
    """It may be serving: whoever has the old file open reads on in that, whoever opens it gets the new one whole."""
    host.deploy(ONE)
    path = host.tree(ONE) / "lib/deep/a"
    path.write_bytes(b"x" * 9000)
    host.stage(TWO)
    with path.open("rb") as stream:
        assert host.switch(activate, ONE, ONE)[0]["repaired"] == ["lib/deep/a"]
        assert stream.read() == b"x" * 9000
    assert path.read_bytes() == b"a" * 5000


def test_what_an_older_version_linked_is_put_right_in_one_release_alone(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    host.deploy(TWO, ONE)
    (host.tree(TWO) / "data/seed").write_text("written by 2.0\n")
    assert (host.tree(ONE) / "data/seed").read_text() == "written by 2.0\n"
    assert host.switch(back_out, TWO, ONE)[0]["repaired"] == ["data/seed"]
    assert (host.tree(ONE) / "data/seed").read_text() == "seed\n"
    assert (host.tree(TWO) / "data/seed").read_text() == "written by 2.0\n"


def test_what_the_leaving_release_writes_until_it_is_stopped_does_not_stay(host: Host) -> None:
    stop = SERVICE["bin/stop"] + f'echo late >>"$TIDEGATE_STATE/../releases/{ONE.id}/tree/data/seed"\n'.encode()
    two = package("2.0", {**FILES, "bin/stop": stop})
    host.deploy(ONE)
    host.deploy(two, ONE)
    assert host.back_out(two, ONE)["state"] == "backed_out"
    assert is_whole(host, ONE)


# -- without good bytes ------------------------------------------------------


def test_a_host_that_is_left_alone_goes_back_by_its_own_good_copies(upgraded: Host) -> None:
    (upgraded.tree(ONE) / "lib/deep/a").write_text("x")
    (upgraded.tree(ONE) / "bin/stop").unlink()
    assert upgraded.back_out(TWO, ONE)["repaired"] == ["bin/stop", "lib/deep/a"]
    assert is_whole(upgraded, ONE)


def test_a_host_that_is_left_alone_without_good_copies_names_the_files_and_touches_nothing(upgraded: Host) -> None:
    edit_start(upgraded, ONE)
    (upgraded.tree(ONE) / "data/own").unlink()
    before = (upgraded.calls, upgraded.events)
    with pytest.raises(HostError, match=r"2 files of hello 1.0 are not as archived, .* no good copy of them: bin/start, data/own; run the"):
        upgraded.back_out(TWO, ONE)
    assert (upgraded.calls, upgraded.events, upgraded.live, upgraded.running) == (*before, "2.0", "2.0")
    assert upgraded.switch(back_out, TWO, ONE)[0]["state"] == "backed_out"
    assert not ran_evil(upgraded)


def test_a_host_that_is_left_alone_and_at_rest_does_not_take_an_edited_release_for_good(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    edit_start(host, ONE)
    with pytest.raises(HostError, match="not as archived"):
        host.back_out(TWO, ONE)
    with pytest.raises(HostError, match="not as archived"):
        host.activate(ONE, ONE)


def test_a_release_that_does_not_come_up_falls_back_to_what_was_archived(host: Host) -> None:
    host.deploy(ONE)
    host.stage(SICK)
    (host.tree(ONE) / "bin/stop").write_bytes(SERVICE["bin/stop"] + b"# edited\n")
    (host.tree(ONE) / "data/seed").write_text("x")
    answer = host.activate(SICK, ONE)
    assert (answer["state"], answer["repaired"]) == ("failed", ["bin/stop", "data/seed"])
    assert is_whole(host, ONE)
    assert (host.live, host.running) == ("1.0", "1.0")


def test_no_hook_of_an_edited_release_runs_when_another_falls_back(host: Host) -> None:
    host.deploy(ONE)
    host.stage(SICK)
    edit_start(host, ONE)
    answer, _trips = host.switch(activate, SICK, ONE)
    assert (answer["state"], answer["damaged"]) == ("stuck", True)
    assert "health check 'runs'" in answer["reason"]
    assert "bin/start" in answer["detail"]
    assert not ran_evil(host)
    assert host.switch(back_out, SICK, ONE)[0]["state"] == "backed_out"
    assert (host.live, host.running) == ("1.0", "1.0")
    assert not ran_evil(host)


def test_what_can_not_be_replaced_is_named(upgraded: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (upgraded.tree(ONE) / "data/seed").write_text("x")

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(repair.os, "replace", refuse)
    with pytest.raises(HostError, match=r"data/seed of hello 1.0 is not as archived and can't be put right \(Operation not permitted\)"):
        upgraded.switch(back_out, TWO, ONE)
    assert upgraded.running == "2.0"


def test_bytes_that_are_not_those_of_the_package_put_nothing_right(upgraded: Host) -> None:
    edit_start(upgraded, ONE)
    false = Package("1.0", ONE.documents, {**ONE.contents, sha(OWN["bin/start"]): EVIL.ljust(len(OWN["bin/start"]))}, ONE.payload)
    with pytest.raises(HostError, match="has other bytes for"):
        upgraded.switch(back_out, TWO, false)
    assert not ran_evil(upgraded)
    assert upgraded.running == "2.0"


def test_documents_of_another_package_are_not_taken(upgraded: Host) -> None:
    (upgraded.home.releases / ONE.id / "release.json").unlink()
    supplies = repair.Supplies(repair.Texts(*TWO.documents), more=True)
    with upgraded.home.locked(1), pytest.raises(repair.Lacking) as lacking:
        repair.find_release(upgraded.home, ONE.digest, supplies, "is gone")
    assert lacking.value.answer["package"] == ONE.digest
    with pytest.raises(HostError, match="is hello, not other"):
        repair.find_release(ReleaseHome(str(upgraded.root), "other"), TWO.digest, repair.Supplies(repair.Texts(*TWO.documents)), "is gone")


# -- interruptions ----------------------------------------------------------


def test_killed_at_any_change_of_a_repair_the_next_run_ends_with_what_was_archived(tmp_path: Path) -> None:
    def prepare(host: Host) -> None:
        host.deploy(ONE)
        edit_start(host, ONE)
        _replace_by_link(host, "lib/deep")
        _file_by_folder(host, "data/own")

    steps = 0
    for host in killed_everywhere(tmp_path / "root", prepare, lambda host: host.switch(activate, ONE, ONE)):
        steps += 1
        assert host.switch(activate, ONE, ONE)[0]["state"] == "started"
        assert is_whole(host, ONE)
        # What ran before was started from other bytes, so it was started anew, once at least.
        assert host.calls.count("start 1.0") >= 2
        assert host.calls[-1] == "start 1.0"
        assert not ran_evil(host)
    assert steps > 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file immutable")
def test_a_file_that_nobody_may_change_is_named(upgraded: Host) -> None:
    path = upgraded.tree(ONE) / "data/seed"
    path.write_text("x")
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("the file system has no such attribute")
    try:
        with pytest.raises(HostError, match=r"data/seed of hello 1.0 is not as archived and can't be put right"):
            upgraded.switch(back_out, TWO, ONE)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert upgraded.switch(back_out, TWO, ONE)[0]["state"] == "backed_out"


def test_hooks_of_the_previous_release_are_those_that_were_archived(upgraded: Host) -> None:
    assert HOOKS["start"]["command"] == ["bin/start"]
    _forge(upgraded, "config", '"bin/start"', '"bin/stop"')
    with pytest.raises(HostError, match="no longer on this host"):
        upgraded.back_out(TWO, ONE)


def test_a_directory_that_becomes_a_link_at_the_last_moment_leads_nowhere(upgraded: Host) -> None:
    home = upgraded.home
    (upgraded.tree(ONE) / "lib/deep/a").write_text("x")
    with home.locked(1):
        release = home.all()[0]
        wrong = changed_entries(release)
        assert repair.collect(home, release, wrong)["need"] == []
        _replace_by_link(upgraded, "lib/deep")
        with pytest.raises(HostError, match=r"lib/deep/a of hello 1\.0 is not as archived and can't be put right"):
            repair.install(home, release, wrong)
    assert (upgraded.root.parent / "elsewhere" / "a").read_text() == "x"
