# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The software bill of materials of a payload, in CycloneDX: the one it brings, or one made of what is found in it."""

from __future__ import annotations

import contextlib
import csv
import email.parser
import email.policy
import json
import posixpath
import re
import uuid
import warnings
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, BinaryIO

from ..dsl.licence_expression import normalise, of_classifiers, of_debian
from ..dsl.package_files import FAULTS, METADATA_LIMIT, Meter, deb_control, deb_copyright, npm_metadata, rpm_header, wheel_metadata
from ..errors import IntegrityError, TidegateError
from ..strict_json import read_object

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
_WHEEL = re.compile(r"(?:.*/)?[^/]+\.whl")
_NPM_PACKED = re.compile(r"(?:.*/)?[^/]+\.tgz")
_RPM = re.compile(r"(?:.*/)?[^/]+\.rpm")
_DEB = re.compile(r"(?:.*/)?[^/]+\.deb")
_SAYABLE = re.compile(r"[!-~]{1,300}")  # a name or a version that a package has
_DEB_NAMES = (re.compile(r"[a-z0-9][a-z0-9+.-]+"), re.compile(r"[A-Za-z0-9.+:~-]+"), re.compile(r"[a-z0-9-]*"))
LIMIT = 64 << 20
"""Bytes of a file that is read whole."""
_NAMESPACE = uuid.UUID("6f0a2ab1-5b0c-5c5a-9a0e-0c4a4f7d7c11")  # of the serial numbers made here

_PLAIN = "generic"  # of a file that belongs to no package
_BIT = 50  # items

Open = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class Found:
    """A component found in a payload. ``kind`` as in a package URL: ``pypi``, ``npm``, ``deb``, ``rpm`` or ``generic`` for a plain file."""

    kind: str
    name: str
    version: str
    licence: str | None = None
    path: str = ""
    sha256: str = ""
    namespace: str | None = None
    arch: str = ""


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


def make(name: str, version: str, digest: str, files: Collection[FileEntry], read: Open) -> bytes:
    """A CycloneDX 1.6 SBOM of the payload of the release ``name`` ``version``, the same bytes for the same ``digest``.

    ``read`` opens a file by its path. Raises :class:`TidegateError` when there is too much in it to be listed.
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


def find(files: Collection[FileEntry], read: Open) -> list[Found]:
    """The components of a payload: packages of Python, npm and Debian, installed or in files, and each file that belongs to none of them.

    Raises :class:`TidegateError` when there is too much in it to be looked into.
    """
    by_path = {entry.path: entry for entry in sorted(files, key=lambda entry: entry.path) if entry.type == "file"}
    paths = list(by_path)
    found: list[Found] = []
    owned: set[str] = set()
    meter = Meter()
    for path, entry in by_path.items():
        for pattern, look in ((_PYTHON, _python), (_NPM, _npm), (_WHEEL, _wheel), (_NPM_PACKED, _npm_packed), (_DEB, _deb), (_RPM, _rpm)):
            match = pattern.fullmatch(path)
            component = None
            if match:
                with contextlib.suppress(*FAULTS), read(path) as stream:
                    component = look(path, entry.sha256 or "", stream, meter)
            if match and component:
                found.append(component)
                owned.add(path)
                owned.update(_owns(match, path, by_path, paths, read))
                break
    plain = (entry for path, entry in by_path.items() if path not in owned)
    return found + [Found(_PLAIN, entry.path, "", path=entry.path, sha256=entry.sha256 or "") for entry in plain]


def _owns(match: re.Match[str], path: str, by_path: Mapping[str, FileEntry], paths: Sequence[str], read: Open) -> Iterator[str]:
    if match.re is _NPM:
        yield from _below(f"{match['where']}/", paths)
    elif match.re is _PYTHON:
        record = path.removesuffix("METADATA") + "RECORD"
        if path.endswith("METADATA") and record in by_path and (by_path[record].size or 0) <= LIMIT:
            with read(record) as stream:
                lines = stream.read(LIMIT).decode("utf-8", "replace").splitlines()
            with contextlib.suppress(csv.Error):
                # A script is recorded as ../../bin/x.
                yield from (posixpath.normpath(match["where"] + row[0]) for row in csv.reader(lines) if row)
        yield from _below(path.rpartition("/")[0] + "/", paths)


def _below(folder: str, paths: Sequence[str]) -> Iterator[str]:
    """Those of the sorted ``paths`` that begin with ``folder``."""
    return takewhile(lambda path: path.startswith(folder), islice(paths, bisect_left(paths, folder), None))


def _python(path: str, _sha256: str, stream: BinaryIO, _meter: Meter) -> Found | None:
    return _of_python(stream.read(METADATA_LIMIT), path, "")


def _wheel(path: str, sha256: str, stream: BinaryIO, _meter: Meter) -> Found | None:
    return _of_python(wheel_metadata(stream), path, sha256)


def _of_python(metadata: bytes, path: str, sha256: str) -> Found | None:
    """What the METADATA of a Python package says."""
    data = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(metadata)
    name, version = str(data.get("Name") or ""), str(data.get("Version") or "")
    licence = normalise(str(data.get("License-Expression") or "")) or normalise(str(data.get("License") or ""))
    licence = licence or of_classifiers(str(text) for text in data.get_all("Classifier", ()))
    return Found("pypi", name, version, licence, path, sha256) if _sayable(name, version) else None


def _npm(path: str, _sha256: str, stream: BinaryIO, _meter: Meter) -> Found | None:
    return _of_npm(stream.read(METADATA_LIMIT), path, "")


def _npm_packed(path: str, sha256: str, stream: BinaryIO, meter: Meter) -> Found | None:
    return _of_npm(npm_metadata(stream, meter), path, sha256)


def _of_npm(package_json: bytes, path: str, sha256: str) -> Found | None:
    """What the package.json of a package of npm says."""
    data = json.loads(package_json)
    name, version = (data.get(key) for key in ("name", "version")) if isinstance(data, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(version, str):
        return None
    scope, _slash, bare = name.rpartition("/")
    return Found("npm", bare, version, _npm_licence(data), path, sha256, scope or None) if _sayable(name, version) else None


def _npm_licence(data: Mapping[str, Any]) -> str | None:
    """Old packages have ``{"type": "MIT"}``, or a list of those, of which whoever uses them chooses one."""
    said = data.get("license") or data.get("licenses")
    kinds = [one.get("type") if isinstance(one, dict) else one for one in (said if isinstance(said, list) else [said])]
    texts = [normalise(kind) if isinstance(kind, str) else None for kind in kinds]
    return normalise(" OR ".join(f"({text})" for text in texts)) if texts and all(texts) else None


def _deb(path: str, sha256: str, stream: BinaryIO, meter: Meter) -> Found | None:
    control = deb_control(stream, meter)
    said = [control[field] for field in ("Package", "Version", "Architecture")]
    name, version, arch = said
    if not all(pattern.fullmatch(text) for pattern, text in zip(_DEB_NAMES, said, strict=True)):
        return None
    # Nothing in a package says whose it is but its version, which Ubuntu marks; the format itself is Debian's.
    vendor = "ubuntu" if "ubuntu" in version else "debian"
    licence = None
    with contextlib.suppress(*FAULTS):
        stream.seek(0)
        licence = of_debian(deb_copyright(stream, name, meter).decode())
    return Found("deb", name, version, licence, path, sha256, vendor, arch)


def _rpm(path: str, sha256: str, stream: BinaryIO, _meter: Meter) -> Found | None:
    header = rpm_header(stream)
    version = f"{header['version']}-{header['release']}"
    licence = normalise(str(header.get("licence") or ""))
    found = Found("rpm", header["name"], version, licence, path, sha256, None, str(header.get("architecture") or ""))
    return found if _sayable(found.name, version) else None


def _sayable(*texts: str) -> bool:
    """Whether these can be names and versions: text without spaces and signs that nobody sees."""
    return all(_SAYABLE.fullmatch(text) for text in texts)


def _component(found: Found) -> Any:
    return Component(
        name=found.name,
        version=found.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{found.kind}:{found.path}",
        purl=PackageURL(found.kind, found.namespace, found.name, found.version, {"arch": found.arch} if found.arch else None),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=found.sha256)] if found.sha256 else [],
        licenses=[LicenseExpression(found.licence)] if found.licence else [],
    )


def _file(found: Found) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": found.sha256}]
    return {"bom-ref": f"{found.kind}:{found.path}", "type": "file", "name": found.name, "hashes": hashes}
