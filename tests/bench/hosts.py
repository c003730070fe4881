# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many lab hosts, ways to reach all of them at once, and real software to bring there."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.tidegate.release.plugins.module_utils.lab import processes
from measure import Meters

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
    """A fleet for measuring: addresses of its own, releases of Django, nothing to start or stop, nobody who looks on."""

    first: int = 1
    network: str = "127.0.2"
    patience: int = 3600
    settings: dict[str, str] = field(default_factory=dict)
    """Variables of the environment that Ansible gets."""
    _digests: dict[str, str] = field(default_factory=dict)

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
            **self.settings,
        }

    def up(self) -> None:
        """Bring the hosts up, each with an sshd that says what it is asked for."""
        self.lab("present")
        self.write_inventory()
        # Its first process starts another one, which reads what is written here.
        self.everywhere("echo LogLevel VERBOSE >>/etc/ssh/lab_config && pkill -o -x sshd")
        while not all(log.read_text(errors="replace").count("Server listening") == 2 for log in self._logs()):
            time.sleep(0.1)

    def down(self) -> None:
        """Take the hosts down."""
        self.lab("absent")

    def fresh(self) -> None:
        """Hosts that nothing was ever deployed to, and a CMDB that knows of no deployment."""
        self.everywhere("rm -rf /opt/tidegate")
        for path in self.path.glob("cmdb.sqlite*"):
            path.unlink()
        self.lab("present")

    def meters(self) -> Meters:
        """CPU seconds of all the hosts' processes and of those that ended, bytes on loopback, sessions of a host's sshd."""
        ticks = 0
        for process in processes.find(self.path / "lab"):
            with contextlib.suppress(OSError):  # it may have ended meanwhile, and counts with the one that started it
                ticks += sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        sessions = tuple(log.read_text(errors="replace").count("Starting session: ") for log in self._logs())
        (loopback,) = (line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
        wire_bytes = int(loopback.split()[9])
        return Meters(ticks / os.sysconf("SC_CLK_TCK"), wire_bytes, sessions)

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run it as a user does, who pays for loading Ansible too."""
        return subprocess.run(
            command,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.patience,
        )

    def _logs(self) -> list[Path]:
        return [self.path / "lab" / "hosts" / name / "log" for name in self.hosts]

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

    def archive(self, version: str, **changes: Any) -> str:
        if version not in self._digests:
            self._digests[version] = super().archive(version, **changes)
        return self._digests[version]

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

    def everywhere_says(self, command: str) -> list[str]:
        """What a shell command as root prints on each of the hosts."""

        def one(ssh: list[str]) -> str:
            return subprocess.run([*ssh, f"sudo sh -c {shlex.quote(command)}"], check=True, capture_output=True, text=True).stdout.strip()

        with ThreadPoolExecutor(FORKS) as pool:
            return list(pool.map(one, [self.ssh(host) for host in self.hosts]))

    @staticmethod
    def parallel(work: Any, items: Iterable[Any]) -> None:
        """Do work for each item, as many at a time as the others do."""
        with ThreadPoolExecutor(FORKS) as pool:
            list(pool.map(work, items))


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
