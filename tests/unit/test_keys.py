# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys out of files: what openssl makes is taken, and what others may read, or what is no key, is refused without showing it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_public, load_signer
from seals import private_file


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def make(path: Path, *algorithm: str) -> Path:
    old = os.umask(0o077)
    try:
        openssl("genpkey", *algorithm, "-out", str(path))
    finally:
        os.umask(old)
    return path


@pytest.mark.parametrize(
    "algorithm",
    [
        ("-algorithm", "ed25519"),
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    ],
)
def test_what_openssl_makes_signs_and_its_public_half_verifies(tmp_path: Path, algorithm: tuple[str, ...]) -> None:
    path = make(tmp_path / "key.pem", *algorithm)
    signer = load_signer(str(path))
    key = load_public(openssl("pkey", "-in", str(path), "-pubout"))
    assert key.keyid == signer.public_key.keyid
    key.verify_signature(signer.sign(b"said"), b"said")


def test_the_command_of_the_documentation_makes_a_key_that_is_taken(tmp_path: Path) -> None:
    make(tmp_path / "key.pem", "-algorithm", "ed25519")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    load_signer(str(tmp_path / "key.pem"))


def test_a_passphrase_opens_the_key_that_has_it(tmp_path: Path) -> None:
    path = make(tmp_path / "key.pem", "-algorithm", "ed25519", "-aes256", "-pass", "pass:opensesame")
    load_signer(str(path), "opensesame")
    for given, why in ((None, "has a passphrase; give it in key_passphrase"), ("sesameopen", "its passphrase is another one")):
        with pytest.raises(TidegateError, match=why) as caught:
            load_signer(str(path), given)
        assert "sesameopen" not in str(caught.value)
    plain = make(tmp_path / "plain.pem", "-algorithm", "ed25519")
    with pytest.raises(TidegateError, match="has no passphrase"):
        load_signer(str(plain), "opensesame")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = private_file(tmp_path, "rita")
    path.chmod(mode)
    with pytest.raises(TidegateError, match=f"run chmod 600 {path}"):
        load_signer(str(path))


@pytest.mark.parametrize("content", ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "x" * 70_000])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(TidegateError, match=f"the private key {path}") as caught:
        load_signer(str(path))
    assert not content or content not in str(caught.value)


def test_a_public_key_a_directory_a_pipe_and_nothing_are_no_private_keys(tmp_path: Path) -> None:
    public = tmp_path / "public.pem"
    public.touch(mode=0o600)
    public.write_text(openssl("pkey", "-in", str(private_file(tmp_path, "rita")), "-pubout"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    why = {"public.pem": "is no private key in PEM", "pipe": "is not a file", "folder": "folder", "none.pem": "No such file"}
    for name, said in why.items():
        with pytest.raises(TidegateError, match=said):
            load_signer(str(tmp_path / name))


@pytest.mark.parametrize(
    ("algorithm", "why"),
    [
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), "of 1024 bits"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), "is neither"),
        (("-algorithm", "X25519"), "is neither"),
    ],
)
def test_a_weak_or_strange_key_is_refused_on_both_sides(tmp_path: Path, algorithm: tuple[str, ...], why: str) -> None:
    path = make(tmp_path / "key.pem", *algorithm)
    with pytest.raises(TidegateError, match=why):
        load_signer(str(path))
    with pytest.raises(ValueError, match=why):
        load_public(openssl("pkey", "-in", str(path), "-pubout"))


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a private key"):
        load_public(private_file(tmp_path, "rita").read_text())
