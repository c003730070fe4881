# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that freezes while a connection is open is not waited for without end."""

from __future__ import annotations

import hashlib
from typing import Any

# What the user sets for ssh comes first and wins.
_OPTIONS = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"


def keep_alive(connection: Any) -> None:
    """Let an ssh connection of Ansible's notice within half a minute that its host does not answer any more.

    ssh shares a connection that another run has left open, with that one's settings; so ours has a name of its own, as short as Ansible's.
    """
    if connection.transport != "ssh":
        return
    extra = connection.get_option("ssh_extra_args") or ""
    connection.set_option("ssh_extra_args", f"{extra} {_OPTIONS}".strip())
    if not connection.get_option("control_path"):
        to = "-".join(str(connection.get_option(name)) for name in ("host", "port", "remote_user"))
        name = hashlib.sha256(f"tidegate-{to}".encode()).hexdigest()[:10]
        connection.set_option("control_path", f"%(directory)s/{name}")
