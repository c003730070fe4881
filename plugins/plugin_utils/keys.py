# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys: the private one that signs, out of a file, and the public ones that the policy names."""

from __future__ import annotations

import functools
import os
import stat
from typing import TYPE_CHECKING, Any

from .errors import TidegateError

# What is slow to import is needed where somebody signs, or the policy names people.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

_LIMIT = 64 << 10  # bytes of a PEM file
_BITS = 2048  # of the shortest RSA key that is still taken for one
_MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"


def load_signer(path: str, passphrase: str | None = None) -> Signer:
    """The private key in a PEM file: Ed25519, ECDSA on P-256, or RSA.

    Raises :class:`TidegateError` when others may read the file, or there is no such key in it; never with what is in it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from securesystemslib.signer import CryptoSigner

    content = _read_private(path)
    try:
        key = serialization.load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except TypeError as error:
        if passphrase:
            raise TidegateError(f"the private key {path} has no passphrase, but one is given; leave key_passphrase out") from error
        raise TidegateError(
            f"the private key {path} has a passphrase; give it in key_passphrase or the environment variable TIDEGATE_KEY_PASSPHRASE"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "its passphrase is another one, or it is no private key in PEM" if passphrase else "it is no private key in PEM"
        raise TidegateError(f"the private key {path} can't be read, {why}; make one with {_MAKE}") from error
    fault = _unfit(key.public_key())
    if fault:
        raise TidegateError(f"the private key {path} {fault}; make one with {_MAKE}")
    return CryptoSigner(key)


def make_signer() -> tuple[Signer, str]:
    """A private key that is in no file, and its public half in PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from securesystemslib.signer import CryptoSigner

    key = Ed25519PrivateKey.generate()
    return CryptoSigner(key), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make_key_pair() -> tuple[bytes, str]:
    """A new private key for a file, without a passphrase, and its public half, both in PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public.decode()


@functools.lru_cache(1024)
def load_public(pem: str) -> Key:
    """A public key out of its PEM text; raises :class:`ValueError` with what is wrong with it. The same key has the same ``keyid``."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from securesystemslib.signer import SSlibKey

    if "PRIVATE KEY" in pem:
        raise ValueError("is a private key, which nobody but its owner may have")
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("is no public key in PEM") from error
    fault = _unfit(key)
    if fault:
        raise ValueError(fault)
    return SSlibKey.from_crypto(key)


def _unfit(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey) or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return "" if key.key_size >= _BITS else f"is an RSA key of {key.key_size} bits, less than {_BITS}"
    return "is neither Ed25519 nor ECDSA on P-256 nor RSA"


def _read_private(path: str) -> bytes:
    try:
        # Without waiting for somebody to write into it, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise TidegateError(f"the private key {path} is not a file; name the file that holds it")
            if status.st_mode & 0o077:
                raise TidegateError(f"the private key {path} is not private, others than its owner may use it; run chmod 600 {path}")
            content = stream.read(_LIMIT + 1)
    except OSError as error:
        raise TidegateError(f"can't read the private key {path} ({error.strerror}); name a file that this user may read") from error
    if len(content) > _LIMIT:
        raise TidegateError(f"the private key {path} has more than {_LIMIT} bytes, so it is none; name the file that holds it")
    return content
