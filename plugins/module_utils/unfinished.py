# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interrupted run of a release's own role has left running on this host.

The tasks of a role carry in their environment which deployment they are of, and a number that is higher in each run of it. A module or
script of Ansible's goes on when the controller is gone, so whoever goes on with the deployment waits for it: no task runs twice at once.
"""

from __future__ import annotations

import os
import time

from .processes import line_of, with_variable

MARK = "TIDEGATE_RUN"
_PLACES = ("AnsiballZ_", "/ansible-tmp-")  # what Ansible calls a module that it has put on the host, and the directory for that and scripts
_INTERVAL = 0.2  # seconds between two looks


def wait_for_unfinished(mark: str, patience: float) -> list[int]:
    """Wait until no module or script runs that an earlier run than ``mark`` had started; return those that do after ``patience`` seconds.

    Not waited for is what such a module has started to stay, as a service.
    """
    deadline = time.monotonic() + patience
    spared = line_of(os.getpid())
    while True:
        found = with_variable(MARK)
        left = [pid for pid, (other, arguments) in found.items() if _is_earlier(other, mark) and _is_module(pid, arguments)]
        if not set(left) - spared or time.monotonic() > deadline:
            return sorted(set(left) - spared)
        time.sleep(_INTERVAL)


def _is_earlier(one: str, other: str) -> bool:
    """Whether a mark, ``deployment:number``, is of an earlier run of the same deployment than another."""
    (label, _colon, number), (mine, _colon, limit) = one.rpartition(":"), other.rpartition(":")
    return label == mine and number.isdecimal() and limit.isdecimal() and int(number) < int(limit)


def _is_module(pid: int, arguments: list[str]) -> bool:
    """Whether it is a module or script of Ansible's: a Python that reads it from a pipe, or a file that Ansible has put there."""
    if any(place in argument for argument in arguments for place in _PLACES):
        return True
    if len(arguments) != 1 or not os.path.basename(arguments[0]).startswith("python"):
        return False
    try:
        return os.readlink(f"/proc/{pid}/fd/0").startswith(("pipe:", "socket:"))
    except OSError:  # it ended meanwhile
        return False
