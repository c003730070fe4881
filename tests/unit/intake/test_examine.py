# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import examine as intake
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import sbom
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.malware import Scan
from releases import write_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    metadata = b"Name: x\nVersion: 1.0\nLicense-Expression: MIT\n\n"
    script = b"#!/bin/sh\n"
    return write_release(tmp_path / "release", {"start": script, "again": script, "x-1.0.dist-info/METADATA": metadata})


def test_all_of_a_release_is_looked_at_under_names_that_say_nothing(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: set[str] = set()

    def scan(folder: Path, _database: str | None) -> Scan:
        looked.update(path.name for path in folder.rglob("*"))
        evil = hashlib.sha256((release / "README.md").read_bytes()).hexdigest()
        return Scan("infected", f"Evil in {evil}", "engine", ("s",), ((evil, "Evil"),))

    monkeypatch.setattr(intake, "scan", scan)
    source = read_release(release)
    with intake.snapshot(source) as copied:
        found = intake.examine(source, copied)
    files = [path for path in release.rglob("*") if path.is_file() and path.name != "release.yml"]
    assert looked == found.contents == {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert (found.scan.detail, found.scan.found) == ("Evil in README.md", (("README.md", "Evil"),))
    assert found.licences == {"MIT": 1}
    assert not found.brought
    assert {part["name"] for part in found.sbom["components"]} == {"x", "again", "start"}
    assert not copied.folder.exists()


def test_an_sbom_that_the_payload_brings_is_taken_or_refused(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "scan", lambda _folder, _database: Scan("clean", ""))
    bom = release / "payload" / "bom.json"
    component = '{"type": "library", "name": "y", "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "ours"}}]}'
    bom.write_text('{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [' + component + "]}")
    source = read_release(release)
    with intake.snapshot(source) as copied:
        found = intake.examine(source, copied)
    assert found.brought
    assert [part["name"] for part in found.sbom["components"]] == ["y"]
    assert found.licences == {"": 1}
    bom.write_text("{}")
    with pytest.raises(TidegateError, match=r"payload/bom\.json is no"), intake.snapshot(source) as copied:
        intake.examine(source, copied)
    with bom.open("r+b") as stream:
        stream.truncate(sbom.LIMIT + 1)
    source = read_release(release)
    with pytest.raises(TidegateError, match=r"payload/bom\.json is larger than 64 MiB"), intake.snapshot(source) as copied:
        intake.examine(source, copied)
