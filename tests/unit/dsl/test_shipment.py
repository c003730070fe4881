# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pack holds just what was asked for, is made once for all who ask, and never passes on bytes that nobody archived."""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import shipment as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import Package, archive, load_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.shipment import build_pack
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from releases import spoil

CONTENTS = {"a": b"alpha", "b/c": b"", "d": os.urandom((1 << 20) + 5), "twin": b"alpha", "e": b"echo"}
Archive = tuple[OciLayout, Package]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def archived(home: OciLayout, make_release: Callable[..., Path]) -> Archive:
    return home, load_package(home, archive(make_release(files=CONTENTS), home).digest)


def test_a_pack_is_a_list_of_contents_and_the_contents_in_that_order(archived: Archive, tmp_path: Path) -> None:
    wanted = [sha(CONTENTS[name]) for name in ("d", "a", "twin", "b/c")]
    path = build_pack(*archived, wanted, tmp_path / "packs")
    by_sha = {sha(content): content for content in CONTENTS.values()}
    listed, _newline, contents = gzip.decompress(path.read_bytes()).partition(b"\n")
    assert sorted(json.loads(listed)) == sorted(set(wanted))
    assert contents == b"".join(by_sha[name] for name in json.loads(listed))


def test_packs_are_the_same_bytes_wherever_they_are_made(archived: Archive, tmp_path: Path) -> None:
    one, two = (build_pack(*archived, [sha(b"alpha"), sha(b"echo")], tmp_path / folder) for folder in ("p", "q"))
    assert one.read_bytes() == two.read_bytes()


def test_a_pack_that_is_there_is_used_again(archived: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_pack(*archived, [sha(b"alpha")], tmp_path)
    monkeypatch.setattr(subject, "_contents", lambda *_: pytest.fail("was built again"))
    assert build_pack(*archived, [sha(b"alpha"), sha(b"alpha")], tmp_path) == first


@pytest.mark.parametrize("unknown", [sha(b"unknown"), "", "../../x", 1, None, ["x"]])
def test_a_content_that_the_package_does_not_have_is_refused(archived: Archive, tmp_path: Path, unknown: Any) -> None:
    with pytest.raises(TidegateError, match="ask only for what its file index lists"):
        build_pack(*archived, [sha(b"alpha"), unknown], tmp_path / "packs")
    assert not (tmp_path / "packs").exists()


@pytest.mark.parametrize("content", [None, b""])
def test_a_payload_that_lies_makes_no_pack(archived: Archive, tmp_path: Path, content: bytes | None) -> None:
    home, package = archived
    spoil(home, package.payload.digest, content)
    with pytest.raises(IntegrityError, match=package.payload.digest):
        build_pack(home, package, [sha(b"alpha")], tmp_path / "packs")
    assert list((tmp_path / "packs").glob("*.pack")) == []


def test_what_a_killed_worker_left_is_not_used(archived: Archive, tmp_path: Path) -> None:
    wanted = [sha(b"alpha")]
    whole = build_pack(*archived, wanted, tmp_path / "a").read_bytes()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"{sha(wanted[0].encode())}.new").write_bytes(whole + b"more")
    assert build_pack(*archived, wanted, tmp_path / "b").read_bytes() == whole


def build_in_a_process(home: OciLayout, package: Package, folder: Path, start: Any, results: Any) -> None:
    builds: list[int] = []
    contents = subject._contents
    subject._contents = lambda *arguments: (builds.append(1), contents(*arguments))[1]
    start.wait()
    path = build_pack(home, package, [sha(content) for content in CONTENTS.values()], folder)
    results.put((len(builds), hashlib.sha256(path.read_bytes()).hexdigest()))


def test_many_workers_make_one_pack(archived: Archive, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [context.Process(target=build_in_a_process, args=(*archived, tmp_path / "packs", start, results)) for _worker in range(6)]
    for worker in workers:
        worker.start()
    start.set()
    outcomes = [results.get(timeout=60) for _worker in workers]
    for worker in workers:
        worker.join(60)
    assert sum(builds for builds, _digest in outcomes) == 1
    assert len({digest for _builds, digest in outcomes}) == 1
