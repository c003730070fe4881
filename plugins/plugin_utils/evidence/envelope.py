# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How evidence is sealed: a DSSE v1.0 envelope around a statement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..dsl.oci import canonical
from ..errors import IntegrityError, TidegateError
from .statement import Statement, read_statement, strict_json

with contextlib.suppress(ImportError):
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

IN_TOTO = "application/vnd.in-toto+json"

_SIGNATURES = 64  # in one envelope; keeps the time to check a hostile one in bounds


@dataclass(frozen=True)
class Sealed:
    """An envelope that was taken apart. What it says is nobody's word until :meth:`signed_by` names a key."""

    statement: Statement
    signed_at: datetime
    keys: tuple[str, ...]
    _envelope: Any

    def signed_by(self, key: Key) -> bool:
        """Whether this key made one of the signatures, and over these very bytes."""
        try:
            self._envelope.verify([key], 1)
        except VerificationError:
            return False
        return True


def sign(statement: Statement, signer: Signer, now: datetime) -> bytes:
    """An envelope around the statement with one signature, and ``now`` in the predicate as ``signedAt``."""
    if "signedAt" in statement.predicate:
        raise TidegateError("the predicate has signedAt already; leave it out, it is set when it is signed")
    envelope = Envelope(canonical(statement.to_json(now)), IN_TOTO, {})
    envelope.sign(signer)
    return canonical(envelope.to_dict())


def open_envelope(content: bytes) -> Sealed:
    """Take an envelope apart; raises :class:`IntegrityError` unless it is one around a statement."""
    document = strict_json(content, "the envelope")
    signatures = document.get("signatures")
    if document.get("payloadType") != IN_TOTO:
        raise IntegrityError(f"the envelope's payload is not of the type {IN_TOTO}")
    if not isinstance(document.get("payload"), str) or not isinstance(signatures, list) or not 0 < len(signatures) <= _SIGNATURES:
        raise IntegrityError(f"the envelope does not have a payload and 1 to {_SIGNATURES} signatures")
    if not all(isinstance(signature, dict) and _texts(signature.get(key) for key in ("keyid", "sig")) for signature in signatures):
        raise IntegrityError("the envelope has a signature that is not a keyid and a sig")
    try:
        envelope = Envelope.from_dict(document)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError("the envelope is not in base64, or has two signatures of one key") from error
    statement, signed_at = read_statement(envelope.payload)
    return Sealed(statement, signed_at, tuple(envelope.signatures), envelope)


def _texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
