# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The home of a definitive software library in an OCI registry: one repository for each release, below a prefix.

Protocol: the OCI distribution specification 1.1. The repository of a release has a tag for each version. The repository that the
prefix names lists the releases, a tag for each, since the specification has no way to ask a registry which repositories it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin, urlsplit

from ..errors import ConflictError, IntegrityError, TidegateError
from ..files import pour
from ..libs import require
from .oci import (
    DIGEST,
    IMAGE_INDEX,
    INDEX_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    artifact_of,
    canonical,
    index_of,
    moved,
    parse_index,
    parse_json,
    referrers_tag,
)
from .walk import walk

with contextlib.suppress(ImportError):
    import oras.auth
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

EMPTY = "application/vnd.oci.empty.v1+json"
CATALOGUE = "application/vnd.tidegate.catalogue.v1+json"

_ADDRESS = re.compile(r"(oci|oci\+http)://([a-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-f:.]+\](?::[0-9]{1,5})?)/([^?#@\s]+?)/?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")  # the grammar of the OCI distribution specification
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(\.[0-9a-f]{32})?")
_BLOCK = 1 << 20
_PAGES = 10_000  # of a list; registries put 100 entries or more on each
_PAUSES = (0.1, 0.4, 1.6)  # seconds between attempts at what may go wrong when several do it at once
_PATIENCE = (10.0, 60.0)  # seconds to connect, and without a byte


class _AnswerError(TidegateError):
    """The registry answered, but not as it should."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Wire:
    """Requests to one registry: who we are, how long we wait, and what is said when it goes wrong."""

    def __init__(self, host: str, secure: bool) -> None:
        self.host = host
        self._scheme = "https" if secure else "http"
        self._session = requests.Session()
        again = Retry(
            total=4,
            connect=2,
            backoff_factor=0.3,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=("GET", "HEAD"),
            raise_on_status=False,
        )
        self._session.mount(f"{self._scheme}://", HTTPAdapter(max_retries=again))
        # As it is: what a blob is was settled when it got its digest.
        self._session.headers["Accept-Encoding"] = "identity"
        self._auth: Any = None

    @contextlib.contextmanager
    def ask(self, method: str, path: str, ok: tuple[int, ...] = (200,), data: Any = None, **headers: str) -> Iterator[Any]:
        """The response, whose content was not read yet. Other status than ``ok`` raise :class:`TidegateError`."""
        url = urljoin(f"{self._scheme}://{self.host}/v2/", path)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with self._authorised(method, url, headers, data) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    # A block of it could come to a thousand times its size before anybody counts.
                    raise TidegateError(f"the registry {self.host} sends packed bytes, unasked; look at what answers there")
                if response.status_code not in ok:
                    raise _AnswerError(self._refused(method, url, response), response.status_code)
                yield response
        except requests.exceptions.SSLError as error:
            raise TidegateError(
                f"the registry {self.host} has a certificate that is not trusted here ({_short(error)}); name the file of its authority in "
                "the environment variable REQUESTS_CA_BUNDLE"
            ) from error
        except requests.exceptions.RequestException as error:
            raise TidegateError(
                f"the registry {self.host} can't be reached ({_short(error)}); check the address of the DSL and that the registry runs"
            ) from error

    def _authorised(self, method: str, url: str, headers: dict[str, str], data: Any) -> Any:
        """Ask, and when the registry wants to know who asks, tell it and ask again."""
        at_home = urlsplit(url).netloc == self.host  # an upload may go on elsewhere, to somebody who must not learn our secret
        if self._auth is not None and at_home:
            headers = headers | self._auth.get_auth_header()
        response = self._send(method, url, headers, data)
        if response.status_code != 401 or not at_home:
            return response
        response.close()
        if self._scheme == "http":
            raise TidegateError(f"the registry {self.host} wants credentials, which are not sent without TLS; use oci:// for it")
        self._auth = self._log_in(response.headers.get("Www-Authenticate", ""))
        try:
            headers, known = self._auth.authenticate_request(response, headers)
        except (AttributeError, TypeError):  # a challenge that it can't make sense of
            known = False
        if not known:
            raise TidegateError(self._refused(method, url, response))
        if hasattr(data, "seek"):
            data.seek(0)
        return self._send(method, url, headers, data)

    def _log_in(self, challenge: str) -> Any:
        kind = challenge.partition(" ")[0].lower()
        if kind not in ("basic", "bearer"):
            raise TidegateError(f"the registry {self.host} asks for a login in a way not known here; allow basic or token authentication")
        auth = oras.auth.get_auth_backend("basic" if kind == "basic" else "token", self._session, False, tls_verify=True)
        auth.load_configs(oras.container.Container(f"{self.host}/any"), configs=_credential_files())
        if kind == "basic" and not hasattr(auth, "_basic_auth"):
            raise TidegateError(f"the registry {self.host} wants credentials and there are none for it; {_LOG_IN}")
        return auth

    def _send(self, method: str, url: str, headers: Mapping[str, str], data: Any) -> Any:
        return self._session.request(method, url, headers=dict(headers), data=data, stream=True, timeout=_PATIENCE)

    def _refused(self, method: str, url: str, response: Any) -> str:
        status = f"{response.status_code} {response.reason}"
        if response.status_code in (401, 403):
            return f"the registry {self.host} does not let this user {method} {urlsplit(url).path} ({status}); {_LOG_IN}"
        return f"the registry {self.host} answered {status}{_reason(response)} to {method} {urlsplit(url).path}; look at the registry's log"


@dataclass(frozen=True)
class Registry:
    """A registry, as far as it is below ``prefix``, as a library."""

    wire: _Wire
    prefix: str

    @classmethod
    def at(cls, address: str) -> Registry:
        """The library at ``oci://host[:port]/prefix``; nobody is asked yet. ``oci+http://`` is without TLS, and without credentials.

        Raises :class:`TidegateError` when it is no such address.
        """
        require("oras")
        match = _ADDRESS.fullmatch(address)
        if match is None or not _REPOSITORY.fullmatch(match[3]):
            raise TidegateError(
                f"{address!a} is no address of a DSL; write a directory, or oci://host[:port]/prefix with a prefix of lower-case letters, "
                "digits and single separators out of / . _ - between them"
            )
        return cls(_Wire(match[2], match[1] == "oci"), match[3])

    def repository(self, name: str) -> Repository:
        """The repository of the release ``name``."""
        if not re.fullmatch(_PART, name):
            raise TidegateError(f"{name!a} can't be the name of a release in a registry; use lower-case letters and digits")
        return Repository(self, f"{self.prefix}/{name}")

    def releases(self) -> dict[tuple[str, str], Descriptor]:
        """The package of each name and version."""
        found = {}
        for name in Repository(self, self.prefix).tags():
            repository = self.repository(name)
            for version in repository.tags():
                package = repository.tagged(version)
                if package is not None:
                    found[name, version] = package
        return found

    def enter(self, name: str) -> None:
        """List the release ``name`` in the catalogue, where nothing is ever changed."""
        catalogue = Repository(self, self.prefix)
        if catalogue.tagged(name) is None:
            empty = catalogue.put_blob(b"{}", EMPTY).to_json()
            entry = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": CATALOGUE, "config": empty, "layers": [empty]}
            catalogue.put_as(name, canonical(entry), MANIFEST)


@dataclass(frozen=True)
class Repository:
    """The repository of one release."""

    library: Registry
    path: str

    def put_blob(self, source: bytes | Iterable[bytes], media_type: str) -> Descriptor:
        """Store a blob, given whole or in chunks; one that the registry has already is kept."""
        wire = self.library.wire
        with _told(), tempfile.TemporaryFile(prefix="tidegate-") as spool:
            descriptor = Descriptor(media_type, *pour(source, spool.write))
            if self.has_blob(descriptor):
                return descriptor
            with wire.ask("POST", f"{self.path}/blobs/uploads/", ok=(202,), data=b"") as answer:
                upload = urljoin(answer.url, answer.headers.get("Location", ""))
            spool.seek(0)
            upload += f"{'&' if '?' in upload else '?'}digest={descriptor.digest}"
            with wire.ask("PUT", upload, ok=(201,), data=spool if descriptor.size else b"", Content_Type="application/octet-stream"):
                return descriptor

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; nobody looks at its bytes."""
        with self.library.wire.ask("HEAD", f"{self.path}/blobs/{_named(descriptor.digest)}", ok=(200, 404)) as answer:
            return bool(answer.status_code == 200 and answer.headers.get("Content-Length") == str(descriptor.size))

    def put_manifest(self, content: bytes) -> Descriptor:
        """Store a manifest under its digest."""
        return self.put_as(f"sha256:{hashlib.sha256(content).hexdigest()}", content, MANIFEST)[0]

    def put_as(self, reference: str, content: bytes, media_type: str) -> tuple[Descriptor, str | None]:
        """Store a manifest under a digest or a tag; also what the registry took for its subject, if it looks at that."""
        if len(content) > MANIFEST_LIMIT:
            raise TidegateError(f"a manifest has {len(content)} bytes, and registries take {MANIFEST_LIMIT}; make it smaller")
        descriptor = Descriptor(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
        # Distribution stumbles when somebody else writes the same at the same time.
        for pause in (*_PAUSES, None):
            try:
                path = f"{self.path}/manifests/{reference}"
                with self.library.wire.ask("PUT", path, ok=(201,), data=content, Content_Type=media_type) as answer:
                    return descriptor, answer.headers.get("OCI-Subject")
            except _AnswerError as error:
                if pause is None or (error.status != 400 and error.status < 500):
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def read_blob(self, digest: str, limit: int) -> bytes:
        """The content of a blob of at most ``limit`` bytes, checked against its digest."""
        return self._checked(digest, self._fetch("blobs", digest, limit))

    def read_manifest(self, digest: str) -> bytes:
        """A manifest, checked against its digest."""
        return self._checked(digest, self._fetch("manifests", digest, MANIFEST_LIMIT))

    def verify_blob(self, descriptor: Descriptor) -> None:
        """Look at every byte of a blob."""
        with self._blob(descriptor.digest) as blocks:
            if pour(_at_most(blocks, descriptor.size), len) != (descriptor.digest, descriptor.size):
                raise self._damaged(descriptor.digest)

    def open_blob(self, digest: str, limit: int) -> BinaryIO:
        """A copy of a blob, checked, that goes away when it is closed."""
        with _told():
            spool = tempfile.TemporaryFile(prefix="tidegate-")  # noqa: SIM115 - the caller closes it
            try:
                with self._blob(digest) as blocks:
                    if pour(_at_most(blocks, limit), spool.write)[0] != digest:
                        raise self._damaged(digest)
                spool.seek(0)
            except BaseException:
                spool.close()
                raise
        return cast(BinaryIO, spool)

    def tag(self, name: str, version: str, descriptor: Descriptor) -> bool:
        """Make a manifest the package of a release; false when it is already, :class:`ConflictError` when another one is."""
        content = self.read_manifest(descriptor.digest)
        if not _TAG.fullmatch(version):
            raise TidegateError(f"{version!a} can't be a tag of a registry; use up to 128 letters, digits and . _ -")
        existing = self.resolve(name, version)
        if existing is None:
            self.library.enter(name)
            self.put_as(version, content, MANIFEST)
            existing, made = self.resolve(name, version), True  # somebody may have been faster, or slower
        else:
            made = False
        if existing != descriptor.digest:
            raise moved(f"{name}:{version}", str(existing), descriptor.digest)
        return made

    def resolve(self, name: str, version: str) -> str | None:
        """The digest of the package of a release, or ``None`` when it was never archived here."""
        del name
        package = self.tagged(version) if _TAG.fullmatch(version) else None
        return package.digest if package else None

    def refer(self, subject: str, content: bytes) -> Descriptor:
        """Store a manifest that refers to the manifest ``subject``.

        In a registry without the referrers API it gets a tag of its own, made of both digests, so that several who add evidence at once
        lose none and nobody collects it as garbage; and for other tools the list with the tag that the specification gives it.
        """
        artifact = artifact_of(content, subject)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        descriptor, seen = self.put_as(digest, content, MANIFEST)
        if seen != subject:
            self.put_as(f"{referrers_tag(subject)}.{digest[7:39]}", content, MANIFEST)
            self.put_as(referrers_tag(subject), index_of(self.referrers(subject)), IMAGE_INDEX)
        return replace(descriptor, artifact_type=artifact)

    def referrers(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest, each with its artifact type; nobody has looked into them yet."""
        found: dict[str, Descriptor] = {}
        for page in self._pages(f"{self.path}/referrers/{subject}"):
            found |= {entry.digest: entry for entry in parse_index(page, f"what {self} says refers to {subject}")}
        # A registry that learned of referrers later does not know of those from before.
        listed = self._fetch("manifests", referrers_tag(subject), INDEX_LIMIT)
        if listed is not None:
            where = f"the list of what refers to {subject}"
            found = {entry.digest: entry for entry in parse_index(listed, where)} | found
        found |= {entry.digest: entry for entry in self._with_own_tag(subject, {digest[7:39] for digest in found})}
        return [found[digest] for digest in sorted(found)]

    def unlisted(self, subject: str) -> list[Descriptor]:
        """What refers to a manifest and has a tag that says so."""
        return self._with_own_tag(subject, set())

    def _with_own_tag(self, subject: str, known: set[str]) -> list[Descriptor]:
        """What :meth:`refer` gave a tag, but for that whose digest begins with one of ``known``."""
        found = []
        for tag in self._tags():
            if tag.startswith(f"{referrers_tag(subject)}.") and tag[-32:] not in known:
                content = self._fetch("manifests", tag, MANIFEST_LIMIT)
                if content is not None:  # a tag can be seen a moment before there is something behind it
                    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
                    found.append(Descriptor(MANIFEST, digest, len(content), artifact_type=artifact_of(content, subject)))
        return found

    def relist(self, subject: str, entries: Iterable[Descriptor]) -> None:
        """Make a new list of what refers to ``subject``, in place of a damaged one."""
        self.put_as(referrers_tag(subject), index_of(entries), IMAGE_INDEX)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to hold: a registry keeps blobs that a manifest names, and its garbage collector leaves young ones alone."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def purging(self, name: str, version: str, digest: str) -> Iterator[Callable[[], int]]:
        """Prepare to delete a release's manifest and what refers to it. The bytes are freed by the registry's garbage collector."""
        existing = self.resolve(name, version)
        if existing not in (None, digest):
            raise ConflictError(f"{self}:{version} is {existing}, not {digest}; nothing was purged")
        kept = {found.digest for tag in self.tags() if tag != version and (found := self.tagged(tag))}
        if digest in kept:
            raise ConflictError(f"{digest} has another tag in {self} too, so nothing was purged; take that tag away first")
        self._delete(f"sha256:{'0' * 64}")  # what nobody has, to hear whether it lets us
        referring = [
            manifest for manifest, _blobs in walk(self, Descriptor(MANIFEST, digest, 0)).groups() if manifest not in {digest, *kept}
        ]

        def purge() -> int:
            self._delete(digest)  # and its tag with it
            # Each after what it leads to, or a purge that was killed would not find that again.
            for manifest in [*referring[::-1], digest]:
                listed = self.tagged(referrers_tag(manifest))
                for gone in [listed.digest if listed else None, manifest]:
                    if gone:
                        self._delete(gone)
            return 0

        yield purge

    def _delete(self, digest: str) -> None:
        with self.library.wire.ask("DELETE", f"{self.path}/manifests/{digest}", ok=(202, 404, 405)) as answer:
            if answer.status_code == 405:
                raise TidegateError(
                    f"the registry {self.library.wire.host} does not let anybody delete, so nothing was purged; allow it there (for "
                    "Distribution, storage.delete.enabled: true) and run this again"
                )

    def tags(self) -> list[str]:
        """Every tag that is not about referrers."""
        return [tag for tag in self._tags() if not _REFERRERS.fullmatch(tag)]

    def _tags(self) -> list[str]:
        found: list[str] = []
        for page in self._pages(f"{self.path}/tags/list?n=1000"):
            tags = parse_json(page, f"the list of tags of {self}").get("tags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
                raise IntegrityError(f"{self} has a malformed list of tags; look at what answers at that address")
            found += tags
        return found

    def tagged(self, tag: str) -> Descriptor | None:
        """The manifest with a tag."""
        content = self._fetch("manifests", tag, MANIFEST_LIMIT)
        return None if content is None else Descriptor(MANIFEST, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))

    def _pages(self, path: str) -> Iterator[bytes]:
        """What the registry answers, and to the next page's address as long as it gives one; nothing if it does not know ``path``."""
        seen: set[str] = set()
        while path not in seen:
            seen.add(path)
            if len(seen) > _PAGES:
                raise IntegrityError(f"a list of {self} has more than {_PAGES} pages; look at what answers at that address")
            with self.library.wire.ask("GET", path, ok=(200, 404)) as answer:
                if answer.status_code == 404:
                    return
                yield b"".join(_at_most(answer.iter_content(_BLOCK), INDEX_LIMIT))
                path = urljoin(answer.url, answer.links["next"]["url"]) if "next" in answer.links else path

    @contextlib.contextmanager
    def _blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        with self.library.wire.ask("GET", f"{self.path}/blobs/{_named(digest)}", ok=(200, 404)) as answer:
            if answer.status_code == 404:
                raise self._missing(digest)
            yield answer.iter_content(_BLOCK)

    def _fetch(self, kind: str, reference: str, limit: int) -> bytes | None:
        accept = f"{MANIFEST}, {IMAGE_INDEX}" if kind == "manifests" else "*/*"
        with self.library.wire.ask("GET", f"{self.path}/{kind}/{reference}", ok=(200, 404), Accept=accept) as answer:
            return None if answer.status_code == 404 else b"".join(_at_most(answer.iter_content(_BLOCK), limit))

    def _checked(self, digest: str, content: bytes | None) -> bytes:
        if content is None:
            raise self._missing(_named(digest))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self._damaged(digest)
        return content

    def _missing(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{self} does not have {digest}; restore it from a copy of the DSL")

    def _damaged(self, digest: str) -> IntegrityError:
        return IntegrityError(f"{digest} is damaged, {self} sends other bytes; restore it from a copy of the DSL")

    def __str__(self) -> str:
        return f"{self.library.wire.host}/{self.path}"


_LOG_IN = (
    "log in with docker login, podman login or skopeo login, as one who may do this, or name the file with the credentials in the "
    "environment variable REGISTRY_AUTH_FILE"
)


def _credential_files() -> list[str]:
    """Where container tools keep credentials, besides ~/.docker/config.json."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return [named]
    folders = [(os.environ.get("DOCKER_CONFIG"), "config.json"), (os.environ.get("XDG_RUNTIME_DIR"), "containers/auth.json")]
    return [str(Path(folder) / name) for folder, name in folders if folder and (Path(folder) / name).exists()]


def _named(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise IntegrityError(f"{digest!r} is not a digest; one is sha256: and 64 hexadecimal digits")
    return digest


def _at_most(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The blocks, as long as they are no more than ``limit`` bytes together."""
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit:
            raise IntegrityError(f"the registry sends more than the {limit} bytes that it should; look at what answers at that address")
        yield block


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TidegateError(
            f"can't keep a blob in {tempfile.gettempdir()} ({error.strerror or error}); make room, or name another directory in TMPDIR"
        ) from error


def _reason(response: Any) -> str:
    """What the registry says of its refusal, as far as it is a plain sentence."""
    with contextlib.suppress(requests.exceptions.RequestException, IntegrityError, KeyError, IndexError, TypeError):
        first = parse_json(b"".join(_at_most(response.iter_content(_BLOCK), _BLOCK)), "it")["errors"][0]
        return f" ({first['code']!a:.60}: {first['message']!a:.200})"
    return ""


def _short(error: Exception) -> str:
    """What a chain of errors comes to, without the objects that its text is full of."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    return _short(reason) if isinstance(reason, Exception) else re.sub(r"<[^>]*>:? ?", "", str(error))
