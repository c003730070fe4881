# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when the entries of a host's sets have been as they are, in seconds since 1970, as far as the host can say it.

Of a file, and of a package of dpkg, whose list of files is written when it is unpacked, it is the time at which the file system noted a
change, which nobody can set. What was removed can only be found in a log, which anybody who is root can write to; so nothing is taken from
it that lies ahead, or behind a line that was there before.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Callable, Optional

from .host_sets import CRON_PLACES, UNIT_PLACES, listening, rpm_databases
from .release_files import open_regular

Moments = dict[str, float]
"""By the name of an entry. Of a directory, whose name ends with a slash: when something in it last came or went."""

_LISTS = "/var/lib/dpkg/info"
_LOGS = ("/var/log/dpkg.log.1", "/var/log/dpkg.log")  # the older one first; those before it are compressed
_LOG_SIZE = 4 << 20  # bytes at the end of a log that are read
_LINE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) (install|upgrade|remove|purge|disappear) ([\w.+-]+:[\w-]+)(?: .*)?", re.ASCII
)
_BACK = 7200.0  # seconds that a line may lie before the one above it: summer time, and a clock that was set right
_GONE = 2000  # packages that went of which the last are told
_RPM_FORMAT = "%{NAME}:%{ARCH}\\t%{INSTALLTIME}\\n"
_RPM_TIME = 120.0  # seconds


def moments_of(name: str, entries: Mapping[str, str], root: str) -> Moments:
    """Since when the entries of the set ``name`` are there, and since when packages are gone; what is not known is left out."""
    known: Mapping[str, Callable[[], Moments]] = {
        "packages": lambda: _of_packages(entries),
        "units": lambda: _of_files(entries, UNIT_PLACES),
        "cron": lambda: _of_files(entries, CRON_PLACES),
        "listeners": lambda: _of_listeners(root),
    }
    now = time.time()
    try:
        found = known[name]()
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {key: moment for key, moment in found.items() if 0 <= moment <= now}


def _of_files(entries: Iterable[str], places: Iterable[str]) -> Moments:
    found = {path: moment for path in entries if (moment := _changed(path)) is not None}
    folders = {*places}
    for path in (*entries, *places):
        while (path := os.path.dirname(path)) not in ("", "/") and path not in folders:
            folders.add(path)
    # Not of one that is a file, nor of what was removed.
    found.update((f"{path}/", moment) for path in folders if os.path.isdir(path) and (moment := _changed(path)) is not None)
    return found


def _changed(path: str) -> Optional[float]:
    try:
        return os.lstat(path).st_ctime
    except (OSError, ValueError):
        return None


def _of_packages(entries: Mapping[str, str]) -> Moments:
    found = {name: moment for name, moment in _log_moments().items() if name not in entries}
    for name in entries:
        plain = name.partition(":")[0]
        moments = (_changed(os.path.join(_LISTS, f"{known}.list")) for known in (name, plain))
        moment = next((one for one in moments if one is not None), None)
        if moment is not None:
            found[name] = moment
    if rpm_databases():
        found.update(_rpm())
    return found


def _log_moments() -> Moments:
    """When each package that went was last removed, by the logs of dpkg."""
    gone: Moments = {}
    latest, now = 0.0, time.time()
    for line in _log_lines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            moment = datetime(*map(int, match.groups()[:6])).timestamp()  # type: ignore[arg-type]  # noqa: DTZ001 - dpkg writes the host's time
        except (ValueError, OverflowError, OSError):
            continue
        verb, package = match[7], match[8]
        gone.pop(package, None)
        if moment > now:
            continue
        if verb not in ("install", "upgrade") and moment >= latest - _BACK:
            gone[package] = moment
        latest = max(latest, moment)
    return dict(sorted(gone.items(), key=lambda item: item[1])[-_GONE:])


def _log_lines() -> Iterator[str]:
    for path in _LOGS:
        opened = open_regular(os.fsencode(path))
        if opened is None:
            continue
        descriptor, info = opened
        try:
            start = max(0, info.st_size - _LOG_SIZE)
            text = os.pread(descriptor, _LOG_SIZE, start).decode("utf-8", errors="replace")
        finally:
            os.close(descriptor)
        lines = text.split("\n")
        yield from lines[1:-1] if start else lines[:-1]  # what was cut is no line


def _rpm() -> Iterator[tuple[str, float]]:
    """When each package was installed; of one that is there more than once, the last of them."""
    command = ["rpm", "--query", "--all", "--queryformat", _RPM_FORMAT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=_RPM_TIME)
    found: Moments = {}
    for line in done.stdout.splitlines():
        name, _tab, moment = line.partition("\t")
        if moment.isascii() and moment.isdigit():
            found[name] = max(found.get(name, 0.0), float(moment))
    yield from found.items()


def _of_listeners(root: str) -> Moments:
    """When the last process that has each open was started: it can't listen for longer."""
    with open("/proc/stat", encoding="ascii") as stream:
        booted = next(float(line.split()[1]) for line in stream if line.startswith("btime "))
    found: Moments = {}
    for name, pid, _program in listening(root):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
                ticks = int(stream.read().rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            continue
        found[name] = max(found.get(name, 0.0), booted + ticks / os.sysconf("SC_CLK_TCK"))
    return found
