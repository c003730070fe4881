# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of a release starts, is well and stops, as a host would see it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from waiting import wait_until

PAYLOAD = Path(__file__).parents[2] / "examples" / "hello" / "payload"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answer(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return None


def test_the_example_of_a_release_starts_answers_and_stops(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "TIDEGATE_VERSION": "1.0",
        "TIDEGATE_TREE": str(PAYLOAD),
        "TIDEGATE_STATE": str(tmp_path),
        "TIDEGATE_ADDRESS": "127.0.0.1",
        "TIDEGATE_PORT": str(port),
        "TIDEGATE_PYTHON": sys.executable,
    }

    def hook(name: str) -> int:
        return subprocess.run([str(PAYLOAD / "bin" / name)], env=environment, cwd=PAYLOAD, check=False, timeout=30).returncode

    assert hook("stop") == 0  # nothing runs yet
    assert hook("start") == 0
    try:
        wait_until(lambda: answer(port) is not None)
        assert answer(port) == "hello 1.0\n"
    finally:
        assert hook("stop") == 0
    assert answer(port) is None
    assert hook("stop") == 0
