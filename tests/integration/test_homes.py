# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A library keeps what it promises wherever it is: in a directory, and in a registry of every kind there is."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import registry
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import IMAGE_INDEX
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive, load_package, read_release, verify_package
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import Library, create_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, IntegrityError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.envelope import sign
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import release_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.store import attach, collect
from oras.client import OrasClient
from securesystemslib.signer import CryptoSigner

KINDS = ["layout", "registry", "referrers", "basic", "token"]
NOW = datetime(2027, 3, 1, 22, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """Where a library can be; ``server`` is its registry, if it is in one."""

    address: str
    server: registry.Server | None

    def library(self) -> Library:
        """As a new process finds it."""
        return open_library(self.address)

    def blob(self, digest: str) -> Path:
        """The file that a blob is in."""
        if self.server:
            return self.server.blob(digest)
        return Path(self.address) / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def package(self, name: str, version: str) -> str:
        """A package as skopeo calls it."""
        return self._image(name, version) if self.server else f"oci:{self.address}:{name}:{version}"

    def listing(self, name: str, digest: str) -> str:
        """The list of what refers to a package as skopeo calls it."""
        tag = digest.replace(":", "-")
        return self._image(name, tag) if self.server else f"oci:{self.address}:{tag}"

    def _image(self, name: str, tag: str) -> str:
        return f"docker://{self.address.partition('://')[2]}/{name}:{tag}"


Kind = tuple[str, registry.Server | None]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    if request.param == "layout":
        yield request.param, None
        return
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    folder = tmp_path_factory.mktemp("registry")
    auth = request.param if request.param in ("basic", "token") else None
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(registry.serve(folder, auth))
        yield request.param, stack.enter_context(registry.referrers_api(server)) if request.param == "referrers" else server


@pytest.fixture
def place(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A library that has nothing yet."""
    server = kind[1]
    if server is None:
        address = str(tmp_path / "dsl")
    else:
        address = f"{server.address}/{tmp_path.name.replace('_', '-').strip('-')}"
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.credentials(tmp_path, server)))
        if server.authority:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
    create_library(address)
    return Place(address, server)


def release(folder: Path, version: str = "1.0", text: str = "hello") -> Path:
    """The directory of a release."""
    (folder / "payload").mkdir(parents=True)
    (folder / "payload" / "hello").write_text(text * 1000)
    (folder / "payload" / "empty").touch()
    (folder / "README.md").write_text("# Hello\n")
    manifest = ["schema: 1", "name: hello", f"version: '{version}'", "type: minor", "payload: payload"]
    manifest.append(f"summary: Says hello out of {folder}")  # so that tests have no blob of it in common
    manifest += ["documentation: [README.md]", "health: [{name: is there, command: ['true'], timeout: 5}]"]
    (folder / "release.yml").write_text("\n".join(manifest))
    return folder


def envelope(digest: str) -> bytes:
    """A signature of somebody new."""
    return sign(release_statement("hello", "1.0", digest), CryptoSigner.generate_ed25519(), NOW)


def test_what_is_archived_is_there_for_others(place: Place, tmp_path: Path) -> None:
    source = release(tmp_path / "release")
    made = archive(source, place.library().repository("hello"))
    home = place.library().repository("hello")
    assert made.created
    assert home.resolve("hello", "1.0") == made.digest
    assert home.resolve("hello", "2.0") is None
    verify_package(home, made.digest)
    package = load_package(home, made.digest)
    assert [entry.path for entry in package.files] == ["empty", "hello"]
    with home.open_blob(package.payload.digest, package.payload.size) as payload:
        payload.seek(package.files[1].offset or 0)
        assert payload.read(10) == b"hellohello"
    assert home.read_blob(package.documentation[0].digest, 100) == b"# Hello\n"


def test_archived_again_it_is_the_same(place: Place, tmp_path: Path) -> None:
    source = release(tmp_path / "release")
    first, again = (archive(source, place.library().repository("hello")) for _time in range(2))
    assert (first.digest, first.created, again.created) == (again.digest, True, False)
    assert read_release(source).preview(place.library().repository("hello")) == again


def test_a_version_keeps_its_package(place: Place, tmp_path: Path) -> None:
    first = archive(release(tmp_path / "first"), place.library().repository("hello"))
    home = place.library().repository("hello")
    with pytest.raises(ConflictError, match="tags never move"):
        archive(release(tmp_path / "second", text="other"), home)
    other = home.put_manifest(home.read_manifest(first.digest) + b"\n")
    with pytest.raises(ConflictError, match=rf"hello:1.0 is archived as {first.digest}, this would be {other.digest}"):
        home.tag("hello", "1.0", other)
    assert home.resolve("hello", "1.0") == first.digest


def test_it_knows_all_its_releases(place: Place, tmp_path: Path) -> None:
    assert dict(place.library().releases()) == {}
    home = place.library().repository("hello")
    made = {version: archive(release(tmp_path / version, version), home).digest for version in ("1.0", "1.1-rc.1")}
    attach(place.library().repository("hello"), made["1.0"], envelope(made["1.0"]))
    found = place.library().releases()
    assert {key: entry.digest for key, entry in found.items()} == {("hello", version): digest for version, digest in made.items()}


def test_changed_bytes_are_seen_whoever_asks(place: Place, tmp_path: Path) -> None:
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    package = load_package(place.library().repository("hello"), made.digest)
    for digest in (package.payload.digest, package.documentation[0].digest):
        path = place.blob(digest)
        right = path.read_bytes()
        path.chmod(0o644)
        for wrong in (bytes(255 - byte for byte in right), right[:-1], right + b"!"):
            path.write_bytes(wrong)
            with pytest.raises(IntegrityError):
                verify_package(place.library().repository("hello"), made.digest)
            with pytest.raises(IntegrityError):
                place.library().repository("hello").read_blob(digest, len(right))
        path.write_bytes(right)
    verify_package(place.library().repository("hello"), made.digest)


def test_a_changed_manifest_is_seen(place: Place, tmp_path: Path) -> None:
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    path = place.blob(made.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(TidegateError):
        load_package(place.library().repository("hello"), made.digest)


def test_a_blob_that_is_not_the_one_wanted_is_not_stored(place: Place) -> None:
    home = place.library().repository("hello")
    right = home.put_blob(b"right", "text/plain")
    assert home.put_blob(b"right", "text/plain", right.digest) == right
    wrong = f"sha256:{hashlib.sha256(b'wrong').hexdigest()}"
    with pytest.raises(IntegrityError, match=f"{right.digest} is damaged"):
        home.put_blob(b"wrong", "text/plain", right.digest)
    assert not home.has_blob(right._replace(digest=wrong))


def test_what_is_lost_is_named(place: Place, tmp_path: Path) -> None:
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    package = load_package(place.library().repository("hello"), made.digest)
    place.blob(package.payload.digest).unlink()
    with pytest.raises(IntegrityError, match=package.payload.digest):
        verify_package(place.library().repository("hello"), made.digest)
    with pytest.raises(IntegrityError, match=package.payload.digest):
        place.library().repository("hello").open_blob(package.payload.digest, package.payload.size)


def test_evidence_stays_beside_its_package(place: Place, tmp_path: Path) -> None:
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    assert len(collect(place.library().repository("hello"), made.digest)) == 0
    envelopes = {envelope(made.digest) for _piece in range(5)}
    for content in envelopes:
        home = place.library().repository("hello")
        assert attach(home, made.digest, content) == attach(home, made.digest, content)
    found = collect(place.library().repository("hello"), made.digest)
    assert (set(found), len(found), found.broken) == (envelopes, 5, ())


def test_evidence_that_several_add_at_once_is_all_kept(place: Place, tmp_path: Path) -> None:
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    envelopes = [envelope(made.digest) for _piece in range(8)]

    def add(content: bytes) -> None:
        attach(place.library().repository("hello"), made.digest, content)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, envelopes))
    assert set(collect(place.library().repository("hello"), made.digest)) == set(envelopes)


def test_of_two_who_archive_one_version_at_once_one_wins(place: Place, tmp_path: Path) -> None:
    sources = [release(tmp_path / text, text=text) for text in ("one", "two", "three", "four")]

    def attempt(source: Path) -> str | None:
        try:
            return archive(source, place.library().repository("hello")).digest
        except ConflictError:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = {digest for digest in pool.map(attempt, sources) if digest}
    home = place.library().repository("hello")
    digest = home.resolve("hello", "1.0")
    assert digest in won
    verify_package(home, str(digest))


def test_skopeo_takes_a_package_and_its_evidence_out_and_back(kind: Kind, place: Place, tmp_path: Path) -> None:
    if place.server and place.server.authority:
        pytest.skip("what skopeo does with credentials is its own affair")
    made = archive(release(tmp_path / "release"), place.library().repository("hello"))
    proofs = {envelope(made.digest), envelope(made.digest)}
    for proof in proofs:
        attach(place.library().repository("hello"), made.digest, proof)
    away = Place(str(tmp_path / "away"), None)
    back = Place(f"{place.address}/back" if place.server else str(tmp_path / "back"), place.server)
    # A registry with the referrers API has no list of them that could be copied as an image.
    with_evidence = kind[0] != "referrers"
    for source, target in ((place, away), (away, back)):
        create_library(target.address)
        _skopeo(source.package("hello", "1.0"), target.package("hello", "1.0"))
        if with_evidence:
            _skopeo(source.listing("hello", made.digest), target.listing("hello", made.digest))
        home = target.library().repository("hello")
        assert home.resolve("hello", "1.0") == made.digest
        verify_package(home, made.digest)
        if with_evidence:
            assert set(collect(home, made.digest)) == proofs


def test_oras_finds_a_package_and_its_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    with registry.serve(tmp_path / "registry") as server:
        home = open_library(server.address).repository("hello")
        made = archive(release(tmp_path / "release"), home)
        proof = envelope(made.digest)
        attach(home, made.digest, proof)
        client, there = OrasClient(insecure=True), f"{server.host}/releases/live/hello"
        manifest = client.get_manifest(f"{there}:1.0")
        assert client.get_manifest(f"{there}@{made.digest}") == manifest
        for layer in manifest["layers"]:
            content = client.get_blob(there, layer["digest"]).content
            assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (layer["size"], layer["digest"])
        pulled = client.pull(f"{there}:1.0", outdir=str(tmp_path / "pulled"))
        assert sorted(Path(path).name for path in pulled) == ["README.md", "files.json", "payload.tar"]
        with tarfile.open(tmp_path / "pulled" / "payload.tar") as payload:
            assert sorted(payload.getnames()) == ["empty", "hello"]
        listed = client.get_manifest(f"{there}:{made.digest.replace(':', '-')}", [IMAGE_INDEX])["manifests"]
        evidence = client.get_manifest(f"{there}@{listed[0]['digest']}")
        assert evidence["subject"]["digest"] == made.digest
        assert client.get_blob(there, evidence["layers"][0]["digest"]).content == proof


def _skopeo(source: str, target: str) -> None:
    options = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--all", "--quiet", *options, source, target], check=True, timeout=60)


REFUSALS = {
    "nobody listens": "the registry 127.0.0.1:{port} can't be reached (",
    "no credentials": "wants credentials and there are none for it; log in with docker login",
    "a wrong password": "does not let this user GET /v2/releases/hello/manifests/1.0 (401 Unauthorized); log in with docker login",
    "an unknown authority": "has a certificate that is not trusted here (",
    "credentials in the clear": "wants credentials, which are not sent without TLS; use oci:// for it",
}


@pytest.mark.parametrize("trouble", REFUSALS)
def test_a_registry_that_can_not_be_used_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(registry.serve(tmp_path / "registry", "basic"))
        registry.credentials(tmp_path, server, password="wrong" if trouble == "a wrong password" else registry.PASSWORD)
        if trouble == "no credentials":
            (tmp_path / "auth.json").write_text("{}")
        if trouble != "an unknown authority":
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
        port = registry.free_port() if trouble == "nobody listens" else int(server.host.rpartition(":")[2])
        scheme = "oci"
        if trouble == "credentials in the clear":
            scheme, port = "oci+http", stack.enter_context(registry.challenge())
        library = open_library(f"{scheme}://127.0.0.1:{port}/releases")
        with pytest.raises(TidegateError) as error:
            library.repository("hello").resolve("hello", "1.0")
    message = str(error.value)
    assert REFUSALS[trouble].format(port=port) in message
    assert "\n" not in message
    assert "0x" not in message
    assert registry.PASSWORD not in message


def test_an_identity_token_lets_in_who_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if registry.PROGRAM is None:
        pytest.skip("needs Distribution (apt install docker-registry)")
    with registry.serve(tmp_path / "registry", "token") as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.credentials(tmp_path, server, password="", identitytoken=registry.IDENTITY)))
        made = archive(release(tmp_path / "release"), create_library(server.address).repository("hello"))
        assert open_library(server.address).repository("hello").resolve("hello", "1.0") == made.digest
        registry.credentials(tmp_path, server, password="", identitytoken="of-yesterday")
        with pytest.raises(TidegateError, match=r"does not let this user .* \(401 Unauthorized\); log in with docker login"):
            open_library(server.address).repository("hello").resolve("hello", "1.0")


@pytest.mark.parametrize(
    "address",
    ["oci://", "oci://host", "oci://host/", "oci://host/Upper", "oci://host/a b", "oci://host/../a", "oci://u:p@host/a", "http://h/a"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(TidegateError, match="is no address of a DSL; write a directory, or oci://"):
        open_library(address)
