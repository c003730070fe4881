# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package: the archived form of a release, an OCI image manifest whose digest names all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..activity import note
from ..errors import DocumentError, IntegrityError, Problem, TidegateError
from .home import Home
from .manifest import Manifest, load_manifest
from .oci import MANIFEST, Descriptor, canonical, describe_blob, moved, parse_json
from .payload import FileEntry, PayloadTar, index_json, opened, parse_index, scan

ARTIFACT = "application/vnd.tidegate.release.v1+json"
CONFIG = "application/vnd.tidegate.release.config.v1+json"
PAYLOAD = "application/vnd.oci.image.layer.v1.tar"
DOCUMENTATION = "application/vnd.tidegate.release.documentation.v1"
INDEX = "application/vnd.tidegate.release.index.v1+json"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"

_CONFIG_LIMIT = 4 << 20  # bytes
_INDEX_LIMIT = 512 << 20  # some two million files
_SCENARIO = 50  # files; with the documentation there may be a hundred

_Put = Callable[[bytes | Iterable[bytes], str], Descriptor]


@dataclass(frozen=True)
class Archived:
    """What became of a release; ``files`` counts them, ``size`` is their bytes together."""

    digest: str
    name: str
    version: str
    created: bool
    files: int
    size: int


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


@dataclass(frozen=True)
class Source:
    """A release's directory that may be archived: everything in it was looked at, and nothing was refused."""

    directory: Path
    manifest: Manifest
    entries: tuple[FileEntry, ...]

    def preview(self, home: Home | None) -> Archived:
        """What :meth:`archive` would return, without writing anything; ``home`` is ``None`` while there is no DSL."""
        document, entries = self._assemble(describe_blob)
        descriptor = describe_blob(canonical(document), MANIFEST)
        existing = home.resolve(self.manifest.name, self.manifest.version) if home else None
        if existing not in (None, descriptor.digest):
            raise moved(f"{self.manifest.name}:{self.manifest.version}", str(existing), descriptor.digest)
        return self._archived(descriptor.digest, existing is None, entries)

    def archive(self, home: Home, examined: Collection[str] | None = None) -> Archived:
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
        layers: list[dict[str, Any]] = [put(tar, PAYLOAD).to_json()]
        for name in sorted(self.manifest.documentation):  # as the config has them
            with opened(str(self.directory / name)) as (_size, chunks):
                layers.append(put(chunks, DOCUMENTATION).to_json() | {"annotations": {TITLE: name}})
        layers.append(put(index_json(tar.entries), INDEX).to_json())
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": put(canonical(self.manifest.to_config()), CONFIG).to_json(),
            "layers": layers,
            # Not when: an archive made again has to be the same bytes.
            "annotations": {TITLE: self.manifest.name, VERSION: self.manifest.version},
        }
        return document, tar.entries

    def _archived(self, digest: str, created: bool, entries: Iterable[FileEntry]) -> Archived:
        sizes = [entry.size for entry in entries if entry.size is not None]
        return Archived(digest, self.manifest.name, self.manifest.version, created, len(sizes), sum(sizes))


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
        entries, problems = scan(root, manifest.payload)
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
    odd = [name for name, path in zip(names, found, strict=True) if path.is_symlink() or not path.is_file() or not name.isprintable()]
    return names, [Problem(ascii(name), "it is not a file with a plain name", "leave it out of the scenario") for name in odd]


def archive(directory: Path, home: Home) -> Archived:
    """Archive the release in ``directory``; raises what :func:`read_release` and :meth:`Source.archive` raise."""
    return read_release(directory).archive(home)


def load_package(home: Home, digest: str) -> Package:
    """The package ``digest``, all but its payload and documentation checked; raises :class:`IntegrityError` naming what is wrong."""
    content, parts = _read_manifest(home, digest)
    config_bytes = _read(home, parts[CONFIG][0], _CONFIG_LIMIT)
    index_bytes = _read(home, parts[INDEX][0], _INDEX_LIMIT)
    payload = parts[PAYLOAD][0]
    files = parse_index(index_bytes)
    ends = (entry.offset + (entry.size or 0) for entry in files if entry.offset is not None)
    # Files that share bytes of the payload could make a small one fill any disk.
    if max(ends, default=0) > payload.size or sum(entry.size or 0 for entry in files) > payload.size:
        raise IntegrityError(f"the file index of the package {digest} has more than the payload; archive it again under a new version")
    manifest = _manifest(digest, config_bytes)
    return Package(digest, content, config_bytes, index_bytes, manifest, files, payload, tuple(parts[DOCUMENTATION]))


def load_package_manifest(home: Home, digest: str) -> Manifest:
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


def verify_package(home: Home, digest: str) -> None:
    """Check every byte of the package ``digest``; raises :class:`IntegrityError` naming each damaged or missing blob."""
    damaged = []
    for descriptor in (part for parts in _read_manifest(home, digest)[1].values() for part in parts):
        try:
            home.verify_blob(descriptor)
        except IntegrityError as error:
            damaged.append(str(error))
    if damaged:
        raise IntegrityError("\n".join(damaged))
    load_package(home, digest)


def _read_manifest(home: Home, digest: str) -> tuple[bytes, dict[str, list[Descriptor]]]:
    """The OCI manifest of a package, and the blobs that it consists of by media type."""
    where = f"the package {digest}"
    content = home.read_manifest(digest)
    document = parse_json(content, where)
    if (document.get("schemaVersion"), document.get("mediaType"), document.get("artifactType")) != (2, MANIFEST, ARTIFACT):
        raise IntegrityError(f"{digest} is not the package of a release; name the digest that archive printed")
    parts: dict[str, list[Descriptor]] = {CONFIG: [], PAYLOAD: [], DOCUMENTATION: [], INDEX: []}
    layers = document.get("layers")
    for item in [document.get("config"), *(layers if isinstance(layers, list) else [])]:
        part = Descriptor.from_json(item, where)
        parts.setdefault(part.media_type, []).append(part)
    counts = [len(found) for kind, found in parts.items() if kind != DOCUMENTATION]
    if counts != [1, 1, 1] or Descriptor.from_json(document["config"], where).media_type != CONFIG:
        raise IntegrityError(
            f"{where} does not consist of one config, one payload and one file index; archive it again under a new version"
        )
    return content, parts


def _read(home: Home, descriptor: Descriptor, limit: int) -> bytes:
    content = home.read_blob(descriptor.digest, min(descriptor.size, limit))
    if len(content) != descriptor.size:
        raise IntegrityError(f"{descriptor.digest} has {len(content)} bytes, not {descriptor.size}; restore it from a copy of the DSL")
    return content


def _inside(path: Path, directory: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())
