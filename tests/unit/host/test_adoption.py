# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that runs on a host becomes a release there when it is that of the package, and nothing is stopped for it."""

from __future__ import annotations

import base64
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import adoption, system_packages
from ansible_collections.tidegate.release.plugins.module_utils.package_manager import PackageEntry
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, Texts
from ansible_collections.tidegate.release.plugins.module_utils.release_hooks import Order
from bed import Host, Package, killed_everywhere, link, package

ONE = package("1.0", {"lib/a": b"a" * 5000, "lib/b": b"b", "to-lib": link("lib")})
TWO = package("2.0", {"lib/a": b"two"})


def put(package: Package, place: Path) -> Path:
    """The package's tree as somebody else has put it on the host."""
    for entry in adoption.read_package(package.digest, *package.documents).files:
        path = place / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry["type"] == "directory":
            path.mkdir(exist_ok=True)
        elif entry["type"] == "link":
            path.symlink_to(entry["target"])
        else:
            path.write_bytes(package.contents[entry["sha256"]])
            path.chmod(entry["mode"])
    return place


@pytest.fixture
def place(host: Host, tmp_path: Path) -> Path:
    """The old place of :data:`ONE`, which serves."""
    with host.home.locked(1):
        (host.home.state / "running").write_text("1.0\n")
    return put(ONE, tmp_path / "old")


def adopt(host: Host, place: Path, package: Package = ONE, *, leave: tuple[str, ...] = (), write: bool = True) -> dict[str, Any]:
    order = Order("adopted", 0, {})
    return adoption.adopt(str(host.home.path.parent), "hello", package.digest, Texts(*package.documents), str(place), leave, order, write)


def test_what_runs_becomes_the_release_before_and_no_hook_runs(host: Host, place: Path) -> None:
    assert adopt(host, place) == {"state": "adopted", "changed": True, "version": "1.0"}
    assert adopt(host, place) == {"state": "adopted", "changed": False, "version": "1.0"}
    assert not (host.home.state / "calls").exists()
    live = host.home.live()
    assert live is not None
    assert live.digest == ONE.digest
    assert host.home.at_rest(live)
    assert host.home.stable() == ONE.id
    assert (place / "lib" / "a").stat().st_nlink == 1  # its files are its own
    # The next one has a release to go back to.
    host.stage(TWO)
    assert host.activate(TWO, ONE)["state"] == "active"
    assert host.back_out(TWO, ONE)["state"] == "backed_out"
    assert (host.home.state / "running").read_text() == "1.0\n"


def test_in_check_mode_nothing_is_touched(host: Host, place: Path) -> None:
    before = sorted(host.home.path.rglob("*"))
    assert adopt(host, place, write=False) == {"state": "adopted", "changed": True, "version": "1.0"}
    assert sorted(host.home.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "lib" / "b").write_bytes(b"c"), "it has otherwise lib/b"),
        (lambda place: (place / "lib" / "b").unlink(), "it lacks lib/b"),
        (lambda place: (place / "more").write_bytes(b""), "it has besides more"),
        (lambda place: (place / "bin" / "start").chmod(0o644), "it has otherwise bin/start"),
        (lambda place: ((place / "to-lib").unlink(), (place / "to-lib").symlink_to("bin")), "it has otherwise to-lib"),
    ],
)
def test_a_tree_that_differs_is_named_and_not_adopted(host: Host, place: Path, change: Any, said: str) -> None:
    change(place)
    answer = adopt(host, place)
    assert (answer["state"], answer["changed"]) == ("differs", False)
    assert said in answer["detail"]
    assert host.home.live() is None


def test_a_release_that_is_not_well_is_not_adopted(host: Host, place: Path) -> None:
    (host.home.state / "running").unlink()
    assert "health check 'runs' failed" in adopt(host, place)["detail"]
    assert host.home.live() is None


class _OlderPackage:
    """A package manager of a host that has the packages of a release in an older version."""

    def installed(self, sought: dict[str, list[str]]) -> dict[str, PackageEntry]:
        return {name: PackageEntry(name, "all", "0.9", True, True) for name in sought}

    def changed(self, _names: list[str]) -> dict[str, list[str]]:
        return {}


def test_packages_of_a_release_are_compared_too(host: Host, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_packages, "_manager", lambda _said: _OlderPackage())
    options = {"format": "deb", "files": "lib/b", "hold": True, "config": "keep", "on_first": "refuse", "timeout": 60}
    contents = [{"path": "lib/b", "name": "bb", "version": "1.0", "architecture": "all"}]
    files = {"lib/a": b"a" * 5000, "lib/b": b"b", "to-lib": link("lib")}
    answer = adopt(host, place, package("1.0", files, packages={**options, "contents": contents}))
    assert (answer["state"], answer["changed"]) == ("differs", False)
    assert answer["detail"] == "bb is installed as 0.9 all, and its release has 1.0 all"
    assert host.home.live() is None


def test_what_is_none_of_the_release_is_left_out(host: Host, place: Path) -> None:
    for name in ("access.log", "var/data", "lib/__pycache__/a.pyc"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("of this host")
    (place / "lib" / "a").chmod(0o664)  # a umask of 002 says nothing
    assert adopt(host, place, leave=("*.log",))["state"] == "differs"
    assert adopt(host, place, leave=("*.log", "var"))["state"] == "adopted"


def test_the_old_place_may_be_a_link(host: Host, place: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(place)
    assert adopt(host, tmp_path / "current")["state"] == "adopted"


def test_a_host_with_another_release_is_left_alone(host: Host, place: Path) -> None:
    adopt(host, place)
    with pytest.raises(HostError, match=r"hello 1\.0 is live here, which is a release already"):
        adopt(host, place, TWO)


def test_killed_anywhere_it_is_adopted_by_the_next_run(tmp_path: Path) -> None:
    place = put(ONE, tmp_path / "old")

    def prepare(host: Host) -> None:
        with host.home.locked(1):
            (host.home.state / "running").write_text("1.0\n")

    tried = 0
    for host in killed_everywhere(tmp_path / "root", prepare, lambda host: adopt(host, place)):
        tried += 1
        assert adopt(host, place)["state"] == "adopted"
        live = host.home.live()
        assert live is not None
        assert host.home.at_rest(live)
        assert not (host.home.state / "calls").exists()
    assert tried > 10


def test_a_tree_is_read_as_it_is(place: Path) -> None:
    found = adoption.survey(str(place), [])
    assert [entry["path"] for entry in found["files"] if entry["type"] == "link"] == ["to-lib"]
    answer = adoption.contents(str(place), [("lib/b", 0, 1), ("lib/a", 4998, 2)])
    assert zlib.decompress(base64.b64decode(answer["data"])) == b"baa"
    os.mkfifo(place / "pipe")
    with pytest.raises(HostError, match="pipe is no file, directory or link"):
        adoption.survey(str(place), [])
    with pytest.raises(HostError, match="is no directory here"):
        adoption.survey("old", [])


def test_whoever_writes_in_the_tree_leads_nobody_out_of_it(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a").write_text("of root alone")
    entries = adoption._entries(str(place), [])
    while next(entries)["path"] != "lib":  # it was seen that this is a directory, and then it is none any more
        pass
    (place / "lib").rename(place / "before")
    (place / "lib").symlink_to(tmp_path / "closed")
    with pytest.raises(NotADirectoryError):
        next(entries)
    with pytest.raises(HostError, match="lib/a is no file any more"):
        adoption.contents(str(place), [("lib/a", 0, 4)])


def test_another_file_system_in_the_tree_is_not_read_but_said(host: Host, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "lib" / "data").mkdir()
    look = os.stat

    def mounted(path: Any, **how: Any) -> os.stat_result:
        found = list(look(path, **how))
        return os.stat_result([*found[:2], found[2] + (path == b"data"), *found[3:]])

    monkeypatch.setattr(adoption.os, "stat", mounted)
    said = f"another file system is mounted at {place}/lib/data"
    with pytest.raises(HostError, match=said):
        adopt(host, place)
    with pytest.raises(HostError, match=said):
        adoption.survey(str(place), ())
    assert adopt(host, place, leave=("lib/data",))["state"] == "adopted"


def test_what_is_outside_the_tree_has_to_say_so_too(host: Host, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_text("0.9\n")
    hooks = {"read": {"command": ["cat", str(device)], "timeout": 5}}
    health = [{"name": "well", "command": ["true"], "timeout": 1}]
    outside = package("1.0", hooks=hooks, health=health, effect="outside", reads="1.0")
    place = put(outside, tmp_path / "old")
    answer = adopt(host, place, outside)
    assert (answer["state"], answer["detail"]) == ("differs", "it says 0.9, and with hello 1.0 it has to say 1.0")
    assert host.live is None
    device.write_text("1.0\n")
    assert adopt(host, place, outside)["state"] == "adopted"
