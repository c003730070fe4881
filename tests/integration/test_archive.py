# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook archive, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import forked
import pytest
import yaml
from releases import write_release

REFERENCE = "org.opencontainers.image.ref.name"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    health = [{"name": "says hello", "command": ["true"], "timeout": 5}]
    return write_release(tmp_path / "release", {"hello": b"hello\n"}, health=health)


def play(release: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "tidegate.release.archive", "-i", "localhost,", "-e", f"tidegate_release={release}", *options]
    return forked.run(command, {**os.environ, "TIDEGATE_DSL": str(release.parent / "dsl"), "ANSIBLE_NOCOLOR": "1"}, timeout=120)


def tags(release: Path) -> dict[str, str]:
    index = json.loads((release.parent / "dsl" / "index.json").read_text())
    return {entry["annotations"][REFERENCE]: entry["digest"] for entry in index["manifests"]}


def test_a_release_is_archived_once_and_its_digest_printed(release: Path) -> None:
    checked = play(release, "--check")
    assert checked.returncode == 0, checked.stdout
    assert "changed=1" in checked.stdout
    assert not (release.parent / "dsl").exists()
    for said in ("It would be archived:", "1 file of 6 bytes; documentation: README.md", "hooks: none; checks: says hello (command)"):
        assert said in checked.stdout

    first = play(release)
    assert first.returncode == 0, first.stdout
    assert "changed=1" in first.stdout
    digest = tags(release)["hello:1.0"]
    line = f"hello 1.0 is {digest}"
    assert line in first.stdout
    assert line in checked.stdout

    again = play(release)
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    assert line in again.stdout

    manifest = yaml.safe_load((release / "release.yml").read_text())
    (release / "release.yml").write_text(
        yaml.safe_dump(manifest | {"version": "1.1", "hooks": {"start": {"command": ["bin/start", "now"]}}})
    )
    (release / "payload" / "bin").mkdir()
    (release / "payload" / "bin" / "start").write_text("#!/bin/sh\n")
    (release / "payload" / "bin" / "start").chmod(0o750)
    (release / "payload" / "hello").write_text("hello again\n")
    upgraded = play(release, "--check")
    for said in (
        "2 files of 22 bytes",
        "against 1.0: 2 new (bin, bin/start), 1 changed (hello), 0 as before",
        "not for everybody on the hosts: bin/start",
        "hooks: start (bin/start now)",
    ):
        assert said in upgraded.stdout, upgraded.stdout
    (release / "payload" / "bin" / "start").chmod(0o640)
    refused = play(release, "--check")
    assert refused.returncode != 0
    assert "the hook start can't start: bin/start may not be executed; allow it with chmod a+x bin/start" in refused.stdout


def test_a_payload_that_must_not_be_archived_is_refused_and_changes_nothing(release: Path) -> None:
    (release / "payload" / "out").symlink_to("/etc")
    (release / "payload" / "run").write_text("")
    (release / "payload" / "run").chmod(0o4755)
    refused = play(release)
    assert refused.returncode != 0
    assert "payload/out: it is a link that leads outside" in refused.stdout
    assert "payload/run: it is set-uid" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert not (release.parent / "dsl").exists()


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_a_version_never_changes(release: Path, mode: list[str]) -> None:
    play(release).check_returncode()
    before = tags(release)
    (release / "payload" / "hello").write_text("hello again\n")
    refused = play(release, *mode)
    assert refused.returncode != 0
    assert "give the release a new version" in refused.stdout
    assert tags(release) == before


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_a_directory_with_something_else_in_it_is_left_alone(release: Path, mode: list[str]) -> None:
    other = release.parent / "dsl"
    other.mkdir()
    (other / "thesis.doc").write_text("mine")
    refused = play(release, *mode)
    assert refused.returncode != 0
    assert "no DSL and not empty" in refused.stdout
    assert [path.name for path in other.iterdir()] == ["thesis.doc"]
