# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of a release in the library, and what a library lacks that was seen before. Pure.

A library only grows, but for what is purged with a reason. So a snapshot is never replaced by a smaller one, and a library that has less
than the snapshot has lost something: an older backup was restored, or somebody took a rejection away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..documents import parse_time
from ..errors import IntegrityError
from .descriptors import DIGEST, referrers_tag

PIECES = 20_000
"""Pieces of evidence about one package that a snapshot names; more are not remembered."""
_WHAT = 100  # signs of what a piece is
_SPEAKING = frozenset({"scan", "test-result", "approval", "opinion"})  # kinds that may speak against a release
_GOOD = frozenset({"scan (clean)", "test-result (PASSED)", "approval (approved)", "opinion"})


@dataclass(frozen=True)
class Piece:
    """A piece of evidence. ``what`` it is, in words, such as ``approval (rejected)``; ``at``: when it was seen first. ``rfc``: the number
    of the only RFC that it is for, empty when it is about the package itself. ``retired``: why it was taken out of the library, empty when
    it was not.
    """

    what: str
    at: datetime
    rfc: str = ""
    retired: str = ""

    @property
    def is_adverse(self) -> bool:
        """Whether it speaks against the release, or may."""
        return self.kind in _SPEAKING and self.what not in _GOOD

    @property
    def kind(self) -> str:
        """The policy's word for what it is, such as ``approval``."""
        return self.what.partition(" ")[0]

    def to_json(self) -> dict[str, str]:
        """The piece as it is kept."""
        more = {"rfc": self.rfc, "retired": self.retired}
        return {"what": self.what, "seen": self.at.isoformat(), **{name: value for name, value in more.items() if value}}


@dataclass(frozen=True)
class Sight:
    """What somebody who looked at the library saw of a release: the digest of its package, and of each manifest that is evidence about it
    what that is, in words. ``evidence`` is ``None`` when nobody looked for any. ``rfcs``: of pieces that were not known, the only RFC that
    each is for, if any."""

    name: str
    version: str
    digest: str
    evidence: Mapping[str, str] | None = None
    rfcs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """All that was ever seen of a release. ``number`` grows with each change; ``at`` is when it changed last."""

    name: str
    version: str
    digest: str
    number: int
    at: datetime
    evidence: Mapping[str, Piece] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The snapshot as it is kept and signed."""
        evidence = {digest: piece.to_json() for digest, piece in sorted(self.evidence.items())}
        return {"number": self.number, "seen": self.at.isoformat(), "evidence": evidence}

    @classmethod
    def from_json(cls, name: str, version: str, digest: str, document: object) -> Snapshot:
        """Read one; raises :class:`IntegrityError` when it is none."""
        try:
            if not isinstance(document, dict) or not DIGEST.fullmatch(digest) or len(document["evidence"]) > PIECES:
                raise ValueError
            evidence = {
                key: Piece(str(one["what"]), datetime.fromisoformat(one["seen"]), str(one.get("rfc", "")), str(one.get("retired", "")))
                for key, one in document["evidence"].items()
            }
            if not all(DIGEST.fullmatch(key) and piece.at.tzinfo for key, piece in evidence.items()):
                raise ValueError
            return cls(name, version, digest, int(document["number"]), parse_time(document["seen"]), evidence)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise IntegrityError(f"what the CMDB has as seen of {name} {version} can't be read; find out who wrote there") from error


@dataclass(frozen=True)
class Loss:
    """Something that was seen and is not there. ``digest``: of the package, or of the manifest of a piece of evidence."""

    name: str
    version: str
    digest: str
    what: str
    at: datetime | None = None
    number: int | None = None

    def __str__(self) -> str:
        when = f", seen {self.at.isoformat(timespec='seconds')}" if self.at else ""
        return f"{self.name} {self.version}: {self.what} {self.digest}{when}"


def extended(snapshot: Snapshot | None, sight: Sight, now: datetime) -> Snapshot | None:
    """The snapshot with what was seen ``now`` besides, or ``None`` when that is nothing new.

    A version that has another package than it had is no sight of that release: it stays what it was, and :func:`losses` says so.
    """
    evidence = {key: Piece(what[:_WHAT], now, sight.rfcs.get(key, "")) for key, what in (sight.evidence or {}).items()}
    if snapshot is None:
        return Snapshot(sight.name, sight.version, sight.digest, 1, now, dict(list(evidence.items())[:PIECES]))
    if snapshot.digest != sight.digest:
        return None
    new = {key: piece for key, piece in evidence.items() if key not in snapshot.evidence}
    new = dict(list(new.items())[: max(0, PIECES - len(snapshot.evidence))])
    if not new:
        return None
    return replace(snapshot, number=snapshot.number + 1, at=now, evidence={**snapshot.evidence, **new})


def losses(snapshot: Snapshot, digest: str | None, evidence: Collection[str] | None) -> list[Loss]:
    """What of a snapshot a library lacks that has the package ``digest`` as this version, or none, and ``evidence`` about it.

    ``evidence`` may be ``None`` where nobody looked for any.
    """

    def loss(digest: str, what: str, at: datetime) -> Loss:
        return Loss(snapshot.name, snapshot.version, digest, what, at, snapshot.number)

    if digest is None:
        return [loss(snapshot.digest, "the package", snapshot.at)]
    if digest != snapshot.digest:
        return [loss(snapshot.digest, f"the package, which is {digest} now, was", snapshot.at)]
    if evidence is None:
        return []
    return [loss(key, piece.what, piece.at) for key, piece in by_age(snapshot.evidence) if key not in evidence and not piece.retired]


def how_to_copy_evidence(digest: str) -> str:
    """What to do about a package that another tool copied, which leaves the evidence behind."""
    return (
        "if another tool copied it here, as skopeo does with a package alone, bring its evidence with dsl_sync, or copy the tag "
        f"{referrers_tag(digest)} too"
    )


def by_age(evidence: Mapping[str, Piece]) -> list[tuple[str, Piece]]:
    """Pieces, what was seen last first: what an older backup lacks."""
    return sorted(evidence.items(), key=lambda item: (item[1].at, item[0]), reverse=True)


def listed(found: Iterable[Loss], limit: int) -> str:
    """The first few losses, and how many more there are."""
    lines = [str(loss) for loss in found]
    more = f"; and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more
