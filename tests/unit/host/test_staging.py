# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: nothing half is ever visible, whatever the host, the pack, or the moment of the crash."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import build, staging
from ansible_collections.tidegate.release.plugins.module_utils.activation import activate
from ansible_collections.tidegate.release.plugins.module_utils.payload_format import END
from ansible_collections.tidegate.release.plugins.module_utils.release_home import HostError, ReleaseHome, Texts, changed_files
from bed import HEALTH, Host, Package, assemble, forge, killed_at, killed_everywhere, link, package, sha, tarred

ONE = package("1.0", {"lib/a": b"a" * 5000, "lib/b": b"b", "empty": b"", "bin/empty": b"", "to-lib": link("lib")})
TWO = package("2.0", {"lib/a": b"a" * 5000, "lib/b": b"changed", "lib/more/c": b"c", "empty": b"", "bin/empty": b""})
CONFIG = {"name": "hello", "version": "1.0", "health": HEALTH}


def _file(path: str = "a", content: bytes = b"x", **other: Any) -> dict[str, Any]:
    return {"path": path, "type": "file", "mode": 0o644, "size": len(content), "sha256": sha(content), **other}


def _folder(path: str, mode: int = 0o755) -> dict[str, Any]:
    return {"path": path, "type": "directory", "mode": mode}


def _snapshot(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


# -- the package ------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_document_that_is_not_what_the_digest_says_is_refused(host: Host, which: int) -> None:
    documents = list(ONE.documents)
    documents[which] = documents[which].replace(b":", b": ", 1)
    with host.home.locked(1), pytest.raises(HostError):
        staging.stage(host.home, ONE.digest, (documents[0], documents[1], documents[2]), None, 3, [], 1, "hello-1")
    assert _snapshot(host.home.staging) == _snapshot(host.home.releases) == []


@pytest.mark.parametrize(
    "entries",
    [
        [_file("/etc/passwd")],
        [_file("/x")],
        [_file("../escape")],
        [_folder("a"), _file("a/../b")],
        [_file("./a")],
        [_folder("a"), _file("a//b")],
        [_file("a/")],
        [_file("")],
        [_file(".")],
        [_file("..")],
        [_file("nul\0")],
        [_file("lone \ud800")],
        *([_file(f"a{sign}b")] for sign in "\n\r\t\x1b\x7f\u0085\u200b\u202e\u2028\ufe0f\u3164\u00ad\u2800\U000e0041"),
        [_file("cafe\u0301"), _file("caf\u00e9")],
        [_file(".wh.a")],
        [link("a\nb") | {"path": "a"}],
        [_file("no/parent")],
        [link("/etc") | {"path": "a"}, _file("a/passwd")],
        [_file("a"), _file("a")],
        [_file("a"), _file("a/b")],
        [link("/etc/passwd") | {"path": "a"}],
        [link("../x") | {"path": "a"}],
        [_folder("d"), link("../../x") | {"path": "d/a"}],
        [link("") | {"path": "a"}],
        [link("x\0") | {"path": "a"}],
        [link("./" * 2048 + "b") | {"path": "a"}, _file("b")],
        [_file(mode=0o4755)],
        [_file(mode=0o666)],
        [_file(mode=0o664)],
        [_file(mode=0o2755)],
        [_file(mode=0o244)],
        [_file(mode=0)],
        [_folder("a", 0o1755)],
        [_folder("a", 0o555)],
        [_file(mode=-1)],
        [_file(mode="0644")],
        [_folder("a", 0o777)],
        [_file(sha256="x" * 64)],
        [_file(sha256=sha(b"x") + "\n")],
        [_file(sha256="../" * 21 + "a")],
        [_file(size=-1)],
        [_file(size="1")],
        [_file(), _file("b", size=2)],
        [_file(chunks=[[1, sha(b"y")], [1, sha(b"z")]])],
        [_file(chunks=[[2, sha(b"y")], [-1, sha(b"z")]])],
        [_file(chunks=[[1, "../x"]])],
        [_file(chunks=[1])],
        [_file(chunks={})],
        [_file(content=b"xx", chunks=[[1, sha(b"y")], [1, sha(b"z")]]), _file("b", b"y", size=2)],
        [_file(offset=-1)],
        [_file(offset="1")],
        [_folder("/".join("d" * depth)) for depth in range(1, 201)] + [_file("/".join("d" * 200) + "/f")],
        [_folder("/".join(["d" * 200] * depth)) for depth in range(1, 16)],
        [{"path": "a", "type": "device"}],
        [{"path": "a"}],
        [{"type": "file"}],
        ["a"],
        [None],
    ],
)
def test_an_index_that_could_do_harm_is_refused_and_nothing_changes(host: Host, entries: list[Any]) -> None:
    told = [dict(entry) if isinstance(entry, dict) else entry for entry in entries]
    payload = END
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, struct.error, UnicodeError):
        payload = tarred(told, {})  # so that there is nothing else wrong
    told = [now | was if isinstance(now, dict) else now for now, was in zip(told, entries, strict=True)]
    bad = assemble(CONFIG, told, {}, payload)
    host.stage(ONE)
    before = _snapshot(host.root)
    with pytest.raises(HostError, match="archive it again"):
        host.ask(bad)
    assert _snapshot(host.root) == before


def _with(payload: bytes = ONE.payload, **layer: Any) -> Any:
    """The documents of :data:`ONE` with another payload in the manifest; only that differs."""
    manifest = json.loads(ONE.documents[0])
    manifest["layers"][0] |= {"digest": f"sha256:{sha(payload)}", "size": len(payload)}
    manifest["layers"] += [layer] if layer else []
    return Package("1.0", (json.dumps(manifest).encode(), *ONE.documents[1:]), ONE.contents, payload)


IMAGE = {"digest": f"sha256:{sha(b'')}", "size": 0, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}


@pytest.mark.parametrize(
    "bad",
    [
        _with(ONE.payload + bytes(512)),
        _with(ONE.payload + b"more"),
        _with(ONE.payload[:-512]),
        _with(b""),
        _with(**IMAGE),
        _with(**IMAGE | {"mediaType": "application/vnd.oci.image.layer.v1.tar"}),
    ],
)
def test_a_payload_that_is_another_tree_than_the_index_says_is_refused(host: Host, bad: Package) -> None:
    with pytest.raises(HostError, match="archive it again"):
        host.ask(bad)
    assert _snapshot(host.home.releases) == []


@pytest.mark.parametrize("name", ["lib/a", "empty", "bin/start"])
def test_contents_that_are_elsewhere_in_the_payload_are_another_tree(host: Host, name: str) -> None:
    entries = json.loads(ONE.documents[2])["files"]
    next(entry for entry in entries if entry["path"] == name)["offset"] += 512
    with pytest.raises(HostError, match="are not one tree"):
        host.ask(assemble(json.loads(ONE.documents[1]), entries, ONE.contents, ONE.payload))


def test_names_that_linux_has_and_modes_that_protect_arrive_as_they_are(host: Host) -> None:
    names = (
        "E/Eterm",
        "e/eterm",
        "srv-my\\x2ddata.mount",
        "stra\u00dfe",
        "strasse",
        "\uff41",
        "a",
        "with space ",
        "private/key",
        "shared",
        "shut",
    )
    modes = {"private": 0o700, "private/key": 0o600, "shared": 0o640, "shut": 0o400, "bin/start": 0o750}
    first, second = (
        package(version, {**{name: name.encode() for name in names}, "private/big": os.urandom(600_000)}, modes | {"private/big": 0o440})
        for version in ("1.0", "2.0")
    )
    host.deploy(first)
    host.stage(second)
    for what in (first, second):
        for path, mode in {**modes, "private/big": 0o440}.items():
            assert (host.tree(what) / path).stat().st_mode & 0o7777 == mode
    host.assert_whole()
    (host.tree(first) / "private/key").chmod(0o644)
    (host.tree(first) / "private").chmod(0o755)
    assert changed_files(host.home.all()[0]) == ["private", "private/key"]
    shutil.rmtree(host.tree(first) / "private")
    assert host.switch(activate, first)[0]["state"] == "started"
    host.assert_whole()
    assert {path: (host.tree(first) / path).stat().st_mode & 0o7777 for path in modes} == modes


def test_letters_that_this_python_does_not_know_yet_are_no_trick(host: Host) -> None:
    host.stage(package("1.0", {"new/\U0001fae9\u0378": b"x", "old/\u00e9 \u4e2d": b"y"}))
    host.assert_whole()


@pytest.mark.parametrize(
    "config",
    [
        {"name": "other"},
        {"name": ["hello"]},
        {"version": 1},
        {"version": "../1"},
        {"health": []},
        {"health": [{"name": "x", "timeout": 1}]},
        {"health": [{"name": "x", "command": ["true"]}]},
        {"hooks": {"start": {"command": ["x"]}}},
        {"hooks": {"start": {"timeout": 1}}},
        {"hooks": [1]},
        {"settings": []},
    ],
)
def test_a_config_that_would_fail_halfway_through_a_switch_is_refused_before(host: Host, config: dict[str, Any]) -> None:
    with pytest.raises(HostError):
        host.ask(assemble({**CONFIG, **config}, [_file()], {}))
    assert os.listdir(host.home.staging) == os.listdir(host.home.releases) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"config": {"digest": 1}, "layers": [1]}'])
def test_a_manifest_that_is_none_is_one_sentence(text: bytes) -> None:
    with pytest.raises(HostError):
        staging.read_package(f"sha256:{sha(text)}", text, b"{}", b"{}")


# -- install and upgrade ----------------------------------------------------


def test_a_first_install_asks_for_what_lacks_and_then_is_whole(host: Host) -> None:
    answer = host.ask(ONE)
    assert (answer["state"], answer["changed"], answer["live"]) == ("lacking", False, None)
    wanted = sorted(ONE.contents.keys() - {sha(b"")})
    assert answer["need"] == wanted
    done = host.stage(ONE)
    assert (done["state"], done["changed"], done["sent"], done["reused"]) == ("staged", True, len(wanted), 0)
    host.assert_whole()
    assert (host.tree(ONE) / "to-lib" / "b").read_bytes() == b"b"
    assert host.live is None
    assert host.events == ["staged"]
    assert os.listdir(host.home.staging) == []


def test_staging_again_changes_nothing(host: Host) -> None:
    host.stage(ONE)
    before = _snapshot(host.root)
    answer = host.ask(ONE)
    assert (answer["state"], answer["changed"]) == ("staged", False)
    assert _snapshot(host.root) == before
    assert host.events == ["staged"]


def _inodes(tree: Path) -> list[tuple[int, int]]:
    return [(path.lstat().st_dev, path.lstat().st_ino) for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]


def test_an_upgrade_needs_only_what_changed_and_copies_the_rest(host: Host) -> None:
    host.deploy(ONE)
    answer = host.ask(TWO)
    assert answer["need"] == sorted(set(TWO.contents) - set(ONE.contents))
    assert answer["live"] == {"version": "1.0", "digest": ONE.digest}
    host.stage(TWO)
    host.assert_whole()
    # Empty files and equal ones too are their own, within a tree and across two.
    inodes = _inodes(host.tree(ONE)) + _inodes(host.tree(TWO))
    assert len(set(inodes)) == len(inodes) > 10
    assert host.live == "1.0"


def test_releases_that_share_files_do_so_where_owner_and_mode_agree(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    if os.geteuid() == 0:
        os.chown(host.tree(ONE) / "bin/start", 12345, 12345)
    host.stage(TWO)
    host.assert_whole()
    for name in ("lib/a", "empty", "bin/empty"):
        assert (host.tree(ONE) / name).stat().st_ino == (host.tree(TWO) / name).stat().st_ino
    assert (host.tree(TWO) / "bin/start").stat().st_uid == os.geteuid()
    assert (host.tree(TWO) / "bin/empty").stat().st_ino != (host.tree(TWO) / "empty").stat().st_ino
    assert (host.tree(ONE) / "lib/b").stat().st_ino != (host.tree(TWO) / "lib/b").stat().st_ino


def test_an_edited_file_does_not_spread_where_files_are_shared(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    (host.tree(ONE) / "lib/a").write_bytes(b"A" * 5000)
    host.stage(TWO)
    host.assert_whole_but(ONE)


def test_what_an_older_version_linked_becomes_a_release_of_its_own(host: Host) -> None:
    host.share = True
    host.deploy(ONE)
    host.stage(TWO)
    host.share = False
    three = package("3.0", {"lib/a": b"a" * 5000, "empty": b"", "bin/empty": b""})
    host.stage(three)
    inodes = _inodes(host.tree(three))
    assert len(set(inodes)) == len(inodes)
    assert not set(inodes) & set(_inodes(host.tree(ONE)) + _inodes(host.tree(TWO)))


def test_a_tree_that_was_begun_with_links_is_not_taken_up_where_files_are_not_shared(host: Host) -> None:
    host.deploy(ONE)
    tree = host.home.staging / TWO.id / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib/a").hardlink_to(host.tree(ONE) / "lib/a")
    host.stage(TWO)
    host.assert_whole()
    assert (host.tree(TWO) / "lib/a").stat().st_nlink == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file a capability")
def test_neither_attributes_nor_capabilities_nor_times_come_along(host: Host) -> None:
    host.deploy(ONE)
    path = host.tree(ONE) / "bin/start"
    os.setxattr(path, "user.note", b"x")
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(path, (1, 1))
    host.stage(TWO)
    copied = host.tree(TWO) / "bin/start"
    assert os.listxattr(copied) == []
    assert copied.stat().st_mtime > 1


@pytest.mark.parametrize("how", ["clone", "copy"])
def test_a_file_that_changes_while_it_is_copied_is_not_believed(host: Host, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The copy is what is verified: what the source was before or is after says nothing of it."""
    host.deploy(ONE)
    path = host.tree(ONE) / "lib/a"
    pread = os.pread

    def edit_meanwhile(descriptor: int, count: int, offset: int) -> bytes:
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            path.write_bytes(b"A" * 5000)
        return pread(descriptor, count, offset)

    def clone(target: int, _request: int, source: int) -> int:
        if os.path.samestat(os.fstat(source), path.stat()):
            os.write(target, b"A" * 5000)
        else:
            os.write(target, pread(source, 1 << 20, 0))
        return 0

    if how == "copy":
        monkeypatch.setattr(os, "pread", edit_meanwhile)
    else:
        monkeypatch.setattr(build.fcntl, "ioctl", clone)
    assert host.ask(TWO)["need"] == sorted({sha(b"a" * 5000), *(set(TWO.contents) - set(ONE.contents))})
    host.stage(TWO)
    host.assert_whole_but(*([ONE] if how == "copy" else []))


def test_files_are_cloned_where_the_file_system_can_and_it_is_asked_once_where_it_can_not(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.deploy(ONE)
    asked = []

    def can_not(_target: int, request: int, _source: int) -> int:
        asked.append(request)
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(build.fcntl, "ioctl", can_not)
    host.stage(TWO)
    assert asked == [build._FICLONE]
    host.assert_whole()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.xfs"), reason="needs root and mkfs.xfs")
def test_on_a_file_system_that_clones_a_release_takes_no_room_twice(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as stream:
        stream.truncate(320 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    said = _full(
        "one, two = (package(v, {'big': bytes(range(256)) * (80 << 12), 'v': v.encode()}) for v in ('1.0', '2.0'))\n"
        "host.stage(one)\nbefore = os.statvfs(host.root).f_bavail\nprint(host.stage(two)['state'])\nhost.assert_whole()\n"
        "print(os.statvfs(host.root).f_bavail > before - (8 << 8))\n",
        tmp_path,
        "",
        image=image,
    )
    assert said.split() == ["staged", "True"]


def test_one_content_with_two_modes_keeps_both(host: Host) -> None:
    host.stage(ONE)
    other = package("3.0", {"bin/a": b"a" * 5000, "lib/a": b"a" * 5000})
    assert sha(b"a" * 5000) not in host.ask(other)["need"]
    host.stage(other)
    host.assert_whole()


def test_an_edited_file_does_not_spread(host: Host) -> None:
    host.deploy(ONE)
    with (host.tree(ONE) / "lib/a").open("r+b") as stream:
        stream.write(b"evil")
    assert sha(b"a" * 5000) in host.ask(TWO)["need"]
    host.stage(TWO)
    assert (host.tree(TWO) / "lib/a").read_bytes() == b"a" * 5000


@pytest.mark.parametrize("plant", ["pipe", "link"])
def test_what_stands_in_for_a_file_is_neither_waited_for_nor_followed(host: Host, plant: str) -> None:
    host.deploy(ONE)
    for name in ("empty", "bin/empty"):
        path = host.tree(ONE) / name
        path.unlink()
        if plant == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/null")
    assert sorted(changed_files(host.home.all()[0])) == ["bin/empty", "empty"]
    host.stage(TWO)
    assert changed_files(host.home.all()[1]) == []


@pytest.mark.parametrize("share", [True, False])
def test_nothing_is_linked_through_a_directory_that_became_a_link(host: Host, tmp_path: Path, share: bool) -> None:
    """What is behind it may have the right bytes now; linked, the new release would follow every change made there."""
    host.share = share
    host.deploy(ONE)
    shutil.move(host.tree(ONE) / "lib", tmp_path / "theirs")
    (host.tree(ONE) / "lib").symlink_to(tmp_path / "theirs")
    host.stage(TWO)
    (tmp_path / "theirs" / "a").write_bytes(b"evil")
    assert (host.tree(TWO) / "lib/a").read_bytes() == b"a" * 5000


def test_a_link_to_the_right_bytes_does_not_get_into_the_next_release(host: Host, tmp_path: Path) -> None:
    host.deploy(ONE)
    shutil.move(host.tree(ONE) / "lib/a", tmp_path / "theirs")
    (host.tree(ONE) / "lib/a").symlink_to(tmp_path / "theirs")
    host.stage(TWO)
    (tmp_path / "theirs").write_bytes(b"evil")
    assert not (host.tree(TWO) / "lib/a").is_symlink()
    assert (host.tree(TWO) / "lib/a").read_bytes() == b"a" * 5000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_that_belongs_to_somebody_else_does_not_in_the_next_release(host: Host) -> None:
    host.deploy(ONE)
    os.chown(host.tree(ONE) / "lib/a", 12345, 12345)
    host.stage(TWO)
    host.assert_whole()
    assert (host.tree(TWO) / "lib/a").stat().st_uid == 0


@pytest.mark.parametrize("code", [errno.EMLINK, errno.EPERM, errno.EXDEV])
def test_a_file_system_that_does_not_link_gets_copies(host: Host, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    host.share = True
    host.stage(ONE)
    host.stage(TWO)
    host.assert_whole()


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_the_result_does_not_depend_on_the_umask(host: Host, umask: int) -> None:
    before = os.umask(umask)
    try:
        host.stage(ONE)
        host.deploy(TWO)
    finally:
        os.umask(before)
    host.assert_whole()
    home = host.home
    for path in [host.root, home.path, home.releases, home.state, *(p for p in home.releases.rglob("*") if p.is_dir())]:
        assert path.stat().st_mode & 0o777 == 0o755, path
    assert home.staging.stat().st_mode & 0o777 == 0o700
    assert (home.path / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert (home.releases / ONE.id / "release.json").stat().st_mode & 0o777 == 0o644


def test_a_set_gid_home_does_not_pass_the_bit_on(host: Host) -> None:
    with host.home.locked(1):
        host.home.staging.chmod(0o2700)
    host.stage(ONE)
    host.assert_whole()
    assert not host.tree(ONE).stat().st_mode & 0o7000


# -- bad packs --------------------------------------------------------------


def _cut(pack: bytes) -> bytes:
    return pack[:-20]


def _shorter(pack: bytes) -> bytes:
    return gzip.compress(gzip.decompress(pack)[:-1])


def _other(pack: bytes) -> bytes:
    listed, _newline, contents = gzip.decompress(pack).partition(b"\n")
    return gzip.compress(listed + b"\n" + bytes(len(contents)))


def _listing(listed: Any) -> Callable[[bytes], bytes]:
    return lambda pack: gzip.compress(json.dumps(listed).encode() + b"\n" + gzip.decompress(pack).partition(b"\n")[2])


def _longer(pack: bytes) -> bytes:
    return gzip.compress(gzip.decompress(pack) + b"x")


@pytest.mark.parametrize(
    "spoil",
    [
        _cut,
        _shorter,
        _other,
        _longer,
        lambda pack: pack + b"rubbish",
        lambda pack: pack + gzip.compress(b""),
        lambda _pack: b"rubbish" * 100,
        lambda _pack: b"",
        lambda pack: pack[:12] + b"\xff" * 8 + pack[20:],
        lambda pack: pack[:-8] + b"\0" * 8,
        _listing({}),
        _listing([1]),
        _listing([sha(b"nobody has it")]),
        _listing(["x" * 10**6]),
    ],
)
def test_a_bad_pack_is_refused_and_nothing_is_visible(host: Host, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    need = host.ask(ONE)["need"]
    pack = tmp_path / "pack"
    pack.write_bytes(spoil(ONE.pack(need)))
    with pytest.raises(HostError, match="the pack"):
        host.ask(ONE, pack)
    assert os.listdir(host.home.releases) == []
    host.stage(ONE)
    host.assert_whole()


def _bomb(head: bytes, size: int = 1 << 28) -> bytes:
    """Zeros without end, well packed, behind ``head``."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(head)
        for _block in range(size >> 20):
            stream.write(bytes(1 << 20))
    return packed.getvalue()


@pytest.mark.parametrize("where", ["listing", "needed piece", "unneeded piece", "end"])
def test_a_pack_that_inflates_without_end_fills_neither_memory_nor_disk(host: Host, tmp_path: Path, where: str) -> None:
    host.deploy(ONE)
    need = host.ask(TWO)["need"]
    head = {
        "listing": b"[",
        "needed piece": json.dumps(need).encode() + b"\n",
        "unneeded piece": json.dumps([sha(b"a" * 5000)]).encode() + b"\n",
        "end": gzip.decompress(TWO.pack(need)),
    }
    pack = tmp_path / "pack"
    pack.write_bytes(_bomb(head[where]))
    before = {path for path in host.root.rglob("*") if path.is_file()}
    tracemalloc.start()
    try:
        with pytest.raises(HostError, match="the pack"):
            host.ask(TWO, pack)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    grown = {path for path in host.root.rglob("*") if path.is_file()} - before
    assert sum(path.stat().st_size for path in grown) < 1 << 20
    assert os.listdir(host.home.releases) == [ONE.id]


def test_a_pack_that_is_not_there_is_one_sentence(host: Host, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        host.ask(ONE, tmp_path / "none")


# -- interruptions ----------------------------------------------------------


def test_killed_at_any_change_no_half_release_is_visible_and_the_next_run_completes(tmp_path: Path) -> None:
    steps = 0
    for host in killed_everywhere(tmp_path / "root", lambda host: host.deploy(ONE), lambda host: host.stage(TWO)):
        steps += 1
        host.assert_whole()
        assert host.live == host.running == "1.0"
        host.stage(TWO)
        host.assert_whole()
        assert sorted(os.listdir(host.home.releases)) == sorted([ONE.id, TWO.id])
        assert host.activate(TWO, ONE)["state"] == "active"
    assert steps > 30


def test_contents_that_were_unpacked_are_not_asked_for_again(tmp_path: Path) -> None:
    need = sorted(ONE.contents)
    (tmp_path / "pack").write_bytes(ONE.pack(need))
    for step in range(1, 99):
        host = Host(tmp_path / str(step))
        assert killed_at(step, lambda host=host: host.ask(ONE, tmp_path / "pack"), host.root)  # type: ignore[misc]
        tree = host.home.staging / ONE.id / "tree"
        if (tree / "version").exists() and (tree / "lib/a").exists() and (tree / "lib/b").exists():
            break
    (tree / "version").write_bytes(b"damaged")
    (tree / "lib/b").unlink()
    (tree / "stray").write_bytes(b"x")
    (tree / "bin/stray").symlink_to("/etc")
    lacking = host.ask(ONE)["need"]
    assert {sha(b"1.0"), sha(b"b")} <= set(lacking)
    assert sha(b"a" * 5000) not in lacking
    assert not os.path.lexists(tree / "stray")
    assert not os.path.lexists(tree / "bin/stray")
    host.stage(ONE)
    host.assert_whole()


@pytest.mark.parametrize("plant", ["link", "file", "linked-folder", "foreign", "hard"])
def test_what_is_planted_in_an_unfinished_tree_is_not_used(host: Host, tmp_path: Path, plant: str) -> None:
    if plant == "foreign" and os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(b"a" * 5000)
    tree = host.home.staging / ONE.id / "tree"
    (tree / "lib").mkdir(parents=True)
    if plant == "link":
        (tree / "lib/a").symlink_to(tmp_path / "x" / "a")
    elif plant == "file":
        (tree / "bin").write_text("x")
    elif plant == "linked-folder":
        (tree / "lib").rmdir()
        (tree / "lib").symlink_to(tmp_path / "x")
    elif plant == "hard":
        (tree / "lib/b").hardlink_to(tmp_path / "x" / "a")
    else:
        (tree / "lib/a").write_bytes(b"a" * 5000)
        os.chown(tree / "lib/a", 12345, 12345)
    host.stage(ONE)
    host.assert_whole()
    assert (host.tree(ONE) / "lib/a").stat().st_uid == os.geteuid()
    assert os.listdir(tmp_path / "x") == ["a"]
    assert (tmp_path / "x" / "a").read_bytes() == b"a" * 5000


def test_leftovers_are_swept_whatever_they_are(host: Host) -> None:
    host.stage(ONE)
    (host.home.staging / "9.9-0123456789ab" / "tree").mkdir(parents=True)
    (host.home.staging / "file").write_text("x")
    (host.home.staging / "link").symlink_to(host.root)
    host.stage(TWO)
    assert os.listdir(host.home.staging) == []
    assert host.root.exists()


# -- room -------------------------------------------------------------------


def _full(command: str, tmp_path: Path, size: str, *, margin: int | None = None, inodes: int = 0, image: Path | None = None) -> str:
    """Run ``command`` on a host whose file system has ``size``, in a mount namespace of its own."""
    script = (
        "import json, os, sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from bed import *\nfrom ansible_collections.tidegate.release.plugins.module_utils import build\n"
        + (f"build._MARGIN = {margin}\n" if margin is not None else "")
        + f"host = Host(Path({str(tmp_path / 'mnt' / 'root')!r}))\n"
        + command
    )
    options = f"size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    (tmp_path / "mnt").mkdir()
    what = f"-o loop '{image}'" if image else f"-t tmpfs -o {options} tmpfs"
    mount = f"mount {what} '{tmp_path / 'mnt'}' && exec '{sys.executable}' -c \"$SCRIPT\""
    environment = {**os.environ, "SCRIPT": script, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    outcome = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


real_disk = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
TRY = """
one = package("1.0", {"big": os.urandom(%d)})
try:
    print(host.stage(one, keep=1)["state"])
except Exception as error:
    print(type(error).__name__, error)
print(os.listdir(host.home.releases), [str(p) for p in host.home.staging.rglob('*') if p.is_file()])
"""


@real_disk
def test_a_host_without_room_says_so_before_anything_is_sent(tmp_path: Path) -> None:
    said = _full(TRY % (20 << 20), tmp_path, "30m")
    assert "HostError" in said
    assert "needs 36 MiB but only" in said
    assert said.splitlines()[1] == "[] []"


@real_disk
def test_a_host_without_inodes_says_so(tmp_path: Path) -> None:
    said = _full(
        'one = package("1.0", {str(n): str(n).encode() for n in range(300)})\n' + TRY.split("\n", 2)[2], tmp_path, "30m", inodes=200
    )
    assert "needs 305 inodes but only" in said


@real_disk
def test_a_disk_that_fills_up_while_building_is_one_sentence_and_cleaned_up(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    command = (TRY % (20 << 20)).replace("host.stage(one, keep=1)", f"host.ask(one, put(one, Path({str(pack)!r})))")
    said = _full(
        "def put(p, path):\n    path.write_bytes(p.pack(list(p.pieces)))\n    return path\n" + command, tmp_path, "10m", margin=-(1 << 40)
    )
    assert "HostError can't build hello in" in said
    assert "No space left on device" in said
    assert said.splitlines()[1] == "[] []"


@real_disk
def test_the_preflight_does_not_block_its_own_clean_up(tmp_path: Path) -> None:
    # Room for two releases with the margin, not for three; and an interrupted staging takes the rest.
    said = _full(
        "previous = None\n"
        "for n in range(5):\n"
        "    one = package(str(n), {'big': os.urandom(5 << 20)})\n"
        "    (host.home.staging / 'left').mkdir(parents=True, exist_ok=True)\n"
        "    (host.home.staging / 'left' / 'file').write_bytes(bytes(5 << 20))\n"
        "    need = host.ask(one, keep=2)['need']\n"
        "    pack = Path('/dev/shm') / f'pack-{os.getpid()}'\n"
        "    pack.write_bytes(one.pack(need))\n"
        "    print(host.ask(one, pack, keep=2)['state'], host.activate(one, previous)['state'])\n"
        "    pack.unlink()\n"
        "    previous = one\n",
        tmp_path,
        "33m",
    )
    assert said.splitlines() == ["staged active"] * 5


@real_disk
def test_what_an_interrupted_staging_holds_is_not_counted_again(tmp_path: Path) -> None:
    # 16 MiB margin and 10 MiB are to be free; half of those 10 are on the disk already when it goes on.
    said = _full(
        "one = package('1.0', {'big': os.urandom(10 << 20)})\n"
        "need = host.ask(one)['need']\n"
        "pack = Path('/dev/shm') / f'pack-{os.getpid()}'\n"
        "for half in (need[::2], need[1::2]):\n"
        "    pack.write_bytes(one.pack(half))\n"
        "    print(host.ask(one, pack)['state'])\n"
        "pack.unlink()\n",
        tmp_path,
        "28m",
    )
    assert said.splitlines() == ["lacking", "staged"]


@pytest.mark.parametrize("share", [True, False])
def test_a_copy_needs_room_and_an_inode_and_what_is_shared_does_not(host: Host, monkeypatch: pytest.MonkeyPatch, share: bool) -> None:
    files = {f"data/{number}": str(number).encode() * 999 for number in range(300)}
    host.share = share
    host.stage(package("1.0", files))
    two = package("2.0", {**files, "data/new": b"x" * 5000})

    def left(blocks: int, inodes: int) -> Any:
        found = os.statvfs(host.root)
        room = types.SimpleNamespace(f_frsize=4096, f_bavail=(build._MARGIN >> 12) + blocks, f_files=found.f_files or 1, f_favail=inodes)
        monkeypatch.setattr(build.os, "statvfs", lambda _path: room)

    # The new file takes two blocks, what says its version one, and so do directories and links; and all the others unless they are shared.
    entries = json.loads(two.documents[2])["files"]
    count = sum(entry["type"] != "file" for entry in entries) + 2
    room = count + 1
    if not share:
        others = [entry["size"] for entry in entries if entry["type"] == "file" and entry["path"] not in ("version", "data/new")]
        count, room = count + len(others), room + sum(-(-size // 4096) for size in others)
    for blocks, inodes, what in ((room - 1, count, "MiB are free"), (room, count - 1, "inodes are free|only .* are free")):
        left(blocks, inodes)
        with pytest.raises(HostError, match=what):
            host.stage(two)
    left(room, count)
    assert host.stage(two)["state"] == "staged"


def test_running_out_of_room_cleans_up_also_without_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.ask(ONE)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build, "sync_file_system", full)
    with pytest.raises(HostError, match=r"No space left on device.*make room"):
        host.stage(ONE)
    assert os.listdir(host.home.staging) == os.listdir(host.home.releases) == []


# -- what somebody planted or broke -----------------------------------------


@pytest.mark.parametrize("which", ["", "releases", "staging", "state"])
def test_a_link_in_place_of_a_directory_of_the_home_is_refused(host: Host, tmp_path: Path, which: str) -> None:
    host.stage(ONE)
    folder = host.home.path / which if which else host.home.path
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = _snapshot(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="symbolic link"):
        host.stage(TWO)
    assert _snapshot(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("which", ["releases", "staging", "contents", "tree", "lock", "log.jsonl"])
def test_a_planted_link_is_not_written_through(host: Host, tmp_path: Path, which: str) -> None:
    (host.home.staging / ONE.id).mkdir(parents=True)
    host.home.releases.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    places = {
        "releases": host.home.releases / ONE.id,
        "staging": host.home.staging / ONE.id,
        "contents": host.home.staging / ONE.id / "contents",
        "tree": host.home.staging / ONE.id / "tree",
        "lock": host.home.path / "lock",
        "log.jsonl": host.home.path / "log.jsonl",
    }
    if which == "staging":
        places[which].rmdir()
    places[which].symlink_to(elsewhere / "precious" if which in ("lock", "log.jsonl") else elsewhere)
    if which in ("lock", "log.jsonl"):
        with pytest.raises((OSError, HostError), match="symbolic links"):
            host.stage(ONE)
    else:
        host.stage(ONE)
        host.assert_whole()
    assert os.listdir(elsewhere) == ["precious"]
    assert (elsewhere / "precious").read_text() == "x"


@pytest.mark.parametrize(
    "harm", ["edit", "mode", "remove", "record", "record-kind", "forged", "hooks", "everything", "folder", "file", "link"]
)
def test_a_damaged_release_that_is_not_live_is_built_again(host: Host, harm: str) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    tree = host.tree(TWO)
    if harm == "edit":
        with (tree / "lib/a").open("r+b") as stream:
            stream.write(b"evil")
    elif harm == "mode":
        (tree / "lib/b").chmod(0o600)
    elif harm == "remove":
        (tree / "lib/b").unlink()
    elif harm == "record":
        (tree.parent / "release.json").write_text("{")
    elif harm == "record-kind":
        (tree.parent / "release.json").write_text("[]")
    elif harm == "forged":  # by somebody who knows what the record is compared with
        (tree / "lib/b").write_bytes(b"evil")
        forge(tree.parent / "release.json", "file_index", sha(b"changed"), sha(b"evil"))
    elif harm == "hooks":
        forge(tree.parent / "release.json", "config", "bin/start", "bin/evil")
    elif harm == "folder":
        (tree / "lib").chmod(0o777)
    else:
        (tree.parent).rename(host.root / "aside")
        if harm == "everything":
            (tree.parent).mkdir()
        elif harm == "file":
            tree.parent.write_text("x")
        else:
            tree.parent.symlink_to(host.root / "aside")
    answer = host.stage(TWO)
    assert (answer["state"], answer["changed"]) == ("staged", True)
    assert [release.version for release in host.home.all()] == ["1.0", "2.0"]
    new = next(release for release in host.home.all() if release.version == "2.0")
    assert changed_files(new) == []
    assert (host.tree(TWO) / "lib/b").read_bytes() == b"changed"
    assert "evil" not in (tree.parent / "release.json").read_text()
    assert os.listdir(host.home.staging) == []


def test_a_copy_under_another_release_s_name_is_not_that_release(host: Host) -> None:
    host.deploy(ONE)
    shutil.copytree(host.tree(ONE).parent, host.tree(TWO).parent, symlinks=True)
    assert host.stage(TWO)["changed"] is True
    host.assert_whole()


def test_a_damaged_release_stays_until_the_new_one_is_complete(host: Host) -> None:
    host.deploy(ONE)
    host.stage(TWO)
    (host.tree(TWO) / "lib/b").unlink()
    assert host.ask(TWO)["need"] == [sha(b"changed")]
    assert host.home.find(TWO.digest) is not None


def test_what_a_damaged_live_release_needs_is_brought_and_its_activation_puts_it_right(host: Host) -> None:
    host.deploy(ONE)
    (host.tree(ONE) / "lib/b").write_bytes(b"hand-made")
    assert host.ask(ONE)["need"] == [sha(b"b")]
    assert host.stage(ONE)["state"] == "staged"
    assert (host.tree(ONE) / "lib/b").read_bytes() == b"hand-made"
    assert host.calls == ["start 1.0"]
    assert host.activate(ONE, ONE) == {"state": "active", "changed": True, "version": "1.0", "repaired": ["lib/b"]}
    assert host.calls == ["start 1.0", "stop 1.0", "start 1.0"]  # what ran was started from other bytes
    host.assert_whole()
    assert os.listdir(host.home.staging) == []


def test_a_current_that_nobody_here_made_is_refused(host: Host) -> None:
    host.stage(ONE)
    current = host.home.current
    for target in ("/etc", "releases/none/tree", "../x/y", "releases/../tree", "state"):
        current.symlink_to(target)
        with pytest.raises(HostError, match="not a release"):
            host.stage(TWO)
        current.unlink()
    current.mkdir()
    with pytest.raises(HostError, match="not a link"):
        host.stage(TWO)


@pytest.mark.parametrize(("root", "name"), [("relative", "hello"), ("/x", "../hello"), ("/x", ""), ("/x", "a/b"), ("/x", "a\n")])
def test_a_home_outside_the_root_is_refused(root: str, name: str) -> None:
    with pytest.raises(HostError):
        ReleaseHome(root, name)


def test_a_controller_that_was_superseded_is_refused_also_after_one_that_found_nothing_to_do(host: Host) -> None:
    host.stage(ONE)
    host.token = 2
    assert host.stage(ONE)["changed"] is False
    host.token = 1
    with pytest.raises(HostError, match="taken this deployment over"):
        host.stage(TWO)
    assert os.listdir(host.home.releases) == [ONE.id]


def test_the_record_names_the_package_and_its_files(host: Host) -> None:
    host.stage(ONE)
    record = (host.home.releases / ONE.id / "release.json").read_bytes()
    assert tuple(Texts.of_record(record)) == ONE.documents
    assert [json.loads(record)[part] for part in Texts._fields] == [json.loads(text) for text in ONE.documents]
