# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of its own: sends the message on its standard input, and says on its standard output how it went, a line for each address."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading

with contextlib.suppress(ImportError):
    import apprise


def main() -> None:
    """One address after the other could let a slow one keep the others from being told, so all at once."""
    order = json.load(sys.stdin)

    def send(channel: str, address: str) -> None:
        good = False
        with contextlib.suppress(Exception):
            server = apprise.Apprise()
            good = bool(server.add(address)) and bool(
                server.notify(title=order["title"], body=order["body"], body_format=apprise.NotifyFormat.TEXT)
            )
        os.write(1, f"{json.dumps([channel, good])}\n".encode())

    threads = [
        threading.Thread(target=send, args=(channel, address), daemon=True)
        for channel, addresses in order["addresses"].items()
        for address in addresses
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)  # whatever a library has left running


if __name__ == "__main__":
    main()
