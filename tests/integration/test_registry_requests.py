# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry is asked, counted, so that it does not become more: a clearance, a gate, a copy where there is nothing new."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import registry
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_requests import Wire
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import Copied, choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import KINDS, Statement, purl, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Wave, check_wave_start, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from documents import example_policy, rfc, write_document
from releases import write_release
from seals import KEYS, pem

pytestmark = pytest.mark.skipif(registry.PROGRAM is None, reason="needs Distribution (apt install docker-registry)")

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
# What is beside a package after an earlier change.
PIECES = ("package", "scan", "sbom", "licence", "test-result", "opinion", "opinion", "approval", "approval", "clearance")


@dataclass
class Count:
    """The requests since it was begun, each with its method."""

    asked: list[str] = field(default_factory=list)

    def of(self) -> list[str]:
        """What was asked since this was called last."""
        found, self.asked = self.asked, []
        return found


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    counting, real = Count(), Wire._send

    def send(self: Wire, method: str, url: str, *arguments: Any) -> Any:
        counting.asked.append(f"{method} {url.partition('/v2/')[2]}")
        return real(self, method, url, *arguments)

    monkeypatch.setattr(Wire, "_send", send)
    return counting


@dataclass(frozen=True)
class Bed:
    """A library in a directory, a copy of it in a registry, a CMDB, a policy and an RFC."""

    path: Path
    home: OciLayout
    server: registry.Server

    def attach(self, digest: str, kind: str, version: str = "1.0", **said: object) -> str:
        name, predicate = purl("hello", version), {"role": "release-manager", "decision": "approved", "score": 4, "blocking": False, **said}
        statement = release_statement("hello", version, digest) if kind == "package" else Statement(name, digest, KINDS[kind], predicate)
        return attach(self.home, digest, sign(statement, KEYS["rita"], NOW - timedelta(days=1)))

    def archive(self, version: str) -> str:
        digest = archive(write_release(self.path / version, {"data": version.encode()}, version=version), self.home).digest
        for number, kind in enumerate(PIECES):
            self.attach(digest, kind, version, number=number, rfc="CHG0000001")
        return digest

    def library(self) -> Library:
        return open_library(self.server.address).at_one_moment()

    def sync(self) -> Copied:
        there = create_library(self.server.address).at_one_moment()
        copied = replicate(self.home, there, choose(self.home, None), lambda _name, _version, _digest: "", write=True)
        assert there.releases(["hello"]).keys() == self.home.releases().keys()  # as dsl_sync asks for what the other has beyond
        assert copied.problems == []
        return copied

    @contextlib.contextmanager
    def sources(self) -> Iterator[Sources]:
        cmdb, policy = str(self.path / "cmdb.sqlite"), str(self.path / "policy.yml")
        with Sources(self.server.address, cmdb, policy, NOW, self.path / "run") as sources:
            yield sources

    def clear(self) -> str:
        with self.sources() as sources:
            return clear(sources, str(self.path / "rfc.yml")).clearance.sentence()

    def gate(self) -> str:
        with self.sources() as sources:
            return check_wave_start(sources, load_rfc(str(self.path / "rfc.yml")), Wave(("web1",))).stop


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with registry.serve(tmp_path / "registry") as server:
        bed = Bed(tmp_path, OciLayout.create(tmp_path / "dsl"), server)
        digest = bed.archive("1.0")
        roles = {"rita": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["rita"])}]}}
        trust = {"package": {"role": "release-manager", "threshold": 1}}
        write_document(
            tmp_path / "policy.yml",
            example_policy(people=roles, trust=trust, approvals={"normal": 0}, opinions={"release-manager": {"quorum": 1, "minimum": 1}}),
        )
        release = {"name": "hello", "version": "1.0", "digest": digest}
        write_document(tmp_path / "rfc.yml", rfc(release=release, scope="[*]", start_date="2027-03-01T20:00:00Z"))
        with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as cmdb:
            cmdb.put_cis([{"name": "web1", "class": "server", "site": "ams"}], "test")
        assert bed.sync().evidence == len(PIECES)
        yield bed


def test_a_clearance_asks_no_more_than_it_has_to(bed: Bed, count: Count) -> None:
    count.of()
    assert "is cleared" in bed.clear()
    asked = count.of()
    assert len(asked) <= 15, asked
    assert len(set(asked)) == len(asked), "something was asked for twice"


def test_a_gate_asks_for_lists_and_tags_and_for_nothing_that_the_run_has_read(bed: Bed, count: Count) -> None:
    bed.clear()
    count.of()
    for _gate in range(2):
        assert bed.gate() == ""
        asked = count.of()
        assert len(asked) <= 8, asked
        assert any("/tags/list" in one for one in asked)


def test_a_gate_sees_what_was_signed_since(bed: Bed, count: Count) -> None:
    bed.clear()
    assert bed.gate() == ""
    bed.attach(str(bed.home.resolve("hello", "1.0")), "opinion", blocking=True)
    bed.sync()
    count.of()
    assert bed.gate() == "blocked by rita (release-manager)"
    assert len(count.of()) <= 8


def test_a_copy_where_nothing_is_new_asks_little_of_each_package(bed: Bed, count: Count) -> None:
    for version in ("1.1", "1.2", "1.3", "1.4"):
        bed.archive(version)
    bed.sync()
    count.of()
    assert bed.sync().present == 5
    asked = count.of()
    assert len(asked) <= 3 * 5, asked  # 5 may be


def test_a_copy_brings_what_the_registry_has_lost_of_what_is_listed(bed: Bed) -> None:
    digest = str(bed.home.resolve("hello", "1.0"))
    home = bed.library().repository("hello")
    gone = home.referrers(digest)[0].digest
    home._delete(gone)  # and its own tag with it; the list has it still
    assert gone in {entry.digest for entry in bed.library().repository("hello").referrers(digest)}
    assert bed.sync().evidence == 1
    assert bed.library().repository("hello").read_manifest(gone)


def test_what_was_kept_in_a_run_and_is_not_what_its_digest_says_is_asked_for_again(bed: Bed, count: Count) -> None:
    bed.clear()
    for path in (bed.path / "run").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    count.of()
    assert bed.gate() == ""
    assert any("/blobs/" in one for one in count.of())


def test_a_tag_that_somebody_else_has_set_meanwhile_stays(bed: Bed) -> None:
    there = bed.library()
    home = there.repository("hello")
    assert home.resolve("hello", "9.0") is None
    package = bed.home.releases()["hello", "1.0"]
    assert bed.library().repository("hello").tag("hello", "9.0", package)
    assert not home.tag("hello", "9.0", package)
