# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host program as a controller starts it: an order in, one JSON document out, never a traceback; kept on the host, and by hand."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import host_program
from bed import Host, link, package
from orders import give_order

ONE = package("1.0", {"lib/a": b"a", "lib/b": b"b", "to-lib": link("lib")})
KNOWN = f"{sys.implementation.cache_tag}-{sys.hexversion:x}"


def facts(host: Host, **options: Any) -> dict[str, Any]:
    answer = give_order({"operation": "release_facts", "root": str(host.root), **options})
    assert len(answer["releases"]) == 1
    entry: dict[str, Any] = answer["releases"][0]
    return entry


def orders(host: Host, operation: str, pack: bytes = b"", **other: Any) -> dict[str, Any]:
    texts = [base64.b64encode(zlib.compress(document)).decode() for document in ONE.documents]
    order = {"operation": operation, "root": str(host.root), "name": "hello", "digest": ONE.digest, "deployment": "x", "token": 1}
    staging = {"documents": texts, "keep": 3, "protect": [], "packed": bool(pack)} if operation == "stage" else {}
    return give_order({**order, **staging, **other}, pack)


# -- orders -----------------------------------------------------------------


@pytest.mark.parametrize("along", [True, False])
def test_a_release_goes_all_the_way(host: Host, tmp_path: Path, along: bool) -> None:
    asked = orders(host, "stage")
    assert (asked["state"], asked["live"]) == ("lacking", None)
    if along:
        assert orders(host, "stage", ONE.pack(asked["need"]))["state"] == "staged"
    else:
        (tmp_path / "pack").write_bytes(ONE.pack(asked["need"]))
        assert orders(host, "stage", file=str(tmp_path / "pack"))["state"] == "staged"
    assert orders(host, "activate")["state"] == "started"
    assert orders(host, "confirm")["state"] == "active"
    assert host.running == "1.0"
    first, again = orders(host, "backout"), orders(host, "backout")
    assert again["clock"] >= first["clock"]
    assert {**first, "clock": 0} == {**again, "clock": 0, "state": "backed_out", "changed": True}
    assert host.running is None


def test_a_host_that_goes_back_at_an_instant_says_what_it_did_there(host: Host) -> None:
    asked = orders(host, "stage")
    orders(host, "stage", ONE.pack(asked["need"]))
    orders(host, "activate")
    orders(host, "confirm")
    assert orders(host, "arm_back", terms=[60, 30])["state"] == "armed"
    instant = time.time() + 10
    told = orders(host, "tell", at=instant, terms=[60, 30])
    assert told["state"] == "told"
    assert host.running == "1.0"
    answer = orders(host, "backout", told=True)
    assert (answer["state"], answer["changed"], host.running) == ("backed_out", True, None)
    assert [event for event in host.events if event == "backed_out"] == ["backed_out"]
    assert orders(host, "backout", told=True)["changed"] is False


@pytest.mark.parametrize(
    "documents",
    [[], ["x"], ["!", "!", "!"], [base64.b64encode(b"x").decode()] * 3, [base64.b64encode(zlib.compress(b"x")).decode()] * 3, ["é"] * 3],
)
def test_documents_that_are_none_are_one_sentence(host: Host, documents: list[str]) -> None:
    answer = orders(host, "stage", documents=documents)
    assert answer["failed"] is True
    assert "document" in answer["msg"] or "manifest" in answer["msg"]


@pytest.mark.parametrize("bad", [{"root": "/proc/none"}, {"name": "../x"}, {"digest": "x"}])
def test_bad_orders_are_one_sentence(host: Host, bad: dict[str, str]) -> None:
    answer = orders(host, "activate", **bad)
    assert answer["failed"] is True
    assert answer["msg"]


def test_a_root_that_is_a_file_is_one_sentence(host: Host) -> None:
    host.root.write_text("x")
    assert "Not a directory" in orders(host, "stage")["msg"]


# -- release_facts ----------------------------------------------------------


def test_a_host_without_releases_has_none(host: Host) -> None:
    assert give_order({"operation": "release_facts", "root": str(host.root)})["releases"] == []


def test_what_is_live_is_reported(host: Host) -> None:
    host.deploy(ONE)
    host.stage(package("2.0"))
    (host.root / "lost+found").mkdir()
    (host.root / "file").write_text("x")
    entry = facts(host)
    assert set(entry.pop("since")) == {"live"}
    assert not (host.root / ".program").exists()  # it only looked
    expected = {"name": "hello", "version": "1.0", "digest": ONE.digest, "staged": ["1.0", "2.0"]}
    nothing: dict[str, Any] = {key: [] for key in ("changed", "extra", "access", "others", "strangers", "packages")}
    assert entry == {**expected, **nothing, "logged": True}


def test_what_is_not_as_released_is_named(host: Host) -> None:
    host.deploy(ONE)
    tree = host.tree(ONE)
    (tree / "lib/a").write_bytes(b"x")
    (tree / "lib/b").unlink()
    (tree / "bin/start").chmod(0o777)
    (tree / "to-lib").unlink()
    (tree / "to-lib").symlink_to("/etc")
    (tree / "lib/new").mkdir()
    (tree / "lib/new/file").write_text("x")
    (tree / "lib/__pycache__").mkdir()
    (tree / "lib/__pycache__/x.pyc").write_text("x")
    os.mkfifo(tree / "pipe")
    with open(os.fsencode(tree) + b"/\xff", "w"):
        pass
    entry = facts(host)
    assert entry["changed"] == ["bin/start", "lib/a", "lib/b", "to-lib"]
    assert entry["extra"] == ["\\xff", "lib/__pycache__/x.pyc", "lib/new", "lib/new/file", "pipe"]


def test_a_file_that_releases_share_is_reported_for_each_and_does_not_spread(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    two, three = package("2.0", {"lib/a": b"a", "lib/b": b"2"}), package("3.0", {"lib/a": b"a", "lib/b": b"3"})
    host.stage(two)
    assert (host.tree(ONE) / "lib/a").stat().st_ino == (host.tree(two) / "lib/a").stat().st_ino
    (host.tree(two) / "lib/a").write_bytes(b"x")
    entry = facts(host)
    assert set(entry["others"][0].pop("since")) == {"changed"}
    assert entry["changed"] == ["lib/a"]
    assert entry["others"] == [{"version": "2.0", "digest": two.digest, "changed": ["lib/a"], "extra": [], "access": []}]
    host.stage(three)
    assert (host.tree(three) / "lib/a").read_bytes() == b"a"
    assert [other["version"] for other in facts(host)["others"]] == ["2.0"]


def test_links_and_files_that_somebody_planted_are_named(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    host.stage(package("2.0"))
    home = host.home
    (host.tree(ONE) / "lib/evil").symlink_to("/etc/passwd")
    (host.tree(ONE) / "folder").symlink_to(tmp_path)
    (host.tree(ONE) / "__pycache__").symlink_to(tmp_path)
    (host.tree(ONE) / "lib/__pycache__").mkdir()
    (host.tree(ONE) / "lib/__pycache__/tool").write_text("x")
    (host.tree(ONE) / "lib/__pycache__/m.cpython-311.pyc").write_text("x")
    (host.tree(ONE) / "lib/__pycache__/n.pyc").symlink_to("/etc/passwd")
    (home.releases / "9.9-0123456789ab").symlink_to(home.releases / ONE.id)
    (home.releases / ONE.id / "more").write_text("x")
    (home.path / "note.txt").write_text("x")
    (home.path / ".current.new").symlink_to("x")  # what a killed switch leaves
    entry = facts(host)
    inside = [f"lib/__pycache__/{name}" for name in ("m.cpython-311.pyc", "n.pyc", "tool")]
    assert entry["extra"] == ["__pycache__", "folder", *inside, "lib/evil"]
    assert entry["strangers"] == ["note.txt", f"releases/{ONE.id}/more", "releases/9.9-0123456789ab"]
    assert (entry["changed"], entry["others"], entry["staged"]) == ([], [], ["1.0", "2.0"])


def test_the_kind_of_each_thing_counts(host: Host) -> None:
    host.deploy(ONE)
    tree = host.tree(ONE)
    (tree / "to-lib").unlink()
    (tree / "to-lib").mkdir()
    (tree / "lib/a").unlink()
    (tree / "lib/a").symlink_to("b")
    (tree / "lib").chmod(0o777)
    assert facts(host)["changed"] == ["lib", "lib/a", "to-lib"]


def test_a_folder_that_became_a_link_is_changed(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    (host.tree(ONE) / "lib").rename(tmp_path / "lib")
    (host.tree(ONE) / "lib").symlink_to(tmp_path / "lib")
    assert facts(host)["changed"] == ["lib"]


@pytest.mark.parametrize("target", ["/etc", "releases/none/tree", "nowhere"])
def test_a_broken_link_is_said(host: Host, target: str) -> None:
    host.deploy(ONE)
    host.home.current.unlink()
    host.home.current.symlink_to(target)
    entry = facts(host)
    assert "which is not a release" in entry["error"]
    assert (entry["version"], entry["staged"]) == (None, ["1.0"])


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"config": 1}', "\0"])
def test_a_damaged_record_is_said(host: Host, record: str) -> None:
    host.deploy(ONE)
    (host.home.releases / ONE.id / "release.json").write_text(record)
    assert "which is not a release" in facts(host)["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody who may not read")
@pytest.mark.parametrize("which", ["", "hello", "hello/releases", "tree"])
def test_what_can_not_be_read_is_said(which: str) -> None:
    # Not below pytest's directory, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(Path(folder) / "root")
        host.deploy(ONE)
        (host.tree(ONE) / "lib" if which == "tree" else host.root / which).chmod(0o700)
        answer = give_order({"operation": "release_facts", "root": str(host.root)}, user=65534)
    if which:
        entry = answer["releases"][0]
        assert entry.get("error")
    else:
        assert answer["failed"] is True
        assert "can't be read (Permission denied)" in answer["msg"]


def test_a_root_that_is_no_directory_is_said(host: Host) -> None:
    host.root.write_text("x")
    assert "Not a directory" in give_order({"operation": "release_facts", "root": str(host.root)})["msg"]


# -- the program itself -----------------------------------------------------


def keep(host: Host, **how: Any) -> dict[str, Any]:
    return give_order({"operation": "release_facts", "root": str(host.root)}, keep=True, **how)


def test_a_host_that_does_not_have_the_program_says_so_and_keeps_what_it_gets(host: Host) -> None:
    assert keep(host, along=False) == {}
    assert not host.root.exists()
    assert keep(host) == {"releases": []}
    folder = host.root / ".program"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        host_program().digest: 0o600,
        f"{host_program().digest}.{KNOWN}": 0o600,
    }
    assert keep(host, along=False) == {"releases": []}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_services_get_to_their_releases_whatever_the_logins_umask_is(host: Host, umask: int) -> None:
    keep(host, umask=umask)
    assert stat.S_IMODE(host.root.stat().st_mode) == 0o755
    assert stat.S_IMODE((host.root / ".program").stat().st_mode) == 0o700


def test_it_is_not_run_when_it_is_not_what_the_order_names(host: Host) -> None:
    keep(host)
    kept = host.root / ".program" / host_program().digest
    kept.write_text(kept.read_text() + "raise SystemExit\n")
    assert keep(host, along=False) == {}
    assert keep(host) == {"releases": []}
    assert keep(host, along=False) == {"releases": []}
    kept.unlink()
    os.mkfifo(kept)
    assert keep(host, along=False) == {}
    kept.unlink()
    kept.symlink_to("/dev/zero")
    assert keep(host, along=False) == {}


@pytest.mark.parametrize("damage", ["cut", "changed", "readable", "link", "fifo"])
def test_damaged_bytecode_is_made_anew(host: Host, damage: str) -> None:
    keep(host)
    compiled = host.root / ".program" / f"{host_program().digest}.{KNOWN}"
    good = compiled.read_bytes()
    if damage == "cut":
        compiled.write_bytes(good[:1000])
    elif damage == "changed":
        compiled.write_bytes(good[:-1] + b"x")
    elif damage == "readable":
        compiled.chmod(0o622)
    else:
        compiled.rename(host.root / "elsewhere")
        if damage == "link":
            compiled.symlink_to(host.root / "elsewhere")
        else:
            os.mkfifo(compiled)
    answer = keep(host)
    assert answer["releases"] == []
    assert (damage == "link") == ("unkept" in answer)
    if damage != "link":
        assert (compiled.read_bytes(), stat.S_IMODE(compiled.stat().st_mode)) == (good, 0o600)


def test_what_another_version_left_is_swept(host: Host) -> None:
    keep(host)
    folder = host.root / ".program"
    for path in folder.iterdir():
        path.rename(folder / f"0{path.name[1:]}0")
    keep(host)
    assert sorted(path.name for path in folder.iterdir()) == sorted((host_program().digest, f"{host_program().digest}.{KNOWN}"))


@pytest.mark.parametrize("what", ["link", "file", "open", "foreign"])
def test_a_place_that_is_not_this_users_alone_is_not_used_and_said(host: Host, tmp_path: Path, what: str) -> None:
    host.root.mkdir()
    folder = host.root / ".program"
    if what == "link":
        folder.symlink_to(tmp_path)
    elif what == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o770 if what == "open" else 0o700)
        if what == "foreign":
            if os.geteuid() != 0:
                pytest.skip("needs root to give a directory away")
            os.chown(folder, 65534, 65534)
    answer = keep(host)
    assert answer["releases"] == []
    assert str(folder) in answer["unkept"]
    assert what == "file" or not [path for path in folder.iterdir() if path.name.startswith(host_program().digest)]


def test_it_can_be_run_by_hand(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    keep(host)
    order = {"operation": "backout", "root": str(host.root), "name": "hello", "digest": ONE.digest, "deployment": "by hand", "token": 9}
    (tmp_path / "order.json").write_text(json.dumps(order))
    command = [sys.executable, "-I", "-S", host.root / ".program" / host_program().digest, tmp_path / "order.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["state"] == "backed_out"
    assert host.running is None
    (tmp_path / "order.json").write_text("[]")
    assert "is no order" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
