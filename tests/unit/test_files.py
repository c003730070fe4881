# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept on the controller is its owner's alone, whatever the umask of whoever made it, unless a team says so."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.examine import quarantine
from ansible_collections.tidegate.release.plugins.plugin_utils.report.files import write_documents
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.schedule import publish

MASKS = [0o000, 0o022, 0o077]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The rights of everything in a directory that is to stay; of a blob by its place, as its name is its digest."""
    found = sorted(path for path in (folder, *folder.rglob("*")) if not path.is_symlink())
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) & 0o777 for path in found}


def fill(folder: Path) -> None:
    """A library with a blob and evidence about it, and a CMDB that is open, so that what SQLite puts beside it is there."""
    library = OciLayout.create(folder / "deep" / "dsl")
    with library.writing():
        subject = library.put_manifest(canonical({"schemaVersion": 2}))
        library.tag("hello", "1.0", subject)
        evidence = {"artifactType": "application/vnd.in-toto+json", "subject": subject.to_json(), "layers": []}
        library.refer(subject.digest, canonical(evidence))
    with Cmdb.open(str(folder / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": "web1", "class": "server"}], actor="test")


@pytest.mark.parametrize("mask", MASKS)
def test_library_evidence_and_cmdb_are_their_owner_s_alone(tmp_path: Path, mask: int) -> None:
    tmp_path.chmod(0o777)
    with umask(mask):
        fill(tmp_path)
    found = modes(tmp_path)
    found.pop(".")
    assert {path: oct(mode) for path, mode in found.items() if mode & 0o077} == {}
    assert found["cmdb.sqlite"] == 0o600
    assert found["deep/dsl"] == found["deep/dsl/blobs/sha256"] == found["deep"] == 0o700
    assert {mode for path, mode in found.items() if path.startswith("deep/dsl/blobs/sha256/")} == {0o400}


@pytest.mark.parametrize("mask", MASKS)
def test_reports_schedules_and_quarantine_are_their_owner_s_alone(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        write_documents("report", {"generated": ""}, "generated", {"report.html": str}, tmp_path / "a" / "report", write=True)
        with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
            publish(cmdb, tmp_path / "b" / "public" / "changes.ics", (), datetime.now(UTC), write=True)
        scan = SimpleNamespace(engine="", signatures="", found=[("bin/run", "Eicar")])
        manifest = SimpleNamespace(name="hello", version="1.0")
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "sha").write_text("x")
        copied = SimpleNamespace(contents={"bin/run": "sha"}, folder=tmp_path / "copy")
        found, source = (cast(Any, SimpleNamespace(**about)) for about in ({"scan": scan}, {"manifest": manifest}))
        quarantine(found, source, cast(Any, copied), tmp_path / "c" / "q")
    made = [modes(tmp_path / part) for part in "abc"]
    assert [{path: oct(mode) for path, mode in part.items() if mode & 0o077} for part in made] == [{}, {}, {}]
    assert [len(part) for part in made] == [4, 3, 4]


@pytest.mark.parametrize("mask", MASKS)
def test_what_sqlite_puts_beside_the_cmdb_has_no_more_rights(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "cmdb.sqlite"
    with umask(mask), Cmdb.open(str(path), create=True) as cmdb, cmdb.begin() as connection:
        cmdb.record_installations(connection, [], "test", None)
        beside = [entry for entry in tmp_path.iterdir() if entry != path]
        assert {entry.stat().st_mode & 0o777 for entry in (path, *beside)} == {0o600}
        assert beside


@pytest.mark.parametrize("mask", MASKS)
def test_a_team_shares_what_is_in_a_directory_with_the_set_group_id_bit(tmp_path: Path, mask: int) -> None:
    tmp_path.chmod(0o2770)
    with umask(mask):
        fill(tmp_path)
    found = modes(tmp_path)
    assert {mode & 0o007 for mode in found.values()} == {0}
    assert found["cmdb.sqlite"] == found["deep/dsl/index.json"] == found["deep/dsl/.lock"] == 0o660
    assert found["deep/dsl/blobs/sha256"] == 0o770
    assert {mode for path, mode in found.items() if path.startswith("deep/dsl/blobs/sha256/")} == {0o440}
