# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence is kept and found in registries that have no referrers API, however they say so; and with the credentials that tools leave."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST, canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry import EMPTY, Registry, RegistryRepository
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry_requests import Wire
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from answering import Answering

# What is answered to /referrers/: status, body and, with some, what is asked for.
ANSWERS = {
    "not found": (404, b"404 page not found"),
    "bad request": (400, b'{"errors": [{"code": "MANIFEST_INVALID", "message": "no"}]}'),
    "unauthorised": (401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}'),
    "credentials": (401, b"{}", 'Basic realm="registry"'),
    "token": (401, b"{}", 'Bearer realm="http://127.0.0.1:1/token"'),
    "kerberos": (401, b"{}", "Negotiate"),
    "forbidden": (403, b""),
    "method": (405, b""),
    "not acceptable": (406, b"{}"),
    "not implemented": (501, b""),
    "page": (200, b"<html><body>Registry</body></html>"),
    "error as success": (200, b'{"errors": []}'),
    "nothing": (200, b""),
    "no list": (200, b'{"schemaVersion": 2, "manifests": null}'),
}


class Answer(Answering):
    """A registry in memory, as the distribution specification has it but for its referrers API."""

    server: Server

    def referrers(self, _subject: str) -> tuple[object, ...]:
        return ANSWERS[self.server.says]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        kind, _slash, reference = address.path.removeprefix("/v2/releases/hello/").partition("/")
        content = self.server.content
        if kind == "referrers":
            status, said, *login = self.referrers(reference)
            self.say(status, said, **({"Www-Authenticate": login[0]} if login else {}))
        elif kind == "blobs" and self.command == "POST":
            self.say(202, Location="/v2/releases/hello/blobs/uploads/1")
        elif kind == "blobs" and self.command == "PUT":
            content[parse_qs(address.query)["digest"][0]] = body
            self.say(201)
        elif kind == "manifests" and self.command == "PUT":
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            content |= {digest: body, reference: body}
            self.say(201)
        elif kind == "tags":
            self.say(200, json.dumps({"tags": [name for name in content if not name.startswith("sha256:")]}).encode())
        else:
            confused = re.sub("^sha256-([0-9a-f]{64})$", r"sha256:\1", reference)  # a tag taken for the digest that it is made of
            found = content.get(reference, content.get(confused))
            self.say(404 if found is None else 200, found or b"")

    do_GET = do_HEAD = do_POST = do_PUT = _answer


class Server(ThreadingHTTPServer):
    """``says``: which of ``ANSWERS``. ``content``: manifests and blobs by digest and tag."""

    says = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content: dict[str, bytes] = {}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("says", ANSWERS)
def test_evidence_is_kept_and_found_however_a_registry_says_that_it_has_no_referrers(server: Server, says: str) -> None:
    server.says = says
    home = Registry.at(f"oci+http://127.0.0.1:{server.server_address[1]}/releases").repository("hello")
    subject = _put(home, "package")
    assert home.referrers(subject) == []
    evidence = _put(home, "evidence", subject)
    assert [found.digest for found in home.referrers(subject)] == [evidence]
    del server.content[f"sha256-{subject[7:]}"]  # the list, which several who write at once may shorten
    assert [found.digest for found in home.referrers(subject)] == [evidence]


@pytest.mark.parametrize("none", [b'{"schemaVersion": 2, "manifests": []}', 403, 404])
def test_a_registry_that_knows_nothing_of_one_release_is_asked_about_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch, none: bytes | int
) -> None:
    """Its API may know of nothing about what was signed before it had one; only where it has none it is asked once."""
    server.says = "not found"
    library = Registry.at(f"oci+http://127.0.0.1:{server.server_address[1]}/releases")
    home = library.repository("hello")
    early, late = _put(home, "early"), _put(home, "late")
    listed = _put(home, "evidence", early)
    rejection = {"mediaType": MANIFEST, "digest": f"sha256:{'1' * 64}", "size": 1, "artifactType": "x/y"}
    known = json.dumps({"schemaVersion": 2, "manifests": [rejection]}).encode()
    asked = []

    def answer(self: Answer, subject: str) -> tuple[int, bytes]:
        asked.append(subject)
        said = known if subject == late and none != 404 else none
        return (said, b"") if isinstance(said, int) else (200, said)

    monkeypatch.setattr(Answer, "referrers", answer)
    home = library.at_one_moment().repository("hello")
    assert [found.digest for found in home.referrers(early)] == [listed]
    assert [found.digest for found in home.referrers(late)] == ([] if none == 404 else [rejection["digest"]])
    assert asked == ([early] if none == 404 else [early, late])


def test_what_other_tools_keep_under_a_tag_about_a_package_is_seen(server: Server) -> None:
    server.says = "not found"
    home = Registry.at(f"oci+http://127.0.0.1:{server.server_address[1]}/releases").repository("hello")
    subject = _put(home, "package")
    _put(home, "evidence", subject)
    others = [f"sha256-{subject[7:]}.att", f"sha256-{subject[7:]}.sbom"]
    server.content |= dict.fromkeys([*others, f"sha256-{'0' * 64}.att"], b"{}")
    assert home.beside(subject) == others


def test_what_a_registry_says_of_a_piece_beside_its_digest_and_type_is_nobodys_word(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes that from the manifest, which anybody can write around a finding."""
    digest = f"sha256:{'1' * 64}"
    entry = {"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": "x/y", "annotations": {"example.tidegate.rfc": "CHG2"}}
    monkeypatch.setitem(ANSWERS, "list", (200, json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()))
    server.says = "list"
    home = Registry.at(f"oci+http://127.0.0.1:{server.server_address[1]}/releases").repository("hello")
    (found,) = home.referrers(f"sha256:{'0' * 64}")
    assert (found.digest, found.artifact_type, found.annotations) == (digest, "x/y", {})


def test_an_index_that_is_cut_short_is_not_taken_for_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "short", (200, b'{"schemaVersion": 2, "manifests": ['))
    monkeypatch.setitem(ANSWERS, "busy", (409, b""))
    home = Registry.at(f"oci+http://127.0.0.1:{server.server_address[1]}/releases").repository("hello")
    for server.says in ("short", "busy"):
        with pytest.raises(TidegateError):
            home.referrers(f"sha256:{'0' * 64}")


def _put(home: RegistryRepository, artifact: str, subject: str | None = None) -> str:
    empty = home.put_blob(b"{}", EMPTY).to_json()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": f"application/{artifact}", "config": empty, "layers": [empty]}
    if subject is None:
        return home.put_manifest(canonical(manifest)).digest
    manifest["subject"] = {"mediaType": MANIFEST, "digest": subject, "size": len(home.read_manifest(subject))}
    return home.refer(subject, canonical(manifest)).digest


@pytest.mark.parametrize(
    ("names", "namespace", "user"),
    [
        (["reg.example:5000"], "releases/live", "reg.example:5000"),
        (["https://reg.example:5000"], "releases/live", "https://reg.example:5000"),
        (["https://reg.example:5000/v2/"], "", "https://reg.example:5000/v2/"),
        (["reg.example:5000/releases"], "releases/live", "reg.example:5000/releases"),
        (
            ["reg.example:5000", "reg.example:5000/releases", "reg.example:5000/releases/live"],
            "releases/live",
            "reg.example:5000/releases/live",
        ),
        (["reg.example:5000", "reg.example:5000/other"], "releases/live", "reg.example:5000"),
        (["reg.example:5000/releases"], "", "reg.example:5000/releases"),
        (["reg.example:5000/releases", "reg.example:5000/other"], "", None),
        (["reg.example:50001/releases", "reg.example/releases"], "releases", None),
    ],
)
def test_the_credentials_are_those_of_our_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], namespace: str, user: str | None
) -> None:
    auths = {name: {"auth": base64.b64encode(f"{name}:secret".encode()).decode()} for name in names}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("HOME", str(tmp_path))
    wire = Wire("reg.example:5000", True, namespace)
    if user is None:
        with pytest.raises(TidegateError, match="wants credentials and there are none for it"):
            wire._log_in('Basic realm="x"')
    else:
        sent = wire._log_in('Basic realm="x"')
        assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"{user}:secret"
