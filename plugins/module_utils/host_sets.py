# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has besides releases: its packages, units, cron files and listeners, each a set of names with what each of them is.

A set is known by one sha256, so that a host on which nothing has changed has little to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

from .release_files import open_regular, range_digest
from .release_home import HostError

Entries = dict[str, str]
"""By name, what it is: a version, a program, or of a file the beginning of its sha256."""

_DPKG = "/var/lib/dpkg/status"
_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
_RPM_FORMAT = "%{NAME}:%{ARCH}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n"
_RPM_TIME = 120.0  # seconds
# What is enabled, changed or added by whoever runs the host; what packages bring is theirs.
UNIT_PLACES = ("/etc/systemd/system", "/etc/systemd/user", "/usr/local/lib/systemd/system", "/etc/init.d", "/etc/rc.local")
_LINKS = ("/usr/lib/systemd/system", "/lib/systemd/system")
CRON_PLACES = (
    *("/etc/crontab", "/etc/anacrontab", "/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"),
    "/var/spool/cron",
)
# What a link leads to there is a package's, or in the set by itself; of any other its content counts, for it is what is run.
_KNOWN = ("/usr/lib/", "/lib/", *(f"{place}/" for place in (*UNIT_PLACES, *CRON_PLACES)))
_MOST = 20_000  # entries of a set
_DEEPEST = 8
_SHOWN = 16  # digits of a sha256 that tell one content from another
_LISTENS, _UNCONNECTED = "0A", "07"
_SOCKETS = (("tcp", 4), ("tcp6", 16), ("udp", 4), ("udp6", 16))


def host_sets(root: str, recorded: Mapping[str, str], whole: bool) -> dict[str, dict[str, Any]]:
    """Each ``recorded`` set of this host: ``sha256``, and when that is not the recorded one ``entries``, and ``since`` when these are
    there. All of them, with their entries, when they are wanted ``whole``.

    ``problem`` says instead why a set can't be read. ``root``: where releases are.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, read in _sets(root).items():
        if not whole and name not in recorded:
            continue
        try:
            entries = read()
            if len(entries) > _MOST:
                raise HostError(f"there are more than {_MOST}")
        except (OSError, ValueError, HostError) as error:
            found[name] = {"problem": _why(error)}
            continue
        digest = digest_of(entries)
        found[name] = {"sha256": digest}
        if whole or recorded[name] != digest:
            found[name]["entries"] = entries
        if not whole and recorded[name] != digest:
            from .set_moments import moments_of  # noqa: PLC0415 - on most hosts nothing has changed

            found[name]["since"] = moments_of(name, entries, root)
    return found


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename} can't be read ({error.strerror})" if error.filename else error.strerror
    return str(error)


def digest_of(entries: Mapping[str, str]) -> str:
    """The sha256 by which a set is known."""
    return hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sets(root: str) -> dict[str, Callable[[], Entries]]:
    return {"packages": packages, "units": units, "cron": cron, "listeners": lambda: listeners(root)}


def packages() -> Entries:
    """Version by name and architecture of each package that is installed, as the database of dpkg or rpm has it, or both."""
    found: Entries = {}
    databases = rpm_databases()
    if not databases and not os.path.isfile(_DPKG):
        raise HostError("this host has neither dpkg nor rpm, so it can't say which packages it has")
    if os.path.isfile(_DPKG):
        with open(_DPKG, encoding="utf-8", errors="replace") as stream:
            found.update(_dpkg(stream.read()))
    if databases:
        found.update(_rpm())
    return found


def rpm_databases() -> list[str]:
    """Where this host has a database of rpm."""
    return [place for place in _RPM if os.path.isdir(place) and os.listdir(place)]


def _dpkg(text: str) -> Iterator[tuple[str, str]]:
    for paragraph in text.split("\n\n"):
        fields = dict.fromkeys(("Package", "Architecture", "Version", "Status"), "")
        for line in paragraph.split("\n"):
            key, colon, value = line.partition(": ")
            if colon and key in fields:
                fields[key] = value.strip()
        if fields["Package"] and fields["Status"].endswith(" installed"):
            yield f"{fields['Package']}:{fields['Architecture']}", fields["Version"]


def _rpm() -> Iterator[tuple[str, str]]:
    """Whatever form this rpm keeps its database in, it is the one to read it."""
    command = ["rpm", "--query", "--all", "--queryformat", _RPM_FORMAT]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=_RPM_TIME)
    except FileNotFoundError:  # a database that something left, such as alien
        return
    except subprocess.TimeoutExpired:
        raise HostError("rpm does not answer") from None
    if done.returncode:
        raise HostError(f"rpm can't say what is installed: {' '.join(done.stderr.split())[:200]}")
    several: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _tab, version = line.partition("\t")
        several.setdefault(name, []).append(version)  # kernels may be there more than once
    yield from ((name, " ".join(sorted(versions))) for name, versions in several.items())


def units() -> Entries:
    """Unit files, drop-ins and links that are this host's own, and what is enabled of those that packages bring."""
    found = _files(UNIT_PLACES)
    for place in _LINKS:
        if os.path.islink(os.path.dirname(place)):
            continue  # the same directory once more
        for folder in _subfolders(place):
            if folder.endswith((".wants", ".requires")):
                found.update(_files((folder,)))
    for level in _subfolders("/etc"):
        if os.path.basename(level).startswith("rc") and level.endswith(".d"):
            found.update(_files((level,)))
    return found


def cron() -> Entries:
    """Every file that cron goes by."""
    return _files(CRON_PLACES)


def _subfolders(place: str) -> list[str]:
    try:
        return sorted(entry.path for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _files(places: tuple[str, ...]) -> Entries:
    """By path, the target of each link and the content of each file at and below ``places``; whose it is, and who may write to it, too."""
    found: Entries = {}
    waiting = [(place, 0) for place in places]
    while waiting:
        path, depth = waiting.pop()
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(info.st_mode):
            if depth < _DEEPEST and len(found) <= _MOST:
                waiting += [(os.path.join(path, name), depth + 1) for name in os.listdir(path)]
        else:
            found[_text(path)] = _content(path, info)
    return found


def _content(path: str, info: os.stat_result) -> str:
    said, real = "", path
    if stat.S_ISLNK(info.st_mode):
        said, real = f"-> {_text(os.readlink(path))}", os.path.realpath(path)
        if real.startswith(_KNOWN) or not os.path.isfile(real):
            return said
    opened = open_regular(os.fsencode(real))
    if opened is None:
        return said or "is no file"
    descriptor, info = opened
    try:
        digest = range_digest(descriptor, 0, info.st_size) or ""
    finally:
        os.close(descriptor)
    return f"{f'{said} ' if said else ''}{digest[:_SHOWN]} {stat.S_IMODE(info.st_mode):04o}{f' of {info.st_uid}' if info.st_uid else ''}"


def listeners(root: str) -> Entries:
    """By protocol, address and port, the programs that listen there in this process's network name space, and which it can see.

    A socket of a process that is not in ``/proc`` is another machine's, or another container's, that shares the network. Ports of the
    range from which the kernel gives them to whoever asks for none in particular are left out for UDP, where clients have them too.
    """
    if os.geteuid() != 0:
        raise HostError("only root sees whose a listener is; audit with become")
    found: dict[str, set[str]] = {}
    for name, _pid, program in listening(root):
        found.setdefault(name, set()).add(program)
    return {name: ", ".join(sorted(programs)) for name, programs in found.items()}


def listening(root: str) -> Iterator[tuple[str, str, str]]:
    """What listens, as :func:`listeners` has it, the id of each process that does, and its program."""
    sockets: dict[str, list[str]] = {}
    low, high = _given_ports()
    for kind, size in _SOCKETS:
        for address, port, inode in _open_sockets(kind, size):
            if kind.startswith("tcp") or not low <= port <= high:
                name = f"[{address}]" if ":" in address else address
                sockets.setdefault(inode, []).append(f"{kind[:3]} {name}:{port}")
    for inode, pid, program in _owners(sockets.keys(), os.path.realpath(root)) if sockets else ():
        yield from ((name, pid, program) for name in sockets[inode])


def _open_sockets(kind: str, size: int) -> Iterator[tuple[str, int, str]]:
    try:
        lines = Path("/proc/self/net", kind).read_text(encoding="ascii").splitlines()[1:]
    except FileNotFoundError:  # a kernel without IPv6
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == (_LISTENS if kind.startswith("tcp") else _UNCONNECTED):
            address, _colon, port = fields[1].partition(":")
            yield _address(bytes.fromhex(address), size), int(port, 16), fields[9]


def _address(text: bytes, size: int) -> str:
    """As people write it; the kernel has it in words of the machine's own order."""
    from ipaddress import ip_address  # noqa: PLC0415 - only an audit needs it
    from sys import byteorder  # noqa: PLC0415 - as above

    words = [text[place : place + 4] for place in range(0, size, 4)]
    return str(ip_address(b"".join(word[::-1] if byteorder == "little" else word for word in words)))


def _given_ports() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 32768, 60999


def _owners(inodes: Any, root: str) -> Iterator[tuple[str, str, str]]:
    """Each socket, with the id of a process that has it open, and its program."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # it ended, or is not ours to see
            continue
        program = ""
        for descriptor in descriptors:
            try:
                inode = wanted.get(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            except OSError:
                continue
            if inode is not None:
                program = program or _program(pid, root)
                yield inode, pid, program


def _program(pid: str, root: str) -> str:
    """The program that a process runs; of a release it is called the same in each of its versions."""
    try:
        path = _text(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return "?"
    path = path[: -len(" (deleted)")] if path.endswith(" (deleted)") else path
    if path.startswith(f"{root}/"):
        name, _slash, rest = path[len(root) + 1 :].partition("/")
        parts = rest.split("/", 3)
        if len(parts) == 4 and (parts[0], parts[2]) == ("releases", "tree"):
            return f"{root}/{name}/current/{parts[3]}"
    return path


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
