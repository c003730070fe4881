# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts on this machine, on loopback, over real ssh.

An isolated host is a process tree in name spaces of its own (mounts, host name, processes) on an overlay of this machine's root file
system. Nothing of it is visible outside and all of it goes when its first process is killed, so there is no mount to undo. It keeps
accidents in, not attackers: its root is this machine's root.

A lab is its directory, which says so (``lab.json``) before anything is started from it. What belongs to a host is told by its
processes alone (see :mod:`processes`), so a lab is found and ended even when whoever made it was killed half-way, and nothing else ever is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine, processes
from .processes import PATIENCE, LabError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_STATE = "lab.json"
_OURS = ("hosts", "key", "key.pub", "known_hosts", "inventory.yml")

CONNECTING = tuple(
    f"ansible_{name}" for name in ("connection", "python_interpreter", "ssh_common_args", "ssh_pipelining", "ssh_private_key_file")
)
"""What a host has to be reached by besides address, port and user, and so what an inventory file lists as ``connection_variables``."""


@dataclass(frozen=True)
class Settings:
    """How the hosts of a lab are made; the n-th host has the address ``<network>.<first + n>``, counted from 0.

    Raises :class:`LabError` for what can't be.
    """

    mode: str
    user: str
    network: str
    first: int
    port: int
    disk: str

    def __post_init__(self) -> None:
        try:
            loopback = ipaddress.IPv4Address(f"{self.network}.1").is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise LabError(f"{self.network!r} can't be the network; say three parts of a loopback address, such as 127.0.1")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.user):
            raise LabError(f"{self.user!r} can't be the login user; choose a plain lower case name")
        if not re.fullmatch(r"[1-9]\d{0,8}[kmg]", self.disk):
            raise LabError(f"{self.disk!r} can't be the size of a disk; it has to be a size such as 512m or 1g")
        if not 1 <= self.port <= 65535:
            raise LabError(f"{self.port} can't be a port; it has to be between 1 and 65535")
        machine.check_user(self.user)

    def addresses(self, names: list[str]) -> dict[str, str]:
        """The address of each host; raises :class:`LabError` for names and numbers that can't be."""
        wrong = [name for name in names if not _NAME.fullmatch(name)] + sorted({name for name in names if names.count(name) > 1})
        if wrong:
            raise LabError(f"{', '.join(map(repr, wrong))} can't name a host; use distinct names of lower case letters, digits and -")
        if self.first < 1 or self.first + len(names) > 255:
            raise LabError(f"{len(names)} hosts from {self.network}.{self.first} on do not fit into {self.network}.1 to .254")
        return {name: f"{self.network}.{self.first + position}" for position, name in enumerate(names)}

    def recipe(self, address: str) -> dict[str, Any]:
        """What a host is made by; one that was made by another has to be made anew."""
        keys = {"isolated": ("mode", "port", "user", "disk"), "user": ("mode", "port"), "local": ("mode",)}[self.mode]
        return {"address": address, **{key: getattr(self, key) for key in keys}}


class Lab:
    """The lab in a directory."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.realpath(path))
        if not re.fullmatch(r"[\w/.+@=~-]+", str(self.path)):
            raise LabError(f"the lab directory {self.path} has a character in its path that mount or sshd can't take; choose another")

    # -- breaking hosts on purpose -----------------------------------------

    def cut(self, name: str) -> None:
        """Make an isolated host refuse connections and drop those it has, while what runs on it goes on; :meth:`mend` ends that."""
        Path("/proc", str(self._init(name)), "root", "run", "cut").touch()
        processes.terminate([process for process in processes.find(self.path, name) if _comm(process.pid) == "sshd"])

    def mend(self, name: str) -> None:
        """Let a host that was cut answer again."""
        Path("/proc", str(self._init(name)), "root", "run", "cut").unlink()

    def pause(self, name: str) -> None:
        """Freeze a host: connections to it hang; :meth:`resume` ends that."""
        processes.stop(self.path, name)

    def resume(self, name: str) -> None:
        """Let a host that was paused go on."""
        processes.cont(self.path, name)

    def _init(self, name: str) -> int:
        for process in processes.find(self.path, name):
            with contextlib.suppress(OSError):
                status = Path("/proc", str(process.pid), "status").read_text(errors="replace")
                if re.search(r"^NSpid:\s.*\s1$", status, re.MULTILINE):
                    return process.pid
        raise LabError(f"{name} is no isolated host of the lab {self.path} that is up")

    # -- up and down -------------------------------------------------------

    def missing(self, names: list[str], settings: Settings) -> list[str]:
        """The hosts that are not up, or not as the settings say."""
        running = {process.host for process in processes.find(self.path)}
        addresses = settings.addresses(names)

        def is_up(name: str) -> bool:
            if self._recipe(name) != settings.recipe(addresses[name]):
                return False
            if settings.mode == "local":
                return self._root(name).is_dir()
            # Only if this lab's own host is there: anything may answer at the address.
            return name in running and _answers(addresses[name], settings.port)

        return [name for name in names if not is_up(name)]

    def up(self, names: list[str], settings: Settings) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Bring up the hosts that are not; return the names of those and every host's connection variables.

        Hosts of the lab that are not named stay as they are, unless one of these needs their address.
        Raises :class:`LabError` when one does not come up.
        """
        addresses = settings.addresses(names)
        with self._claimed():
            missing = self.missing(names, settings)
            for name in missing:
                processes.end(self.path, name)
            for name in self._in_the_way(names, addresses):
                processes.end(self.path, name)
                (self.path / "hosts" / name / "host.json").unlink()
            if settings.mode == "local":
                for name in missing:
                    self._root(name).mkdir(parents=True, exist_ok=True)
                    self._write(f"hosts/{name}/host.json", json.dumps(settings.recipe(addresses[name])))
            else:
                for name in missing:
                    _check_free(addresses[name], settings.port)
                self._make_keys(missing)
                for name in missing:
                    self._write(f"hosts/{name}/host.json", json.dumps(settings.recipe(addresses[name])))
                self._write("known_hosts", "".join(sorted(self._known_hosts())))
                started: dict[str, subprocess.Popen[bytes]] = {}
                try:
                    for name in missing:
                        started[name] = self._start(name, addresses[name], settings)
                    self._await(started, addresses, settings.port)
                except BaseException:
                    for name in started:
                        processes.end(self.path, name)
                    raise
        return missing, {name: self._variables(name, addresses[name], settings) for name in names}

    def _in_the_way(self, names: list[str], addresses: dict[str, str]) -> list[str]:
        """Hosts that this lab made at addresses which the named ones are to have."""
        hosts = self.path / "hosts"
        others = [folder.name for folder in hosts.iterdir() if folder.name not in names] if hosts.exists() else []
        return [name for name in others if (self._recipe(name) or {}).get("address") in addresses.values()]

    def is_there(self) -> bool:
        """Whether there is anything for :meth:`down` to do."""
        return bool(processes.find(self.path)) or (self.path / _STATE).exists()

    def down(self) -> bool:
        """End every process of the lab and remove what it made of its directory; return whether there was anything.

        A directory that no lab was made in keeps all its files, whatever their names.
        """
        if not (self.path / _STATE).exists():
            ended = processes.end(self.path)
            with contextlib.suppress(OSError):  # whoever was killed before writing anything into it left it empty
                self.path.rmdir()
            return ended
        with self._alone():
            processes.end(self.path)
            for entry in _OURS:
                _remove(self.path / entry)
            (self.path / _STATE).unlink()  # last: whoever is killed before can begin again
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return True

    def write_inventory(self, inventory: dict[str, Any]) -> str:
        """Write the lab's inventory; return its path. JSON is YAML: what only a program writes needs nothing prettier."""
        self._write("inventory.yml", json.dumps(inventory, indent=2, sort_keys=True) + "\n")
        return str(self.path / "inventory.yml")

    # -- the directory -----------------------------------------------------

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """The directory is a lab's before anything else is done in it, and nobody else's."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._alone():
            if not (self.path / _STATE).exists():
                taken = [entry for entry in _OURS if os.path.lexists(self.path / entry)]
                if taken:
                    raise LabError(f"{self.path} has {', '.join(taken)} but is no lab; choose another directory, or remove what a lab left")
                self._write(_STATE, json.dumps({"tidegate_lab": str(self.path)}))
            yield

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # A child of a killed controller holds the lock until it has become what it was forked for, and only then carries its mark:
            # whoever has the lock finds them all.
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LabError(f"somebody is bringing the lab {self.path} up or down; try again when that is done") from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(handle)

    def _write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)

    def _root(self, name: str) -> Path:
        """Where releases go on a host that shares this machine's file system."""
        return self.path / "hosts" / name / "root"

    def _recipe(self, name: str) -> Any:
        try:
            return json.loads((self.path / "hosts" / name / "host.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _make_keys(self, names: list[str]) -> None:
        for key in [self.path / "key", *(self.path / "hosts" / name / "host_key" for name in names)]:
            public = key.with_name(key.name + ".pub")
            if key.exists() and public.exists():
                continue
            key.parent.mkdir(parents=True, exist_ok=True)
            # Under the lab's own directory, so that what a killed run leaves goes with it.
            (self.path / "hosts").mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.path / "hosts") as folder:
                made = os.path.join(folder, "key")
                command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", made]
                subprocess.run(command, check=True, env=self._environment("keys"))
                os.replace(made, key)
                os.replace(made + ".pub", public)

    def _known_hosts(self) -> Iterator[str]:
        for folder in (self.path / "hosts").iterdir():
            recipe = self._recipe(folder.name)
            if recipe and recipe["mode"] != "local":
                kind, key = (folder / "host_key.pub").read_text(encoding="utf-8").split()[:2]
                yield f"[{recipe['address']}]:{recipe['port']} {kind} {key}\n"

    # -- one host ----------------------------------------------------------

    def _start(self, name: str, address: str, settings: Settings) -> subprocess.Popen[bytes]:
        folder = self.path / "hosts" / name
        isolated = settings.mode == "isolated"
        config = machine.SSHD_CONFIG.format(
            address=address,
            port=settings.port,
            host_key="/etc/ssh/lab_host_key" if isolated else folder / "host_key",
            authorized_keys="/etc/ssh/lab_authorized_keys" if isolated else self.path / "key.pub",
            # It would not read keys anywhere below /tmp, which others may write to.
            strict_modes="yes" if isolated else "no",
            user=settings.user if isolated else getpass.getuser(),
            mark=f"{self.path}:{name}",
        )
        (folder / "sshd_config").write_text(config, encoding="utf-8")
        if isolated:
            (folder / "fs").mkdir(exist_ok=True)
            command = [*machine.UNSHARE, machine.INIT, "lab-host"]
            command += [str(self.path), name, address, settings.disk, settings.user, machine.python_mount()]
        else:
            self._root(name).mkdir(exist_ok=True)
            if os.geteuid() == 0:
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of root does not start without; else the system makes it at boot
            command = [machine.SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                command, env=self._environment(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    def _environment(self, name: str) -> dict[str, str]:
        """What everything that is started for a host has around it: nothing of whoever brings it up, and the mark."""
        return {"PATH": machine.PATH, "TIDEGATE_LAB": f"{self.path}:{name}"}

    def _await(self, started: dict[str, subprocess.Popen[bytes]], addresses: dict[str, str], port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        for name, first in started.items():
            while True:
                log = (self.path / "hosts" / name / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                # Its own sshd has to say so: something else may answer there.
                if f"Server listening on {addresses[name]} port {port}." in log and _answers(addresses[name], port):
                    break
                if time.monotonic() > deadline or first.poll() is not None:
                    raise LabError(f"{name} at {addresses[name]} port {port} does not come up: {log[-1] if log else 'it said nothing'}")
                time.sleep(0.02)

    def _variables(self, name: str, address: str, settings: Settings) -> dict[str, Any]:
        variables: dict[str, Any] = {"ansible_host": address, "ansible_python_interpreter": machine.python_of(settings.mode)}
        if settings.mode == "local":
            variables["ansible_connection"] = "local"
        else:
            strict = f"-o UserKnownHostsFile={self.path}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
            variables.update(
                ansible_port=settings.port,
                ansible_user=settings.user if settings.mode == "isolated" else getpass.getuser(),
                ansible_ssh_private_key_file=str(self.path / "key"),
                ansible_ssh_common_args=strict,
                ansible_ssh_pipelining=True,
            )
        if settings.mode != "isolated":
            variables.update(tidegate_root=str(self._root(name)), tidegate_become=False)
        return variables


def _comm(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _check_free(address: str, port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise LabError(
                    f"port {port} of {address} is taken by something that is not of this lab; choose another first address, network or port"
                ) from None
            raise LabError(f"port {port} of {address} can't be listened on ({error.strerror}); choose another port or network") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for folder, _folders, _files in os.walk(path):
            os.chmod(folder, 0o700)  # a release may have directories that nobody may write to
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
