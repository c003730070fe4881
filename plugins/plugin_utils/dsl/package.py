# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package: the archived form of a release, an OCI image manifest whose digest names all of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...module_utils.payload_format import is_tar_of, unseen
from ..activity import note
from ..documents import load_document
from ..errors import DocumentError, IntegrityError, Problem, TidegateError
from .commands import check_commands
from .descriptors import MANIFEST, PACKAGE, TITLE, VERSION, Descriptor, canonical, describe_blob, moved, parse_json
from .firmware import FirmwareImage, faults_in_payload, ways_down
from .manifest import INDEX_TITLE, PAYLOAD_TITLE, ROLE_INDEX_TITLE, ROLE_TITLE, Manifest, OwnAnsible, load_manifest
from .payload import FileEntry, PayloadTar, index_json, matching, opened, parse_index, scan, visible
from .repository import Library, Repository
from .system_packages import check_contents, read_contents

CONFIG = "application/vnd.tidegate.release.config.v1+json"
PAYLOAD = "application/vnd.oci.image.layer.v1.tar"
DOCUMENTATION = "application/vnd.tidegate.release.documentation.v1"
INDEX = "application/vnd.tidegate.release.index.v1+json"
ROLE = "application/vnd.tidegate.release.ansible.v1+tar"
ROLE_INDEX = "application/vnd.tidegate.release.ansible.index.v1+json"

_CONFIG_LIMIT = 4 << 20  # bytes
_INDEX_LIMIT = 512 << 20  # some two million files
_BLOCK = 1 << 20
_SCENARIO = 50  # files; with the documentation there may be a hundred

_Put = Callable[[bytes | Iterable[bytes], str], Descriptor]


@dataclass(frozen=True)
class Archived:
    """What became of a release; ``files`` counts those of its payload, ``size`` is their bytes together, ``entries`` its file index, and
    ``role`` that of the role that it brings."""

    digest: str
    name: str
    version: str
    created: bool
    files: int
    size: int
    entries: tuple[FileEntry, ...] = ()
    role: tuple[FileEntry, ...] = ()


@dataclass(frozen=True)
class Package:
    """A package's documents, each checked against its digest, and what they say. The bytes of the payload and of the role are not checked.

    ``role``: the file index of the role that it brings, which is in ``role_archive``; nothing when it brings none.
    """

    digest: str
    manifest_bytes: bytes
    config_bytes: bytes
    index_bytes: bytes
    manifest: Manifest
    files: tuple[FileEntry, ...]
    payload: Descriptor
    documentation: tuple[Descriptor, ...]
    role: tuple[FileEntry, ...] = ()
    role_archive: Descriptor | None = None

    @property
    def trees(self) -> tuple[tuple[Descriptor, tuple[FileEntry, ...]], ...]:
        """Each tar in it, and the file index that describes it."""
        role = () if self.role_archive is None else ((self.role_archive, self.role),)
        return ((self.payload, self.files), *role)

    def misnamed(self, name: str, version: str) -> str:
        """That it is the package of another release than the one as which the library keeps it; empty when it is not."""
        own = self.manifest
        if (own.name, own.version) == (name, version):
            return ""
        return f"what the DSL keeps as {name} {version} is the package of {own.name} {own.version}; take that tag away"


@dataclass(frozen=True)
class Source:
    """A release's directory that may be archived: everything in it was looked at, and nothing was refused.

    ``entries`` are those of the payload, ``role`` those of the role that it brings.
    """

    directory: Path
    manifest: Manifest
    entries: tuple[FileEntry, ...]
    role: tuple[FileEntry, ...] = ()

    def preview(self, home: Repository | None) -> Archived:
        """What :meth:`archive` would return, without writing anything; ``home`` is ``None`` while there is no DSL."""
        document, trees = self._assemble(describe_blob)
        descriptor = describe_blob(canonical(document), MANIFEST)
        existing = home.resolve(self.manifest.name, self.manifest.version) if home else None
        if existing not in (None, descriptor.digest):
            raise moved(f"{self.manifest.name}:{self.manifest.version}", str(existing), descriptor.digest)
        if home is not None and existing is None:
            self._refuse_ways_down(home)
        return self._archived(descriptor.digest, existing is None, *trees)

    def archive(self, home: Repository, examined: Collection[str] | None = None) -> Archived:
        """Store the package and tag it last, so that it is there whole or not at all.

        ``examined``: the sha256s of the contents that were looked at, which have to be all that it consists of. Raises
        :class:`ConflictError` when this version of the release is archived already with another content, :class:`DocumentError`
        when its firmware would take a device down, and :class:`TidegateError` when the release changed since it was examined.
        """
        if home.resolve(self.manifest.name, self.manifest.version):
            return self.preview(home)
        self._refuse_ways_down(home)
        note(f"putting {self.manifest.name} {self.manifest.version}, {len(self.entries)} files, into the library")
        with home.writing():
            document, trees = self._assemble(home.put_blob)
            if examined is not None:
                layers = document["layers"]
                documentation = [layer["digest"].removeprefix("sha256:") for layer in layers if layer["mediaType"] == DOCUMENTATION]
                if not {*documentation, *(entry.sha256 for tree in trees for entry in tree if entry.sha256)} <= set(examined):
                    raise TidegateError(f"{self.directory} changed while it was archived; archive again when nothing writes to it")
            descriptor = home.put_manifest(canonical(document))
            created = home.tag(self.manifest.name, self.manifest.version, descriptor)
        return self._archived(descriptor.digest, created, *trees)

    def _refuse_ways_down(self, home: Repository) -> None:
        """Raise :class:`DocumentError` for images that would take a device back to where it came from."""
        if not self.manifest.firmware:
            return
        name, images = self.manifest.name, list[FirmwareImage]()
        for version in home.versions(name):
            with contextlib.suppress(TidegateError):  # what can't be read leads nowhere
                images += load_package_manifest(home, str(home.resolve(name, version))).firmware
        faults = [Problem(component, what, remedy) for component, what, remedy in ways_down(self.manifest.firmware, images)]
        if faults:
            raise DocumentError(faults)

    def _assemble(self, put: _Put) -> tuple[dict[str, Any], tuple[list[FileEntry], list[FileEntry]]]:
        """The package's manifest, and the file indexes of payload and role."""
        tar = PayloadTar(self.directory / (self.manifest.payload or ""), self.entries)
        # With a title each, for tools such as oras leave out a layer that has none.
        layers: list[dict[str, Any]] = [_titled(put(tar, PAYLOAD), PAYLOAD_TITLE)]
        for name in sorted(self.manifest.documentation):  # as the config has them
            with opened(str(self.directory / name)) as (_size, chunks):
                layers.append(_titled(put(chunks, DOCUMENTATION), name))
        layers.append(_titled(put(index_json(tar.entries), INDEX), INDEX_TITLE))
        role: list[FileEntry] = []
        if self.manifest.ansible is not None:
            own = PayloadTar(self.directory / self.manifest.ansible.role, self.role)
            layers.append(_titled(put(own, ROLE), ROLE_TITLE))
            role = own.entries
            layers.append(_titled(put(index_json(role), ROLE_INDEX), ROLE_INDEX_TITLE))
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": PACKAGE,
            "config": put(canonical(self.manifest.to_config()), CONFIG).to_json(),
            "layers": layers,
            # Not when: an archive made again has to be the same bytes.
            "annotations": {TITLE: self.manifest.name, VERSION: self.manifest.version},
        }
        return document, (tar.entries, role)

    def _archived(self, digest: str, created: bool, entries: Collection[FileEntry], role: Collection[FileEntry]) -> Archived:
        sizes = [entry.size for entry in entries if entry.size is not None]
        return Archived(digest, self.manifest.name, self.manifest.version, created, len(sizes), sum(sizes), tuple(entries), tuple(role))


def read_release(directory: Path) -> Source:
    """Look at everything that would be archived of a release's directory.

    Raises :class:`DocumentError` with every fault of its manifest, or else every fault of its payload and documentation.
    """
    manifest = load_manifest(directory / "release.yml")
    problems: list[Problem] = []
    entries: list[FileEntry] = []
    if manifest.payload is not None and _is_folder(directory, manifest.payload, "payload", problems):
        root = directory / manifest.payload
        entries, problems = scan(root, manifest.payload, manifest.portable_names)
        if not problems:  # in a tree that is not as it should be nobody knows what a command is
            document = load_document(directory / "release.yml", "release")
            check_commands(document, {entry.path: entry for entry in entries}, root)
            try:
                document.finish()
            except DocumentError as error:
                problems += error.problems
            if manifest.packages is not None:
                contents, more = read_contents(manifest.packages, root, manifest.payload, entries)
                manifest = replace(manifest, packages=replace(manifest.packages, contents=tuple(contents)))
                problems += more
            if manifest.firmware:
                faults = faults_in_payload(manifest.firmware, entries)
                problems += (Problem(f"{manifest.payload}/{visible(path)}", what, remedy) for path, what, remedy in faults)
    role: list[FileEntry] = []
    if manifest.ansible is not None and _is_folder(directory, manifest.ansible.role, "role", problems):
        role, more = _role(directory, manifest.ansible, manifest.payload)
        problems += more
    for name in (manifest.payload or "", manifest.ansible.role if manifest.ansible else "", *manifest.documentation):
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
    return Source(directory, manifest, tuple(entries), tuple(role))


def _is_folder(directory: Path, name: str, what: str, problems: list[Problem]) -> bool:
    """Whether a release's directory has this one in it; when not, that is a problem."""
    path = directory / name
    if path.is_dir() and _inside(path, directory):
        return True
    problems.append(Problem(name, f"the {what} is not a directory inside {directory}", "put it there or name it in release.yml"))
    return False


def _role(directory: Path, own: OwnAnsible, payload: str | None) -> tuple[list[FileEntry], list[Problem]]:
    """What is in the role of a release, and what is wrong with it."""
    root = directory / own.role
    if payload is not None and (_inside(root, directory / payload) or _inside(directory / payload, root)):
        what = f"the role and the payload {payload} are in one another, and a role is never on hosts"
        return [], [Problem(own.role, what, "give each a directory of its own")]
    from .role_rules import check_role  # noqa: PLC0415 - only who archives a role needs it, and each fork that stages loads this module

    entries, problems = scan(root, own.role, what="role")

    def read(path: str, size: int) -> bytes:
        content = b""
        with opened(str(root / path)) as (_size, chunks):
            while len(content) < size and (chunk := next(chunks, b"")):
                content += chunk
        return content[:size]

    return entries, [*problems, *check_role(own, entries, read)]


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
    files = _one_tree(digest, "payload", payload, index_bytes)
    manifest = _manifest(digest, config_bytes)
    if manifest.payload is None and files:
        raise IntegrityError(f"the package {digest} has files for hosts, and its config names no payload; find out who made that package")
    if manifest.packages is not None and (wrong := check_contents(manifest.packages, files)):
        raise IntegrityError(f"the package {digest} {wrong}; find out who made that package")
    if manifest.firmware and (odd := next(faults_in_payload(manifest.firmware, files), None)):
        raise IntegrityError(f"the package {digest} has {odd[0]} in its payload, and {odd[1]}; find out who made that package")
    role_archive = parts[ROLE][0] if parts[ROLE] else None
    if (role_archive is None) != (manifest.ansible is None):
        has, says = ("no role", "names one") if role_archive is None else ("a role", "names none")
        raise IntegrityError(f"the package {digest} has {has}, and its config {says}; archive the release again under a new version")
    role: tuple[FileEntry, ...] = ()
    if role_archive is not None:
        role = _one_tree(digest, "role", role_archive, _read(home, parts[ROLE_INDEX][0], _INDEX_LIMIT))
    kinds = (PAYLOAD, DOCUMENTATION, INDEX, ROLE, ROLE_INDEX)
    titles = [[part.annotations.get(TITLE, "") for part in parts[kind]] for kind in kinds]
    of_role = [[ROLE_TITLE], [ROLE_INDEX_TITLE]] if role_archive else [[], []]
    if titles != [[PAYLOAD_TITLE], list(manifest.documentation), [INDEX_TITLE], *of_role]:
        raise IntegrityError(
            f"the layers of the package {digest} have other titles than what is in them, so other tools would write other files; "
            "archive it again under a new version"
        )
    documentation = tuple(parts[DOCUMENTATION])
    return Package(digest, content, config_bytes, index_bytes, manifest, files, payload, documentation, role, role_archive)


def _one_tree(digest: str, what: str, tar: Descriptor, index: bytes) -> tuple[FileEntry, ...]:
    """The entries of a file index; raises :class:`IntegrityError` unless the tar can be what it describes."""
    files = parse_index(index)
    # Files that share bytes of the tar could make a small one fill any disk, and what no file has is seen by nobody here.
    if not is_tar_of((entry.to_json() for entry in files), tar.size):
        raise IntegrityError(
            f"the {what} and the file index of the package {digest} are not one tree: the index describes another tar than one of "
            f"{tar.size} bytes; find out who made that package, and archive the release again under a new version"
        )
    return files


def load_package_manifest(home: Repository, digest: str) -> Manifest:
    """What the release in the package ``digest`` says of itself, and nothing else looked at; raises :class:`IntegrityError` or
    :class:`DocumentError`."""
    _content, parts = _read_manifest(home, digest)
    manifest = _manifest(digest, _read(home, parts[CONFIG][0], _CONFIG_LIMIT))
    manifest.check()
    return manifest


def manifests_of(library: Library, packages: Iterable[tuple[str, str]]) -> dict[str, Manifest]:
    """Of ``packages``, by release and digest, what each says of itself, by digest; what can't be read is left out."""
    found = {}
    for name, digest in sorted(set(packages)):
        with contextlib.suppress(TidegateError):
            found[digest] = load_package_manifest(library.repository(name), digest)
    return found


def _manifest(digest: str, config: bytes) -> Manifest:
    try:
        return Manifest.from_config(parse_json(config, f"the config of the package {digest}"))
    except (KeyError, TypeError, ValueError, IntegrityError) as error:
        raise IntegrityError(f"the config of the package {digest} can't be used: {error}; archive the release again") from error


def verify_package(home: Repository, digest: str) -> None:
    """Check every byte of the package ``digest``, and that payload and role are the trees of their file indexes.

    Raises :class:`IntegrityError` naming each damaged or missing blob, or the entry where a tar and its index differ.
    """
    damaged = []
    parts = _read_manifest(home, digest)[1]

    def check(look: Callable[[], None]) -> None:
        try:
            look()
        except IntegrityError as error:
            damaged.append(str(error))

    for descriptor in (part for kind, found in parts.items() for part in found if kind not in (PAYLOAD, ROLE)):
        check(partial(home.verify_blob, descriptor))
    if damaged:
        for descriptor in (*parts[PAYLOAD], *parts[ROLE]):
            check(partial(home.verify_blob, descriptor))
    else:
        check(lambda: verify_payload(home, load_package(home, digest)))
    if damaged:
        raise IntegrityError("\n".join(damaged))


def verify_payload(home: Repository, package: Package) -> None:
    """Check every byte of payload and role, by their digests and file indexes; raises :class:`IntegrityError` saying what is wrong."""
    for tar, files in package.trees:
        verify_tree(home, tar, files)


def verify_tree(home: Repository, tar: Descriptor, files: tuple[FileEntry, ...]) -> None:
    """As :func:`verify_payload`, for one tar and its file index."""
    seen = hashlib.sha256()
    for block in read_tree(home, tar, files):
        seen.update(block)
    if f"sha256:{seen.hexdigest()}" != tar.digest:
        home.verify_blob(tar)
        raise IntegrityError(f"{tar.digest} changed while it was read; verify the DSL and run this again")


def read_tree(home: Repository, tar: Descriptor, files: tuple[FileEntry, ...]) -> Iterator[bytes]:
    """The bytes of a tar as long as they are the tree of its file index; raises :class:`IntegrityError` where they are not."""
    try:
        with home.open_blob(tar.digest, tar.size) as stream:
            yield from matching(iter(lambda: stream.read(_BLOCK), b""), files)
    except IntegrityError:
        home.verify_blob(tar)  # when it is not the blob that it should be, that is what is wrong
        raise


def _read_manifest(home: Repository, digest: str) -> tuple[bytes, dict[str, list[Descriptor]]]:
    """The OCI manifest of a package, and the blobs that it consists of by media type."""
    where = f"the package {digest}"
    content = home.read_manifest(digest)
    document = parse_json(content, where)
    if (document.get("schemaVersion"), document.get("mediaType"), document.get("artifactType")) != (2, MANIFEST, PACKAGE):
        raise IntegrityError(f"{digest} is not the package of a release; name the digest that archive printed")
    parts: dict[str, list[Descriptor]] = {CONFIG: [], PAYLOAD: [], DOCUMENTATION: [], INDEX: [], ROLE: [], ROLE_INDEX: []}
    layers = document.get("layers")
    for item in [document.get("config"), *(layers if isinstance(layers, list) else [])]:
        part = Descriptor.from_json(item, where)
        parts.setdefault(part.media_type, []).append(part)
    counts = [len(found) for kind, found in parts.items() if kind != DOCUMENTATION]
    # Any other layer would be laid over the payload by whoever unpacks it as an image, a scanner for one.
    if counts not in ([1, 1, 1, 0, 0], [1, 1, 1, 1, 1]) or Descriptor.from_json(document["config"], where).media_type != CONFIG:
        raise IntegrityError(
            f"{where} does not consist of one config, one payload, one file index, documentation and at most one role with its file index; "
            "archive it again"
        )
    return content, parts


def _titled(part: Descriptor, title: str) -> dict[str, Any]:
    return part._replace(annotations={TITLE: title}).to_json()


def _read(home: Repository, descriptor: Descriptor, limit: int) -> bytes:
    content = home.read_blob(descriptor.digest, min(descriptor.size, limit))
    if len(content) != descriptor.size:
        raise IntegrityError(f"{descriptor.digest} has {len(content)} bytes, not {descriptor.size}; restore it from a copy of the DSL")
    return content


def _inside(path: Path, directory: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())
