# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command whose controller is killed with SIGKILL, all that it has started too, as soon as HAProxy has no new requests for a server.

Usage: killed_while_drained.py ADDRESS PORT SERVER COMMAND...

ADDRESS and PORT are those of HAProxy's command line interface. Ends with 0 only if the command was killed that way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from ansible_collections.tidegate.release.plugins.module_utils.processes import below


def state(address: tuple[str, int], server: str) -> str:
    """What HAProxy calls the server's state."""
    with socket.create_connection(address, timeout=10) as connection, connection.makefile("rw", encoding="utf-8") as lines:
        lines.write("show stat app 4 -1\n")
        lines.flush()
        rows = [line.split(",") for line in lines]
    return next(row[17] for row in rows if row[:2] == ["app", server])


def main() -> int:
    address, port, server, *command = sys.argv[1:]
    killed = subprocess.Popen(command, start_new_session=True)
    while killed.poll() is None and state((address, int(port)), server) != "DRAIN":
        time.sleep(0.05)
    for pid in [killed.pid, *below([killed.pid])]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    status = killed.wait()
    if status == -signal.SIGKILL:
        return 0
    print(f"the command was not killed, it ended with {status}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
