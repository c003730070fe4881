# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found out about a release before it is archived: malware, what it consists of, its licences."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..activity import note
from ..dsl.licence_expression import normalise
from ..dsl.package import Source
from ..dsl.payload import FileEntry, opened
from ..errors import TidegateError
from ..evidence.statement import LICENCE, SBOM, SCAN, Statement, purl
from ..files import make_folder, write_atomically
from ..rollout.leftovers import temporary_directory
from . import sbom
from .malware import Scan, scan

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CopiedSource:
    """A copy of a release, out of reach of who may change the release: every content in ``folder``, named by its sha256.

    ``contents``: the sha256 of each file by its path in the release's directory. ``files``: the payload's entries, sizes and digests
    included, and ``role`` those of the role that it brings.
    """

    folder: Path
    contents: dict[str, str]
    files: tuple[FileEntry, ...]
    role: tuple[FileEntry, ...] = ()


@dataclass(frozen=True)
class Examination:
    """What the intake found. ``brought``: whether the SBOM came with the payload. ``licences``: how many components say which licence,
    ``""`` for none or no SPDX expression. ``contents``: the sha256s of all that was looked at.
    """

    scan: Scan
    sbom: dict[str, Any]
    brought: bool
    licences: dict[str, int]
    contents: frozenset[str]


@contextmanager
def snapshot(source: Source) -> Iterator[CopiedSource]:
    """Copy a release for the time of its examination; raises :class:`TidegateError` when there is no room or it can't be read."""
    try:
        with temporary_directory("tidegate-intake-") as folder:
            contents = {path: _copy(source.directory / path, folder) for path in sorted(source.manifest.documentation)}

            def copy(tree: str, entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
                for entry in entries:
                    if entry.type == "file":
                        path = f"{tree}/{entry.path}"
                        sha = contents[path] = _copy(source.directory / path, folder)
                        yield replace(entry, size=(folder / sha).stat().st_size, sha256=sha)

            own = source.manifest.ansible
            files = tuple(copy(source.manifest.payload or "", source.entries))
            yield CopiedSource(folder, contents, files, tuple(copy(own.role, source.role)) if own else ())
    except OSError as error:
        raise TidegateError(
            f"can't copy the release to examine it ({error.strerror or error}); make room in {tempfile.gettempdir()}, or name another "
            "directory in TMPDIR"
        ) from error


def _copy(path: Path, folder: Path) -> str:
    target = folder / "unfinished"
    digest = hashlib.sha256()
    with opened(str(path)) as (_size, chunks), target.open("wb") as stream:
        for chunk in chunks:
            digest.update(chunk)
            stream.write(chunk)
    target.rename(folder / digest.hexdigest())
    return digest.hexdigest()


def examine(source: Source, copied: CopiedSource, database: str | None = None) -> Examination:
    """Examine a release by its copy; ``database`` as :func:`.malware.scan` takes it.

    Raises :class:`TidegateError` when what the payload brings as its SBOM is none, or one that is made would be too large.
    """

    payload, role = source.manifest.payload, source.manifest.ansible
    # Beside a role a path says which of the two it is in.
    files, prefix = copied.files, f"{payload}/"
    if role is not None:
        files, prefix = (*_within(payload or "", copied.files), *_within(role.role, copied.role)), ""

    def read(path: str) -> BinaryIO:
        return (copied.folder / copied.contents[prefix + path]).open("rb")

    note(f"listing the components in {len(files)} files")
    own = sbom.brought(copied.files)
    if own is not None:
        path = f"{payload}/{own}"
        if (copied.folder / copied.contents[path]).stat().st_size > sbom.LIMIT:
            raise TidegateError(f"{path} is larger than {sbom.LIMIT >> 20} MiB; leave it out and have an SBOM made")
        document = sbom.check((copied.folder / copied.contents[path]).read_bytes(), path)
    else:
        names = json.dumps([(entry.path, entry.sha256) for entry in files])
        digest = hashlib.sha256(names.encode()).hexdigest()
        document = json.loads(sbom.make(source.manifest.name, source.manifest.version, digest, files, read))
    licences = Counter(_licence(component) for component in document.get("components", []) if component.get("type") != "file")
    return Examination(
        _scan(copied, database), document, own is not None, dict(sorted(licences.items())), frozenset(copied.contents.values())
    )


def _within(tree: str, entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """The entries of a tree by their paths in the release's directory."""
    return (replace(entry, path=f"{tree}/{entry.path}") for entry in entries)


def quarantine(found: Examination, source: Source, copied: CopiedSource, folder: Path) -> None:
    """Keep the infected contents of a release for those who look into it, unreadable for others, and a record of what was found.

    Raises :class:`TidegateError` when they can't be kept there.
    """
    try:
        make_folder(folder)
        record = {
            "release": source.manifest.name,
            "version": source.manifest.version,
            "engine": found.scan.engine,
            "signatures": found.scan.signatures,
            "found": [{"path": path, "sha256": copied.contents[path], "signature": name} for path, name in found.scan.found],
        }
        for path, _signature in found.scan.found:
            kept = folder / copied.contents[path]
            with (
                (copied.folder / copied.contents[path]).open("rb") as infected,
                open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as stream,
            ):
                shutil.copyfileobj(infected, stream)
        text = json.dumps(record, indent=2, sort_keys=True).encode()
        write_atomically(folder / f"{hashlib.sha256(text).hexdigest()}.json", text)
    except OSError as error:
        raise TidegateError(
            f"{found.scan.detail}; it was not archived, and can't be kept in quarantine in {folder} ({error.strerror or error})"
        ) from error


def statements(found: Examination, source: Source, digest: str) -> list[Statement]:
    """What an examination says about the package that the release became, to be signed."""
    about = purl(source.manifest.name, source.manifest.version)
    scanned = {
        "result": found.scan.outcome,
        "detail": found.scan.detail,
        "engine": found.scan.engine,
        "signatures": list(found.scan.signatures),
    }
    licences = [{"licence": licence or None, "components": count} for licence, count in found.licences.items()]
    declared = source.manifest.licence
    return [
        Statement(about, digest, SCAN, scanned),
        Statement(about, digest, SBOM, found.sbom),
        Statement(about, digest, LICENCE, {"declared": declared and normalise(declared), "found": licences}),
    ]


def _scan(copied: CopiedSource, database: str | None) -> Scan:
    """Scan the copy and name the files as the release does."""
    note(f"scanning {len(set(copied.contents.values()))} files for malware")
    found = scan(copied.folder, database)
    paths: dict[str, str] = {}
    for path, sha in copied.contents.items():
        paths.setdefault(sha, path)
    detail = _SHA256.sub(lambda match: paths.get(match[0], match[0]), found.detail)
    return replace(found, detail=detail, found=tuple((paths.get(name, name), signature) for name, signature in found.found))


def _licence(component: dict[str, Any]) -> str:
    """The licence that a component of an SBOM says, as one SPDX expression."""
    said = [
        choice.get("expression") or choice.get("license", {}).get("id") or choice.get("license", {}).get("name") or ""
        for choice in component.get("licenses", [])
    ]
    return normalise(" AND ".join(f"({text})" if " " in text else text for text in said)) or ""
