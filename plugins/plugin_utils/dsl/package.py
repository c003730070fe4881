# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package: the archived form of a release, an OCI image manifest whose digest names all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...module_utils.payload_format import is_tar_of, unseen
from ..activity import note
from ..documents import load_document
from ..errors import DocumentError, IntegrityError, Problem, TidegateError
from .commands import check_commands
from .descriptors import MANIFEST, PACKAGE, TITLE, VERSION, Descriptor, canonical, describe_blob, moved, parse_json
from .manifest import INDEX_TITLE, PAYLOAD_TITLE, Manifest, load_manifest
from .payload import FileEntry, PayloadTar, index_json, matching, opened, parse_index, scan, visible
from .repository import Repository

CONFIG = "application/vnd.tidegate.release.config.v1+json"
PAYLOAD = "application/vnd.oci.image.layer.v1.tar"
DOCUMENTATION = "application/vnd.tidegate.release.documentation.v1"
INDEX = "application/vnd.tidegate.release.index.v1+json"

_CONFIG_LIMIT = 4 << 20  # bytes
_INDEX_LIMIT = 512 << 20  # some two million files
_BLOCK = 1 << 20
_SCENARIO = 50  # files; with the documentation there may be a hundred

_Put = Callable[[bytes | Iterable[bytes], str], Descriptor]


@dataclass(frozen=True)
class Archived:
    """What became of a release; ``files`` counts them, ``size`` is their bytes together, ``entries`` its file index."""

    digest: str
    name: str
    version: str
    created: bool
    files: int
    size: int
    entries: tuple[FileEntry, ...] = ()


@dataclass(frozen=True)
class Package:
    """A package's documents, each checked against its digest, and what they say. The payload's bytes are not checked."""

    digest: str
    manifest_bytes: bytes
    config_bytes: bytes
    index_bytes: bytes
    manifest: Manifest
    files: tuple[FileEntry, ...]
    payload: Descriptor
    documentation: tuple[Descriptor, ...]

    def misnamed(self, name: str, version: str) -> str:
        """That it is the package of another release than the one as which the library keeps it; empty when it is not."""
        own = self.manifest
        if (own.name, own.version) == (name, version):
            return ""
        return f"what the DSL keeps as {name} {version} is the package of {own.name} {own.version}; take that tag away"


@dataclass(frozen=True)
class Source:
    """A release's directory that may be archived: everything in it was looked at, and nothing was refused."""

    directory: Path
    manifest: Manifest
    entries: tuple[FileEntry, ...]

    def preview(self, home: Repository | None) -> Archived:
        """What :meth:`archive` would return, without writing anything; ``home`` is ``None`` while there is no DSL."""
        document, entries = self._assemble(describe_blob)
        descriptor = describe_blob(canonical(document), MANIFEST)
        existing = home.resolve(self.manifest.name, self.manifest.version) if home else None
        if existing not in (None, descriptor.digest):
            raise moved(f"{self.manifest.name}:{self.manifest.version}", str(existing), descriptor.digest)
        return self._archived(descriptor.digest, existing is None, entries)

    def archive(self, home: Repository, examined: Collection[str] | None = None) -> Archived:
        """Store the package and tag it last, so that it is there whole or not at all.

        ``examined``: the sha256s of the contents that were looked at, which have to be all that it consists of. Raises
        :class:`ConflictError` when this version of the release is archived already with another content, and :class:`TidegateError`
        when the release changed since it was examined.
        """
        if home.resolve(self.manifest.name, self.manifest.version):
            return self.preview(home)
        note(f"putting {self.manifest.name} {self.manifest.version}, {len(self.entries)} files, into the library")
        with home.writing():
            document, entries = self._assemble(home.put_blob)
            if examined is not None:
                layers = document["layers"]
                documentation = [layer["digest"].removeprefix("sha256:") for layer in layers if layer["mediaType"] == DOCUMENTATION]
                if not {*documentation, *(entry.sha256 for entry in entries if entry.sha256)} <= set(examined):
                    raise TidegateError(f"{self.directory} changed while it was archived; archive again when nothing writes to it")
            descriptor = home.put_manifest(canonical(document))
            created = home.tag(self.manifest.name, self.manifest.version, descriptor)
        return self._archived(descriptor.digest, created, entries)

    def _assemble(self, put: _Put) -> tuple[dict[str, Any], list[FileEntry]]:
        tar = PayloadTar(self.directory / self.manifest.payload, self.entries)
        # With a title each, for tools such as oras leave out a layer that has none.
        layers: list[dict[str, Any]] = [_titled(put(tar, PAYLOAD), PAYLOAD_TITLE)]
        for name in sorted(self.manifest.documentation):  # as the config has them
            with opened(str(self.directory / name)) as (_size, chunks):
                layers.append(_titled(put(chunks, DOCUMENTATION), name))
        layers.append(_titled(put(index_json(tar.entries), INDEX), INDEX_TITLE))
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": PACKAGE,
            "config": put(canonical(self.manifest.to_config()), CONFIG).to_json(),
            "layers": layers,
            # Not when: an archive made again has to be the same bytes.
            "annotations": {TITLE: self.manifest.name, VERSION: self.manifest.version},
        }
        return document, tar.entries

    def _archived(self, digest: str, created: bool, entries: Collection[FileEntry]) -> Archived:
        sizes = [entry.size for entry in entries if entry.size is not None]
        return Archived(digest, self.manifest.name, self.manifest.version, created, len(sizes), sum(sizes), tuple(entries))


def read_release(directory: Path) -> Source:
    """Look at everything that would be archived of a release's directory.

    Raises :class:`DocumentError` with every fault of its manifest, or else every fault of its payload and documentation.
    """
    manifest = load_manifest(directory / "release.yml")
    problems: list[Problem] = []
    entries: list[FileEntry] = []
    root = directory / manifest.payload
    if not root.is_dir() or not _inside(root, directory):
        problems.append(
            Problem(manifest.payload, f"the payload is not a directory inside {directory}", "put it there or name it in release.yml")
        )
    else:
        entries, problems = scan(root, manifest.payload, manifest.portable_names)
        if not problems:  # in a tree that is not as it should be nobody knows what a command is
            document = load_document(directory / "release.yml", "release")
            check_commands(document, {entry.path: entry for entry in entries}, root)
            try:
                document.finish()
            except DocumentError as error:
                problems += error.problems
    for name in (manifest.payload, *manifest.documentation):
        if odd := unseen(name):
            problems.append(Problem(visible(name), f"the name has a character that can't be seen, {odd}", "rename it"))
    for name in manifest.documentation:
        path = directory / name
        if path.is_symlink() or not path.is_file() or not _inside(path, directory):
            problems.append(Problem(name, f"the documentation is not a file inside {directory}", "put it there or name it in release.yml"))
    if manifest.scenario is not None:
        files, more = _scenario(directory, manifest.scenario)
        manifest = replace(manifest, documentation=tuple(sorted({*manifest.documentation, *files})))
        problems += more
    if problems:
        raise DocumentError(problems)
    manifest.check()  # with the names of those files in it
    return Source(directory, manifest, tuple(entries))


def _scenario(directory: Path, folder: str) -> tuple[list[str], list[Problem]]:
    """The files of a release's own scenario, which are archived with its documentation, and what is wrong with them."""
    root = directory / folder
    if root.is_symlink() or not root.is_dir() or not _inside(root, directory):
        return [], [Problem(folder, f"the scenario is not a directory inside {directory}", "put it there or name it in release.yml")]
    found = sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts and (path.is_symlink() or not path.is_dir()))
    names = [path.relative_to(directory).as_posix() for path in found]
    if not names or len(names) > _SCENARIO:
        return [], [Problem(folder, f"the scenario has {len(names)} files", f"put 1 to {_SCENARIO} there")]
    odd = [name for name, path in zip(names, found, strict=True) if path.is_symlink() or not path.is_file() or unseen(name)]
    return names, [Problem(ascii(name), "it is not a file with a plain name", "leave it out of the scenario") for name in odd]


def archive(directory: Path, home: Repository) -> Archived:
    """Archive the release in ``directory``; raises what :func:`read_release` and :meth:`Source.archive` raise."""
    return read_release(directory).archive(home)


def load_package(home: Repository, digest: str) -> Package:
    """The package ``digest``, all but its payload and documentation checked; raises :class:`IntegrityError` naming what is wrong."""
    content, parts = _read_manifest(home, digest)
    config_bytes = _read(home, parts[CONFIG][0], _CONFIG_LIMIT)
    index_bytes = _read(home, parts[INDEX][0], _INDEX_LIMIT)
    payload = parts[PAYLOAD][0]
    files = parse_index(index_bytes)
    # Files that share bytes of the payload could make a small one fill any disk, and what no file has is seen by nobody here.
    if not is_tar_of((entry.to_json() for entry in files), payload.size):
        raise IntegrityError(
            f"the payload and the file index of the package {digest} are not one tree: the index describes another tar than one of "
            f"{payload.size} bytes; find out who made that package, and archive the release again under a new version"
        )
    manifest = _manifest(digest, config_bytes)
    titles = [[part.annotations.get(TITLE, "") for part in parts[kind]] for kind in (PAYLOAD, DOCUMENTATION, INDEX)]
    if titles != [[PAYLOAD_TITLE], list(manifest.documentation), [INDEX_TITLE]]:
        raise IntegrityError(
            f"the layers of the package {digest} have other titles than what is in them, so other tools would write other files; "
            "archive it again under a new version"
        )
    return Package(digest, content, config_bytes, index_bytes, manifest, files, payload, tuple(parts[DOCUMENTATION]))


def load_package_manifest(home: Repository, digest: str) -> Manifest:
    """What the release in the package ``digest`` says of itself, and nothing else looked at; raises :class:`IntegrityError` or
    :class:`DocumentError`."""
    _content, parts = _read_manifest(home, digest)
    manifest = _manifest(digest, _read(home, parts[CONFIG][0], _CONFIG_LIMIT))
    manifest.check()
    return manifest


def _manifest(digest: str, config: bytes) -> Manifest:
    try:
        return Manifest.from_config(parse_json(config, f"the config of the package {digest}"))
    except (KeyError, TypeError, ValueError, IntegrityError) as error:
        raise IntegrityError(f"the config of the package {digest} can't be used: {error}; archive the release again") from error


def verify_package(home: Repository, digest: str) -> None:
    """Check every byte of the package ``digest``, and that its payload is the tree of its file index.

    Raises :class:`IntegrityError` naming each damaged or missing blob, or the entry where payload and index differ.
    """
    damaged = []
    parts = _read_manifest(home, digest)[1]
    for descriptor in (part for kind, found in parts.items() for part in found if kind != PAYLOAD):
        try:
            home.verify_blob(descriptor)
        except IntegrityError as error:
            damaged.append(str(error))
    try:
        if damaged:
            home.verify_blob(parts[PAYLOAD][0])
        else:
            verify_payload(home, load_package(home, digest))
    except IntegrityError as error:
        damaged.append(str(error))
    if damaged:
        raise IntegrityError("\n".join(damaged))


def verify_payload(home: Repository, package: Package) -> None:
    """Check every byte of a payload, by its digest and by the file index; raises :class:`IntegrityError` saying what is wrong."""
    seen = hashlib.sha256()
    for block in read_payload(home, package):
        seen.update(block)
    if f"sha256:{seen.hexdigest()}" != package.payload.digest:
        home.verify_blob(package.payload)
        raise IntegrityError(f"{package.payload.digest} changed while it was read; verify the DSL and run this again")


def read_payload(home: Repository, package: Package) -> Iterator[bytes]:
    """The bytes of a payload as long as they are the tree of the file index; raises :class:`IntegrityError` where they are not."""
    payload = package.payload
    try:
        with home.open_blob(payload.digest, payload.size) as stream:
            yield from matching(iter(lambda: stream.read(_BLOCK), b""), package.files)
    except IntegrityError:
        home.verify_blob(payload)  # when it is not the blob that it should be, that is what is wrong
        raise


def _read_manifest(home: Repository, digest: str) -> tuple[bytes, dict[str, list[Descriptor]]]:
    """The OCI manifest of a package, and the blobs that it consists of by media type."""
    where = f"the package {digest}"
    content = home.read_manifest(digest)
    document = parse_json(content, where)
    if (document.get("schemaVersion"), document.get("mediaType"), document.get("artifactType")) != (2, MANIFEST, PACKAGE):
        raise IntegrityError(f"{digest} is not the package of a release; name the digest that archive printed")
    parts: dict[str, list[Descriptor]] = {CONFIG: [], PAYLOAD: [], DOCUMENTATION: [], INDEX: []}
    layers = document.get("layers")
    for item in [document.get("config"), *(layers if isinstance(layers, list) else [])]:
        part = Descriptor.from_json(item, where)
        parts.setdefault(part.media_type, []).append(part)
    counts = [len(found) for kind, found in parts.items() if kind != DOCUMENTATION]
    # Any other layer would be laid over the payload by whoever unpacks it as an image, a scanner for one.
    if counts != [1, 1, 1] or Descriptor.from_json(document["config"], where).media_type != CONFIG:
        raise IntegrityError(
            f"{where} does not consist of one config, one payload, one file index and documentation alone; archive it again"
        )
    return content, parts


def _titled(part: Descriptor, title: str) -> dict[str, Any]:
    return replace(part, annotations={TITLE: title}).to_json()


def _read(home: Repository, descriptor: Descriptor, limit: int) -> bytes:
    content = home.read_blob(descriptor.digest, min(descriptor.size, limit))
    if len(content) != descriptor.size:
        raise IntegrityError(f"{descriptor.digest} has {len(content)} bytes, not {descriptor.size}; restore it from a copy of the DSL")
    return content


def _inside(path: Path, directory: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())
