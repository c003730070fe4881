# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growth laws of the library: evidence beside a package, packages beside each other, and what a registry is asked."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from age import Aged, cpu_of, law
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import IMAGE_INDEX, MANIFEST
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import REF_NAME, OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_requests import Wire
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import APPROVAL, Statement, purl, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Wave, check_wave_start, clear
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import registry
from documents import example_policy, rfc, write_document
from releases import write_release
from seals import KEYS, pem

NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)
_PIECES = 200
_PACKAGES = 600
_COPIED = 60
_CIS = 10_000
_NUMBERS = itertools.count()


def _sign(statement: Statement, seconds: int = 0) -> bytes:
    return sign(statement, KEYS["rita"], NOW - timedelta(days=1, seconds=seconds))


def _decided(digest: str, number: int, version: str = "1.0") -> bytes:
    """An approval for one of many other changes."""
    said = {
        "rfc": f"CHG9{number:06}",
        "rfcDigest": {"sha256": "f" * 64},
        "cis": ["web1"],
        "role": "release-manager",
        "decision": "approved",
    }
    return _sign(Statement(purl("hello", version), digest, APPROVAL, said))


def _release(path: Path, home: OciLayout, version: str = "1.0") -> str:
    return archive(write_release(path, {"data": version.encode()}, version=version), home).digest


def _decided_for_many(path: Path, times: int, pieces: int = _PIECES, own: int = 10) -> Path:
    """One release with pieces of its own, and those of other changes; what is there ten times as often is these."""
    home = OciLayout.create(path / "dsl")
    digest = _release(path / "release", home)
    for number in range(own):
        attach(home, digest, _sign(release_statement("hello", "1.0", digest), number))
    for number in range(pieces * times if times > 1 else 0):
        attach(home, digest, _decided(digest, number))
    people = {"rita": {"roles": ["release-manager"], "keys": [{"public": pem(KEYS["rita"])}]}}
    trust = {"package": {"role": "release-manager", "threshold": 1}}
    write_document(path / "policy.yml", example_policy(people=people, trust=trust, approvals={"normal": 0}, opinions={}))
    release = {"name": "hello", "version": "1.0", "digest": digest}
    write_document(path / "rfc.yml", rfc(release=release, scope="[:50]", start_date="2027-03-01T20:00:00Z"))
    with Cmdb.open(str(path / "cmdb.sqlite"), create=True) as cmdb:
        cmdb.put_cis([{"name": f"h{number:05}", "class": "server", "site": "ams"} for number in range(_CIS)], "bench")
    return path


def _sources(path: Path, home: str = "") -> Sources:
    return Sources(home or str(path / "dsl"), str(path / "cmdb.sqlite"), str(path / "policy.yml"), NOW, path / "run")


def _clear(path: Path, home: str = "") -> None:
    with _sources(path, home) as sources:
        clearance = clear(sources, str(path / "rfc.yml")).clearance
    if not clearance.granted:
        raise RuntimeError(clearance.text())


@law("pieces of evidence for other changes, 2,000 in the end and none at first", at_most=1.2)
def clear_beside_decisions(aged: Aged) -> float:
    path = aged.part("decided", _decided_for_many)
    return cpu_of(lambda: _clear(path))


@law("pieces of evidence for other changes, 2,000 in the end and none at first", limit=0, unit="locked")
def gate_beside_decisions(aged: Aged) -> float:
    return float(bool(_gate(aged.part("decided", _decided_for_many))))


def _gate(path: Path, home: str = "") -> str:
    with _sources(path, home) as sources:
        return check_wave_start(sources, load_rfc(str(path / "rfc.yml")), Wave(("h00001",))).stop


def _many_packages(path: Path, times: int) -> OciLayout:
    """One release that is there, and an index that has many others."""
    home = OciLayout.create(path / "dsl")
    _release(path / "release", home)
    index = json.loads((home.path / "index.json").read_bytes())
    for number in range(_PACKAGES * times):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        for tag, media_type in ((f"app{number % 30}:{number}.0", MANIFEST), (f"sha256-{digest}", IMAGE_INDEX)):
            entry = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": 700, "annotations": {REF_NAME: tag}}
            index["manifests"].append(entry)
    (home.path / "index.json").write_text(json.dumps(index))
    return OciLayout.open(home.path)


@law("packages, 600 at first", at_most=2)
def attach_beside_packages(aged: Aged) -> float:
    home = aged.part("packages", _many_packages)
    digest, numbers = str(home.resolve("hello", "1.0")), iter(range(1_000_000))
    return cpu_of(lambda: attach(home, digest, _decided(digest, next(numbers))) and None)


def _many_pieces(path: Path, times: int) -> OciLayout:
    home = OciLayout.create(path / "dsl")
    digest = _release(path / "release", home)
    for number in range(50 * times):
        attach(home, digest, _decided(digest, number))
    return home


@law("pieces beside one package, 50 at first", at_most=10, unit="bytes")
def bytes_of_evidence(aged: Aged) -> float:
    home = aged.part("pieces", _many_pieces)
    return float(sum(path.stat().st_size for path in home.path.rglob("*") if path.is_file()))


@law("pieces beside one package, 50 at first", limit=0, unit="blobs")
def unnamed_blobs(aged: Aged) -> float:
    return float(scrub(aged.part("pieces", _many_pieces), None, write=False).unnamed)


def _many_releases(path: Path, times: int) -> OciLayout:
    home = OciLayout.create(path / "dsl")
    with home.batch():
        for number in range(_COPIED * times):
            version = f"1.{number}"
            digest = _release(path / f"release{number}", home, version)
            for piece in range(3):
                attach(home, digest, _decided(digest, piece, version))
    return home


@law("releases of a first dsl_sync, 60 at first", at_most=12)
def sync_of_all(aged: Aged) -> float:
    home, numbers = aged.part("releases", _many_releases), iter(range(1_000_000))

    def sync() -> int:
        target = OciLayout.create(home.path.with_name(f"copy{next(numbers)}"))
        return len(_replicated(home, target))

    return cpu_of(sync, tries=1)


def _replicated(home: OciLayout, target: Any) -> list[dict[str, Any]]:
    copied = replicate(home, target, choose(home, None), lambda _name, _version, _digest: "", write=True)
    if copied.problems:
        raise RuntimeError(copied.problems[0])
    return copied.releases


def _counted(work: Callable[[], object]) -> float:
    """How many requests some work takes."""
    asked, real = [], Wire._send

    def send(self: Wire, method: str, *arguments: Any) -> Any:
        asked.append(method)
        return real(self, method, *arguments)

    Wire._send = send  # type: ignore[method-assign]
    try:
        work()
    finally:
        Wire._send = real  # type: ignore[method-assign]
    return float(len(asked))


@law("releases in a registry, 5 at first: a dsl_sync of nothing new, for each", limit=5, unit="requests")
def sync_of_nothing(aged: Aged) -> float:
    home = OciLayout.create(aged.folder / "few")
    with home.batch():
        for number in range(5 * aged.times):
            digest = _release(aged.folder / f"few{number}", home, f"1.{number}")
            for piece in range(10):
                attach(home, digest, _decided(digest, piece, f"1.{number}"))
    with registry.serve(aged.folder / "registry") as server:
        _replicated(home, create_library(server.address).at_one_moment())
        return _counted(lambda: _replicated(home, create_library(server.address).at_one_moment())) / (5 * aged.times)


@contextlib.contextmanager
def _decided_in_registry(aged: Aged) -> Iterator[tuple[Path, str]]:
    """A release whose evidence is in a registry, and the address of that. Each of the seven pieces that decide is asked for by itself."""
    path = aged.part("decided_few", lambda path, times: _decided_for_many(path, times, 20, 7))
    with registry.serve(path / f"registry{next(_NUMBERS)}") as server:
        _replicated(OciLayout.open(path / "dsl"), create_library(server.address).at_one_moment())
        yield path, server.address


@law("pieces of evidence for other changes in a registry, 200 in the end and none at first: a clear", limit=15, unit="requests")
def clear_in_registry(aged: Aged) -> float:
    with _decided_in_registry(aged) as (path, home):
        return _counted(lambda: _clear(path, home))


@law("pieces of evidence for other changes in a registry, 200 in the end and none at first: a gate", limit=8, unit="requests")
def gate_in_registry(aged: Aged) -> float:
    with _decided_in_registry(aged) as (path, home):
        _clear(path, home)
        held: list[str] = []
        asked = _counted(lambda: held.append(_gate(path, home)))
    if held != [""]:
        raise RuntimeError(held[0])
    return asked
