# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who takes the messages of channels."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "s3cr3t-t0ken"  # noqa: S105 - a test's own


@dataclass
class Receiver:
    """What takes messages, and how it behaves: ``take``, ``hang`` or ``refuse``."""

    port: int = 0
    behaviour: str = "take"
    messages: list[dict[str, Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://tidegate:{SECRET}@127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextlib.contextmanager
def receive() -> Iterator[Receiver]:
    """A server that takes messages, while it is needed."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if receiver.behaviour == "hang":
                receiver.over.wait(60)
                return
            if receiver.behaviour == "take":
                receiver.messages.append(json.loads(content))
            self.send_response(200 if receiver.behaviour == "take" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
