# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was archived, or would be, for a person: how much, what of it is new, what it runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..dsl.manifest import Manifest, OwnAnsible
from ..dsl.package import Archived, Package, load_package
from ..dsl.payload import FileEntry, visible
from ..dsl.repository import Repository
from ..dsl.system_packages import SystemPackages
from ..errors import TidegateError
from ..intake.examine import Examination
from ..report.progress import counted

_NAMED = 5  # files that a line names


def last_version(home: Repository | None, name: str, version: str) -> Package | None:
    """The package of the release's highest other version, nothing when there is none that can be read."""
    versions = [other for other in home.versions(name) if other != version] if home else []
    for other in sorted(versions, key=_order, reverse=True):
        with contextlib.suppress(TidegateError):
            digest = home.resolve(name, other) if home else None
            if home and digest:
                return load_package(home, digest)
    return None


def _order(version: str) -> list[tuple[int, int, str]]:
    """By its numbers as numbers: for a message, no scheme is asked."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d.]+", version)]


def describe(archived: Archived, manifest: Manifest, before: Package | None, found: Examination | None) -> list[str]:
    """What a package would consist of, a line for each thing; ``before`` is what it is compared with."""
    files = f"{counted(archived.files, 'file')} of {archived.size} bytes" if manifest.payload else "no payload"
    lines = [f"{files}; documentation: {_listed(manifest.documentation)}"]
    if before is not None and (before.files or archived.entries):
        lines.append(f"against {before.manifest.version}: {_changes(before.files, archived.entries)}")
    if manifest.ansible is not None:
        lines += _own_ansible(manifest.ansible, archived.role, before)
    if manifest.packages is not None:
        lines.append(_packages(manifest.packages, before))
    closed = [visible(entry.path) for entry in archived.entries if entry.mode is not None and not entry.mode & 0o004]
    if closed:
        lines.append(f"not for everybody on the hosts: {_listed(closed)}")
    lines += [
        f"{image.component} {image.version} for {_listed(image.models)}, from {_listed(image.from_versions)}, "
        f"{f'and back to {_listed(image.back_to)}' if image.back_to else 'a point of no return'}: {image.image}"
        for image in manifest.firmware
    ]
    if manifest.has_tree:
        hooks = [f"{name} ({' '.join(hook['command'])})" for name, hook in manifest.hooks.items()]
        lines.append(f"hooks: {_listed(hooks) if hooks else 'none'}; checks: {_listed([_check(check) for check in manifest.health])}")
    if found is not None:
        licences = [f"{licence or 'none that SPDX knows'} ({count})" for licence, count in found.licences.items()]
        lines.append(f"malware scan: {found.scan.outcome}, {found.scan.detail}")
        components = counted(len(found.sbom.get("components", [])), "component")
        brought = ", brought with the payload" if found.brought else ""
        lines.append(f"SBOM: {components}{brought}; licences: {_listed(licences) or 'none'}")
    return lines


def _packages(own: SystemPackages, before: Package | None) -> str:
    """Which packages of the operating system it brings, and how that differs."""
    was = {one.name: one.version for one in before.manifest.packages.contents} if before and before.manifest.packages else {}
    names = {one.name: one.version for one in own.contents}
    said = [f"{name} {version}{f' (was {was[name]})' if was.get(name, version) != version else ''}" for name, version in names.items()]
    gone = [name for name in was if name not in names]
    line = f"packages: {_listed(said)}; {'held' if own.hold else 'not held'}, edited configuration: {own.config}"
    return f"{line}; no longer brought, so removed: {_listed(gone)}" if gone else line


def _own_ansible(own: OwnAnsible, role: Collection[FileEntry], before: Package | None) -> list[str]:
    """What a role consists of and does, a line for each thing."""
    sizes = [entry.size for entry in role if entry.size is not None]
    back = "the activate of the release before" if own.back_out == "previous" else "its own back_out"
    lines = [
        f"role {own.name}: {counted(len(sizes), 'file')} of {sum(sizes)} bytes; steps: {_listed(own.steps)}, {own.timeout:g} s each",
        f"back-out: {back}; where there was none: its back_out; not atomic",
    ]
    if own.collections:
        wanted = [f"{collection['name']} {collection.get('version', '')}".strip() for collection in own.collections]
        lines.append(f"collections: {_listed(wanted)}")
    if before is not None and before.role:
        lines.append(f"role against {before.manifest.version}: {_changes(before.role, role)}")
    return lines


def _check(check: Mapping[str, Any]) -> str:
    return f"{check['name']} ({next(kind for kind in ('http', 'tcp', 'command') if kind in check)})"


def _changes(old: Iterable[FileEntry], new: Iterable[FileEntry]) -> str:
    """How two trees differ, by path."""
    was, now = ({entry.path: (entry.type, entry.mode, entry.sha256, entry.target) for entry in tree} for tree in (old, new))
    kinds = {
        "new": [path for path in now if path not in was],
        "changed": [path for path in now if path in was and now[path] != was[path]],
        "gone": [path for path in was if path not in now],
    }
    said = [f"{len(paths)} {kind} ({_listed([visible(path) for path in paths])})" for kind, paths in kinds.items() if paths]
    same = sum(now.get(path) == what for path, what in was.items() if what[0] != "directory")
    return ", ".join([*said, f"{same} as before"])


def _listed(names: Collection[str]) -> str:
    return ", ".join([*list(names)[:_NAMED], *([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])])
