# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody released is sent to be scanned, and what is not sent is said."""

from __future__ import annotations

import os
import zlib
from base64 import b64decode
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import suspects as own
from ansible_collections.tidegate.release.plugins.module_utils.release_facts import release_facts
from ansible_collections.tidegate.release.plugins.module_utils.suspects import suspects
from bed import Host, package

ONE, TWO = package(), package("2.0")


def sent(host: Host) -> tuple[dict[str, bytes], list[str]]:
    answer: dict[str, Any] = suspects(str(host.root), release_facts(str(host.root)))
    assert all(one["release"] == "hello" for one in answer["files"])
    assert all(one["since"] == (host.home.path / one["path"]).stat().st_ctime for one in answer["files"])
    return {one["path"]: zlib.decompress(b64decode(one["data"])) for one in answer["files"]}, answer["left"]


def test_what_is_as_it_was_released_is_not_sent(host: Host) -> None:
    host.deploy(ONE)
    assert sent(host) == ({}, [])


def test_extra_and_changed_files_and_strangers_are_sent_of_each_release(host: Host) -> None:
    host.deploy(ONE)
    host.deploy(TWO, ONE)
    (host.tree(ONE) / "bin" / "start").write_bytes(b"changed")
    (host.tree(TWO) / "version").unlink()
    (host.tree(TWO) / "extra").write_bytes(b"extra")
    (host.home.path / "odd" / "deep").mkdir(parents=True)
    (host.home.path / "odd" / "deep" / "file").write_bytes(b"stranger")
    (host.home.path / "link").symlink_to("/etc/passwd")
    files, left = sent(host)
    assert files == {
        f"releases/{ONE.id}/tree/bin/start": b"changed",
        f"releases/{TWO.id}/tree/extra": b"extra",
        "odd/deep/file": b"stranger",
    }
    assert left == []


def test_what_is_too_large_or_no_file_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy(ONE)
    monkeypatch.setattr(own, "_ALL", 5)
    (host.home.path / "a").write_bytes(b"123")
    (host.home.path / "b").write_bytes(b"456")
    os.mkfifo(host.home.path / "pipe")
    assert sent(host) == ({"a": b"123"}, ["b", "pipe"])
