# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release is examined for on its way into the library, as a user archives it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import LICENCE, RELEASE, SBOM, SCAN
from desk import EVIL, Desk
from documents import policy_of, write_document

pytestmark = pytest.mark.skipif(not shutil.which("clamscan"), reason="needs ClamAV (apt install clamav)")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_is_signed_is_examined_and_each_result_is_kept_beside_the_package(desk: Desk) -> None:
    desk.fleet.release("1.0", licence="mit")
    done = desk.archive("1.0")
    assert done.returncode == 0, done.stdout
    said = desk.said("1.0")
    assert said.keys() == {RELEASE, SCAN, SBOM, LICENCE}
    assert said[SCAN]["result"] == "clean"
    assert said[SCAN]["engine"].startswith("ClamAV")
    assert said[SCAN]["signatures"][0].startswith("own.hsb sha256:")
    assert {part["name"] for part in said[SBOM]["components"]} >= {"bin/start", "bin/stop", "version"}
    assert said[LICENCE]["declared"] == "MIT"
    again = desk.archive("1.0")
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    assert desk.said("1.0") == said


def test_an_infected_release_goes_to_quarantine_and_not_into_the_library(desk: Desk) -> None:
    payload = desk.fleet.release("1.0") / "payload"
    (payload / "bin" / "evil").write_bytes(EVIL)
    looked = desk.archive("1.0", "--check")
    assert looked.returncode != 0
    assert not desk.quarantine.exists()
    done = desk.archive("1.0")
    assert done.returncode != 0
    assert "1 infected: Tidegate.Test" in done.stdout
    assert "payload/bin/evil" in done.stdout
    assert not (desk.fleet.path / "dsl").exists()
    sha = hashlib.sha256(EVIL).hexdigest()
    assert (desk.quarantine / sha).stat().st_mode & 0o777 == 0o600
    record = json.loads(next(desk.quarantine.glob("*.json")).read_text())
    assert (record["release"], record["version"]) == ("hello", "1.0")
    assert [(hit["path"], hit["sha256"]) for hit in record["found"]] == [("payload/bin/evil", sha)]
    (payload / "bin" / "evil").unlink()
    assert desk.archive("1.0").returncode == 0


def test_infected_documentation_is_found_too(desk: Desk) -> None:
    (desk.fleet.release("1.0") / "README.md").write_bytes(EVIL)
    done = desk.archive("1.0")
    assert done.returncode != 0
    assert "README.md" in done.stdout


def test_without_signatures_the_evidence_says_so_and_the_policy_does_not_pass_it(desk: Desk) -> None:
    desk.fleet.release("1.0")
    empty = desk.fleet.path / "empty"
    empty.mkdir()
    done = desk.archive("1.0", tidegate_malware_signatures=str(empty))
    assert done.returncode == 0, done.stdout
    assert "the malware scan was inconclusive: ClamAV has no signatures in" in " ".join(done.stdout.split())
    assert desk.said("1.0")[SCAN]["result"] == "inconclusive"
    public = subprocess.run(["openssl", "pkey", "-in", str(desk.key), "-pubout"], check=True, capture_output=True, text=True).stdout
    trust = {kind: {"role": "builder"} for kind in ("package", "scan", "sbom", "licence")}
    people = {"rita": {"roles": ["builder"], "keys": [{"public": public}]}}
    write_document(desk.fleet.path / "policy.yml", policy_of(people=people, trust=trust))
    home = open_library(desk.fleet.environment["TIDEGATE_DSL"]).repository("hello")
    rfc = desk.fleet.rfc("CHG0001", "1.0", str(home.resolve("hello", "1.0")))
    cleared = desk.fleet.play("tidegate.release.clear", {"tidegate_rfc": str(rfc)}, "-v", inventory="localhost,")
    said = " ".join(cleared.stdout.split())
    assert cleared.returncode != 0
    assert "malware: 0 of 1 scans were clean" in said
    assert "evidence: the release declares no licence" in said
    assert "signatures: 1 of 1 with the role builder" in said


def test_what_is_not_signed_is_examined_when_asked(desk: Desk) -> None:
    (desk.fleet.release("1.0") / "payload" / "evil").write_bytes(EVIL)
    assert desk.archive("1.0", tidegate_key="", tidegate_examine=True).returncode != 0
    assert desk.archive("1.0", tidegate_key="").returncode == 0


def test_a_changed_release_has_a_new_digest_and_none_of_the_evidence(desk: Desk) -> None:
    first = desk.fleet.release("1.0")
    assert desk.archive("1.0").returncode == 0
    shutil.copytree(first, desk.fleet.path / "releases" / "1.1")
    manifest = desk.fleet.path / "releases" / "1.1" / "release.yml"
    manifest.write_text(manifest.read_text().replace("version: '1.0'", "version: '1.1'"))
    assert desk.archive("1.1", tidegate_key="").returncode == 0
    home = open_library(desk.fleet.environment["TIDEGATE_DSL"]).repository("hello")
    assert home.resolve("hello", "1.0") != home.resolve("hello", "1.1")
    assert desk.said("1.1") == {}


def test_a_licence_that_is_no_spdx_expression_is_refused_with_its_line(desk: Desk) -> None:
    desk.fleet.release("1.0", licence="Free for all")
    done = desk.archive("1.0")
    assert done.returncode != 0
    assert "licence is 'Free for all', which is no SPDX expression" in done.stdout
