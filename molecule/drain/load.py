# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a service all the time while a command runs, and count what fails.

Usage: load.py ADDRESS PORT COMMAND...

Four clients ask for / and two for /slow, which takes seconds; none asks again for what failed. On standard output comes one line of JSON:
``requests`` and ``slow`` count the answers that were whole, by ``failures`` each of the others is described, ``status`` is that of the
command, whose own output follows.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time

PAUSE = 0.1  # seconds between two requests of a client


class Client(threading.Thread):
    """Asks for one path until ``ended``, each time over a connection of its own."""

    def __init__(self, address: str, port: int, path: str, ended: threading.Event) -> None:
        super().__init__()
        self.address, self.port, self.path = address, port, path
        self.ended = ended
        self.whole = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.ended.is_set():
            problem = self.ask()
            if problem:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {self.path}: {problem}")
            else:
                self.whole += 1
            time.sleep(PAUSE)

    def ask(self) -> str:
        """What went wrong with a request, nothing when its answer came whole."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=60)
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()
        return "" if answer.status == http.client.OK else f"{answer.status} {answer.reason}"


def main() -> int:
    address, port, *command = sys.argv[1:]
    ended = threading.Event()
    quick, slow = ([Client(address, int(port), path, ended) for _number in range(count)] for path, count in (("/", 4), ("/slow", 2)))
    for client in (*quick, *slow):
        client.start()
    try:
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        ended.set()
        for client in (*quick, *slow):
            client.join()
    counted = {
        "requests": sum(client.whole for client in quick),
        "slow": sum(client.whole for client in slow),
        "failures": [failure for client in (*quick, *slow) for failure in client.failures],
        "status": done.returncode,
    }
    print(json.dumps(counted))
    print(done.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
