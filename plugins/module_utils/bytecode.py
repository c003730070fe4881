# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Python keeps beside the sources of a release: it runs instead of them, so it has to be what they compile to.

Python believes what a compiled file says of its source, by time and size or by nothing at all. So each is held against the code that the
same Python makes of the source once more, in a process of its own, for what is no code may break the one that reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from . import compiled
from .release_record import Release

_NAME = re.compile(r"(?P<stem>.+)\.(?P<tag>(?!opt-)[a-z]+-[0-9]+)(?:\.opt-(?P<level>[12]))?\.pyc")
_PLACES = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec", "/usr/local/sbin")
_TIME = 300.0  # seconds for all that one Python has to compile
_TRIES = 5  # at what is left after a compiled file has broken the process


def foreign_bytecode(release: Release, paths: Iterable[str]) -> list[str]:
    """Those of ``paths``, compiled files below the tree of ``release``, that are not what its released sources compile to.

    What belongs to a source that was changed, or was made by a Python that is not on this host, is among them.
    """
    sources = {entry["path"]: entry["sha256"] for entry in release.files if entry["type"] == "file"}
    foreign: list[str] = []
    by_tag: dict[str, list[tuple[str, Any]]] = {}
    for path in sorted(paths):
        folder, _slash, name = path.rpartition("/")
        match, above = _NAME.fullmatch(name), folder.rpartition("/")[0]
        source = f"{above}/{match['stem']}.py".lstrip("/") if match else ""
        if match is None or source not in sources:
            foreign.append(path)
            continue
        pair = [f"{release.tree}/{source}", sources[source]], [f"{release.tree}/{path}", int(match["level"] or 0)]
        by_tag.setdefault(match["tag"], []).append((path, pair))
    for tag, pairs in by_tag.items():
        foreign += _foreign(_python_of(tag), pairs)
    return sorted(foreign)


def _python_of(tag: str) -> Optional[str]:
    """The Python that made files with this tag in their names, if this host has it; none out of a release is ever run."""
    if tag == sys.implementation.cache_tag and sys.executable:
        return sys.executable
    digits = tag.rpartition("-")[2]
    name = f"{'python' if tag.startswith('cpython') else tag.rpartition('-')[0]}{digits[:1]}.{digits[1:]}"
    return next((path for path in (f"{place}/{name}" for place in _PLACES) if os.access(path, os.X_OK)), None)


def _foreign(python: Optional[str], pairs: list[tuple[str, Any]]) -> Iterator[str]:
    tries = _TRIES
    while pairs and python is not None and tries:
        good, whole = _right(python, [pair for _path, pair in pairs])
        if whole:
            yield from (path for number, (path, _pair) in enumerate(pairs) if number not in good)
            return
        # It broke on the one after those that it got to, or before it got to any.
        last = max(good, default=-1) + 1
        yield from (path for number, (path, _pair) in enumerate(pairs[: last + 1]) if number not in good)
        pairs, tries = pairs[last + 1 :], tries - 1
    yield from (path for path, _pair in pairs)


def _right(python: str, pairs: list[Any]) -> tuple[set[int], bool]:
    """Which of the pairs are right, by their position, and whether that Python got to the end of them."""
    loader: Any = compiled.__spec__.loader if compiled.__spec__ else None
    program = loader.get_source(compiled.__name__)
    process = subprocess.Popen(
        [python, "-I", "-S", "-B", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
    )
    said = b""
    try:
        said = process.communicate(json.dumps(pairs).encode(), timeout=_TIME)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0]
    except OSError:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
    return {int(line) for line in said.split() if line.isdigit()}, process.returncode == 0
