# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library in a registry is what is in it, whoever put it there and whatever the registry says of its repositories."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl import registry as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import MANIFEST, PACKAGE, canonical
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.registry import Registry
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import list_release
from answering import Answering

HELLO = ("hello", "1.0")


class Answer(Answering):
    """A registry in memory; ``server.catalogue`` makes its answer to ``_catalog``."""

    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        if address.path == "/v2/_catalog":
            status, content, *more = self.server.says(address.query)
            self.say(status, content, **dict(more))
            return
        path, _slash, reference = address.path.removeprefix("/v2/").rpartition("/")
        repository, _slash, kind = path.rpartition("/")
        content = self.server.content.setdefault(repository, {})
        if kind == "tags":
            self.say(200 if content else 404, json.dumps({"tags": [tag for tag in content if ":" not in tag]}).encode())
        elif kind == "manifests" and self.command == "PUT":
            if self.server.read_only:
                self.say(403)
                return
            content |= {reference: body, f"sha256:{hashlib.sha256(body).hexdigest()}": body}
            self.say(201)
        elif kind == "manifests":
            self.say(200 if reference in content else 404, content.get(reference, b""))
        else:
            self.say(200, b"{}")  # each blob is there, and all are alike

    do_GET = do_HEAD = do_PUT = do_POST = answer


class Server(ThreadingHTTPServer):
    """``content``: by repository, its manifests by tag and digest. ``says``: what is answered to ``_catalog`` with a query."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content: dict[str, dict[str, bytes]] = {}
        self.read_only = False

    def says(self, _query: str) -> tuple[object, ...]:
        return 200, json.dumps({"repositories": sorted(self.content)}).encode()

    def put(self, repository: str, tag: str, artifact: str = PACKAGE) -> None:
        """A manifest, as other tools bring it."""
        text = canonical({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact, "tag": tag})
        self.content.setdefault(repository, {}).update({tag: text, f"sha256:{hashlib.sha256(text).hexdigest()}": text})

    def library(self) -> Registry:
        return Registry.at(f"oci+http://127.0.0.1:{self.server_address[1]}/releases/live")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_another_tool_brought_is_there(server: Server) -> None:
    server.put("releases/live/hello", "1.0")
    library = server.library()
    assert (set(library.releases()), library.names(), library.incomplete()) == ({HELLO}, {"hello"}, "")


def test_what_is_beside_the_releases_is_none(server: Server) -> None:
    server.put("releases/live/hello", "1.0")
    for other in ("releases/live", "releases/live/hello/deep", "releases/liver", "other/hello", "releases/live/Upper"):
        server.put(other, "9.0")
    server.put("releases/live/image", "latest", "application/vnd.oci.image.config.v1+json")
    # An image beside the packages of a release that was entered is looked at, and no version of cosign's signatures.
    server.put("releases/live/hello", f"sha256-{'0' * 64}.sig")
    server.content["releases/live"] = {}
    assert set(server.library().releases()) == {HELLO}


@pytest.mark.parametrize("tag", ["Latest", "latest", "1.0"])
def test_an_image_of_others_at_the_very_prefix_is_no_release_that_was_entered(server: Server, tag: str) -> None:
    server.put("releases/live/hello", "1.0")
    server.put("releases/live", tag, "application/vnd.oci.image.config.v1+json")
    library = server.library()
    assert list_release(library.repository("hello"), "hello") == []
    assert (library.listed(), set(library.releases())) == ({"hello"}, {HELLO})
    assert server.library().listed() == {"hello"}
    del server.content["releases/live/hello"]
    assert server.library().listed() == {"hello"}  # whatever became of it


def test_a_release_of_the_name_that_an_image_has_there_is_found_nevertheless(server: Server) -> None:
    server.says = lambda _query: (404, b"")  # type: ignore[method-assign]
    server.put("releases/live/hello", "1.0")
    server.put("releases/live", "hello", "application/vnd.oci.image.config.v1+json")
    assert set(server.library().releases()) == {HELLO}


PAGES = {
    "not found": (404, b"404 page not found"),
    "unauthorised": (401, b"{}"),
    "forbidden": (403, b""),
    "not implemented": (501, b""),
    "a page": (200, b"<html></html>"),
    "no list": (200, b'{"repositories": null}'),
    "an error as success": (200, b'{"errors": []}'),
}


@pytest.mark.parametrize("says", PAGES)
def test_where_a_registry_does_not_tell_its_repositories_that_is_said_and_others_are_asked(server: Server, says: str) -> None:
    server.says = lambda _query: PAGES[says]  # type: ignore[method-assign]
    server.put("releases/live/hello", "1.0")
    library = server.library()
    assert dict(library.releases()) == {}
    assert "does not say which repositories it has" in library.incomplete()
    assert set(library.releases(also={"hello", "Not/A Name", "absent"})) == {HELLO}
    assert list_release(library.repository("hello"), "hello") == []
    assert set(server.library().releases()) == {HELLO}


def test_one_that_gives_fewer_repositories_at_once_is_asked_for_fewer(server: Server) -> None:
    server.put("releases/live/hello", "1.0")
    ask = server.says
    server.says = lambda query: (400, b"{}") if query else ask("")  # type: ignore[method-assign]
    assert set(server.library().releases()) == {HELLO}


def test_a_million_repositories_are_read_up_to_a_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "INDEX_LIMIT", 100_000)
    server.put("releases/live/hello", "1.0")

    def page(query: str) -> tuple[object, ...]:
        first = int(query.partition("last=")[2] or 0)
        names = [f"somebody/elses-{number}" for number in range(first, first + 1000)]
        return 200, json.dumps({"repositories": names}).encode(), ("Link", f"</v2/_catalog?n=1000&last={first + 1000}>; rel=next")

    server.says = page  # type: ignore[method-assign]
    assert "does not say which repositories it has" in server.library().incomplete()


def test_a_list_that_this_user_may_not_write_is_a_sentence(server: Server) -> None:
    server.put("releases/live/hello", "1.0")
    server.read_only = True
    (sentence,) = list_release(server.library().repository("hello"), "hello")
    assert sentence.startswith("hello is in the library, but can't be entered in its list of releases")
    with pytest.raises(TidegateError):
        server.library().enter("hello")
