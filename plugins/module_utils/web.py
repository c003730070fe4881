# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request by HTTP, for a health check.

What it imports takes longer than most steps, so it is a file of its own, which only hosts with such a check import.
"""

from __future__ import annotations

import http.client
import socket
import ssl

from .endpoint import Endpoint


def get(there: Endpoint, timeout: float, at_most: int) -> tuple[int, bytes, bool]:
    """Ask for what is at ``there``, and read ``at_most`` bytes of it; return the status, these bytes, and whether they are all of them.

    Raises :class:`OSError` and :class:`http.client.HTTPException`.
    """
    # Not by http.client: of a host with a zone the name that it is asked for is another than the one that is connected to.
    sock = socket.create_connection((there.host, there.port), timeout=timeout)
    if there.secure:
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=there.name)
    connection = http.client.HTTPConnection(there.name, there.port)
    connection.sock = sock
    try:
        connection.request("GET", there.target, headers={"Host": there.authority})
        answer = connection.getresponse()
        body = answer.read(at_most)
        return answer.status, body, not answer.length or len(body) == at_most
    finally:
        connection.close()
