# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging on many hosts: Django as a first install, then the upgrade from 5.1.1 to 5.1.2; and the same by other means."""

from __future__ import annotations

import filecmp
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hosts import FORKS, VERSIONS, Field, django, inventory_file, sent
from measure import Finding, busy, timed

OLD, NEW = VERSIONS


_INSTALL = "plain ssh + tar"
_UPGRADE = "plain ssh + copies"


@dataclass
class _Found:
    """What was measured, by who did it: seconds, bytes on the wire to all hosts, and CPU seconds of the machine that all of them share."""

    seconds: dict[str, float] = field(default_factory=dict)
    wire_bytes: dict[str, int] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def by(self, name: str) -> Iterator[None]:
        """Measure what ``name`` does; when that fails it says so and is left out."""
        bytes_, cpu = sent(), busy()
        with timed(self.seconds, name):
            yield
        if name in self.seconds:
            self.wire_bytes[name] = sent() - bytes_
            self.cpu_seconds[name] = round(busy() - cpu, 2)

    def finding(self, floor: str) -> Finding:
        """As a benchmark gives it."""
        if "ours" not in self.seconds or floor not in self.seconds:
            raise RuntimeError("could not be measured")
        peers = {name: seconds for name, seconds in self.seconds.items() if name not in ("ours", floor)}
        details = {"wire_bytes": self.wire_bytes, "cpu_seconds": self.cpu_seconds}
        return Finding(self.seconds["ours"], (floor, self.seconds[floor]), peers, details)


def stage_install(field: Field) -> Finding:
    """A first install of the old version, complete beside whatever runs."""
    found = _Found()
    archive = django(OLD)
    with found.by(_INSTALL):
        field.everywhere("mkdir -p /opt/floor/new && tar -xzf - -C /opt/floor/new --strip-components 1", archive)
    field.everywhere("rm -rf /opt/floor")
    _ours(field, OLD, found)
    _peers(field, OLD, archive, found)
    return found.finding(_INSTALL)


def stage_upgrade(field: Field) -> Finding:
    """The new version on hosts that run the old one."""
    found = _Found()
    rfc = field.rfc(_number(OLD), OLD, field.archive(OLD))
    field.run("tidegate.release.deploy", {"tidegate_rfc": str(rfc)})
    field.everywhere("mkdir -p /opt/floor && cp -a /opt/tidegate/hello/current/. /opt/floor/old && cp -a /opt/floor/old /opt/peers")
    delta, gone = _delta(field)
    removing = f"cd /opt/floor/new && rm -f {' '.join(map(shlex.quote, gone))}"
    with found.by(_UPGRADE):
        field.everywhere(f"cp -a /opt/floor/old /opt/floor/new && tar -xzf - -C /opt/floor/new && {removing}", delta)
    field.everywhere("rm -rf /opt/floor/new")
    _ours(field, NEW, found)
    with found.by("the same copies by Ansible"):
        unpack = {"src": str(delta), "dest": "/opt/floor/new"}
        _play(
            field,
            {"ansible.builtin.command": "cp -a /opt/floor/old /opt/floor/new"},
            {"ansible.builtin.unarchive": unpack},
            {"ansible.builtin.shell": removing},
        )
    field.everywhere("rm -rf /opt/floor/new")
    _peers(field, NEW, django(NEW), found, "/opt/peers")
    finding = found.finding(_UPGRADE)
    finding.details["changed_bytes"] = _changed(field)
    return finding


def _number(version: str) -> str:
    """Of the version's RFC; one that was staged is deployed under the same."""
    return f"CHG{version.replace('.', '')}"


def _ours(field: Field, version: str, found: _Found) -> None:
    rfc = field.rfc(_number(version), version, field.archive(version))
    said = ""
    with found.by("ours"):
        said = field.run("tidegate.release.stage", {"tidegate_rfc": str(rfc)}, "-v")
    found.wire_bytes["packs"] = sum(int(number) for number in re.findall(r'"bytes": (\d+)', said)) // field.count


def _peers(field: Field, version: str, archive: Path, found: _Found, before: str = "") -> None:
    """Other ways to bring the same tree there, and what Ansible takes to do nothing; those that are not installed are left out."""
    with found.by("an Ansible module that does nothing"):
        _play(field, {"ansible.builtin.ping": {}})
    unarchive = {"src": str(archive.resolve()), "dest": "/opt/peer", "extra_opts": ["--strip-components", "1"]}
    for name, task in (
        ("ansible.builtin.unarchive", {"ansible.builtin.unarchive": unarchive}),
        ("ansible.posix.synchronize", {"ansible.posix.synchronize": {"src": f"{field.release(version)}/payload/", "dest": "/opt/peer"}}),
    ):
        if not _installed(name):
            print(f"    {name}: not installed")
            continue
        field.everywhere("mkdir /opt/peer")
        with found.by(name):
            _play(field, task)
        field.everywhere("rm -rf /opt/peer")
    if shutil.which("rsync"):
        field.everywhere("mkdir /opt/peer")
        with found.by("rsync"):
            field.parallel(lambda host: _rsync(field, host, version, before), field.hosts)
        field.everywhere("rm -rf /opt/peer")
    if shutil.which("pyinfra"):
        with found.by("pyinfra"):
            _pyinfra(field, archive)
        field.everywhere("rm -rf /opt/peer /opt/peer.tar.gz")


def _play(field: Field, *tasks: dict[str, Any]) -> None:
    """Run tasks as root on all hosts with Ansible alone."""
    play = field.path / "peer.yml"
    play.write_text(yaml.safe_dump([{"hosts": "all", "become": True, "gather_facts": False, "tasks": list(tasks)}]))
    command = ["ansible-playbook", "-i", inventory_file(field), play]
    done = subprocess.run(command, env=field.environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout[-500:])


def _installed(module: str) -> bool:
    """Whether Ansible has the module."""
    documentation = ["ansible-doc", "--type", "module", "--json", module]
    return subprocess.run(documentation, check=False, capture_output=True).returncode == 0


def _rsync(field: Field, host: str, version: str, before: str) -> None:
    *ssh, target = field.ssh(host)
    base = [f"--copy-dest={before}"] if before else []
    command = ["rsync", "-az", "--delete", *base, "--rsync-path=sudo rsync", "-e", shlex.join(ssh)]
    subprocess.run([*command, f"{field.release(version)}/payload/", f"{target}:/opt/peer/"], check=True, capture_output=True)


def _pyinfra(field: Field, archive: Path) -> None:
    folder = field.path / "pyinfra"
    folder.mkdir(exist_ok=True)
    hosts = [
        (
            name,
            {
                "ssh_hostname": variables["ansible_host"],
                "ssh_port": int(variables["ansible_port"]),
                "ssh_user": variables["ansible_user"],
                "ssh_key": str(variables["ansible_ssh_private_key_file"]),
                "ssh_known_hosts_file": str(field.path / "lab" / "known_hosts"),
                "ssh_strict_host_key_checking": "yes",
                "_sudo": True,
            },
        )
        for name, variables in field.hostvars().items()
    ]
    (folder / "inventory.py").write_text(f"hosts = {hosts!r}\n")
    (folder / "deploy.py").write_text(
        "from pyinfra.operations import files, server\n"
        f"files.put(src={str(archive.resolve())!r}, dest='/opt/peer.tar.gz')\n"
        "server.shell(commands=['mkdir -p /opt/peer && tar -xzf /opt/peer.tar.gz -C /opt/peer --strip-components 1'])\n"
    )
    done = subprocess.run(
        ["pyinfra", "-y", "--parallel", str(FORKS), "inventory.py", "deploy.py"], cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-800:])


def _delta(field: Field) -> tuple[Path, list[str]]:
    """A packed tar of the files that the new version changes or adds, and the paths that it has no more."""
    old, new = (field.release(version) / "payload" for version in VERSIONS)
    path = field.path / "delta.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in _files(new):
            if not (old / name).is_file() or not filecmp.cmp(old / name, new / name, shallow=False):
                tar.add(new / name, str(name))
    return path, [str(name) for name in _files(old) if not (new / name).exists()]


def _files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def _changed(field: Field) -> dict[str, int]:
    """Bytes of the upgrade's new contents and chunks, as they are and packed: what has to be sent, whoever sends it."""
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.layout import OciLayout
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import load_package
    from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.shipment import build_pack, lacking, pieces

    home = OciLayout.open(field.path / "dsl")
    old, new = (load_package(home, field.archive(version)) for version in VERSIONS)
    missing = lacking(new, old)
    packed = build_pack(home, new, missing, field.path / "packs").stat().st_size
    return {"plain": sum(pieces(new)[sha256][1] for sha256 in missing), "packed": packed}
