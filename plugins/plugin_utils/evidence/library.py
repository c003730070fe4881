# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the CMDB remembers of the library: of each release its package and the evidence about it, as they were seen last.

It goes by the names and versions of releases and not by the library's address, for a CMDB is of one library, which may move. Another home
of it that lacks something is one that lacks something.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cmdb.chain import append_history
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dsl.descriptors import Descriptor
from ..dsl.recover import Meant
from ..dsl.repository import Library, Repository
from ..dsl.seen import Loss, Piece, Sight, Snapshot, extended, losses
from ..dsl.walk import blobs_of
from ..errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ..keys import load_public
from .envelope import open_envelope, payload_of, sign
from .statement import LIBRARY, ON_CHANGES, Statement, kind_of, purl, rfc_of, strict_json
from .store import PREDICATE_TYPE, RFC, Attached, may_be_evidence, read_piece

with contextlib.suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from ..policy.model import Policy

_UNKNOWN = "the CMDB does not know what is new in the library about"
_UNREADABLE = "evidence that could not be read"
_TOLD = 1000  # losses that the history lists when they are accepted
# What of a predicate tells a negative word from another, by its kind.
_SAYING = {"approval": "decision", "test-result": "result", "scan": "result", "opinion": "blocking"}


def snapshot(cmdb: Cmdb, name: str, version: str, policy: Policy | None = None) -> Snapshot | None:
    """What was ever seen of a release; ``None`` when nothing was.

    With a ``policy`` the signature is checked, when one of its people signed: what was signed is remembered whatever became of the rest.
    Raises :class:`IntegrityError` when that was changed after it was signed.
    """
    table = schema().library_seen
    with cmdb.read() as connection:
        row = connection.execute(sa.select(table).where(table.c.release == name, table.c.version == version)).one_or_none()
    if row is None:
        return None
    found = Snapshot.from_json(name, version, row.digest, row.document)
    return _with_signed(found, row.envelope.encode(), policy) if row.envelope and policy and policy.people else found


def snapshots(cmdb: Cmdb, names: Collection[str] | None = None, connection: sa.Connection | None = None) -> dict[tuple[str, str], Snapshot]:
    """What was ever seen of each release, or of those that are named, by name and version."""
    with cmdb.read() if connection is None else contextlib.nullcontext(connection) as reader:
        rows = reader.execute(sa.select(schema().library_seen)).all()
    wanted = (row for row in rows if names is None or row.release in names)
    return {(row.release, row.version): Snapshot.from_json(row.release, row.version, row.digest, row.document) for row in wanted}


def seen_rows(connection: sa.Connection) -> list[dict[str, Any]]:
    """What was ever seen of each release, by name and version, as JSON has it: for another CMDB."""
    rows = map(dict, connection.execute(sa.select(schema().library_seen)).mappings())
    return sorted(rows, key=lambda row: (str(row["release"]), str(row["version"])))


def enter_seen(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter what :func:`seen_rows` gave of another CMDB, in a transaction that may write; nothing of it is here.

    Raises :class:`IntegrityError` for what can't be that.
    """
    for row in rows:
        Snapshot.from_json(row["release"], row["version"], row["digest"], row["document"])
    if rows:
        connection.execute(sa.insert(schema().library_seen), [dict(row) for row in rows])


def meant_by(cmdb_url: str | None, names: Collection[str] | None) -> Meant:
    """What the library, as far as it is for the releases ``names``, is meant to have; where there is no CMDB yet, nobody knows."""
    if cmdb_url is None:
        return Meant(names=names)
    try:
        with Cmdb.open(cmdb_url) as cmdb, cmdb.read() as connection:
            return Meant(snapshots(cmdb, names, connection), _purged(connection), names)
    except NotFoundError:
        return Meant(names=names)


def retired_pieces(cmdb_url: str | None) -> set[str]:
    """The evidence about all releases that was taken out of the library with a reason."""
    meant = meant_by(cmdb_url, None)
    return {digest for key in meant.seen for digest in meant.retired(key)}


def list_release(home: Repository, name: str) -> list[str]:
    """See to it that a release which is there is in the library's own list; a list that can't be written to is a sentence."""
    try:
        home.enter(name)
    except TidegateError as error:
        return [
            f"{name} is in the library, but can't be entered in its list of releases, so dsl_verify and dsl_sync may not see it: {error}"
        ]
    return []


def remember_library(
    cmdb_url: str, library: Library, names: Collection[str] | None, now: datetime, but: Collection[tuple[str, str]] = ()
) -> list[str]:
    """Remember what the library has of each release, or of ``names``, ``but`` for some; what can't be read is passed over. Where a list of
    evidence says of a piece what it is not, that is taken out of the list. Returns what went wrong."""
    try:
        with Cmdb.open(cmdb_url) as cmdb:
            known, sights = snapshots(cmdb, names), []
            for (name, version), package in library.releases({name for name, _version in known}).items():
                before = known.get((name, version))
                if (names is None or name in names) and (name, version) not in but:
                    with contextlib.suppress(IntegrityError):
                        sights.append(look(library.repository(name), name, version, package.digest, before.evidence if before else {}))
            remember(cmdb, sights, now)
            return [
                problem for seen in snapshots(cmdb, {sight.name for sight in sights}).values() for problem in _correct_list(library, seen)
            ]
    except NotFoundError:
        return []
    except TidegateError as error:
        return [f"{_UNKNOWN} its releases: {error}"]


def _correct_list(library: Library, seen: Snapshot) -> list[str]:
    """Have a list of evidence say nothing of the pieces of which it does not say what was read there; return a sentence for each."""
    home = library.repository(seen.name)
    with contextlib.suppress(IntegrityError):
        listed = home.referrers(seen.digest)
        wrong = [one for one in listed if one.digest in seen.evidence and _misleads(one, seen.evidence[one.digest])]
        if wrong:
            home.relabel(seen.digest, {one.digest: {} for one in wrong})
        return [
            f"the list of evidence about {seen.name} {seen.version} said of {entry.digest}, {seen.evidence[entry.digest].what}, that it is "
            f"for {entry.annotations.get(RFC) or 'a change'} alone; it says so no more, find out who wrote that"
            for entry in wrong
        ]
    return []


def _misleads(entry: Descriptor, piece: Piece) -> bool:
    """Whether a list says of a piece that it is a decision, and it is none or for another RFC."""
    kind, rfc = kind_of(entry.annotations.get(PREDICATE_TYPE, "")), entry.annotations.get(RFC, "")
    return kind in ON_CHANGES and (kind, rfc) != (piece.kind, piece.rfc)


def remember(cmdb: Cmdb, sights: Iterable[Sight], now: datetime, signer: Signer | None = None) -> int:
    """Add what was seen to what is remembered; return for how many releases that was something new. ``signer`` signs these.

    Nothing is written when there is nothing new. Of a release that was purged nothing new is remembered.
    """
    sights = list(sights)
    with cmdb.read() as connection:
        fresh = [sight for sight in sights if extended(_row(connection, sight)[0], sight, now) is not None]
    if not fresh:
        return 0
    changed = 0
    with cmdb.begin() as connection:
        gone = _purged(connection)
        for sight in fresh:
            before, envelope = _row(connection, sight)
            after = extended(before, sight, now)
            if after is None or (sight.name, sight.version) in gone:
                continue
            _write(connection, after, _signed(after, signer, now) or envelope)
            changed += 1
    return changed


def remember_sight(cmdb: Callable[[], Cmdb], sight: Sight | None, now: datetime, signer: Signer | None = None) -> list[str]:
    """Remember what was seen on the way to something else, which does not wait for it: a CMDB that can't be opened, by ``cmdb``, or written
    to is a sentence."""
    if sight is None:
        return []
    try:
        remember(cmdb(), [sight], now, signer)
    except TidegateError as error:
        return [f"{_UNKNOWN} {sight.name} {sight.version}: {error}"]
    return []


def watch(cmdb_url: str | None, home: Repository, release: tuple[str, str, str], now: datetime, signer: Signer | None = None) -> list[str]:
    """Remember what the library has of a release (name, version, digest), after something was written there, and that it is there.

    What was written stands whatever becomes of this, so a CMDB that can't be written to is a sentence that is returned; where there is no
    CMDB, or none yet, there is nothing to say.
    """
    name, version, digest = release
    problems = list_release(home, name)
    if cmdb_url is None:
        return problems
    try:
        with Cmdb.open(cmdb_url) as cmdb:
            before = snapshot(cmdb, name, version)
            remember(cmdb, [look(home, name, version, digest, before.evidence if before else {})], now, signer)
    except NotFoundError:
        return problems
    except TidegateError as error:
        return [*problems, f"{_UNKNOWN} {name} {version}, the next clear enters it: {error}"]
    return problems


def look(home: Repository, name: str, version: str, digest: str, known: Mapping[str, Piece]) -> Sight:
    """What a library has of a release now; what is ``known`` is not read again."""
    listed = [entry for entry in home.referrers(digest) if may_be_evidence(entry)]
    evidence, rfcs = {}, {}
    for entry in listed:
        if entry.digest in known:
            evidence[entry.digest] = known[entry.digest].what
            continue
        content = None
        with contextlib.suppress(IntegrityError):
            content = read_piece(home, digest, entry.digest)
            if content is None:
                continue  # not evidence
        evidence[entry.digest], rfcs[entry.digest] = describe(content)
    return Sight(name, version, digest, evidence, rfcs)


def sight_of(release: Sight, attached: Iterable[Attached], passed_over: Iterable[str], known: Mapping[str, Piece]) -> Sight:
    """What was seen of a release by somebody who has read the evidence anyway. Of what was ``passed_over`` nothing new is said."""
    evidence, rfcs = {digest: known[digest].what for digest in passed_over if digest in known}, {}
    for one in attached:
        if one.digest in known:
            evidence[one.digest] = known[one.digest].what
        else:
            evidence[one.digest], rfcs[one.digest] = describe(one.envelope)
    return replace(release, evidence=evidence, rfcs=rfcs)


def describe(envelope: bytes | None) -> tuple[str, str]:
    """What a piece of evidence is, in words that begin with its kind, and the only RFC that it is for, if any; whoever signed it, and
    whether or not that holds."""
    try:
        if envelope is None:
            raise IntegrityError("it can't be read")
        statement = strict_json(payload_of(envelope), "the statement")
    except IntegrityError:
        return _UNREADABLE, ""
    kind = kind_of(str(statement.get("predicateType"))) or f"evidence of type {statement.get('predicateType')!a:.60}"
    predicate = statement.get("predicate")
    said: Any = predicate.get(_SAYING.get(kind, "")) if isinstance(predicate, dict) else None
    word = ("blocking" if said is True else "") if kind == "opinion" else said if isinstance(said, str) else ""
    return f"{kind} ({ascii(word)[1:-1]:.20})" if word else kind, rfc_of(str(statement.get("predicateType")), predicate)


def give_up(
    cmdb: Cmdb, home: Repository, release: tuple[str, str], reason: str, actor: str, now: datetime, signer: Signer | None, write: bool
) -> list[Loss]:
    """Take what a library lacks of a release (name, version) out of what is remembered, with a line in the history; return what that is.

    Raises :class:`ConflictError` when the version has another package than it had, for a version never changes.
    """
    name, version = release
    before = snapshot(cmdb, name, version)
    if before is None:
        return []
    digest = home.resolve(name, version)
    if digest not in (None, before.digest):
        raise ConflictError(
            f"{name} {version} was {before.digest} and is {digest} in the library now; tags never move, so find out who did that and bring "
            "the first one back"
        )
    evidence = None if digest is None else look(home, name, version, digest, before.evidence).evidence
    lost = losses(before, digest, evidence)
    if not lost or not write:
        return lost
    with cmdb.begin() as connection:
        current, _envelope = _row(connection, Sight(name, version, before.digest))
        if current is not None and current.number != before.number:
            raise ConflictError(f"somebody else has just seen something new of {name} {version}; run this again")
        if digest is None:
            _delete(connection, name, version)
        else:
            gone = {loss.digest for loss in lost}
            kept = {key: piece for key, piece in before.evidence.items() if key not in gone}
            after = replace(before, number=before.number + 1, at=now, evidence=kept)
            _write(connection, after, _signed(after, signer, now))
        data = {"release": name, "version": version, "digest": before.digest, "reason": reason, "lost": [str(one) for one in lost[:_TOLD]]}
        append_history(connection, [{"at": now, "actor": actor, "event": "library loss accepted", "data": data}])
    return lost


def retire_evidence(
    cmdb: Cmdb,
    home: Repository,
    release: tuple[str, str],
    digests: Collection[str],
    reason: str,
    actor: str,
    now: datetime,
    signer: Signer | None,
    write: bool,
) -> tuple[list[str], int]:
    """Take evidence about a release (name, version) out of a library, with a line in the history; return what it was, a sentence for each
    piece, and how many bytes that freed.

    On record before it is done, so that nothing vanishes without a word; what was interrupted is finished by the same call. Raises
    :class:`TidegateError` for what speaks against the release, or is not there, and :class:`IntegrityError` for what is damaged, for nobody
    knows what it says.
    """
    name, version = release
    digest = home.resolve(name, version)
    if digest is None:
        raise NotFoundError(f"the DSL has no {name} {version}; correct name and version")
    before = snapshot(cmdb, name, version)
    known = before.evidence if before and before.digest == digest else {}
    there = {entry.digest for entry in home.referrers(digest)}
    pieces: dict[str, Piece] = {}
    for one in digests:
        if one not in there and one not in known:
            raise NotFoundError(f"nothing beside {name} {version} is {one:.80}; attestation_info lists what is")
        piece = known.get(one)
        # What could not be read when it was seen may have been damaged then.
        if piece is None or (piece.what == _UNREADABLE and not piece.retired):
            piece = Piece(*_read(home, digest, one, now))
        pieces[one] = piece
        if pieces[one].is_adverse:
            raise TidegateError(
                f"{one} is {pieces[one].what} and speaks against {name} {version}, so it stays; who signed it can sign anew what is so now"
            )
    new = {one: piece for one, piece in pieces.items() if one in there or not piece.retired}
    if not new:
        return [], 0
    home.withdraw(digest, list(new), write=False)  # whoever can't do it says so before it is on record
    if write:
        with cmdb.begin() as connection:
            current, _envelope = _row(connection, Sight(name, version, digest))
            if (current.number if current else None) != (before.number if before else None):
                raise ConflictError(f"somebody else has just seen something new of {name} {version}; run this again")
            kept = {**known, **{one: replace(piece, retired=reason) for one, piece in new.items()}}
            after = Snapshot(name, version, digest, before.number + 1 if before else 1, now, kept)
            _write(connection, after, _signed(after, signer, now))
            told = [{"digest": one, "what": piece.what} for one, piece in list(new.items())[:_TOLD]]
            data = {"release": name, "version": version, "digest": digest, "reason": reason, "evidence": told}
            append_history(connection, [{"at": now, "actor": actor, "event": "evidence retired", "data": data}])
    return [f"{piece.what} {one}" for one, piece in new.items()], home.withdraw(digest, list(new), write=True) if write else 0


def _read(home: Repository, package: str, digest: str, now: datetime) -> tuple[str, datetime, str]:
    """What a piece is that nobody remembers, as :class:`Piece` takes it; raises :class:`IntegrityError` when its bytes are not whole."""
    try:
        content = read_piece(home, package, digest)
    except IntegrityError:
        _check_whole(home, digest)
        content = None
    what, rfc = describe(content)
    return what, now, rfc


def _check_whole(home: Repository, digest: str) -> None:
    """Raise :class:`IntegrityError` when bytes of a manifest or its blobs are missing or damaged; it may say whatever it likes."""
    try:
        content = home.read_manifest(digest)
        blobs: list[Descriptor] = []
        with contextlib.suppress(IntegrityError):
            blobs = blobs_of(content, digest)
        for blob in blobs:
            home.verify_blob(blob)
    except IntegrityError as error:
        raise IntegrityError(f"{error}; it may speak against the release, so heal it with dsl_verify first") from error


def _purged(connection: sa.Connection) -> set[tuple[str, str]]:
    """The releases that were taken out of the library with a reason."""
    table = schema().release_status
    return {(row.release, row.version) for row in connection.execute(sa.select(table).where(table.c.state == "purged"))}


def _with_signed(found: Snapshot, envelope: bytes, policy: Policy) -> Snapshot:
    """The snapshot, and what of it was signed by somebody whom the policy knows."""
    owners = {key.id: key for person in policy.people.values() for key in person.keys}
    sealed = open_envelope(envelope)
    for key_id in sealed.keys:
        if key_id not in owners:
            continue  # of somebody who has left; it is nobody's word any more
        statement = sealed.statement
        about = (statement.type, statement.digest, statement.name)
        if about != (LIBRARY, found.digest, purl(found.name, found.version)) or not sealed.signed_by(load_public(owners[key_id].pem)):
            raise IntegrityError(
                f"what the CMDB has as seen of {found.name} {found.version} was changed after it was signed; find out who did that, and "
                "accept what the library has with dsl_release once that is right"
            )
        signed = Snapshot.from_json(found.name, found.version, found.digest, dict(statement.predicate))
        return replace(found, evidence={**found.evidence, **signed.evidence})
    return found


def _signed(after: Snapshot, signer: Signer | None, now: datetime) -> str:
    if signer is None:
        return ""
    return sign(Statement(purl(after.name, after.version), after.digest, LIBRARY, after.to_json()), signer, now).decode()


def _row(connection: sa.Connection, sight: Sight) -> tuple[Snapshot | None, str]:
    """What is remembered of a release, and its last signature."""
    table = schema().library_seen
    query = sa.select(table).where(table.c.release == sight.name, table.c.version == sight.version)
    row = connection.execute(query).one_or_none()
    return (Snapshot.from_json(sight.name, sight.version, row.digest, row.document), row.envelope) if row else (None, "")


def _write(connection: sa.Connection, after: Snapshot, envelope: str) -> None:
    _delete(connection, after.name, after.version)
    row = {"release": after.name, "version": after.version, "digest": after.digest, "document": after.to_json(), "envelope": envelope}
    connection.execute(sa.insert(schema().library_seen), row)


def _delete(connection: sa.Connection, name: str, version: str) -> None:
    table = schema().library_seen
    connection.execute(sa.delete(table).where(table.c.release == name, table.c.version == version))
