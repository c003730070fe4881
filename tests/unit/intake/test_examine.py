# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import examine as intake
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import sbom
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.malware import Scan
from releases import write_release, write_role_release


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


@pytest.mark.parametrize("changes", [{}, {"payload": None, "health": None, "documentation": ["README.md"]}])
def test_a_role_is_looked_at_as_the_payload_is(release: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    write_role_release(release, **changes)
    wheel = release / "ansible/app/files/y-2.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Name: y\nVersion: 2.0\nLicense-Expression: GPL-3.0-only\n\n")
    evil = hashlib.sha256((release / "ansible/app/files/run.sh").read_bytes()).hexdigest()
    monkeypatch.setattr(intake, "scan", lambda _folder, _database: Scan("infected", f"Evil in {evil}", "engine", ("s",), ((evil, "Evil"),)))
    (release / "ansible/app/files/run.sh").write_text("#!/bin/sh\nevil\n")
    evil = hashlib.sha256(b"#!/bin/sh\nevil\n").hexdigest()
    source = read_release(release)
    with intake.snapshot(source) as copied:
        found = intake.examine(source, copied)
        intake.quarantine(found, source, copied, release.parent / "quarantine")
    assert found.scan.found == (("ansible/app/files/run.sh", "Evil"),)
    assert (release.parent / "quarantine" / evil).read_bytes() == b"#!/bin/sh\nevil\n"
    role = {"ansible/app/files/run.sh", *(f"ansible/app/tasks/{step}.yml" for step in ("activate", "back_out", "check"))}
    payload = set() if changes else {"payload/again", "payload/start", "x"}
    assert {part["name"] for part in found.sbom["components"]} == {*role, *payload, "y"}
    assert found.licences == ({"GPL-3.0-only": 1} if changes else {"GPL-3.0-only": 1, "MIT": 1})
    home = OciLayout.create(release.parent / "dsl")
    with pytest.raises(TidegateError, match="changed while it was archived"):
        source.archive(home, found.contents - {evil})
    assert source.archive(home, found.contents).created


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
