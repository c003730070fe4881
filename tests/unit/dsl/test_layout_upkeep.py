# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library in a directory is copied, scrubbed, healed and purged, whatever happens meanwhile."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils import files
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import layout as layouts
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import IMAGE_INDEX, MANIFEST, Descriptor, canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import (
    CONFIG,
    INDEX,
    PAYLOAD,
    archive,
    load_package,
    verify_package,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import Copied, choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.salvage import salvage
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import Scrub, scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.walk import walk
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import remember_library, snapshots
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach
from releases import replace_list, spoil, write_release
from securesystemslib.signer import CryptoSigner

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a release into the directory of that name."""
    return lambda folder, files, **changes: write_release(tmp_path / folder, files, **changes)


@pytest.fixture
def stocked(home: OciLayout, make: Make) -> OciLayout:
    """hello 1.0 and 2.0 share a file of documentation and have evidence of their own; bye 1.0 has none."""
    for version in ("1.0", "2.0"):
        refer(home, archive(make(version, {"data": version.encode() * 100}, version=version), home).digest, b"fine")
    archive(make("bye", {"data": b"bye"}, name="bye"), home)
    return home


@pytest.fixture
def replica(tmp_path: Path) -> OciLayout:
    return OciLayout.create(tmp_path / "replica")


def refer(home: OciLayout, subject: str, content: bytes, artifact: str = "application/vnd.in-toto+json") -> str:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact,
        "config": home.put_blob(b"{}", "application/vnd.oci.empty.v1+json").to_json(),
        "layers": [home.put_blob(content + subject.encode(), "application/vnd.dsse.envelope.v1+json").to_json()],
        "subject": Descriptor(MANIFEST, subject, len(home.read_manifest(subject))).to_json(),
    }
    return home.refer(subject, canonical(manifest)).digest


def copy(source: OciLayout, target: OciLayout | None, names: list[str] | None = None, write: bool = True) -> Copied:
    return replicate(source, target, choose(source, names), lambda _name, _version, _digest: "", write)


def blobs(home: OciLayout) -> dict[str, str]:
    """What each file holds, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (home.path / "blobs" / "sha256").iterdir()}


def payload(home: OciLayout, name: str, version: str) -> str:
    return str(json.loads(home.read_manifest(str(home.resolve(name, version))))["layers"][0]["digest"])


def said(found: Scrub) -> dict[str, list[str]]:
    return {damage.digest: [f"{name} {version}" for name, version in damage.releases] for damage in found.damaged}


def purge(home: OciLayout, name: str, version: str, digest: str | None = None) -> int:
    with home.purging(name, version, digest or str(home.resolve(name, version))) as go:
        return go()


# -- what belongs to a package -----------------------------------------------


def test_all_that_belongs_to_a_package_is_found_blobs_before_what_names_them(stocked: OciLayout) -> None:
    package = stocked.releases()["hello", "1.0"]
    opinion = refer(stocked, stocked.referrers(package.digest)[0].digest, b"agreed")
    found = walk(stocked, package)
    assert not found.faults
    seen: set[str] = set()
    for part in found.parts:
        if part.manifest is not None:
            document = json.loads(part.manifest)
            assert {blob["digest"] for blob in [document["config"], *document["layers"]]} <= seen
        seen.add(part.descriptor.digest)
    assert {package.digest, opinion} <= seen
    assert [part.subject for part in found.parts if part.descriptor.digest == package.digest] == [None]


def test_what_refers_in_circles_or_without_end_is_found_once_and_no_deeper_than_anybody_means(stocked: OciLayout) -> None:
    digest = stocked.releases()["bye", "1.0"].digest
    chain = [digest]
    for _link in range(5):
        chain.append(refer(stocked, chain[-1], b"and"))
    found = {part.descriptor.digest for part in walk(stocked, stocked.releases()["bye", "1.0"]).parts}
    assert [link in found for link in chain] == [True, True, True, False, False, False]


def test_a_list_that_leads_to_the_manifest_of_somebody_else_is_told(stocked: OciLayout) -> None:
    one, other = (stocked.releases()["hello", version].digest for version in ("1.0", "2.0"))
    replace_list(stocked, one, stocked.referrers(other))
    assert set(walk(stocked, stocked.releases()["hello", "1.0"]).faults) == {stocked.referrers(other)[0].digest}


# -- a second home -----------------------------------------------------------


def test_a_copy_has_everything_and_a_second_one_nothing_to_do(stocked: OciLayout, replica: OciLayout) -> None:
    first = copy(stocked, replica)
    assert (len(first.releases), first.evidence, first.problems) == (3, 2, [])
    assert replica.releases() == stocked.releases()
    for package in stocked.releases().values():
        assert replica.referrers(package.digest) == stocked.referrers(package.digest)
        verify_package(replica, package.digest)
    assert copy(stocked, replica) == Copied(present=3)


def test_without_writing_it_says_what_it_would_copy(stocked: OciLayout, replica: OciLayout) -> None:
    looked = copy(stocked, replica, write=False)
    assert copy(stocked, None, write=False) == looked
    assert blobs(replica) == {}
    assert copy(stocked, replica) == looked


def test_new_evidence_about_an_old_package_is_copied_and_nothing_else(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica)
    digest = stocked.releases()["hello", "1.0"].digest
    evidence = refer(stocked, digest, b"tested")
    again = copy(stocked, replica)
    assert [release["version"] for release in again.releases] == ["1.0"]
    assert (again.blobs, again.evidence) == (2, 1)
    assert evidence in {entry.digest for entry in replica.referrers(digest)}


def test_only_the_releases_that_are_named_are_copied(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica, ["bye"])
    assert set(replica.releases()) == {("bye", "1.0")}
    with pytest.raises(NotFoundError, match="no release nobody, none"):
        copy(stocked, replica, ["bye", "none", "nobody"])


def test_what_is_there_with_another_digest_stays_and_the_others_are_copied(stocked: OciLayout, replica: OciLayout, make: Make) -> None:
    theirs = archive(make("theirs", {"data": b"theirs"}), replica).digest
    copied = copy(stocked, replica)
    assert replica.resolve("hello", "1.0") == theirs
    assert set(replica.releases()) == {("hello", "1.0"), ("hello", "2.0"), ("bye", "1.0")}
    (problem,) = copied.problems
    assert theirs in problem
    assert str(stocked.resolve("hello", "1.0")) in problem
    assert payload(stocked, "hello", "1.0").removeprefix("sha256:") not in blobs(replica)


@pytest.mark.parametrize("other", ["payload", "index"])
def test_a_payload_that_is_another_tree_than_the_index_says_is_named_and_does_not_travel(
    stocked: OciLayout, replica: OciLayout, other: str
) -> None:
    """Each of its blobs is what its digest says."""
    digest = str(stocked.resolve("hello", "1.0"))
    whole = load_package(stocked, digest)
    document = json.loads(whole.manifest_bytes)
    if other == "payload":
        content = stocked.read_blob(whole.payload.digest, 1 << 20).replace(b"0000644", b"0000600", 1)
        document["layers"][0] |= stocked.put_blob(content, PAYLOAD).to_json()
    else:
        files = json.loads(whole.index_bytes)
        files["files"].pop()
        document["layers"][-1] |= stocked.put_blob(canonical(files), INDEX).to_json()
    config = json.loads(whole.config_bytes) | {"name": "forged"}
    document["config"] |= stocked.put_blob(canonical(config), CONFIG).to_json()
    forged = stocked.put_manifest(canonical(document | {"annotations": {}}))
    stocked.tag("forged", "1.0", forged)
    done = scrub(stocked, None, write=False)
    assert [(damage.digest, damage.releases) for damage in done.damaged] == [(forged.digest, (("forged", "1.0"),))]
    assert "are not one tree" in done.damaged[0].what
    copied = copy(stocked, replica)
    assert ["forged 1.0 was not copied: the payload and the file index" in problem for problem in copied.problems] == [True]
    assert replica.resolve("forged", "1.0") is None


def test_damaged_bytes_do_not_travel(stocked: OciLayout, replica: OciLayout) -> None:
    spoil(stocked, payload(stocked, "hello", "1.0"))
    copied = copy(stocked, replica)
    assert payload(stocked, "hello", "1.0") in copied.problems[0]
    assert set(replica.releases()) == {("hello", "2.0"), ("bye", "1.0")}
    assert all(name == digest for name, digest in blobs(replica).items())


def test_a_blob_that_grew_without_end_does_not_travel(stocked: OciLayout, replica: OciLayout) -> None:
    spoil(stocked, payload(stocked, "bye", "1.0"), b"x" * 5_000_000)
    assert len(copy(stocked, replica, ["bye"]).problems) == 1
    assert replica.releases() == {}


def test_damaged_evidence_is_named_and_the_package_is_copied(stocked: OciLayout, replica: OciLayout) -> None:
    evidence = stocked.referrers(stocked.releases()["hello", "1.0"].digest)[0].digest
    spoil(stocked, evidence, b"{}")
    (problem,) = copy(stocked, replica, ["hello"]).problems
    assert evidence in problem
    assert set(replica.releases()) == {("hello", "1.0"), ("hello", "2.0")}


def test_a_release_is_not_copied_onto_what_was_damaged_there_before(stocked: OciLayout, replica: OciLayout) -> None:
    digest = payload(stocked, "hello", "1.0")
    spoil(replica, replica.put_blob(stocked.read_blob(digest, 1 << 20), "x/y").digest)
    assert not copy(stocked, replica).problems
    whole(replica)


def test_what_is_refused_is_not_copied_and_named(stocked: OciLayout, replica: OciLayout) -> None:
    copied = replicate(stocked, replica, choose(stocked, None), lambda _name, version, _digest: "nobody signed" * (version == "2.0"), True)
    assert copied.problems == ["hello 2.0 was not copied: nobody signed"]
    assert set(replica.releases()) == {("hello", "1.0"), ("bye", "1.0")}


# -- scrubbing ---------------------------------------------------------------


def test_a_library_in_order_is_looked_at_as_a_whole(stocked: OciLayout) -> None:
    found = scrub(stocked, None, write=True)
    sizes = [path.stat().st_size for path in (stocked.path / "blobs" / "sha256").iterdir()]
    assert (found.damaged, found.blobs, found.size) == ([], len(sizes), sum(sizes))
    assert found.unnamed == 0 or found.unnamed_size < sum(sizes)


def test_a_package_under_the_name_of_another_release_is_named_and_does_not_travel(stocked: OciLayout, replica: OciLayout) -> None:
    """As a tool leaves it that tags what it copies anew."""
    package = stocked.releases()["hello", "1.0"]
    for name, version in (("hello", "latest"), ("other", "1.0")):
        stocked.tag(name, version, package)
    found = scrub(stocked, None, write=True)
    assert (set(found.misnamed), found.damaged) == ({("hello", "latest"), ("other", "1.0")}, [])
    sentence = "what the DSL keeps as other 1.0 is the package of hello 1.0; take that tag away"
    assert found.misnamed["other", "1.0"] == sentence
    copied = copy(stocked, replica)
    assert [problem.partition(" was not copied")[0] for problem in copied.problems] == ["hello latest", "other 1.0"]
    assert f"other 1.0 was not copied: {sentence}" in copied.problems
    assert set(replica.releases()) == {("hello", "1.0"), ("hello", "2.0"), ("bye", "1.0")}
    # Else it would be missed once somebody has taken the tag away.
    url = str(replica.path.with_name("cmdb.sqlite"))
    with Cmdb.open(url, create=True):
        pass
    assert remember_library(url, stocked, None, datetime(2026, 3, 1, tzinfo=UTC), found.misnamed) == []
    with Cmdb.open(url) as cmdb:
        assert set(snapshots(cmdb)) == {("hello", "1.0"), ("hello", "2.0"), ("bye", "1.0")}


def test_each_damaged_or_missing_blob_is_named_with_the_releases_it_touches(stocked: OciLayout) -> None:
    readme = json.loads(stocked.read_manifest(stocked.releases()["bye", "1.0"].digest))["layers"][1]["digest"]
    spoil(stocked, readme)
    spoil(stocked, payload(stocked, "hello", "2.0")).unlink()
    manifest = stocked.releases()["hello", "1.0"].digest
    spoil(stocked, manifest)
    found = scrub(stocked, None, write=True)
    assert said(found)[readme] == ["bye 1.0", "hello 2.0"]  # and hello 1.0, but nobody can read that any more
    assert said(found)[payload(stocked, "hello", "2.0")] == ["hello 2.0"]
    assert said(found)[manifest] == ["hello 1.0"]
    assert {damage.what for damage in found.damaged} == {"damaged", "missing"}


def test_every_single_blob_counts(stocked: OciLayout, replica: OciLayout) -> None:
    """Whichever is damaged: it is seen, healed from the replica, and all is as it was."""
    copy(stocked, replica)
    before = blobs(stocked)
    for name in before:
        content = (stocked.path / "blobs" / "sha256" / name).read_bytes()
        spoil(stocked, f"sha256:{name}", content[:-1] + bytes([content[-1] ^ 1]))
        looked = scrub(stocked, replica, write=False)
        assert looked.healed, name
        assert blobs(stocked) != before
        assert not scrub(stocked, replica, write=True).damaged, name
        again = scrub(stocked, None, write=True)
        assert not again.damaged, name
        assert all(now == digest for now, digest in blobs(stocked).items())
    assert blobs(stocked).items() >= blobs(replica).items()


def test_every_single_blob_that_is_lost_comes_back(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica)
    needed = set(blobs(replica))
    for name in needed:
        (stocked.path / "blobs" / "sha256" / name).unlink()
        assert scrub(stocked, None, write=True).damaged, name
        assert not scrub(stocked, replica, write=True).damaged, name
        assert needed <= set(blobs(stocked))


def test_blobs_that_nothing_names_are_counted_and_looked_at(stocked: OciLayout, replica: OciLayout) -> None:
    before = scrub(stocked, None, write=True)
    stray = stocked.put_blob(b"left over", "text/plain").digest
    (stocked.path / "blobs" / "sha256" / ".new-0011").write_bytes(b"half")
    found = scrub(stocked, None, write=True)
    assert (found.unnamed - before.unnamed, found.unnamed_size - before.unnamed_size, found.damaged) == (2, 13, [])
    spoil(stocked, stray)
    assert said(scrub(stocked, None, write=True)) == {stray: []}
    copy(stocked, replica)
    assert not scrub(stocked, replica, write=True).damaged
    assert stray.removeprefix("sha256:") not in blobs(stocked)


def test_what_a_killed_writer_left_is_swept_unless_somebody_writes(stocked: OciLayout) -> None:
    left = stocked.blobs / ".new-0011"
    left.write_bytes(b"half")
    scrub(stocked, None, write=False)
    with stocked.writing():  # perhaps that very file
        scrub(stocked, None, write=True)
    assert left.exists()
    before = blobs(stocked)
    assert not scrub(stocked, None, write=True).damaged
    before.pop(".new-0011")
    assert blobs(stocked) == before


def test_what_can_not_be_thrown_away_is_told_and_the_rest_is_healed(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica)
    digest = payload(stocked, "hello", "1.0")
    spoil(stocked, digest)
    (stocked.path / "blobs" / "sha256" / ("a" * 64)).mkdir()
    found = scrub(stocked, replica, write=True)
    assert said(found) == {f"sha256:{'a' * 64}": []}
    assert "can't remove" in found.damaged[0].what
    assert [damage.digest for damage in found.healed] == [digest]


def test_what_somebody_put_right_meanwhile_is_not_thrown_away(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica)
    stray = stocked.put_blob(b"left over", "text/plain").digest
    path = spoil(stocked, stray)
    with stocked.writing():
        assert said(scrub(stocked, replica, write=True)) == {stray: []}
    path.write_bytes(b"left over")
    stocked.discard_damaged(stray)
    assert path.exists()


def test_nothing_is_thrown_away_while_nobody_knows_what_is_needed(stocked: OciLayout, replica: OciLayout) -> None:
    manifest, content = stocked.releases()["hello", "1.0"].digest, payload(stocked, "hello", "1.0")
    spoil(stocked, manifest)
    path = spoil(stocked, content)
    assert len(scrub(stocked, replica, write=True).damaged) == 2
    assert path.exists()


def test_evidence_that_only_we_have_is_listed_again(stocked: OciLayout, replica: OciLayout) -> None:
    copy(stocked, replica)
    digest = stocked.releases()["hello", "1.0"].digest
    mine = refer(stocked, digest, b"since")
    theirs = refer(replica, digest, b"there")
    both = {*(entry.digest for entry in stocked.referrers(digest)), theirs}
    (listing,) = (found.digest for tag, found in stocked.tags().items() if tag == digest.replace(":", "-"))
    spoil(stocked, listing, b"x")
    assert not scrub(stocked, replica, write=True).damaged
    assert {entry.digest for entry in stocked.referrers(digest)} == both
    assert mine in both


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_planted_in_place_of_a_blob_is_neither_followed_nor_waited_for(stocked: OciLayout, replica: OciLayout, kind: str) -> None:
    copy(stocked, replica)
    digest = payload(stocked, "hello", "1.0")
    path = spoil(stocked, digest)
    content = replica.read_blob(digest, 1 << 20)
    path.unlink()
    if kind == "link":
        (stocked.path / "elsewhere").write_bytes(content)
        path.symlink_to(stocked.path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert said(scrub(stocked, None, write=True)) == {digest: ["hello 1.0"]}
    with pytest.raises(IntegrityError, match=digest):
        verify_package(stocked, str(stocked.resolve("hello", "1.0")))
    left = said(scrub(stocked, replica, write=True))
    assert left == ({digest: ["hello 1.0"]} if kind == "directory" else {})


def test_a_manifest_that_lies_about_a_size_is_named(stocked: OciLayout) -> None:
    document = json.loads(stocked.read_manifest(stocked.releases()["bye", "1.0"].digest))
    document["layers"][1]["size"] += 1
    stocked.tag("bye", "1.1", stocked.put_manifest(canonical(document)))
    liar = {document["layers"][1]["digest"]: ["bye 1.0", "bye 1.1", "hello 1.0", "hello 2.0"]}
    assert said(scrub(stocked, None, write=True)) == liar
    assert said(scrub(stocked, OciLayout.create(stocked.path.with_name("empty")), write=True)) == liar


def test_what_is_purged_meanwhile_is_not_missed(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OciLayout.files

    def files_after_a_purge(self: OciLayout) -> list[str]:
        if self.resolve("hello", "1.0"):
            purge(self, "hello", "1.0")
        return real(self)

    monkeypatch.setattr(OciLayout, "files", files_after_a_purge)
    assert not scrub(stocked, None, write=True).damaged
    assert not stocked.resolve("hello", "1.0")


# -- an index that is lost ---------------------------------------------------


@pytest.mark.parametrize("harm", [b"", b"{", b"{}", None])
def test_a_lost_index_comes_back_from_a_replica_with_all_evidence(
    stocked: OciLayout, replica: OciLayout, make: Make, harm: bytes | None
) -> None:
    copy(stocked, replica)
    refer(stocked, stocked.releases()["hello", "1.0"].digest, b"since")
    before = stocked.releases(), {digest.digest: set(map(str, stocked.referrers(digest.digest))) for digest in stocked.releases().values()}
    late = archive(make("late", {"data": b"late"}, name="late"), stocked).digest
    index = stocked.path / "index.json"
    index.unlink() if harm is None else index.write_bytes(harm)
    salvaged = salvage(str(stocked.path), replica)
    assert salvaged is not None
    layout, problems = salvaged
    assert before == (layout.releases(), {one.digest: set(map(str, layout.referrers(one.digest))) for one in layout.releases().values()})
    assert [late in problem for problem in problems] == [True]
    assert not scrub(layout, None, write=True).damaged
    assert len(list(stocked.path.glob("index.json.damaged-*"))) == (harm is not None)


def test_an_index_in_order_is_never_renewed(stocked: OciLayout, replica: OciLayout) -> None:
    index = (stocked.path / "index.json").read_bytes()
    assert salvage(str(stocked.path), replica) is None
    assert (stocked.path / "index.json").read_bytes() == index
    assert salvage(str(stocked.path / "blobs"), replica) is None


# -- purging -----------------------------------------------------------------


def test_a_purge_takes_what_nothing_else_needs_and_leaves_the_rest_whole(stocked: OciLayout) -> None:
    refer(stocked, stocked.referrers(stocked.releases()["hello", "1.0"].digest)[0].digest, b"agreed")
    gone = {part.descriptor.digest for part in walk(stocked, stocked.releases()["hello", "1.0"]).parts}
    stay = {
        part.descriptor.digest
        for key, package in stocked.releases().items()
        if key != ("hello", "1.0")
        for part in walk(stocked, package).parts
    }
    before = sum(path.stat().st_size for path in (stocked.path / "blobs" / "sha256").iterdir())
    freed = purge(stocked, "hello", "1.0")
    left = {f"sha256:{name}" for name in blobs(stocked)}
    assert set(stocked.releases()) == {("hello", "2.0"), ("bye", "1.0")}
    assert gone & left == gone & stay
    assert stay <= left
    assert freed == before - sum(path.stat().st_size for path in (stocked.path / "blobs" / "sha256").iterdir())
    assert not scrub(stocked, None, write=True).damaged


def test_what_was_purged_can_be_archived_again(stocked: OciLayout, tmp_path: Path) -> None:
    digest = str(stocked.resolve("hello", "1.0"))
    purge(stocked, "hello", "1.0")
    again = archive(tmp_path / "1.0", stocked)
    assert (again.digest, again.created) == (digest, True)
    verify_package(stocked, digest)
    assert stocked.referrers(digest) == []


def test_nothing_is_purged_under_another_digest(stocked: OciLayout) -> None:
    before = blobs(stocked)
    with pytest.raises(ConflictError, match="nothing was purged"):
        purge(stocked, "hello", "1.0", stocked.resolve("hello", "2.0"))
    assert blobs(stocked) == before


def test_nothing_is_purged_while_nobody_knows_what_another_package_needs(stocked: OciLayout) -> None:
    spoil(stocked, stocked.releases()["bye", "1.0"].digest)
    before = blobs(stocked)
    with pytest.raises(IntegrityError, match="damaged"):
        purge(stocked, "hello", "1.0")
    assert blobs(stocked) == before
    assert stocked.resolve("hello", "1.0")


def test_nothing_is_purged_beside_what_can_not_be_followed(stocked: OciLayout) -> None:
    index = json.loads((stocked.path / "index.json").read_bytes())
    index["manifests"].append(
        {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": payload(stocked, "hello", "1.0"), "size": 1}
    )
    (stocked.path / "index.json").write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match="can't be followed"):
        purge(stocked, "hello", "1.0")


def test_what_others_put_into_the_layout_stays(stocked: OciLayout) -> None:
    """An index without a tag that names a blob of the release that is purged."""
    digest = payload(stocked, "hello", "1.0")
    manifest = stocked.put_manifest(
        canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": stocked.put_blob(b"c", "x/y").to_json(),
                "layers": [Descriptor("x/y", digest, 1).to_json()],
            }
        )
    )
    nested = stocked.put_blob(canonical({"schemaVersion": 2, "manifests": [manifest.to_json()]}), IMAGE_INDEX)
    index = json.loads((stocked.path / "index.json").read_bytes())
    index["manifests"].append(nested.to_json())
    (stocked.path / "index.json").write_text(json.dumps(index))
    purge(stocked, "hello", "1.0")
    assert {digest[7:], manifest.digest[7:], nested.digest[7:]} <= set(blobs(stocked))


def test_a_list_that_leads_elsewhere_does_not_make_a_purge_take_the_evidence_of_others(stocked: OciLayout) -> None:
    one, other = (stocked.releases()["hello", version].digest for version in ("1.0", "2.0"))
    evidence = stocked.referrers(other)
    replace_list(stocked, one, [Descriptor(MANIFEST, other, 1, artifact_type="x/y"), *evidence])
    purge(stocked, "hello", "1.0")
    assert stocked.referrers(other) == evidence
    assert not scrub(stocked, None, write=True).damaged


def test_a_release_that_refers_to_the_one_that_is_purged_keeps_what_it_has(stocked: OciLayout) -> None:
    subject = stocked.releases()["hello", "1.0"]
    document = json.loads(stocked.read_manifest(stocked.releases()["bye", "1.0"].digest)) | {"subject": subject.to_json()}
    successor = stocked.refer(subject.digest, canonical(document))
    stocked.tag("successor", "1.0", successor)
    evidence = refer(stocked, successor.digest, b"fine")
    purge(stocked, "hello", "1.0")
    assert [entry.digest for entry in stocked.referrers(successor.digest)] == [evidence]
    assert not scrub(stocked, None, write=True).damaged


def test_a_purge_and_writers_keep_out_of_each_others_way(stocked: OciLayout, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = blobs(stocked)
    with stocked.writing(), stocked.writing(), pytest.raises(ConflictError, match="somebody is writing"):
        purge(stocked, "hello", "1.0")
    assert blobs(stocked) == before
    held: list[bool] = []

    def watch(self: OciLayout, source: object, media_type: str, wanted: str | None = None) -> Descriptor:
        with pytest.raises(BlockingIOError), files.locked(self.path / ".purge.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            pass
        held.append(True)
        return put(self, source, media_type, wanted)  # type: ignore[arg-type]

    put = OciLayout.put_blob
    monkeypatch.setattr(OciLayout, "put_blob", watch)
    archive(release.rename(release.with_name("new")), OciLayout.create(stocked.path.with_name("new-dsl")))
    counts = [len(held)]
    copy(stocked, OciLayout.create(stocked.path.with_name("copy")))
    counts.append(len(held))
    statement = release_statement("bye", "1.0", str(stocked.resolve("bye", "1.0")))
    attach(stocked, statement.digest, sign(statement, CryptoSigner.generate_ed25519(), datetime.now(UTC)))
    counts.append(len(held))
    assert 0 < counts[0] < counts[1] < counts[2]


# -- crashes and full disks --------------------------------------------------


class CutError(BaseException):
    """As if the machine stopped here."""


def cut(change: Callable[..., object], changes: Iterator[int], stop: int) -> Callable[..., object]:
    """``change``, which the machine does not live to see when ``stop`` changes have been made."""

    def call(*arguments: object, **options: object) -> object:
        if next(changes) >= stop:  # and after that: what is dead cleans nothing up either
            raise CutError
        return change(*arguments, **options)

    return call


def cuts(monkeypatch: pytest.MonkeyPatch, home: OciLayout, work: Callable[[], object]) -> Iterator[int]:
    """Stop ``work`` dead before its first change to a directory, and then, from the same beginning, before its second, and so on."""
    pristine = home.path.with_name("pristine")
    shutil.copytree(home.path, pristine)
    for stop in range(100):
        shutil.rmtree(home.path)
        shutil.copytree(pristine, home.path)
        changes = itertools.count()
        with monkeypatch.context() as patched:
            for name in ("rename", "replace", "unlink"):
                patched.setattr(Path, name, cut(getattr(Path, name), changes, stop))
            try:
                work()
            except CutError:
                pass
            else:
                assert stop > 3, "it changed nothing"
                return
        yield stop
    raise AssertionError("it never ends")


def pour_into(room: int, real: Callable[..., object]) -> Callable[..., object]:
    """:func:`files.copy_hashing` for a disk with room for so many chunks."""
    written = itertools.count()

    def pour(content: object, put: Callable[[bytes], object]) -> object:
        def put_some(chunk: bytes) -> object:
            if next(written) >= room:
                put(chunk[: len(chunk) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return put(chunk)

        return real(content, put_some)

    return pour


def whole(home: OciLayout) -> OciLayout:
    """Whatever is visible is whole, evidence too."""
    again = OciLayout.open(home.path)
    for package in again.releases().values():
        verify_package(again, package.digest)
    assert not scrub(again, None, write=False).damaged
    return again


def test_an_archiving_that_stops_anywhere_leaves_no_half_package_and_the_next_one_finishes(
    stocked: OciLayout, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stocked.releases()
    source = make("next", {"data": b"next"}, version="3.0")
    for _stop in cuts(monkeypatch, stocked, lambda: archive(source, stocked)):
        assert whole(stocked).releases().items() >= before.items()
        archive(source, stocked)
        assert set(whole(stocked).releases()) == {*before, ("hello", "3.0")}


def test_signing_that_stops_anywhere_harms_nothing_and_the_next_one_finishes(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = stocked.releases()["hello", "1.0"].digest
    before = {entry.digest for entry in stocked.referrers(digest)}
    for _stop in cuts(monkeypatch, stocked, lambda: refer(stocked, digest, b"tested")):
        assert before <= {entry.digest for entry in whole(stocked).referrers(digest)}
        refer(stocked, digest, b"tested")
        assert len(whole(stocked).referrers(digest)) == len(before) + 1


def test_a_copy_that_stops_anywhere_shows_only_whole_packages_with_their_evidence_and_goes_on(
    stocked: OciLayout, replica: OciLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = -1
    for _stop in cuts(monkeypatch, replica, lambda: copy(stocked, replica)):
        for package in whole(replica).releases().values():
            assert replica.referrers(package.digest) == stocked.referrers(package.digest)
        rest = copy(stocked, replica).blobs
        assert copied == -1 or rest <= copied
        copied = rest
        assert whole(replica).releases() == stocked.releases()


def test_a_purge_that_stops_anywhere_leaves_no_half_package_and_the_next_one_finishes(
    stocked: OciLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = str(stocked.resolve("hello", "1.0"))
    refer(stocked, stocked.referrers(digest)[0].digest, b"agreed")
    end = shutil.copytree(stocked.path, stocked.path.with_name("end"))
    purge(OciLayout.open(end), "hello", "1.0")
    for _stop in cuts(monkeypatch, stocked, lambda: purge(stocked, "hello", "1.0", digest)):
        assert whole(stocked).releases().items() >= OciLayout.open(end).releases().items()
        purge(stocked, "hello", "1.0", digest)
        assert blobs(whole(stocked)).items() >= blobs(OciLayout.open(end)).items()
        # At most a list that nothing names any more, and there is one after each piece of evidence anyway.
        leftovers = [f"sha256:{name}" for name in blobs(stocked).keys() - blobs(OciLayout.open(end)).keys() if not name.startswith(".new-")]
        assert all(json.loads(stocked.read_manifest(left))["mediaType"] == IMAGE_INDEX for left in leftovers)


def test_healing_that_stops_anywhere_harms_nothing_and_the_next_one_finishes(
    stocked: OciLayout, replica: OciLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(stocked, replica)
    spoil(stocked, payload(stocked, "hello", "1.0"))
    spoil(stocked, stocked.releases()["hello", "2.0"].digest).unlink()
    for _stop in cuts(monkeypatch, stocked, lambda: scrub(stocked, replica, write=True)):
        assert not scrub(stocked, replica, write=True).damaged
        assert whole(stocked).releases() == replica.releases()


@pytest.mark.parametrize("work", ["archive", "sign", "copy"])
def test_a_full_disk_is_told_harms_nothing_and_leaves_nothing_behind(
    stocked: OciLayout, replica: OciLayout, make: Make, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    source = make("next", {"data": b"next"}, version="3.0")
    digest = stocked.releases()["hello", "1.0"].digest
    target = replica if work == "copy" else stocked
    before = target.releases()

    def do() -> object:
        if work == "archive":
            return archive(source, stocked)
        if work == "sign":
            return refer(stocked, digest, b"tested")
        copied = copy(stocked, replica)
        if copied.problems:
            raise TidegateError(copied.problems[0])
        return copied

    for room in range(50):
        with monkeypatch.context() as patched:
            patched.setattr(files, "copy_hashing", pour_into(room, files.copy_hashing))
            try:
                do()
            except TidegateError as error:
                assert "No space left on device" in str(error)  # noqa: PT017 - it is raised in all rounds but the last
            else:
                assert room > 2
                break
        assert whole(target).releases().items() >= before.items()
        assert not list(target.path.rglob(".new-*"))
    do()
    whole(target)


# -- lists of what refers to a package ---------------------------------------


def lists(home: OciLayout) -> list[str]:
    """The blobs that are lists of referrers."""
    return [name for name in blobs(home) if b'"manifests":' in (home.blobs / name).read_bytes()[:400]]


def tomorrow() -> float:
    """As if all of it had been there for a day: nobody can set when a file came."""
    return time.time() + 86400


@pytest.fixture
def large(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were so many releases that a piece of evidence is no reason to write the index."""
    monkeypatch.setattr(layouts, "_AT_ONCE", 0)
    monkeypatch.setattr(layouts, "_SHARE", 0)


@pytest.mark.usefixtures("large")
def test_evidence_is_kept_without_a_look_at_the_index(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """That has an entry for each release, so each piece would cost as much as there are releases."""
    digest = stocked.releases()["hello", "1.0"].digest
    index = (stocked.path / "index.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(OciLayout, "_read_index", lambda _self: pytest.fail("it is read"))
        found = [refer(stocked, digest, str(number).encode()) for number in range(3)]
    assert (stocked.path / "index.json").read_bytes() == index
    assert {entry.digest for entry in OciLayout.open(stocked.path).referrers(digest)} >= set(found)


@pytest.mark.usefixtures("large")
def test_bytes_grow_with_the_pieces_and_nothing_is_left_that_nothing_names(stocked: OciLayout) -> None:
    digest = stocked.releases()["hello", "1.0"].digest

    def size() -> int:
        return sum(path.stat().st_size for path in stocked.path.rglob("*") if path.is_file())

    sizes = [size()]
    for turn in range(4):
        for number in range(10):
            refer(stocked, digest, f"{turn} {number}".encode())
        stocked.publish()
        assert scrub(stocked, None, write=False).unnamed == 0
        assert len(lists(stocked)) == 2  # of hello 1.0 and of hello 2.0
        sizes.append(size())
    grown = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(grown[1:]) < 1.1 * min(grown[1:])


def test_in_a_small_library_other_tools_find_a_piece_at_once(stocked: OciLayout) -> None:
    package = stocked.releases()["bye", "1.0"]
    piece = refer(stocked, package.digest, b"one")
    listing = stocked.tags()[package.digest.replace(":", "-")]
    assert [entry["digest"] for entry in json.loads(stocked.read_blob(listing.digest, 1 << 20))["manifests"]] == [piece]
    assert not stocked._recent.subjects()


def test_the_index_is_written_as_often_as_what_is_new_makes_up_for(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_AT_ONCE", 0)
    written: list[int] = []
    real = OciLayout._write_index
    monkeypatch.setattr(OciLayout, "_write_index", lambda self, index: (written.append(len(canonical(index))), real(self, index)))
    digest = stocked.releases()["bye", "1.0"].digest
    noted = 0
    for number in range(60):
        noted += len(canonical(stocked.referrers(digest)[0].to_json())) if number else 200
        refer(stocked, digest, str(number).encode())
    assert 2 < len(written) < 30
    assert sum(written) < 5 * noted


@pytest.mark.usefixtures("large")
def test_other_tools_find_in_the_index_what_was_published(stocked: OciLayout) -> None:
    package = stocked.releases()["hello", "1.0"]
    late = refer(stocked, package.digest, b"late")
    stocked.publish()
    listing = stocked.tags()[package.digest.replace(":", "-")]
    assert late in {entry["digest"] for entry in json.loads(stocked.read_blob(listing.digest, 1 << 20))["manifests"]}
    assert not stocked._recent.subjects()


@pytest.mark.usefixtures("large")
def test_a_list_that_another_tool_brought_counts_together_with_what_is_new(stocked: OciLayout) -> None:
    digest = stocked.releases()["bye", "1.0"].digest
    theirs = refer(stocked, digest, b"theirs")
    stocked.publish()
    ours = refer(stocked, digest, b"ours")
    assert [entry.digest for entry in stocked.referrers(digest)] == [theirs, ours]


@pytest.mark.usefixtures("large")
def test_who_reads_while_lists_are_published_misses_nothing(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is read before what is new is entered in it, or the list is replaced between the index and the list."""
    digest = stocked.releases()["hello", "1.0"].digest
    refer(stocked, digest, b"one")
    stocked.publish()
    wanted = {entry.digest for entry in stocked.referrers(digest)} | {refer(stocked, digest, b"two")}
    reader, read_tags, read_blob = OciLayout.open(stocked.path), OciLayout.tags, OciLayout.read_blob

    def tags_and_then_a_writer(self: OciLayout) -> object:
        with monkeypatch.context() as patched:
            patched.setattr(OciLayout, "tags", read_tags)
            stocked.publish()
        return read_tags(self)

    with monkeypatch.context() as patched:
        patched.setattr(OciLayout, "tags", tags_and_then_a_writer)
        assert {entry.digest for entry in reader.referrers(digest)} == wanted
    wanted.add(refer(stocked, digest, b"three"))

    def a_writer_and_then_blob(self: OciLayout, wanted: str, limit: int) -> bytes:
        if self is reader:
            stocked.publish()
        return read_blob(self, wanted, limit)

    monkeypatch.setattr(OciLayout, "read_blob", a_writer_and_then_blob)
    assert {entry.digest for entry in reader.referrers(digest)} == wanted


@pytest.mark.usefixtures("large")
def test_a_line_that_was_never_finished_is_no_piece_and_the_next_one_takes_its_place(stocked: OciLayout) -> None:
    digest = stocked.releases()["bye", "1.0"].digest
    first = refer(stocked, digest, b"one")
    path = stocked.path / "referrers" / digest[7:]
    with path.open("ab") as stream:
        stream.write(path.read_bytes()[:40])
    assert [entry.digest for entry in stocked.referrers(digest)] == [first]
    second = refer(stocked, digest, b"two")
    assert [entry.digest for entry in stocked.referrers(digest)] == [first, second]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.usefixtures("large")
def test_what_is_new_and_damaged_is_listed_again(stocked: OciLayout, replica: OciLayout) -> None:
    digest = stocked.releases()["bye", "1.0"].digest
    piece = refer(stocked, digest, b"one")
    copy(stocked, replica)
    (stocked.path / "referrers" / digest[7:]).write_bytes(b"{\n")
    with pytest.raises(IntegrityError):
        stocked.referrers(digest)
    stocked.publish()  # and that stays to be seen
    assert said(scrub(stocked, None, write=True)) == {digest.replace(":", "-"): ["bye 1.0"]}
    assert not scrub(stocked, replica, write=True).damaged
    assert [entry.digest for entry in stocked.referrers(digest)] == [piece]


@pytest.mark.usefixtures("large")
def test_publishing_that_stops_anywhere_loses_no_piece_and_the_next_one_finishes(
    stocked: OciLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = stocked.releases()["hello", "1.0"].digest
    refer(stocked, digest, b"one")
    stocked.publish()
    refer(stocked, digest, b"two")
    wanted = stocked.referrers(digest)
    for _stop in cuts(monkeypatch, stocked, stocked.publish):
        assert whole(stocked).referrers(digest) == wanted
        stocked.publish()
        assert not scrub(stocked, None, write=True, clock=tomorrow).damaged
        assert whole(stocked).referrers(digest) == wanted
        assert scrub(stocked, None, write=False).unnamed == 0


def test_a_list_that_somebody_else_made_anew_meanwhile_stays_as_it_is(stocked: OciLayout) -> None:
    """Who heals it knows what is to go into it from long before."""
    digest = stocked.releases()["hello", "1.0"].digest
    (first,) = known = stocked.referrers(digest)
    spoil(stocked, stocked.tags()[digest.replace(":", "-")].digest)
    stocked.relist(digest, known)
    assert stocked.referrers(digest) == known
    stocked.withdraw(digest, [first.digest], write=True)
    late = refer(stocked, digest, b"late")
    stocked.relist(digest, known)
    assert [entry.digest for entry in stocked.referrers(digest)] == [late]


# -- what nothing names ------------------------------------------------------


def test_what_nothing_names_is_collected_once_it_is_old(stocked: OciLayout) -> None:
    before = blobs(stocked)
    stray = stocked.put_blob(b"left over", "text/plain").digest
    found = scrub(stocked, None, write=True)  # another tool may be about to name it
    assert (found.unnamed, found.collected) == (1, 0)
    looked = scrub(stocked, None, write=False, clock=tomorrow)
    assert (looked.unnamed, looked.collected, looked.collected_size) == (1, 1, 9)
    assert stray[7:] in blobs(stocked)
    found = scrub(stocked, None, write=True, clock=tomorrow)
    assert (found.unnamed, found.collected, found.collected_size) == (0, 1, 9)
    assert set(blobs(whole(stocked))) == set(before) | {name for name in blobs(stocked) if name in lists(stocked)}


def test_what_came_just_now_with_an_old_time_is_not_collected(stocked: OciLayout) -> None:
    """As rsync -a and cp -p bring it, the blobs before the index."""
    stray = stocked.blobs / stocked.put_blob(b"on its way", "text/plain").digest[7:]
    os.utime(stray, (1, 1))
    assert scrub(stocked, None, write=True).collected == 0
    assert stray.exists()


def test_what_a_writer_is_about_to_name_is_not_collected(stocked: OciLayout, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it put nor what it found there, whatever its age."""
    source, real, looked = make("next", {"data": b"next"}, version="3.0"), OciLayout.put_manifest, []

    def put_manifest_after_a_scrub(self: OciLayout, content: bytes) -> Descriptor:
        found = scrub(OciLayout.open(self.path), None, write=True, clock=tomorrow)
        looked.append((found.unnamed > 0, found.collected))
        return real(self, content)

    monkeypatch.setattr(OciLayout, "put_manifest", put_manifest_after_a_scrub)
    digest = archive(source, stocked).digest
    assert looked == [(True, 0)]
    verify_package(stocked, digest)


@pytest.mark.usefixtures("large")
def test_a_purge_leaves_what_evidence_needs_that_is_in_no_index_yet(stocked: OciLayout) -> None:
    purge(stocked, "hello", "2.0")
    package = stocked.releases()["bye", "1.0"]
    refer(stocked, package.digest, b"one")
    purge(stocked, "hello", "1.0")
    assert not walk(stocked, package).faults
    assert not scrub(stocked, None, write=False).damaged


def test_what_could_be_a_release_is_not_collected(stocked: OciLayout) -> None:
    """Its tag may have been lost, and nobody but its owner knows."""
    digest = stocked.releases()["hello", "1.0"].digest
    evidence = [entry.digest for entry in stocked.referrers(digest)]
    stocked.publish()
    index = json.loads((stocked.path / "index.json").read_bytes())
    index["manifests"] = [entry for entry in index["manifests"] if digest not in str(entry) and digest.replace(":", "-") not in str(entry)]
    (stocked.path / "index.json").write_text(json.dumps(index))
    found = scrub(stocked, None, write=True, clock=tomorrow)
    assert [one.digest for one in found.untagged] == [digest]
    verify_package(stocked, digest)
    assert [entry.digest for entry in stocked.referrers(digest)] == evidence


@pytest.mark.usefixtures("large")
def test_evidence_that_a_killed_writer_left_in_no_list_is_listed(stocked: OciLayout) -> None:
    digest = stocked.releases()["bye", "1.0"].digest
    piece = refer(stocked, digest, b"one")
    about = refer(stocked, piece, b"agreed")
    for subject in (digest, piece):
        (stocked.path / "referrers" / subject[7:]).unlink()
    found = scrub(stocked, None, write=True, clock=tomorrow)
    assert {damage.digest: damage.what for damage in found.healed} == dict.fromkeys((piece, about), "in no list of evidence")
    assert [entry.digest for entry in stocked.referrers(digest)] == [piece]
    assert [entry.digest for entry in stocked.referrers(piece)] == [about]
    assert not scrub(stocked, None, write=True).healed


def test_why_nothing_was_collected_is_said(stocked: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = stocked.put_blob(b"left over", "text/plain").digest
    with stocked.writing():
        found = scrub(stocked, None, write=True, clock=tomorrow)
        assert not scrub(stocked, None, write=True).problems  # there was nothing to do
    (busy,) = found.problems
    assert "somebody is writing" in busy
    assert (found.unnamed, found.collected, found.damaged) == (1, 0, [])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        (refused,) = scrub(stocked, None, write=True, clock=tomorrow).problems
    assert "Permission denied" in refused
    index = json.loads((stocked.path / "index.json").read_bytes())
    missing = Descriptor(MANIFEST, f"sha256:{'0' * 64}", 1, annotations={"org.opencontainers.image.ref.name": "theirs"})
    index["manifests"].append(missing.to_json())
    (stocked.path / "index.json").write_bytes(canonical(index))
    (damaged,) = scrub(stocked, None, write=True, clock=tomorrow).problems
    assert missing.digest in damaged
    assert stray[7:] in blobs(stocked)


def test_nothing_is_collected_beside_what_is_damaged(stocked: OciLayout) -> None:
    stray = stocked.put_blob(b"left over", "text/plain").digest
    spoil(stocked, stocked.releases()["bye", "1.0"].digest)
    assert scrub(stocked, None, write=True, clock=tomorrow).collected == 0
    with pytest.raises(IntegrityError):
        stocked.collect(2**40)
    assert stray[7:] in blobs(stocked)


def test_nothing_is_collected_while_a_blob_is_damaged(stocked: OciLayout) -> None:
    stray = stocked.put_blob(b"left over", "text/plain").digest
    spoil(stocked, payload(stocked, "bye", "1.0"))
    assert scrub(stocked, None, write=True, clock=tomorrow).collected == 0
    assert stray[7:] in blobs(stocked)


# -- many at once ------------------------------------------------------------


def test_a_copy_writes_the_index_once_for_many_releases(stocked: OciLayout, replica: OciLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = OciLayout._write_index

    def watch(self: OciLayout, index: dict[str, object]) -> None:
        written.append(1)
        real(self, index)

    monkeypatch.setattr(OciLayout, "_write_index", watch)
    assert len(copy(stocked, replica).releases) == 3
    assert len(written) == 1
    assert scrub(replica, None, write=False).unnamed == 0
    assert copy(stocked, replica) == Copied(present=3)
    assert len(written) == 1


def test_a_tag_that_somebody_else_sets_during_a_copy_is_told_and_the_others_are_set(
    stocked: OciLayout, replica: OciLayout, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OciLayout.tag
    other = archive(make("other", {"data": b"other"}, version="2.0"), OciLayout.create(replica.path.with_name("third")))

    def tag_after_another(self: OciLayout, name: str, version: str, descriptor: Descriptor) -> bool:
        done = real(self, name, version, descriptor)
        if version == "2.0":
            copy(OciLayout.open(replica.path.with_name("third")), OciLayout.open(replica.path))
        return done

    monkeypatch.setattr(OciLayout, "tag", tag_after_another)
    copied = replicate(stocked, replica, choose(stocked, None), lambda _name, _version, _digest: "", write=True)
    assert ["tags never move" in problem for problem in copied.problems] == [True]
    assert {key: found.digest for key, found in replica.releases().items()} == {
        ("bye", "1.0"): stocked.resolve("bye", "1.0"),
        ("hello", "1.0"): stocked.resolve("hello", "1.0"),
        ("hello", "2.0"): other.digest,
    }
