# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence is taken out of a library with a reason, never what speaks against a release; and a list that lies is put right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import canonical, referrers_tag
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.recover import recover
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.replica import choose, replicate
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.scrub import scrub
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import losses
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence import store
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import (
    meant_by,
    remember_library,
    retire_evidence,
    retired_pieces,
    snapshot,
    watch,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import APPROVAL, KINDS, Statement, release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import PREDICATE_TYPE, RFC, Wanted, attach, collect
from releases import HELLO, spoil
from seals import KEYS, NOW, policy, sealed

HELLO_1 = "hello", "1.0"
LATER = NOW + timedelta(hours=1)


@dataclass(frozen=True)
class Bed:
    home: OciLayout
    package: str
    url: str

    def say(self, kind: str, **said: object) -> str:
        statement = Statement("pkg:generic/hello@1.0", self.package, KINDS[kind], said)
        return attach(
            self.home, self.package, sealed("rita", statement if kind != "package" else release_statement("hello", "1.0", self.package))
        )

    def watch(self) -> None:
        assert watch(self.url, self.home, (*HELLO_1, self.package), NOW) == []

    def retire(self, *digests: str, write: bool = True, signer: str | None = None) -> list[str]:
        with Cmdb.open(self.url) as cmdb:
            key = KEYS[signer] if signer else None
            return retire_evidence(cmdb, self.home, HELLO_1, digests, "long over", "rita", LATER, key, write)[0]

    def history(self) -> list[dict[str, object]]:
        with Cmdb.open(self.url) as cmdb, cmdb.read() as connection:
            rows = connection.execute(sa.select(schema().history.c.data).where(schema().history.c.event == "evidence retired"))
            return [row.data for row in rows]

    def listed(self) -> set[str]:
        return {entry.digest for entry in self.home.referrers(self.package)}


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    url = str(tmp_path / "cmdb.sqlite")
    with Cmdb.open(url, create=True):
        pass
    home = OciLayout.create(tmp_path / "dsl")
    return Bed(home, archive(HELLO, home).digest, url)


def test_a_decision_is_taken_away_with_a_reason_and_not_missed(bed: Bed) -> None:
    signature, approval = bed.say("package"), bed.say("approval", rfc="CHG1", decision="approved")
    bed.watch()
    before = sum(path.stat().st_size for path in bed.home.blobs.iterdir())
    assert bed.retire(approval, write=False) == [f"approval (approved) {approval}"]
    assert (bed.listed(), bed.history()) == ({signature, approval}, [])
    assert bed.retire(approval) == [f"approval (approved) {approval}"]
    assert bed.listed() == {signature}
    assert sum(path.stat().st_size for path in bed.home.blobs.iterdir()) < before
    (row,) = bed.history()
    assert (row["reason"], row["evidence"]) == ("long over", [{"digest": approval, "what": "approval (approved)"}])
    with Cmdb.open(bed.url) as cmdb:
        seen = snapshot(cmdb, *HELLO_1)
    assert seen is not None
    assert seen.evidence[approval].retired == "long over"
    assert losses(seen, bed.package, bed.listed()) == []
    found = scrub(bed.home, None, write=False)
    assert (found.damaged, found.unnamed) == ([], 0)
    assert bed.retire(approval) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("scan", {"result": "infected"}),
        ("scan", {"result": "inconclusive"}),
        ("test-result", {"result": "FAILED"}),
        ("approval", {"rfc": "CHG1", "decision": "rejected"}),
        ("opinion", {"role": "tester", "score": 1, "blocking": True}),
    ],
)
def test_what_speaks_against_a_release_stays(bed: Bed, kind: str, said: dict[str, object]) -> None:
    piece = bed.say(kind, **said)
    for watched in (False, True):
        with pytest.raises(TidegateError, match=r"speaks against hello 1\.0, so it stays"):
            bed.retire(piece)
        if not watched:
            bed.watch()
    spoil(bed.home, piece)  # who makes a rejection unreadable does not get rid of it: the CMDB remembers what it was
    with pytest.raises(TidegateError, match="so it stays"):
        bed.retire(piece)
    assert (bed.listed(), bed.history()) == ({piece}, [])


@pytest.mark.parametrize("watched", [False, True])
def test_what_nobody_can_read_is_taken_away(bed: Bed, watched: bool) -> None:
    """It is whole, and no statement."""
    approval = bed.say("approval", rfc="CHG1", decision="approved")
    manifest = json.loads(bed.home.read_manifest(approval))
    manifest["layers"] = [bed.home.put_blob(b"nonsense", manifest["layers"][0]["mediaType"]).to_json()]
    piece = bed.home.refer(bed.package, canonical(manifest)).digest
    if watched:
        bed.watch()
    assert bed.retire(piece) == [f"evidence that could not be read {piece}"]
    assert bed.listed() == {approval}


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("part", ["manifest", "envelope"])
def test_what_is_damaged_stays_until_it_can_be_read(bed: Bed, part: str, watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a rejection that nobody has seen whole would go; also when it was damaged as it was seen first."""
    monkeypatch.setattr(store, "_INSIDE", 0)
    piece = bed.say("approval", rfc="CHG1", decision="rejected")
    layer = json.loads(bed.home.read_manifest(piece))["layers"][0]["digest"]
    harmed = piece if part == "manifest" else layer
    whole = (bed.home.blobs / harmed[7:]).read_bytes()
    spoil(bed.home, harmed)
    if watched:
        bed.watch()
    with pytest.raises(IntegrityError, match="heal it with dsl_verify first"):
        bed.retire(piece)
    spoil(bed.home, harmed, whole)
    with pytest.raises(TidegateError, match="so it stays"):
        bed.retire(piece)
    assert (bed.listed(), bed.history()) == ({piece}, [])


def test_what_is_not_there_and_who_is_writing_are_told(bed: Bed) -> None:
    piece = bed.say("approval", rfc="CHG1", decision="approved")
    with pytest.raises(NotFoundError, match=r"nothing beside hello 1\.0 is sha256:0"):
        bed.retire(f"sha256:{'0' * 64}")
    with bed.home.writing(), pytest.raises(ConflictError, match="somebody is writing"):
        bed.retire(piece)
    assert (bed.listed(), bed.history()) == ({piece}, [])


def test_what_was_interrupted_is_finished_by_the_next_one(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = bed.say("approval", rfc="CHG1", decision="approved")
    real = OciLayout.withdraw

    def cut(self: OciLayout, subject: str, digests: list[str], write: bool) -> int:
        if write:
            raise KeyboardInterrupt
        return real(self, subject, digests, write)

    with monkeypatch.context() as patched:
        patched.setattr(OciLayout, "withdraw", cut)
        with pytest.raises(KeyboardInterrupt):
            bed.retire(piece)
    assert bed.listed() == {piece}
    bed.retire(piece)
    assert bed.listed() == set()


def test_what_was_taken_away_is_not_listed_again_wherever_that_was_cut_short(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    other, piece = bed.say("package"), bed.say("approval", rfc="CHG1", decision="approved")
    bed.watch()
    with monkeypatch.context() as patched:
        patched.setattr(OciLayout, "_untag", lambda _self, _tag: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            bed.retire(piece)
    assert bed.listed() == {other}
    assert (bed.home.blobs / piece[7:]).exists()
    found = scrub(bed.home, None, write=True, retired=lambda: retired_pieces(bed.url))
    assert (found.healed, bed.listed()) == ([], {other})
    assert piece in bed.home.collect(2**40, retired_pieces(bed.url)).unneeded
    assert not (bed.home.blobs / piece[7:]).exists()


def test_a_list_that_is_healed_does_not_bring_back_what_was_taken_away(bed: Bed, tmp_path: Path) -> None:
    other, piece = bed.say("package"), bed.say("approval", rfc="CHG1", decision="approved")
    replica = OciLayout.create(tmp_path / "replica")
    replicate(bed.home, replica, choose(bed.home, None), lambda _name, _version, _digest: "", write=True)
    bed.watch()
    bed.retire(piece)
    spoil(bed.home, bed.home.tags()[referrers_tag(bed.package)].digest)
    found = scrub(bed.home, replica, write=True, retired=lambda: retired_pieces(bed.url))
    assert (found.damaged, bed.listed()) == ([], {other})


def test_a_replica_that_has_it_still_does_not_bring_it_back(bed: Bed, tmp_path: Path) -> None:
    approval, other = bed.say("approval", rfc="CHG1", decision="approved"), bed.say("package")
    replica = OciLayout.create(tmp_path / "replica")
    replicate(bed.home, replica, choose(bed.home, None), lambda _name, _version, _digest: "", write=True)
    bed.watch()
    bed.retire(approval)
    meant = meant_by(bed.url, None)
    found = recover(bed.home, replica, meant, write=True)
    assert (found.lost, found.healed, bed.listed()) == ([], [], {other})
    bed.home.withdraw(bed.package, [other], write=True)  # and that without a word
    found = recover(bed.home, replica, meant, write=True)
    assert ([loss.digest for loss in found.healed], bed.listed()) == ([other], {other})
    copied = replicate(bed.home, replica, choose(bed.home, None), lambda _name, _version, _digest: "", True, meant.retired)
    assert (copied.lacking, copied.present) == ([], 1)
    copied = replicate(replica, bed.home, choose(replica, None), lambda _name, _version, _digest: "", True, meant.retired)
    assert (copied.present, bed.listed()) == (1, {other})


def test_the_mark_counts_only_as_it_was_signed(bed: Bed) -> None:
    approval = bed.say("approval", rfc="CHG1", decision="approved")
    assert watch(bed.url, bed.home, (*HELLO_1, bed.package), NOW, KEYS["rita"]) == []
    table = schema().library_seen
    with Cmdb.open(bed.url) as cmdb:
        with cmdb.begin() as connection:
            document = connection.execute(sa.select(table.c.document)).scalar_one()
            document["evidence"][approval]["retired"] = "nobody knows"
            connection.execute(sa.update(table).values(document=document))
        seen = snapshot(cmdb, *HELLO_1, policy())
        assert seen is not None
        assert [loss.digest for loss in losses(seen, bed.package, set())] == [approval]
    bed.retire(approval, signer="rita")
    with Cmdb.open(bed.url) as cmdb:
        seen = snapshot(cmdb, *HELLO_1, policy())
    assert seen is not None
    assert losses(seen, bed.package, set()) == []


def test_a_list_that_says_what_a_piece_is_not_is_put_right(bed: Bed) -> None:
    """Whether or not the piece was ever seen."""
    finding = bed.say("scan", result="infected")
    theirs = bed.say("approval", rfc="CHG2", decision="approved")
    lies = {PREDICATE_TYPE: APPROVAL, RFC: "CHG2"}
    bed.home.relabel(bed.package, dict.fromkeys(bed.listed(), lies))
    assert set(collect(bed.home, bed.package, Wanted("CHG1")).passed_over) == {finding, theirs}  # nobody has seen it yet
    (problem,) = remember_library(bed.url, bed.home, None, NOW)
    assert f"{finding}, scan (infected), that it is for CHG2 alone" in problem
    assert collect(bed.home, bed.package, Wanted("CHG1")).passed_over == (theirs,)
    assert remember_library(bed.url, bed.home, None, NOW) == []


def test_who_puts_a_list_right_keeps_what_came_and_what_went_meanwhile(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    finding, over = bed.say("scan", result="infected"), bed.say("approval", rfc="CHG2", decision="approved")
    bed.watch()
    bed.home.relabel(bed.package, {finding: {PREDICATE_TYPE: APPROVAL, RFC: "CHG2"}})
    real, came = OciLayout.relabel, []

    def after_others(self: OciLayout, subject: str, annotations: dict[str, dict[str, str]]) -> None:
        bed.home.withdraw(subject, [over], write=True)
        came.append(bed.say("approval", rfc="CHG1", decision="rejected"))
        real(self, subject, annotations)

    monkeypatch.setattr(OciLayout, "relabel", after_others)
    assert len(remember_library(bed.url, OciLayout.open(bed.home.path), None, NOW)) == 1
    assert bed.listed() == {finding, *came}
    assert collect(bed.home, bed.package, Wanted("CHG2")).passed_over == tuple(came)
