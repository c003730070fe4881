# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to the host program, as a controller gives them, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.host_program import START, host_program

MARK = "answer"


def give_order(
    order: dict[str, Any], pack: bytes = b"", *, along: bool = True, keep: bool = False, user: int | None = None, umask: int = -1
) -> dict[str, Any]:
    """The answer to an order. ``along``: the program goes with it; ``keep``: it stays; ``user``: the id of another who runs it."""
    packed, text = host_program().pack() if along else b"", json.dumps(order).encode()
    head = f"{MARK} {len(packed)} {len(text)} {int(keep)}\n".encode()
    # Another user may not be able to read this Python.
    python = sys.executable if user is None else shutil.which("python3", path="/usr/bin:/usr/local/bin")
    assert python
    done = subprocess.run(
        [python, "-I", "-S", "-c", START, f"{order['root']}/.program", host_program().digest],
        input=head + packed + text + pack,
        env=os.environ,
        capture_output=True,
        check=False,
        user=user,
        umask=umask,
    )
    assert not done.stderr, done.stderr.decode()
    last = done.stdout.decode().splitlines()[-1]
    assert last.startswith(MARK)
    answer: dict[str, Any] = json.loads(last[len(MARK) :])
    return answer
