# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many lab hosts, ways to reach all of them at once, and real software to bring there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from documents import simple_manifest, write_document
from fleet import Fleet

SOFTWARE = Path("build/bench/software")
VERSIONS = ("5.1.1", "5.1.2")
FORKS = 25


def django(version: str) -> Path:
    """A source distribution of Django, from the package index unless it is here already."""
    found = list(SOFTWARE.glob(f"[Dd]jango-{version}.tar.gz"))
    if not found:
        SOFTWARE.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            "-d",
            str(SOFTWARE),
            f"django=={version}",
        ]
        subprocess.run(command, check=True)
        found = list(SOFTWARE.glob(f"[Dd]jango-{version}.tar.gz"))
    return found[0]


@dataclass
class Field(Fleet):
    """A fleet for measuring: addresses of its own, releases of Django, nothing to start or stop."""

    first: int = 1
    network: str = "127.0.2"

    @property
    def environment(self) -> dict[str, str]:
        # Sockets of its own each time: nobody finds a connection that somebody else opened.
        self.path.joinpath("control").mkdir(exist_ok=True)
        sockets = tempfile.mkdtemp(dir=self.path / "control")
        return {
            **super().environment,
            "ANSIBLE_FORKS": str(FORKS),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            "ANSIBLE_STDOUT_CALLBACK": "default",
        }

    def lab(self, state: str) -> None:
        variables = {
            "lab_path": str(self.path / "lab"),
            "lab_hosts": [{"name": name} for name in self.hosts],
            "lab_cmdb": str(self.path / "cmdb.sqlite"),
            "lab_first": self.first,
            "lab_network": self.network,
            "lab_state": state,
        }
        done = self.play("tidegate.release.lab", variables, inventory="localhost,")
        if done.returncode:
            raise RuntimeError(done.stdout)

    def release(self, version: str, **changes: Any) -> Path:
        folder = self.path / "releases" / version
        if not folder.exists():
            (folder / "payload").mkdir(parents=True)
            with tarfile.open(django(version)) as archive:
                archive.extractall(folder, filter="data")
            for path in next(folder.glob("[Dd]jango-*")).iterdir():
                path.rename(folder / "payload" / path.name)
            (folder / "README.md").write_text("# Django\n")
            write_document(folder / "release.yml", simple_manifest(version=version, summary="Django"))
        return folder

    def run(self, name: str, variables: dict[str, Any], *options: str) -> str:
        """Run a playbook; RuntimeError with its last words when it fails."""
        done = self.play(name, variables, *options)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stdout[-800:]}")
        return done.stdout

    def ssh(self, host: str) -> list[str]:
        """How to reach a host, by a connection of its own."""
        variables = self.hostvars()[host]
        options = [*shlex.split(str(variables["ansible_ssh_common_args"])), "-i", str(variables["ansible_ssh_private_key_file"])]
        target = f"{variables['ansible_user']}@{variables['ansible_host']}"
        return ["ssh", *options, "-o", "ControlMaster=no", "-p", str(variables["ansible_port"]), target]

    def everywhere(self, command: str, stdin: Path | None = None) -> None:
        """Run a shell command as root on all hosts at once, each with the file as its standard input."""

        def one(ssh: list[str]) -> None:
            with open(stdin or os.devnull, "rb") as source:
                subprocess.run([*ssh, f"sudo sh -c {shlex.quote(command)}"], stdin=source, check=True, capture_output=True)

        self.parallel(one, [self.ssh(host) for host in self.hosts])

    @staticmethod
    def parallel(work: Any, items: Iterable[Any]) -> None:
        """Do work for each item, as many at a time as the others do."""
        with ThreadPoolExecutor(FORKS) as pool:
            list(pool.map(work, items))


def sent() -> int:
    """Bytes that have crossed the loopback interface since the machine started, in both directions and with all that carries them."""
    return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())


def open_field(count: int) -> Field:
    """A field of hosts that are up."""
    path = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    path.chmod(0o755)
    field = Field(path, count)
    try:
        field.up()
    except BaseException:
        close_field(field)
        raise
    return field


def close_field(field: Field) -> None:
    """Take the hosts down and everything with them."""
    field.down()
    shutil.rmtree(field.path)


def inventory_file(field: Field) -> Path:
    """The hosts as a plain inventory, for what does not know the CMDB."""
    path = field.path / "plain.json"
    path.write_text(json.dumps({"all": {"hosts": field.hostvars()}}))
    return path.rename(path.with_suffix(".yml"))
