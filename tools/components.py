# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SBOM of a release of Tidegate: its files, and the libraries that it needs, with who needs whom.

Libraries are those of ``requirements/*.txt`` and what they need in turn, as they are installed beside the Python that runs this; the
versions have to be those of ``constraints.txt``. Those of ``base.txt`` are required and the others optional, as CycloneDX has it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.payload import FileEntry
from ansible_collections.tidegate.release.plugins.plugin_utils.intake import sbom
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Of those whose metadata says none, or a name that several licences have: what their files of licences say.
LICENCES = {
    "ansible-runner": "Apache-2.0",
    "jinja2": "BSD-3-Clause",
    "pytest-testinfra": "Apache-2.0",
    "python-daemon": "Apache-2.0",  # its tests and its build have the GPL
    "python-dateutil": "BSD-3-Clause",  # for all of it; what came after 2017 may be had by Apache-2.0 too
    "redfish": "BSD-3-Clause",
    "requests-toolbelt": "Apache-2.0",
    "requests-unixsocket": "Apache-2.0",
    "semantic-version": "BSD-2-Clause",
    "sortedcontainers": "Apache-2.0",
}


@dataclass
class Library:
    """A distribution that is needed; ``direct``: by a file of requirements. ``needs`` has the normalised names of those that it needs."""

    installed: Distribution
    required: bool
    direct: bool = False
    needs: set[str] = field(default_factory=set)

    @property
    def metadata_path(self) -> str:
        return f"{self.installed.name}-{self.installed.version}.dist-info/METADATA"


def make_sbom(root: Path, payload: Path, version: str) -> bytes:
    """The SBOM of ``payload``, Tidegate of that version out of the checkout ``root``; the same bytes for the same files and libraries.

    Raises :class:`SystemExit` with a sentence for a library that is missing, has another version or has no licence that is known.
    """
    libraries = needed(root / "requirements")
    check_versions(libraries, root / "constraints.txt")
    document = list_components(libraries, payload, version)
    connect(document, libraries)
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    sbom.check(text, "the SBOM that was made")
    return text


def list_components(libraries: Mapping[str, Library], payload: Path, version: str) -> dict[str, Any]:
    """The SBOM of a payload, as the intake makes it, as if the metadata of the libraries lay in it too."""
    contents = {str(path.relative_to(payload)): path.read_bytes() for path in sorted(payload.rglob("*")) if path.is_file()}
    contents |= {library.metadata_path: (library.installed.read_text("METADATA") or "").encode() for library in libraries.values()}
    files = [FileEntry(path, "file", size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in contents.items()]
    digest = hashlib.sha256(json.dumps([(entry.path, entry.sha256) for entry in files]).encode()).hexdigest()

    def read(path: str) -> BinaryIO:
        return io.BytesIO(contents[path])

    return dict(json.loads(sbom.make("tidegate-release", version, digest, files, read)))


def needed(requirements: Path) -> dict[str, Library]:
    """By normalised name all that the files of requirements need for this Python, and what that needs."""
    found: dict[str, Library] = {}
    seen: set[tuple[str, ...]] = set()
    for path in sorted(requirements.glob("*.txt"), key=lambda path: (path.stem != "base", path.stem)):
        left = [(one, "") for one in read_requirements(path)] if path.stem != "bindep" else []
        while left:
            wanted, by = left.pop()
            name = canonicalize_name(wanted.name)
            key = (name, *sorted(wanted.extras))
            if key not in seen:
                seen.add(key)
                try:
                    library = found.setdefault(name, Library(distribution(name), required=path.stem == "base"))
                except PackageNotFoundError:
                    raise SystemExit(f"{name} is not installed, and {by or path.name} needs it; install it: make dev") from None
                left += [(one, name) for one in needs_of(library.installed, wanted.extras)]
            if by:
                found[by].needs.add(name)
            else:
                found[name].direct = True
    return found


def needs_of(installed: Distribution, extras: Iterable[str]) -> Iterable[Requirement]:
    """What a distribution with these extras needs on this Python."""
    given = [{"extra": extra} for extra in ("", *extras)]
    return [one for one in map(Requirement, installed.requires or ()) if one.marker is None or any(map(one.marker.evaluate, given))]


def read_requirements(path: Path) -> Iterable[Requirement]:
    """What a file of pip's requires for this Python."""
    lines = (text for line in path.read_text().splitlines() if (text := line.partition("#")[0].strip()))
    return [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]


def check_versions(libraries: Mapping[str, Library], constraints: Path) -> None:
    """Raise :class:`SystemExit` unless each library has the version that was tested."""
    tested = {canonicalize_name(one.name): one.specifier for one in read_requirements(constraints)}
    for name, library in libraries.items():
        version = library.installed.version
        if name not in tested:
            raise SystemExit(f"constraints.txt has no version of {name}, which is needed; renew it: make constraints")
        if version not in tested[name]:
            raise SystemExit(f"{name} {version} is installed, and constraints.txt has {tested[name]}; install that: make dev")


def connect(document: dict[str, Any], libraries: Mapping[str, Library]) -> None:
    """Give each library in an SBOM its licence, its scope and what it needs.

    Raises :class:`SystemExit` for a library that the SBOM has not found, or no licence of.
    """
    components = {component["bom-ref"]: component for component in document["components"]}
    references: dict[str, str] = {}
    for name, library in libraries.items():
        component = components.get(f"pypi:{library.metadata_path}")
        if component is None:
            raise SystemExit(f"the metadata of {name} {library.installed.version} can't be read; install it anew: make dev")
        if not component.get("licenses"):
            if name not in LICENCES:
                raise SystemExit(
                    f"{name} {library.installed.version} does not say which licence it has; read its file of licences, and enter it in "
                    "LICENCES of tools/components.py as an SPDX expression"
                )
            component["licenses"] = [{"expression": LICENCES[name]}]
        component["scope"] = "required" if library.required else "optional"
        references[name] = component["bom-ref"] = component["purl"]
    graph = {"release": [name for name, library in libraries.items() if library.direct]}
    graph |= {references[name]: list(library.needs) for name, library in libraries.items()}
    document["dependencies"] = [{"ref": one, "dependsOn": sorted(references[name] for name in needs)} for one, needs in graph.items()]
