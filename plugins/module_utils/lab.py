# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts on this machine, on loopback, over real ssh.

An isolated host is a process tree in name spaces of its own (mounts, host name, processes) on an overlay of this machine's root file
system. Nothing of it is visible outside and all of it goes when its first process is killed, so there is no mount to undo.

A lab is its directory. Every process of a host carries ``TIDEGATE_LAB=<directory>:<host>`` in its environment; that alone decides
what belongs to the lab, so a lab is found and ended even when whoever made it was killed half-way, and nothing else ever is.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SSHD = "/usr/sbin/sshd"
_PATIENCE = 15  # seconds until a host has to answer, or to be gone

_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
AllowUsers {user}
SetEnv TIDEGATE_LAB={marker}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 500
MaxSessions 100
PidFile none
Subsystem sftp internal-sftp
"""

# Runs as the first process of the host's name spaces: lab directory, name, address, disk, user, python prefix.
_INIT = r"""
set -eu
lab=$1 name=$2 address=$3 disk=$4 user=$5 python=$6
host=$lab/hosts/$name
mount --make-rprivate /
mount -t tmpfs -o "size=$disk,mode=755" tmpfs "$host/fs"
mkdir "$host/fs/upper" "$host/fs/work" "$host/fs/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$host/fs/upper,workdir=$host/fs/work" "$host/fs/root"
root=$host/fs/root
hostname "$name"
cp "$host/sshd_config" "$root/etc/ssh/lab_config"
cp "$host/host_key" "$root/etc/ssh/lab_host_key"
cp "$lab/key.pub" "$root/etc/ssh/lab_authorized_keys"
chmod 600 "$root/etc/ssh/lab_host_key"
echo "$address $name" >>"$root/etc/hosts"
echo "$user:x:61000:61000::/home/$user:/bin/sh" >>"$root/etc/passwd"
echo "$user:x:61000:" >>"$root/etc/group"
echo "$user:*:19000:0:99999:7:::" >>"$root/etc/shadow"
mkdir -p "$root/home/$user" "$root/etc/sudoers.d" "$root/opt"
chown 61000:61000 "$root/home/$user"
echo "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/lab"
chmod 440 "$root/etc/sudoers.d/lab"
if [ -n "$python" ]; then
  mkdir -p "$root/opt/python"
  mount --bind "$python" "$root/opt/python"
fi
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o "mode=1777,size=$disk" tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/sshd"
mount -t tmpfs -o mode=700 tmpfs "$root/root"
# The lab's keys are not for its hosts.
[ ! -d "$root$lab" ] || mount -t tmpfs -o mode=700 tmpfs "$root$lab"
cd "$root"
exec chroot . /bin/sh -c '
  while :; do
    /usr/sbin/sshd -D -e -f /etc/ssh/lab_config
    sleep 0.1
    while [ -e /run/cut ]; do sleep 0.1; done
  done'
"""


class LabError(Exception):
    """Something that keeps the lab from coming up or down; the message is for a person."""


@dataclass(frozen=True)
class Settings:
    """How the hosts of a lab are made; the n-th host has the address ``<network>.<first + n>``, counted from 0."""

    mode: str
    user: str
    network: str
    first: int
    port: int
    disk: str


class Lab:
    """The lab in a directory."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.realpath(path))
        if re.search(r"[\s,:'\"\\]", str(self.path)):
            raise LabError(f"the lab directory {self.path} has a character in its path that mount or sshd can't take; choose another")

    # -- processes ---------------------------------------------------------

    def processes(self, name: Optional[str] = None) -> list[int]:
        """The processes of a host, or of every host of this lab."""
        wanted = f"TIDEGATE_LAB={self.path}:{name or ''}".encode()
        state = f"TIDEGATE_STATE={self.path}/hosts/{name + '/' if name else ''}".encode()
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and int(entry) != os.getpid():
                    variables = Path("/proc", entry, "environ").read_bytes().split(b"\0")
                    # A service that was started without sshd between, in a lab of mode local, is known by its state directory.
                    if any((v == wanted if name else v.startswith(wanted)) or v.startswith(state) for v in variables):
                        found.append(int(entry))
        return found

    def kill(self, name: Optional[str] = None) -> bool:
        """End the processes of a host, or of all; return whether there were any."""
        deadline = time.monotonic() + _PATIENCE
        found = pids = self.processes(name)
        while pids:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"processes {pids} of the lab {self.path} do not end; look at them with ps")
            time.sleep(0.02)
            pids = self.processes(name)
        return bool(found)

    def cut(self, name: str) -> None:
        """Make an isolated host refuse connections, while what runs on it goes on; :meth:`mend` ends that."""
        init = self._init(name)
        Path("/proc", str(init), "root", "run", "cut").touch()
        for pid in self.processes(name):
            with contextlib.suppress(OSError):
                if Path("/proc", str(pid), "comm").read_text().strip() == "sshd":
                    os.kill(pid, signal.SIGKILL)

    def mend(self, name: str) -> None:
        """Let a host that was cut answer again."""
        Path("/proc", str(self._init(name)), "root", "run", "cut").unlink()

    def _init(self, name: str) -> int:
        for pid in self.processes(name):
            with contextlib.suppress(OSError):
                status = Path("/proc", str(pid), "status").read_text()
                if re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE):
                    return pid
        raise LabError(f"{name} is no isolated host of the lab {self.path} that is up")

    # -- up and down -------------------------------------------------------

    def up(self, hosts: list[dict[str, Any]], settings: Settings) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Bring up the hosts that are not; return the names of those and every host's connection variables."""
        names = [str(host.get("name", "")) for host in hosts]
        wrong = [name for name in names if not _NAME.fullmatch(name)] + sorted({name for name in names if names.count(name) > 1})
        if wrong:
            raise LabError(f"{', '.join(map(repr, wrong))} can't name a host; use distinct names of lower case letters, digits and -")
        if settings.first < 1 or settings.first + len(names) > 255:
            raise LabError(f"{len(names)} hosts from {settings.network}.{settings.first} on do not fit into {settings.network}.1 to .254")
        addresses = {name: f"{settings.network}.{settings.first + position}" for position, name in enumerate(names)}
        missing = [name for name in names if settings.mode != "local" and not self._answers(name, addresses[name], settings.port)]
        if missing:
            self._make_keys(missing)
            for name in missing:
                self.kill(name)
            self._await({name: self._start(name, addresses[name], settings) for name in missing}, addresses, settings)
            known = [self._known_host(name, addresses[name], settings.port) for name in names]
            (self.path / "known_hosts").write_text("".join(known), encoding="utf-8")
        if settings.mode == "local":
            missing = [name for name in names if not self._root(name).is_dir()]
            for name in missing:
                self._root(name).mkdir(parents=True)
        return missing, {name: self._variables(name, addresses[name], settings) for name in names}

    def down(self) -> bool:
        """End every process of the lab and remove its directory's contents; return whether there was anything."""
        killed = self.kill()
        there = [entry for entry in ("hosts", "key", "key.pub", "known_hosts", "inventory.yml") if (self.path / entry).exists()]
        for entry in there:
            if (self.path / entry).is_dir():
                shutil.rmtree(self.path / entry)
            else:
                (self.path / entry).unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return killed or bool(there)

    def _root(self, name: str) -> Path:
        """Where releases go on a host that shares this machine's file system."""
        return self.path / "hosts" / name / "root"

    def _make_keys(self, names: Iterable[str]) -> None:
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for key in [self.path / "key", *(self.path / "hosts" / name / "host_key" for name in names)]:
            if not key.exists():
                key.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)

    def _known_host(self, name: str, address: str, port: int) -> str:
        kind, key = (self.path / "hosts" / name / "host_key.pub").read_text(encoding="utf-8").split()[:2]
        return f"[{address}]:{port} {kind} {key}\n"

    def _start(self, name: str, address: str, settings: Settings) -> subprocess.Popen[bytes]:
        folder = self.path / "hosts" / name
        isolated = settings.mode == "isolated"
        config = _CONFIG.format(
            address=address,
            port=settings.port,
            host_key="/etc/ssh/lab_host_key" if isolated else folder / "host_key",
            authorized_keys="/etc/ssh/lab_authorized_keys" if isolated else self.path / "key.pub",
            user=settings.user if isolated else getpass.getuser(),
            marker=f"{self.path}:{name}",
        )
        (folder / "sshd_config").write_text(config, encoding="utf-8")
        if isolated:
            (folder / "fs").mkdir(exist_ok=True)
            command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", _INIT, "lab-host"]
            command += [str(self.path), name, address, settings.disk, settings.user, _python_prefix()]
        else:
            self._root(name).mkdir(exist_ok=True)
            command = [_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TIDEGATE_LAB": f"{self.path}:{name}"}
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    def _answers(self, name: str, address: str, port: int) -> bool:
        """Whether this lab's own host answers there, not something else."""
        if not self.processes(name):
            return False
        try:
            with socket.create_connection((address, port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _await(self, started: dict[str, subprocess.Popen[bytes]], addresses: dict[str, str], settings: Settings) -> None:
        deadline = time.monotonic() + _PATIENCE
        for name, first in started.items():
            while not self._answers(name, addresses[name], settings.port):
                if time.monotonic() > deadline or first.poll() is not None:
                    log = (self.path / "hosts" / name / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                    self.kill()
                    raise LabError(
                        f"{name} at {addresses[name]} port {settings.port} does not come up: {log[-1] if log else 'it said nothing'}"
                    )
                time.sleep(0.02)

    def _variables(self, name: str, address: str, settings: Settings) -> dict[str, Any]:
        if settings.mode == "local":
            return {
                "ansible_connection": "local",
                "ansible_host": address,
                "ansible_python_interpreter": sys.executable,
                "tidegate_root": str(self._root(name)),
                "tidegate_become": False,
            }
        isolated = settings.mode == "isolated"
        strict = f"-o UserKnownHostsFile={self.path}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        variables: dict[str, Any] = {
            "ansible_host": address,
            "ansible_port": settings.port,
            "ansible_user": settings.user if isolated else getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.path / "key"),
            "ansible_ssh_common_args": strict,
            "ansible_ssh_pipelining": True,
            "ansible_python_interpreter": sys.executable
            if not isolated
            else "/opt/python/bin/python3"
            if _python_prefix()
            else "/usr/bin/python3",
        }
        if not isolated:
            variables.update(tidegate_root=str(self._root(name)), tidegate_become=False)
        return variables


def choose_mode(wanted: str) -> tuple[str, str]:
    """The strongest mode that this machine can do, or ``wanted`` if it can; and why not a stronger one, in words."""
    obstacles = {"isolated": _why_not_isolated(), "user": "" if Path(_SSHD).exists() else f"there is no {_SSHD}", "local": ""}
    if wanted != "auto":
        if obstacles[wanted]:
            raise LabError(f"lab hosts of mode {wanted} can't be made: {obstacles[wanted]}")
        return wanted, ""
    mode = next(mode for mode in obstacles if not obstacles[mode])
    reasons = [f"not {stronger}, because {obstacles[stronger]}" for stronger in obstacles if obstacles[stronger]]
    return mode, f"lab hosts are of mode {mode}: {'; '.join(reasons)}" if reasons else ""


def _why_not_isolated() -> str:
    if os.geteuid() != 0:
        return "that needs root"
    lacking = [tool for tool in (_SSHD, "unshare", "mount", "chroot", "sudo", "ssh-keygen") if shutil.which(tool) is None]
    if lacking:
        return f"{', '.join(lacking)} is not installed"
    tried = subprocess.run(["unshare", "--mount", "--uts", "--pid", "--fork", "true"], check=False, capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else ""


def _python_prefix() -> str:
    """What has to be mounted into an isolated host so that it has a Python; empty when the system has one."""
    return "" if Path("/usr/bin/python3").exists() else sys.base_prefix
