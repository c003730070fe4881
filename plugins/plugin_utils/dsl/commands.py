# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the commands of a release could start on a host at all: what can't is found out when it is archived."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...module_utils.endpoint import PLACEHOLDER
from ..documents import Document
from .payload import FileEntry, follow, visible

_TREE, _STATE = "${tree}", "${state}/"
_UNKNOWN = {"previous", "next"}  # versions that only the host knows
_LINE = 256  # bytes of a script's first line that Linux reads
# Service managers and runtimes that hosts have in their PATH, whether the machine that archives has them or not.
_USUAL = {"systemctl", "service", "rc-service", "systemd-run", "journalctl", "docker", "podman", "java", "node", "python3", "perl", "bash"}


def check_commands(manifest: Document, entries: Mapping[str, FileEntry], root: Path) -> None:
    """Note what is wrong with the programs of hooks and checks in a release.yml, ``entries`` being the payload in ``root`` by path."""
    known = {"release": manifest.data["name"], "version": manifest.data["version"]}
    for place, what, written in _programs(manifest.data):
        program = PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), written)
        fault = _fault(program, entries, root) or _closed(program, entries, manifest.data.get("user"))
        if fault:
            manifest.problem(place, f"{what} can't start: {visible(program)} {fault[0]}", fault[1])


def _programs(manifest: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    for name, hook in manifest.get("hooks", {}).items():
        yield ("hooks", name, "command"), f"the hook {name}", hook["command"][0]
    for index, check in enumerate(manifest.get("health", ())):
        if "command" in check:
            yield ("health", index, "command"), f"the health check {check['name']!a}", check["command"][0]


def _fault(program: str, entries: Mapping[str, FileEntry], root: Path) -> tuple[str, str] | None:
    """Why a program can't start, and what to do; nothing as far as that can be known here."""
    path = _below_tree(program)
    if path.startswith(("/", _STATE)) or not _UNKNOWN.isdisjoint(PLACEHOLDER.findall(path)):
        return None  # the hosts have it, or it depends on them
    if "/" not in path and path == program:
        return _not_found(program, entries)
    found = follow(path, entries)
    if found is None and program.rstrip("/") != _TREE:
        close = difflib.get_close_matches(path, [entry.path for entry in entries.values() if entry.type == "file"], 1, 0.6)
        advice = f"did you mean {visible(close[0])}?" if close else "put it there, or give the absolute path that it has on the hosts"
        return "is not in the payload", advice
    if found is None or found.type == "directory":
        return "is a directory", "name the program in it"
    if not (found.mode or 0) & 0o100:
        return "may not be executed", f"allow it with chmod a+x {visible(found.path)} in the payload"
    return _not_program(_head(root / found.path))


def _below_tree(program: str) -> str:
    """A path below the tree, in which commands run, as a relative one; any other path as it is."""
    return program.removeprefix(_TREE).lstrip("/") if program.startswith(f"{_TREE}/") or program == _TREE else program


def _closed(program: str, entries: Mapping[str, FileEntry], user: str | None) -> tuple[str, str] | None:
    """As :func:`_fault` for a program of the payload that ``user`` has to start, while on hosts all of it is root's."""
    found = follow(_below_tree(program), entries) if "/" in program and user not in (None, "root") else None
    if found is None:
        return None
    folders = found.path.split("/")[:-1]
    way = [entries["/".join(folders[:depth])] for depth in range(1, len(folders) + 1)]
    for entry, needed in (*((folder, 0o001) for folder in way), (found, 0o005)):
        if (entry.mode or 0) & needed != needed:
            place = visible(entry.path)
            what = "can't be run" if entry is found else f"is in {place}, which can't be entered"
            remedy = f"allow it with chmod a+rx {place} in the payload"
            return f"{what} by the user {user}, for its mode is {entry.mode:04o}", remedy
    return None


def _not_found(name: str, entries: Mapping[str, FileEntry]) -> tuple[str, str] | None:
    """As :func:`_fault` for a name without a path, which is looked for in the host's PATH and not in the payload."""
    if name in _USUAL or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return None
    names = {entry.path.rpartition("/")[2]: entry.path for entry in entries.values() if entry.type != "directory"}
    close = difflib.get_close_matches(name, names, 1, 0.7)
    own = names[close[0]] if close else ""
    advice = f"did you mean {own if '/' in own else f'./{own}'}?" if own else "give the absolute path that it has on the hosts"
    return "is neither in the payload nor in the PATH here", visible(advice)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LINE)


def _not_program(head: bytes) -> tuple[str, str] | None:
    if head.startswith(b"\x7fELF"):
        return None
    line, newline, _rest = head.partition(b"\n")
    if line.startswith(b"\xef\xbb\xbf#!"):
        return "begins with a byte order mark", "save it as UTF-8 without one"
    if not line.startswith(b"#!"):
        return "is neither a program nor a script with #! in its first line", "begin it with a line like #!/bin/sh"
    if line.endswith(b"\r"):
        return "has a first line that ends with CR LF", "save it with the line ends of Unix, with dos2unix for one"
    interpreter = line[2:].strip(b" \t")
    if not interpreter.startswith(b"/") or not newline:
        return "names no interpreter in its first line by its absolute path", "begin it with a line like #!/bin/sh"
    return None
