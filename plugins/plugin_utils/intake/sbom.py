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
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from ..errors import IntegrityError, TidegateError
from ..strict_json import read_object
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

_PLAIN = "generic"  # of a file that belongs to no package
_BIT = 50  # items

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
        document = read_object(content, path)
        version = SchemaVersion.from_version(str(document["specVersion"]))
        fault = _fault(JsonStrictValidator(version), document)
    except IntegrityError as error:
        raise TidegateError(f"{error}; correct it, or leave it out and have one made") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TidegateError(f"{path} is no CycloneDX SBOM in JSON; correct it, or leave it out and have one made") from error
    if fault is not None:
        said = str(fault).splitlines()[0]
        raise TidegateError(f"{path} is not valid CycloneDX {version.to_version()}: {said}; correct it, or leave it out and have one made")
    return dict(document)


def _fault(validator: Any, document: Mapping[str, Any]) -> object:
    """What the schema has against an SBOM, if anything.

    The validator compares each item of a list with each other, so a long one is given to it bit by bit: sorted, and each bit beginning
    with the last of the one before, so that what is there twice is together.
    """
    lists = {key: sorted(value, key=_sorted) for key, value in document.items() if isinstance(value, list)}
    rest = {key: value for key, value in document.items() if key not in lists}
    bits = ({key: items[max(0, start - 1) : start + _BIT]} for key, items in lists.items() for start in range(0, len(items) or 1, _BIT))
    for bit in ({}, *bits):
        fault = validator.validate_str(json.dumps(rest | bit))
        if fault is not None:
            return fault
    return None


def _sorted(item: object) -> str:
    return json.dumps(item, sort_keys=True)


def make(name: str, version: str, digest: str, files: Collection[FileEntry], read: Read) -> bytes:
    """A CycloneDX 1.6 SBOM of the payload of the release ``name`` ``version``, the same bytes for the same ``digest``.

    ``read`` gives the content of a file by its path. Raises :class:`TidegateError` when there is too much in it to be listed.
    """
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, digest))
    root = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref="release")
    bom.metadata.component = root
    found = find(files, read)
    packages = [_component(one) for one in found if one.kind != _PLAIN]
    bom.components.update(packages)
    bom.register_dependency(root, packages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about relations between the components, which nobody here knows
        document = check(JsonV1Dot6(bom).output_as_string().encode(), "the SBOM that was made")
    document.get("metadata", {}).pop("timestamp", None)  # or the same release would have another SBOM each time
    # Past the library, which compares each component with each other: of plain files a payload may have a hundred thousand.
    document["components"] = [*document.get("components", []), *(_file(one) for one in found if one.kind == _PLAIN)]
    content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if len(content) > LIMIT:
        raise TidegateError(
            f"the SBOM of {name} {version} comes to more than {LIMIT >> 20} MiB; bring one with the payload, as bom.json, that names what "
            "the files belong to"
        )
    return content


def find(files: Collection[FileEntry], read: Read) -> list[Found]:
    """The components of a payload: packages of Python, npm and Debian, and each file that belongs to none of them."""
    by_path = {entry.path: entry for entry in sorted(files, key=lambda entry: entry.path) if entry.type == "file"}
    paths = list(by_path)
    found: list[Found] = []
    owned: set[str] = set()
    for path, entry in by_path.items():
        for pattern, look in ((_PYTHON, _python), (_NPM, _npm), (_DEB, _deb)):
            match = pattern.fullmatch(path)
            component = look(path, entry, read) if match and (entry.size or 0) <= LIMIT else None
            if match and component:
                found.append(component)
                owned.add(path)
                owned.update(_owns(match, component.kind, by_path, paths, read))
                break
    plain = (entry for path, entry in by_path.items() if path not in owned)
    return found + [Found(_PLAIN, entry.path, "", path=entry.path, sha256=entry.sha256 or "") for entry in plain]


def _owns(match: re.Match[str], kind: str, by_path: Mapping[str, FileEntry], paths: Sequence[str], read: Read) -> Iterator[str]:
    path = match.string
    if kind == "npm":
        yield from _below(f"{match['where']}/", paths)
    elif kind == "pypi":
        record = path.removesuffix("METADATA") + "RECORD"
        if path.endswith("METADATA") and record in by_path and (by_path[record].size or 0) <= LIMIT:
            for line in read(record).decode("utf-8", "replace").splitlines():
                yield match["where"] + line.split(",")[0].strip('"')
        yield from _below(path.rpartition("/")[0] + "/", paths)


def _below(folder: str, paths: Sequence[str]) -> Iterator[str]:
    """Those of the sorted ``paths`` that begin with ``folder``."""
    return takewhile(lambda path: path.startswith(folder), islice(paths, bisect_left(paths, folder), None))


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
    return Component(
        name=found.name,
        version=found.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{found.kind}:{found.path}",
        purl=PackageURL(found.kind, found.namespace, found.name, found.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=found.sha256)] if found.sha256 else [],
        licenses=[LicenseExpression(found.licence)] if found.licence else [],
    )


def _file(found: Found) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": found.sha256}]
    return {"bom-ref": f"{found.kind}:{found.path}", "type": "file", "name": found.name, "hashes": hashes}
