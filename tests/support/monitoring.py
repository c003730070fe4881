# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus that looks each second at numbers which a test sets."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

import yaml
from answering import Answering
from waiting import wait_until

PROGRAM = shutil.which("prometheus")


@dataclass
class Monitoring:
    """``numbers``: the metric ``errors`` of each host, as the exporter gives it."""

    path: Path
    numbers: dict[str, float] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        numbers = self.numbers

        class Exporter(Answering):
            def do_GET(self) -> None:
                lines = (f'errors{{instance="{host}:9100"}} {number}' for host, number in sorted(numbers.items()))
                self.say(200, "".join(f"{line}\n" for line in lines).encode(), **{"Content-Type": "text/plain"})

        self.exporter = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
        self.exporter.daemon_threads = True
        threading.Thread(target=self.exporter.serve_forever, args=(0.1,), daemon=True).start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        job = {
            "job_name": "hosts",
            "honor_labels": True,
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [f"127.0.0.1:{self.exporter.server_port}"]}],
        }
        (self.path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))

    def start(self) -> None:
        """Start Prometheus, and wait until it has looked."""
        assert PROGRAM is not None
        options = [f"--config.file={self.path}/prometheus.yml", f"--storage.tsdb.path={self.path}/prometheus"]
        command = [PROGRAM, *options, f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"]
        with (self.path / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.says(next(iter(self.numbers.values()))))

    def set(self, number: float) -> None:
        """Let each host have this number, and wait until Prometheus says so."""
        self.numbers.update(dict.fromkeys(self.numbers, number))
        wait_until(lambda: self.says(number))

    def says(self, number: float) -> bool:
        """Whether Prometheus has this number for every host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"/api/v1/query?query=count(errors=={number})")
            return f'"{len(self.numbers)}"' in connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def send(self, number: signal.Signals) -> None:
        """Send Prometheus a signal; behind SIGKILL it is gone."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()

    def stop(self) -> None:
        """End everything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.exporter.shutdown()
        self.exporter.server_close()
