# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work for many hosts shared out to processes, for all threads of one get no more than one processor between them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...module_utils.processes import find_prctl

_WORTH = 12  # hosts from which on a process of their own is no waste
_PR_SET_PDEATHSIG = 1
Results = Mapping[str, Any]
"""By host, what became of it; has to be JSON."""
Work = Callable[[Sequence[str]], Results]


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(hosts: Sequence[str], processors: int) -> list[list[str]]:
    """The hosts in as many parts as there are processors to do them, as far as that is worth it."""
    count = max(1, min(processors, len(hosts) // _WORTH))
    return [list(hosts[number::count]) for number in range(count)]


def do_shares(parts: Sequence[Sequence[str]], work: Work, apart: Work) -> Results:
    """What all the parts come to: the first is ``work`` of this process; each other is done ``apart``, in one that ends with this one.

    What a process was ended at is left out.
    """
    children = [_begin(part, apart) for part in parts[1:]]
    found: dict[str, Any] = {}
    try:
        found |= work(parts[0])
    finally:
        for child, stream in children:
            with open(stream, "rb") as answer:
                said = answer.read()
            _pid, status = os.waitpid(child, 0)
            found |= json.loads(said) if status == 0 else {}
    return found


def _begin(part: Sequence[str], apart: Work) -> tuple[int, int]:
    """A process that does a part; its number, and where it says what became of that."""
    reader, writer = os.pipe()
    parent = os.getpid()
    find_prctl()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            die_with(parent)
            os.close(reader)
            with open(writer, "wb") as answer:
                answer.write(json.dumps(apart(part)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return child, reader


def die_with(parent: int) -> None:
    """Have the kernel end this process, which ``parent`` has just made, when that ends; ask :func:`find_prctl` before the fork."""
    prctl = find_prctl()
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
