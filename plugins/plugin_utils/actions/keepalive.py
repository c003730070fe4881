# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our actions set for their own connections: a host that freezes is not waited for without end, and what is fast comes first."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

# What the user sets for ssh comes first and wins.
_OPTIONS = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"

# Ansible's own without -C: packs are compressed already, and doing it again takes longer than sending them.
_SSH_ARGS = "-o ControlMaster=auto -o ControlPersist=60s"


def prefer_fast(connection: Any, variables: Mapping[str, Any]) -> None:
    """Let a connection pipe modules to the host and not compress what is compressed, unless the user has set it otherwise.

    Ansible's own way needs a home that the user who logs in can write to, and more round trips.
    """
    if connection.has_pipelining and connection.get_option_and_origin("pipelining", variables)[1] == "default":
        connection.set_option("pipelining", True)
    if connection.transport == "ssh" and connection.get_option_and_origin("ssh_args", variables)[1] == "default":
        connection.set_option("ssh_args", _SSH_ARGS)


def connect_anew(connection: Any) -> None:
    """Let the next command go over a connection that is opened for it: one that was open before shows nothing.

    What is shared by ssh is given another name too, for that the old one ends is not certain.
    """
    connection.reset()
    if connection.transport == "ssh":
        connection.set_option("control_path", f"%(directory)s/{secrets.token_hex(5)}")


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
