# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The software bill of materials of a payload, in CycloneDX: the one it brings, or one made of what is found in it."""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import io
import json
import lzma
import re
import tarfile
import uuid
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import TidegateError
from .licence import normalise

with contextlib.suppress(ImportError):
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL

if TYPE_CHECKING:
    from ..dsl.payload import FileEntry

_BROUGHT = re.compile(r"(?:sbom/)?(?:bom|sbom|[^/]+\.cdx)\.json")
_PYTHON = re.compile(r"(?P<where>(?:.*/)?)[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
_NPM = re.compile(r"(?P<where>(?:.*/)?node_modules/(?:@[^/]+/)?[^/@.][^/]*)/package\.json")
_DEB = re.compile(r"(?:.*/)?[^/]+\.deb")
_DEB_CONTROL = re.compile(r"control\.tar(?:\.gz|\.xz)?")
LIMIT = 64 << 20
"""Bytes of a file that is read whole."""
_CONTROL_LIMIT = 16 << 20  # bytes of what a Debian package says of itself, unpacked
_NAMESPACE = uuid.UUID("6f0a2ab1-5b0c-5c5a-9a0e-0c4a4f7d7c11")  # of the serial numbers made here

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Found:
    """A component found in a payload. ``kind`` as in a package URL: ``pypi``, ``npm``, ``deb`` or ``generic`` for a plain file."""

    kind: str
    name: str
    version: str
    licence: str | None = None
    path: str = ""
    sha256: str = ""
    namespace: str | None = None


def brought(files: Collection[FileEntry]) -> str | None:
    """The path of the SBOM that a payload brings: ``bom.json``, ``sbom.json`` or ``*.cdx.json``, on top or in ``sbom/``."""
    return min((entry.path for entry in files if entry.type == "file" and _BROUGHT.fullmatch(entry.path)), default=None)


def check(content: bytes, path: str) -> dict[str, Any]:
    """The SBOM in ``content``; raises :class:`TidegateError` unless it is CycloneDX JSON 1.2 or newer, as its schema has it."""
    try:
        document = json.loads(content)
        version = SchemaVersion.from_version(str(document["specVersion"]))
        fault = JsonStrictValidator(version).validate_str(content.decode())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TidegateError(f"{path} is no CycloneDX SBOM in JSON; correct it, or leave it out and have one made") from error
    if fault is not None:
        said = str(fault).splitlines()[0]
        raise TidegateError(f"{path} is not valid CycloneDX {version.to_version()}: {said}; correct it, or leave it out and have one made")
    return dict(document)


def make(name: str, version: str, digest: str, files: Collection[FileEntry], read: Read) -> bytes:
    """A CycloneDX 1.6 SBOM of the payload of the release ``name`` ``version``, the same bytes for the same ``digest``.

    ``read`` gives the content of a file by its path.
    """
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, digest))
    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref="release")
    bom.metadata.component = root
    components = [_component(found) for found in find(files, read)]
    bom.components.update(components)
    bom.register_dependency(root, components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about relations between the components, which nobody here knows
        document = json.loads(JsonV1Dot6(bom).output_as_string())
    document.get("metadata", {}).pop("timestamp", None)  # or the same release would have another SBOM each time
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def find(files: Collection[FileEntry], read: Read) -> list[Found]:
    """The components of a payload: packages of Python, npm and Debian, and each file that belongs to none of them."""
    by_path = {entry.path: entry for entry in files if entry.type == "file"}
    found: list[Found] = []
    owned: set[str] = set()
    for path, entry in by_path.items():
        for pattern, look in ((_PYTHON, _python), (_NPM, _npm), (_DEB, _deb)):
            match = pattern.fullmatch(path)
            component = look(path, entry, read) if match and (entry.size or 0) <= LIMIT else None
            if match and component:
                found.append(component)
                owned.add(path)
                owned.update(_owns(match, component.kind, by_path, read))
                break
    plain = (entry for path, entry in by_path.items() if path not in owned)
    return found + [Found("generic", entry.path, "", path=entry.path, sha256=entry.sha256 or "") for entry in plain]


def _owns(match: re.Match[str], kind: str, by_path: Mapping[str, FileEntry], read: Read) -> Iterator[str]:
    path = match.string
    if kind == "npm":
        yield from (other for other in by_path if other.startswith(f"{match['where']}/"))
    elif kind == "pypi":
        record = path.removesuffix("METADATA") + "RECORD"
        if path.endswith("METADATA") and record in by_path and (by_path[record].size or 0) <= LIMIT:
            for line in read(record).decode("utf-8", "replace").splitlines():
                yield match["where"] + line.split(",")[0].strip('"')
        yield from (other for other in by_path if other.startswith(path.rpartition("/")[0] + "/"))


def _python(path: str, _entry: FileEntry, read: Read) -> Found | None:
    data = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(read(path))
    name, version = str(data.get("Name") or ""), str(data.get("Version") or "")
    licence = normalise(str(data.get("License-Expression") or data.get("License") or ""))
    return Found("pypi", name, version, licence, path) if name and version else None


def _npm(path: str, _entry: FileEntry, read: Read) -> Found | None:
    try:
        data = json.loads(read(path))
        scope, _slash, name = str(data["name"]).rpartition("/")
        licence = data.get("license")
        return Found("npm", name, str(data["version"]), normalise(licence) if isinstance(licence, str) else None, path, "", scope or None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _deb(path: str, entry: FileEntry, read: Read) -> Found | None:
    with contextlib.suppress(ValueError, KeyError, OSError, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError):
        for member, content in _ar(read(path)):
            if _DEB_CONTROL.fullmatch(member):
                with tarfile.open(fileobj=io.BytesIO(_inflate(member, content)), mode="r:") as archive:
                    stream = archive.extractfile("./control")
                    data = email.parser.BytesHeaderParser().parsebytes(stream.read(1 << 20) if stream else b"")
                if data["Package"] and data["Version"]:
                    return Found("deb", str(data["Package"]), str(data["Version"]), None, path, entry.sha256 or "", "debian")
    return None


def _inflate(member: str, content: bytes) -> bytes:
    """A member of a Debian package without its compression, as much of it as any package needs."""
    if member.endswith(".gz"):
        return zlib.decompressobj(wbits=31).decompress(content, _CONTROL_LIMIT)
    if member.endswith(".xz"):
        return lzma.LZMADecompressor(memlimit=2 * LIMIT).decompress(content, _CONTROL_LIMIT)
    return content


def _ar(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive (deb(5)); raises ValueError when it is none."""
    if content[:8] != b"!<arch>\n":
        raise ValueError("no ar archive")
    offset = 8
    while offset + 60 <= len(content):
        header = content[offset : offset + 60]
        size = int(header[48:58])
        if size < 0:
            raise ValueError("a negative size")
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), content[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2


def _component(found: Found) -> Any:
    file = found.kind == "generic"
    return Component(
        name=found.name,
        version=found.version or None,
        type=ComponentType.FILE if file else ComponentType.LIBRARY,
        bom_ref=f"{found.kind}:{found.path}",
        purl=None if file else PackageURL(found.kind, found.namespace, found.name, found.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=found.sha256)] if found.sha256 else [],
        licenses=[LicenseExpression(found.licence)] if found.licence else [],
    )
