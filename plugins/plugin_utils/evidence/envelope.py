# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How evidence is sealed: a DSSE v1.0 envelope around a statement."""

from __future__ import annotations

import base64
import binascii
import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..dsl.descriptors import canonical
from ..errors import IntegrityError
from .statement import DECISIONS, SHARED, Statement, kind_of, read_statement, strict_json

# What is slow to import is needed when there is an envelope.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"

_SIGNATURES = 64  # in one envelope; keeps the time to check a hostile one in bounds
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class Sealed:
    """An envelope that was taken apart. What it says is nobody's word until :meth:`signed_by` names a key.

    ``signed_at`` as in :class:`.statement.Reading`; ``loose``: in what it is not as Tidegate writes one, empty when it is.
    ``signatures``: the key's id that each names, empty for none, and its bytes in hexadecimal. ``payload`` is what was signed, encoded.
    """

    statement: Statement
    signed_at: datetime
    loose: str
    signatures: tuple[tuple[str, str], ...]
    payload: bytes

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids of keys that it says it was signed with."""
        return tuple(dict.fromkeys(key_id for key_id, _content in self.signatures if key_id))

    @property
    def shared(self) -> bool:
        """Whether it is of a type that other tools sign too, who name keys in ways of their own, or not at all."""
        kind = kind_of(self.statement.type)
        return kind in SHARED or (kind is None and self.statement.type not in DECISIONS)

    def signed_by(self, key: Key) -> bool:
        """Whether this key made one of the signatures, and over these very bytes."""
        return any(
            self.made_by(key, number) for number, (key_id, _content) in enumerate(self.signatures) if self.shared or key_id == key.keyid
        )

    def made_by(self, key: Key, number: int) -> bool:
        """Whether this key made that one of the signatures, whatever key it names."""
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature, SSlibKey

        schemes = [key]
        if self.shared and key.keytype == "rsa":  # others sign with the older padding
            schemes.append(SSlibKey(key.keyid, "rsa", "rsa-pkcs1v15-sha256", dict(key.keyval)))
        for scheme in schemes:
            with contextlib.suppress(UnverifiedSignatureError):
                scheme.verify_signature(Signature(key.keyid, self.signatures[number][1]), self.payload)
                return True
        return False


def sign(statement: Statement, signer: Signer, now: datetime) -> bytes:
    """An envelope around the statement with one signature, made at ``now``."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(canonical(statement.to_json(now)), IN_TOTO, {})
    envelope.sign(signer)
    return canonical(envelope.to_dict())


def open_envelope(content: bytes, about: str | None = None) -> Sealed:
    """Take an envelope apart, which may be in a bundle of sigstore's.

    Raises :class:`IntegrityError` unless it is one around a statement, and for what somebody decided when it is not as Tidegate writes one.
    ``about`` is the digest that is asked about, which may be one of several that the statement is about.
    """
    from securesystemslib.dsse import Envelope

    document, payload = _payload(content)
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= _SIGNATURES:
        raise IntegrityError(f"the envelope does not have a payload and 1 to {_SIGNATURES} signatures")
    found = [_signature(signature) for signature in signatures]
    reading = read_statement(payload, about)
    key_ids = [key_id for key_id, _content in found]
    loose = reading.loose
    if "" in key_ids:
        loose = loose or "the envelope has a signature that does not name its key"
    elif len(set(key_ids)) != len(key_ids):
        loose = loose or "the envelope has two signatures of one key"
    if loose and reading.statement.type in DECISIONS:
        raise IntegrityError(loose)
    return Sealed(reading.statement, reading.signed_at, loose, tuple(found), Envelope(payload, IN_TOTO, {}).pae())


def payload_of(content: bytes) -> bytes:
    """What is in an envelope, whoever signed it; raises :class:`IntegrityError` when that can't be found out."""
    return _payload(content)[1]


def _payload(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The envelope as a document, and what is in it."""
    document = strict_json(content, "the envelope")
    if str(document.get("mediaType")).startswith(BUNDLE):
        inner = document.get("dsseEnvelope")
        if not isinstance(inner, dict):
            raise IntegrityError("the bundle has no envelope, only a signature, which says nothing")
        document = inner
    if document.get("payloadType") != IN_TOTO:
        raise IntegrityError(f"the envelope's payload is not of the type {IN_TOTO}")
    return document, _decoded(document.get("payload"), "payload")


def _signature(signature: object) -> tuple[str, str]:
    key_id = signature.get("keyid") or "" if isinstance(signature, dict) else None
    if not isinstance(signature, dict) or not isinstance(key_id, str) or not isinstance(signature.get("sig"), str):
        raise IntegrityError("the envelope has a signature that is not a sig and the keyid of who made it")
    return key_id, _decoded(signature["sig"], "signature").hex()


def _decoded(text: object, what: str) -> bytes:
    """What is in base64, in its usual alphabet or the one for URLs, with or without what fills it up at its end."""
    try:
        if isinstance(text, str):
            bare = text.rstrip("=")
            usual = bare.translate(_URL_SAFE) if "-" in bare or "_" in bare else bare
            return base64.b64decode(usual + "=" * (-len(usual) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(f"the envelope's {what} is not in base64") from error
    raise IntegrityError(f"the envelope has no {what}")
