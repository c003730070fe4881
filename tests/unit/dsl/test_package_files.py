# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages in files have their purl and licence, as other tools name the same ones when they are installed; hostile files have none."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import package_files as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.sbom import Found, check, find, make
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import DIGEST, ar, payload

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n"
CONTROL = "Package: hello\nVersion: 2.10-3\nArchitecture: amd64\nMaintainer: Santiago <s@x.example>\nDescription: says hello\n"
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: hello

Files: *
Copyright: 1992 Somebody
License: GPL-3+

Files: debian/*
Copyright: 1993 Somebody else
License: GPL-3+

License: GPL-3+
 This program is free software.
 .
 License: it is not
"""


def wheel(name: str = "Demo_Pkg", version: str = "1.2", more: str = "", **others: bytes | str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        for path, content in {
            f"{name}/__init__.py": "",
            f"{folder}/METADATA": METADATA.format(name=name, version=version, more=more),
            **others,
        }.items():
            archive.writestr(path, content)
    return packed.getvalue()


def tar(members: Iterable[tuple[str, bytes | str]], mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def tgz(package: Mapping[str, Any] | str, folder: str = "package") -> bytes:
    content = package if isinstance(package, str) else json.dumps(package)
    return tar([(f"{folder}/index.js", "x" * 3000), (f"{folder}/package.json", content)], "w:gz")


def deb(control: str = CONTROL, copyright_file: str | None = COPYRIGHT, compression: str = "xz", package: str = "hello") -> bytes:
    files: list[tuple[str, bytes | str]] = [("./usr/bin/hello", b"\x7fELF" * 100)]
    files += [(f"./usr/share/doc/{package}/copyright", copyright_file)] if copyright_file is not None else []
    parts = [("control", [("./md5sums", ""), ("./control", control)]), ("data", files)]
    members = [("debian-binary", b"2.0\n")]
    for name, content in parts:
        if compression == "zst":
            members.append((f"{name}.tar.zst", zstandard.ZstdCompressor().compress(tar(content))))
        else:
            members.append((f"{name}.tar{compression and '.'}{compression}", tar(content, f"w:{compression}")))
    return ar(*members)


def packages(**contents: bytes | str) -> list[Found]:
    entries, blobs = payload(**contents)
    return [found for found in find(entries, blobs.open) if found.kind != "generic"]


def purls(contents: Mapping[str, bytes | str]) -> list[str]:
    entries, blobs = payload(**contents)
    document = json.loads(make("web", "1.0", DIGEST, entries, blobs.open))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
    return sorted(part["purl"] for part in document["components"] if "purl" in part)


def test_packages_in_files_have_their_purl() -> None:
    assert purls(
        {
            "wheels/Demo_Pkg-1.2-py3-none-any.whl": wheel(),
            "npm/vue-core-3.4.0.tgz": tgz({"name": "@vue/core", "version": "3.4.0", "license": "MIT"}),
            "npm/left-pad-1.3.0.tgz": tgz({"name": "left-pad", "version": "1.3.0"}, folder="left-pad"),
            "debs/hello_2.10-3_amd64.deb": deb(),
            "debs/all.deb": deb("Package: hello-data\nVersion: 1:2.0~rc1+dfsg-1\nArchitecture: all\n"),
            "debs/other.deb": deb(CONTROL.replace("2.10-3", "2.10-3ubuntu1")),
            "debs/bare.deb": deb("Package: hello\nVersion: 1.0\n"),
        }
    ) == [
        "pkg:deb/debian/hello-data@1:2.0~rc1%2Bdfsg-1?arch=all",
        "pkg:deb/debian/hello@1.0",
        "pkg:deb/debian/hello@2.10-3?arch=amd64",
        "pkg:deb/ubuntu/hello@2.10-3ubuntu1?arch=amd64",
        "pkg:npm/%40vue/core@3.4.0",
        "pkg:npm/left-pad@1.3.0",
        "pkg:pypi/demo-pkg@1.2",
    ]


@pytest.mark.parametrize("compression", ["", "gz", "xz", "bz2", "zst"])
def test_a_debian_package_says_its_licence_however_it_is_packed(compression: str) -> None:
    (found,) = packages(**{"a.deb": deb(compression=compression)})
    assert (found.name, found.version, found.arch, found.licence) == ("hello", "2.10-3", "amd64", "GPL-3.0-or-later")


@pytest.mark.parametrize(
    "copyright_file", [None, "It is free.\n", "", "\udcff", COPYRIGHT.replace("License: GPL-3+\n\nFiles", "License: mine\n\nFiles")]
)
def test_a_debian_package_whose_copyright_is_for_people_has_no_known_licence(copyright_file: str | None) -> None:
    content = copyright_file.encode("utf-8", "surrogateescape") if copyright_file else copyright_file
    (found,) = packages(**{"a.deb": deb(copyright_file=content)})  # type: ignore[arg-type]
    assert (found.name, found.licence) == ("hello", None)


@pytest.mark.parametrize(
    ("more", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\n", "MIT OR Apache-2.0"),
        ("License: mit\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n", "MIT"),
        ("License: The licence of this project\nClassifier: License :: OSI Approved :: ISC License (ISCL)\n", "ISC"),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: Topic :: Internet\n", "MIT"),
        ("Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: MIT License\n", "MIT"),
        (
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)\n",
            "MIT AND MPL-2.0",
        ),
        ("Classifier: License :: OSI Approved :: BSD License\n", None),
        ("Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved :: BSD License\n", None),
        ("Classifier: License :: OSI Approved\n", None),
        ("Classifier: MIT License\n", None),
        ("", None),
    ],
)
def test_a_wheel_says_its_licence_in_one_of_three_ways(more: str, licence: str | None) -> None:
    assert [found.licence for found in packages(**{"a.whl": wheel(more=more)})] == [licence]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """Trees, and what cyclonedx-py and cyclonedx-npm said of them when they were tried: not every machine has these tools."""
    return dict(json.loads((Path(__file__).parent / "cyclonedx.json").read_text()))


def test_python_packages_are_named_as_cyclonedx_py_names_them(recorded: dict[str, Any], tmp_path: Path) -> None:
    """The same packages as they are installed in an environment, and as wheels."""
    said = recorded["python"]
    tree = {
        f"{name.replace('.', '_')}-{version}.dist-info/METADATA": METADATA.format(name=name, version=version, more="")
        for name, version in said["packages"].items()
    }
    assert purls(tree) == said["purls"]
    assert purls({f"{name}.whl": wheel(name, version) for name, version in said["packages"].items()}) == said["purls"]
    if tool := shutil.which("cyclonedx-py"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
        (folder,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
        lay(folder, tree)
        assert their_purls(tool, "environment", str(tmp_path / "venv" / "bin" / "python")) == said["purls"]


def test_npm_packages_are_named_as_cyclonedx_npm_names_them(recorded: dict[str, Any], tmp_path: Path) -> None:
    """The same packages as they are installed, and as files that npm packs."""
    said = recorded["npm"]
    tree = {path: content if isinstance(content, str) else json.dumps(content) for path, content in said["files"].items()}
    assert purls(tree) == said["purls"]
    installed = (content for path, content in said["files"].items() if path.startswith("node_modules/"))
    packed = {f"{number}.tgz": tgz(content) for number, content in enumerate(installed) if "version" in content}
    assert set(purls(packed)) - {"pkg:npm/not-a-package@0.0.1"} == set(said["purls"])
    if tool := shutil.which("cyclonedx-npm"):
        lay(tmp_path, tree)
        assert their_purls(tool, "--ignore-npm-errors", cwd=tmp_path) == said["purls"]


def lay(folder: Path, tree: Mapping[str, str]) -> None:
    for path, content in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def their_purls(*command: str, cwd: Path | None = None) -> list[str]:
    """The purls in the SBOM that a tool makes."""
    made = subprocess.run([*command, "--output-format", "JSON", "--output-file", "-"], check=True, capture_output=True, cwd=cwd).stdout
    waiting, found = json.loads(made)["components"], []
    while waiting:
        component = waiting.pop()
        waiting += component.get("components", [])
        found.append(component["purl"])
    return sorted(found)


def twice() -> bytes:
    packed = io.BytesIO(wheel())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("Other-1.dist-info/METADATA", METADATA.format(name="other", version="1", more=""))
    return packed.getvalue()


def encrypted() -> bytes:
    """With the mark that its last file is encrypted."""
    content = bytearray(wheel())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.rindex(signature) + offset] |= 1
    return bytes(content)


def packed_by(method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a-1.dist-info/METADATA", METADATA.format(name="a", version="1", more=""))
    return packed.getvalue()


def control_with(**fields: str) -> bytes:
    said = {"Package": "hello", "Version": "1.0", "Architecture": "amd64", **fields}
    return deb("".join(f"{name}: {value}\n" for name, value in said.items()))


def linked() -> bytes:
    """A tar whose package.json is a link to something on the machine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/package.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    return packed.getvalue()


HOSTILE = {
    "a.whl": [
        b"",
        b"PK\5\6" + bytes(18),
        wheel()[:-30],
        twice(),
        encrypted(),
        packed_by(zipfile.ZIP_BZIP2),
        packed_by(zipfile.ZIP_LZMA),
        wheel(version="1.2\n x"),
        wheel(name="a b"),
        wheel(more="x" * (subject.METADATA_LIMIT + 1)),
        wheel().replace(b"PK\1\2", b"PK\1\3"),
        wheel() + b"PK\5\6" + bytes(8) + b"\xff" * 8 + bytes(2),
    ],
    "a.tgz": [
        b"",
        b"\x1f\x8b",
        tgz("[" * 100_000),
        tgz("[]"),
        tgz("null"),
        tgz({"name": 1, "version": "1"}),
        tgz({"name": "a\u202e", "version": "1"}),
        tgz({"name": "a", "version": "1 "}),
        tgz({"name": "a", "version": ""}),
        tgz({"name": "a", "version": "1"}, folder="package/deeper"),
        tgz({"name": "a", "version": "1"})[:60],
        linked(),
        gzip.compress(b"\xff" * 4096),
        gzip.compress(b"package/package.json".ljust(124, b"\0") + b"\xff" * 12 + bytes(400)),
    ],
    "a.deb": [
        b"!<arch>\n",
        deb()[:100],
        control_with(Package="../../etc/passwd"),
        control_with(Package="A"),
        control_with(Version="1 2"),
        control_with(Architecture="amd64\n x"),
        ar(("control.tar.lz4", b"x")),
        ar(("control.tar.zst", b"x" * 50)),
        deb().replace(b"control.tar.xz", b"control.tar.gz"),
    ],
}


@pytest.mark.parametrize(("path", "number"), [(path, number) for path, all_of in HOSTILE.items() for number in range(len(all_of))])
def test_a_hostile_package_is_a_plain_file(path: str, number: int) -> None:
    entries, blobs = payload(**{path: HOSTILE[path][number]})
    assert [found.kind for found in find(entries, blobs.open)] == ["generic"]


def test_a_licence_that_can_not_be_found_does_not_take_the_purl_away() -> None:
    for content in (deb().replace(b"data.tar.xz", b"data.tar.7z"), deb()[: deb().index(b"data.tar.xz")]):
        assert [(found.name, found.licence) for found in packages(**{"a.deb": content})] == [("hello", None)]


def large_wheel() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-1.dist-info/METADATA", b"x" * (64 << 20))
    return packed.getvalue()


def long_listing() -> bytes:
    listing = b"".join(b"PK\1\2" + bytes(42) for _entry in range(1 << 17))
    return listing + b"PK\5\6" + bytes(4) + b"\xff\xff\xff\xff" + len(listing).to_bytes(4, "little") + bytes(6)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a.tgz": lambda: tgz({"name": "a", "version": "1", "x": "y" * (64 << 20)}),
    "b.tgz": lambda: gzip.compress(tarfile.TarInfo("package/x").tobuf()[:124] + b"77777777777\0" + bytes(376) + bytes(64 << 20), 1),
    "a.whl": large_wheel,
    "lying.whl": lambda: large_wheel().replace((64 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")),
    "data.deb": lambda: deb(copyright_file="x" * (64 << 20)),
    "listing.whl": long_listing,
}


@pytest.mark.parametrize("path", BOMBS)
def test_what_unpacks_to_much_fills_no_memory(path: str) -> None:
    content = BOMBS[path]()
    entries, blobs = payload(**{path: content})
    tracemalloc.start()
    try:
        found = find(entries, blobs.open)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - len(content) < 24 << 20
    assert [part.kind for part in found] == ["deb" if path == "data.deb" else "generic"]


def test_no_more_of_one_package_is_unpacked_than_any_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tar([("package/large", b"x" * 300_000), ("package/package.json", '{"name": "a", "version": "1"}')], "w:gz")
    control = tar([("./md5sums", b"x" * 300_000), ("./control", CONTROL)], "w:gz")
    tree = {"a.tgz": before, "a.deb": ar(("control.tar.gz", control)), "b.deb": deb(compression="gz")}
    assert [found.licence for found in packages(**tree)] == [None, None, "GPL-3.0-or-later"]
    monkeypatch.setattr(subject, "_UNPACKED_LIMIT", 1000)
    monkeypatch.setattr(subject, "_CONTROL_LIMIT", 200_000)
    assert [(found.path, found.licence) for found in packages(**tree)] == [("b.deb", None)]


def test_all_packages_together_are_unpacked_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"{number}.tgz": tgz({"name": "a", "version": "1", "x": "y" * 200_000}) for number in range(10)}
    assert len(packages(**many)) == 10
    monkeypatch.setattr(subject, "_TOTAL_LIMIT", 1 << 20)
    with pytest.raises(TidegateError, match="bring an SBOM with it"):
        packages(**many)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["a.whl", "a.tgz", "a.deb"]), st.integers(0, 2**32), st.integers(1, 40))
def test_no_damage_to_a_package_breaks_the_sbom(path: str, seed: int, changes: int) -> None:
    content = bytearray({"a.whl": wheel(), "a.tgz": tgz({"name": "a", "version": "1"}), "a.deb": deb(compression="gz")}[path])
    chance = random.Random(seed)  # noqa: S311 - nothing is kept secret with it
    for _change in range(changes):
        content[chance.randrange(len(content))] = chance.randrange(256)
    entries, blobs = payload(**{path: bytes(content)})
    check(make("web", "1", DIGEST, entries, blobs.open), "made")
