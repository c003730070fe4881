# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence about an archived package, as people give it and ask for it: sign a statement, list and judge what was signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .dsl.home import Home
from .dsl.package import load_package
from .errors import IntegrityError, NotFoundError, TidegateError
from .evidence.envelope import open_envelope
from .evidence.keys import load_public
from .evidence.statement import KINDS, Statement, purl, release_statement
from .evidence.store import collect, ensure
from .evidence.trust import judge
from .policy.model import Policy
from .trusting import Release

if TYPE_CHECKING:
    from securesystemslib.signer import Signer


def find_release(home: Home, name: str, version: str | None, digest: str | None) -> Release:
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
    return Release(name, manifest.version, digest)


def attest(home: Home, release: Release, kind: str, predicate: Mapping[str, Any], signer: Signer, now: datetime, write: bool) -> bool:
    """Sign that ``predicate`` is so of the package, unless this key has signed just that already; say whether that was to be done.

    ``kind`` is a key of ``KINDS``, or the predicate's type URI for what the policy has no word for.
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


def look_at(home: Home, release: Release, policy: Policy, now: datetime) -> dict[str, Any]:
    """All evidence about a package, and what each kind that the policy asks for comes to."""
    found = collect(home, release.digest)
    evidence, broken = [], list(found.broken)
    words = {uri: kind for kind, uri in KINDS.items()}
    for content in found:
        try:
            sealed = open_envelope(content)
        except IntegrityError as error:
            broken.append(str(error))
            continue
        signers = [
            name
            for name, person in policy.people.items()
            if any(key.id in sealed.keys and sealed.signed_by(load_public(key.pem)) for key in person.keys)
        ]
        evidence.append(
            {
                "kind": words.get(sealed.statement.type),
                "type": sealed.statement.type,
                "name": sealed.statement.name,
                "digest": sealed.statement.digest,
                "predicate": dict(sealed.statement.predicate),
                "signed_at": sealed.signed_at.isoformat(),
                "signed_by": sorted(signers),
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
    return {"evidence": evidence, "broken": broken, "judgements": judgements}
