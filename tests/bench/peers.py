# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How others bring Django to the hosts: plain ssh, pyinfra, Ansible's builtin modules, ansistrano; all of it below one directory."""

from __future__ import annotations

import filecmp
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml
from hosts import FORKS, SOFTWARE, VERSIONS, Field, django, inventory_file

PLACE = "/opt/peer"
_PYINFRA = "pyinfra==3.10.0"
_PROGRAMS = SOFTWARE.with_name("pyinfra").resolve()
_OLD, _NEW = VERSIONS


def clear(field: Field) -> None:
    """Take everything away that they brought: hosts live in memory."""
    field.everywhere(f"rm -rf {PLACE}")


def without_upgrade(field: Field) -> None:
    """As it was before an upgrade."""
    field.everywhere(f"rm -rf {PLACE}/{_NEW} && ln -sfn {_OLD} {PLACE}/current")


def unpack(field: Field, version: str) -> None:
    """Plain ssh: the archive through tar, then the link."""
    command = f"mkdir -p {PLACE}/{version} && tar -xzf - -C {PLACE}/{version} --strip-components 1 && ln -sfn {version} {PLACE}/current"
    field.everywhere(command, django(version))


def copy_and_patch(field: Field, copy: str) -> None:
    """Plain ssh: the old tree by ``copy``, what changed through tar, then the link."""
    delta, gone = _delta(field)
    field.everywhere(
        f"{copy} {PLACE}/{_OLD} {PLACE}/{_NEW} && tar -xzf - -C {PLACE}/{_NEW} && {gone} && ln -sfn {_NEW} {PLACE}/current", delta
    )


def link(field: Field) -> None:
    """Plain ssh: nothing but a link."""
    field.everywhere(f"mkdir -p {PLACE} && ln -sfn {_NEW} {PLACE}/current")


def playbook(field: Field, version: str) -> None:
    """What somebody writes who has Ansible and no more."""
    place = f"{PLACE}/{version}"
    play(
        field,
        {"ansible.builtin.file": {"path": place, "state": "directory"}},
        {"ansible.builtin.unarchive": {"src": str(django(version).resolve()), "dest": place, "extra_opts": ["--strip-components", "1"]}},
        {"ansible.builtin.file": {"path": f"{PLACE}/current", "src": version, "state": "link"}},
    )


def playbook_of_copies(field: Field) -> None:
    """The same for an upgrade, sparing the network what is there already."""
    delta, gone = _delta(field)
    play(
        field,
        {"ansible.builtin.command": f"cp -a {PLACE}/{_OLD} {PLACE}/{_NEW}"},
        {"ansible.builtin.unarchive": {"src": str(delta), "dest": f"{PLACE}/{_NEW}"}},
        {"ansible.builtin.shell": gone},
        {"ansible.builtin.file": {"path": f"{PLACE}/current", "src": _NEW, "state": "link"}},
    )


def play(field: Field, *tasks: dict[str, Any], **keywords: Any) -> None:
    """Run tasks as root on all hosts with Ansible alone."""
    path = field.path / "peer.yml"
    path.write_text(yaml.safe_dump([{"hosts": "all", "become": True, "gather_facts": False, "tasks": list(tasks), **keywords}]))
    _run(["ansible-playbook", "-i", str(inventory_file(field)), str(path)], env=field.environment)


def ansistrano(field: Field, version: str) -> None:
    """The role ansistrano.deploy, if Ansible finds it among its roles."""
    variables = {
        "ansistrano_deploy_from": str(django(version).resolve()),
        "ansistrano_deploy_to": f"{PLACE}/ansistrano",
        "ansistrano_deploy_via": "copy_unarchive",
        "ansistrano_keep_releases": 3,
        "ansistrano_allow_anonymous_stats": False,
    }
    play(field, vars=variables, roles=["ansistrano.deploy"])


def install_pyinfra() -> None:
    """Have a pyinfra in an environment of its own, from the package index unless it is here already."""
    if not (_PROGRAMS / "bin" / "pyinfra").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(_PROGRAMS)])
        _run([str(_PROGRAMS / "bin" / "pip"), "install", "-q", _PYINFRA])


def pyinfra(field: Field, version: str) -> None:
    """What somebody writes who has pyinfra."""
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
    archive, place = f"{PLACE}/{version}.tar.gz", f"{PLACE}/{version}"
    command = f"mkdir -p {place} && tar -xzf {archive} -C {place} --strip-components 1 && ln -sfn {version} {PLACE}/current"
    (folder / "inventory.py").write_text(f"hosts = {hosts!r}\n")
    (folder / "deploy.py").write_text(
        "from pyinfra.operations import files, server\n"
        f"files.put(src={str(django(version).resolve())!r}, dest={archive!r})\n"
        f"server.shell(commands=[{command!r}])\n"
    )
    _run([str(_PROGRAMS / "bin" / "pyinfra"), "-y", "--parallel", str(FORKS), "inventory.py", "deploy.py"], cwd=folder)


def _run(command: list[str], **keywords: Any) -> None:
    """Run a program; RuntimeError with its last words when it fails."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {' '.join(done.stdout.split())[-500:]}")


def _delta(field: Field) -> tuple[Path, str]:
    """A packed tar of the files that the new version changes or adds, and a command that removes those that it has no more."""
    old, new = (field.release(version) / "payload" for version in VERSIONS)
    path = field.path / "delta.tar.gz"
    if not path.exists():
        with tarfile.open(path, "w:gz") as tar:
            for name in _files(new):
                if not (old / name).is_file() or not filecmp.cmp(old / name, new / name, shallow=False):
                    tar.add(new / name, str(name))
    gone = [f"{PLACE}/{_NEW}/{name}" for name in _files(old) if not (new / name).exists()]
    return path, shlex.join(["rm", "-f", *gone])


def _files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
