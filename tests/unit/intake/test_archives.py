# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of every file it is known whether ClamAV could look into all of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import archives
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.archives import unseen, unwrap
from hypothesis import given, settings
from hypothesis import strategies as st

NOISE = os.urandom(3000)


def zipped(content: bytes = NOISE, method: int = zipfile.ZIP_DEFLATED, name: str = "inner") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.writestr(name, content)
    return target.getvalue()


def tarred(content: bytes = NOISE, name: str = "inner") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return target.getvalue()[: 512 + len(content) + -len(content) % 512 + 1024]


def ar(*members: tuple[str, bytes]) -> bytes:
    content = b"!<arch>\n"
    for name, data in members:
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return content


def deb(data: bytes) -> bytes:
    return ar(("debian-binary", b"2.0\n"), ("control.tar.gz", gzip.compress(tarred())), ("data.tar.gz", data))


def rpm(payload: bytes) -> bytes:
    def header(align: int) -> bytes:
        made = struct.pack(">4s4sII", b"\x8e\xad\xe8\x01", b"", 1, 5) + bytes(16 + 5)
        return made + bytes(-len(made) % align)

    return b"\xed\xab\xee\xdb".ljust(96, b"\0") + header(8) + header(1) + payload


def cpio(content: bytes = NOISE) -> bytes:
    def entry(name: str, data: bytes) -> bytes:
        fields = [0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        made = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + data
        return made + bytes(-len(made) % 4)

    return entry("inner", content) + entry("TRAILER!!!", b"")


def odc(content: bytes = NOISE) -> bytes:
    def entry(name: str, data: bytes) -> bytes:
        fields = ((0, 6), (0, 6), (0o100644, 6), (0, 6), (0, 6), (1, 6), (0, 6), (0, 11), (len(name) + 1, 6), (len(data), 11))
        return b"070707" + "".join(f"{field:0{width}o}" for field, width in fields).encode() + name.encode() + b"\0" + data

    return entry("inner", content) + entry("TRAILER!!!", b"")


def iso(content: bytes) -> bytes:
    """As much of an ISO image as is looked at: how many blocks it has, and what is in them."""
    inner = content + bytes(-len(content) % 2048)
    head = (b"\x01CD001".ljust(80, b"\0") + struct.pack("<I", 17 + len(inner) // 2048)).ljust(2048, b"\0")
    return bytes(0x8000) + head + inner


def behind_script(content: bytes) -> bytes:
    return b"#!/bin/sh\ntail -n +4 $0 | tar x\nexit\n" + content


WHOLE: dict[str, bytes] = {
    "plain": NOISE,
    "nothing": b"",
    "zip": zipped(),
    "stored zip": zipped(method=zipfile.ZIP_STORED),
    "zip behind a program": b"\x7fELF" + NOISE + zipped(),
    "tar": tarred(),
    "gz": gzip.compress(NOISE),
    "gz of two": gzip.compress(NOISE) * 2,
    "gz of much": gzip.compress(bytes(5 << 20)),
    "bz2": bz2.compress(NOISE),
    "xz": lzma.compress(NOISE) + lzma.compress(bytes(3 << 20)) + bytes(8),
    "tar.gz": gzip.compress(tarred()),
    "tar.xz in a zip in a tar": tarred(zipped(lzma.compress(tarred()))),
    "deb": deb(gzip.compress(tarred())),
    "static library": ar(("a.o/", b"\x7fELF" + NOISE)),
    "static library in a zip": zipped(ar(("a.o/", b"\x7fELF" + NOISE))),
    "rpm": rpm(lzma.compress(cpio())),
    "cpio": cpio(),
    "cpio of octal numbers": odc(),
    "script": b"#!/bin/sh\n" + b"echo x\n" * 999,
    "script before a zip": b"#!/usr/bin/env python3\n" + zipped(),
    "iso": iso(NOISE),
}
UNCUT = ("plain", "nothing", "static library in a zip", "zip behind a program", "script", "script before a zip", "iso")
CUT = [kind for kind in WHOLE if kind not in UNCUT]


def put(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_whole_was_looked_into(tmp_path: Path, kind: str) -> None:
    assert unseen(put(tmp_path, WHOLE[kind])) == ""


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_what_was_cut_short_was_not(tmp_path: Path, kind: str, share: float) -> None:
    content = WHOLE[kind].rstrip(b"\0")
    assert unseen(put(tmp_path, content[: int(len(content) * share)])) == "is not whole, or damaged"


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz", "tar.gz", "tar.xz in a zip in a tar", "deb", "rpm"])
def test_what_has_other_bytes_in_it_was_not(tmp_path: Path, kind: str) -> None:
    content = bytearray(WHOLE[kind])
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(byte ^ 255 for byte in content[middle : middle + 4])
    assert unseen(put(tmp_path, bytes(content))) == "is not whole, or damaged"


@pytest.mark.parametrize(
    "content",
    [
        b"\x28\xb5\x2f\xfd" + NOISE,
        b"\x04\x22\x4d\x18" + NOISE,
        b"7z\xbc\xaf\x27\x1c" + NOISE,
        b"Rar!\x1a\x07\x01\0" + NOISE,
        b"LZIP\x01" + NOISE,
        b"hsqs" + NOISE,
        lzma.compress(NOISE, format=lzma.FORMAT_ALONE),
        zipped(method=zipfile.ZIP_LZMA),
        zipped(b"\x28\xb5\x2f\xfd" + NOISE),
        gzip.compress(b"7z\xbc\xaf\x27\x1c" + NOISE),
        tarred(zipped(method=zipfile.ZIP_LZMA)),
        tarred(deb(gzip.compress(NOISE))),
        zipped(rpm(gzip.compress(NOISE))),
        deb(b"\x28\xb5\x2f\xfd" + NOISE),
        cpio(b"\x28\xb5\x2f\xfd" + NOISE),
        odc(b"\x28\xb5\x2f\xfd" + NOISE),
        b"\x50\x2a\x4d\x18\4\0\0\0skip\x28\xb5\x2f\xfd" + NOISE,
        zlib.compress(NOISE),
        b"\x7fELF\2\1\1\0AI\2" + NOISE,
        b"\x7fELF" + bytes(200) + b"UPX!" + NOISE,
        tarred(behind_script(gzip.compress(NOISE))),
        zipped(behind_script(lzma.compress(NOISE))),
    ],
)
def test_what_clamav_does_not_unpack_was_not_looked_into_however_deep(tmp_path: Path, content: bytes) -> None:
    assert unseen(put(tmp_path, content)) == "is packed in a way that it does not know"


def test_a_tar_without_its_end_is_not_whole(tmp_path: Path) -> None:
    assert unseen(put(tmp_path, tarred()[:-1024])) == "is not whole, or damaged"


def test_what_is_behind_the_end_of_an_archive_was_not(tmp_path: Path) -> None:
    padded = [kind + bytes(2 << 20) + b"more" for kind in (gzip.compress(NOISE), lzma.compress(NOISE))]
    for content in (*padded, tarred() + tarred(), *(pack(NOISE) + b"more" for pack in (gzip.compress, bz2.compress, lzma.compress))):
        assert unseen(put(tmp_path, content)) != ""


def test_what_is_encrypted_was_not(tmp_path: Path) -> None:
    content = bytearray(zipped(name="a"))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert unseen(put(tmp_path, zipped(bytes(content)))) == "is encrypted"


@pytest.mark.parametrize("begins", [b"age-encryption.org/v1\n", b"-----BEGIN PGP MESSAGE-----\n", b"Salted__", b"$ANSIBLE_VAULT;1.1\n"])
def test_a_file_that_is_encrypted_was_not(tmp_path: Path, begins: bytes) -> None:
    for content in (begins + NOISE, tarred(begins + NOISE)):
        assert unseen(put(tmp_path, content)) == "is encrypted"


def test_of_bzip2_in_several_parts_the_first_was(tmp_path: Path) -> None:
    for content in (bz2.compress(NOISE) * 2, tarred(bz2.compress(NOISE) * 2)):
        assert unseen(put(tmp_path, content)) == "is in several parts, of which it unpacks the first"


def test_members_that_the_directory_of_a_zip_does_not_name_were_not(tmp_path: Path) -> None:
    other = zipped(name="other")
    alone = other[: other.index(b"PK\x01\x02")]
    for content in (other + zipped(), alone + zipped(), b"\x7fELF" + alone + zipped(), gzip.compress(alone + zipped())):
        assert unseen(put(tmp_path, content)) == "has members that its directory does not name"
    whole = zipped(zipped(method=zipfile.ZIP_STORED), zipfile.ZIP_STORED)
    assert unseen(put(tmp_path, whole)) == ""


@pytest.mark.parametrize("inner", [b"\x28\xb5\x2f\xfd" + NOISE, zipped(), gzip.compress(NOISE), deb(b"x")])
def test_archives_in_an_image_were_not(tmp_path: Path, inner: bytes) -> None:
    assert unseen(put(tmp_path, iso(inner))).startswith("has archives in it")


@pytest.mark.parametrize("packed", [gzip.compress(NOISE), bz2.compress(NOISE), lzma.compress(NOISE), b"\x28\xb5\x2f\xfd" + NOISE])
def test_what_is_packed_behind_a_script_is_unwrapped(tmp_path: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_BLOCK", 7)  # so that it begins in one block and ends in another
    assert unwrap(put(tmp_path, behind_script(packed)), tmp_path / "unwrapped")
    assert [path.read_bytes() for path in (tmp_path / "unwrapped").iterdir()] == [packed]


def test_what_inflates_without_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST", 1 << 20)
    monkeypatch.setattr(archives, "_IN_MEMORY", 1 << 10)
    for content in (zipped(bytes(2 << 20)), gzip.compress(bytes(2 << 20)), tarred(bz2.compress(bytes(2 << 20)))):
        assert unseen(put(tmp_path, content)) == "comes to more than 1 MiB unpacked"
    deep = b"x"
    for _depth in range(20):
        deep = zipped(deep)
    assert unseen(put(tmp_path, deep)) == "has archives in archives, more than 8 deep"


@settings(max_examples=100, deadline=None)
@given(seed=st.sampled_from(sorted(WHOLE)), where=st.floats(0, 1), new=st.binary(max_size=8), cut=st.integers(0, 8))
def test_no_content_breaks_it(tmp_path_factory: pytest.TempPathFactory, seed: str, where: float, new: bytes, cut: int) -> None:
    content = WHOLE[seed]
    place = int(where * len(content))
    path = put(tmp_path_factory.mktemp("any"), content[:place] + new + content[place + cut :])
    assert isinstance(unseen(path), str)
    unwrap(path, path.with_name("unwrapped"))


def test_debian_and_rpm_packages_are_unwrapped(tmp_path: Path) -> None:
    for number, (content, parts) in enumerate(((deb(b"data"), [b"2.0\n", b"data"]), (rpm(b"data"), [b"data"]))):
        assert unwrap(put(tmp_path, content), tmp_path / str(number))
        assert set(parts) <= {path.read_bytes() for path in (tmp_path / str(number)).iterdir()}
    assert not unwrap(put(tmp_path, zipped()), tmp_path / "none")
    assert not unwrap(put(tmp_path, deb(b"data")[:-2]), tmp_path / "none")
    assert not (tmp_path / "none").exists()
