# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan what hosts have in the homes of releases and nobody released, with the scanner that examines releases before they are archived."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from ..errors import TidegateError
from ..intake.malware import scan
from ..report.progress import counted
from ..rollout.leftovers import temporary_directory

_LARGEST = 64 << 20  # bytes of a file of a host


def scan_suspects(answer: object, database: str | None = None) -> dict[str, Any]:
    """Scan the ``files`` of what a host sent of its suspects, see ``module_utils/suspects.py``.

    Returns ``infected``, each with ``release``, ``path``, ``signature`` and ``since``, and ``problem``, why not all of it is known to be
    clean.
    """
    if not isinstance(answer, Mapping) or not isinstance(answer.get("files"), list) or not isinstance(answer.get("left"), list):
        return {"infected": [], "problem": "its answer is none"}
    names: dict[str, tuple[str, str, object]] = {}
    try:
        with temporary_directory("tidegate-audit-") as folder:
            for number, one in enumerate(answer["files"]):
                names[str(number)] = str(one["release"]), str(one["path"]), one.get("since")
                (folder / str(number)).write_bytes(_content(one["data"]))
            found = scan(folder, database) if names else None
    except (TidegateError, AttributeError, TypeError, KeyError, ValueError, zlib.error) as error:
        return {"infected": [], "problem": f"what it sent can't be read ({error})"}
    infected = [
        {"release": names[name][0], "path": names[name][1], "signature": signature, "since": names[name][2]}
        for name, signature in (found.found if found and found.outcome == "infected" else ())
        if name in names
    ]
    problem = found.detail if found and found.outcome == "inconclusive" else ""
    if answer["left"]:
        more = f"{counted(len(answer['left']), 'file')} too large, too many or unreadable, such as {answer['left'][0]}"
        problem = "; ".join(filter(None, (problem, f"{more}, were left out")))
    return {"infected": infected, "problem": problem}


def _content(data: str) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(b64decode(data, validate=True), _LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError("a file of it is too large")
    if not unpacker.eof:
        raise ValueError("a file of it is cut")
    return content
