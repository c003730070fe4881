# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host sends of a tree is written as it said, below one directory, or not at all; and only what was adopted is recorded."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils import adoption
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import adopt
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.adopt import HostAdoption, Part
from documents import simple_manifest, write_document

NOW = datetime(2026, 11, 29, tzinfo=UTC)
DIGEST = f"sha256:{'1' * 64}"
FILE = {"path": "a", "type": "file", "mode": 0o644, "size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}


def _reader(tree: Path, asked: list[int]) -> Any:
    def read(parts: list[Part]) -> bytes:
        size = sum(part[2] for part in parts)
        asked.append(size)
        return adopt.parse_contents(adoption.contents(str(tree), parts)["data"], size)

    return read


def test_a_tree_is_fetched_as_it_is_in_few_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "_ASKED", 1000)
    tree = tmp_path / "there"
    (tree / "closed").mkdir(parents=True)
    (tree / "large").write_bytes(bytes(range(256)) * 10)
    (tree / "closed" / "b").write_bytes(b"b")
    (tree / "empty").touch()
    (tree / "to-b").symlink_to("closed/b")
    (tree / "large").chmod(0o750)
    (tree / "closed").chmod(0o550)
    asked: list[int] = []
    files = adopt.parse_survey(adoption.survey(str(tree), [])["files"])
    adopt.write_tree(tmp_path / "here", files, _reader(tree, asked))
    assert adoption.survey(str(tmp_path / "here"), [])["files"] == files
    assert asked == [1000, 1000, 561]


def test_what_changes_meanwhile_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(TidegateError, match=r"a\?\[2J changed while it was fetched"):
        adopt.write_tree(tmp_path / "here", [{**FILE, "path": "a\x1b[2J"}], lambda _parts: b"b")
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_asked_for_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt.shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
    with pytest.raises(TidegateError, match=r"the tree has 1 bytes, and in .* there is room for 0; make room, or leave more out"):
        adopt.write_tree(tmp_path / "here", [FILE], lambda _parts: pytest.fail("it was asked for"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "files",
    [
        None,
        [{}],
        [{**FILE, "path": "../a"}],
        [{**FILE, "path": "/a"}],
        [{**FILE, "path": "b/a"}],
        [{**FILE, "path": "a\0"}],
        [{**FILE, "path": "a\udcff"}],
        [{**FILE, "size": -1}],
        [{**FILE, "size": True}],
        [{**FILE, "mode": "0644"}],
        [{**FILE, "more": 1}],
        [FILE, FILE],
        [{"path": "a", "type": "link", "target": "/etc"}, {**FILE, "path": "a/b"}],
        [{"path": "a", "type": "device", "mode": 0}],
    ],
)
def test_a_tree_that_leads_out_of_its_place_is_not_written(files: Any) -> None:
    with pytest.raises(TidegateError, match="find out who answers there"):
        adopt.parse_survey(files)


def test_more_or_other_bytes_than_were_asked_for_are_refused() -> None:
    packed = base64.b64encode(zlib.compress(bytes(1 << 20))).decode()
    for data in (packed, packed[:-8], "none", None, 7):
        with pytest.raises(TidegateError, match="not what was asked for"):
            adopt.parse_contents(data, 10)


@pytest.fixture
def cmdb(tmp_path: Path) -> Cmdb:
    made = Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True)
    made.put_cis([{"name": name} for name in ("web1", "web2", "web3")], "test")
    return made


@pytest.fixture
def release(tmp_path: Path) -> Any:
    (tmp_path / "release").mkdir()
    write_document(tmp_path / "release" / "release.yml", simple_manifest())
    return adopt.release_to_adopt(tmp_path / "release", "/srv/hello")


def test_hosts_that_adopted_it_have_it_and_the_others_are_named(cmdb: Cmdb, release: Any) -> None:
    outcomes = {"web1": HostAdoption(True), "web2": HostAdoption(False, "it differs"), "web3": HostAdoption(True)}
    for write, new in ((False, ["web1", "web3"]), (True, ["web1", "web3"]), (True, [])):
        recorded = adopt.record(cmdb, release, DIGEST, outcomes, "test", NOW, write)
        assert (recorded.adopted, recorded.new, recorded.missing) == (["web1", "web3"], new, {"web2": "it differs"})
    assert [row["ci"] for row in cmdb.installations()] == ["web1", "web3"]
    assert "on 2 of 3 hosts\n  web2: it differs" in adopt.describe(release, recorded, dry_run=False)


def test_hosts_without_a_seat_of_what_the_release_uses_are_named(cmdb: Cmdb, release: Any) -> None:
    licensed = replace(release, licensed_product="acme-db")
    outcomes = {"web1": HostAdoption(True), "web3": HostAdoption(True)}
    for write in (False, True):
        recorded = adopt.record(cmdb, licensed, DIGEST, outcomes, "test", NOW, write)
        assert "\n  web1, web3: no seat of acme-db; a deployment takes seats and adopting none" in (
            adopt.describe(licensed, recorded, dry_run=not write)
        )
    assert "seat" not in adopt.describe(release, adopt.record(cmdb, release, DIGEST, outcomes, "test", NOW, True), dry_run=False)


def test_nothing_begins_for_a_host_that_has_another_release_is_locked_or_unknown(cmdb: Cmdb, release: Any) -> None:
    adopt.refuse_changing(cmdb, release, ["web1"])
    with pytest.raises(TidegateError, match="there is no host"):
        adopt.refuse_changing(cmdb, release, [])
    with pytest.raises(TidegateError, match=r"the CMDB has no web9; enter them with tidegate\.release\.import"):
        adopt.refuse_changing(cmdb, release, ["web1", "web9"])
    with cmdb.begin() as connection:
        rows = [{"ci": "web1", "release": release.name, "version": "9.9", "digest": DIGEST}]
        cmdb.record_installations(connection, rows, "test", NOW)
    with pytest.raises(TidegateError, match=r"web1 has \w+ 9\.9"):
        adopt.refuse_changing(cmdb, release, ["web1"])


def test_what_was_deployed_while_hosts_were_compared_stays_on_record(cmdb: Cmdb, release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {"web1": HostAdoption(True), "web2": HostAdoption(True)}
    with monkeypatch.context() as patch:
        patch.setattr(Cmdb, "locks", lambda *_given: {"web2": "CHG0000001#1"})
        with pytest.raises(ConflictError, match="deployments hold web2; wait until they end"):
            adopt.record(cmdb, release, DIGEST, outcomes, "test", NOW, write=True)
    rows = [{"ci": "web1", "release": release.name, "version": "9.9", "digest": DIGEST}]
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, rows, "test", NOW)
    with pytest.raises(TidegateError, match=r"web1 has \w+ 9\.9"):
        adopt.record(cmdb, release, DIGEST, outcomes, "test", NOW, write=True)
    assert [(row["ci"], row["version"]) for row in cmdb.installations()] == [("web1", "9.9")]


def test_where_a_tree_is_has_to_be_said(tmp_path: Path) -> None:
    write_document(tmp_path / "release.yml", simple_manifest())
    with pytest.raises(TidegateError, match="add -e tidegate_path="):
        adopt.release_to_adopt(tmp_path, None)
    ansible = {"role": "ansible/app", "steps": ["activate", "check"], "on_first": "back_out", "atomic": False}
    write_document(tmp_path / "release.yml", simple_manifest(payload=..., health=..., ansible=ansible))
    assert adopt.release_to_adopt(tmp_path, None).payload is None
