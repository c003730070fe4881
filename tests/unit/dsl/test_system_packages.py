# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages of the operating system in a payload: read when it is archived, in its config, and believed no further than that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import load_package, read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.system_packages import (
    CONFIG,
    NOREPLACE,
    SystemPackage,
    SystemPackages,
    check_contents,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, IntegrityError
from documents import simple_manifest, write_document
from packed import deb, rpm

OWN = {"format": "deb", "files": "debs/*.deb"}


def control(name: str, version: str = "1.0", architecture: str = "all", more: str = "") -> str:
    return f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n{more}"


def folder(tmp_path: Path, own: dict[str, Any] | None = None, **files: str | bytes) -> Path:
    """A release with these files in ``debs``; a text is that of a package's control file."""
    debs = tmp_path / "release" / "payload" / "debs"
    debs.mkdir(parents=True)
    for name, content in files.items():
        (debs / f"{name}.deb").write_bytes(deb(content) if isinstance(content, str) else content)
    (tmp_path / "release" / "README.md").write_text("# hello\n")
    write_document(tmp_path / "release" / "release.yml", simple_manifest(packages=own or OWN))
    return tmp_path / "release"


def problems(directory: Path) -> list[str]:
    with pytest.raises(DocumentError) as error:
        read_release(directory)
    return [str(problem) for problem in error.value.problems]


def test_what_is_in_the_files_is_in_the_config(tmp_path: Path) -> None:
    needs = "Pre-Depends: bb (>= 1:0~a)\nDepends: libc6 (>= 2.34),\n bb | nothing\n"
    directory = folder(tmp_path, a=control("aa", "2.0-1", "amd64", needs), b=control("bb", "1:1"))
    home = OciLayout.create(tmp_path / "dsl")
    package = load_package(home, read_release(directory).archive(home).digest)
    assert json.loads(package.config_bytes)["packages"] == {
        **OWN,
        "hold": True,
        "config": "keep",
        "on_first": "refuse",
        "timeout": 600,
        "contents": [
            {"path": "debs/a.deb", "name": "aa", "version": "2.0-1", "architecture": "amd64"},
            {"path": "debs/b.deb", "name": "bb", "version": "1:1", "architecture": "all"},
        ],
    }
    package.manifest.check()
    assert Manifest.from_config(json.loads(package.config_bytes)) == package.manifest


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    directory = folder(
        tmp_path,
        a=control("app", "1.0", "amd64", "Depends: lib (>= 2) | lib (<< 1), other | lib (= 3), lib:any (>= 1)\n"),
        b=control("lib", "1.0", "arm64"),
        c=control("lib", "1.1", "i386"),
        d=b"!<arch>\n",
        e=control("-o", "1.0"),
    )
    (directory / "payload" / "debs" / "f.deb").symlink_to("a.deb")
    assert problems(directory) == [
        "payload/debs/d.deb: it is no deb that can be read (no control file); build it again",
        "payload/debs/e.deb: it has the name '-o', which none can be; build it again",
        "payload/debs/f.deb: it is a link, and a package is a file; put the package itself there",
        "payload/debs/c.deb: it is the package lib, as debs/b.deb is; have each once",
        "payload/debs/b.deb: it is for arm64, and debs/a.deb is for amd64; make a release for each architecture",
        "payload/debs/c.deb: it is for i386, and debs/a.deb is for amd64; make a release for each architecture",
        "payload/debs/a.deb: app 1.0 needs lib (>= 2) | lib (<< 1), and the release brings it in another version; put versions into the "
        "release that go together",
    ]


def test_packages_of_rpm_are_read(tmp_path: Path) -> None:
    own = {"format": "rpm", "files": "debs/*.deb", "hold": False}
    words: dict[str, Any] = {"name": "Py_app", "version": "1.0~rc1", "release": "2.el9", "architecture": "x86_64"}
    directory = folder(tmp_path, own, a=rpm(**words, flags=(0, CONFIG | NOREPLACE)), b=rpm(**{**words, "name": "lib"}, epoch=(3,)))
    source = read_release(directory)
    assert source.manifest.packages
    assert source.manifest.packages.contents == (
        SystemPackage("debs/a.deb", "Py_app", "1.0~rc1-2.el9", "x86_64"),
        SystemPackage("debs/b.deb", "lib", "3:1.0~rc1-2.el9", "x86_64"),
    )
    for name, made in {
        "c": rpm(**words, flags=(CONFIG,)),
        "d": rpm(**words, source=(1,)),
        "e": rpm(**words)[:150],
        "f": rpm(name="x"),
        "g": rpm(**{**words, "architecture": "noarch"}),
    }.items():
        (directory / "payload" / "debs" / f"{name}.deb").write_bytes(made)
    said = problems(directory)
    assert [line.partition(":")[0] for line in said] == [f"payload/debs/{name}.deb" for name in "cdefg"]
    assert "%config without noreplace" in said[0]
    assert "a source package" in said[1]
    assert "it is the package Py_app, as debs/a.deb is" in said[4]


@pytest.mark.parametrize(
    ("more", "why"), [({}, "rpm holds no packages"), ({"hold": False, "config": "replace"}, "of packages of rpm each says that itself")]
)
def test_what_rpm_can_not_do_is_not_promised(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    assert why in problems(folder(tmp_path, {**OWN, "format": "rpm", **more}))[0]


def test_a_pattern_means_files_of_one_folder(tmp_path: Path) -> None:
    directory = folder(tmp_path, {**OWN, "files": "*.deb"}, a=control("aa"))
    assert problems(directory) == ["payload/*.deb: no file of the payload is meant by packages.files; put the packages there"]


def test_nobody_writes_down_what_is_in_the_files(tmp_path: Path) -> None:
    contents = [{"path": "debs/a.deb", "name": "aa", "version": "1.0", "architecture": "all"}]
    directory = folder(tmp_path, {**OWN, "contents": contents}, a=control("bb"))
    assert "packages.contents is found out when the release is archived; leave it out" in problems(directory)[0]


def test_packages_are_about_a_payload(tmp_path: Path) -> None:
    role = {"role": "app", "steps": ["activate", "check"], "on_first": "back_out", "atomic": False}
    write_document(tmp_path / "release.yml", simple_manifest(payload=..., health=..., ansible=role, packages=OWN))
    assert "packages is about what a payload brings to the hosts" in problems(tmp_path)[0]


def test_a_config_that_lists_other_files_than_the_payload_has_is_refused(tmp_path: Path) -> None:
    home = OciLayout.create(tmp_path / "dsl")
    source = read_release(folder(tmp_path, a=control("aa"), b=control("bb")))
    assert source.manifest.packages
    for contents in (source.manifest.packages.contents[:1], ()):
        other = replace(source.manifest, packages=replace(source.manifest.packages, contents=contents), version=f"1.{len(contents)}")
        digest = replace(source, manifest=other).archive(home).digest
        with pytest.raises(IntegrityError, match="lists other files as packages than its payload has"):
            load_package(home, digest)
    twice = SystemPackages("deb", "*.deb", contents=(SystemPackage("a.deb", "a", "1", "all"), SystemPackage("b.deb", "a", "2", "all")))
    files = [FileEntry(name, "file", 0o644, 1, "0" * 64) for name in ("a.deb", "b.deb")]
    assert check_contents(twice, files) == "says of b.deb that it is the package a, as a.deb is"
