# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence about an archived package, as people give it and ask for it: sign a statement, list and judge what was signed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..dsl.package import load_package
from ..dsl.repository import Repository
from ..errors import IntegrityError, NotFoundError, TidegateError
from ..evidence.envelope import open_envelope
from ..evidence.package import PackageName
from ..evidence.statement import KINDS, UNDATED, Statement, kind_of, purl, release_statement
from ..evidence.store import ENVELOPE_LIMIT, attach, collect, ensure, is_attached
from ..evidence.trust import Owners, judge, statement_fault
from ..policy.model import Policy

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


def find_release(home: Repository, name: str, version: str | None, digest: str | None) -> PackageName:
    """The archived package that is asked for by version or by digest; raises :class:`TidegateError` unless it is the named release's."""
    if (version is None) == (digest is None):
        raise TidegateError(f"which package of {name} is meant is not clear; give either version or digest")
    if digest is None:
        digest = home.resolve(name, str(version))
    if digest is None:
        raise NotFoundError(f"the DSL has no {name} {version}; archive it first, or correct name and version")
    manifest = load_package(home, digest).manifest
    if manifest.name != name or version not in (None, manifest.version):
        raise IntegrityError(f"{digest} is the package of {manifest.name} {manifest.version}, not of {name} {version or ''}".rstrip())
    return PackageName(name, manifest.version, digest)


def attest(
    home: Repository, release: PackageName, kind: str, predicate: Mapping[str, Any], signer: Signer, now: datetime, write: bool
) -> bool:
    """Sign that ``predicate`` is so of the package, unless this key has signed just that already; say whether that was to be done.

    ``kind`` is a key of ``KINDS``, or the predicate's type URI for what policies have no name for.
    """
    if kind == "package":
        if predicate:
            raise TidegateError("evidence of the kind package has no predicate of its own; leave it out")
        return ensure(home, release_statement(release.name, release.version, release.digest), signer, now, write)
    if kind not in KINDS and ":" not in kind:
        raise TidegateError(f"{kind!a} is no kind of evidence; give one of {', '.join(KINDS)}, or the URI of a predicate type")
    try:
        plain = json.loads(json.dumps(predicate, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TidegateError(f"the predicate can't be written as JSON ({error}); give texts, numbers, lists and mappings") from error
    statement = Statement(purl(release.name, release.version), release.digest, KINDS.get(kind, kind), plain)
    return ensure(home, statement, signer, now, write)


def read_envelope(path: str) -> bytes:
    """What is in a file with an envelope; raises :class:`TidegateError` when it can't be read or is too large for one."""
    try:
        # Without waiting for somebody to write into it, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise TidegateError(f"the envelope {path} is not a file; name the file that holds it")
            content = stream.read(ENVELOPE_LIMIT + 1)
    except OSError as error:
        raise TidegateError(f"can't read the envelope {path} ({error.strerror}); name a file that this user may read") from error
    if len(content) > ENVELOPE_LIMIT:
        raise TidegateError(f"the envelope {path} has more than {ENVELOPE_LIMIT >> 20} MiB; have less said in it")
    return content


def attach_signed(
    home: Repository, release: PackageName, content: bytes, policy: Policy, now: datetime, write: bool
) -> tuple[list[str], bool]:
    """Keep an envelope that somebody else made beside the package; return whose signature it bears, and whether that was to be done.

    Raises :class:`TidegateError` unless it is about this package, and one of the policy's people signed it with a key that holds.
    """
    try:
        sealed = open_envelope(content, release.digest)
    except IntegrityError as error:
        raise TidegateError(f"the envelope can't be used: {error}; give a DSSE envelope around an in-toto statement") from error
    fault = statement_fault(sealed, release.digest, purl(release.name, release.version), now)
    if fault:
        raise TidegateError(f"the envelope would count for nothing: {fault}; have it signed for this package")
    names = Owners(policy).holding(sealed, now)
    if not names:
        raise TidegateError(
            "the envelope bears no signature that holds by a key of the policy's people; enter who signed it and their key under people"
        )
    if is_attached(home, release.digest, content):
        return names, False
    if write:
        attach(home, release.digest, content)
    return names, True


def look_at(home: Repository, release: PackageName, policy: Policy, now: datetime) -> dict[str, Any]:
    """All evidence about a package, and what each kind that the policy asks for comes to."""
    found = collect(home, release.digest)
    evidence, broken = [], list(found.broken)
    owners = Owners(policy)
    kept = {piece.envelope: piece.digest for piece in found.attached}
    for content in found:
        try:
            sealed = open_envelope(content, release.digest)
        except IntegrityError as error:
            broken.append(str(error))
            continue
        evidence.append(
            {
                "piece": kept[content],
                "kind": kind_of(sealed.statement.type),
                "type": sealed.statement.type,
                "name": sealed.statement.name,
                "digest": sealed.statement.digest,
                "predicate": dict(sealed.statement.predicate),
                "signed_at": None if sealed.signed_at == UNDATED else sealed.signed_at.isoformat(),
                "signed_by": sorted(owners.signers(sealed)),
                "key_ids": list(sealed.keys),
            }
        )
    judgements = {}
    for kind in policy.trust:
        judgement = judge(found, policy, kind, release.digest, release.name, release.version, now)
        judgements[kind] = {
            "trusted": judgement.trusted,
            "people": list(judgement.people),
            "sentence": judgement.sentence(),
            "refused": list(judgement.refused),
            "by_revoked": list(judgement.by_revoked),
        }
    return {"evidence": evidence, "broken": broken, "not_evidence": list(found.foreign), "judgements": judgements}
