# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a payload may hold, the tar that is the same everywhere, and file indexes that others wrote."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import struct
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.payload_format import END, header, is_tar_of, unseen
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import payload as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import (
    FileEntry,
    PayloadTar,
    index_json,
    matching,
    opened,
    parse_index,
    scan,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from hypothesis import given
from hypothesis import strategies as st

SHA = hashlib.sha256(b"").hexdigest()


@pytest.fixture(autouse=True)
def as_on_hosts(tmp_path: Path) -> None:
    """Many of these archive the test's own directory, which pytest makes for its owner alone."""
    tmp_path.chmod(0o755)


def problems(root: Path) -> list[str]:
    return [str(problem) for problem in scan(root, "payload")[1]]


def put(path: Path, content: str = "", mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def link(target: str) -> Callable[[Path], None]:
    return lambda root: (root / "link").symlink_to(target)


def make_socket(root: Path) -> None:
    directory = os.open(root, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{directory}/link")
    finally:
        os.close(directory)


def via_link(root: Path) -> None:
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "in").symlink_to("sub/deep")
    (root / "link").symlink_to("in/../../../outside")  # by its text alone it would stay inside


def circle(root: Path) -> None:
    (root / "link").symlink_to("other")
    (root / "other").symlink_to("link")


# One of each kind: control, format, tag, variation selectors, fillers, joiners, soft hyphen, blank, ends of lines, spaces of another kind.
UNSEEN = (
    "\n\x1b\x7f\u0085\u200b\u200d\u202e\u2060\u2066\ufeff\U000e0041\ufe0f\U000e0100\u180b\u3164\u115f\u1160\uffa0\u17b4\u00ad\u034f\u2800"
    "\u2028\u00a0"
)
TRICKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "absolute link": (link("/etc/passwd"), "leads outside"),
    "absolute link to nothing": (link("/no/such/file"), "leads outside"),
    "link that leads outside": (link("../secret"), "leads outside"),
    "link out and in again": (link("../payload/file"), "leads outside"),
    "link that leads outside through another": (via_link, "leads outside"),
    "dangling link": (link("missing"), "leads nowhere"),
    "link through a file": (link("file/../file"), "leads nowhere"),
    "circle": (circle, "leads in a circle"),
    "link to itself": (link("link"), "leads in a circle"),
    "link with a newline": (link("a\nb"), "target has a character that can't be seen, U+000A"),
    "link that is not UTF-8": (lambda root: os.symlink(b"\xff", bytes(root / "link")), "target is not UTF-8"),
    "pipe": (lambda root: os.mkfifo(root / "link"), "a device, a pipe or a socket"),
    "socket": (make_socket, "a device, a pipe or a socket"),
    "set-uid": (lambda root: put(root / "link", mode=0o4755), "set-uid, set-gid or sticky"),
    "set-gid": (lambda root: put(root / "link", mode=0o2755), "set-uid, set-gid or sticky"),
    "sticky": (lambda root: put(root / "link", mode=0o1644), "set-uid, set-gid or sticky"),
    "set-gid directory": (lambda root: (root / "link").mkdir() or (root / "link").chmod(0o2755), "set-uid, set-gid or sticky"),
    "sticky directory": (lambda root: (root / "link").mkdir() or (root / "link").chmod(0o1755), "set-uid, set-gid or sticky"),
    "writable by all": (lambda root: put(root / "link", mode=0o666), "others than its owner may write to it"),
    "writable by the group": (lambda root: put(root / "link", mode=0o664), "others than its owner may write to it"),
    "directory writable by all": (lambda root: (root / "link").mkdir() or (root / "link").chmod(0o777), "others than its owner may write"),
    "no mode at all": (lambda root: put(root / "link", mode=0), "its owner may not read it"),
    "unreadable": (lambda root: put(root / "link", mode=0o244), "its owner may not read it"),
    "closed directory": (lambda root: (root / "link").mkdir() or (root / "link").chmod(0o555), "its owner may not work in it"),
    "note of image layers": (lambda root: put(root / "link" / ".wh.data"), "its name begins with .wh., by which image layers say"),
    "not UTF-8": (lambda root: Path(os.fsdecode(bytes(root) + b"/link\xff")).write_text(""), "its name is not UTF-8"),
    "Unicode form": (
        lambda root: [put(root / "link\u00e9"), put(root / "linke\u0301")],
        "looks like that of another, but behind 'link' has U+00E9 LATIN SMALL LETTER E WITH ACUTE where the other has U+0065 LATIN SMALL",
    ),
    "Kelvin": (
        lambda root: [put(root / "link\u212a"), put(root / "linkK")],
        "has U+212A KELVIN SIGN where the other has U+004B LATIN CAPITAL",
    ),
    "too deep": (lambda root: put(root / "/".join(["link", *"d" * 300, "x"])), "its path is more than 200 names deep"),
    "too long": (lambda root: put(root / "/".join(["link", *["d" * 200] * 16])), "its path has more than 3000 bytes"),
}
TRICKS.update(
    (f"unseen {ord(sign):04X}", (partial(lambda sign, root: put(root / f"link{sign}x"), sign), f"that can't be seen, U+{ord(sign):04X}"))
    for sign in UNSEEN
)
# As on file systems that fold case, or of other systems.
UNPORTABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "case": (lambda root: [put(root / "Link"), put(root / "link")], "its name differs from Link only in case"),
    "case of directories": (lambda root: [put(root / "Link/a"), put(root / "link/b")], "differs from Link only in case"),
    "full width": (
        lambda root: [put(root / "linkk"), put(root / "link\uff4b")],
        "behind 'link' has U+FF4B FULLWIDTH LATIN SMALL LETTER K where",
    ),
    "ligature": (
        lambda root: [put(root / "link-fi"), put(root / "link-\ufb01")],
        "has U+FB01 LATIN SMALL LIGATURE FI where the other has U+0066",
    ),
    "sharp s": (lambda root: [put(root / "link\u00df"), put(root / "linkSS")], "the same as linkSS to some, but behind 'link' has U+00DF"),
    "backslash": (lambda root: put(root / "link\\x2dfoo"), "which is not portable"),
    "colon": (lambda root: put(root / "link:foo"), "has ':', which is not portable"),
    "dot at the end": (lambda root: put(root / "link."), "has '.', which is not portable"),
    "device": (lambda root: put(root / "link" / "NUL.txt"), "which is not portable"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_refused_by_name(tmp_path: Path, trick: str) -> None:
    root = tmp_path / "payload"
    put(root / "file")
    put(tmp_path / "secret")
    make, what = TRICKS[trick]
    make(root)
    found = problems(root)
    assert len(found) in (1, 2 if trick == "circle" else 1)
    assert found[0].startswith("payload/link")
    assert what in found[0]
    assert found[0].isprintable()


@pytest.mark.parametrize("trick", UNPORTABLE)
def test_what_linux_has_is_taken_unless_names_have_to_be_portable(tmp_path: Path, trick: str) -> None:
    root = tmp_path / "payload"
    put(root / "file")
    make, what = UNPORTABLE[trick]
    make(root)
    assert problems(root) == []
    assert [entry.path for entry in parse_index(index_json(pack(root)[1]))] == sorted(entry.path for entry in scan(root, "payload")[0])
    found = [str(problem) for problem in scan(root, "payload", portable=True)[1]]
    assert len(found) == 1
    assert found[0].startswith("payload/link")
    assert what in found[0]
    assert found[0].isprintable()


def test_no_character_that_unicode_ignores_is_seen() -> None:
    """Against the property as a test's own table, of which the ranges are made, has it: every kind, and what has no ink."""
    assert all(unseen(sign) == f"U+{ord(sign):04X}" for sign in UNSEEN)
    assert unseen("plain \u00e9\u4e2d \U0001f600 e\u0301\u2013\\x2d") is None


def test_every_sign_that_is_printed_as_it_is_can_be_seen() -> None:
    """Of names that are all such signs no other question is asked."""
    signs = [chr(number) for number in range(0x110000) if chr(number).isprintable()]
    assert [sign for sign in signs if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")] == [" "]
    assert all(unseen(f"a{sign}") for sign in UNSEEN)


@pytest.mark.parametrize("name", ["a" * 98, "a" * 99, "a" * 100, "a" * 101, "\u00e9" * 60])
@pytest.mark.parametrize(
    "other",
    [
        {"type": "directory", "mode": 0o755},
        {"type": "link", "target": "b"},
        {"type": "link", "target": "b" * 101},
        {"type": "file", "mode": 0o644, "size": 3},
        {"type": "file", "mode": 0o644, "size": 8**11},
    ],
)
def test_an_index_describes_a_tar_of_one_size(name: str, other: dict[str, Any]) -> None:
    entry = {"path": name, **other}
    start = len(header(entry))
    entry["offset"] = start
    size = start + -(-entry.get("size", 0) // 512) * 512 + len(END)
    assert is_tar_of([entry], size)
    assert not is_tar_of([entry], size + 512)
    assert entry["type"] != "file" or not is_tar_of([entry | {"offset": start + 512}], size)


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o640, 0o700, 0o750, 0o400, 0o444, 0o555, 0o711])
def test_permissions_go_along_as_they_are(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "file", "x", mode)
    (tmp_path / "folder").mkdir(mode=mode | 0o700)
    content, entries = pack(tmp_path)
    assert [entry.mode for entry in entries] == [mode, mode | 0o700]
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert [member.mode for member in tar] == [mode, mode | 0o700]


def test_what_only_a_umask_of_002_put_there_leaves_no_trace(tmp_path: Path) -> None:
    trees = []
    for number, (mask, extra) in enumerate(((0o022, 0), (0o002, 0o020))):
        root = tmp_path / str(number)
        before = os.umask(mask)
        try:
            (root / "bin").mkdir(parents=True)
            for name, mode in (("bin/run", 0o777), ("data", 0o666)):
                os.close(os.open(root / name, os.O_CREAT, mode))
            put(root / "key", mode=0o600)
            put(root / "shown", mode=0o444)
        finally:
            os.umask(before)
        assert (root / "data").stat().st_mode & 0o777 == 0o644 | extra
        trees.append(scan(root, "payload"))
    assert trees[0] == trees[1]
    assert trees[0][1] == []
    (tmp_path / "1" / "bin").chmod(0o755)  # then it was no umask
    assert "payload: it is of mode 0775, and on hosts it is 0755; chmod 0755 payload, and protect what is in it" in problems(tmp_path / "1")
    (tmp_path / "1").chmod(0o755)
    assert problems(tmp_path / "1") == [
        "payload/bin/run: others than its owner may write to it; clear that with chmod go-w; what a release writes to belongs in "
        "TIDEGATE_STATE; the same goes for payload/data"
    ]


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o777, 0o2755, 0o1755])
def test_a_payload_whose_own_directory_is_protected_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "payload"
    put(root / "file")
    root.chmod(mode)
    (said,) = problems(root)
    assert said.startswith(f"payload: it is of mode {mode:04o}, and on hosts it is 0755; chmod ")
    assert said.endswith(" payload, and protect what is in it")


def test_a_fault_of_a_whole_tree_is_one_sentence(tmp_path: Path) -> None:
    for number in range(9):
        put(tmp_path / f"{number}", mode=0o666)
    assert [problem.partition("; the same goes for ")[2] for problem in problems(tmp_path)] == ["payload/1, payload/2, 6 more"]


def test_access_control_lists_that_no_host_would_get_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "shared")
    entries = ((0x01, 6, 0xFFFFFFFF), (0x02, 4, 12), (0x04, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF))
    try:
        content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(tmp_path / "shared", "system.posix_acl_access", content)
    except OSError:
        pytest.skip("this file system knows no access control lists")
    assert "it has an access control list" in problems(tmp_path)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities")
def test_capabilities_that_no_host_would_get_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "ping")
    try:
        os.setxattr(tmp_path / "ping", "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    except OSError:
        pytest.skip("this file system knows no capabilities")
    assert "it has capabilities" in problems(tmp_path)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "file")
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    assert "a device, a pipe or a socket" in problems(tmp_path)[0]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    put(tmp_path / "a", mode=0o4755)
    link("/")(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path / "sub" / "x\ny")
    assert sorted(problem.split(":")[0] for problem in problems(tmp_path)) == [
        "payload/a", "payload/link", "payload/pipe", r"payload/sub/x\ny"
    ]  # fmt: skip


def test_an_empty_payload_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert problems(tmp_path) == ["payload: there is no file in it; put the release's files there"]


def test_links_inside_are_fine(tmp_path: Path) -> None:
    put(tmp_path / "lib" / "a.so.1")
    (tmp_path / "lib" / "a.so").symlink_to("a.so.1")
    (tmp_path / "lib" / "up").symlink_to("../lib/./a.so")
    (tmp_path / "here").symlink_to("lib/..")
    (tmp_path / "again").symlink_to("here/lib/up")
    assert problems(tmp_path) == []


def pack(root: Path) -> tuple[bytes, list[FileEntry]]:
    entries, faults = scan(root, "payload")
    assert faults == []
    tar = PayloadTar(root, entries)
    return b"".join(tar), tar.entries


def test_the_tar_holds_what_the_index_says(tmp_path: Path) -> None:
    big = os.urandom((2 << 20) + 17)
    put(tmp_path / "bin" / "run", "#!/bin/sh\n", 0o700)
    put(tmp_path / "empty", mode=0o440)
    (tmp_path / "big").write_bytes(big)
    os.link(tmp_path / "big", tmp_path / "big2")
    put(tmp_path / "käse" / ("long" * 40), "x")
    (tmp_path / "to").symlink_to("bin/run")
    content, entries = pack(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {member.name: member for member in tar}
        assert list(members) == [entry.path for entry in entries] == sorted(members)
        assert members["big2"].isreg()
        assert {member.mtime for member in members.values()} == {0}
        assert {(member.uid, member.gid, member.uname, member.gname) for member in members.values()} == {(0, 0, "", "")}
        assert members["to"].linkname == "bin/run"
        for entry in entries:
            if entry.type == "file":
                assert entry.size is not None
                assert entry.offset is not None
                stream = tar.extractfile(members[entry.path])
                assert stream is not None
                data = stream.read()
                assert content[entry.offset : entry.offset + entry.size] == data == (tmp_path / entry.path).read_bytes()
                assert hashlib.sha256(data).hexdigest() == entry.sha256
                assert members[entry.path].mode == entry.mode == (tmp_path / entry.path).stat().st_mode & 0o777
    assert parse_index(index_json(entries)) == tuple(entries)
    assert is_tar_of([entry.to_json() for entry in entries], len(content))
    for step in (511, 1 << 20, len(content) + 1):
        assert b"".join(matching((content[at : at + step] for at in range(0, len(content), step)), entries)) == content


def test_nothing_passes_that_goes_on_behind_the_tar_or_ends_before(tmp_path: Path) -> None:
    put(tmp_path / "file", "x" * 1000)
    content, entries = pack(tmp_path)
    behind = "goes on behind its end"
    for blocks, what in (([content, b"x"], behind), ([content + b"x"], behind), ([content[:9]], "ends before")):
        with pytest.raises(IntegrityError, match=what):
            list(matching(blocks, entries))


PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=130)


@given(
    path=PARTS, target=PARTS, kind=st.sampled_from(["file", "directory", "link"]), size=st.integers(0, 1 << 40), mode=st.integers(0, 0o777)
)
def test_headers_are_those_of_tarfile(path: str, target: str, kind: Any, size: int, mode: int) -> None:
    size = size if kind == "file" else 0
    entry = {"path": path, "type": kind, **({"target": target} if kind == "link" else {"mode": mode}), "size": size}
    info = tarfile.TarInfo(path)
    info.type = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[kind]
    info.size, info.mode, info.linkname = size, 0o777 if kind == "link" else mode, target if kind == "link" else ""
    assert header(entry) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


@pytest.mark.parametrize(("announced", "real"), [(5, b"1234"), (3, b"1234"), (0, b"1")])
def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, announced: int, real: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(announced))
    with opened(str(path)) as (size, chunks):
        assert size == announced
        path.write_bytes(real)
        with pytest.raises(TidegateError, match="file changed while it was archived"):
            list(chunks)


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "payload" / "file")
    put(tmp_path / "secret", "secret")
    entries, _size = scan(tmp_path / "payload", "payload")
    (tmp_path / "payload" / "file").unlink()
    (tmp_path / "payload" / "file").symlink_to("../secret")
    with pytest.raises(TidegateError, match="can't read"):
        list(PayloadTar(tmp_path / "payload", entries))


def test_a_file_that_became_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(TidegateError, match="not a regular file"), opened(str(tmp_path / "file")):
        pass


DIRECTORY = {"path": "d", "type": "directory", "mode": 0o755}
FILE = {"path": "d/f", "type": "file", "mode": 0o644, "size": 0, "sha256": SHA, "offset": 1024}
LINK = {"path": "l", "type": "link", "target": "d/f"}


def index(*files: object, **changes: object) -> bytes:
    return json.dumps({"schema": 1, "files": files, **changes}).encode()


def test_a_good_index_is_read() -> None:
    assert [entry.path for entry in parse_index(index(DIRECTORY, FILE, LINK))] == ["d", "d/f", "l"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        index(schema=2),
        index(DIRECTORY, FILE, schema=True),
        index(DIRECTORY, FILE, schema=1.0),
        index(files={}),
        index(other=1),
        index("d"),
        index({"path": "d", "type": []}),
        index(DIRECTORY, DIRECTORY),
        index(LINK, DIRECTORY, FILE),
        index(FILE),
        index(DIRECTORY, FILE | {"path": "d/f/g"}),
        index(DIRECTORY, FILE, FILE | {"path": "d/f/g"}),
        index(DIRECTORY, FILE, FILE | {"path": "d/g", "size": 1}),
        index(DIRECTORY | {"size": 1}),
        index(DIRECTORY | {"mode": 0o4755}),
        index({"path": "d", "type": "directory"}),
        *(index(FILE | {"path": path}) for path in ("", "/f", "..", "../f", "./f", "f/", "a//b", "a\nb", ".wh.a", "a\ud800", 1, None)),
        *(index(FILE | {"path": path}) for path in ("f\u202egpj.exe", "f\u200b", "f\x7f", "f\r", "f\u2028")),
        *(index(FILE | {"path": one}, FILE | {"path": two}) for one, two in (("fe\u0301", "f\u00e9"), ("K", "\u212a"))),
        *(index(FILE | {"path": "f", "mode": mode}) for mode in (0o4755, 0o777, 0o664, 0o244, 0, 420.0, True, "0644", None)),
        *(index(DIRECTORY | {"mode": mode}, FILE) for mode in (0o1755, 0o775, 0o555, 0o644)),
        *(index(FILE | {"path": "f", "size": size}) for size in (-1, 1.5, True, "1", 1 << 63)),
        *(index(FILE | {"path": "f", "offset": offset}) for offset in (-1, None)),
        *(index(FILE | {"path": "f", "sha256": sha}) for sha in (SHA.upper(), SHA + "\n", "../x", None)),
        *(index(DIRECTORY, FILE, LINK | {"target": target}) for target in ("", "/d", "../d", "d/../../d", "x", "l", 1, "d\n", "d/f/")),
        index(DIRECTORY, FILE, LINK | {"target": "./" * 2048 + "d"}),
    ],
)  # fmt: skip
def test_a_hostile_index_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_index(content)
    assert str(caught.value).isprintable()


def test_links_of_links_are_not_followed_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte of these would take minutes, and an index may be a thousand times as large."""
    monkeypatch.setattr(subject, "_STEPS", 1_000_000)
    hubs = [LINK | {"path": f"h{number:02}", "target": "./" * 2000 + f"h{number + 1:02}"} for number in range(36)]
    links = [LINK | {"path": f"l{number:06}", "target": "h00"} for number in range(10_000)]
    with pytest.raises(IntegrityError, match="the links of the payload lead over more than 1,000,000 names"):
        parse_index(index(DIRECTORY, FILE, *hubs, LINK | {"path": "h36"}, *links))


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers(), max_size=2)
CHANGES = st.dictionaries(st.sampled_from(["path", "type", "mode", "size", "sha256", "target", "offset"]), VALUES, max_size=3)
CHANGED = st.builds(lambda entry, changes: entry | changes, st.sampled_from([{}, DIRECTORY, FILE, LINK]), CHANGES)


@given(st.lists(CHANGED | VALUES, max_size=4))
def test_an_index_is_read_or_refused_whatever_it_holds(files: list[object]) -> None:
    try:
        entries = parse_index(index(*files))
    except IntegrityError:
        return
    assert parse_index(index_json(entries)) == entries


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1755, 0o2755, 0o2775, 0o6755])
def test_what_is_said_to_do_about_the_payload_s_directory_helps(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "payload"
    root.mkdir()
    (root / "file").touch(0o644)
    root.chmod(mode)
    for problem in problems(root):
        command = re.search(r"(chmod \S+) payload,", problem)
        assert command is not None
        subprocess.run([*command[1].split(), str(root)], check=True)
    assert problems(root) == []


@pytest.mark.parametrize("letter", ["\u3164", "\u17b4", "\U000e0100", "\u2800"])
def test_a_message_shows_what_nobody_sees(tmp_path: Path, letter: str) -> None:
    (tmp_path / f"x{letter}").touch()
    (problem,) = [one for one in problems(tmp_path) if "can't be seen" in one]
    assert letter not in problem
    assert f"x{ascii(letter)[1:-1]}: " in problem
