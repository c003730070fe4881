# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""skopeo copies a package out of the library and back, and it is still the same package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package, verify_package
from releases import write_release

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    files = {"bin/hello": b"#!/bin/sh\necho hello\n", "text": b"so long that any tool would like to compress it\n" * 10_000}
    folder = write_release(tmp_path / "release", files, version="1.0.0-rc.1", documentation=["README.md", "CHANGES.md"])
    (folder / "CHANGES.md").write_text("# Changes\n")
    return folder


def copy(source: str, target: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", source, target], check=True, timeout=60)


@pytest.mark.parametrize("form", ["oci", "dir"])
def test_a_package_comes_back_the_same(tmp_path: Path, release: Path, form: str) -> None:
    home = OciLayout.create(tmp_path / "dsl")
    archived = archive(release, home)
    tag = "hello:1.0.0-rc.1"
    away = f"oci:{tmp_path}/away:{tag}" if form == "oci" else f"dir:{tmp_path}/away"
    copy(f"oci:{home.path}:{tag}", away)
    copy(away, f"oci:{tmp_path}/back:{tag}")
    back = OciLayout.open(tmp_path / "back")
    assert back.resolve("hello", "1.0.0-rc.1") == archived.digest
    assert load_package(back, archived.digest) == load_package(home, archived.digest)
    verify_package(back, archived.digest)


def test_a_package_can_be_brought_into_a_library_that_has_others(tmp_path: Path, release: Path) -> None:
    theirs, ours = OciLayout.create(tmp_path / "theirs"), OciLayout.create(tmp_path / "ours")
    brought = archive(release, theirs)
    manifest = release / "release.yml"
    manifest.write_text(manifest.read_text().replace("1.0.0-rc.1", "1.0.0"))
    own = archive(release, ours)
    copy(f"oci:{theirs.path}:hello:1.0.0-rc.1", f"oci:{ours.path}:hello:1.0.0-rc.1")
    assert {tag: found.digest for tag, found in ours.tags().items()} == {"hello:1.0.0": own.digest, "hello:1.0.0-rc.1": brought.digest}
    for digest in (own.digest, brought.digest):
        verify_package(ours, digest)
    manifest.write_text(manifest.read_text().replace("1.0.0", "1.0.1"))
    assert archive(release, ours).created
    assert len(ours.tags()) == 3
